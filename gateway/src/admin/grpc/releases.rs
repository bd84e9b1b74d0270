//! Releases over gRPC.

use dunlin_proto::v1::{self, release_service_server::ReleaseService};
use tonic::{Request, Response, Status};

use super::Api;

#[tonic::async_trait]
impl ReleaseService for Api {
    async fn list_releases(
        &self,
        request: Request<v1::ListReleasesRequest>,
    ) -> Result<Response<v1::ListReleasesResponse>, Status> {
        self.unary(request, async |app, who, message| app.release_list(&who, message).await).await
    }

    async fn get_release(
        &self,
        request: Request<v1::GetReleaseRequest>,
    ) -> Result<Response<v1::GetReleaseResponse>, Status> {
        self.unary(request, async |app, who, message| app.release_get(&who, message).await).await
    }

    async fn diff_releases(
        &self,
        request: Request<v1::DiffReleasesRequest>,
    ) -> Result<Response<v1::DiffReleasesResponse>, Status> {
        self.unary(request, async |app, who, message| app.release_diff(&who, message).await).await
    }

    async fn rollback_release(
        &self,
        request: Request<v1::RollbackReleaseRequest>,
    ) -> Result<Response<v1::RollbackReleaseResponse>, Status> {
        self.unary(request, async |app, who, message| app.release_rollback(&who, message).await).await
    }

    async fn activate_app(
        &self,
        request: Request<v1::ActivateAppRequest>,
    ) -> Result<Response<v1::ActivateAppResponse>, Status> {
        self.unary(request, async |app, who, message| app.app_activate(&who, message).await).await
    }

    async fn list_apps(&self, request: Request<v1::ListAppsRequest>) -> Result<Response<v1::ListAppsResponse>, Status> {
        self.unary(request, async |app, who, message| app.app_list(&who, message).await).await
    }

    async fn get_app(&self, request: Request<v1::GetAppRequest>) -> Result<Response<v1::GetAppResponse>, Status> {
        self.unary(request, async |app, who, message| app.app_get(&who, message).await).await
    }
}
