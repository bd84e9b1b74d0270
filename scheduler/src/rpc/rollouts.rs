//! The methods of `AliasService` that concern rollouts. What is judged, and how, is told in `rollout.rs`.

use std::time::Duration;

use dunlin_proto::{ApiError, ErrorCode, ids::VersionNumber, names::FunctionRef, v1};
use tonic::Status;

use super::{convert, name};
use crate::{
    app::App,
    config::RolloutConfig,
    model::{RolloutRecord, RolloutState},
    store::{Move, NewRollout, Store},
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

fn shown(app: &App, rollout: &RolloutRecord) -> v1::Rollout {
    convert::rollout(rollout, &app.rollouts.progress(rollout))
}

pub(super) async fn start(
    app: &App,
    store: &Store,
    creator: String,
    request: v1::StartRolloutRequest,
) -> Result<v1::StartRolloutResponse, Status> {
    let new = read(&app.rollout_config, creator, request)?;
    let rollout = store.rollout_start(&new).await?;
    let lagging_gateways = app.config_acknowledged().await;
    tracing::info!(function = %new.function, old = rollout.old.get(), new = rollout.new.get(), actor = new.creator, "a rollout has begun");
    Ok(v1::StartRolloutResponse { rollout: Some(shown(app, &rollout)), lagging_gateways })
}

pub(super) async fn get(app: &App, request: &v1::GetRolloutRequest) -> Result<v1::GetRolloutResponse, Status> {
    let function: FunctionRef = name("function", &request.function)?;
    let found = app.store.rollout_fetch(&function).await?.ok_or_else(|| missing(&function))?;
    Ok(v1::GetRolloutResponse { rollout: Some(shown(app, &found)) })
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
    Ok(v1::StopRolloutResponse { rollout: Some(shown(app, &moved)), lagging_gateways })
}

fn read(least: &RolloutConfig, creator: String, request: v1::StartRolloutRequest) -> Result<NewRollout, ApiError> {
    let v1::StartRolloutRequest { function, version, steps, step_time, step_calls } = request;
    let version = (version > 0).then(|| VersionNumber::try_from(version)).transpose();
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
    Ok(NewRollout {
        function: name("function", &function)?,
        new: version.map_err(|error| ApiError::invalid("version", error))?,
        steps: checked(steps)?,
        step_time: time,
        step_calls: calls,
        creator,
    })
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
        let time = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
        for (request, field) in [
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
        ] {
            assert_eq!(read(request.clone()).unwrap_err().field.as_deref(), Some(field), "{request:?}");
        }
    }
}
