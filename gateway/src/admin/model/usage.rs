//! What was used, and budgets, as administration shows them and takes them.

use std::fmt::Write as _;

use dunlin_proto::v1;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Time, id_in, plan::QuotaPeriod, time::micros};
use crate::admin::json::large;

/// The head of a table of usage.
const CSV_HEAD: &str =
    "hour,function,function_uid,version,key,invocations,cpu_us,memory_byte_seconds,bytes_in,bytes_out\n";

/// What invocations used. What lines are not told apart by is null.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Usage {
    /// When the hour began.
    pub(crate) hour: Option<Time>,
    /// The function's bare name. It may have been deleted since.
    pub(crate) function: Option<String>,
    /// Tells functions apart that had the same name one after another.
    pub(crate) function_uid: Option<String>,
    /// The version's number.
    pub(crate) version: Option<u32>,
    /// The id of the caller's key; null for calls without one, too.
    pub(crate) key: Option<String>,
    /// Invocations that a worker began.
    pub(crate) invocations: u64,
    /// CPU time of the guests in microseconds.
    pub(crate) cpu_us: u64,
    /// Peak memory of each invocation in bytes, times its run time in seconds.
    pub(crate) memory_byte_seconds: u64,
    /// Body bytes that guests read.
    pub(crate) bytes_in: u64,
    /// Body bytes that guests wrote.
    pub(crate) bytes_out: u64,
}

impl From<v1::Usage> for Usage {
    fn from(wire: v1::Usage) -> Self {
        let text = |text: String| Some(text).filter(|text| !text.is_empty());
        Self {
            hour: wire.hour.map(Time::from),
            function: text(wire.function),
            function_uid: text(wire.function_uid),
            version: Some(wire.version).filter(|version| *version > 0),
            key: text(wire.key),
            invocations: wire.invocations,
            cpu_us: micros(wire.cpu_time),
            memory_byte_seconds: wire.memory_byte_seconds,
            bytes_in: wire.bytes_in,
            bytes_out: wire.bytes_out,
        }
    }
}

/// Usage as a table of comma-separated values (RFC 4180). Names and ids have nothing in them that would have to be quoted.
pub(crate) fn csv(lines: &[Usage]) -> String {
    let mut table = CSV_HEAD.to_owned();
    for line in lines {
        let Usage { invocations, cpu_us, memory_byte_seconds, bytes_in, bytes_out, .. } = line;
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let (hour, version) = (line.hour.map(Time::rfc3339), line.version.map(|version| version.to_string()));
        let (function, uid, key) = (text(&line.function), text(&line.function_uid), text(&line.key));
        let (hour, version) = (hour.unwrap_or_default(), version.unwrap_or_default());
        let _ = writeln!(
            table,
            "{hour},{function},{uid},{version},{key},{invocations},{cpu_us},{memory_byte_seconds},{bytes_in},{bytes_out}"
        );
    }
    table
}

/// A page of usage, in the order of hours, functions, versions and keys.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct UsageList {
    /// The lines.
    pub(crate) usage: Vec<Usage>,
    /// For the next page; empty on the last one.
    pub(crate) next_page_token: String,
    /// The beginning of the first hour.
    pub(crate) from: Option<Time>,
    /// The end of the last hour.
    pub(crate) to: Option<Time>,
}

impl From<v1::ListUsageResponse> for UsageList {
    fn from(wire: v1::ListUsageResponse) -> Self {
        Self {
            usage: wire.usage.into_iter().map(Usage::from).collect(),
            next_page_token: wire.next_page_token,
            from: wire.from.map(Time::from),
            to: wire.to.map(Time::from),
        }
    }
}

/// So much in each period.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BudgetLimit {
    /// CPU seconds, or invocations.
    #[serde(deserialize_with = "large::<_, 1, 1_000_000_000_000>")]
    #[schema(minimum = 1, maximum = 1_000_000_000_000_u64)]
    pub(crate) amount: u64,
    /// The period.
    pub(crate) period: QuotaPeriod,
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

/// How far a budget is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum BudgetState {
    /// Less than `warn_percent` is used.
    Ok,
    /// `warn_percent` or more is used.
    Warning,
    /// All of it is used, or more.
    UsedUp,
}

/// A bound, and what is used of it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct BudgetBound {
    /// CPU seconds, or invocations.
    pub(crate) amount: u64,
    /// The period.
    pub(crate) period: QuotaPeriod,
    /// What is used in the present period; rounded down.
    pub(crate) used: u64,
    /// How far it is used.
    pub(crate) state: BudgetState,
    /// When the period began.
    pub(crate) period_start: Option<Time>,
    /// When the next one begins.
    pub(crate) period_end: Option<Time>,
}

impl BudgetBound {
    fn new(limit: Option<v1::BudgetLimit>, used: Option<v1::BudgetUse>) -> Option<Self> {
        let (limit, used) = (limit?, used?);
        let period = match limit.period() {
            v1::QuotaPeriod::Month => QuotaPeriod::Month,
            v1::QuotaPeriod::Day | v1::QuotaPeriod::Unspecified => QuotaPeriod::Day,
        };
        let state = match used.state() {
            v1::BudgetState::UsedUp => BudgetState::UsedUp,
            v1::BudgetState::Warning => BudgetState::Warning,
            v1::BudgetState::Ok | v1::BudgetState::Unspecified => BudgetState::Ok,
        };
        Some(Self {
            amount: limit.amount,
            period,
            used: used.used,
            state,
            period_start: used.period_start.map(Time::from),
            period_end: used.period_end.map(Time::from),
        })
    }
}

/// How much a namespace may use, and what it has used.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Budget {
    /// `namespaces/{namespace}/budget`.
    pub(crate) name: String,
    /// The namespace's bare name.
    pub(crate) namespace: String,
    /// CPU time of guests in seconds; null means no bound.
    pub(crate) cpu_seconds: Option<BudgetBound>,
    /// Invocations; null means no bound.
    pub(crate) calls: Option<BudgetBound>,
    /// The scheduler warns when so many percent are used.
    pub(crate) warn_percent: u32,
    /// Once all is used, calls are refused until the period ends.
    pub(crate) enforce: bool,
}

impl From<v1::GetBudgetResponse> for Budget {
    fn from(wire: v1::GetBudgetResponse) -> Self {
        let v1::GetBudgetResponse { budget, cpu_seconds, calls } = wire;
        let budget = budget.unwrap_or_default();
        Self {
            namespace: id_in(&budget.name, "namespaces").to_owned(),
            name: budget.name,
            cpu_seconds: BudgetBound::new(budget.cpu_seconds, cpu_seconds),
            calls: BudgetBound::new(budget.calls, calls),
            warn_percent: budget.warn_percent,
            enforce: budget.enforce,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_a_line_for_each_and_nothing_for_what_is_not_told_apart() {
        let hour = Some(prost_types::Timestamp { seconds: 3_600, nanos: 0 });
        let one =
            v1::Usage { hour, function: "pay".into(), version: 2, invocations: 3, bytes_in: 7, ..Default::default() };
        let lines = [one, v1::Usage::default()].map(Usage::from);
        let rows: Vec<_> = csv(&lines).lines().map(str::to_owned).collect();
        assert_eq!(rows[1..], ["1970-01-01T01:00:00.000Z,pay,,2,,3,0,0,7,0", ",,,,,0,0,0,0,0"]);
        let columns = |row: &String| row.split(',').count();
        assert!(rows.iter().all(|row| columns(row) == columns(&rows[0])));
    }
}
