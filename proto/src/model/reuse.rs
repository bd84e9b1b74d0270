//! How often and how long a sandbox is used again, validated. Whether it works is not known here: workers try it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{duration, to_wire_duration, within};
use crate::{error::ApiError, v1};

/// How a version's sandboxes are used again, each for one call at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reuse {
    /// Calls that a sandbox serves.
    pub max_calls: u32,
    /// How long it waits for its next call.
    pub max_idle: Duration,
}

impl Reuse {
    /// The most calls of a sandbox.
    pub const MAX_CALLS: u32 = 100_000;
    /// The longest wait for the next one.
    pub const MAX_IDLE: Duration = Duration::from_secs(3600);
}

impl Default for Reuse {
    fn default() -> Self {
        Self { max_calls: 100, max_idle: Duration::from_secs(10) }
    }
}

impl TryFrom<v1::Reuse> for Reuse {
    type Error = ApiError;

    fn try_from(wire: v1::Reuse) -> Result<Self, ApiError> {
        let default = Self::default();
        one_at_a_time(wire.max_concurrent.unwrap_or(1))?;
        let max_calls = wire.max_calls.unwrap_or(default.max_calls);
        let max_idle = duration("spec.reuse.max_idle", wire.max_idle, default.max_idle)?;
        Ok(Self {
            max_calls: within("spec.reuse.max_calls", max_calls, 1, Self::MAX_CALLS)?,
            max_idle: within("spec.reuse.max_idle", max_idle, Duration::from_millis(1), Self::MAX_IDLE)?,
        })
    }
}

/// Only WASI 0.3 could have more, and nobody has built it here.
fn one_at_a_time(max_concurrent: u32) -> Result<(), ApiError> {
    const FIELD: &str = "spec.reuse.max_concurrent";
    match max_concurrent {
        0 | 1 => within(FIELD, max_concurrent, 1, 1).map(|_| ()),
        more => {
            let message = format!(
                "{FIELD} is {more}, but several calls at once in one sandbox are not supported: a trap or a limit of one \
                 would end them all, and components of WASI 0.2 can't do it"
            );
            Err(ApiError::invalid(FIELD, message).hint("leave it out; calls at once have a sandbox each"))
        }
    }
}

impl From<Reuse> for v1::Reuse {
    fn from(reuse: Reuse) -> Self {
        Self {
            max_calls: Some(reuse.max_calls),
            max_concurrent: Some(1),
            max_idle: Some(to_wire_duration(reuse.max_idle)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reuse(change: impl FnOnce(&mut v1::Reuse)) -> Result<Reuse, ApiError> {
        let mut wire = v1::Reuse::default();
        change(&mut wire);
        wire.try_into()
    }

    #[test]
    fn what_is_left_out_is_the_default() {
        let default = reuse(|_| {}).unwrap();
        assert_eq!((default.max_calls, default.max_idle), (100, Duration::from_secs(10)));
        assert_eq!(Reuse::try_from(v1::Reuse::from(default.clone())).unwrap(), default);
    }

    #[test]
    fn a_value_out_of_range_is_named() {
        let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
        for (result, field) in [
            (reuse(|r| r.max_calls = Some(0)), "spec.reuse.max_calls"),
            (reuse(|r| r.max_calls = Some(100_001)), "spec.reuse.max_calls"),
            (reuse(|r| r.max_idle = seconds(0)), "spec.reuse.max_idle"),
            (reuse(|r| r.max_idle = seconds(3601)), "spec.reuse.max_idle"),
            (reuse(|r| r.max_idle = seconds(-1)), "spec.reuse.max_idle"),
            (reuse(|r| r.max_concurrent = Some(0)), "spec.reuse.max_concurrent"),
            (reuse(|r| r.max_concurrent = Some(2)), "spec.reuse.max_concurrent"),
        ] {
            assert_eq!(result.unwrap_err().field.as_deref(), Some(field));
        }
        assert!(reuse(|r| r.max_concurrent = Some(2)).unwrap_err().message.contains("not supported"));
    }
}
