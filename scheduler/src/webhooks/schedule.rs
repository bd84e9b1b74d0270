//! When a delivery is tried again. Pure: time and chance are arguments.

use std::time::Duration;

use crate::model::Time;

/// After a first failure; each further one doubles it.
const FIRST: Duration = Duration::from_secs(5);
/// Between attempts, at the most.
const LONGEST: Duration = Duration::from_secs(2 * 3600);
/// How long an event is tried.
pub(super) const PATIENCE: Duration = Duration::from_secs(24 * 3600);

/// When an event of that moment is tried again that has failed so often, half of the pause left to chance between 0 and 1, and not
/// before the receiver wants it; the last time when its day is over. Nothing once that is so.
pub(super) fn retry(event: Time, now: Time, tries: u32, wanted: Duration, chance: f64) -> Option<Time> {
    let end = event.after(PATIENCE);
    let doubled = FIRST.saturating_mul(1_u32.checked_shl(tries.saturating_sub(1)).unwrap_or(u32::MAX));
    let pause = doubled.min(LONGEST).mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0).max(wanted.min(LONGEST));
    (now < end).then(|| now.after(pause).min(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;
    const DAY: i64 = 86_400 * SECOND;

    #[test]
    fn failures_are_tried_again_more_and_more_rarely() {
        for (tries, wanted, chance, expected) in [
            (1, 0, 1.0, 5.0),
            (1, 0, 0.0, 2.5),
            (2, 0, 1.0, 10.0),
            (5, 0, 1.0, 80.0),
            (12, 0, 1.0, 7_200.0),
            (u32::MAX, 0, 0.5, 5_400.0),
            (1, 60, 0.5, 60.0),
            (1, 1_000_000, 0.5, 7_200.0),
        ] {
            let next = retry(Time(0), Time(0), tries, Duration::from_secs(wanted), chance).unwrap();
            assert_eq!(next.0 as f64 / SECOND as f64, expected, "{tries} {wanted} {chance}");
        }
    }

    #[test]
    fn an_event_is_tried_for_a_day_and_at_its_end() {
        let at = |now| retry(Time(0), Time(now), 20, Duration::ZERO, 1.0);
        assert_eq!(at(DAY - SECOND), Some(Time(DAY)));
        assert_eq!((at(DAY), at(2 * DAY)), (None, None));
        let (mut now, mut tries) = (0, 1);
        while let Some(next) = retry(Time(0), Time(now), tries, Duration::ZERO, 0.5) {
            (now, tries) = (next.0, tries + 1);
        }
        assert_eq!(now, DAY);
        assert!((15..40).contains(&tries), "{tries}");
    }
}
