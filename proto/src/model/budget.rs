//! How much a namespace may use in a day or month of UTC, validated, and how people write it: `3600s/month`, `1000/day`. How far it
//! is used is decided here as well; what has been used is the scheduler's to know.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::quota::QuotaPeriod;
use crate::{error::ApiError, v1};

/// So much in each period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetLimit {
    /// CPU seconds, or invocations.
    pub amount: u64,
    /// The period.
    pub period: QuotaPeriod,
}

/// What a namespace may use. It has one bound at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// CPU time of guests in seconds.
    pub cpu: Option<BudgetLimit>,
    /// Invocations.
    pub calls: Option<BudgetLimit>,
    /// From so many percent on there is a warning; 1 to 100.
    pub warn_percent: u32,
    /// Calls are refused once all is used.
    pub enforce: bool,
}

/// How far a bound is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Spent {
    /// There is nothing to say.
    Little,
    /// As much as there is to be a warning at.
    Warning,
    /// All of it, or more.
    All,
}

impl BudgetLimit {
    /// The most in a period.
    pub const MOST: u64 = 1_000_000_000_000;

    /// The bound of a message; errors name this field.
    ///
    /// # Errors
    /// The amount is out of its range, or the period is missing.
    pub fn from_wire(field: &str, wire: v1::BudgetLimit) -> Result<Self, ApiError> {
        let period = match wire.period() {
            v1::QuotaPeriod::Day => QuotaPeriod::Day,
            v1::QuotaPeriod::Month => QuotaPeriod::Month,
            v1::QuotaPeriod::Unspecified => {
                return Err(ApiError::invalid(field, format!("{field} must say its period: day or month")));
            }
        };
        if !(1..=Self::MOST).contains(&wire.amount) {
            let message = format!("{field} is {} but must lie between 1 and {}", wire.amount, Self::MOST);
            return Err(ApiError::invalid(field, message));
        }
        Ok(Self { amount: wire.amount, period })
    }

    /// How far it is used, where `used` and the amount are both multiplied by `unit`.
    #[must_use]
    pub fn spent(self, used: u64, unit: u64, warn_percent: u32) -> Spent {
        let (used, all) = (u128::from(used) * 100, u128::from(self.amount) * u128::from(unit));
        if used >= all * 100 {
            Spent::All
        } else if used >= all * u128::from(warn_percent) {
            Spent::Warning
        } else {
            Spent::Little
        }
    }
}

impl Budget {
    /// The percentage of a budget that says none.
    pub const WARN_PERCENT: u32 = 80;

    /// The budget of a message.
    ///
    /// # Errors
    /// A bound or the percentage is out of its range, or nothing is bounded.
    pub fn from_wire(wire: &v1::Budget) -> Result<Self, ApiError> {
        let bound = |field, wire: Option<v1::BudgetLimit>| wire.map(|wire| BudgetLimit::from_wire(field, wire));
        let cpu = bound("budget.cpu_seconds", wire.cpu_seconds).transpose()?;
        let calls = bound("budget.calls", wire.calls).transpose()?;
        if cpu.is_none() && calls.is_none() {
            let error =
                ApiError::invalid("budget", "a budget bounds CPU seconds, calls or both; this one bounds nothing");
            return Err(error.hint("to have no budget, delete it"));
        }
        let warn_percent = if wire.warn_percent == 0 { Self::WARN_PERCENT } else { wire.warn_percent };
        if warn_percent > 100 {
            let message = format!("warn_percent is {warn_percent} but must lie between 1 and 100");
            return Err(ApiError::invalid("budget.warn_percent", message));
        }
        Ok(Self { cpu, calls, warn_percent, enforce: wire.enforce })
    }
}

impl From<BudgetLimit> for v1::BudgetLimit {
    fn from(limit: BudgetLimit) -> Self {
        let period = match limit.period {
            QuotaPeriod::Day => v1::QuotaPeriod::Day,
            QuotaPeriod::Month => v1::QuotaPeriod::Month,
        };
        Self { amount: limit.amount, period: period.into() }
    }
}

impl fmt::Display for BudgetLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.amount, self.period.as_str())
    }
}

impl FromStr for BudgetLimit {
    type Err = String;

    /// Reads `1000/day` and `3600s/month`; whoever wants seconds or calls knows which.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no budget; write it as 3600s/month (CPU) or 1000000/month (calls)");
        let (amount, period) = text.split_once('/').ok_or_else(wrong)?;
        let period = match period {
            "day" => QuotaPeriod::Day,
            "month" => QuotaPeriod::Month,
            _ => return Err(wrong()),
        };
        let amount: u64 = amount.strip_suffix('s').unwrap_or(amount).parse().map_err(|_| wrong())?;
        if !(1..=Self::MOST).contains(&amount) {
            return Err(format!("{text:?} is no budget: it must allow 1 to {} in its period", Self::MOST));
        }
        Ok(Self { amount, period })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_read_as_it_is_shown() {
        for (text, shown) in [("3600s/month", "3600/month"), ("1000000/day", "1000000/day"), ("1/month", "1/month")] {
            let limit: BudgetLimit = text.parse().unwrap();
            assert_eq!(limit.to_string(), shown);
            assert_eq!(BudgetLimit::from_wire("x", limit.into()), Ok(limit));
        }
        for text in ["", "10", "0/day", "1/week", "-1/day", "1.5/day", "1000000000001/day", "s/day", "1h/day"] {
            assert!(text.parse::<BudgetLimit>().unwrap_err().contains("is no budget"), "{text}");
        }
    }

    #[test]
    fn how_far_it_is_used_is_exact_at_the_edges() {
        let limit = BudgetLimit { amount: 10, period: QuotaPeriod::Day };
        for (used, unit, spent) in [
            (0, 1, Spent::Little),
            (7, 1, Spent::Little),
            (8, 1, Spent::Warning),
            (9, 1, Spent::Warning),
            (10, 1, Spent::All),
            (u64::MAX, 1, Spent::All),
            (7_999_999, 1_000_000, Spent::Little),
            (8_000_000, 1_000_000, Spent::Warning),
            (9_999_999, 1_000_000, Spent::Warning),
            (10_000_000, 1_000_000, Spent::All),
        ] {
            assert_eq!(limit.spent(used, unit, 80), spent, "{used}");
        }
        assert_eq!(limit.spent(9, 1, 100), Spent::Little);
    }

    #[test]
    fn a_budget_that_bounds_nothing_is_none() {
        let limit = |amount| Some(v1::BudgetLimit { amount, period: 1 });
        let wire =
            |cpu_seconds, calls, warn_percent| v1::Budget { cpu_seconds, calls, warn_percent, ..Default::default() };
        assert_eq!(Budget::from_wire(&wire(None, limit(5), 0)).unwrap().warn_percent, 80);
        for (wrong, field) in [
            (wire(None, None, 0), "budget"),
            (wire(limit(0), None, 0), "budget.cpu_seconds"),
            (wire(None, limit(BudgetLimit::MOST + 1), 0), "budget.calls"),
            (wire(None, limit(5), 101), "budget.warn_percent"),
        ] {
            assert_eq!(Budget::from_wire(&wrong).unwrap_err().field.as_deref(), Some(field));
        }
    }
}
