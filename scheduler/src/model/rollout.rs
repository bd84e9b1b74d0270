//! A rollout as the store keeps it: how the calls of a function move from one version to another, and what came of it.

use std::{str::FromStr, time::Duration};

use dunlin_proto::{
    ids::{FunctionUid, VersionNumber},
    names::FunctionRef,
};

use super::{Share, Time};

/// The last rollout of a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RolloutRecord {
    /// Whose it is, by name.
    pub(crate) function: FunctionRef,
    /// Whose it is, for ever.
    pub(crate) uid: FunctionUid,
    /// The version that had all calls.
    pub(crate) old: VersionNumber,
    /// The version that is to have them.
    pub(crate) new: VersionNumber,
    /// The percentages that the new one gets, one after another; after the last one, everything.
    pub(crate) steps: Vec<u32>,
    /// Which of them it has, from 0.
    pub(crate) step: usize,
    /// How long a step takes at least.
    pub(crate) step_time: Duration,
    /// How many calls the new version has in a step at least.
    pub(crate) step_calls: u64,
    /// What has become of it.
    pub(crate) state: RolloutState,
    /// Why it ended; empty while it goes on.
    pub(crate) reason: String,
    /// The subject of the token that began it; empty where nobody did.
    pub(crate) creator: String,
    /// When it began.
    pub(crate) create_time: Time,
    /// When it moved last.
    pub(crate) update_time: Time,
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
    /// How calls divide in this step.
    pub(crate) fn shares(&self) -> Vec<Share> {
        self.shares_at(self.step)
    }

    /// How they divide in a step; everything is the new version's after the last one.
    pub(crate) fn shares_at(&self, step: usize) -> Vec<Share> {
        match self.steps.get(step) {
            Some(percent) => vec![Share(self.old, 100_u32.saturating_sub(*percent)), Share(self.new, *percent)],
            None => vec![Share(self.new, 100)],
        }
    }
}
