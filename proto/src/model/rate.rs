//! How many calls are admitted in a time, validated, and how people write it: `100/s` with a burst. How it is kept to is not
//! known here: the scheduler lends it to gateways in parts.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use super::within;
use crate::{error::ApiError, v1};

/// A rate that is smaller than this, or one with a smaller burst, is not divided: its admissions are granted one by one.
const LENT_FROM: (f64, u32) = (10.0, 16);

/// How many calls are admitted in a time: in any time T no more than `burst` and what the rate allows in T.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// So many in each period.
    pub requests: u32,
    /// The period.
    pub period: Period,
    /// So many at once after a pause.
    pub burst: u32,
}

/// The period of a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Period {
    /// A second.
    Second,
    /// A minute.
    Minute,
    /// An hour.
    Hour,
    /// A day.
    Day,
}

impl Period {
    const ALL: [(Self, &str, u32); 4] =
        [(Self::Second, "s", 1), (Self::Minute, "m", 60), (Self::Hour, "h", 3_600), (Self::Day, "d", 86_400)];

    fn row(self) -> (&'static str, u32) {
        let row = Self::ALL.iter().find(|(period, ..)| *period == self);
        row.map_or(("s", 1), |(_, letter, seconds)| (letter, *seconds))
    }

    /// How long it lasts.
    #[must_use]
    pub fn length(self) -> Duration {
        Duration::from_secs(self.row().1.into())
    }
}

impl Rate {
    /// The most requests in a period, and the largest burst.
    pub const MOST: u32 = 1_000_000;

    /// A rate with the burst that follows from it: what it allows in half a second, one at least.
    #[must_use]
    pub fn new(requests: u32, period: Period) -> Self {
        let burst = requests.div_ceil(period.row().1.saturating_mul(2)).max(1);
        Self { requests, period, burst }
    }

    /// The rate of a message; errors name this field.
    ///
    /// # Errors
    /// A number is out of its range, or the period is missing.
    pub fn from_wire(field: &str, wire: v1::RateLimit) -> Result<Self, ApiError> {
        let period = match wire.period() {
            v1::RatePeriod::Second => Period::Second,
            v1::RatePeriod::Minute => Period::Minute,
            v1::RatePeriod::Hour => Period::Hour,
            v1::RatePeriod::Day => Period::Day,
            v1::RatePeriod::Unspecified => {
                return Err(ApiError::invalid(
                    field,
                    format!("{field} must say its period: second, minute, hour, day"),
                ));
            }
        };
        let usual = Self::new(within(field, wire.requests, 1, Self::MOST)?, period);
        let burst = wire.burst.unwrap_or(usual.burst);
        Ok(Self { burst: within(&burst_of(field), burst, 1, Self::MOST)?, ..usual })
    }

    /// Admissions a second.
    #[must_use]
    pub fn per_second(self) -> f64 {
        f64::from(self.requests) / f64::from(self.period.row().1)
    }

    /// Whether it is lent to gateways in parts; otherwise its admissions are granted one by one.
    #[must_use]
    pub fn is_lent(self) -> bool {
        self.per_second() >= LENT_FROM.0 && self.burst >= LENT_FROM.1
    }
}

/// The field of a rate's burst, as people set it: beside the rate.
fn burst_of(field: &str) -> String {
    field.strip_suffix("rate").map_or_else(|| format!("{field}.burst"), |before| format!("{before}burst"))
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.requests, self.period.row().0)
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no rate; write it as 100/s, 60/m, 1000/h or 10000/d");
        let (requests, period) = text.split_once('/').ok_or_else(wrong)?;
        let period = Period::ALL.iter().find(|(_, letter, _)| *letter == period).ok_or_else(wrong)?.0;
        let requests: u32 = requests.parse().map_err(|_| wrong())?;
        if !(1..=Self::MOST).contains(&requests) {
            return Err(format!("{text:?} is no rate: it must allow 1 to {} in its period", Self::MOST));
        }
        Ok(Self::new(requests, period))
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
        Self { requests: rate.requests, period: period.into(), burst: Some(rate.burst) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_read_as_it_is_shown() {
        for (text, per_second, burst) in
            [("100/s", 100.0, 50), ("1/s", 1.0, 1), ("1/m", 1.0 / 60.0, 1), ("3600/h", 1.0, 1), ("864000/d", 10.0, 5)]
        {
            let rate: Rate = text.parse().unwrap();
            assert_eq!((rate.to_string().as_str(), rate.burst), (text, burst));
            assert!((rate.per_second() - per_second).abs() < 1e-9, "{text}");
            assert_eq!(Rate::from_wire("rate", rate.into()), Ok(rate));
        }
        for text in ["", "100", "0/s", "1000001/s", "-1/s", "1/w", "1 /s", "/s", "1.5/s"] {
            assert!(text.parse::<Rate>().unwrap_err().contains("is no rate"), "{text}");
        }
    }

    #[test]
    fn what_is_out_of_range_is_named() {
        let wire = |requests, period, burst| v1::RateLimit { requests, period, burst };
        for wrong in [wire(0, 1, None), wire(2_000_000, 1, None), wire(1, 0, None), wire(1, 9, None)] {
            assert_eq!(Rate::from_wire("spec.limits.rate", wrong).unwrap_err().field.unwrap(), "spec.limits.rate");
        }
        for (field, named) in [("plan.rate", "plan.burst"), ("rate", "burst"), ("x", "x.burst")] {
            let error = Rate::from_wire(field, wire(1, 1, Some(0))).unwrap_err();
            assert_eq!(error.field.as_deref(), Some(named));
            assert_eq!(error.message, format!("{named} is 0 but must lie between 1 and 1000000"));
        }
        assert_eq!(Rate::from_wire("x", wire(100, 1, None)).unwrap().burst, 50);
    }

    #[test]
    fn small_limits_are_not_lent() {
        let lent = |text: &str, burst| Rate { burst, ..text.parse().unwrap() }.is_lent();
        assert!(lent("100/s", 50) && lent("600/m", 16));
        assert!(!lent("100/s", 1) && !lent("9/s", 50) && !lent("1/m", 1));
    }
}
