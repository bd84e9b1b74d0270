//! Whether a function is healthy, in words: a pure function of what its calls came to lately and of what is known around it, for
//! the command, the page and programs alike. What is known is gathered in `app/describe.rs`; what gateways counted is added up in
//! `health/activity.rs`, what is wrong is found in `health/problems.rs`.

mod activity;
mod problems;

use std::time::SystemTime;

use dunlin_proto::{model::from_wire_duration, v1};

use super::pages::micros;

pub(super) use activity::Sum;

/// What a verdict depends on, beside the function's health itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts<'f> {
    /// The function.
    pub(super) function: &'f v1::Function,
    /// Whether any worker is known to this gateway.
    pub(super) has_workers: bool,
    /// Who did not answer.
    pub(super) unreachable: &'f [String],
    /// The present.
    pub(super) now: SystemTime,
}

/// Judges a function by what is known of it.
pub(super) fn judged(mut health: v1::FunctionHealth, facts: &Facts<'_>) -> v1::FunctionHealth {
    health.problems = problems::of(&health, facts);
    health.set_state(state(&health, facts.function));
    health.summary = summary(&health);
    health
}

fn state(health: &v1::FunctionHealth, function: &v1::Function) -> v1::HealthState {
    let worst = health.problems.iter().map(v1::HealthProblem::grade).max();
    let activity = health.activity.clone().unwrap_or_default();
    match worst {
        _ if function.disabled => v1::HealthState::Disabled,
        Some(v1::HealthGrade::Failing) => v1::HealthState::Failing,
        Some(v1::HealthGrade::Degraded) => v1::HealthState::Degraded,
        _ if activity.calls == 0 && activity.refusals.is_empty() => v1::HealthState::NoTraffic,
        _ => v1::HealthState::Healthy,
    }
}

/// The state's word.
pub(super) fn word(state: v1::HealthState) -> &'static str {
    match state {
        v1::HealthState::Unspecified => "unknown",
        v1::HealthState::Healthy => "healthy",
        v1::HealthState::Degraded => "degraded",
        v1::HealthState::Failing => "failing",
        v1::HealthState::Disabled => "disabled",
        v1::HealthState::NoTraffic => "no traffic",
    }
}

fn summary(health: &v1::FunctionHealth) -> String {
    let window = took(health.window);
    let worst = health.problems.first().filter(|problem| problem.grade() != v1::HealthGrade::Note);
    let what = match worst {
        Some(problem) => problem.text.clone(),
        None => evidence(&health.activity.clone().unwrap_or_default()),
    };
    format!("{}: {what} (last {window})", word(health.state()))
}

/// What calls came to, in a line.
pub(super) fn evidence(activity: &v1::FunctionActivity) -> String {
    if activity.calls == 0 {
        return "no call ended".to_owned();
    }
    let failed = if activity.failures == 0 { "none".to_owned() } else { activity.failures.to_string() };
    let calls = count(activity.calls, "call");
    format!("{calls}, {failed} failed, p50 {}, p99 {}", took(activity.p50), took(activity.p99))
}

/// A number of things: `1 call`, `2 calls`.
fn count(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// A duration, with three figures that matter.
fn took(time: Option<prost_types::Duration>) -> String {
    micros(u64::try_from(from_wire_duration(time).as_micros()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
