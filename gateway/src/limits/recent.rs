//! How many calls came under a rate in the last period of it, for who is refused: counts of all calls so far, noted now and then,
//! of which the one at the period's beginning is what came before. Calls themselves touch nothing here.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

/// Notes in a period: what is counted as its calls may be older by one part in so many.
const NOTES: u32 = 16;

/// Counts of the last period.
#[derive(Debug, Default)]
pub(super) struct Recent(VecDeque<(Instant, u64)>);

impl Recent {
    /// So many calls have come until now.
    pub(super) fn note(&mut self, calls: u64, period: Duration, now: Instant) {
        if self.0.back().is_none_or(|(last, _)| now.saturating_duration_since(*last) >= period / NOTES) {
            self.0.push_back((now, calls));
        }
        // The newest that is not of the period any more says what came before it.
        while self.0.get(1).is_some_and(|(second, _)| now.saturating_duration_since(*second) >= period) {
            self.0.pop_front();
        }
    }

    /// Calls in the period that ends now, where so many have come at all.
    pub(super) fn within(&self, calls: u64, period: Duration, now: Instant) -> u64 {
        let before = self.0.iter().rev().find(|(at, _)| now.saturating_duration_since(*at) >= period);
        calls.saturating_sub(before.map_or(0, |(_, count)| *count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn calls_of_the_last_period_count_and_no_pace() {
        let (start, mut recent) = (Instant::now(), Recent::default());
        assert_eq!(recent.within(5, HOUR, start), 5, "nothing was noted yet");
        for minute in 0..180_u64 {
            // One call a minute, all of them in the first hour and a half.
            let now = start + Duration::from_secs(minute * 60);
            recent.note(minute.min(90), HOUR, now);
            let (is, came) =
                (recent.within(minute.min(90), HOUR, now), minute.min(90) - minute.saturating_sub(60).min(90));
            assert!((came..=came + 4).contains(&is), "{is} and not {came} after {minute} minutes");
            assert!(recent.0.len() <= NOTES as usize + 2);
        }
        assert_eq!(recent.within(91, HOUR, start + HOUR * 4), 1, "what came long ago is forgotten");
    }
}
