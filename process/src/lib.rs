//! What it takes to be one of Dunlin's processes: configuration, telemetry, metrics, a data folder, a clean end.
//!
//! Anything about functions, tenants or sandboxes does not belong here.

pub mod addresses;
pub mod config;
pub mod cores;
pub mod data;
pub mod dns;
pub mod files;
pub mod listen;
pub mod metrics;
pub mod seldom;
pub mod shutdown;
pub mod telemetry;

use std::{future::Future, io, process::ExitCode};

use cores::Cores;
use mimalloc::MiMalloc;
use shutdown::Shutdown;
use tokio::runtime::{self, Handle, Runtime};

/// The allocator of every process: a call makes many small allocations, and the system's allocator took a seventh of its
/// time.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Threads of its own for a process, or for a part of one; they end with it, and what they run is not waited for.
#[derive(Debug)]
pub struct Threads {
    handle: Handle,
    runtime: Option<Runtime>,
}

impl Threads {
    /// A thread for every second processor, unless `TOKIO_WORKER_THREADS` says how many. Calls have threads of their own
    /// ([`cores`]).
    ///
    /// # Errors
    /// The system gives no threads or no event queue.
    pub fn start() -> io::Result<Self> {
        let mut builder = runtime::Builder::new_multi_thread();
        if std::env::var_os("TOKIO_WORKER_THREADS").is_none() {
            builder.worker_threads(Cores::half());
        }
        let runtime = builder.enable_all().build()?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }

    /// Where to spawn what shall run on them.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // A task must not wait for a runtime, and may be what drops it.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Runs a process to its end: prints the whole chain of an error on standard error, and says how it went by exit code.
///
/// `run` gets the [`Shutdown`] that SIGTERM and SIGINT begin.
pub fn run<F: Future<Output = anyhow::Result<()>>>(run: impl FnOnce(Shutdown) -> F) -> ExitCode {
    // A process that gets no more files works with those that it has.
    if let Err(error) = files::prepare() {
        eprintln!("warning: few connections can be open at a time: {error}");
    }
    let threads = match Threads::start() {
        Ok(threads) => threads,
        Err(error) => return fail(&error.into()),
    };
    let ended = threads.handle.block_on(async {
        files::outlive_size_limit()?;
        run(Shutdown::on_signal()?).await
    });
    // What still runs after its grace period is not waited for.
    drop(threads);
    ended.map_or_else(|error| fail(&error), |()| ExitCode::SUCCESS)
}

fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {error}");
    for cause in error.chain().skip(1) {
        eprintln!("  because: {cause}");
    }
    ExitCode::FAILURE
}
