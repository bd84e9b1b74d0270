//! What the operator says of how long and how much namespaces may have kept of records and logs: `[retention]`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What a namespace may ask for at the most.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetentionConfig {
    /// How long records of invocations and lines of logs may be kept, in seconds. Default 2592000, 30 days.
    pub max_seconds: u64,
    /// Bytes of a namespace's lines that each worker may keep. Default 268435456.
    pub max_log_bytes: u64,
}

impl Default for RetentionConfig {
    fn default() -> Self {
        Self { max_seconds: 30 * 86_400, max_log_bytes: 256 << 20 }
    }
}

impl RetentionConfig {
    /// The longest time.
    pub(crate) fn max_age(&self) -> Duration {
        Duration::from_secs(self.max_seconds)
    }
}
