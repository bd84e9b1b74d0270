//! The worker as a command: it serves, joins a cluster, or compiles an artifact for the scheduler. `dunlin-worker` and `dunlin worker` share it.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use dunlin_process::{cores::Cores, shutdown::Shutdown, telemetry};

use crate::{Config, Worker, WorkerArgs, compile, join::JoinArgs};

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
    /// Become one of a cluster's workers with a join token; afterwards the worker starts without it
    Join(JoinArgs),
}

impl WorkerCommand {
    /// Runs to the end of the process.
    pub fn run(self) -> ExitCode {
        match self.command {
            Some(Other::Compile(args)) => args.run(),
            Some(Other::Join(args)) => join(args),
            None if self.args.dump_config => dump(&self.args),
            None => serve(&self.args),
        }
    }
}

fn serve(args: &WorkerArgs) -> ExitCode {
    dunlin_process::run(|shutdown| async move {
        let config = args.load()?;
        telemetry::start(config.log_format, &config.log_filter)?;
        run(config, shutdown).await
    })
}

/// Runs a worker until the shutdown, which also ends waiting for a scheduler to join.
///
/// # Errors
/// As [`Worker::bind`] and [`Worker::serve`].
pub async fn run(config: Config, shutdown: Shutdown) -> anyhow::Result<()> {
    let threads = config.threads;
    let worker = tokio::select! {
        bound = Worker::bind(config) => bound?,
        () = shutdown.begun() => return Ok(()),
    };
    worker.on(Cores::start(threads)?).serve(shutdown).await
}

#[allow(clippy::print_stdout, reason = "it says what to do next")]
fn join(args: JoinArgs) -> ExitCode {
    dunlin_process::run(|_| async move {
        let joined = args.join().await?;
        println!("{joined}");
        Ok(())
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
