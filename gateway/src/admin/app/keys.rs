//! Callers' keys.

use dunlin_proto::{
    ApiError,
    names::{KeyName, NamespaceRef},
    v1,
};

use super::{App, MAX_ANSWER_BYTES, ask, look, name, on_behalf, page_size};
use crate::{admin::access::Operation, auth::Principal};

impl App {
    fn keys(&self) -> v1::key_service_client::KeyServiceClient<crate::upstream::Secured> {
        self.context.scheduler.keys().max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    pub(crate) async fn key_create(
        &self,
        who: &Principal,
        request: v1::CreateKeyRequest,
    ) -> Result<v1::CreateKeyResponse, ApiError> {
        let NamespaceRef { namespace } = name("parent", &request.parent)?;
        Operation::CreateKey.allow_in(who, &namespace)?;
        ask(self.keys().create_key(on_behalf(who, request))).await
    }

    pub(crate) async fn key_list(
        &self,
        who: &Principal,
        request: v1::ListKeysRequest,
    ) -> Result<v1::ListKeysResponse, ApiError> {
        let NamespaceRef { namespace } = name("parent", &request.parent)?;
        Operation::ListKeys.allow_in(who, &namespace)?;
        page_size(request.page_size)?;
        look(self.keys().list_keys(on_behalf(who, request))).await
    }

    pub(crate) async fn key_revoke(
        &self,
        who: &Principal,
        request: v1::RevokeKeyRequest,
    ) -> Result<v1::RevokeKeyResponse, ApiError> {
        let KeyName { namespace, .. } = name("name", &request.name)?;
        Operation::RevokeKey.allow_in(who, &namespace)?;
        ask(self.keys().revoke_key(on_behalf(who, request))).await
    }

    pub(crate) async fn key_update(
        &self,
        who: &Principal,
        request: v1::UpdateKeyRequest,
    ) -> Result<v1::UpdateKeyResponse, ApiError> {
        let KeyName { namespace, .. } = name("name", &request.name)?;
        Operation::UpdateKey.allow_in(who, &namespace)?;
        ask(self.keys().update_key(on_behalf(who, request))).await
    }

    pub(crate) async fn key_rotate(
        &self,
        who: &Principal,
        request: v1::RotateKeyRequest,
    ) -> Result<v1::RotateKeyResponse, ApiError> {
        let KeyName { namespace, .. } = name("name", &request.name)?;
        Operation::RotateKey.allow_in(who, &namespace)?;
        ask(self.keys().rotate_key(on_behalf(who, request))).await
    }

    pub(crate) async fn key_usage(
        &self,
        who: &Principal,
        request: v1::GetKeyUsageRequest,
    ) -> Result<v1::GetKeyUsageResponse, ApiError> {
        let KeyName { namespace, .. } = name("name", &request.name)?;
        Operation::GetKeyUsage.allow_in(who, &namespace)?;
        look(self.keys().get_key_usage(on_behalf(who, request))).await
    }
}
