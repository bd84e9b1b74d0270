//! A rollout as the store keeps it: how the calls of functions move from one version to another, and what came of it.

use std::{str::FromStr, time::Duration};

use dunlin_proto::{
    ids::{AppId, FunctionUid, Namespace, RolloutId, VersionNumber},
    names::FunctionRef,
};

use super::{Share, Time};

/// A rollout of one function, or of several that move together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RolloutRecord {
    /// Which one it is; callers have the same places in all its divisions.
    pub(crate) id: RolloutId,
    /// Where its functions are.
    pub(crate) namespace: Namespace,
    /// What moves, in the order of the functions' names; never empty.
    pub(crate) parts: Vec<RolloutPart>,
    /// The percentages that the new versions get, one after another; after the last one, everything.
    pub(crate) steps: Vec<u32>,
    /// Which of them they have, from 0.
    pub(crate) step: usize,
    /// How long a step takes at least.
    pub(crate) step_time: Duration,
    /// How many calls the new versions have together in a step at least.
    pub(crate) step_calls: u64,
    /// What has become of it.
    pub(crate) state: RolloutState,
    /// Why it ended; empty while it goes on.
    pub(crate) reason: String,
    /// The subject of the token that began it; empty where nobody did.
    pub(crate) creator: String,
    /// The app whose routes change once the new versions have all calls; nothing where none are to change, and once it has ended.
    pub(crate) app: Option<AppId>,
    /// When it began.
    pub(crate) create_time: Time,
    /// When it moved last.
    pub(crate) update_time: Time,
}

/// A function of a rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RolloutPart {
    /// Which one it is, by name.
    pub(crate) function: FunctionRef,
    /// Which one it is, for ever.
    pub(crate) uid: FunctionUid,
    /// The version that had all calls.
    pub(crate) old: VersionNumber,
    /// The version that is to have them.
    pub(crate) new: VersionNumber,
}

/// What has become of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RolloutState {
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
    /// The new version, which nobody judged, trapped in most calls: the old one has all calls again.
    Quarantined,
}

impl RolloutState {
    const ALL: [Self; 6] =
        [Self::Running, Self::Promoted, Self::Back, Self::Stopped, Self::Superseded, Self::Quarantined];

    /// Its spelling in the database.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Promoted => "promoted",
            Self::Back => "back",
            Self::Stopped => "stopped",
            Self::Superseded => "superseded",
            Self::Quarantined => "quarantined",
        }
    }
}

impl FromStr for RolloutState {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or(())
    }
}

impl RolloutRecord {
    /// How the calls of one of its functions divide in this step; everything is the new version's after the last one.
    pub(crate) fn shares(&self, part: &RolloutPart) -> Vec<Share> {
        match self.steps.get(self.step) {
            Some(percent) => vec![Share(part.old, 100_u32.saturating_sub(*percent)), Share(part.new, *percent)],
            None => vec![Share(part.new, 100)],
        }
    }

    /// Whether a function is one of its own.
    pub(crate) fn concerns(&self, function: FunctionUid) -> bool {
        self.parts.iter().any(|part| part.uid == function)
    }

    /// Why it moves, where a reason concerns one of its functions: which one it is said of is clear where there are no others.
    pub(crate) fn because_of(&self, part: &RolloutPart, reason: &str) -> String {
        if self.parts.len() > 1 { format!("{}: {reason}", part.function.function) } else { reason.to_owned() }
    }
}
