//! What a worker tells Prometheus: what invocations count as they end, and at a scrape what its parts know anyway.
//!
//! How numbers become text is `dunlin_process::metrics`'s. Nothing here is labelled by function or namespace: those are the
//! gateways' metrics, which see every call of them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use dunlin_process::metrics::{
    Kind, Metrics, Page,
    count::{CALLS, Counter, Counters, Histogram, WAITS},
};
use dunlin_proto::{ErrorCode, internal::v1::SessionReceipt};

use crate::{artifacts::Artifacts, holdings::Holdings, logs::Logs, pool::Capacity, sandbox::Failure};

/// Failures of guests that are not the sandbox's word: the caller did not read the answer.
const NOT_READ: &str = "answer_not_read";
/// Kinds of failures, with room for those that nobody knows.
const FAILURES: usize = Failure::CODES.len() + 2;
/// Codes of refusals, with room for more than there are.
const CODES: usize = 40;

/// What invocations count. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Counted(Arc<All>);

#[derive(Debug)]
struct All {
    succeeded: Counter,
    /// In the order of [`Failure::CODES`], then those whose answer was not read, then all others.
    failures: Counters<FAILURES>,
    refusals: Counters<CODES>,
    queue: Histogram,
    start: Histogram,
    run: Histogram,
    cpu_nanos: Counter,
    bytes: Counters<2>,
    reused: Counter,
}

impl Default for Counted {
    fn default() -> Self {
        Self(Arc::new(All {
            succeeded: Counter::default(),
            failures: Counters::default(),
            refusals: Counters::default(),
            queue: Histogram::new(WAITS),
            start: Histogram::new(CALLS),
            run: Histogram::new(CALLS),
            cpu_nanos: Counter::default(),
            bytes: Counters::default(),
            reused: Counter::default(),
        }))
    }
}

impl Counted {
    /// Guest code has run; `reason` is empty where it went well.
    pub(crate) fn ended(&self, reason: &str, receipt: &SessionReceipt) {
        let all = &*self.0;
        if reason.is_empty() {
            all.succeeded.increment();
        } else {
            all.failures.add(failure(reason), 1);
        }
        all.queue.observe(Duration::from_nanos(receipt.queue_nanos));
        all.run.observe(Duration::from_nanos(receipt.run_nanos));
        if receipt.start_nanos > 0 {
            all.start.observe(Duration::from_nanos(receipt.start_nanos));
        }
        all.cpu_nanos.add(receipt.cpu_nanos);
        all.bytes.add(0, receipt.bytes_in);
        all.bytes.add(1, receipt.bytes_out);
        all.reused.add(receipt.reused.into());
    }

    /// Guest code never started, for this code's reason.
    pub(crate) fn refused(&self, code: &str) {
        let index = ErrorCode::ALL.iter().position(|known| known.as_str() == code);
        self.0.refusals.add(index.unwrap_or(CODES), 1);
    }

    fn write(&self, page: &mut Page) {
        let all = &*self.0;
        let help = "Invocations whose guest ran and answered.";
        page.counter("dunlin_worker_invocations_succeeded_total", help, all.succeeded.get());
        let help = "Invocations whose guest ran and failed, by the kind of failure.";
        let mut family = page.family(Kind::Counter, "dunlin_worker_invocations_failed_total", help);
        for (index, kind) in Failure::CODES.iter().copied().chain([NOT_READ, "other"]).enumerate() {
            family.add(&[("kind", kind)], all.failures.get(index));
        }
        let help = "Invocations that were refused before any guest code ran, by the code of the reason.";
        let mut family = page.family(Kind::Counter, "dunlin_worker_invocations_refused_total", help);
        for (index, code) in ErrorCode::ALL.iter().enumerate() {
            let count = all.refusals.get(index);
            if count > 0 || matches!(code, ErrorCode::Unavailable | ErrorCode::TooManyRequests) {
                family.add(&[("code", code.as_str())], count);
            }
        }
        let help = "Time that invocations waited on the worker for their sandbox.";
        page.histogram("dunlin_worker_queue_duration_seconds", help, &all.queue.read());
        let help = "Time from a guest's beginning to the end of its answer.";
        page.histogram("dunlin_worker_run_duration_seconds", help, &all.run.read());
        let cpu = Duration::from_nanos(all.cpu_nanos.get());
        page.counter("dunlin_worker_guest_cpu_seconds_total", "CPU time of guests.", cpu);
        let help = "Bytes of bodies that guests read and wrote.";
        let mut family = page.family(Kind::Counter, "dunlin_worker_body_bytes_total", help);
        family.add(&[("direction", "in")], all.bytes.get(0));
        family.add(&[("direction", "out")], all.bytes.get(1));
        let help = "Invocations in a sandbox that had served one before.";
        page.counter("dunlin_worker_reused_sandboxes_total", help, all.reused.get());
    }
}

/// The number of a failure's counter.
fn failure(reason: &str) -> usize {
    let known = Failure::CODES.iter().position(|code| *code == reason);
    known.unwrap_or(if reason == NOT_READ { FAILURES - 2 } else { FAILURES - 1 })
}

/// The parts that are asked at a scrape.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) counted: Counted,
    pub(crate) holdings: Holdings,
    pub(crate) artifacts: Arc<Artifacts>,
    pub(crate) logs: Arc<Logs>,
    pub(crate) capacity: Arc<Capacity>,
    /// Whether there is a stream to the scheduler.
    pub(crate) linked: Arc<AtomicBool>,
}

/// Tells a process's metrics what this worker counts and knows.
pub(crate) fn register(metrics: &Metrics, parts: Parts) {
    metrics.add(move |page| parts.write(page));
}

impl Parts {
    fn write(&self, page: &mut Page) {
        self.counted.write(page);
        self.cold_starts(page);
        self.sandboxes(page);
        let (lines, dropped, bytes) = self.logs.counted();
        page.counter("dunlin_worker_log_lines_total", "Lines of guests that were taken in.", lines);
        let help = "Lines of guests that were dropped, since they came too fast, for their namespace or for the disk.";
        page.counter("dunlin_worker_log_lines_dropped_total", help, dropped);
        let help = "Bytes of lines that were taken in and could not be written.";
        page.counter("dunlin_worker_log_lost_bytes_total", help, bytes);
        let linked = self.linked.load(Ordering::Relaxed);
        page.gauge("dunlin_worker_scheduler_connected", "Whether there is a stream to the scheduler.", linked);
    }

    fn cold_starts(&self, page: &mut Page) {
        let help = "Time of what makes a start cold: fetch code, load it, make a sandbox of it.";
        let mut family = page.family(Kind::Histogram, "dunlin_worker_cold_start_phase_duration_seconds", help);
        family.spread(&[("phase", "fetch")], &self.artifacts.fetches().read());
        family.spread(&[("phase", "load")], &self.holdings.loads().read());
        family.spread(&[("phase", "instantiate")], &self.counted.0.start.read());
        let help = "Looks for compiled code in the cache, by what was found.";
        let mut family = page.family(Kind::Counter, "dunlin_worker_code_cache_requests_total", help);
        for (result, count) in self.artifacts.counted() {
            family.add(&[("result", result)], count);
        }
    }

    fn sandboxes(&self, page: &mut Page) {
        let census = self.holdings.census();
        let mut family = page.family(Kind::Gauge, "dunlin_worker_versions", "Versions that are held, by their state.");
        for (state, count) in
            [("ready", census.ready), ("loading", census.loading), ("stored", census.stored), ("failed", census.failed)]
        {
            family.add(&[("state", state)], count);
        }
        let mut family = page.family(Kind::Gauge, "dunlin_worker_sandboxes", "Sandboxes, by their state.");
        family.add(&[("state", "running")], census.running);
        family.add(&[("state", "prepared")], census.prepared);
        let (waiting, free) = self.capacity.now();
        page.gauge("dunlin_worker_invocations_queued", "Invocations that wait for a sandbox.", waiting);
        page.gauge("dunlin_worker_invocations_in_flight", "Invocations that have a sandbox.", census.running);
        let help = "Invocations that could begin, if there were room to compute.";
        page.gauge("dunlin_worker_capacity_free", help, free);
        page.gauge("dunlin_worker_capacity", "Invocations that may run at once.", self.capacity.most());
    }
}

#[cfg(test)]
mod tests {
    use dunlin_process::metrics::Format;

    use super::*;

    #[test]
    fn every_end_is_counted_once() {
        let counted = Counted::default();
        let receipt = SessionReceipt { queue_nanos: 1, start_nanos: 5, cpu_nanos: 500_000_000, ..Default::default() };
        counted.ended("", &receipt);
        for reason in ["trap", "cpu_exceeded", "trap", NOT_READ, "of a later version"] {
            counted.ended(reason, &SessionReceipt::default());
        }
        counted.refused("unavailable");
        counted.refused("of a later version");
        let mut page = Page::new(Format::Prometheus);
        counted.write(&mut page);
        let text = page.finish();
        for line in [
            "dunlin_worker_invocations_succeeded_total 1",
            "dunlin_worker_invocations_failed_total{kind=\"trap\"} 2",
            "dunlin_worker_invocations_failed_total{kind=\"cpu_exceeded\"} 1",
            "dunlin_worker_invocations_failed_total{kind=\"answer_not_read\"} 1",
            "dunlin_worker_invocations_failed_total{kind=\"other\"} 1",
            "dunlin_worker_invocations_refused_total{code=\"unavailable\"} 1",
            "dunlin_worker_queue_duration_seconds_count 6",
            "dunlin_worker_guest_cpu_seconds_total 0.5",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
    }

    #[test]
    fn every_code_has_a_counter_of_its_own() {
        assert!(ErrorCode::ALL.len() < CODES, "raise CODES");
    }
}
