//! When the record of a domain is looked for. Pure: time is an argument.

use std::time::Duration;

use crate::model::Time;

/// How long it is looked for.
pub(crate) const LIFE: Duration = Duration::from_secs(7 * 24 * 3600);
/// Between the first two looks; doubled from each to the next.
const FIRST: Duration = Duration::from_secs(10);
/// Between two looks, at the most.
const LONGEST: Duration = Duration::from_secs(600);

/// When it is looked for again after so many looks before this one; nothing where it is given up.
pub(super) fn next(now: Time, attempts: u32, expire: Time) -> Option<Time> {
    let doubled = FIRST.saturating_mul(1_u32.checked_shl(attempts).unwrap_or(u32::MAX));
    let next = now.after(doubled.min(LONGEST));
    (next <= expire).then_some(next)
}

/// How long to wait for the next moment, at the most.
pub(super) fn pause(now: Time, next: Option<Time>, most: Duration) -> Duration {
    let until = |next: Time| Duration::from_micros(u64::try_from(next.0.saturating_sub(now.0)).unwrap_or_default());
    next.map_or(most, until).min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    #[test]
    fn looks_become_rarer_and_end() {
        for (attempts, seconds) in
            [(0, 10), (1, 20), (2, 40), (5, 320), (6, 600), (31, 600), (32, 600), (u32::MAX, 600)]
        {
            assert_eq!(next(Time(0), attempts, Time(0).after(LIFE)), Some(Time(seconds * SECOND)), "{attempts}");
        }
        assert_eq!(next(Time(0), 0, Time(10 * SECOND)), Some(Time(10 * SECOND)));
        assert_eq!(next(Time(0), 0, Time(10 * SECOND - 1)), None);
        assert_eq!(next(Time(5), 9, Time(0)), None);
    }

    #[test]
    fn nobody_waits_longer_than_he_may() {
        let most = Duration::from_secs(30);
        for (next, expected) in
            [(None, 30), (Some(Time(5 * SECOND)), 5), (Some(Time(90 * SECOND)), 30), (Some(Time(-1)), 0)]
        {
            assert_eq!(pause(Time(0), next, most), Duration::from_secs(expected), "{next:?}");
        }
    }
}
