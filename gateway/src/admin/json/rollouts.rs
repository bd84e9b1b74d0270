//! Rollouts as JSON.

use axum::{Json, extract::State};
use dunlin_proto::{
    ApiError, ErrorCode,
    names::{FunctionRef, NamespaceRef},
    v1,
};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    Answer,
    apps::AppRoute,
    body::Body,
    doc::{Refused, Unchanged},
    fields::{maybe_whole, objects, there},
};
use crate::admin::{
    app::App,
    model::{ChangedRollout, Rollout},
    params::{FunctionIds, Named, NamespaceIds},
    session::Caller,
};

/// Returns the last rollout of a function: how its calls move, or moved, from one version to another.
#[utoipa::path(
    get,
    path = "/namespaces/{namespace}/functions/{function}/rollout",
    tag = "functions",
    params(FunctionIds),
    responses((status = 200, body = Rollout, description = "The rollout"), Refused),
)]
pub(super) async fn get_rollout(
    State(app): State<App>,
    Caller(who): Caller,
    Named(function): Named<FunctionRef>,
) -> Answer<Rollout> {
    let found = app.rollout_get(&who, v1::GetRolloutRequest { function: function.to_string() }).await?.rollout;
    let missing = || ApiError::new(ErrorCode::NotFound, format!("{function} has had no rollout"));
    Ok(Json(found.ok_or_else(missing)?.into()))
}

/// How calls shall move.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StartRollout {
    /// The version that is to have all calls; left out, the function's newest.
    #[serde(default, deserialize_with = "maybe_whole::<_, 1, { u32::MAX }>")]
    #[schema(value_type = u32, minimum = 1, maximum = 4_294_967_295_u32, required = false)]
    version: Option<u32>,
    /// The percentages that it gets, one after another, each higher than the one before; left out, 5, 25, 50.
    #[serde(default, deserialize_with = "there")]
    #[schema(value_type = Vec<u32>, max_items = 20, required = false)]
    steps: Option<Vec<u32>>,
    /// How long a step takes at least, in seconds; left out, 60.
    #[serde(default, deserialize_with = "maybe_whole::<_, 1, 86_400>")]
    #[schema(value_type = u32, minimum = 1, maximum = 86_400, required = false)]
    step_seconds: Option<u32>,
    /// How many calls the version has in a step at least; left out, 500.
    #[serde(default, deserialize_with = "maybe_whole::<_, 1, { u32::MAX }>")]
    #[schema(value_type = u32, minimum = 1, maximum = 4_294_967_295_u32, required = false)]
    step_calls: Option<u32>,
}

/// Moves the calls of a function step by step to another version, as long as that is no worse.
#[utoipa::path(
    put,
    path = "/namespaces/{namespace}/functions/{function}/rollout",
    tag = "functions",
    params(FunctionIds),
    request_body = StartRollout,
    responses((status = 200, body = ChangedRollout, description = "It has begun"), Refused, Unchanged),
)]
pub(super) async fn start_rollout(
    State(app): State<App>,
    Caller(who): Caller,
    Named(function): Named<FunctionRef>,
    Body(body): Body<StartRollout>,
) -> Answer<ChangedRollout> {
    let request = v1::StartRolloutRequest {
        function: function.to_string(),
        version: body.version.unwrap_or_default(),
        ..steps(body.steps, body.step_seconds, body.step_calls)
    };
    let v1::StartRolloutResponse { rollout, lagging_gateways } = app.rollout_start(&who, request).await?;
    Ok(Json(ChangedRollout { rollout: rollout.map(Rollout::from), lagging_gateways }))
}

/// A request with the steps of a rollout, which does not say yet what shall move.
fn steps(steps: Option<Vec<u32>>, seconds: Option<u32>, calls: Option<u32>) -> v1::StartRolloutRequest {
    let time = |seconds: u32| prost_types::Duration { seconds: seconds.into(), nanos: 0 };
    v1::StartRolloutRequest {
        steps: steps.unwrap_or_default(),
        step_time: seconds.map(time),
        step_calls: calls.unwrap_or_default().into(),
        ..Default::default()
    }
}

/// A function that shall move.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RolloutTarget {
    /// The function's bare name.
    #[schema(pattern = "^[a-z](-?[a-z0-9])*$", min_length = 1, max_length = 32, example = "checkout")]
    function: String,
    /// The version that is to have all its calls; left out, its newest.
    #[serde(default, deserialize_with = "maybe_whole::<_, 1, { u32::MAX }>")]
    #[schema(value_type = u32, minimum = 1, maximum = 4_294_967_295_u32, required = false)]
    version: Option<u32>,
}

/// How the calls of several functions shall move together.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StartRollouts {
    /// The functions, each once; left out or empty, all whose newest version is newer than the one that has their calls.
    #[serde(default, deserialize_with = "objects::<_, _, 0, 100>")]
    #[schema(max_items = 100, required = false)]
    functions: Vec<RolloutTarget>,
    /// The percentages that the new versions get, one after another, each higher than the one before; left out, 5, 25, 50.
    #[serde(default, deserialize_with = "there")]
    #[schema(value_type = Vec<u32>, max_items = 20, required = false)]
    steps: Option<Vec<u32>>,
    /// How long a step takes at least, in seconds; left out, 60.
    #[serde(default, deserialize_with = "maybe_whole::<_, 1, 86_400>")]
    #[schema(value_type = u32, minimum = 1, maximum = 86_400, required = false)]
    step_seconds: Option<u32>,
    /// How many calls the new versions have together in a step at least; left out, 500.
    #[serde(default, deserialize_with = "maybe_whole::<_, 1, { u32::MAX }>")]
    #[schema(value_type = u32, minimum = 1, maximum = 4_294_967_295_u32, required = false)]
    step_calls: Option<u32>,
    /// The app whose routes become `routes` in the step that gives the new versions all calls; left out, no routes change.
    #[serde(default)]
    #[schema(pattern = "^([a-z](-?[a-z0-9])*)?$", max_length = 63, required = false, example = "till")]
    app: String,
    /// All routes of the app.
    #[serde(default, deserialize_with = "objects::<_, _, 0, 1000>")]
    #[schema(max_items = 1000, required = false)]
    routes: Vec<AppRoute>,
}

/// Moves the calls of several functions together, step by step to other versions, as long as none of these is worse.
#[utoipa::path(
    put,
    path = "/namespaces/{namespace}/rollout",
    tag = "functions",
    params(NamespaceIds),
    request_body = StartRollouts,
    responses((status = 200, body = ChangedRollout, description = "It has begun"), Refused, Unchanged),
)]
pub(super) async fn start_rollouts(
    State(app): State<App>,
    Caller(who): Caller,
    Named(parent): Named<NamespaceRef>,
    Body(body): Body<StartRollouts>,
) -> Answer<ChangedRollout> {
    let routes = body.routes.into_iter().map(|route| route.into_message(&parent.namespace)).collect();
    let steps = steps(body.steps, body.step_seconds, body.step_calls);
    let request = named(&parent, body.functions, v1::StartRolloutRequest { app: body.app, routes, ..steps });
    let v1::StartRolloutResponse { rollout, lagging_gateways } = app.rollout_start(&who, request).await?;
    Ok(Json(ChangedRollout { rollout: rollout.map(Rollout::from), lagging_gateways }))
}

/// The request about these functions, or about all of the namespace.
fn named(
    parent: &NamespaceRef,
    functions: Vec<RolloutTarget>,
    request: v1::StartRolloutRequest,
) -> v1::StartRolloutRequest {
    let target = |RolloutTarget { function, version }| v1::RolloutTarget {
        function: format!("{parent}/functions/{function}"),
        version: version.unwrap_or_default(),
    };
    let mut targets = functions.into_iter().map(target);
    match targets.next() {
        Some(v1::RolloutTarget { function, version }) => {
            v1::StartRolloutRequest { function, version, others: targets.collect(), ..request }
        }
        None => v1::StartRolloutRequest { parent: parent.to_string(), ..request },
    }
}

/// How a rollout shall end.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StopRollout {
    /// The new version has all calls from now on; otherwise the old one has.
    #[serde(default)]
    #[schema(required = false)]
    promote: bool,
}

/// Ends a rollout at once, for all functions that move together.
#[utoipa::path(
    post,
    path = "/namespaces/{namespace}/functions/{function}/rollout/stop",
    tag = "functions",
    params(FunctionIds),
    request_body = StopRollout,
    responses((status = 200, body = ChangedRollout, description = "It has ended"), Refused, Unchanged),
)]
pub(super) async fn stop_rollout(
    State(app): State<App>,
    Caller(who): Caller,
    Named(function): Named<FunctionRef>,
    Body(body): Body<StopRollout>,
) -> Answer<ChangedRollout> {
    let request = v1::StopRolloutRequest { function: function.to_string(), promote: body.promote };
    let v1::StopRolloutResponse { rollout, lagging_gateways } = app.rollout_stop(&who, request).await?;
    Ok(Json(ChangedRollout { rollout: rollout.map(Rollout::from), lagging_gateways }))
}
