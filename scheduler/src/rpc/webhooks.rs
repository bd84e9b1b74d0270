//! The methods of `NamespaceService` that are about webhooks.

use dunlin_proto::{
    ids::Namespace,
    metadata,
    names::WebhookName,
    v1::{self, DeliveryState as Wire},
};
use tonic::{Request, Response, Status};

use super::{Desk, convert::timestamp, name};
use crate::model::{DeliveryRecord, DeliveryState, WebhookRecord, WebhookStatus};

/// Events that are shown.
const SHOWN: i64 = 50;

fn named(text: &str) -> Result<Namespace, Status> {
    let WebhookName { namespace } = name("name", text)?;
    Ok(namespace)
}

impl Desk {
    pub(super) async fn webhook_set(
        &self,
        request: Request<v1::SetWebhookRequest>,
    ) -> Result<Response<v1::SetWebhookResponse>, Status> {
        let (actor, store) = (metadata::actor(&request), self.store(&request)?);
        let v1::SetWebhookRequest { name, url } = request.into_inner();
        let namespace = named(&name)?;
        let app = self.app()?;
        let (webhook, secret) = app.webhooks.set(&store, &namespace, &url).await?;
        app.budgets.webhook_set(&namespace).await;
        tracing::info!(%namespace, actor, "a webhook has been set");
        let secret = secret.map(|secret| secret.text()).unwrap_or_default();
        Ok(Response::new(v1::SetWebhookResponse { webhook: Some(to_wire(webhook)), secret }))
    }

    pub(super) async fn webhook_get(
        &self,
        request: Request<v1::GetWebhookRequest>,
    ) -> Result<Response<v1::GetWebhookResponse>, Status> {
        let namespace = named(&request.get_ref().name)?;
        let WebhookStatus { webhook, deliveries, pending, last_failure } =
            self.app()?.store.webhook_fetch(&namespace, SHOWN).await?;
        Ok(Response::new(v1::GetWebhookResponse {
            webhook: Some(to_wire(webhook)),
            deliveries: deliveries.into_iter().map(delivery).collect(),
            pending,
            last_failure: last_failure.map(delivery),
        }))
    }

    pub(super) async fn webhook_rotate(
        &self,
        request: Request<v1::RotateWebhookSecretRequest>,
    ) -> Result<Response<v1::RotateWebhookSecretResponse>, Status> {
        let (actor, store) = (metadata::actor(&request), self.store(&request)?);
        let namespace = named(&request.get_ref().name)?;
        let (webhook, secret) = self.app()?.webhooks.rotate(&store, &namespace).await?;
        tracing::info!(%namespace, actor, "a webhook has another secret");
        let (webhook, secret) = (Some(to_wire(webhook)), secret.text());
        Ok(Response::new(v1::RotateWebhookSecretResponse { webhook, secret }))
    }

    pub(super) async fn webhook_test(
        &self,
        request: Request<v1::TestWebhookRequest>,
    ) -> Result<Response<v1::TestWebhookResponse>, Status> {
        let store = self.store(&request)?;
        let id = store.webhook_test(&named(&request.get_ref().name)?).await?;
        Ok(Response::new(v1::TestWebhookResponse { id }))
    }

    pub(super) async fn webhook_delete(
        &self,
        request: Request<v1::DeleteWebhookRequest>,
    ) -> Result<Response<v1::DeleteWebhookResponse>, Status> {
        let (actor, store) = (metadata::actor(&request), self.store(&request)?);
        let namespace = named(&request.get_ref().name)?;
        store.webhook_delete(&namespace).await?;
        tracing::info!(%namespace, actor, "a webhook has been deleted");
        Ok(Response::new(v1::DeleteWebhookResponse {}))
    }
}

fn to_wire(webhook: WebhookRecord) -> v1::Webhook {
    v1::Webhook {
        name: WebhookName { namespace: webhook.namespace }.to_string(),
        url: webhook.url,
        creator: webhook.creator,
        create_time: Some(timestamp(webhook.create_time)),
        update_time: Some(timestamp(webhook.update_time)),
        gone_time: webhook.gone.map(timestamp),
        dropped: webhook.dropped,
    }
}

fn delivery(delivery: DeliveryRecord) -> v1::WebhookDelivery {
    let state = match delivery.state {
        DeliveryState::Pending => Wire::Pending,
        DeliveryState::Delivered => Wire::Delivered,
        DeliveryState::GivenUp => Wire::GivenUp,
    };
    v1::WebhookDelivery {
        id: delivery.id,
        r#type: delivery.kind,
        subject: delivery.subject,
        event_time: Some(timestamp(delivery.event_time)),
        state: state.into(),
        tries: delivery.tries,
        last_time: delivery.last.map(timestamp),
        next_time: (delivery.state == DeliveryState::Pending).then(|| timestamp(delivery.next)),
        status: delivery.status.into(),
        error: delivery.error,
    }
}
