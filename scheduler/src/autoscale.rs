//! How many workers a version wants: a pure function of its policy, what is asked of it now, and what was asked before.
//! Up at once where anybody waits or twice as much is asked, down after a quiet minute, to nothing once it has been idle.
//! In between it follows the average of two seconds: what runs at the moment of a report is noise for short invocations.
//! Time is the caller's, counted from any origin.

use std::time::Duration;

/// Workers of a version that is in use, where there are so many: the second one is there before the first one fails.
const SURVIVAL: u32 = 2;

/// How long less must be asked before workers are taken away.
const QUIET: Duration = Duration::from_secs(60);

/// A longer wait for a sandbox means that the workers are too few.
const DELAY: Duration = Duration::from_millis(20);

/// Over which time the demand is averaged.
const WINDOW: Duration = Duration::from_secs(2);

/// How many times the average is no noise but a burst.
const BURST: u64 = 2;

/// How much of what a worker may run at once is planned for, in percent; the rest takes bursts.
const TARGET_PERCENT: u64 = 80;

/// What a version is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Policy {
    pub(crate) min_workers: u32,
    pub(crate) max_workers: Option<u32>,
    pub(crate) idle_timeout: Duration,
    /// Invocations that may run at once on each worker.
    pub(crate) per_worker: u32,
    /// Invocations of the function at once, by which gateways admit calls: no more are scaled for.
    pub(crate) max_concurrency: Option<u32>,
}

impl Policy {
    /// So many workers, within what is allowed: as many as calls may run at the most, though two keep a call from being lost with
    /// one.
    fn bounded(&self, workers: u32) -> u32 {
        let useful = self.max_concurrency.map_or(u32::MAX, |calls| calls.max(SURVIVAL));
        workers.min(useful).max(self.min_workers).min(self.max_workers.unwrap_or(u32::MAX))
    }
}

/// What is asked of a version now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Stats {
    /// Invocations that run.
    pub(crate) in_flight: u32,
    /// Invocations that wait.
    pub(crate) queued: u32,
    /// The longest wait since the last report.
    pub(crate) queue_delay: Duration,
    /// Workers that have it ready.
    pub(crate) ready: u32,
    /// Somebody has asked for it without a call, such as a deploy or a gateway without a placement.
    pub(crate) activated: bool,
}

impl Stats {
    /// What may run of it.
    fn within(self, policy: &Policy) -> Self {
        let most = policy.max_concurrency.unwrap_or(u32::MAX);
        let in_flight = self.in_flight.min(most);
        Self { in_flight, queued: self.queued.min(most.saturating_sub(in_flight)), ..self }
    }

    fn demand(&self) -> u32 {
        self.in_flight.saturating_add(self.queued)
    }

    fn waits(&self) -> bool {
        self.queued > 0 || self.queue_delay > DELAY
    }
}

/// What a version wanted until now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct State {
    /// Workers that it wants.
    pub(crate) desired: u32,
    /// Workers that its load alone asks for.
    pub(crate) by_load: u32,
    /// When it was last in use; never, where only `min_workers` holds it.
    used: Option<Duration>,
    /// Since when it asks for less, and the most that it asked for since.
    lull: Option<(Duration, u32)>,
    average: Average,
}

/// The demand on a moving average.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Average {
    /// In thousandths of an invocation.
    millis: u64,
    at: Duration,
}

impl Average {
    /// The average after so much was asked; `before` is what this returned the last time.
    fn after(before: Option<Self>, demand: u32, now: Duration) -> Self {
        let asked = u64::from(demand).saturating_mul(1_000);
        let Some(before) = before else { return Self { millis: asked, at: now } };
        let since = now.saturating_sub(before.at).as_millis().min(u128::from(u32::MAX));
        let whole = since.saturating_add(WINDOW.as_millis());
        let old = u128::from(before.millis).saturating_mul(WINDOW.as_millis());
        let sum = u128::from(asked).saturating_mul(since).saturating_add(old);
        Self { millis: sum.checked_div(whole).and_then(|mean| u64::try_from(mean).ok()).unwrap_or(asked), at: now }
    }

    /// Invocations, rounded; less than a twentieth of one is none.
    fn invocations(self) -> u64 {
        if self.millis < 50 { 0 } else { self.millis.div_ceil(1_000) }
    }
}

impl State {
    /// Whether nothing is left to remember.
    pub(crate) fn is_over(&self) -> bool {
        self.desired == 0 && self.by_load == 0
    }
}

/// What the version wants now; `before` is what this returned the last time.
pub(crate) fn decide(policy: &Policy, stats: &Stats, before: Option<&State>, now: Duration) -> State {
    let stats = &stats.within(policy);
    let in_use = stats.demand() > 0 || stats.activated;
    let used = if in_use { Some(now) } else { before.and_then(|before| before.used) };
    let idle = used.is_none_or(|used| now.saturating_sub(used) >= policy.idle_timeout);
    let average = Average::after(before.map(|before| before.average), stats.demand(), now);
    let by_load = by_load(policy, stats, average, before.map_or(0, |before| before.desired));
    if idle {
        return State { desired: policy.min_workers, by_load: 0, used: None, lull: None, average };
    }
    let wanted = policy.bounded(by_load.max(SURVIVAL));
    let (desired, lull) = match before {
        // The average only fades: what is asked now tells sooner that less is enough, and the most of a minute is no noise.
        Some(before) if wanted < before.desired => {
            let calm = enough(policy, average.invocations().min(u64::from(stats.demand())));
            quieten(before, policy.bounded(calm.max(SURVIVAL)), now)
        }
        _ => (wanted, None),
    };
    State { desired: policy.bounded(desired), by_load, used, lull, average }
}

/// Keeps what it had until less has been asked for a minute, then falls to the most asked for in that minute.
fn quieten(before: &State, wanted: u32, now: Duration) -> (u32, Option<(Duration, u32)>) {
    let (since, most) = before.lull.map_or((now, wanted), |(since, most)| (since, most.max(wanted)));
    if now.saturating_sub(since) >= QUIET { (most, None) } else { (before.desired, Some((since, most))) }
}

/// The workers that the load asks for: enough to run it, and one more while anybody waits although all that were wanted
/// are there.
fn by_load(policy: &Policy, stats: &Stats, average: Average, desired: u32) -> u32 {
    let (now, mean) = (u64::from(stats.demand()), average.invocations());
    let load = if stats.waits() || now > mean.saturating_mul(BURST) { now } else { mean };
    let more = if stats.waits() && stats.ready >= desired.max(1) { stats.ready.saturating_add(1) } else { 0 };
    enough(policy, load).max(more)
}

/// The workers that so many invocations at once need.
fn enough(policy: &Policy, load: u64) -> u32 {
    let share = u64::from(policy.per_worker.max(1)).saturating_mul(TARGET_PERCENT);
    u32::try_from(load.saturating_mul(100).div_ceil(share.max(1))).unwrap_or(u32::MAX)
}

/// How many workers the cluster should have: enough sandboxes for all that is asked, and as many as the version that asks
/// for the most. `total` is the demand of all versions, `capacity` what one worker has.
pub(crate) fn wanted_workers<'a>(states: impl Iterator<Item = &'a State>, total: u64, capacity: u64) -> u32 {
    let most = states.map(|state| state.by_load.max(u32::from(state.desired > 0))).max().unwrap_or_default();
    let share = capacity.max(1).saturating_mul(TARGET_PERCENT);
    let room = total.saturating_mul(100).div_ceil(share);
    u32::try_from(room).unwrap_or(u32::MAX).max(most)
}

#[cfg(test)]
mod tests;
