//! The cluster and its workers as JSON.

use axum::{Json, extract::State};
use dunlin_proto::{names::WorkerName, v1};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    Answer,
    body::Body,
    doc::{Refused, Unchanged},
};
use crate::admin::{
    app::App,
    model::{Cluster, Worker, WorkerList},
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
