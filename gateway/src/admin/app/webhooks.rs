//! Webhooks of namespaces.

use dunlin_proto::{ApiError, ids::Namespace, names::WebhookName, v1};

use super::{App, ask, look, name, on_behalf};
use crate::{
    admin::access::Operation,
    auth::{Principal, Role},
};

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
        look(self.context.scheduler.namespaces().get_webhook(on_behalf(who, request))).await
    }

    /// How the webhook of a namespace does, for whoever may see that namespace: without its URL, and for those who may not see that
    /// also without errors in which its host may be.
    pub(super) async fn webhook_health(
        &self,
        who: &Principal,
        namespace: &Namespace,
    ) -> Result<v1::WebhookHealth, ApiError> {
        let name = WebhookName { namespace: namespace.clone() }.to_string();
        let request = v1::GetWebhookRequest { name };
        let found = look(self.context.scheduler.namespaces().get_webhook(on_behalf(who, request))).await?;
        let v1::GetWebhookResponse { webhook, pending, last_failure, .. } = found;
        let v1::Webhook { gone_time, dropped, .. } = webhook.unwrap_or_default();
        let sees = who.role_in(namespace).is_some_and(|role| role >= Role::Developer);
        let last_failure = last_failure.map(|failed| if sees { failed } else { outlined(failed) });
        Ok(v1::WebhookHealth { pending, last_failure, gone_time, dropped })
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

/// A failure with no more of its reason than the status.
fn outlined(failed: v1::WebhookDelivery) -> v1::WebhookDelivery {
    let error = match failed.status {
        0 => "the receiver could not be reached".to_owned(),
        status => format!("the receiver answered {status}"),
    };
    v1::WebhookDelivery { error, ..failed }
}
