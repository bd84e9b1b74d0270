//! How often something happened in each of the last minutes. Pure; time is told.

use std::time::SystemTime;

/// Minutes that are told apart: five, and those in which they begin and end.
const KEPT: usize = 8;

/// Counts of the last minutes, each with which one it is.
#[derive(Debug, Default)]
pub(super) struct Minutes([(u64, u64); KEPT]);

impl Minutes {
    /// Counts what happened at a time. What is older than the minutes that are told apart is forgotten.
    pub(super) fn add(&mut self, time: SystemTime, count: u64) {
        let minute = minute(time);
        let place = usize::try_from(minute).unwrap_or_default() % KEPT;
        let Some((which, counted)) = self.0.get_mut(place) else { return };
        match (*which).cmp(&minute) {
            std::cmp::Ordering::Less => (*which, *counted) = (minute, count),
            std::cmp::Ordering::Equal => *counted += count,
            std::cmp::Ordering::Greater => {}
        }
    }

    /// How often it happened from the minute on that a time lies in.
    pub(super) fn since(&self, time: SystemTime) -> u64 {
        let first = minute(time);
        self.0.iter().filter(|(which, _)| *which >= first).map(|(_, count)| count).sum()
    }
}

/// Which minute since 1970 it is.
fn minute(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs() / 60
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_last_minutes_are_told_apart_and_older_ones_are_forgotten() {
        let at = |minute: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(60 * minute + 7);
        let mut minutes = Minutes::default();
        for (minute, count) in [(100, 1), (100, 2), (104, 10), (96, 100), (105, 1_000)] {
            minutes.add(at(minute), count);
        }
        assert_eq!([95, 100, 101, 105, 106].map(|minute| minutes.since(at(minute))), [1_013, 1_013, 1_010, 1_000, 0]);
        minutes.add(at(112), 1);
        assert_eq!(minutes.since(at(0)), 1_004, "minute 104 has made room, and minute 96 was too old before");
    }
}
