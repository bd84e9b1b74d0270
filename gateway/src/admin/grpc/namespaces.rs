//! Namespaces over gRPC.

use dunlin_proto::v1::{self, namespace_service_server::NamespaceService};
use tonic::{Request, Response, Status};

use super::Api;

#[tonic::async_trait]
impl NamespaceService for Api {
    async fn create_namespace(
        &self,
        request: Request<v1::CreateNamespaceRequest>,
    ) -> Result<Response<v1::CreateNamespaceResponse>, Status> {
        self.unary(request, async |app, who, message| app.namespace_create(&who, message).await).await
    }

    async fn get_namespace(
        &self,
        request: Request<v1::GetNamespaceRequest>,
    ) -> Result<Response<v1::GetNamespaceResponse>, Status> {
        self.unary(request, async |app, who, message| app.namespace_get(&who, message).await).await
    }

    async fn list_namespaces(
        &self,
        request: Request<v1::ListNamespacesRequest>,
    ) -> Result<Response<v1::ListNamespacesResponse>, Status> {
        self.unary(request, async |app, who, message| app.namespace_list(&who, message).await).await
    }

    async fn update_namespace(
        &self,
        request: Request<v1::UpdateNamespaceRequest>,
    ) -> Result<Response<v1::UpdateNamespaceResponse>, Status> {
        self.unary(request, async |app, who, message| app.namespace_update(&who, message).await).await
    }

    async fn delete_namespace(
        &self,
        request: Request<v1::DeleteNamespaceRequest>,
    ) -> Result<Response<v1::DeleteNamespaceResponse>, Status> {
        self.unary(request, async |app, who, message| app.namespace_delete(&who, message).await).await
    }

    async fn set_webhook(
        &self,
        request: Request<v1::SetWebhookRequest>,
    ) -> Result<Response<v1::SetWebhookResponse>, Status> {
        self.unary(request, async |app, who, message| app.webhook_set(&who, message).await).await
    }

    async fn get_webhook(
        &self,
        request: Request<v1::GetWebhookRequest>,
    ) -> Result<Response<v1::GetWebhookResponse>, Status> {
        self.unary(request, async |app, who, message| app.webhook_get(&who, message).await).await
    }

    async fn rotate_webhook_secret(
        &self,
        request: Request<v1::RotateWebhookSecretRequest>,
    ) -> Result<Response<v1::RotateWebhookSecretResponse>, Status> {
        self.unary(request, async |app, who, message| app.webhook_rotate(&who, message).await).await
    }

    async fn test_webhook(
        &self,
        request: Request<v1::TestWebhookRequest>,
    ) -> Result<Response<v1::TestWebhookResponse>, Status> {
        self.unary(request, async |app, who, message| app.webhook_test(&who, message).await).await
    }

    async fn delete_webhook(
        &self,
        request: Request<v1::DeleteWebhookRequest>,
    ) -> Result<Response<v1::DeleteWebhookResponse>, Status> {
        self.unary(request, async |app, who, message| app.webhook_delete(&who, message).await).await
    }
}
