//! The cluster and its workers as JSON.

use axum::{Json, extract::State};
use dunlin_proto::{names::WorkerName, v1};
use http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    Answer,
    body::Body,
    doc::{Refused, Unchanged},
    fields::{maybe_text, maybe_whole},
};
use crate::admin::{
    app::App,
    fault::Fault,
    model::{Cluster, NewToken, Worker, WorkerList},
    params::{Named, Page, Query, WorkerIds, listed},
    session::Caller,
};

/// Returns the cluster's state at a glance.
#[utoipa::path(get, path = "/cluster", tag = "cluster", responses((status = 200, body = Cluster, description = "The cluster"), Refused))]
pub(super) async fn get_cluster(State(app): State<App>, Caller(who): Caller) -> Answer<Cluster> {
    Ok(Json(app.cluster_get(&who, v1::GetClusterRequest {}).await?.into()))
}

/// Lists the workers in the order of their names.
#[utoipa::path(
    get,
    path = "/workers",
    tag = "cluster",
    params(Page),
    responses((status = 200, body = WorkerList, description = "A page of workers"), Refused),
)]
pub(super) async fn list_workers(
    State(app): State<App>,
    Caller(who): Caller,
    Query(page): Query<Page>,
) -> Answer<WorkerList> {
    let (page_size, page_token) = page.checked()?;
    let request = v1::ListWorkersRequest { page_size, page_token };
    Ok(Json(listed(app.worker_list(&who, request).await)?.into()))
}

/// Returns one worker.
#[utoipa::path(
    get,
    path = "/workers/{worker}",
    tag = "cluster",
    params(WorkerIds),
    responses((status = 200, body = Worker, description = "The worker"), Refused),
)]
pub(super) async fn get_worker(
    State(app): State<App>,
    Caller(who): Caller,
    Named(name): Named<WorkerName>,
) -> Answer<Worker> {
    Ok(Json(app.worker_get(&who, &name.to_string()).await?.into()))
}

/// Asks for a worker to be drained.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DrainWorker {
    /// Takes it back in.
    #[serde(default)]
    resume: bool,
}

/// Takes a worker out of placement, or back in. Running invocations finish.
#[utoipa::path(
    post,
    path = "/workers/{worker}/drain",
    tag = "cluster",
    params(WorkerIds),
    request_body = DrainWorker,
    responses((status = 200, body = Worker, description = "The worker's new state"), Refused, Unchanged),
)]
pub(super) async fn drain_worker(
    State(app): State<App>,
    Caller(who): Caller,
    Named(name): Named<WorkerName>,
    Body(body): Body<DrainWorker>,
) -> Answer<Worker> {
    let request = v1::DrainWorkerRequest { name: name.to_string(), resume: body.resume };
    Ok(Json(app.worker_drain(&who, request).await?.worker.unwrap_or_default().into()))
}

/// What a process becomes by joining.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum JoinRole {
    /// It serves callers.
    Gateway,
    /// It runs functions.
    Worker,
}

/// Says who may join.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateJoinToken {
    /// What the process becomes.
    role: JoinRole,
    /// The only name that the token is good for; it then may take the place of the process that has the name.
    #[serde(default, deserialize_with = "maybe_text::<_, 63>")]
    #[schema(value_type = String, pattern = "^[a-z](-?[a-z0-9])*$", min_length = 1, max_length = 63, required = false, example = "worker-3")]
    process_id: Option<String>,
    /// How long it can be used, in seconds; default 3,600.
    #[serde(default, deserialize_with = "maybe_whole::<_, 1, 86_400>")]
    #[schema(value_type = u32, minimum = 1, maximum = 86_400, required = false)]
    lifetime_seconds: Option<u32>,
}

impl From<CreateJoinToken> for v1::CreateJoinTokenRequest {
    fn from(body: CreateJoinToken) -> Self {
        let role = match body.role {
            JoinRole::Gateway => v1::JoinRole::Gateway,
            JoinRole::Worker => v1::JoinRole::Worker,
        };
        let lifetime = body.lifetime_seconds.map(|seconds| prost_types::Duration { seconds: seconds.into(), nanos: 0 });
        Self { role: role.into(), process_id: body.process_id.unwrap_or_default(), lifetime }
    }
}

/// Makes a token with which one gateway or worker can join the cluster, once.
#[utoipa::path(
    post,
    path = "/join-tokens",
    tag = "cluster",
    request_body = CreateJoinToken,
    responses((status = 201, body = NewToken, description = "The token"), Refused, Unchanged),
)]
pub(super) async fn create_join_token(
    State(app): State<App>,
    Caller(who): Caller,
    Body(body): Body<CreateJoinToken>,
) -> Result<(StatusCode, Json<NewToken>), Fault> {
    Ok((StatusCode::CREATED, Json(app.join_token_create(&who, body.into()).await?.into())))
}
