//! `dunlin gateway`, `dunlin scheduler` and `dunlin worker`: one role of a cluster, as its own program would run it.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use dunlin_gateway::GatewayArgs;
use dunlin_process::{shutdown::Shutdown, telemetry};
use dunlin_scheduler::{JoinTokenArgs, Scheduler, SchedulerArgs, operator_token};
use dunlin_worker::WorkerArgs;

use crate::{output::Output, units};

/// Arguments of `dunlin scheduler`.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct SchedulerCommand {
    #[command(subcommand)]
    action: Option<SchedulerAction>,
    #[command(flatten)]
    args: SchedulerArgs,
}

/// What else `dunlin scheduler` does.
#[derive(Subcommand)]
enum SchedulerAction {
    /// Print a token for everything in the cluster, from the key in the scheduler's data folder
    OperatorToken {
        /// Whom it names
        #[arg(long, default_value = "operator")]
        subject: String,
        /// How long it is valid, 24h at most
        #[arg(long, default_value = "1h", value_parser = units::parse_duration)]
        lifetime: Duration,
        /// The scheduler's data folder
        #[arg(long, value_name = "FOLDER")]
        data_dir: Option<PathBuf>,
    },
    /// Print a token with which one gateway or worker can join, from the keys in the scheduler's data folder
    JoinToken(JoinTokenArgs),
}

/// Runs a gateway.
pub(crate) async fn gateway(args: GatewayArgs, output: Output, shutdown: Shutdown) -> anyhow::Result<()> {
    let config = args.load()?;
    if args.dump_config {
        return print(output, &config.to_toml()?);
    }
    telemetry::start(config.log_format, &config.log_filter)?;
    dunlin_gateway::run(config, shutdown).await
}

/// Runs a scheduler, or prints a token.
pub(crate) async fn scheduler(command: SchedulerCommand, output: Output, shutdown: Shutdown) -> anyhow::Result<()> {
    let mut config = command.args.load()?;
    match command.action {
        Some(SchedulerAction::OperatorToken { subject, lifetime, data_dir }) => {
            config.data_dir = data_dir.unwrap_or(config.data_dir);
            let token = operator_token(&config, &subject, lifetime)?;
            return print(output, &format!("{token}\n"));
        }
        Some(SchedulerAction::JoinToken(args)) => return print(output, &format!("{}\n", args.make()?)),
        None => {}
    }
    if command.args.dump_config {
        return print(output, &toml::to_string(&config)?);
    }
    if config.compiler.is_none() {
        // This program compiles as well; there may be no other one beside it.
        config.compiler = Some(std::env::current_exe()?);
    }
    telemetry::start(config.log_format, &config.log_filter)?;
    Scheduler::bind(config).await?.serve(shutdown).await
}

/// Runs a worker.
pub(crate) async fn worker(args: WorkerArgs, output: Output, shutdown: Shutdown) -> anyhow::Result<()> {
    let config = args.load()?;
    if args.dump_config {
        return print(output, &toml::to_string(&config)?);
    }
    telemetry::start(config.log_format, &config.log_filter)?;
    dunlin_worker::command::run(config, shutdown).await
}

fn print(output: Output, text: &str) -> anyhow::Result<()> {
    output.text(text).map_err(|failure| anyhow::anyhow!(failure.parts().0))
}
