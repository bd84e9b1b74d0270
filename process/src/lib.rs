//! What it takes to be one of Dunlin's processes: configuration, telemetry, a data folder, a clean end.
//!
//! Anything about functions, tenants or sandboxes does not belong here. 400 lines at most.

pub mod config;
pub mod data;
pub mod shutdown;
pub mod telemetry;

use std::{future::Future, process::ExitCode};

use mimalloc::MiMalloc;
use shutdown::Shutdown;

/// The allocator of every process: a call makes many small allocations, and the system's allocator took a seventh of its
/// time.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// How much of the machine a process has threads for, unless `TOKIO_WORKER_THREADS` says how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// A thread for each processor: the process has the machine to itself.
    Whole,
    /// A thread for every second processor: another role is on the same machine. On two processors a gateway and a worker
    /// with two threads each spent half as much again on a call as with one each.
    Half,
}

impl Share {
    /// The threads for so many processors.
    fn threads(self, processors: usize) -> usize {
        match self {
            Self::Whole => processors.max(1),
            Self::Half => (processors / 2).max(1),
        }
    }
}

fn runtime(share: Share) -> std::io::Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if std::env::var_os("TOKIO_WORKER_THREADS").is_none() {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        builder.worker_threads(share.threads(processors));
    }
    builder.enable_all().build()
}

/// Runs a process to its end: prints the whole chain of an error on standard error, and says how it went by exit code.
///
/// `run` gets the [`Shutdown`] that SIGTERM and SIGINT begin.
pub fn run<F: Future<Output = anyhow::Result<()>>>(share: Share, run: impl FnOnce(Shutdown) -> F) -> ExitCode {
    let runtime = match runtime(share) {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.into()),
    };
    let ended = runtime.block_on(async { run(Shutdown::on_signal()?).await });
    // What still runs after its grace period is not waited for.
    runtime.shutdown_background();
    ended.map_or_else(|error| fail(&error), |()| ExitCode::SUCCESS)
}

fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {error}");
    for cause in error.chain().skip(1) {
        eprintln!("  because: {cause}");
    }
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_one_thread_at_least() {
        for (processors, whole, half) in [(1, 1, 1), (2, 2, 1), (3, 3, 1), (16, 16, 8)] {
            assert_eq!((Share::Whole.threads(processors), Share::Half.threads(processors)), (whole, half));
        }
    }
}
