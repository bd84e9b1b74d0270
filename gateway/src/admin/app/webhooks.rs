//! Webhooks of namespaces.

use dunlin_proto::{ApiError, names::WebhookName, v1};

use super::{App, ask, name, on_behalf};
use crate::{admin::access::Operation, auth::Principal};

impl App {
    pub(crate) async fn webhook_set(
        &self,
        who: &Principal,
        request: v1::SetWebhookRequest,
    ) -> Result<v1::SetWebhookResponse, ApiError> {
        let WebhookName { namespace } = name("name", &request.name)?;
        Operation::SetWebhook.allow_in(who, &namespace)?;
        ask(self.context.scheduler.namespaces().set_webhook(on_behalf(who, request))).await
    }

    pub(crate) async fn webhook_get(
        &self,
        who: &Principal,
        request: v1::GetWebhookRequest,
    ) -> Result<v1::GetWebhookResponse, ApiError> {
        let WebhookName { namespace } = name("name", &request.name)?;
        Operation::GetWebhook.allow_in(who, &namespace)?;
        ask(self.context.scheduler.namespaces().get_webhook(on_behalf(who, request))).await
    }

    pub(crate) async fn webhook_rotate(
        &self,
        who: &Principal,
        request: v1::RotateWebhookSecretRequest,
    ) -> Result<v1::RotateWebhookSecretResponse, ApiError> {
        let WebhookName { namespace } = name("name", &request.name)?;
        Operation::RotateWebhookSecret.allow_in(who, &namespace)?;
        ask(self.context.scheduler.namespaces().rotate_webhook_secret(on_behalf(who, request))).await
    }

    pub(crate) async fn webhook_test(
        &self,
        who: &Principal,
        request: v1::TestWebhookRequest,
    ) -> Result<v1::TestWebhookResponse, ApiError> {
        let WebhookName { namespace } = name("name", &request.name)?;
        Operation::TestWebhook.allow_in(who, &namespace)?;
        ask(self.context.scheduler.namespaces().test_webhook(on_behalf(who, request))).await
    }

    pub(crate) async fn webhook_delete(
        &self,
        who: &Principal,
        request: v1::DeleteWebhookRequest,
    ) -> Result<v1::DeleteWebhookResponse, ApiError> {
        let WebhookName { namespace } = name("name", &request.name)?;
        Operation::DeleteWebhook.allow_in(who, &namespace)?;
        ask(self.context.scheduler.namespaces().delete_webhook(on_behalf(who, request))).await
    }
}
