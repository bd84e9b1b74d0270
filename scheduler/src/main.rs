//! The scheduler as a program of its own. Everything it does is in the library.

use std::process::ExitCode;

use clap::Parser;
use dunlin_scheduler::SchedulerCommand;

/// Dunlin's scheduler: owns durable state, compiles and places versions, tells gateways and workers
#[derive(Debug, Parser)]
#[command(name = "dunlin-scheduler", version)]
struct Cli {
    #[command(flatten)]
    command: SchedulerCommand,
}

fn main() -> ExitCode {
    Cli::parse().command.run()
}
