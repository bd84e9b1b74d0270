//! Functions and versions over gRPC: two of the methods are streams that pass through.

use dunlin_proto::{
    ApiError,
    v1::{self, function_service_server::FunctionService},
};
use futures::{StreamExt, stream::BoxStream};
use tonic::{Request, Response, Status, Streaming};

use super::Api;

#[tonic::async_trait]
impl FunctionService for Api {
    type CreateVersionStream = BoxStream<'static, Result<v1::CreateVersionResponse, Status>>;

    async fn upload_artifact(
        &self,
        request: Request<Streaming<v1::UploadArtifactRequest>>,
    ) -> Result<Response<v1::UploadArtifactResponse>, Status> {
        self.unary(request, async |app, who, messages| {
            app.artifact_upload(&who, messages.map(|message| message.map_err(ApiError::from))).await
        })
        .await
    }

    async fn create_version(
        &self,
        request: Request<v1::CreateVersionRequest>,
    ) -> Result<Response<Self::CreateVersionStream>, Status> {
        self.unary(request, async |app, who, message| {
            let events = app.version_create(&who, message).await?;
            Ok(events.map(|event| event.map_err(Status::from)).boxed())
        })
        .await
    }

    async fn list_functions(
        &self,
        request: Request<v1::ListFunctionsRequest>,
    ) -> Result<Response<v1::ListFunctionsResponse>, Status> {
        self.unary(request, async |app, who, message| app.function_list(&who, message).await).await
    }

    async fn get_function(
        &self,
        request: Request<v1::GetFunctionRequest>,
    ) -> Result<Response<v1::GetFunctionResponse>, Status> {
        self.unary(request, async |app, who, message| app.function_get(&who, message).await).await
    }

    async fn update_function(
        &self,
        request: Request<v1::UpdateFunctionRequest>,
    ) -> Result<Response<v1::UpdateFunctionResponse>, Status> {
        self.unary(request, async |app, who, message| app.function_update(&who, message).await).await
    }

    async fn delete_function(
        &self,
        request: Request<v1::DeleteFunctionRequest>,
    ) -> Result<Response<v1::DeleteFunctionResponse>, Status> {
        self.unary(request, async |app, who, message| app.function_delete(&who, message).await).await
    }

    async fn rollback_function(
        &self,
        request: Request<v1::RollbackFunctionRequest>,
    ) -> Result<Response<v1::RollbackFunctionResponse>, Status> {
        self.unary(request, async |app, who, message| app.function_rollback(&who, message).await).await
    }

    async fn get_version(
        &self,
        request: Request<v1::GetVersionRequest>,
    ) -> Result<Response<v1::GetVersionResponse>, Status> {
        self.unary(request, async |app, who, message| app.version_get(&who, message).await).await
    }

    async fn list_versions(
        &self,
        request: Request<v1::ListVersionsRequest>,
    ) -> Result<Response<v1::ListVersionsResponse>, Status> {
        self.unary(request, async |app, who, message| app.version_list(&who, message).await).await
    }
}
