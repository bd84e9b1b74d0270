//! The account of one sandbox's call: CPU time, memory, bytes, and the reason to stop it. Shared by everything that works for
//! the guest (limiter, streams, egress, the epoch callback) and read when the invocation is over, even if it panicked.

use std::future::Future;
use std::pin::Pin;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::Notify;

use super::limits::Limits;
use super::outcome::{Failure, Usage};

/// CPU time after which a guest continues on the threads of low priority (see `lanes`).
const HEAVY_AFTER: Duration = Duration::from_millis(10);

/// The account. All counters only grow, except the current memory.
#[derive(Debug)]
pub(super) struct Meter {
    pub(super) limits: Limits,
    /// CPU nanoseconds of the polls that are over.
    cpu_done: AtomicU64,
    /// The thread's CPU clock when the current poll began; only meaningful while polling.
    poll_began: AtomicU64,
    polling: AtomicBool,
    memory: AtomicU64,
    memory_peak: AtomicU64,
    pub(super) bytes_in: AtomicU64,
    pub(super) bytes_out: AtomicU64,
    pub(super) log_dropped: AtomicU64,
    /// Requests that were sent over HTTP.
    pub(super) outbound: AtomicU32,
    /// How often the guest called the host.
    host_calls: AtomicU64,
    memory_denied: AtomicBool,
    table_denied: AtomicBool,
    /// Why host code wants this guest stopped; the first reason wins.
    halt: OnceLock<Failure>,
    halted: Notify,
    /// The sandbox has served a call before.
    reused: bool,
}

impl Meter {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            cpu_done: AtomicU64::new(0),
            poll_began: AtomicU64::new(0),
            polling: AtomicBool::new(false),
            memory: AtomicU64::new(0),
            memory_peak: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            log_dropped: AtomicU64::new(0),
            outbound: AtomicU32::new(0),
            host_calls: AtomicU64::new(0),
            memory_denied: AtomicBool::new(false),
            table_denied: AtomicBool::new(false),
            halt: OnceLock::new(),
            halted: Notify::new(),
            reused: false,
        }
    }

    /// An account for the next call of the same sandbox: only its memory is carried over.
    pub(super) fn next(&self) -> Self {
        let next = Self { reused: true, ..Self::new(self.limits.clone()) };
        next.set_memory(self.memory());
        next
    }

    /// CPU time so far. Right only on the thread that is polling, or between polls.
    pub(super) fn cpu(&self) -> Duration {
        let done = self.cpu_done.load(Relaxed);
        let current =
            if self.polling.load(Relaxed) { thread_cpu().saturating_sub(self.poll_began.load(Relaxed)) } else { 0 };
        Duration::from_nanos(done + current)
    }

    /// Whether the guest has used enough CPU to make room for others.
    pub(super) fn is_heavy(&self) -> bool {
        self.cpu_done.load(Relaxed) > HEAVY_AFTER.as_nanos() as u64
    }

    /// The failure of a guest that has used up its CPU time, checked at every epoch tick.
    pub(super) fn over_cpu(&self) -> Option<Failure> {
        let limit = self.limits.cpu;
        (self.cpu() > limit).then_some(Failure::CpuExceeded { limit, frames: String::new() })
    }

    /// Asks for this guest to be stopped.
    pub(super) fn halt(&self, reason: Failure) {
        if self.halt.set(reason).is_ok() {
            self.halted.notify_one();
        }
    }

    /// The reason given to [`Meter::halt`], if any.
    pub(super) fn halt_reason(&self) -> Option<Failure> {
        self.halt.get().cloned()
    }

    /// Why a guest ended that ended with this failure: what it was stopped for, where it was.
    pub(super) fn reason_of(&self, failure: Failure) -> Failure {
        self.halt_reason().filter(|reason| reason.code() != failure.code()).unwrap_or(failure)
    }

    /// Waits until somebody asks for this guest to be stopped.
    pub(super) async fn halted(&self) -> Failure {
        loop {
            if let Some(reason) = self.halt_reason() {
                return reason;
            }
            self.halted.notified().await;
        }
    }

    /// Sum of all linear memories now, in bytes.
    pub(super) fn memory(&self) -> u64 {
        self.memory.load(Relaxed)
    }

    /// The most that it was, in bytes.
    pub(super) fn memory_peak(&self) -> u64 {
        self.memory_peak.load(Relaxed)
    }

    pub(super) fn set_memory(&self, bytes: u64) {
        self.memory.store(bytes, Relaxed);
        self.memory_peak.fetch_max(bytes, Relaxed);
    }

    /// The guest called the host once more. Only the thread that polls the guest comes here: a load and a store do.
    pub(super) fn host_called(&self) {
        self.host_calls.store(self.host_calls.load(Relaxed) + 1, Relaxed);
    }

    pub(super) fn deny_memory(&self) {
        self.memory_denied.store(true, Relaxed);
    }

    pub(super) fn deny_table(&self) {
        self.table_denied.store(true, Relaxed);
    }

    /// What a trap probably comes from: a guest that was refused memory gives up by trapping.
    pub(super) fn denial(&self) -> Option<Failure> {
        if self.memory_denied.load(Relaxed) {
            return Some(Failure::MemoryExceeded { limit_bytes: self.limits.memory_bytes, frames: String::new() });
        }
        self.table_denied.load(Relaxed).then_some(Failure::TableExceeded { limit: self.limits.table_elements })
    }

    /// The account as the receipt needs it.
    pub(super) fn usage(&self, start: Duration, run: Duration) -> Usage {
        Usage {
            start,
            run,
            cpu: Duration::from_nanos(self.cpu_done.load(Relaxed)),
            peak_memory_bytes: self.memory_peak.load(Relaxed),
            bytes_in: self.bytes_in.load(Relaxed),
            bytes_out: self.bytes_out.load(Relaxed),
            log_bytes_dropped: self.log_dropped.load(Relaxed),
            outbound_requests: self.outbound.load(Relaxed),
            host_calls: self.host_calls.load(Relaxed),
            reused: self.reused,
        }
    }

    fn poll_begins(&self) {
        self.poll_began.store(thread_cpu(), Relaxed);
        self.polling.store(true, Relaxed);
    }

    fn poll_ends(&self) {
        let used = thread_cpu().saturating_sub(self.poll_began.load(Relaxed));
        self.polling.store(false, Relaxed);
        self.cpu_done.fetch_add(used, Relaxed);
    }
}

/// CPU nanoseconds of this thread.
fn thread_cpu() -> u64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// A future whose polls are charged to a [`Meter`].
pub(super) struct Metered<'a, F> {
    pub(super) meter: &'a Meter,
    pub(super) inner: Pin<&'a mut F>,
}

impl<F: Future> Future for Metered<'_, F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let meter = self.meter;
        meter.poll_begins();
        // Charged even when the poll panics.
        let _charge = Charge(meter);
        self.inner.as_mut().poll(cx)
    }
}

struct Charge<'a>(&'a Meter);

impl Drop for Charge<'_> {
    fn drop(&mut self) {
        self.0.poll_ends();
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Takes so much CPU time, however long that may be in coming.
    pub(in super::super) fn burn(wanted: Duration) {
        let began = thread_cpu();
        while thread_cpu() - began < wanted.as_nanos() as u64 {
            std::hint::spin_loop();
        }
    }

    #[tokio::test]
    async fn cpu_is_charged_for_polls_only_and_over_the_limit_is_seen_inside_a_poll() {
        // A machine that its host takes away adds to CPU time, but not every time.
        let mut seen = Vec::new();
        while !seen.contains(&(false, true)) {
            assert!(seen.len() < 5, "{seen:?}");
            let meter = Meter::new(Limits { cpu: Duration::from_millis(20), ..Limits::default() });
            let mut work = std::pin::pin!(async {
                burn(Duration::from_millis(5));
                let early = meter.over_cpu();
                tokio::time::sleep(Duration::from_millis(60)).await;
                burn(Duration::from_millis(20));
                (early, meter.over_cpu())
            });
            let (early, late) = Metered { meter: &meter, inner: work.as_mut() }.await;
            let cpu = meter.usage(Duration::ZERO, Duration::ZERO).cpu;
            assert!(cpu >= Duration::from_millis(25) && meter.is_heavy(), "{cpu:?}");
            assert_eq!(late.map(|failure| failure.code()), Some("cpu_exceeded"));
            seen.push((early.is_some(), cpu < Duration::from_millis(55)));
        }
    }

    #[tokio::test]
    async fn the_first_reason_to_stop_wins() {
        let meter = Meter::new(Limits::default());
        meter.halt(Failure::Cancelled);
        meter.halt(Failure::NoResponse);
        assert_eq!(meter.halted().await, Failure::Cancelled);
    }
}
