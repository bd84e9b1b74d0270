//! What was used, and budgets, as shown.

use std::time::Duration;

use dunlin_proto::v1;
use serde::Serialize;

use super::{Millis, Time, or_dash, part};
use crate::{commands::usage::By, output::Column, units};

/// The head of usage as comma-separated values, the same as the API's.
const CSV_HEAD: &str =
    "hour,function,function_uid,version,key,invocations,cpu_us,memory_byte_seconds,bytes_in,bytes_out\n";

/// What invocations used. What lines are not told apart by is null.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct UsageView {
    pub(crate) hour: Option<Time>,
    pub(crate) function: Option<String>,
    pub(crate) function_uid: Option<String>,
    pub(crate) version: Option<u32>,
    pub(crate) key: Option<String>,
    pub(crate) invocations: u64,
    pub(crate) cpu_ms: Millis,
    pub(crate) memory_byte_seconds: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
}

impl From<v1::Usage> for UsageView {
    fn from(usage: v1::Usage) -> Self {
        let text = |text: String| Some(text).filter(|text| !text.is_empty());
        Self {
            hour: Time::from_wire(usage.hour),
            function: text(usage.function),
            function_uid: text(usage.function_uid),
            version: Some(usage.version).filter(|version| *version > 0),
            key: text(usage.key),
            invocations: usage.invocations,
            cpu_ms: Millis::from_wire(usage.cpu_time),
            memory_byte_seconds: usage.memory_byte_seconds,
            bytes_in: usage.bytes_in,
            bytes_out: usage.bytes_out,
        }
    }
}

/// Memory that is held for a time, for people: `1.5 GiB s`.
fn held(byte_seconds: u64) -> String {
    format!("{} s", units::size(byte_seconds))
}

fn text(text: &Option<String>) -> String {
    or_dash(text.as_deref().unwrap_or_default())
}

/// The columns of lines that are told apart by this.
pub(crate) fn columns(by: &[By]) -> Vec<Column<UsageView>> {
    let mut columns = Vec::new();
    if by.contains(&By::Hour) {
        let hour = |usage: &UsageView| usage.hour.map_or_else(|| "-".to_owned(), |hour| units::rfc3339(hour.0));
        columns.push(Column::new("HOUR", hour));
    }
    if by.contains(&By::Function) || by.contains(&By::Version) {
        columns.push(Column::new("FUNCTION", |usage| text(&usage.function)));
    }
    if by.contains(&By::Version) {
        columns
            .push(Column::new("VERSION", |usage| usage.version.map_or_else(String::new, |number| number.to_string())));
    }
    if by.contains(&By::Key) {
        columns.push(Column::new("KEY", |usage| text(&usage.key)));
    }
    columns.extend([
        Column::new("CALLS", |usage: &UsageView| usage.invocations.to_string()),
        Column::new("CPU", |usage| usage.cpu_ms.text()),
        Column::new("MEMORY", |usage| held(usage.memory_byte_seconds)),
        Column::new("IN", |usage| units::size(usage.bytes_in)),
        Column::new("OUT", |usage| units::size(usage.bytes_out)),
        Column::wide("UID", |usage| text(&usage.function_uid)),
    ]);
    columns
}

/// All lines together, for people.
pub(crate) fn sum(lines: &[UsageView]) -> String {
    let calls: u64 = lines.iter().map(|line| line.invocations).sum();
    let cpu: Duration = lines.iter().map(|line| line.cpu_ms.0).sum();
    let memory: u64 = lines.iter().map(|line| line.memory_byte_seconds).sum();
    format!("{calls} calls, {} of CPU, {} of memory", units::duration(cpu), held(memory))
}

/// Lines as comma-separated values (RFC 4180). Names and ids have nothing in them that would have to be quoted.
pub(crate) fn csv(lines: &[UsageView]) -> String {
    let row = |line: &UsageView| {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let hour = line.hour.map(|hour| units::rfc3339(hour.0)).unwrap_or_default();
        let version = line.version.map(|version| version.to_string()).unwrap_or_default();
        let words = [hour, text(&line.function), text(&line.function_uid), version, text(&line.key)];
        let cpu = u64::try_from(line.cpu_ms.0.as_micros()).unwrap_or(u64::MAX);
        let numbers = [line.invocations, cpu, line.memory_byte_seconds, line.bytes_in, line.bytes_out];
        words.into_iter().chain(numbers.map(|number| number.to_string())).collect::<Vec<_>>().join(",") + "\n"
    };
    lines.iter().map(row).fold(CSV_HEAD.to_owned(), |table, row| table + &row)
}

/// A bound, and what is used of it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct BoundView {
    pub(crate) amount: u64,
    pub(crate) period: &'static str,
    pub(crate) used: u64,
    pub(crate) state: &'static str,
    pub(crate) period_start: Option<Time>,
    pub(crate) period_end: Option<Time>,
}

impl BoundView {
    fn new(limit: Option<v1::BudgetLimit>, used: Option<v1::BudgetUse>) -> Option<Self> {
        let (limit, used) = (limit?, used?);
        let period = if limit.period() == v1::QuotaPeriod::Month { "month" } else { "day" };
        let state = match used.state() {
            v1::BudgetState::UsedUp => "used_up",
            v1::BudgetState::Warning => "warning",
            v1::BudgetState::Ok | v1::BudgetState::Unspecified => "ok",
        };
        Some(Self {
            amount: limit.amount,
            period,
            used: used.used,
            state,
            period_start: Time::from_wire(used.period_start),
            period_end: Time::from_wire(used.period_end),
        })
    }

    /// For people; `refused` says what becomes of calls once all is used.
    fn text(&self, what: &str, refused: bool) -> String {
        let percent = u128::from(self.used) * 100 / u128::from(self.amount.max(1));
        let state = match self.state {
            "used_up" if refused => "; used up: calls are refused",
            "used_up" => "; used up",
            "warning" => "; warning",
            _ => "",
        };
        let end = self.period_end.map(Time::text).unwrap_or_default();
        format!("{} of {} {what} a {} ({percent}%) until {end}{state}\n", self.used, self.amount, self.period)
    }
}

/// How much a namespace may use, and what it has used.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct BudgetView {
    pub(crate) resource: String,
    pub(crate) namespace: String,
    pub(crate) cpu_seconds: Option<BoundView>,
    pub(crate) calls: Option<BoundView>,
    pub(crate) warn_percent: u32,
    pub(crate) enforce: bool,
}

impl From<v1::GetBudgetResponse> for BudgetView {
    fn from(wire: v1::GetBudgetResponse) -> Self {
        let v1::GetBudgetResponse { budget, cpu_seconds, calls } = wire;
        let budget = budget.unwrap_or_default();
        Self {
            namespace: part(&budget.name, "namespaces"),
            resource: budget.name,
            cpu_seconds: BoundView::new(budget.cpu_seconds, cpu_seconds),
            calls: BoundView::new(budget.calls, calls),
            warn_percent: budget.warn_percent,
            enforce: budget.enforce,
        }
    }
}

impl BudgetView {
    /// For people.
    pub(crate) fn text(&self) -> String {
        let then = if self.enforce { "calls are refused when it is used up" } else { "nothing is refused" };
        let mut text = format!("namespace {}: warns at {}%, {then}\n", self.namespace, self.warn_percent);
        for (bound, name, what) in [(&self.cpu_seconds, "cpu:  ", "CPU seconds"), (&self.calls, "calls:", "calls")] {
            if let Some(bound) = bound {
                text += &format!("{name} {}", bound.text(what, self.enforce));
            }
        }
        text
    }

    /// What there is to warn of, in one line.
    pub(crate) fn warning(&self) -> Option<String> {
        let bounds = [(&self.cpu_seconds, "CPU seconds"), (&self.calls, "calls")];
        let worrying = bounds.into_iter().filter_map(|(bound, what)| Some((bound.as_ref()?, what)));
        let told = worrying.filter(|(bound, _)| bound.state != "ok");
        let told: Vec<_> = told.map(|(bound, what)| bound.text(what, self.enforce).trim_end().to_owned()).collect();
        (!told.is_empty()).then(|| told.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_told_in_words() {
        let limit = |amount| Some(v1::BudgetLimit { amount, period: v1::QuotaPeriod::Day.into() });
        let used = |used, state: v1::BudgetState| {
            let period_end = Some(prost_types::Timestamp { seconds: 86_400, nanos: 0 });
            Some(v1::BudgetUse { used, state: state.into(), period_end, ..Default::default() })
        };
        let budget = v1::Budget {
            name: "namespaces/shop/budget".into(),
            cpu_seconds: limit(10),
            calls: limit(20),
            warn_percent: 80,
            enforce: true,
        };
        let view = BudgetView::from(v1::GetBudgetResponse {
            budget: Some(budget),
            cpu_seconds: used(1, v1::BudgetState::Ok),
            calls: used(23, v1::BudgetState::UsedUp),
        });
        assert_eq!(
            view.text(),
            "namespace shop: warns at 80%, calls are refused when it is used up\n\
             cpu:   1 of 10 CPU seconds a day (10%) until 1970-01-02T00:00:00.000Z\n\
             calls: 23 of 20 calls a day (115%) until 1970-01-02T00:00:00.000Z; used up: calls are refused\n"
        );
        assert!(view.warning().unwrap().starts_with("23 of 20 calls a day"));
    }

    #[test]
    fn usage_has_a_row_for_each_line() {
        let usage =
            v1::Usage { function: "pay".into(), version: 2, invocations: 3, bytes_out: 9, ..Default::default() };
        let lines = [UsageView::from(usage.clone()), UsageView::from(usage)];
        assert_eq!(csv(&lines).lines().nth(1), Some(",pay,,2,,3,0,0,0,9"));
        assert_eq!(sum(&lines), "6 calls, 0 of CPU, 0 B s of memory");
        assert_eq!(columns(&[By::Function]).len() + 2, columns(&[By::Hour, By::Version, By::Function]).len());
    }
}
