//! `ClusterService`: the cluster as the scheduler sees it. Reads from memory, so it answers while the database is away.

use dunlin_proto::{
    ApiError, ErrorCode,
    ids::WorkerId,
    metadata,
    names::WorkerName,
    trust::{Identity, Role, Trust},
    v1::{self, JoinRole, WorkerState, cluster_service_server::ClusterService},
};
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use super::{
    Desk,
    access::{DEFAULT_LIFETIME, lifetime},
    convert, name, page,
};
use crate::{
    app::App,
    audit::Change,
    catalog::Catalog,
    cluster::{Cluster, GatewayView, Held, HeldState, WorkerView},
    error::Error,
    model::Time,
    store::Store,
    tokens::{MAX_LIFETIME, Purpose},
};

#[tonic::async_trait]
impl ClusterService for Desk {
    async fn get_cluster(&self, _: Request<v1::GetClusterRequest>) -> Result<Response<v1::GetClusterResponse>, Status> {
        let app = self.app()?;
        let catalog = app.catalog.current();
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let cluster = app.board.cluster();
        let response = v1::GetClusterResponse {
            software_version: env!("CARGO_PKG_VERSION").to_owned(),
            namespace_count: count(catalog.namespaces.len()),
            function_count: count(catalog.functions.len()),
            gateways: cluster.gateways().values().map(gateway).collect(),
            workers: workers(&cluster, &catalog),
            wanted_workers: app.board.wanted_workers(),
            config_version: catalog.version,
            store: app.store.kind().to_owned(),
        };
        drop(cluster);
        Ok(Response::new(response))
    }

    async fn list_workers(
        &self,
        request: Request<v1::ListWorkersRequest>,
    ) -> Result<Response<v1::ListWorkersResponse>, Status> {
        let request = request.into_inner();
        let size = page::size(request.page_size)?;
        let after: String = page::read("workers", &request.page_token)?.unwrap_or_default();
        let app = self.app()?;
        let all = workers(&app.board.cluster(), &app.catalog.current());
        let rest = all.into_iter().filter(|worker| worker.name > after).take(size.saturating_add(1)).collect();
        let (workers, next_page_token) = page::cut("workers", rest, size, |worker: &v1::Worker| worker.name.clone());
        Ok(Response::new(v1::ListWorkersResponse { workers, next_page_token }))
    }

    async fn drain_worker(
        &self,
        request: Request<v1::DrainWorkerRequest>,
    ) -> Result<Response<v1::DrainWorkerResponse>, Status> {
        let store = self.store(&request)?;
        let request = request.into_inner();
        let target: WorkerName = name("name", &request.name)?;
        let worker = drain(&*self.app()?, &store, &target.worker, !request.resume).await?;
        Ok(Response::new(v1::DrainWorkerResponse { worker: Some(worker) }))
    }

    async fn create_join_token(
        &self,
        request: Request<v1::CreateJoinTokenRequest>,
    ) -> Result<Response<v1::CreateJoinTokenResponse>, Status> {
        let actor = metadata::actor(&request);
        let (token, exp, change) = join_token(self, &actor, request.get_ref())?;
        // Noted before anybody has it.
        self.store(&request)?.audit_append(change).await?;
        let expire_time = Some(prost_types::Timestamp { seconds: exp, nanos: 0 });
        Ok(Response::new(v1::CreateJoinTokenResponse { token, expire_time }))
    }
}

/// The error for a cluster in which nobody can join.
pub(super) fn no_certificates() -> ApiError {
    let error =
        ApiError::new(ErrorCode::FailedPrecondition, "this cluster's processes share a secret and need no tokens");
    error.hint("for a cluster of several machines, start the scheduler without --cluster-secret")
}

fn join_token(
    desk: &Desk,
    actor: &str,
    request: &v1::CreateJoinTokenRequest,
) -> Result<(String, i64, Change), ApiError> {
    if let Trust::Secret(_) = desk.trust {
        return Err(no_certificates());
    }
    let role = match request.role() {
        JoinRole::Gateway => Role::Gateway,
        JoinRole::Worker => Role::Worker,
        JoinRole::Unspecified => return Err(ApiError::invalid("role", "role must be gateway or worker")),
    };
    let id = Some(request.process_id.clone()).filter(|id| !id.is_empty());
    id.as_ref()
        .map(|id| Identity::new(role, id))
        .transpose()
        .map_err(|error| ApiError::invalid("process_id", error))?;
    let life = lifetime(request.lifetime, MAX_LIFETIME)?.unwrap_or(DEFAULT_LIFETIME);
    let purpose = Purpose::Join(role, id, desk.authority.fingerprint());
    let minted = desk.tokens.mint(actor, &purpose, life, Time::now()).map_err(|error| {
        tracing::error!(cause = format!("{error:#}"), "a join token can't be signed");
        ApiError::internal()
    })?;
    tracing::info!(actor, %role, process = request.process_id, lifetime = ?life, "a join token has been made");
    let change = Change::of_cluster("join_token.create", &"join_tokens").after(&(actor, &purpose, life));
    Ok((minted.0, minted.1, change))
}

async fn drain(app: &App, store: &Store, id: &WorkerId, drained: bool) -> Result<v1::Worker, Error> {
    let missing = || ApiError::not_found(format!("workers/{id}")).hint("dunlin worker list shows them");
    if !app.board.cluster().workers().contains_key(id) {
        return Err(missing().into());
    }
    // Remembered first, so that a restart does not take it back in.
    store.worker_set_drained(id, drained).await?;
    let mut cluster = app.board.cluster();
    cluster.set_drained(id, drained);
    let view = cluster.workers().get(id).map(|view| worker(&cluster, &app.catalog.current(), view, Instant::now()));
    drop(cluster);
    app.board.hint();
    tracing::info!(worker = %id, drained, "draining changed");
    Ok(view.ok_or_else(missing)?)
}

fn workers(cluster: &Cluster, catalog: &Catalog) -> Vec<v1::Worker> {
    let now = Instant::now();
    cluster.workers().values().map(|view| worker(cluster, catalog, view, now)).collect()
}

fn worker(cluster: &Cluster, catalog: &Catalog, view: &WorkerView, now: Instant) -> v1::Worker {
    let report = view.report.clone().unwrap_or_default();
    let state = match view {
        view if view.is_silent(now) => WorkerState::Lost,
        _ if report.leaving || cluster.is_drained(&view.hello.worker) => WorkerState::Draining,
        _ => WorkerState::Ready,
    };
    let first = view.hello.endpoints.first();
    let held = report.versions.iter().filter_map(|(key, held)| {
        let name = catalog.version(key)?.name().to_string();
        Some(held_version(name, held))
    });
    let sum = |of: fn(&Held) -> u32| report.versions.values().map(of).fold(0, u32::saturating_add);
    v1::Worker {
        name: WorkerName { worker: view.hello.worker.clone() }.to_string(),
        state: state.into(),
        address: first.map(|endpoint| endpoint.address.clone()).unwrap_or_default(),
        software_version: view.hello.software_version.clone(),
        engine: first.map(|endpoint| endpoint.fingerprint.clone()).unwrap_or_default(),
        capacity: view.capacity(),
        in_flight: sum(|held| held.in_flight),
        prepared: sum(|held| held.prepared),
        memory_bytes: report.memory_bytes,
        cpu_millis: report.cpu_millis,
        join_time: Some(convert::timestamp(view.join_time)),
        heard_time: Some(convert::timestamp(view.heard_time)),
        versions: held.collect(),
    }
}

fn held_version(version: String, held: &Held) -> v1::HeldVersion {
    let (state, error) = match &held.state {
        HeldState::Loading => ("loading", String::new()),
        HeldState::Ready => ("ready", String::new()),
        HeldState::Failed(error) => ("failed", error.clone()),
    };
    v1::HeldVersion { version, state: state.to_owned(), error, in_flight: held.in_flight, prepared: held.prepared }
}

fn gateway(view: &GatewayView) -> v1::Gateway {
    v1::Gateway {
        name: format!("gateways/{}", view.hello.gateway),
        software_version: view.hello.software_version.clone(),
        join_time: Some(convert::timestamp(view.join_time)),
        config_version: view.config_version,
    }
}
