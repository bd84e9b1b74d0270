//! Aliases over gRPC.

use dunlin_proto::v1::{self, alias_service_server::AliasService};
use tonic::{Request, Response, Status};

use super::Api;

#[tonic::async_trait]
impl AliasService for Api {
    async fn set_alias(&self, request: Request<v1::SetAliasRequest>) -> Result<Response<v1::SetAliasResponse>, Status> {
        self.unary(request, async |app, who, message| app.alias_set(&who, message).await).await
    }

    async fn list_aliases(
        &self,
        request: Request<v1::ListAliasesRequest>,
    ) -> Result<Response<v1::ListAliasesResponse>, Status> {
        self.unary(request, async |app, who, message| app.alias_list(&who, message).await).await
    }

    async fn promote_alias(
        &self,
        request: Request<v1::PromoteAliasRequest>,
    ) -> Result<Response<v1::PromoteAliasResponse>, Status> {
        self.unary(request, async |app, who, message| app.alias_promote(&who, message).await).await
    }

    async fn delete_alias(
        &self,
        request: Request<v1::DeleteAliasRequest>,
    ) -> Result<Response<v1::DeleteAliasResponse>, Status> {
        self.unary(request, async |app, who, message| app.alias_delete(&who, message).await).await
    }

    async fn start_rollout(
        &self,
        request: Request<v1::StartRolloutRequest>,
    ) -> Result<Response<v1::StartRolloutResponse>, Status> {
        self.unary(request, async |app, who, message| app.rollout_start(&who, message).await).await
    }

    async fn get_rollout(
        &self,
        request: Request<v1::GetRolloutRequest>,
    ) -> Result<Response<v1::GetRolloutResponse>, Status> {
        self.unary(request, async |app, who, message| app.rollout_get(&who, message).await).await
    }

    async fn stop_rollout(
        &self,
        request: Request<v1::StopRolloutRequest>,
    ) -> Result<Response<v1::StopRolloutResponse>, Status> {
        self.unary(request, async |app, who, message| app.rollout_stop(&who, message).await).await
    }
}
