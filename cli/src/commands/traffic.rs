//! `dunlin traffic`: how the calls of a function, or of one of its aliases, divide over versions.

use std::str::FromStr;

use clap::{Args, Subcommand};
use dunlin_proto::{
    ids::{AliasId, IdError, VersionNumber},
    names::AliasName,
    v1,
};

use crate::{
    client::{Client, answer},
    exit::Failure,
    output::{Output, printable},
    session::{FunctionArg, Session},
    view::alias::AliasView,
};

/// What to do with traffic.
#[derive(Subcommand)]
pub(crate) enum TrafficCommand {
    /// Divide the calls of the automatic address and of routes without an alias
    Set {
        /// Function, as NAME or NAMESPACE/NAME
        name: FunctionArg,
        #[command(flatten)]
        division: DivisionArgs,
    },
}

/// How calls divide.
#[derive(Args)]
pub(crate) struct DivisionArgs {
    /// Versions with their percentages, such as v7=90,v8=10; a version alone, such as v8, gets everything
    #[arg(value_name = "v7=90,v8=10")]
    weights: Weights,
    /// By what callers are told apart that have no key or token: header:NAME, cookie, or none; may be repeated. What was set
    /// before stays when left out
    #[arg(long, value_name = "header:NAME|cookie|none")]
    sticky: Vec<By>,
}

/// Versions with their percentages.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Weights(Vec<v1::TrafficTarget>);

impl FromStr for Weights {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let weights = text.split(',').map(|part| weight(part.trim(), text)).collect::<Result<Vec<_>, _>>()?;
        let sum: u64 = weights.iter().map(|weight| u64::from(weight.percent)).sum();
        if sum != 100 {
            return Err(format!("the percentages add up to {sum} but must add up to 100"));
        }
        Ok(Self(weights))
    }
}

fn weight(part: &str, whole: &str) -> Result<v1::TrafficTarget, String> {
    let (version, percent) = match part.split_once('=') {
        Some((version, percent)) => (version.trim_end(), Some(percent.trim_start())),
        None if part == whole.trim() => (part, None),
        None => return Err(format!("{part:?} has no percentage: write for example v7=90")),
    };
    let number = version.strip_prefix('v').unwrap_or(version);
    let number: VersionNumber =
        number.parse().map_err(|_| format!("{version:?} is no version: write for example v7"))?;
    let percent = percent.map_or(Ok(100), |percent| percent.strip_suffix('%').unwrap_or(percent).parse());
    let percent = percent.ok().filter(|percent| (1..=100).contains(percent));
    let percent = percent.ok_or_else(|| format!("version {number} must have 1 to 100 percent"))?;
    Ok(v1::TrafficTarget { version: number.get(), percent })
}

/// By what callers are told apart.
#[derive(Debug, Clone, PartialEq, Eq)]
enum By {
    Header(String),
    Cookie,
    Nothing,
}

impl FromStr for By {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "cookie" => Ok(Self::Cookie),
            "none" => Ok(Self::Nothing),
            _ => match text.strip_prefix("header:") {
                Some(name) if !name.is_empty() => Ok(Self::Header(name.to_owned())),
                _ => Err("it must be header:NAME, cookie or none"),
            },
        }
    }
}

/// What is asked for; nothing where it stays.
fn sticky(by: Vec<By>) -> Option<v1::Sticky> {
    let asked = !by.is_empty();
    let mut sticky = v1::Sticky::default();
    for by in by {
        match by {
            By::Header(header) => sticky.header = header,
            By::Cookie => sticky.cookie = true,
            By::Nothing => sticky = v1::Sticky::default(),
        }
    }
    asked.then_some(sticky)
}

/// Runs it.
pub(crate) async fn run(command: TrafficCommand, session: &Session) -> Result<(), Failure> {
    let TrafficCommand::Set { name, division } = command;
    let client = session.connect().await?;
    let live: AliasId = AliasId::LIVE.parse().map_err(|error: IdError| Failure::usage(error.to_string()))?;
    let alias = name.in_target(client.target()).alias(live);
    set(&client, session, &alias, division).await
}

/// Divides the calls of an alias.
pub(super) async fn set(
    client: &Client,
    session: &Session,
    alias: &AliasName,
    division: DivisionArgs,
) -> Result<(), Failure> {
    let wanted = v1::Alias {
        name: alias.to_string(),
        traffic: division.weights.0,
        sticky: sticky(division.sticky),
        ..v1::Alias::default()
    };
    let request = v1::SetAliasRequest { alias: Some(wanted), etag: String::new() };
    let set = answer(client.aliases().set_alias(request).await)?;
    let (view, lagging) = (AliasView::from(set.alias.unwrap_or_default()), set.lagging_gateways);
    if session.output.is_json() {
        return session.output.json(&view.with_lagging(lagging));
    }
    session.output.note(format!("calls of {}: {}", printable(&view.title()), view.traffic_text()));
    warn_of(&lagging, session.output);
    Ok(())
}

/// Names the gateways that do not serve a change yet.
pub(crate) fn warn_of(lagging: &[String], output: Output) {
    if !lagging.is_empty() {
        let names = lagging.join(", ");
        output.warn(format!(
            "gateways that have not said that they know, and will once they are reached: {}",
            printable(&names)
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights(text: &str) -> Result<Vec<(u32, u32)>, String> {
        let weights = text.parse::<Weights>()?;
        Ok(weights.0.iter().map(|weight| (weight.version, weight.percent)).collect())
    }

    #[test]
    fn weights_are_written_briefly_and_are_a_whole() {
        assert_eq!(weights("v7=90,v8=10"), Ok(vec![(7, 90), (8, 10)]));
        assert_eq!(weights("7=90%, 8 = 10%"), Ok(vec![(7, 90), (8, 10)]));
        assert_eq!(weights("v8"), Ok(vec![(8, 100)]));
        for (bad, message) in [
            ("v7=90,v8=20", "add up to 110"),
            ("v7=50", "add up to 50"),
            ("v7=90,v8", "no percentage"),
            ("", "no version"),
            ("v0=100", "no version"),
            ("x7=100", "no version"),
            ("v7=0,v8=100", "1 to 100"),
            ("v7=4294967295,v8=1", "1 to 100"),
            ("v7=x", "1 to 100"),
        ] {
            let error = weights(bad).unwrap_err();
            assert!(error.contains(message), "{bad}: {error}");
        }
    }

    #[test]
    fn what_is_not_said_of_callers_stays() {
        let read = |texts: &[&str]| sticky(texts.iter().map(|text| text.parse().unwrap()).collect());
        assert_eq!(read(&[]), None);
        assert_eq!(read(&["none"]), Some(v1::Sticky::default()));
        let both = v1::Sticky { header: "X-User".into(), cookie: true };
        assert_eq!(read(&["header:X-User", "cookie"]), Some(both));
        assert!("header:".parse::<By>().is_err() && "Cookie".parse::<By>().is_err());
    }
}
