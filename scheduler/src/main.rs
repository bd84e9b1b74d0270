//! `dunlin-scheduler`: reads its configuration, binds, serves until a signal. `operator-token` prints a token instead.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand};
use dunlin_process::{run, shutdown::Shutdown, telemetry};
use dunlin_scheduler::{Scheduler, SchedulerArgs, operator_token};

/// Dunlin's scheduler: owns durable state, compiles and places versions, tells gateways and workers
#[derive(Debug, Parser)]
#[command(name = "dunlin-scheduler", version)]
struct Cli {
    #[command(flatten)]
    args: SchedulerArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print a token for everything in the cluster, from the key in the data folder
    OperatorToken {
        /// Whom it names
        #[arg(long, default_value = "operator")]
        subject: String,
        /// How long it is valid, 24h at most
        #[arg(long, default_value = "1h", value_parser = humantime::parse_duration)]
        lifetime: Duration,
        /// The scheduler's data folder
        #[arg(long, value_name = "FOLDER")]
        data_dir: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    let Cli { args, command } = Cli::parse();
    run(|shutdown| start(args, command, shutdown))
}

async fn start(args: SchedulerArgs, command: Option<Command>, shutdown: Shutdown) -> anyhow::Result<()> {
    use std::io::Write;
    let config = args.load()?;
    if args.dump_config {
        return Ok(std::io::stdout().write_all(toml::to_string(&config)?.as_bytes())?);
    }
    if let Some(Command::OperatorToken { subject, lifetime, data_dir }) = command {
        let token = operator_token(&data_dir.unwrap_or(config.data_dir), &subject, lifetime)?;
        return Ok(writeln!(std::io::stdout(), "{token}")?);
    }
    telemetry::start(config.log_format, &config.log_filter)?;
    Scheduler::bind(config).await?.serve(shutdown).await
}
