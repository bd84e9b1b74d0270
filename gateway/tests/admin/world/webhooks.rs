//! The webhook of the simulated scheduler: one event was taken, the other one was not.

use dunlin_proto::v1;

fn time(seconds: i64) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp { seconds, nanos: 0 })
}

/// What there is to see of it.
pub(super) fn shown(name: String) -> v1::GetWebhookResponse {
    let failed = v1::WebhookDelivery {
        id: "0198c5b2-7a43-7000-8000-3f1f6d1c1a2c".into(),
        r#type: "dev.dunlin.rollback".into(),
        subject: "namespaces/shop/functions/checkout".into(),
        event_time: time(1_763_910_000),
        state: v1::DeliveryState::Pending.into(),
        tries: 3,
        last_time: time(1_763_910_020),
        next_time: time(1_763_910_040),
        status: 500,
        error: "the receiver answered 500 <b>Internal Server Error</b>".into(),
    };
    let taken = v1::WebhookDelivery {
        id: "0198c5b2-7a43-7000-8000-3f1f6d1c1a2b".into(),
        r#type: "dev.dunlin.test".into(),
        subject: name.clone(),
        event_time: time(1_763_900_000),
        state: v1::DeliveryState::Delivered.into(),
        tries: 1,
        last_time: time(1_763_900_001),
        status: 204,
        ..Default::default()
    };
    let url = "https://hooks.example.com/dunlin".to_owned();
    let webhook =
        v1::Webhook { name, url, creator: "ada".into(), create_time: time(1_763_800_000), ..Default::default() };
    let last_failure = Some(failed.clone());
    v1::GetWebhookResponse { webhook: Some(webhook), deliveries: vec![failed, taken], pending: 1, last_failure }
}
