//! What the operator says of rollouts: `[rollout]`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How short a step of a rollout may be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RolloutConfig {
    /// The shortest time that a step takes, in seconds. Default 60.
    pub min_step_seconds: u64,
    /// The fewest calls of the new version in a step. Default 500.
    pub min_step_calls: u64,
}

impl Default for RolloutConfig {
    fn default() -> Self {
        Self { min_step_seconds: 60, min_step_calls: 500 }
    }
}

impl RolloutConfig {
    /// The shortest time that a step takes.
    pub(crate) fn min_step(&self) -> Duration {
        Duration::from_secs(self.min_step_seconds)
    }
}
