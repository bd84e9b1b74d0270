//! The cluster, its workers, and who may join it.

use dunlin_process::metrics::Format;
use dunlin_proto::{ApiError, names::WorkerName, v1};

use super::{App, MAX_ANSWER_BYTES, ask, look, name, on_behalf};
use crate::{admin::access::Operation, auth::Principal};

impl App {
    fn cluster(&self) -> v1::cluster_service_client::ClusterServiceClient<crate::upstream::Secured> {
        self.context.scheduler.cluster().max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    pub(crate) async fn cluster_get(
        &self,
        who: &Principal,
        request: v1::GetClusterRequest,
    ) -> Result<v1::GetClusterResponse, ApiError> {
        Operation::GetCluster.allow(who)?;
        look(self.cluster().get_cluster(on_behalf(who, request))).await
    }

    /// What this gateway's process measures. It names every tenant's functions, as the cluster's state does.
    pub(crate) fn metrics_read(&self, who: &Principal, format: Format) -> Result<String, ApiError> {
        Operation::GetCluster.allow(who)?;
        Ok(self.context.metrics.render(format))
    }

    pub(crate) async fn worker_list(
        &self,
        who: &Principal,
        request: v1::ListWorkersRequest,
    ) -> Result<v1::ListWorkersResponse, ApiError> {
        Operation::ListWorkers.allow(who)?;
        super::page_size(request.page_size)?;
        look(self.cluster().list_workers(on_behalf(who, request))).await
    }

    /// One worker, found in the cluster's state.
    pub(crate) async fn worker_get(&self, who: &Principal, wanted: &str) -> Result<v1::Worker, ApiError> {
        Operation::ListWorkers.allow(who)?;
        let WorkerName { worker } = name("name", wanted)?;
        let cluster = look(self.cluster().get_cluster(on_behalf(who, v1::GetClusterRequest {}))).await?;
        let found = cluster.workers.into_iter().find(|found| found.name == wanted);
        found.ok_or_else(|| ApiError::not_found(WorkerName { worker }))
    }

    pub(crate) async fn worker_drain(
        &self,
        who: &Principal,
        request: v1::DrainWorkerRequest,
    ) -> Result<v1::DrainWorkerResponse, ApiError> {
        Operation::DrainWorker.allow(who)?;
        name::<WorkerName>("name", &request.name)?;
        ask(self.cluster().drain_worker(on_behalf(who, request))).await
    }

    pub(crate) async fn join_token_create(
        &self,
        who: &Principal,
        request: v1::CreateJoinTokenRequest,
    ) -> Result<v1::CreateJoinTokenResponse, ApiError> {
        Operation::CreateJoinToken.allow(who)?;
        ask(self.cluster().create_join_token(on_behalf(who, request))).await
    }
}
