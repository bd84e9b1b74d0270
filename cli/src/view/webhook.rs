//! Webhooks and what they have sent, as shown.

use dunlin_proto::v1;
use serde::Serialize;

use super::{Time, age, or_dash, part};
use crate::{
    output::{Column, pairs, table},
    units::ago,
};

/// Where events of a namespace are posted.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct WebhookView {
    pub(crate) resource: String,
    pub(crate) namespace: String,
    pub(crate) url: String,
    pub(crate) creator: String,
    pub(crate) create_time: Option<Time>,
    pub(crate) update_time: Option<Time>,
    pub(crate) gone_time: Option<Time>,
    pub(crate) dropped: u64,
}

impl From<v1::Webhook> for WebhookView {
    fn from(wire: v1::Webhook) -> Self {
        Self {
            namespace: part(&wire.name, "namespaces"),
            resource: wire.name,
            url: wire.url,
            creator: wire.creator,
            create_time: Time::from_wire(wire.create_time),
            update_time: Time::from_wire(wire.update_time),
            gone_time: Time::from_wire(wire.gone_time),
            dropped: wire.dropped,
        }
    }
}

/// An event on its way.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct DeliveryView {
    pub(crate) id: String,
    pub(crate) r#type: String,
    pub(crate) subject: String,
    pub(crate) event_time: Option<Time>,
    pub(crate) state: &'static str,
    pub(crate) tries: u32,
    pub(crate) last_time: Option<Time>,
    pub(crate) next_time: Option<Time>,
    pub(crate) status: Option<u32>,
    pub(crate) error: Option<String>,
}

impl From<v1::WebhookDelivery> for DeliveryView {
    fn from(wire: v1::WebhookDelivery) -> Self {
        let state = match wire.state() {
            v1::DeliveryState::Delivered => "delivered",
            v1::DeliveryState::GivenUp => "given_up",
            v1::DeliveryState::Pending | v1::DeliveryState::Unspecified => "pending",
        };
        Self {
            id: wire.id,
            r#type: wire.r#type,
            subject: wire.subject,
            event_time: Time::from_wire(wire.event_time),
            state,
            tries: wire.tries,
            last_time: Time::from_wire(wire.last_time),
            next_time: Time::from_wire(wire.next_time),
            status: Some(wire.status).filter(|status| *status > 0),
            error: Some(wire.error).filter(|error| !error.is_empty()),
        }
    }
}

impl DeliveryView {
    /// Its last attempt, which failed.
    fn failure(&self) -> String {
        let error = self.error.as_deref().unwrap_or_default();
        let given_up = if self.state == "given_up" { "; it is given up" } else { "" };
        format!("{} {}: {error}{given_up}", self.r#type, ago(&age(self.last_time)))
    }
}

/// `3 events`.
fn waiting(pending: u64) -> String {
    format!("{pending} event{}", if pending == 1 { "" } else { "s" })
}

/// How a webhook does.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct WebhookHealthView {
    pub(crate) pending: u64,
    pub(crate) last_failure: Option<DeliveryView>,
    pub(crate) gone_time: Option<Time>,
    pub(crate) dropped: u64,
}

impl From<v1::WebhookHealth> for WebhookHealthView {
    fn from(wire: v1::WebhookHealth) -> Self {
        let v1::WebhookHealth { pending, last_failure, gone_time, dropped } = wire;
        let last_failure = last_failure.map(DeliveryView::from);
        Self { pending, last_failure, gone_time: Time::from_wire(gone_time), dropped }
    }
}

impl WebhookHealthView {
    /// In a line.
    pub(crate) fn text(&self) -> String {
        if let Some(gone) = self.gone_time {
            return format!("its receiver is gone since {}", gone.text());
        }
        let waits = if self.pending == 0 {
            "set, no event waits".to_owned()
        } else {
            format!("set, {} waiting", waiting(self.pending))
        };
        match &self.last_failure {
            Some(failed) => format!("{waits}; failed last: {}", failed.failure()),
            None => waits,
        }
    }
}

const DELIVERIES: &[Column<DeliveryView>] = &[
    Column::new("AGE", |delivery| age(delivery.event_time)),
    Column::new("TYPE", |delivery| delivery.r#type.clone()),
    Column::new("SUBJECT", |delivery| delivery.subject.clone()),
    Column::new("STATE", |delivery| delivery.state.replace('_', " ")),
    Column::new("TRIES", |delivery| delivery.tries.to_string()),
    Column::new("NEXT TRY", |delivery| delivery.next_time.map_or_else(|| "-".to_owned(), Time::text)),
    Column::new("LAST ERROR", |delivery| or_dash(delivery.error.as_deref().unwrap_or_default())),
    Column::wide("STATUS", |delivery| delivery.status.map_or_else(|| "-".to_owned(), |status| status.to_string())),
    Column::wide("ID", |delivery| delivery.id.clone()),
];

/// A webhook and the last events that it was told.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct WebhookStatusView {
    pub(crate) webhook: WebhookView,
    pub(crate) deliveries: Vec<DeliveryView>,
    pub(crate) pending: u64,
    pub(crate) last_failure: Option<DeliveryView>,
}

impl From<v1::GetWebhookResponse> for WebhookStatusView {
    fn from(wire: v1::GetWebhookResponse) -> Self {
        let deliveries = wire.deliveries.into_iter().map(DeliveryView::from).collect();
        Self {
            webhook: wire.webhook.unwrap_or_default().into(),
            deliveries,
            pending: wire.pending,
            last_failure: wire.last_failure.map(DeliveryView::from),
        }
    }
}

impl WebhookStatusView {
    /// For people.
    pub(crate) fn text(&self, wide: bool) -> String {
        let WebhookView { url, creator, create_time, gone_time, dropped, .. } = &self.webhook;
        let mut head =
            vec![("url", url.clone()), ("set up", format!("{} by {}", ago(&age(*create_time)), or_dash(creator)))];
        if let Some(gone) = gone_time {
            head.push((
                "gone",
                format!("its receiver answered 410 at {}: nothing is sent until it is set again", gone.text()),
            ));
        }
        if self.pending > 0 {
            head.push(("waiting", waiting(self.pending)));
        }
        if let Some(failed) = &self.last_failure {
            head.push(("failed last", failed.failure()));
        }
        if *dropped > 0 {
            head.push(("dropped", format!("{dropped} events, since too many waited")));
        }
        let events = match self.deliveries.is_empty() {
            true => "no events yet; send one with: dunlin webhook test\n".to_owned(),
            false => table(&self.deliveries, DELIVERIES, wide),
        };
        format!("{}\n{events}", pairs(&head))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_and_what_failed_last_is_said_in_a_line() {
        let failed = |state: v1::DeliveryState| v1::WebhookDelivery {
            r#type: "dev.dunlin.test".into(),
            state: state.into(),
            error: "the receiver answered 500".into(),
            ..Default::default()
        };
        let health = |pending, last_failure| v1::WebhookHealth { pending, last_failure, ..Default::default() };
        let (pending, given_up) = (v1::DeliveryState::Pending, v1::DeliveryState::GivenUp);
        let gone_time = Some(prost_types::Timestamp { seconds: 60, nanos: 0 });
        let of = "failed last: dev.dunlin.test - ago: the receiver answered 500";
        for (health, text) in [
            (health(0, None), "set, no event waits".to_owned()),
            (health(1, Some(failed(pending))), format!("set, 1 event waiting; {of}")),
            (health(2, Some(failed(given_up))), format!("set, 2 events waiting; {of}; it is given up")),
            (
                v1::WebhookHealth { gone_time, ..health(0, None) },
                "its receiver is gone since 1970-01-01T00:01:00.000Z".to_owned(),
            ),
        ] {
            assert_eq!(WebhookHealthView::from(health).text(), text);
        }
    }

    #[test]
    fn a_webhook_that_is_gone_says_so() {
        let webhook = v1::Webhook {
            name: "namespaces/shop/webhook".into(),
            url: "https://example.com/hook".into(),
            gone_time: Some(prost_types::Timestamp { seconds: 60, nanos: 0 }),
            dropped: 3,
            ..Default::default()
        };
        let view = WebhookStatusView::from(v1::GetWebhookResponse { webhook: Some(webhook), ..Default::default() });
        assert_eq!(
            view.text(false),
            "url:      https://example.com/hook\n\
             set up:   - ago by -\n\
             gone:     its receiver answered 410 at 1970-01-01T00:01:00.000Z: nothing is sent until it is set again\n\
             dropped:  3 events, since too many waited\n\
             \n\
             no events yet; send one with: dunlin webhook test\n"
        );
    }
}
