//! What a gateway tells Prometheus of its work: what calls count on their way (`metrics/calls.rs`, `metrics/refusal.rs`), and at
//! a scrape what its parts know anyway (`metrics/state.rs`).
//!
//! How numbers become text is `dunlin_process::metrics`'s. Every label has a bounded number of values: none is a path, an id, a
//! key or a caller.

mod calls;
mod refusal;
mod state;

use std::sync::Arc;

use dunlin_process::metrics::{
    Kind, Page,
    count::{CALLS, Counters, Histogram, WAITS},
};
use dunlin_proto::{ApiError, ErrorCode};

use crate::{Context, invoke::Cached, records::Record};
use refusal::Reason;

pub(crate) use calls::{Asking, Calls, Series};
pub(crate) use state::Listening;

/// Codes of errors, with room for more than there are.
const CODES: usize = 40;

/// What all calls count, whatever function they are of. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Counted(Arc<All>);

#[derive(Debug)]
struct All {
    errors: Counters<CODES>,
    refusals: Counters<{ Reason::ALL.len() }>,
    cached: Counters<{ Cached::ALL.len() }>,
    /// Invocations that went well, then those that failed, in the order of the codes.
    outcomes: Counters<CODES>,
    queue: Histogram,
    start: Histogram,
    /// Sandboxes that had served a call before.
    reused: Counters<1>,
}

impl Default for Counted {
    fn default() -> Self {
        Self(Arc::new(All {
            errors: Counters::default(),
            refusals: Counters::default(),
            cached: Counters::default(),
            outcomes: Counters::default(),
            queue: Histogram::new(WAITS),
            start: Histogram::new(CALLS),
            reused: Counters::default(),
        }))
    }
}

fn number(code: ErrorCode) -> usize {
    ErrorCode::ALL.iter().position(|other| *other == code).unwrap_or(CODES)
}

impl Counted {
    /// A request is answered with an error of ours.
    pub(crate) fn failed(&self, error: &ApiError) {
        self.0.errors.add(number(error.code), 1);
        if let Some(reason) = Reason::of(error) {
            self.0.refusals.add(reason as usize, 1);
        }
    }

    /// A route that stores answers was asked.
    pub(crate) fn cached(&self, what: Cached) {
        self.0.cached.add(what as usize, 1);
    }

    /// An invocation has ended.
    pub(crate) fn ended(&self, record: &Record) {
        let failed = || ErrorCode::ALL.iter().position(|code| code.as_str() == record.outcome);
        let outcome = if record.has_error() { failed().map_or(CODES, |index| index + 1) } else { 0 };
        self.0.outcomes.add(outcome, 1);
        self.0.queue.observe(record.receipt.queue);
        if !record.receipt.start.is_zero() {
            self.0.start.observe(record.receipt.start);
        }
        self.0.reused.add(0, record.receipt.reused.into());
    }

    fn write(&self, page: &mut Page) {
        let All { errors, refusals, cached, outcomes, queue, start, reused } = &*self.0;
        let mut family = page.family(
            Kind::Counter,
            "dunlin_gateway_errors_total",
            "Requests that were answered with an error of the platform's, by its code.",
        );
        for (index, code) in ErrorCode::ALL.iter().enumerate() {
            family.add(&[("code", code.as_str())], errors.get(index));
        }
        let mut family = page.family(
            Kind::Counter,
            "dunlin_gateway_refusals_total",
            "Requests that were refused before any function ran, by the reason.",
        );
        for reason in Reason::ALL {
            family.add(&[("reason", reason.as_str())], refusals.get(reason as usize));
        }
        let mut family = page.family(
            Kind::Counter,
            "dunlin_gateway_cache_requests_total",
            "Requests of routes that store answers, by what became of them.",
        );
        for what in Cached::ALL {
            family.add(&[("result", what.as_str())], cached.get(what as usize));
        }
        let mut family = page.family(
            Kind::Counter,
            "dunlin_gateway_invocations_total",
            "Invocations that have ended, by their outcome: ok, or the code of what went wrong.",
        );
        for (index, word) in std::iter::once("ok").chain(ErrorCode::ALL.iter().map(|code| code.as_str())).enumerate() {
            family.add(&[("outcome", word)], outcomes.get(index));
        }
        page.histogram(
            "dunlin_gateway_queue_duration_seconds",
            "Time that invocations waited in the gateway and on the worker.",
            &queue.read(),
        );
        page.histogram(
            "dunlin_gateway_cold_start_duration_seconds",
            "Time that it took to prepare a sandbox where none was ready.",
            &start.read(),
        );
        page.counter(
            "dunlin_gateway_reused_sandboxes_total",
            "Invocations in a sandbox that had served one before.",
            reused.get(0),
        );
    }
}

/// Tells the process's metrics what this gateway counts and knows.
pub(crate) fn register(context: &Arc<Context>, listening: Listening) {
    let metrics = &context.metrics;
    // Weakly: the context has the metrics.
    let context = Arc::downgrade(context);
    metrics.add(move |page| {
        let Some(context) = context.upgrade() else { return };
        context.dispatcher.series().write(page);
        context.counted.write(page);
        state::write(page, &context, &listening);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_counter_of_its_own() {
        assert!(ErrorCode::ALL.len() < CODES, "raise CODES");
        let numbers: std::collections::BTreeSet<_> = ErrorCode::ALL.iter().map(|code| number(*code)).collect();
        assert_eq!(numbers.len(), ErrorCode::ALL.len());
    }
}
