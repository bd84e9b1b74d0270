//! A part of a limited rate, as calls are held against it: the generic cell rate algorithm on one atomic number, the time at
//! which everything admitted so far will have been earned. No lock, and no more is admitted in any time T than the burst and
//! what the rate makes in T, however many threads ask.
//!
//! A part never changes. Another one takes its place: the old one is closed first, so that what it had saved up is counted
//! once.

use std::sync::atomic::{AtomicU64, Ordering};

/// So many units of time are a second: 16 for each nanosecond, so that even a million a second divide it well.
const UNITS: f64 = 16e9;
/// The time of a bucket that admits nothing any more because another one has its place.
const CLOSED: u64 = u64::MAX;
/// Saved-up admissions are worth no more than so much time, lest numbers overflow: 1,000 days.
const MOST: f64 = UNITS * 86_400_000.0;

/// A moment in units since some beginning.
pub(crate) type Moment = u64;

/// The units of a time.
pub(crate) fn units(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_nanos().saturating_mul(16)).unwrap_or(CLOSED - 1)
}

/// The time of so many units.
pub(crate) fn time(units: u64) -> std::time::Duration {
    std::time::Duration::from_nanos(units.div_ceil(16))
}

/// How much may be admitted.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Share {
    /// Admissions a second.
    pub(crate) per_second: f64,
    /// Admissions at once.
    pub(crate) burst: f64,
}

/// What came of asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// It is admitted.
    Admitted,
    /// It is not, and may be after so many units.
    Later(u64),
    /// It is not, and there is nothing that time would bring.
    Never,
    /// Another bucket is here.
    Replaced,
}

/// A part.
#[derive(Debug)]
pub(crate) struct Bucket {
    share: Share,
    /// What one admission costs, in units; 0 where none is ever earned.
    period: u64,
    /// What can be saved up, in units.
    capacity: u64,
    /// When everything that was admitted will have been earned.
    earned: AtomicU64,
}

/// The nearest whole number of units that is not larger; not a number, or nothing, is nothing.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is bounded to what fits")]
fn whole(units: f64) -> u64 {
    units.clamp(0.0, MOST).floor() as u64
}

/// A count of units as a number with fractions.
#[expect(clippy::cast_precision_loss, reason = "below a thousand days nothing is lost that matters")]
fn number(units: u64) -> f64 {
    units as f64
}

impl Bucket {
    /// A part in which so many admissions are saved up.
    pub(crate) fn new(share: Share, saved: f64, now: Moment) -> Self {
        let period = if share.per_second > 0.0 { whole((UNITS / share.per_second).ceil()) } else { 0 };
        // Less than one is never a whole one.
        let period = if share.burst >= 1.0 { period } else { 0 };
        let capacity = whole(share.burst * number(period));
        // More than the burst is cut to it; bounds that are no numbers would be a panic in `clamp`.
        let saved = whole(saved * number(period)).min(capacity);
        let earned = now.saturating_add(capacity - saved).min(CLOSED - 1);
        Self { share, period, capacity, earned: AtomicU64::new(earned) }
    }

    /// How much it allows.
    pub(crate) fn share(&self) -> Share {
        self.share
    }

    /// Asks for one admission.
    pub(crate) fn admit(&self, now: Moment) -> Asked {
        if self.period == 0 {
            return if self.earned.load(Ordering::Acquire) == CLOSED { Asked::Replaced } else { Asked::Never };
        }
        let mut earned = self.earned.load(Ordering::Acquire);
        loop {
            if earned == CLOSED {
                return Asked::Replaced;
            }
            let (next, most) = (earned.max(now).saturating_add(self.period), now.saturating_add(self.capacity));
            if next > most {
                return Asked::Later(next - most);
            }
            match self.earned.compare_exchange_weak(earned, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Asked::Admitted,
                Err(other) => earned = other,
            }
        }
    }

    /// Gives one admission back that led to nothing.
    pub(crate) fn give_back(&self) {
        let back = |earned| (earned != CLOSED).then(|| earned - self.period.min(earned));
        let _ = self.earned.fetch_update(Ordering::AcqRel, Ordering::Acquire, back);
    }

    /// Admits nothing any more; how many admissions are saved up in it.
    pub(crate) fn close(&self, now: Moment) -> f64 {
        let earned = self.earned.swap(CLOSED, Ordering::AcqRel);
        if self.period == 0 || earned == CLOSED {
            return 0.0;
        }
        number(self.capacity.saturating_sub(earned.saturating_sub(now))) / number(self.period)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const START: Moment = 1 << 40;

    fn share(per_second: f64, burst: f64) -> Share {
        Share { per_second, burst }
    }

    fn admitted(bucket: &Bucket, now: Moment) -> u32 {
        let asked = (0..2_000).take_while(|_| bucket.admit(now) == Asked::Admitted);
        u32::try_from(asked.count()).unwrap()
    }

    #[test]
    fn a_burst_then_the_rate() {
        let bucket = Bucket::new(share(100.0, 50.0), 50.0, START);
        assert_eq!(admitted(&bucket, START), 50);
        let Asked::Later(wait) = bucket.admit(START) else { panic!("it is full") };
        assert_eq!(time(wait), Duration::from_millis(10));
        assert_eq!(admitted(&bucket, START + wait - 1), 0);
        assert_eq!(admitted(&bucket, START + wait), 1);
        assert_eq!(admitted(&bucket, START + units(Duration::from_secs(60))), 50);
        bucket.give_back();
        assert_eq!(admitted(&bucket, START + units(Duration::from_secs(60))), 1);
    }

    #[test]
    fn one_a_minute() {
        let bucket = Bucket::new(share(1.0 / 60.0, 1.0), 1.0, START);
        assert_eq!(admitted(&bucket, START), 1);
        assert_eq!(admitted(&bucket, START + units(Duration::from_millis(59_999))), 0);
        assert_eq!(admitted(&bucket, START + units(Duration::from_millis(60_001))), 1);
    }

    #[test]
    fn nothing_admits_nothing() {
        for (per_second, burst) in [(0.0, 0.0), (0.0, 5.0), (5.0, 0.9), (f64::NAN, 2.0), (5.0, f64::NAN)] {
            let bucket = Bucket::new(share(per_second, burst), 5.0, START);
            assert_eq!(bucket.admit(START), Asked::Never, "{per_second} {burst}");
            assert_eq!(bucket.close(START).to_bits(), 0.0_f64.to_bits());
            assert_eq!(bucket.admit(START), Asked::Replaced);
        }
    }

    #[test]
    fn threads_share_it_without_a_lock() {
        let bucket = Bucket::new(share(1.0, 1_000.0), 1_000.0, START);
        let sum: u32 = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| admitted(&bucket, START))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(sum, 1_000);
    }

    proptest! {
        /// Whatever parts follow one another, no more is admitted in any time than the largest of them allows.
        #[test]
        fn no_window_admits_too_much(
            steps in prop::collection::vec((0..200_u64, prop::option::of((0.1..1.0_f64, 0.1..1.0_f64))), 1..200),
        ) {
            let whole = share(100.0, 20.0);
            let (mut now, mut bucket) = (START, Bucket::new(whole, 20.0, START));
            let (mut left, mut last) = (20.0_f64, now);
            for (millis, change) in steps {
                now += units(Duration::from_millis(millis));
                left = (left + number(now - last) / UNITS * whole.per_second).min(whole.burst);
                last = now;
                if let Some((rate, burst)) = change {
                    let saved = bucket.close(now);
                    bucket = Bucket::new(share(whole.per_second * rate, whole.burst * burst), saved, now);
                }
                left -= f64::from(admitted(&bucket, now));
                prop_assert!(left > -1e-6, "{left}");
            }
        }
    }
}
