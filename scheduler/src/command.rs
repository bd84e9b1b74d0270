//! The scheduler as a command: it serves, or prints a token. `dunlin-scheduler` and `dunlin scheduler` share it.

use std::{io::Write, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, Subcommand};
use dunlin_process::{shutdown::Shutdown, telemetry};
use dunlin_proto::trust::Role;

use crate::{Scheduler, SchedulerArgs, join_token, operator_token};

/// Owns durable state, compiles and places versions, tells gateways and workers
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct SchedulerCommand {
    #[command(subcommand)]
    command: Option<Other>,
    #[command(flatten)]
    args: SchedulerArgs,
}

/// What a scheduler's program can do besides being a scheduler.
#[derive(Debug, Subcommand)]
enum Other {
    /// Print a token for everything in the cluster, from the key in the data folder
    OperatorToken(OperatorTokenArgs),
    /// Print a token with which one gateway or worker can join, from the keys in the data folder
    JoinToken(JoinTokenArgs),
}

#[derive(Debug, Args)]
struct OperatorTokenArgs {
    /// Whom it names
    #[arg(long, default_value = "operator")]
    subject: String,
    /// How long it is valid, 24h at most
    #[arg(long, default_value = "1h", value_parser = humantime::parse_duration)]
    lifetime: Duration,
    /// Configuration file (TOML) of the scheduler
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The scheduler's data folder
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
}

/// What a join token is for.
#[derive(Debug, Args)]
pub struct JoinTokenArgs {
    /// What joins: gateway or worker
    #[arg(value_parser = clap::value_parser!(Role))]
    role: Role,
    /// The only name that it is good for; it then may take the place of the process that has the name
    #[arg(long)]
    name: Option<String>,
    /// How long it can be used, 24h at most
    #[arg(long, default_value = "1h", value_parser = humantime::parse_duration)]
    lifetime: Duration,
    /// Configuration file (TOML) of the scheduler
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The scheduler's data folder
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
}

impl JoinTokenArgs {
    /// Makes it.
    ///
    /// # Errors
    /// The configuration or the keys can't be read, or a value makes no sense.
    pub fn make(self) -> anyhow::Result<String> {
        let Self { role, name, lifetime, config, data_dir } = self;
        let config = SchedulerArgs { config, data_dir, ..SchedulerArgs::default() }.load()?;
        join_token(&config, role, name.as_deref(), lifetime)
    }
}

impl SchedulerCommand {
    /// Runs to the end of the process.
    pub fn run(self) -> ExitCode {
        match self.command {
            Some(Other::OperatorToken(args)) => dunlin_process::run(|_| async move { args.print() }),
            Some(Other::JoinToken(args)) => {
                dunlin_process::run(|_| async move { Ok(writeln!(std::io::stdout(), "{}", args.make()?)?) })
            }
            None => dunlin_process::run(|shutdown| serve(self.args, shutdown)),
        }
    }
}

impl OperatorTokenArgs {
    fn print(self) -> anyhow::Result<()> {
        let Self { subject, lifetime, config, data_dir } = self;
        let config = SchedulerArgs { config, data_dir, ..SchedulerArgs::default() }.load()?;
        let token = operator_token(&config, &subject, lifetime)?;
        Ok(writeln!(std::io::stdout(), "{token}")?)
    }
}

async fn serve(args: SchedulerArgs, shutdown: Shutdown) -> anyhow::Result<()> {
    let config = args.load()?;
    if args.dump_config {
        return Ok(std::io::stdout().write_all(toml::to_string(&config)?.as_bytes())?);
    }
    telemetry::start(config.log_format, &config.log_filter)?;
    Scheduler::bind(config).await?.serve(shutdown).await
}
