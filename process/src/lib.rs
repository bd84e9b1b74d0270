//! What it takes to be one of Dunlin's processes: configuration, telemetry, a data folder, a clean end.
//!
//! Anything about functions, tenants or sandboxes does not belong here. 400 lines at most.

pub mod config;
pub mod data;
pub mod shutdown;
pub mod telemetry;

use std::{future::Future, process::ExitCode};

use shutdown::Shutdown;

/// Runs a process to its end: prints the whole chain of an error on standard error, and says how it went by exit code.
///
/// `run` gets the [`Shutdown`] that SIGTERM and SIGINT begin.
pub fn run<F: Future<Output = anyhow::Result<()>>>(run: impl FnOnce(Shutdown) -> F) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
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
