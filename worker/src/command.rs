//! The worker as a command: it serves, or compiles an artifact for the scheduler. `dunlin-worker` and `dunlin worker` share it.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use dunlin_process::telemetry;

use crate::{Config, Worker, WorkerArgs, compile};

/// Runs invocations in WebAssembly sandboxes
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct WorkerCommand {
    #[command(subcommand)]
    command: Option<Other>,
    #[command(flatten)]
    args: WorkerArgs,
}

/// What a worker's program can do besides being a worker.
#[derive(Debug, Subcommand)]
enum Other {
    /// Compile an artifact, for the scheduler
    Compile(compile::CompileArgs),
}

impl WorkerCommand {
    /// Runs to the end of the process.
    pub fn run(self) -> ExitCode {
        match self.command {
            Some(Other::Compile(args)) => args.run(),
            None if self.args.dump_config => dump(&self.args),
            None => serve(&self.args),
        }
    }
}

fn serve(args: &WorkerArgs) -> ExitCode {
    dunlin_process::run(|shutdown| async move {
        let config = args.load()?;
        telemetry::start(config.log_format, &config.log_filter)?;
        let worker = Worker::bind(config).await?;
        worker.serve(shutdown).await
    })
}

#[allow(clippy::print_stdout, reason = "the configuration is what was asked for")]
fn dump(args: &WorkerArgs) -> ExitCode {
    dunlin_process::run(|_| async move {
        let config: Config = args.load()?;
        print!("{}", toml::to_string(&config)?);
        Ok(())
    })
}
