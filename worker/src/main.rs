//! `dunlin-worker`: the worker as a process of its own. Everything is in the library.

use std::process::ExitCode;

use clap::Parser;

/// Runs invocations in WebAssembly sandboxes
#[derive(Debug, Parser)]
#[command(name = "dunlin-worker", version)]
struct Cli {
    #[command(flatten)]
    worker: dunlin_worker::command::WorkerCommand,
}

fn main() -> ExitCode {
    Cli::parse().worker.run()
}
