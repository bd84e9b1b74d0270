//! How many workers a version wants: a pure function of its policy, what is asked of it now, and what was asked before.
//! Up at once, down after a quiet minute, to nothing once it has been idle. Time is the caller's, counted from any origin.

use std::time::Duration;

/// Workers of a version that is in use, where there are so many: the second one is there before the first one fails.
const SURVIVAL: u32 = 2;

/// How long less must be asked before workers are taken away.
const QUIET: Duration = Duration::from_secs(60);

/// A longer wait for a sandbox means that the workers are too few.
const DELAY: Duration = Duration::from_millis(20);

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
    fn demand(&self) -> u32 {
        self.in_flight.saturating_add(self.queued)
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
}

impl State {
    /// Whether nothing is left to remember.
    pub(crate) fn is_over(&self) -> bool {
        self.desired == 0 && self.by_load == 0
    }
}

/// What the version wants now; `before` is what this returned the last time.
pub(crate) fn decide(policy: &Policy, stats: &Stats, before: Option<&State>, now: Duration) -> State {
    let in_use = stats.demand() > 0 || stats.activated;
    let used = if in_use { Some(now) } else { before.and_then(|before| before.used) };
    let idle = used.is_none_or(|used| now.saturating_sub(used) >= policy.idle_timeout);
    let by_load = by_load(policy, stats, before.map_or(0, |before| before.desired));
    let bounded = |workers: u32| workers.max(policy.min_workers).min(policy.max_workers.unwrap_or(u32::MAX));
    if idle {
        return State { desired: policy.min_workers, by_load: 0, used: None, lull: None };
    }
    let wanted = bounded(by_load.max(SURVIVAL));
    let (desired, lull) = match before {
        Some(before) if wanted < before.desired => quieten(before, wanted, now),
        _ => (wanted, None),
    };
    State { desired: bounded(desired), by_load, used, lull }
}

/// Keeps what it had until less has been asked for a minute, then falls to the most asked for in that minute.
fn quieten(before: &State, wanted: u32, now: Duration) -> (u32, Option<(Duration, u32)>) {
    let (since, most) = before.lull.map_or((now, wanted), |(since, most)| (since, most.max(wanted)));
    if now.saturating_sub(since) >= QUIET { (most, None) } else { (before.desired, Some((since, most))) }
}

/// The workers that the load asks for: enough to run it, and one more while anybody waits although all that were wanted
/// are there.
fn by_load(policy: &Policy, stats: &Stats, desired: u32) -> u32 {
    if stats.demand() == 0 {
        return 0;
    }
    let share = u64::from(policy.per_worker.max(1)).saturating_mul(TARGET_PERCENT);
    let enough = u64::from(stats.demand()).saturating_mul(100).div_ceil(share.max(1));
    let enough = u32::try_from(enough).unwrap_or(u32::MAX);
    let waits = stats.queued > 0 || stats.queue_delay > DELAY;
    let more = if waits && stats.ready >= desired.max(1) { stats.ready.saturating_add(1) } else { 0 };
    enough.max(more)
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
