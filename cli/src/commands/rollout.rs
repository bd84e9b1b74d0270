//! `dunlin rollout`: moves the calls of a function step by step to another version, as long as that is no worse.

use std::time::Duration;

use clap::{Args, Subcommand};
use dunlin_proto::{ids::VersionNumber, model::to_wire_duration, v1};

use super::traffic::warn_of;
use crate::{
    client::{Client, answer},
    exit::Failure,
    output::{pairs, printable},
    session::{FunctionArg, Session},
    units,
    view::rollout::RolloutView,
};

/// What to do with rollouts.
#[derive(Subcommand)]
pub(crate) enum RolloutCommand {
    /// Begin: the new version gets a few calls, then more, then all; where it is worse, the old one has all again
    Start(StartArgs),
    /// Show how the last rollout goes, or how it ended and why
    Show {
        /// Function, as NAME or NAMESPACE/NAME
        name: FunctionArg,
    },
    /// End at once: all calls go back to the old version
    Stop {
        /// Function, as NAME or NAMESPACE/NAME
        name: FunctionArg,
        /// All calls go to the new version instead
        #[arg(long)]
        promote: bool,
    },
}

/// How calls shall move.
#[derive(Args)]
pub(crate) struct StartArgs {
    /// Function, as NAME or NAMESPACE/NAME
    name: FunctionArg,
    /// Version that is to have all calls; the newest when left out
    version: Option<VersionNumber>,
    /// Percentages that it gets, one after another; 5,25,50 when left out
    #[arg(long, value_name = "PERCENT,...", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=99))]
    steps: Vec<u32>,
    /// How long a step takes at least, such as 5m; 60s when left out
    #[arg(long, value_name = "DURATION", value_parser = units::parse_duration)]
    step_time: Option<Duration>,
    /// How many calls the version has in a step at least; 500 when left out
    #[arg(long, value_name = "CALLS")]
    step_calls: Option<u64>,
}

/// Runs it.
pub(crate) async fn run(command: RolloutCommand, session: &Session) -> Result<(), Failure> {
    let client = session.connect().await?;
    match command {
        RolloutCommand::Start(args) => start(&client, session, args).await,
        RolloutCommand::Show { name } => show(&client, session, &name).await,
        RolloutCommand::Stop { name, promote } => stop(&client, session, &name, promote).await,
    }
}

async fn start(client: &Client, session: &Session, args: StartArgs) -> Result<(), Failure> {
    let request = v1::StartRolloutRequest {
        function: args.name.in_target(client.target()).to_string(),
        version: args.version.map_or(0, VersionNumber::get),
        steps: args.steps,
        step_time: args.step_time.map(to_wire_duration),
        step_calls: args.step_calls.unwrap_or_default(),
    };
    let done = answer(client.aliases().start_rollout(request).await)?;
    told(session, done.rollout, &done.lagging_gateways)
}

async fn show(client: &Client, session: &Session, name: &FunctionArg) -> Result<(), Failure> {
    let function = name.in_target(client.target()).to_string();
    let found = answer(client.aliases().get_rollout(v1::GetRolloutRequest { function }).await)?;
    let view = RolloutView::from(found.rollout.unwrap_or_default());
    if session.output.is_json() {
        return session.output.json(&view);
    }
    session.output.text(&pairs(&view.pairs()))
}

async fn stop(client: &Client, session: &Session, name: &FunctionArg, promote: bool) -> Result<(), Failure> {
    let function = name.in_target(client.target()).to_string();
    let done = answer(client.aliases().stop_rollout(v1::StopRolloutRequest { function, promote }).await)?;
    told(session, done.rollout, &done.lagging_gateways)
}

fn told(session: &Session, rollout: Option<v1::Rollout>, lagging: &[String]) -> Result<(), Failure> {
    let view = RolloutView::from(rollout.unwrap_or_default());
    if session.output.is_json() {
        return session.output.json(&view.with_lagging(lagging.to_vec()));
    }
    session.output.note(printable(&view.summary()));
    warn_of(lagging, session.output);
    Ok(())
}
