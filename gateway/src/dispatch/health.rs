//! Whether an endpoint works, by what becomes of the calls that it gets: one that fails what others then answer is left out for
//! a while, and let back in by calls that go well. What a guest does wrong does not count, nor that an endpoint is busy, which
//! is `refusals.rs`'s. Of several endpoints, half are never left out. Time is an argument.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use dunlin_proto::ids::VersionKey;
use tokio::time::Instant;

/// So many failures
const MANY: usize = 5;
/// within this time are enough, where they are half of all calls.
const WINDOW: Duration = Duration::from_secs(10);
/// How long it is left out the first time; twice as long each further time, up to
const FIRST: Duration = Duration::from_secs(1);
/// this.
const LONGEST: Duration = Duration::from_secs(30);
/// Calls that have to go well before it is trusted like the others. Until then one failure is enough.
const TRIAL: u32 = 10;

/// How a call failed at an endpoint through no fault of its guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// It was not run or was lost, and another endpoint has answered it.
    AnsweredElsewhere,
    /// The worker says that something went wrong on its side, or has not ended a call in time. One function may have found a
    /// fault of every worker, so that it takes two.
    Internal,
}

/// What is known of an endpoint's work.
#[derive(Debug)]
pub(super) struct Health {
    /// Until when it is left out, in milliseconds since `origin`; 0 where it is not.
    out_until: AtomicU64,
    /// Calls that went well since the last failure that was forgotten.
    good: AtomicU32,
    /// Calls that still have to go well.
    trial: AtomicU32,
    failures: Mutex<Failures>,
    origin: Instant,
}

#[derive(Debug, Default)]
struct Failures {
    lately: VecDeque<(Instant, VersionKey, Fault)>,
    /// How often it was left out in a row.
    times: u32,
}

impl Health {
    /// Nothing is known yet.
    pub(super) fn new(origin: Instant) -> Self {
        let (out_until, good, trial) = (AtomicU64::new(0), AtomicU32::new(0), AtomicU32::new(0));
        Self { out_until, good, trial, failures: Mutex::default(), origin }
    }

    /// Whether it is left out. The clock is read only where it matters.
    pub(super) fn is_out(&self, now: impl FnOnce() -> Instant) -> bool {
        let until = self.out_until.load(Ordering::Relaxed);
        until > 0 && self.millis(now()) < until
    }

    /// A call went well, whatever its guest did.
    pub(super) fn worked(&self) {
        self.good.fetch_add(1, Ordering::Relaxed);
        if self.trial.load(Ordering::Relaxed) > 0 && self.trial.fetch_sub(1, Ordering::Relaxed) == 1 {
            let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
            *failures = Failures::default();
            self.out_until.store(0, Ordering::Relaxed);
        }
    }

    /// A call of a version failed. Says for how long the endpoint is left out now, where that is news.
    pub(super) fn failed(&self, version: VersionKey, fault: Fault, now: Instant) -> Option<Duration> {
        if self.is_out(|| now) {
            // A call that began before.
            return None;
        }
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.forget(now) {
            self.good.store(0, Ordering::Relaxed);
        }
        failures.lately.push_back((now, version, fault));
        let good = usize::try_from(self.good.load(Ordering::Relaxed)).unwrap_or(usize::MAX);
        let on_trial = self.trial.load(Ordering::Relaxed) > 0;
        if !on_trial && !failures.are_many(good) {
            return None;
        }
        let out = FIRST.saturating_mul(1 << failures.times.min(5)).min(LONGEST);
        failures.times += 1;
        failures.lately.clear();
        self.trial.store(TRIAL, Ordering::Relaxed);
        self.out_until.store(self.millis(now + out), Ordering::Relaxed);
        Some(out)
    }

    fn millis(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.origin).as_millis()).unwrap_or(u64::MAX)
    }
}

impl Failures {
    /// Forgets what is too long ago; says whether nothing is left.
    fn forget(&mut self, now: Instant) -> bool {
        self.lately.retain(|(at, ..)| now.saturating_duration_since(*at) < WINDOW);
        self.lately.is_empty()
    }

    /// Whether they are enough beside so many calls that went well.
    fn are_many(&self, good: usize) -> bool {
        let count = self.lately.len();
        count >= MANY && count >= good && self.are_its_own()
    }

    /// Whether it is the endpoint that fails, and not one function everywhere.
    fn are_its_own(&self) -> bool {
        let elsewhere = self.lately.iter().any(|(.., fault)| *fault == Fault::AnsweredElsewhere);
        let mut versions = self.lately.iter().map(|(_, version, _)| version);
        let first = versions.next();
        elsewhere || versions.any(|version| Some(version) != first)
    }
}

/// How many of so many endpoints may be left out.
pub(super) fn most_out(count: usize) -> usize {
    count / 2
}

#[cfg(test)]
mod tests {
    use dunlin_proto::ids::{FunctionUid, VersionNumber};

    use super::*;

    fn version() -> VersionKey {
        VersionKey { function: FunctionUid::new(), number: VersionNumber::try_from(1).unwrap() }
    }

    /// Fails so often at one moment, `fault` of `version`, after `good` calls that went well.
    fn failing(health: &Health, times: usize, version: VersionKey, fault: Fault, now: Instant) -> Option<Duration> {
        (0..times).filter_map(|_| health.failed(version, fault, now)).next()
    }

    #[test]
    fn who_fails_what_others_answer_is_left_out_for_longer_each_time() {
        let (origin, one) = (Instant::now(), version());
        let health = Health::new(origin);
        assert_eq!(failing(&health, 4, one, Fault::AnsweredElsewhere, origin), None);
        let mut now = origin;
        for seconds in [1, 2, 4, 8, 16, 30, 30] {
            assert_eq!(health.failed(one, Fault::AnsweredElsewhere, now), Some(Duration::from_secs(seconds)));
            assert!(health.is_out(|| now) && health.failed(one, Fault::Internal, now).is_none());
            now += Duration::from_secs(seconds);
            assert!(!health.is_out(|| now), "it is tried again");
            (0..TRIAL - 1).for_each(|_| health.worked());
        }
        assert!(health.failed(one, Fault::AnsweredElsewhere, now).is_some());
        now += LONGEST;
        (0..TRIAL).for_each(|_| health.worked());
        assert_eq!(failing(&health, 4, one, Fault::AnsweredElsewhere, now), None, "it is trusted like the others");
    }

    #[test]
    fn who_answers_most_calls_stays() {
        let (now, one) = (Instant::now(), version());
        let health = Health::new(now);
        health.failed(one, Fault::AnsweredElsewhere, now);
        (0..100).for_each(|_| health.worked());
        assert_eq!(failing(&health, 50, one, Fault::AnsweredElsewhere, now), None);
        assert!(failing(&health, 50, one, Fault::AnsweredElsewhere, now).is_some(), "until they are half");
    }

    #[test]
    fn failures_of_long_ago_do_not_count() {
        let (now, one) = (Instant::now(), version());
        let health = Health::new(now);
        for n in 0..20 {
            assert_eq!(health.failed(one, Fault::AnsweredElsewhere, now + WINDOW / 4 * n), None);
        }
    }

    #[test]
    fn what_one_function_provokes_everywhere_is_its_own() {
        let (now, one) = (Instant::now(), version());
        let health = Health::new(now);
        assert_eq!(failing(&health, 100, one, Fault::Internal, now), None);
        assert!(health.failed(version(), Fault::Internal, now).is_some(), "two have found it");
    }

    #[test]
    fn half_are_never_left_out() {
        assert_eq!([0, 1, 2, 3, 4, 5].map(most_out), [0, 0, 1, 1, 2, 2]);
    }
}
