//! The methods of `AliasService` that concern rollouts. What is judged, and how, is told in `rollout.rs`.

use std::time::Duration;

use dunlin_proto::{
    ApiError, ErrorCode,
    ids::{AppId, Namespace, VersionNumber},
    names::{FunctionRef, NamespaceRef},
    v1,
};
use tonic::Status;

use super::{convert, name, routes::records};
use crate::{
    app::App,
    config::RolloutConfig,
    model::{RolloutRecord, RolloutState},
    store::{MOST_ROLLOUT_FUNCTIONS as MOST_FUNCTIONS, Move, NewRollout, Owner, Pending, Store, Target},
};

/// The steps where none are said, in percent.
const STEPS: [u32; 3] = [5, 25, 50];
const MOST_STEPS: usize = 20;
/// The longest time that a step may take at least.
const MOST_TIME: Duration = Duration::from_secs(24 * 3600);

fn missing(function: &FunctionRef) -> ApiError {
    let error = ApiError::new(ErrorCode::NotFound, format!("{function} has had no rollout"));
    error.hint("begin one: dunlin rollout start")
}

/// A rollout as the one of one of its functions.
fn shown(app: &App, rollout: &RolloutRecord, of: &FunctionRef) -> v1::Rollout {
    convert::rollout(rollout, of, &app.rollouts.progress(rollout))
}

/// The first of its functions.
fn first(rollout: &RolloutRecord) -> Result<&FunctionRef, ApiError> {
    rollout.parts.first().map(|part| &part.function).ok_or_else(ApiError::internal)
}

pub(super) async fn start(
    app: &App,
    store: &Store,
    creator: String,
    request: v1::StartRolloutRequest,
) -> Result<v1::StartRolloutResponse, Status> {
    let new = read(&app.allowed.rollout, creator, request)?;
    let rollout = store.rollout_start(&new).await?;
    let lagging_gateways = app.config_acknowledged().await;
    let of = new.targets.first().map_or_else(|| first(&rollout), |(function, _)| Ok(function))?;
    let versions: Vec<_> = rollout.parts.iter().map(|part| part.function.version(part.new).to_string()).collect();
    tracing::info!(versions = versions.join(","), actor = new.creator, "a rollout has begun");
    Ok(v1::StartRolloutResponse { rollout: Some(shown(app, &rollout, of)), lagging_gateways })
}

pub(super) async fn get(app: &App, request: &v1::GetRolloutRequest) -> Result<v1::GetRolloutResponse, Status> {
    let function: FunctionRef = name("function", &request.function)?;
    let found = app.store.rollout_fetch(&function).await?.ok_or_else(|| missing(&function))?;
    Ok(v1::GetRolloutResponse { rollout: Some(shown(app, &found, &function)) })
}

pub(super) async fn stop(
    app: &App,
    store: &Store,
    actor: &str,
    request: &v1::StopRolloutRequest,
) -> Result<v1::StopRolloutResponse, Status> {
    let function: FunctionRef = name("function", &request.function)?;
    let found = app.store.rollout_fetch(&function).await?.ok_or_else(|| missing(&function))?;
    let over = |state: RolloutState| {
        let message = format!("the rollout of {function} is over ({})", state.as_str());
        ApiError::new(ErrorCode::FailedPrecondition, message).hint("its end: dunlin rollout show")
    };
    if found.state != RolloutState::Running {
        return Err(over(found.state).into());
    }
    let reason = format!("{actor} ended it");
    let whither = match request.promote {
        true => Move::Promote(RolloutState::Stopped, reason),
        false => Move::Back(RolloutState::Stopped, reason),
    };
    // It may move in this moment.
    let moved = store.rollout_move(&found, &whither).await?.ok_or_else(|| {
        ApiError::new(ErrorCode::FailedPrecondition, format!("the rollout of {function} has just moved"))
            .hint("try again")
    })?;
    let lagging_gateways = app.config_acknowledged().await;
    if moved.state != RolloutState::Stopped {
        return Err(over(moved.state).into());
    }
    tracing::info!(%function, promote = request.promote, actor, "a rollout was ended");
    Ok(v1::StopRolloutResponse { rollout: Some(shown(app, &moved, &function)), lagging_gateways })
}

fn read(least: &RolloutConfig, creator: String, request: v1::StartRolloutRequest) -> Result<NewRollout, ApiError> {
    let (namespace, targets) = targets(&request)?;
    let v1::StartRolloutRequest { steps, step_time, step_calls, app, routes, .. } = request;
    let routes = pending(&namespace, &app, routes, &creator)?;
    let time = step_time.map_or(Ok(least.min_step()), Duration::try_from);
    let time = time.ok().filter(|time| (least.min_step()..=MOST_TIME).contains(time)).ok_or_else(|| {
        let (least, most) = (humantime::format_duration(least.min_step()), humantime::format_duration(MOST_TIME));
        ApiError::invalid("step_time", format!("a step takes {least} at least, and {most} at most"))
    })?;
    let calls = if step_calls == 0 { least.min_step_calls } else { step_calls };
    if calls < least.min_step_calls {
        let message = format!("a step has {} calls at least: fewer say too little", least.min_step_calls);
        return Err(ApiError::invalid("step_calls", message));
    }
    Ok(NewRollout { namespace, targets, steps: checked(steps)?, step_time: time, step_calls: calls, creator, routes })
}

/// The routes that come with a rollout.
fn pending(
    namespace: &Namespace,
    app: &str,
    routes: Vec<v1::Route>,
    creator: &str,
) -> Result<Option<Pending>, ApiError> {
    if app.is_empty() {
        let none = routes.is_empty().then_some(None);
        return none.ok_or_else(|| ApiError::invalid("app", "routes are given, but not whose they are"));
    }
    let app: AppId = name("app", app)?;
    let routes = records(namespace, &Owner::App(app.clone()), routes, creator)?;
    Ok(Some((app, routes)))
}

fn version_of(field: &str, version: u32) -> Result<Option<VersionNumber>, ApiError> {
    let version = (version > 0).then(|| VersionNumber::try_from(version)).transpose();
    version.map_err(|error| ApiError::invalid(field, error))
}

/// The functions that are to move, none where all of the namespace are.
fn targets(request: &v1::StartRolloutRequest) -> Result<(Namespace, Vec<Target>), ApiError> {
    let v1::StartRolloutRequest { function, version, others, parent, .. } = request;
    if !parent.is_empty() {
        if !function.is_empty() || !others.is_empty() {
            return Err(ApiError::invalid(
                "parent",
                "name functions, or a namespace for all of its functions, not both",
            ));
        }
        return Ok((name::<NamespaceRef>("parent", parent)?.namespace, Vec::new()));
    }
    let first: FunctionRef = name("function", function)?;
    let namespace = first.namespace.clone();
    let mut targets = vec![(first, version_of("version", *version)?)];
    for other in others {
        let target = (name("others.function", &other.function)?, version_of("others.version", other.version)?);
        check_other(&targets, &target.0)?;
        targets.push(target);
    }
    Ok((namespace, targets))
}

fn check_other(known: &[Target], function: &FunctionRef) -> Result<(), ApiError> {
    let wrong = |message| Err(ApiError::invalid("others", message));
    if known.len() >= MOST_FUNCTIONS {
        return wrong(format!("a rollout moves {MOST_FUNCTIONS} functions at most"));
    }
    if known.iter().any(|(known, _)| known == function) {
        return wrong(format!("{function} is named twice"));
    }
    if known.iter().any(|(known, _)| known.namespace != function.namespace) {
        return wrong(format!("{function} is in another namespace: functions of one namespace move together"));
    }
    Ok(())
}

fn checked(steps: Vec<u32>) -> Result<Vec<u32>, ApiError> {
    if steps.is_empty() {
        return Ok(STEPS.to_vec());
    }
    if steps.len() > MOST_STEPS {
        return Err(ApiError::invalid("steps", format!("a rollout has {MOST_STEPS} steps at most")));
    }
    let rises = steps.windows(2).all(|pair| matches!(pair, [one, next] if one < next));
    if !rises || !steps.iter().all(|step| (1..=99).contains(step)) {
        let message = "steps are percentages from 1 to 99, each higher than the one before";
        return Err(ApiError::invalid("steps", message).hint("such as 5, 25, 50; everything comes after the last one"));
    }
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rollout_is_checked_before_it_begins() {
        let good = || v1::StartRolloutRequest {
            function: "namespaces/shop/functions/pay".to_owned(),
            ..v1::StartRolloutRequest::default()
        };
        let config = RolloutConfig::default();
        let read = |request| read(&config, "zoe".to_owned(), request);
        let new = read(good()).unwrap();
        assert_eq!((new.steps, new.step_time, new.step_calls), (vec![5, 25, 50], Duration::from_secs(60), 500));
        assert_eq!(new.targets.len(), 1);
        let all = v1::StartRolloutRequest { function: String::new(), parent: "namespaces/shop".into(), ..good() };
        assert!(read(all).unwrap().targets.is_empty());
        let others = |names: &[&str]| {
            let other = |name: &&str| v1::RolloutTarget { function: (*name).to_owned(), version: 0 };
            names.iter().map(other).collect::<Vec<_>>()
        };
        let many: Vec<_> = (0..100).map(|n| format!("namespaces/shop/functions/f{n}")).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        let time = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
        let target = Some(v1::route::Target::Response(v1::StaticResponse::default()));
        let route =
            v1::Route { name: "namespaces/shop/routes/a".into(), path: "/a".into(), target, ..Default::default() };
        let app = v1::StartRolloutRequest { app: "till".into(), routes: vec![route.clone()], ..good() };
        let (app, routes) = read(app).unwrap().routes.unwrap();
        assert_eq!((app.as_str(), routes[0].spec.app.as_ref()), ("till", Some(&app)));
        for (request, field) in [
            (v1::StartRolloutRequest { routes: vec![route], ..good() }, "app"),
            (v1::StartRolloutRequest { app: "Till".into(), ..good() }, "app"),
            (v1::StartRolloutRequest { function: "pay".into(), ..good() }, "function"),
            (v1::StartRolloutRequest { steps: vec![5, 5], ..good() }, "steps"),
            (v1::StartRolloutRequest { steps: vec![50, 25], ..good() }, "steps"),
            (v1::StartRolloutRequest { steps: vec![0, 25], ..good() }, "steps"),
            (v1::StartRolloutRequest { steps: vec![100], ..good() }, "steps"),
            (v1::StartRolloutRequest { steps: (1..=21).collect(), ..good() }, "steps"),
            (v1::StartRolloutRequest { step_time: time(59), ..good() }, "step_time"),
            (v1::StartRolloutRequest { step_time: time(-1), ..good() }, "step_time"),
            (v1::StartRolloutRequest { step_time: time(86_401), ..good() }, "step_time"),
            (v1::StartRolloutRequest { step_calls: 499, ..good() }, "step_calls"),
            (v1::StartRolloutRequest { others: others(&["pay"]), ..good() }, "others.function"),
            (v1::StartRolloutRequest { others: others(&[&good().function]), ..good() }, "others"),
            (v1::StartRolloutRequest { others: others(&["namespaces/bank/functions/mail"]), ..good() }, "others"),
            (v1::StartRolloutRequest { others: others(&many), ..good() }, "others"),
            (v1::StartRolloutRequest { parent: "namespaces/shop".into(), ..good() }, "parent"),
            (v1::StartRolloutRequest { parent: "shop".into(), function: String::new(), ..good() }, "parent"),
            (v1::StartRolloutRequest { function: String::new(), ..good() }, "function"),
        ] {
            assert_eq!(read(request.clone()).unwrap_err().field.as_deref(), Some(field), "{request:?}");
        }
    }
}
