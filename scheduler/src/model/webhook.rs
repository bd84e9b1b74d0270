//! The webhook of a namespace and what it has sent, as the database has it. What an event says is in `webhooks/event.rs`.

use std::str::FromStr;

use dunlin_proto::ids::Namespace;

use super::Time;

/// Where events of a namespace go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WebhookRecord {
    pub(crate) namespace: Namespace,
    pub(crate) url: String,
    /// The subject of the token that set it up.
    pub(crate) creator: String,
    pub(crate) create_time: Time,
    pub(crate) update_time: Time,
    /// When its receiver said that it is gone.
    pub(crate) gone: Option<Time>,
    /// Events that were not kept because too many waited.
    pub(crate) dropped: u64,
}

/// A webhook and what became of what it was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WebhookStatus {
    pub(crate) webhook: WebhookRecord,
    /// The last events, the newest first.
    pub(crate) deliveries: Vec<DeliveryRecord>,
    /// Events that wait.
    pub(crate) pending: u64,
    /// The event whose last attempt failed last, since the webhook was set as it is.
    pub(crate) last_failure: Option<DeliveryRecord>,
}

/// What has become of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeliveryState {
    /// It waits for an attempt.
    Pending,
    /// The receiver has it.
    Delivered,
    /// Nobody tries any more.
    GivenUp,
}

impl DeliveryState {
    /// Its spelling in the database.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::GivenUp => "given_up",
        }
    }
}

impl FromStr for DeliveryState {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Pending, Self::Delivered, Self::GivenUp].into_iter().find(|state| state.as_str() == text).ok_or(())
    }
}

/// An event on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeliveryRecord {
    pub(crate) id: String,
    pub(crate) namespace: Namespace,
    /// The type of the event, such as `dev.dunlin.rollback`.
    pub(crate) kind: String,
    pub(crate) subject: String,
    pub(crate) event_time: Time,
    pub(crate) state: DeliveryState,
    pub(crate) tries: u32,
    /// When it is tried next.
    pub(crate) next: Time,
    pub(crate) last: Option<Time>,
    /// Of the last answer; 0 where there was none.
    pub(crate) status: u16,
    pub(crate) error: String,
}

/// A delivery whose time has come, with what it takes.
#[derive(Clone)]
pub(crate) struct DueDelivery {
    pub(crate) record: DeliveryRecord,
    pub(crate) url: String,
    pub(crate) body: String,
    /// The encrypted secrets with which it is signed, the newest first.
    pub(crate) sealed: Vec<Vec<u8>>,
}

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attempt {
    pub(crate) state: DeliveryState,
    pub(crate) time: Time,
    /// When it is tried again, while it is pending.
    pub(crate) next: Time,
    pub(crate) status: u16,
    pub(crate) error: String,
}
