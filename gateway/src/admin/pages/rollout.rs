//! How a rollout goes, or how the last one ended, as a part of its function's page.

use std::time::SystemTime;

use super::{
    format::{self, When},
    view::{Badge, visible},
};
use crate::admin::model::{Rollout, RolloutState, VersionTally};

/// What the page says of a rollout.
#[derive(Debug)]
pub(super) struct RolloutNote {
    pub(super) badge: Badge,
    pub(super) from: u32,
    pub(super) to: u32,
    /// Where it is, or why it ended.
    pub(super) text: String,
    /// The other functions that move with it; empty where there are none.
    pub(super) together: String,
    pub(super) when: Option<When>,
    /// What both versions did since the step began, while it goes on.
    pub(super) tallies: Vec<(u32, String)>,
    /// What to do about it.
    pub(super) command: String,
}

impl RolloutNote {
    /// The note about a rollout.
    pub(super) fn new(rollout: &Rollout, now: SystemTime) -> Self {
        let running = rollout.state == RolloutState::Running;
        let at = usize::try_from(rollout.step).ok().and_then(|step| step.checked_sub(1));
        let percent = at.and_then(|at| rollout.steps.get(at)).copied().unwrap_or(100);
        let step = format!("step {} of {}, {percent} % of the calls", rollout.step, rollout.steps.len());
        let tallies = [(rollout.old_version, &rollout.old_tally), (rollout.new_version, &rollout.new_tally)];
        let tallies = tallies.into_iter().filter_map(|(version, tally)| Some((version, text(tally.as_ref()?))));
        let verb = if running { "stop" } else { "show" };
        Self {
            badge: badge(rollout.state),
            from: rollout.old_version,
            to: rollout.new_version,
            text: if running { step } else { visible(&rollout.reason) },
            together: together(rollout),
            when: rollout.update_time.map(|time| When::new(time, now)),
            tallies: tallies.collect(),
            command: format!("dunlin rollout {verb} {} --namespace {}", rollout.function, rollout.namespace),
        }
    }
}

fn together(rollout: &Rollout) -> String {
    let others = rollout.functions.iter().filter(|other| other.function != rollout.function);
    others
        .map(|other| format!("{} v{} → v{}", other.function, other.old_version, other.new_version))
        .collect::<Vec<_>>()
        .join(", ")
}

fn badge(state: RolloutState) -> Badge {
    match state {
        RolloutState::Running => Badge::plain("rolling out"),
        RolloutState::Promoted => Badge::plain("rolled out"),
        RolloutState::Back => Badge::warn("taken back"),
        RolloutState::Quarantined => Badge::warn("quarantined"),
        RolloutState::Stopped | RolloutState::Superseded | RolloutState::Unknown => Badge::plain("ended"),
    }
}

fn text(tally: &VersionTally) -> String {
    let VersionTally { calls, failures, .. } = tally;
    let p99 = tally.p99_us.map(|micros| format!(", p99 {}", format::micros(micros))).unwrap_or_default();
    format!("{calls} calls, {failures} failed{p99}")
}
