//! How many calls are admitted in a day or month of UTC, validated, and how people write it: `10000/day`. When periods begin
//! and end is here; who has used how much is the scheduler's to know.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};
use time::{Date, OffsetDateTime};

use crate::{error::ApiError, v1};

/// How many calls are admitted in each period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quota {
    /// So many.
    pub requests: u64,
    /// The period.
    pub period: QuotaPeriod,
    /// Calls of which nobody knows whether there is room for them are refused.
    pub refuse_unknown: bool,
}

/// The period of a quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QuotaPeriod {
    /// A day of UTC.
    Day,
    /// A month of the calendar in UTC.
    Month,
}

impl QuotaPeriod {
    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Month => "month",
        }
    }

    /// How long it is at most.
    #[must_use]
    pub fn longest(self) -> Duration {
        Duration::from_secs(match self {
            Self::Day => 86_400,
            Self::Month => 31 * 86_400,
        })
    }

    /// When the period that a moment lies in begins, and when the next one does, in seconds since 1970. Nothing for moments
    /// that no calendar has.
    #[must_use]
    pub fn around(self, moment: i64) -> Option<(i64, i64)> {
        let today = OffsetDateTime::from_unix_timestamp(moment).ok()?.date();
        let (first, next) = match self {
            Self::Day => (today, today.next_day()?),
            Self::Month => {
                let first = today.replace_day(1).ok()?;
                // No month is longer, and none is so short that this would skip one.
                (first, first.checked_add(time::Duration::days(31))?.replace_day(1).ok()?)
            }
        };
        let begins = |date: Date| date.midnight().assume_utc().unix_timestamp();
        Some((begins(first), begins(next)))
    }
}

impl Quota {
    /// The most requests in a period.
    pub const MOST: u64 = 1_000_000_000_000;

    /// The quota of a message; errors name this field.
    ///
    /// # Errors
    /// The number is out of its range, or the period is missing.
    pub fn from_wire(field: &str, wire: v1::QuotaLimit) -> Result<Self, ApiError> {
        let period = match wire.period() {
            v1::QuotaPeriod::Day => QuotaPeriod::Day,
            v1::QuotaPeriod::Month => QuotaPeriod::Month,
            v1::QuotaPeriod::Unspecified => {
                return Err(ApiError::invalid(field, format!("{field} must say its period: day or month")));
            }
        };
        if !(1..=Self::MOST).contains(&wire.requests) {
            let message = format!("{field} is {} but must lie between 1 and {}", wire.requests, Self::MOST);
            return Err(ApiError::invalid(field, message));
        }
        let refuse_unknown = wire.on_unknown() == v1::OnUnknown::Refuse;
        Ok(Self { requests: wire.requests, period, refuse_unknown })
    }
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.requests, self.period.as_str())
    }
}

impl FromStr for Quota {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no quota; write it as 10000/day or 1000000/month");
        let (requests, period) = text.split_once('/').ok_or_else(wrong)?;
        let period = match period {
            "day" => QuotaPeriod::Day,
            "month" => QuotaPeriod::Month,
            _ => return Err(wrong()),
        };
        let requests: u64 = requests.parse().map_err(|_| wrong())?;
        if !(1..=Self::MOST).contains(&requests) {
            return Err(format!("{text:?} is no quota: it must allow 1 to {} in its period", Self::MOST));
        }
        Ok(Self { requests, period, refuse_unknown: false })
    }
}

impl From<Quota> for v1::QuotaLimit {
    fn from(quota: Quota) -> Self {
        let period = match quota.period {
            QuotaPeriod::Day => v1::QuotaPeriod::Day,
            QuotaPeriod::Month => v1::QuotaPeriod::Month,
        };
        let on_unknown = if quota.refuse_unknown { v1::OnUnknown::Refuse } else { v1::OnUnknown::Allow };
        Self { requests: quota.requests, period: period.into(), on_unknown: on_unknown.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_read_as_it_is_shown() {
        for text in ["10000/day", "1/month", "1000000000000/month"] {
            let quota: Quota = text.parse().unwrap();
            assert_eq!(quota.to_string(), text);
            assert_eq!(Quota::from_wire("quota", quota.into()), Ok(quota));
        }
        for text in ["", "10", "0/day", "1/week", "-1/day", "1.5/day", "1000000000001/day"] {
            assert!(text.parse::<Quota>().unwrap_err().contains("is no quota"), "{text}");
        }
        for wrong in [(0, 1), (Quota::MOST + 1, 1), (1, 0), (1, 9)] {
            let wire = v1::QuotaLimit { requests: wrong.0, period: wrong.1, on_unknown: 0 };
            assert_eq!(Quota::from_wire("plan.quota", wire).unwrap_err().field.unwrap(), "plan.quota");
        }
    }

    #[test]
    fn periods_are_those_of_the_calendar() {
        // 2024-02-29T12:00:00Z and others, as `date -u` has them.
        for (moment, period, begins, ends) in [
            (1_709_208_000, QuotaPeriod::Day, 1_709_164_800, 1_709_251_200),
            (1_709_208_000, QuotaPeriod::Month, 1_706_745_600, 1_709_251_200),
            (1_709_251_200, QuotaPeriod::Month, 1_709_251_200, 1_711_929_600),
            (1_735_689_599, QuotaPeriod::Month, 1_733_011_200, 1_735_689_600),
            (1_735_689_600, QuotaPeriod::Month, 1_735_689_600, 1_738_368_000),
            (0, QuotaPeriod::Month, 0, 2_678_400),
            (-1, QuotaPeriod::Day, -86_400, 0),
            (1_706_700_000, QuotaPeriod::Month, 1_704_067_200, 1_706_745_600),
        ] {
            assert_eq!(period.around(moment), Some((begins, ends)), "{moment} {period:?}");
        }
        assert_eq!(QuotaPeriod::Day.around(i64::MAX), None);
    }
}
