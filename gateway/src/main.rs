//! The gateway as a program of its own. Everything it does is in the library.

use std::process::ExitCode;

use clap::Parser;
use dunlin_gateway::GatewayArgs;
use dunlin_process::{shutdown::Shutdown, telemetry};

/// Dunlin's public edge: serves functions, and the administration API
#[derive(Debug, Parser)]
#[command(name = "dunlin-gateway", version)]
struct Cli {
    #[command(flatten)]
    args: GatewayArgs,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    dunlin_process::run(|shutdown| run(cli.args, shutdown))
}

async fn run(args: GatewayArgs, shutdown: Shutdown) -> anyhow::Result<()> {
    let config = args.load()?;
    if args.dump_config {
        use std::io::Write;
        writeln!(std::io::stdout(), "{}", config.to_toml()?)?;
        return Ok(());
    }
    telemetry::start(config.log_format, &config.log_filter)?;
    dunlin_gateway::run(config, shutdown).await
}
