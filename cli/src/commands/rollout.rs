//! `dunlin rollout`: moves the calls of functions step by step to other versions, as long as none of these is worse.

use std::time::Duration;

use clap::{Args, Subcommand};
use dunlin_proto::{ids::VersionNumber, model::to_wire_duration, v1};

use super::traffic::warn_of;
use crate::{
    client::{Client, answer},
    exit::Failure,
    output::{pairs, printable},
    session::{FunctionArg, Session, namespace_name},
    units,
    view::rollout::RolloutView,
};

/// How many steps a rollout can have.
const MAX_STEPS: usize = 20;

/// What to do with rollouts.
#[derive(Subcommand)]
pub(crate) enum RolloutCommand {
    /// Begin: the new version gets a few calls, then more, then all; where it is worse, the old one has all again. Several functions
    /// move together, and go back together
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
    /// Functions that move together, as NAME or NAME=VERSION; of one alone, NAME VERSION, too. The newest version when left out
    #[arg(value_name = "FUNCTION[=VERSION]", required_unless_present = "all")]
    names: Vec<String>,
    /// Every function of the namespace whose newest version is newer than the one that has its calls
    #[arg(long, conflicts_with = "names")]
    all: bool,
    /// Percentages that it gets, one after another; 5,25,50 when left out
    #[arg(long, value_name = "PERCENT,...", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=99))]
    steps: Vec<u32>,
    /// How long a step takes at least, such as 5m; 60s when left out
    #[arg(long, value_name = "DURATION", value_parser = units::parse_duration)]
    step_time: Option<Duration>,
    /// How many calls the new versions have together in a step at least; 500 when left out
    #[arg(long, value_name = "CALLS")]
    step_calls: Option<u64>,
}

/// Refuses steps that no rollout can take, before anything is made for one.
pub(crate) fn check_steps(steps: &[u32]) -> Result<(), Failure> {
    if steps.len() > MAX_STEPS {
        return Err(Failure::usage(format!("--steps takes {MAX_STEPS} percentages at most")));
    }
    match steps.windows(2).find(|pair| pair.first() >= pair.last()) {
        Some(pair) => {
            let message = "--steps must rise: each percentage is higher than the one before";
            Err(Failure::usage(message).because(format!("{pair:?}")).hint("such as --steps 5,25,50"))
        }
        None => Ok(()),
    }
}

/// Runs it.
pub(crate) async fn run(command: RolloutCommand, session: &Session) -> Result<(), Failure> {
    if let RolloutCommand::Start(args) = &command {
        check_steps(&args.steps)?;
    }
    let client = session.connect().await?;
    match command {
        RolloutCommand::Start(args) => start(&client, session, args).await,
        RolloutCommand::Show { name } => show(&client, session, &name).await,
        RolloutCommand::Stop { name, promote } => stop(&client, session, &name, promote).await,
    }
}

async fn start(client: &Client, session: &Session, args: StartArgs) -> Result<(), Failure> {
    let mut targets = targets(&args.names)?.into_iter().map(|(function, version)| v1::RolloutTarget {
        function: function.in_target(client.target()).to_string(),
        version: version.map_or(0, VersionNumber::get),
    });
    let first = targets.next();
    let parent = if first.is_none() { namespace_name(client.target()) } else { String::new() };
    let v1::RolloutTarget { function, version } = first.unwrap_or_default();
    let request = v1::StartRolloutRequest {
        function,
        version,
        others: targets.collect(),
        parent,
        steps: args.steps,
        step_time: args.step_time.map(to_wire_duration),
        step_calls: args.step_calls.unwrap_or_default(),
        ..Default::default()
    };
    let done = answer(client.aliases().start_rollout(request).await)?;
    told(session, done.rollout, &done.lagging_gateways)
}

/// Reads what is to move: names with or without a version, or one name with a version behind it.
fn targets(names: &[String]) -> Result<Vec<(FunctionArg, Option<VersionNumber>)>, Failure> {
    if let [name, version] = names
        && let Ok(version) = version.parse()
    {
        return Ok(vec![(function(name)?, Some(version))]);
    }
    let target = |text: &String| match text.split_once('=') {
        Some((name, version)) => {
            let version = version.parse().map_err(|error| Failure::usage(format!("{text}: {error}")));
            Ok((function(name)?, Some(version?)))
        }
        None => Ok((function(text)?, None)),
    };
    names.iter().map(target).collect()
}

fn function(text: &str) -> Result<FunctionArg, Failure> {
    text.parse().map_err(|error| Failure::usage(format!("{text}: {error}")))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_named_with_or_without_versions() {
        let one = |name: &str, version: Option<u32>| {
            (name.parse::<FunctionArg>().unwrap(), version.map(|version| VersionNumber::try_from(version).unwrap()))
        };
        for (words, expected) in [
            ("pay", vec![one("pay", None)]),
            ("pay 7", vec![one("pay", Some(7))]),
            ("pay=7", vec![one("pay", Some(7))]),
            ("pay mail", vec![one("pay", None), one("mail", None)]),
            ("pay=7 shop/mail till=2", vec![one("pay", Some(7)), one("shop/mail", None), one("till", Some(2))]),
            ("", vec![]),
        ] {
            let words: Vec<_> = words.split_whitespace().map(str::to_owned).collect();
            assert_eq!(targets(&words).map_err(|_| ()), Ok(expected), "{words:?}");
        }
        for words in ["pay=", "pay=x", "pay 7 mail", "7", "=7", "pay=0"] {
            let words: Vec<_> = words.split_whitespace().map(str::to_owned).collect();
            assert!(targets(&words).is_err(), "{words:?}");
        }
    }
}
