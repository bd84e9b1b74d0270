//! What an endpoint's own answers say of it: one that has refused everything for a while is asked last, whatever capacity it
//! claims to have. Nobody is shut out by this, and who takes one invocation is believed again. Pure; time is an argument.

use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::Instant;

/// So many refusals in a row, and
const MANY: u32 = 16;
/// over so long a time: a worker that is only busy takes an invocation now and then.
const LONG: Duration = Duration::from_millis(500);
/// How long it is asked last. Then it is asked again, and one more refusal prolongs it.
const LAST: Duration = Duration::from_millis(250);
/// It counts like an endpoint with so many invocations more.
const WEIGHT: u32 = 1 << 20;

/// The refusals of an endpoint since it last took an invocation.
#[derive(Debug)]
pub(super) struct Refusals {
    in_a_row: AtomicU32,
    /// The first and the last of them, in milliseconds since `origin`.
    first: AtomicU64,
    last: AtomicU64,
    origin: Instant,
}

impl Refusals {
    /// None yet.
    pub(super) fn new(origin: Instant) -> Self {
        Self { in_a_row: AtomicU32::new(0), first: AtomicU64::new(0), last: AtomicU64::new(0), origin }
    }

    /// It took an invocation.
    pub(super) fn taken(&self) {
        if self.in_a_row.load(Ordering::Relaxed) > 0 {
            self.in_a_row.store(0, Ordering::Relaxed);
        }
    }

    /// It refused one.
    pub(super) fn refused(&self, now: Instant) {
        let now = self.millis(now);
        if self.in_a_row.fetch_add(1, Ordering::Relaxed) == 0 {
            self.first.store(now, Ordering::Relaxed);
        }
        self.last.store(now, Ordering::Relaxed);
    }

    /// What it weighs besides its invocations in flight. The clock is read only where it matters.
    pub(super) fn weight(&self, now: impl FnOnce() -> Instant) -> u32 {
        if self.in_a_row.load(Ordering::Relaxed) < MANY {
            return 0;
        }
        let (first, last) = (self.first.load(Ordering::Relaxed), self.last.load(Ordering::Relaxed));
        let for_long = last.saturating_sub(first) >= whole(LONG);
        let lately = self.millis(now()).saturating_sub(last) < whole(LAST);
        if for_long && lately { WEIGHT } else { 0 }
    }

    fn millis(&self, at: Instant) -> u64 {
        whole(at.saturating_duration_since(self.origin))
    }
}

fn whole(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Refuses so often, once every so many milliseconds, beginning at 0.
    fn refusing(times: u32, every: u64) -> (Refusals, impl Fn(u64) -> Instant) {
        let origin = Instant::now();
        let at = move |millis| origin + Duration::from_millis(millis);
        let refusals = Refusals::new(origin);
        (0..times).for_each(|n| refusals.refused(at(u64::from(n) * every)));
        (refusals, at)
    }

    #[test]
    fn who_refuses_everything_is_asked_last_and_after_a_while_again() {
        let (refusals, at) = refusing(17, 40);
        let weight = |millis| refusals.weight(|| at(millis));
        assert_eq!((weight(640), weight(889), weight(890)), (WEIGHT, WEIGHT, 0));
        refusals.refused(at(900));
        assert_eq!((weight(901), weight(1150)), (WEIGHT, 0), "one more is enough");
        refusals.taken();
        refusals.refused(at(1200));
        assert_eq!(weight(1201), 0, "it was believed");
    }

    #[test]
    fn who_is_only_busy_is_asked_like_the_others() {
        for (times, every) in [(15, 100), (1000, 0), (400, 1)] {
            let (refusals, at) = refusing(times, every);
            assert_eq!(refusals.weight(|| at(u64::from(times) * every)), 0, "{times} times, every {every} ms");
        }
    }
}
