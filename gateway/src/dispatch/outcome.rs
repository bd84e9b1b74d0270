//! What becomes of a version's calls, counted for as long as the scheduler judges it: failures, traps and from whom, and how long
//! calls took that found a sandbox ready. Nothing is decided here. For versions that nobody judges, nothing is counted.

use std::{
    collections::VecDeque,
    net::IpAddr,
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use dunlin_proto::{
    ErrorCode,
    ids::Digest,
    internal::v1 as wire,
    outcome::{BUCKETS, bucket},
};
use tokio::time::Instant;

use crate::{auth::CallerIdentity, records::Record};

/// How long it is remembered whose call trapped.
const RECENT: Duration = Duration::from_secs(10);
/// Of how many callers at the most.
const MOST_CALLERS: usize = 8;

/// Who calls, as far as it matters whether two calls are one caller's.
#[derive(Debug, Clone)]
pub(crate) struct CalledBy {
    /// How it proved itself; nothing where it had not to.
    pub(crate) identity: Option<CallerIdentity>,
    /// The address that it calls from.
    pub(crate) address: IpAddr,
}

/// What the calls of a version came to.
#[derive(Debug, Default)]
pub(crate) struct Outcomes {
    watched: AtomicBool,
    counts: OnceLock<Box<Counts>>,
}

#[derive(Debug)]
struct Counts {
    calls: AtomicU64,
    failures: AtomicU64,
    traps: AtomicU64,
    durations: [AtomicU64; BUCKETS],
    /// The callers whose calls trapped lately, the last one behind.
    trapped: Mutex<VecDeque<(Instant, u64)>>,
}

/// What came of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Came {
    Well,
    Failed,
    Trapped,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            calls: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            traps: AtomicU64::new(0),
            durations: std::array::from_fn(|_| AtomicU64::new(0)),
            trapped: Mutex::default(),
        }
    }
}

/// What came of a call, as far as that is the version's doing: neither the platform's failures are, nor callers who leave.
fn came(record: &Record) -> Option<Came> {
    match ErrorCode::from_text(&record.outcome) {
        Some(ErrorCode::FunctionFailed | ErrorCode::MemoryExceeded) => Some(Came::Trapped),
        Some(ErrorCode::DeadlineExceeded | ErrorCode::ResponseTooLarge) => Some(Came::Failed),
        Some(_) => None,
        None if record.status >= 500 => Some(Came::Failed),
        None => Some(Came::Well),
    }
}

impl CalledBy {
    /// The same number for the same caller, at every gateway. Whoever has an IPv6 network has all its addresses.
    fn mark(&self) -> u64 {
        let text = match (&self.identity, self.address.to_canonical()) {
            (Some(CallerIdentity::Key(id)), _) => format!("key {id}"),
            (Some(CallerIdentity::Token(token)), _) => {
                format!("token {} {}", token.principal.issuer, token.principal.subject)
            }
            (Some(CallerIdentity::Authorized { by, subject: Some(subject) }), _) => format!("by {by} {subject}"),
            (_, IpAddr::V4(address)) => format!("address {address}"),
            (_, IpAddr::V6(address)) => format!("network {:?}", address.segments().first_chunk::<4>()),
        };
        Digest::of(text.as_bytes()).as_bytes().first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
    }
}

impl Outcomes {
    /// Counts from now on, or no longer. What has been counted stays.
    pub(crate) fn watch(&self, watched: bool) {
        if watched {
            self.counts.get_or_init(Box::default);
        }
        self.watched.store(watched, Ordering::Relaxed);
    }

    /// Counts a call that has ended.
    pub(crate) fn count(&self, record: &Record, by: Option<&CalledBy>) {
        if !self.watched.load(Ordering::Relaxed) {
            return;
        }
        if let (Some(counts), Some(by), Some(came)) = (self.counts.get(), by, came(record)) {
            counts.count(record, by, came, Instant::now());
        }
    }

    /// What has been counted so far, where it is being counted.
    pub(crate) fn report(&self, version: wire::VersionRef, now: Instant) -> Option<wire::VersionOutcomes> {
        let counts = self.counts.get().filter(|_| self.watched.load(Ordering::Relaxed))?;
        Some(counts.report(version, now))
    }
}

impl Counts {
    fn count(&self, record: &Record, by: &CalledBy, came: Came, now: Instant) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        if came != Came::Well {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
        if came == Came::Trapped {
            self.traps.fetch_add(1, Ordering::Relaxed);
            self.trapped(by.mark(), now);
        }
        // Cold starts say nothing about a version but how rarely it is called.
        if record.receipt.start.is_zero()
            && let Some(slot) = self.durations.get(bucket(record.receipt.queue + record.receipt.run))
        {
            slot.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn trapped(&self, mark: u64, now: Instant) {
        let mut trapped = self.trapped.lock().unwrap_or_else(PoisonError::into_inner);
        trapped.retain(|(at, known)| *known != mark && now.saturating_duration_since(*at) < RECENT);
        if trapped.len() >= MOST_CALLERS {
            trapped.pop_front();
        }
        trapped.push_back((now, mark));
    }

    fn report(&self, version: wire::VersionRef, now: Instant) -> wire::VersionOutcomes {
        let read = |number: &AtomicU64| number.load(Ordering::Relaxed);
        let trapped = self.trapped.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = trapped.iter().filter(|(at, _)| now.saturating_duration_since(*at) < RECENT);
        let durations = (0_u32..).zip(self.durations.iter().map(read)).filter(|(_, count)| *count > 0);
        wire::VersionOutcomes {
            version: Some(version),
            calls: read(&self.calls),
            failures: read(&self.failures),
            traps: read(&self.traps),
            trap_callers: recent.map(|(_, mark)| *mark).collect(),
            durations: durations.map(|(bucket, count)| wire::DurationCount { bucket, count }).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use dunlin_proto::ids::{InvocationId, VersionNumber};

    use super::*;
    use crate::records::Receipt;

    fn record(outcome: &str, status: u16, run: Duration) -> Record {
        Record {
            id: InvocationId::new(),
            function: "namespaces/shop/functions/pay".parse().unwrap(),
            version: VersionNumber::FIRST,
            start_time: SystemTime::now(),
            method: "GET".into(),
            path: "/".to_owned(),
            status,
            gateway: "g".parse().unwrap(),
            worker: "w".into(),
            outcome: outcome.to_owned().into(),
            error: String::new(),
            receipt: Receipt { run, ..Receipt::default() },
            request_id: String::new(),
            hint: String::new(),
            weight: 1,
            came: crate::records::Came::default(),
        }
    }

    fn by(address: &str) -> CalledBy {
        CalledBy { identity: None, address: address.parse().unwrap() }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_the_versions_doing_is_counted_while_somebody_judges_it() {
        let outcomes = Outcomes::default();
        let (ms, one) = (Duration::from_millis(1), by("192.0.2.1"));
        outcomes.count(&record("ok", 200, ms), Some(&one));
        assert_eq!(outcomes.report(wire::VersionRef::default(), Instant::now()), None);
        outcomes.watch(true);
        for (outcome, status) in [
            ("ok", 200),
            ("ok", 503),
            ("function_failed", 502),
            ("memory_exceeded", 502),
            ("deadline_exceeded", 504),
            ("cancelled", 0),
            ("unavailable", 503),
            ("worker_lost", 502),
            ("internal", 500),
        ] {
            outcomes.count(&record(outcome, status, ms), Some(&one));
        }
        // A developer's look at a version is nobody's call.
        outcomes.count(&record("function_failed", 502, ms), None);
        let mut cold = record("ok", 200, ms);
        cold.receipt.start = ms;
        outcomes.count(&cold, Some(&one));
        let report = outcomes.report(wire::VersionRef::default(), Instant::now()).unwrap();
        assert_eq!((report.calls, report.failures, report.traps, report.trap_callers.len()), (6, 4, 2, 1));
        let bucket = u32::try_from(bucket(ms)).unwrap();
        assert_eq!(report.durations, [wire::DurationCount { bucket, count: 5 }], "all but the cold one");
        outcomes.watch(false);
        outcomes.count(&record("ok", 200, ms), Some(&one));
        outcomes.watch(true);
        assert_eq!(outcomes.report(wire::VersionRef::default(), Instant::now()).unwrap().calls, 6);
    }

    #[tokio::test(start_paused = true)]
    async fn callers_are_told_apart_and_forgotten() {
        let outcomes = Outcomes::default();
        outcomes.watch(true);
        let callers = || outcomes.report(wire::VersionRef::default(), Instant::now()).unwrap().trap_callers.len();
        let trap = |address: &str| outcomes.count(&record("function_failed", 502, Duration::ZERO), Some(&by(address)));
        for address in ["192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::ffff", "2001:db8:1::1"]
        {
            trap(address);
        }
        assert_eq!(callers(), 4);
        (0..200).for_each(|host| trap(&format!("198.51.100.{host}")));
        assert_eq!(callers(), MOST_CALLERS);
        tokio::time::advance(RECENT).await;
        assert_eq!(callers(), 0);
    }
}
