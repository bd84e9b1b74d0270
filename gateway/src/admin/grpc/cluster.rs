//! The cluster over gRPC.

use dunlin_proto::v1::{self, cluster_service_server::ClusterService};
use tonic::{Request, Response, Status};

use super::Api;

#[tonic::async_trait]
impl ClusterService for Api {
    async fn get_cluster(
        &self,
        request: Request<v1::GetClusterRequest>,
    ) -> Result<Response<v1::GetClusterResponse>, Status> {
        self.unary(request, async |app, who, message| app.cluster_get(&who, message).await).await
    }

    async fn list_workers(
        &self,
        request: Request<v1::ListWorkersRequest>,
    ) -> Result<Response<v1::ListWorkersResponse>, Status> {
        self.unary(request, async |app, who, message| app.worker_list(&who, message).await).await
    }

    async fn drain_worker(
        &self,
        request: Request<v1::DrainWorkerRequest>,
    ) -> Result<Response<v1::DrainWorkerResponse>, Status> {
        self.unary(request, async |app, who, message| app.worker_drain(&who, message).await).await
    }

    async fn create_join_token(
        &self,
        request: Request<v1::CreateJoinTokenRequest>,
    ) -> Result<Response<v1::CreateJoinTokenResponse>, Status> {
        self.unary(request, async |app, who, message| app.join_token_create(&who, message).await).await
    }
}
