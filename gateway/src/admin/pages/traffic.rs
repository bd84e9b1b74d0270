//! How a function's calls divide over two versions, with how each of them does, and the form that changes it.

use axum::{
    Form,
    extract::{State, rejection::FormRejection},
    response::{IntoResponse, Redirect},
};
use dunlin_proto::{ApiError, ErrorCode, ids::AliasId, names::FunctionRef, v1};
use serde::Deserialize;

use super::{Page, escaped, stats::Stats};
use crate::admin::{
    app::App,
    fault::Fault,
    model::{Function, Invocation, Version},
    params::Named,
    session::Visitor,
};

/// One version among those that share the traffic, or could.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Side {
    pub(super) version: u32,
    pub(super) percent: u32,
    pub(super) stats: Stats,
}

/// Two versions between which traffic is moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Slider {
    /// The one that most calls go to.
    pub(super) from: u32,
    /// The one that gets more.
    pub(super) to: u32,
    /// How many percent that one gets now.
    pub(super) percent: u32,
    /// Those that can be chosen.
    pub(super) versions: Vec<u32>,
    /// The same as a command, as far as it is now.
    pub(super) command: String,
}

/// How the versions do that have traffic, or were called lately.
pub(super) fn sides(function: &Function, calls: &[Invocation]) -> Vec<Side> {
    let called = calls.iter().map(|call| call.version);
    let mut numbers: Vec<u32> = function.traffic.iter().map(|target| target.version).chain(called).collect();
    numbers.sort_unstable_by(|a, b| b.cmp(a));
    numbers.dedup();
    let side = |version: u32| Side {
        version,
        percent: percent(function, version),
        stats: Stats::of(calls.iter().filter(|call| call.version == version)),
    };
    numbers.into_iter().filter(|number| *number > 0).map(side).collect()
}

/// How many percent of the calls go to a version.
pub(super) fn percent(function: &Function, number: u32) -> u32 {
    function.traffic.iter().find(|target| target.version == number).map_or(0, |target| target.percent)
}

/// Where traffic can be moved: two versions at least.
pub(super) fn slider(function: &Function, versions: &[Version]) -> Option<Slider> {
    let numbers: Vec<u32> = versions.iter().map(|version| version.number).collect();
    let from = function.traffic.iter().max_by_key(|target| (target.percent, target.version))?.version;
    let others = || numbers.iter().copied().filter(|number| *number != from);
    let shares = |number: &u32| percent(function, *number) > 0;
    let to = others().filter(shares).max().or_else(|| others().max())?;
    let percent = percent(function, to);
    let command = command(function, &divided(from, to, percent));
    Some(Slider { from, to, percent, versions: numbers, command })
}

fn command(function: &Function, shares: &[v1::TrafficTarget]) -> String {
    let shares: Vec<_> = shares.iter().map(|share| format!("v{}={}", share.version, share.percent)).collect();
    format!("dunlin traffic set {} {} --namespace {}", function.function, shares.join(","), function.namespace)
}

/// The shares of two versions, without one that gets nothing.
fn divided(from: u32, to: u32, percent: u32) -> Vec<v1::TrafficTarget> {
    let shares = [(from, 100_u32.saturating_sub(percent)), (to, percent)];
    let shares = shares.into_iter().filter(|(_, percent)| *percent > 0);
    shares.map(|(version, percent)| v1::TrafficTarget { version, percent }).collect()
}

/// What the form sends.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sent {
    from: u32,
    to: u32,
    percent: u32,
    etag: String,
}

/// Divides the calls of a function over two versions.
pub(super) async fn set(
    State(app): State<App>,
    Visitor(who): Visitor,
    Named(name): Named<FunctionRef>,
    sent: Result<Form<Sent>, FormRejection>,
) -> Page {
    let Form(Sent { from, to, percent, etag }) = sent.map_err(Fault::from)?;
    if percent > 100 {
        return Err(ApiError::invalid("percent", "the share must be 0 to 100 percent").into());
    }
    if from == to {
        return Err(ApiError::invalid("to", "traffic is moved between two versions: choose two different ones").into());
    }
    let live: AliasId = AliasId::LIVE.parse().map_err(|_| ApiError::internal())?;
    let alias =
        v1::Alias { name: name.alias(live).to_string(), traffic: divided(from, to, percent), ..Default::default() };
    let set = app.alias_set(&who, v1::SetAliasRequest { alias: Some(alias), etag }).await;
    let lagging = set.map_err(changed_meanwhile)?.lagging_gateways;
    let query = format!("divided={to}&percent={percent}&lagging={}", escaped(&lagging.join(", ")));
    Ok(Redirect::to(&format!("/{name}?{query}")).into_response())
}

/// What to do where somebody else has changed the function since the page was shown.
fn changed_meanwhile(error: ApiError) -> ApiError {
    match error.code {
        ErrorCode::Changed | ErrorCode::FailedPrecondition => {
            error.hint("go back to the function's page, look at its traffic as it is now, and divide it again there")
        }
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(shares: &[(u32, u32)]) -> Function {
        let share = |(version, percent): &(u32, u32)| v1::TrafficTarget { version: *version, percent: *percent };
        let name = "namespaces/shop/functions/till".into();
        v1::Function { name, traffic: shares.iter().map(share).collect(), ..Default::default() }.into()
    }

    fn versions(numbers: &[u32]) -> Vec<Version> {
        let name = |number| format!("namespaces/shop/functions/till/versions/{number}");
        let wire = |number: &u32| v1::Version { name: name(*number), number: *number, ..Default::default() };
        crate::admin::model::VersionList::new(
            v1::ListVersionsResponse { versions: numbers.iter().map(wire).collect(), ..Default::default() },
            true,
        )
        .versions
    }

    #[test]
    fn traffic_moves_from_the_leading_version_to_the_one_that_shares_or_the_newest() {
        let found = |shares: &[(u32, u32)], numbers: &[u32]| {
            slider(&function(shares), &versions(numbers)).map(|it| (it.from, it.to, it.percent))
        };
        assert_eq!(found(&[(1, 100)], &[3, 2, 1]), Some((1, 3, 0)));
        assert_eq!(found(&[(1, 90), (2, 10)], &[3, 2, 1]), Some((1, 2, 10)));
        assert_eq!(found(&[(3, 100)], &[3, 2, 1]), Some((3, 2, 0)));
        assert_eq!(found(&[(1, 100)], &[1]), None);
        assert_eq!(found(&[], &[2, 1]), None);
        let command = slider(&function(&[(1, 90), (2, 10)]), &versions(&[2, 1])).unwrap().command;
        assert_eq!(command, "dunlin traffic set till v1=90,v2=10 --namespace shop");
    }

    #[test]
    fn a_version_without_a_share_is_not_named() {
        let numbers = |percent| divided(1, 2, percent).iter().map(|it| (it.version, it.percent)).collect::<Vec<_>>();
        assert_eq!((numbers(0), numbers(100)), (vec![(1, 100)], vec![(2, 100)]));
        assert_eq!(numbers(25), [(1, 75), (2, 25)]);
    }

    #[test]
    fn each_version_has_its_own_numbers() {
        let call = |version, outcome: &str| {
            Invocation::from(v1::Invocation { version, outcome: outcome.into(), ..Default::default() })
        };
        let calls = [call(1, "ok"), call(2, "trap"), call(2, "ok"), call(0, "ok")];
        let sides = sides(&function(&[(1, 90), (3, 10)]), &calls);
        let seen: Vec<_> = sides.iter().map(|it| (it.version, it.percent, it.stats.calls, it.stats.failed)).collect();
        assert_eq!(seen, [(3, 10, 0, 0), (2, 0, 2, 1), (1, 90, 1, 0)]);
    }
}
