//! Tokens and keys over gRPC.

use dunlin_proto::v1::{self, key_service_server::KeyService, token_service_server::TokenService};
use tonic::{Request, Response, Status};

use super::Api;

#[tonic::async_trait]
impl KeyService for Api {
    async fn create_key(
        &self,
        request: Request<v1::CreateKeyRequest>,
    ) -> Result<Response<v1::CreateKeyResponse>, Status> {
        self.unary(request, async |app, who, message| app.key_create(&who, message).await).await
    }

    async fn list_keys(&self, request: Request<v1::ListKeysRequest>) -> Result<Response<v1::ListKeysResponse>, Status> {
        self.unary(request, async |app, who, message| app.key_list(&who, message).await).await
    }

    async fn revoke_key(
        &self,
        request: Request<v1::RevokeKeyRequest>,
    ) -> Result<Response<v1::RevokeKeyResponse>, Status> {
        self.unary(request, async |app, who, message| app.key_revoke(&who, message).await).await
    }

    async fn update_key(
        &self,
        request: Request<v1::UpdateKeyRequest>,
    ) -> Result<Response<v1::UpdateKeyResponse>, Status> {
        self.unary(request, async |app, who, message| app.key_update(&who, message).await).await
    }

    async fn rotate_key(
        &self,
        request: Request<v1::RotateKeyRequest>,
    ) -> Result<Response<v1::RotateKeyResponse>, Status> {
        self.unary(request, async |app, who, message| app.key_rotate(&who, message).await).await
    }

    async fn get_key_usage(
        &self,
        request: Request<v1::GetKeyUsageRequest>,
    ) -> Result<Response<v1::GetKeyUsageResponse>, Status> {
        self.unary(request, async |app, who, message| app.key_usage(&who, message).await).await
    }
}

#[tonic::async_trait]
impl TokenService for Api {
    async fn create_token(
        &self,
        request: Request<v1::CreateTokenRequest>,
    ) -> Result<Response<v1::CreateTokenResponse>, Status> {
        self.unary(request, async |app, who, message| app.token_create(&who, message).await).await
    }

    async fn get_identity(
        &self,
        request: Request<v1::GetIdentityRequest>,
    ) -> Result<Response<v1::GetIdentityResponse>, Status> {
        self.unary(request, async |app, who, _| app.identity_get(&who)).await
    }
}
