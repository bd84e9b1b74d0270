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
}
