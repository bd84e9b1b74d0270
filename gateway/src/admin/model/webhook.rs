//! Webhooks and what they have sent, as administration shows them.

use dunlin_proto::v1;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Time, id_in};

/// What has become of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DeliveryState {
    /// It waits for its first or next attempt.
    Pending,
    /// The receiver has taken it.
    Delivered,
    /// It was tried for 24 hours, or the receiver is gone.
    GivenUp,
}

/// An event on its way to the webhook.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct WebhookDelivery {
    /// The id of the event, `webhook-id`.
    pub(crate) id: String,
    /// Such as `dev.dunlin.rollback`.
    pub(crate) r#type: String,
    /// What it is about, such as `namespaces/shop/functions/pay`.
    pub(crate) subject: String,
    /// When it happened.
    pub(crate) event_time: Option<Time>,
    /// What has become of it.
    pub(crate) state: DeliveryState,
    /// How often it was sent.
    pub(crate) tries: u32,
    /// When it was sent last; null before the first attempt.
    pub(crate) last_time: Option<Time>,
    /// When it is sent next; null once it is over.
    pub(crate) next_time: Option<Time>,
    /// With which status the receiver answered last; null where it did not answer.
    pub(crate) status: Option<u32>,
    /// Why the last attempt failed; null where it did not.
    pub(crate) error: Option<String>,
}

impl From<v1::WebhookDelivery> for WebhookDelivery {
    fn from(wire: v1::WebhookDelivery) -> Self {
        let state = match wire.state() {
            v1::DeliveryState::Delivered => DeliveryState::Delivered,
            v1::DeliveryState::GivenUp => DeliveryState::GivenUp,
            v1::DeliveryState::Pending | v1::DeliveryState::Unspecified => DeliveryState::Pending,
        };
        Self {
            id: wire.id,
            r#type: wire.r#type,
            subject: wire.subject,
            event_time: wire.event_time.map(Time::from),
            state,
            tries: wire.tries,
            last_time: wire.last_time.map(Time::from),
            next_time: wire.next_time.map(Time::from),
            status: Some(wire.status).filter(|status| *status > 0),
            error: Some(wire.error).filter(|error| !error.is_empty()),
        }
    }
}

/// Where events of a namespace are posted, as CloudEvents that are signed by the Standard Webhooks specification.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Webhook {
    /// `namespaces/{namespace}/webhook`.
    pub(crate) name: String,
    /// The namespace's bare name.
    pub(crate) namespace: String,
    /// Where events are posted.
    pub(crate) url: String,
    /// The subject of the token that set it up.
    pub(crate) creator: String,
    /// When it was set up.
    pub(crate) create_time: Option<Time>,
    /// When its URL or secret last changed.
    pub(crate) update_time: Option<Time>,
    /// When its receiver answered 410: nothing is sent until it is set again. Null while it is in use.
    pub(crate) gone_time: Option<Time>,
    /// Events that were not kept because too many waited already.
    pub(crate) dropped: u64,
}

impl From<v1::Webhook> for Webhook {
    fn from(wire: v1::Webhook) -> Self {
        Self {
            namespace: id_in(&wire.name, "namespaces").to_owned(),
            name: wire.name,
            url: wire.url,
            creator: wire.creator,
            create_time: wire.create_time.map(Time::from),
            update_time: wire.update_time.map(Time::from),
            gone_time: wire.gone_time.map(Time::from),
            dropped: wire.dropped,
        }
    }
}

/// A webhook and the last events that it was told.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct WebhookStatus {
    /// The webhook.
    pub(crate) webhook: Webhook,
    /// The last 50 events, the newest first.
    pub(crate) deliveries: Vec<WebhookDelivery>,
    /// Events that wait for their first or next attempt.
    pub(crate) pending: u64,
    /// The event whose last attempt failed last, since the webhook was set or got its secret; null where all were taken.
    pub(crate) last_failure: Option<WebhookDelivery>,
}

impl From<v1::GetWebhookResponse> for WebhookStatus {
    fn from(wire: v1::GetWebhookResponse) -> Self {
        let deliveries = wire.deliveries.into_iter().map(WebhookDelivery::from).collect();
        Self {
            webhook: wire.webhook.unwrap_or_default().into(),
            deliveries,
            pending: wire.pending,
            last_failure: wire.last_failure.map(WebhookDelivery::from),
        }
    }
}

/// How a webhook does, for whoever may not see its URL.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct WebhookHealth {
    /// Events that wait for their first or next attempt.
    pub(crate) pending: u64,
    /// The event whose last attempt failed last, since the webhook was set or got its secret; null where all were taken. Its error is
    /// told in full only to whoever may see the webhook.
    pub(crate) last_failure: Option<WebhookDelivery>,
    /// When its receiver answered 410: nothing is sent until it is set again. Null while it is in use.
    pub(crate) gone_time: Option<Time>,
    /// Events that were not kept because too many waited already.
    pub(crate) dropped: u64,
}

impl From<v1::WebhookHealth> for WebhookHealth {
    fn from(wire: v1::WebhookHealth) -> Self {
        let v1::WebhookHealth { pending, last_failure, gone_time, dropped } = wire;
        let last_failure = last_failure.map(WebhookDelivery::from);
        Self { pending, last_failure, gone_time: gone_time.map(Time::from), dropped }
    }
}

/// A webhook, and its secret where that is new.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ChangedWebhook {
    /// The webhook.
    pub(crate) webhook: Webhook,
    /// With what it signs, `whsec_...`: in this answer and nowhere else. Null where it keeps the one that it has.
    pub(crate) secret: Option<String>,
}

impl ChangedWebhook {
    /// The webhook of an answer.
    pub(crate) fn new(webhook: Option<v1::Webhook>, secret: String) -> Self {
        Self { webhook: webhook.unwrap_or_default().into(), secret: Some(secret).filter(|secret| !secret.is_empty()) }
    }
}

/// A test event that is on its way.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct TestedWebhook {
    /// The id of its delivery.
    pub(crate) id: String,
}
