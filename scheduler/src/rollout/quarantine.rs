//! Whether a version that has just got all calls traps so much that the one before it has to stand in. Pure but for what it
//! remembers of the last seconds; time is an argument.
//!
//! It is for versions that nobody judged: for an hour after they got everything, since what goes wrong later is rarely the
//! deploy's doing. One caller can't bring it about, however often its calls trap.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::tally::Tally;

/// How long a version counts as fresh.
pub(crate) const FRESH: Duration = Duration::from_secs(3600);
/// The time that is looked at.
const WINDOW: Duration = Duration::from_secs(10);
/// Traps within it, and callers whose calls trapped.
const TRAPS: u64 = 20;
const CALLERS: usize = 3;

/// What a fresh version did in the last seconds.
#[derive(Debug, Default)]
pub(crate) struct Recent(VecDeque<(Instant, u64, u64)>);

impl Recent {
    /// Takes in what it has done up to now, and says how many calls it had in the last seconds and how many of them trapped.
    pub(crate) fn look(&mut self, tally: &Tally, now: Instant) -> (u64, u64) {
        // The newest look from before the window is where the window begins.
        while self.0.get(1).is_some_and(|(at, ..)| now.saturating_duration_since(*at) >= WINDOW) {
            self.0.pop_front();
        }
        self.0.push_back((now, tally.calls, tally.traps));
        let (_, calls, traps) = self.0.front().copied().unwrap_or((now, 0, 0));
        (tally.calls.saturating_sub(calls), tally.traps.saturating_sub(traps))
    }
}

/// Why a version has to go, if it has to.
pub(crate) fn decide((calls, traps): (u64, u64), callers: usize) -> Option<String> {
    let bad = traps >= TRAPS && callers >= CALLERS && traps.saturating_mul(2) > calls;
    let callers = if callers >= 8 { "many callers".to_owned() } else { format!("{callers} callers") };
    bad.then(|| format!("{traps} of {calls} calls within {} s trapped, of {callers}", WINDOW.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::{super::tally::tests::tally, *};

    #[test]
    fn many_traps_of_several_callers_are_needed() {
        for (calls, traps, callers, gone) in [
            (20, 20, 3, true),
            (39, 20, 3, true),
            (40, 20, 3, false),
            (20, 19, 3, false),
            (1_000_000, 1_000_000, 2, false),
            (20, 20, 8, true),
        ] {
            assert_eq!(decide((calls, traps), callers).is_some(), gone, "{calls} {traps} {callers}");
        }
        assert_eq!(decide((30, 20), 3).unwrap(), "20 of 30 calls within 10 s trapped, of 3 callers");
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_last_seconds_count() {
        let (mut recent, mut now) = (Recent::default(), Instant::now());
        let (mut calls, mut traps) = (1_000, 900);
        assert_eq!(recent.look(&tally(calls, 0, traps, &[]), now), (0, 0), "what was before is over");
        for second in 1..=30 {
            now += Duration::from_secs(1);
            (calls, traps) = (calls + 10, traps + 1);
            let seen = recent.look(&tally(calls, 0, traps, &[]), now);
            let seconds = second.min(10);
            assert!(seen == (seconds * 10, seconds) || seen == (110, 11), "{second}: {seen:?}");
        }
        assert!(recent.0.len() <= 12);
    }
}
