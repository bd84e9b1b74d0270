//! What Prometheus is told of deliveries: how attempts ended, and how many events wait. Namespaces are told apart by `dunlin webhook
//! show` and not here.

use std::sync::atomic::{AtomicU64, Ordering};

use dunlin_process::metrics::{Kind, Page, count::Counters};

use crate::model::DeliveryState;

/// How an attempt ended, in the order of its counters.
const OUTCOMES: [&str; 3] = ["delivered", "failed", "given_up"];

/// What happens to deliveries.
#[derive(Debug, Default)]
pub(super) struct Counts {
    outcomes: Counters<{ OUTCOMES.len() }>,
    pending: AtomicU64,
}

impl Counts {
    /// An attempt has made this of its delivery.
    pub(super) fn tried(&self, state: DeliveryState) {
        let index = match state {
            DeliveryState::Delivered => 0,
            DeliveryState::Pending => 1,
            DeliveryState::GivenUp => 2,
        };
        self.outcomes.add(index, 1);
    }

    /// So many events wait.
    pub(super) fn waiting(&self, pending: u64) {
        self.pending.store(pending, Ordering::Relaxed);
    }

    /// Tells Prometheus.
    pub(super) fn write(&self, page: &mut Page) {
        let help = "Events that wait for their first or next attempt at the webhooks of all namespaces.";
        page.gauge("dunlin_scheduler_webhook_events_pending", help, self.pending.load(Ordering::Relaxed));
        let help = "Attempts to deliver an event to a webhook, by their outcome: failed ones are made again, given_up was the last.";
        let mut family = page.family(Kind::Counter, "dunlin_scheduler_webhook_deliveries_total", help);
        for (index, outcome) in OUTCOMES.iter().enumerate() {
            family.add(&[("outcome", outcome)], self.outcomes.get(index));
        }
    }
}

#[cfg(test)]
mod tests {
    use dunlin_process::metrics::Format;

    use super::*;

    #[test]
    fn attempts_are_told_apart_by_what_they_made_of_a_delivery() {
        let (counts, mut page) = (Counts::default(), Page::new(Format::Prometheus));
        for state in [DeliveryState::Pending, DeliveryState::Pending, DeliveryState::Delivered, DeliveryState::GivenUp]
        {
            counts.tried(state);
        }
        counts.waiting(7);
        counts.write(&mut page);
        let text = page.finish();
        for sample in [
            "dunlin_scheduler_webhook_events_pending 7\n",
            "dunlin_scheduler_webhook_deliveries_total{outcome=\"delivered\"} 1\n",
            "dunlin_scheduler_webhook_deliveries_total{outcome=\"failed\"} 2\n",
            "dunlin_scheduler_webhook_deliveries_total{outcome=\"given_up\"} 1\n",
        ] {
            assert!(text.contains(sample), "{text}");
        }
    }
}
