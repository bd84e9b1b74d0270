//! When an authority is asked: to renew a certificate, and again after a failure. Pure: time and chance are arguments.

use std::time::Duration;

use crate::model::Time;

/// Between attempts, at the most.
const LONGEST: Duration = Duration::from_secs(12 * 3600);
/// Before the end of a certificate, at the most.
const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

/// When a certificate is renewed: once two thirds of its life are over, or up to a twentieth of its life earlier, so that those
/// that were issued together are not renewed together. Chance lies between 0 and 1.
pub(super) fn renewal(start: Time, expire: Time, chance: f64) -> Time {
    let life = Duration::from_micros(u64::try_from(expire.0.saturating_sub(start.0)).unwrap_or_default());
    start.after(life.mul_f64(2.0 / 3.0 - chance.clamp(0.0, 1.0) / 20.0))
}

/// Whether a certificate ends so soon that its renewal must have failed for long: within a week, or within the last sixth of a short
/// life.
pub(crate) fn ends_soon(start: Time, expire: Time, now: Time) -> bool {
    let life = Duration::from_micros(u64::try_from(expire.0.saturating_sub(start.0)).unwrap_or_default());
    now.after(WEEK.min(life / 6)) >= expire
}

/// When it is tried again after so many failures: after `first`, doubled with each further one, half of it left to chance, and not
/// before the authority wants to be asked again.
pub(super) fn retry(now: Time, first: Duration, failures: u32, wanted: Option<Time>, chance: f64) -> Time {
    let doubled = first.saturating_mul(1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX));
    let pause = doubled.min(LONGEST).mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0);
    now.after(pause).max(wanted.unwrap_or(now))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: i64 = 24 * 3600 * 1_000_000;

    #[test]
    fn a_certificate_is_renewed_when_a_third_of_its_life_is_left() {
        for (days, chance, expected) in [(90, 0.0, 60.0), (90, 1.0, 55.5), (6, 0.0, 4.0), (6, 0.5, 3.85), (0, 0.5, 0.0)]
        {
            let due = renewal(Time(DAY), Time(DAY + days * DAY), chance);
            let after = (due.0 - DAY) as f64 / DAY as f64;
            assert!((after - expected).abs() < 0.001, "{days} {chance}: {after}");
        }
        assert_eq!(renewal(Time(5), Time(1), 0.5), Time(5), "one that ends before it begins is renewed at once");
    }

    #[test]
    fn what_ends_within_a_week_or_a_sixth_of_its_life_ends_soon() {
        for (days, now, expected) in
            [(90, 82.9, false), (90, 83.0, true), (90, 95.0, true), (6, 4.9, false), (6, 5.0, true)]
        {
            let now = Time((now * DAY as f64) as i64);
            assert_eq!(ends_soon(Time(0), Time(days * DAY), now), expected, "{days} {now:?}");
        }
    }

    #[test]
    fn failures_are_tried_again_more_and_more_rarely() {
        let (first, second) = (Duration::from_secs(60), 1_000_000);
        for (failures, wanted, chance, expected) in [
            (1, None, 1.0, 60),
            (1, None, 0.0, 30),
            (2, None, 1.0, 120),
            (5, None, 1.0, 960),
            (12, None, 1.0, 43_200),
            (40, None, 1.0, 43_200),
            (u32::MAX, None, 0.0, 21_600),
            (1, Some(3_600), 1.0, 3_600),
            (1, Some(10), 1.0, 60),
        ] {
            let wanted = wanted.map(|seconds: i64| Time(seconds * second));
            assert_eq!(retry(Time(0), first, failures, wanted, chance), Time(expected * second), "{failures}");
        }
    }

    proptest! {
        #[test]
        fn a_retry_is_in_the_future_and_within_half_a_day(failures in 1_u32.., chance in 0.0..=1.0, seconds in 1_u64..=43_200) {
            let at = retry(Time(7), Duration::from_secs(seconds), failures, None, chance);
            prop_assert!(at > Time(7) && at <= Time(7).after(LONGEST));
        }

        #[test]
        fn a_renewal_lies_within_the_life(start in 0_i64..DAY, life in 0_i64..1000 * DAY, chance in 0.0..=1.0) {
            let due = renewal(Time(start), Time(start + life), chance);
            prop_assert!(due.0 >= start && due.0 <= start + life);
        }
    }
}
