//! Rollouts, as administration shows them.

use dunlin_proto::{model::from_wire_duration, v1};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Time, id_in};

/// How the calls of a function move from one version to another, alone or together with those of other functions.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Rollout {
    /// The namespace's bare name.
    pub(crate) namespace: String,
    /// The function's bare name.
    pub(crate) function: String,
    /// The version that had all calls.
    pub(crate) old_version: u32,
    /// The version that is to have them.
    pub(crate) new_version: u32,
    /// The percentages that the new version gets, one after another; after the last one, everything.
    pub(crate) steps: Vec<u32>,
    /// Which step it is at, from 1; more than there are where the new version has everything.
    pub(crate) step: u32,
    /// How long a step takes at least, in milliseconds.
    pub(crate) step_time_ms: u64,
    /// How many calls the new version has in a step at least.
    pub(crate) step_calls: u64,
    /// What has become of it.
    pub(crate) state: RolloutState,
    /// Why it ended; empty while it goes on.
    pub(crate) reason: String,
    /// Who began it; empty where nobody did.
    pub(crate) creator: String,
    /// When it began.
    pub(crate) create_time: Option<Time>,
    /// When it moved last.
    pub(crate) update_time: Option<Time>,
    /// What the old version did since the step began; null once it has ended.
    pub(crate) old_tally: Option<VersionTally>,
    /// What the new version did since then.
    pub(crate) new_tally: Option<VersionTally>,
    /// All functions that move together, this one among them, in the order of their names.
    pub(crate) functions: Vec<RolloutFunction>,
    /// The app whose routes change once the new versions have all calls; empty where none are to change, and once it has ended.
    pub(crate) app: String,
}

/// A function of a rollout.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct RolloutFunction {
    /// The function's bare name.
    pub(crate) function: String,
    /// The version that had all its calls.
    pub(crate) old_version: u32,
    /// The version that is to have them.
    pub(crate) new_version: u32,
    /// What the old version did since the step began; null once it has ended.
    pub(crate) old_tally: Option<VersionTally>,
    /// What the new version did since then.
    pub(crate) new_tally: Option<VersionTally>,
}

impl From<v1::RolloutFunction> for RolloutFunction {
    fn from(wire: v1::RolloutFunction) -> Self {
        Self {
            function: id_in(&wire.function, "functions").to_owned(),
            old_version: wire.old_version,
            new_version: wire.new_version,
            old_tally: wire.old_tally.map(VersionTally::from),
            new_tally: wire.new_tally.map(VersionTally::from),
        }
    }
}

/// What has become of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RolloutState {
    /// Not known here.
    Unknown,
    /// Calls are divided and judged.
    Running,
    /// The new version has all calls.
    Promoted,
    /// The new version was worse: the old one has all calls again.
    Back,
    /// Somebody ended it.
    Stopped,
    /// Somebody divided the calls in another way meanwhile.
    Superseded,
    /// The new version trapped in most calls: the old one has all calls again.
    Quarantined,
}

/// What a version did.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct VersionTally {
    /// Calls, but for those that the platform failed.
    pub(crate) calls: u64,
    /// Those with a status of 500 or above, traps among them.
    pub(crate) failures: u64,
    /// Those that trapped.
    pub(crate) traps: u64,
    /// What 99 of 100 calls did not exceed, in microseconds, cold starts left out; null without calls.
    pub(crate) p99_us: Option<u64>,
}

impl From<v1::VersionTally> for VersionTally {
    fn from(wire: v1::VersionTally) -> Self {
        let micros = |p99| u64::try_from(from_wire_duration(Some(p99)).as_micros()).unwrap_or(u64::MAX);
        Self { calls: wire.calls, failures: wire.failures, traps: wire.traps, p99_us: wire.p99.map(micros) }
    }
}

impl From<v1::RolloutState> for RolloutState {
    fn from(wire: v1::RolloutState) -> Self {
        match wire {
            v1::RolloutState::Unspecified => Self::Unknown,
            v1::RolloutState::Running => Self::Running,
            v1::RolloutState::Promoted => Self::Promoted,
            v1::RolloutState::Back => Self::Back,
            v1::RolloutState::Stopped => Self::Stopped,
            v1::RolloutState::Superseded => Self::Superseded,
            v1::RolloutState::Quarantined => Self::Quarantined,
        }
    }
}

impl From<v1::Rollout> for Rollout {
    fn from(wire: v1::Rollout) -> Self {
        Self {
            namespace: id_in(&wire.function, "namespaces").to_owned(),
            function: id_in(&wire.function, "functions").to_owned(),
            old_version: wire.old_version,
            new_version: wire.new_version,
            step: wire.step,
            step_time_ms: u64::try_from(from_wire_duration(wire.step_time).as_millis()).unwrap_or(u64::MAX),
            step_calls: wire.step_calls,
            state: wire.state().into(),
            steps: wire.steps,
            reason: wire.reason,
            creator: wire.creator,
            create_time: wire.create_time.map(Time::from),
            update_time: wire.update_time.map(Time::from),
            old_tally: wire.old_tally.map(VersionTally::from),
            new_tally: wire.new_tally.map(VersionTally::from),
            app: wire.app.clone(),
            functions: wire.functions.into_iter().map(RolloutFunction::from).collect(),
        }
    }
}

/// A rollout after a change.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ChangedRollout {
    /// The rollout.
    pub(crate) rollout: Option<Rollout>,
    /// The gateways that have not said that they serve the change; they will, once they are reached.
    pub(crate) lagging_gateways: Vec<String>,
}
