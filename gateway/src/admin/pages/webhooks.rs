//! The webhook of a namespace and the last events that it was told, as the overview shows them.

use std::time::SystemTime;

use dunlin_proto::{ids::Namespace, names::WebhookName, v1};

use super::{format::When, view::Badge};
use crate::{
    admin::{
        app::App,
        model::{DeliveryState, WebhookDelivery, WebhookStatus},
    },
    auth::Principal,
};

/// Events that are shown.
const SHOWN: usize = 10;

/// A webhook.
#[derive(Debug)]
pub(super) struct WebhookView {
    pub(super) url: String,
    pub(super) state: Badge,
    pub(super) dropped: u64,
    /// Events that wait.
    pub(super) pending: u64,
    pub(super) events: Vec<EventRow>,
}

/// An event that it was told.
#[derive(Debug)]
pub(super) struct EventRow {
    pub(super) when: Option<When>,
    pub(super) what: String,
    pub(super) subject: String,
    pub(super) state: Badge,
    pub(super) tries: u32,
    pub(super) error: String,
}

/// The webhook of a namespace; nothing where it has none, and where it is not for this visitor to see.
pub(super) async fn webhook(app: &App, who: &Principal, namespace: &Namespace) -> Option<WebhookView> {
    let name = WebhookName { namespace: namespace.clone() }.to_string();
    let found = app.webhook_get(who, v1::GetWebhookRequest { name }).await.ok()?;
    Some(WebhookView::new(found.into(), SystemTime::now()))
}

impl WebhookView {
    fn new(status: WebhookStatus, now: SystemTime) -> Self {
        let WebhookStatus { webhook, deliveries, pending, .. } = status;
        Self {
            state: state(webhook.gone_time.is_some(), &deliveries),
            url: webhook.url,
            dropped: webhook.dropped,
            pending,
            events: deliveries.into_iter().take(SHOWN).map(|delivery| EventRow::new(delivery, now)).collect(),
        }
    }
}

/// Whether its receiver takes what it is told.
fn state(gone: bool, deliveries: &[WebhookDelivery]) -> Badge {
    let last = deliveries.iter().find(|delivery| delivery.tries > 0);
    match last {
        _ if gone => Badge::bad("the receiver is gone"),
        Some(last) if last.error.is_some() => Badge::warn("the last event was not taken"),
        Some(_) => Badge::ok("in use"),
        None => Badge::plain("nothing was sent yet"),
    }
}

impl EventRow {
    fn new(delivery: WebhookDelivery, now: SystemTime) -> Self {
        let state = match delivery.state {
            DeliveryState::Delivered => Badge::ok("delivered"),
            DeliveryState::Pending => Badge::warn("pending"),
            DeliveryState::GivenUp => Badge::bad("given up"),
        };
        Self {
            when: delivery.event_time.map(|time| When::new(time, now)),
            what: delivery.r#type,
            subject: bare(&delivery.subject).to_owned(),
            state,
            tries: delivery.tries,
            error: delivery.error.unwrap_or_default(),
        }
    }
}

/// A resource name without its namespace, which the page is about.
fn bare(subject: &str) -> &str {
    subject.splitn(3, '/').nth(2).unwrap_or(subject)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_told_without_the_namespace() {
        for (subject, shown) in [
            ("namespaces/shop/functions/pay", "functions/pay"),
            ("namespaces/shop/webhook", "webhook"),
            ("namespaces/shop", "namespaces/shop"),
        ] {
            assert_eq!(bare(subject), shown);
        }
    }

    #[test]
    fn a_webhook_is_as_well_as_its_last_event() {
        let event =
            |tries, error: &str| v1::WebhookDelivery { tries, error: error.to_owned(), ..Default::default() }.into();
        for (gone, events, class) in [
            (true, vec![event(1, "")], "bad"),
            (false, vec![event(0, ""), event(1, "no"), event(1, "")], "warn"),
            (false, vec![event(1, ""), event(1, "no")], "ok"),
            (false, vec![event(0, "")], "bare"),
        ] {
            assert_eq!(state(gone, &events).class, class, "{events:?}");
        }
    }
}
