//! How many sandboxes of a version shall stand ready: decided from what ran lately, with no clock and no effect.
//!
//! As many sandboxes as ran at once lately, and a quarter more, shall exist; those that do not run stand ready. Nobody having
//! called for the idle time, only `min` do.

use std::time::Duration;

use tokio::time::Instant;

/// How many sandboxes a version may have on a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scaling {
    /// Kept ready at all times.
    pub(crate) min: u32,
    /// Run at once; none stand ready beyond it.
    pub(crate) max: u32,
    /// How long more than `min` stand ready without a call.
    pub(crate) idle_timeout: Duration,
}

/// What was asked of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Demand {
    /// Run now.
    pub(super) in_flight: u32,
    /// The most that ran at once lately.
    pub(super) peak: u32,
    /// Since the last call; nothing where there was none.
    pub(super) since_call: Option<Duration>,
    /// It is only here in case another worker fails.
    pub(super) standby: bool,
}

/// How many shall stand ready.
pub(super) fn wanted(scaling: &Scaling, demand: &Demand) -> u32 {
    let room = scaling.max.saturating_sub(demand.in_flight);
    let floor = if demand.standby { 0 } else { scaling.min };
    if demand.since_call.is_none_or(|since| since >= scaling.idle_timeout) {
        return floor.min(room);
    }
    let peak = demand.peak.max(demand.in_flight);
    let all = peak.saturating_add(peak.div_ceil(4));
    floor.max(all.saturating_sub(demand.in_flight)).max(1).min(room)
}

/// The most that ran at once in the last five to ten seconds.
#[derive(Debug, Default)]
pub(super) struct Peak {
    before: u32,
    current: u32,
    since: Option<Instant>,
}

/// How long a peak counts at least.
const WINDOW: Duration = Duration::from_secs(5);

impl Peak {
    /// So many run now.
    pub(super) fn note(&mut self, in_flight: u32, now: Instant) {
        self.turn(now);
        self.current = self.current.max(in_flight);
    }

    /// The peak, as of `now`.
    pub(super) fn over(&mut self, now: Instant) -> u32 {
        self.turn(now);
        self.before.max(self.current)
    }

    fn turn(&mut self, now: Instant) {
        let since = *self.since.get_or_insert(now);
        let age = now.saturating_duration_since(since);
        if age < WINDOW {
            return;
        }
        self.before = if age < WINDOW * 2 { self.current } else { 0 };
        self.current = 0;
        self.since = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_secs(60);

    fn after(seconds: u64) -> Option<Duration> {
        Some(Duration::from_secs(seconds))
    }

    #[test]
    fn as_many_stand_ready_as_ran_lately_and_a_quarter_more() {
        let cases = [
            // min, max, in flight, peak, since the last call, standby => stand ready
            ("assigned, no call yet", (0, 100, 0, 0, after(0), false), 1),
            ("min is kept", (3, 100, 0, 0, after(0), false), 3),
            ("min is kept while calls run", (3, 100, 2, 2, after(0), false), 3),
            ("one runs", (0, 100, 1, 1, after(0), false), 1),
            ("one has run", (0, 100, 0, 1, after(1), false), 2),
            ("many run", (0, 100, 40, 40, after(0), false), 10),
            ("many have run", (0, 100, 0, 40, after(1), false), 50),
            ("the peak fades", (0, 100, 0, 4, after(10), false), 5),
            ("never more than max together", (0, 10, 8, 10, after(0), false), 2),
            ("none when max run", (5, 10, 10, 10, after(0), false), 0),
            ("max is one", (0, 1, 0, 1, after(0), false), 1),
            ("idle", (0, 100, 0, 40, after(60), false), 0),
            ("idle with min", (2, 100, 0, 40, after(60), false), 2),
            ("a long call does not keep others ready", (0, 100, 1, 1, after(61), false), 0),
            ("standby, never called", (2, 100, 0, 0, None, true), 0),
            ("standby, called", (2, 100, 1, 1, after(0), true), 1),
            ("more run than allowed", (2, 1, 3, 3, after(0), false), 0),
        ];
        for (name, (min, max, in_flight, peak, since_call, standby), expected) in cases {
            let scaling = Scaling { min, max, idle_timeout: IDLE };
            let demand = Demand { in_flight, peak, since_call, standby };
            assert_eq!(wanted(&scaling, &demand), expected, "{name}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_peak_counts_for_five_to_ten_seconds() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut peak = Peak::default();
        peak.note(7, at(0));
        assert_eq!(peak.over(at(4)), 7);
        peak.note(2, at(6));
        assert_eq!(peak.over(at(9)), 7);
        assert_eq!(peak.over(at(12)), 2);
        peak.note(9, at(12));
        assert_eq!(peak.over(at(40)), 0);
    }
}
