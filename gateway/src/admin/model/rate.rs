//! How many calls are admitted in a time, as administration shows it and takes it.

use dunlin_proto::{model, v1};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::admin::json::whole;

/// How many calls are admitted in a time: in any time T no more than `burst` and what the rate allows in T.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rate {
    /// So many in each period.
    #[serde(deserialize_with = "whole::<_, 1, 1_000_000>")]
    #[schema(minimum = 1, maximum = 1_000_000)]
    pub(crate) requests: u32,
    /// The period.
    pub(crate) period: Period,
    /// So many at once after a pause; without it, what the rate allows in half a second, one at least.
    #[serde(default, deserialize_with = "burst")]
    #[schema(value_type = u32, minimum = 1, maximum = 1_000_000, required = false)]
    pub(crate) burst: Option<u32>,
}

/// The period of a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Period {
    /// A second.
    Second,
    /// A minute.
    Minute,
    /// An hour.
    Hour,
    /// A day.
    Day,
}

fn burst<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    whole::<_, 1, 1_000_000>(deserializer).map(Some)
}

impl Rate {
    /// The rate of a message; nothing where it is none that is known here.
    pub(crate) fn from_wire(wire: v1::RateLimit) -> Option<Self> {
        let model::Rate { requests, period, burst } = model::Rate::from_wire("rate", wire).ok()?;
        let period = match period {
            model::Period::Second => Period::Second,
            model::Period::Minute => Period::Minute,
            model::Period::Hour => Period::Hour,
            model::Period::Day => Period::Day,
        };
        Some(Self { requests, period, burst: Some(burst) })
    }
}

impl From<Rate> for v1::RateLimit {
    fn from(rate: Rate) -> Self {
        let period = match rate.period {
            Period::Second => v1::RatePeriod::Second,
            Period::Minute => v1::RatePeriod::Minute,
            Period::Hour => v1::RatePeriod::Hour,
            Period::Day => v1::RatePeriod::Day,
        };
        Self { requests: rate.requests, period: period.into(), burst: rate.burst }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_read_as_it_is_shown() {
        let rate: Rate = serde_json::from_str(r#"{"requests": 100, "period": "minute"}"#).unwrap();
        let shown = Rate::from_wire(rate.into()).unwrap();
        let json = serde_json::to_value(&shown).unwrap();
        assert_eq!(json, serde_json::json!({ "requests": 100, "period": "minute", "burst": 1 }));
        for wrong in [
            r#"{"requests": 0, "period": "minute"}"#,
            r#"{"requests": 1}"#,
            r#"{"requests": 1, "period": "year"}"#,
            r#"{"requests": 1, "period": "day", "burst": 0}"#,
            r#"{"requests": 1, "period": "day", "bursts": 1}"#,
        ] {
            assert!(serde_json::from_str::<Rate>(wrong).is_err(), "{wrong}");
        }
    }
}
