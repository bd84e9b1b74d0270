//! Whether a function is healthy, as shown. What is judged is judged by the cluster.

use dunlin_proto::v1;
use serde::Serialize;

use super::{
    Millis, Time, age, domain::DomainView, invocation::InvocationView, or_dash, part, plan::QuotaUsageView,
    release::ReleaseView, rollout::RolloutView, usage::BudgetView, webhook::WebhookHealthView,
};
use crate::{
    output::{Style, pairs, printable},
    units,
};

/// Whether a function is healthy, and by what that is known.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct HealthView {
    /// `healthy`, `degraded`, `failing`, `disabled`, `no_traffic` or `unknown`.
    pub(crate) state: &'static str,
    pub(crate) summary: String,
    pub(crate) problems: Vec<ProblemView>,
    pub(crate) window_ms: Millis,
    pub(crate) activity: ActivityView,
    pub(crate) versions: Vec<CapacityView>,
    pub(crate) concurrency: Vec<ConcurrencyView>,
    pub(crate) quotas: Vec<QuotaUseView>,
    pub(crate) rollout: Option<RolloutView>,
    pub(crate) budget: Option<BudgetView>,
    pub(crate) domains: Vec<DomainView>,
    pub(crate) last_release: Option<ReleaseView>,
    pub(crate) last_deploy: Option<DeployView>,
    pub(crate) failures: Vec<InvocationView>,
    pub(crate) lost_records: u64,
    pub(crate) lost_log_lines: u64,
    pub(crate) webhook: Option<WebhookHealthView>,
    pub(crate) unreachable: Vec<String>,
}

/// Something that is wrong or worth knowing.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ProblemView {
    /// `note`, `degraded` or `failing`.
    pub(crate) grade: &'static str,
    pub(crate) text: String,
    /// The command to type next; may be empty.
    pub(crate) command: String,
}

/// What calls came to.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ActivityView {
    pub(crate) calls: u64,
    pub(crate) failures: u64,
    pub(crate) errors: Vec<KindView>,
    pub(crate) cold_starts: u64,
    pub(crate) refusals: Vec<KindView>,
    pub(crate) p50_ms: Option<Millis>,
    pub(crate) p99_ms: Option<Millis>,
}

/// How many there were of a kind.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct KindView {
    pub(crate) kind: String,
    pub(crate) count: u64,
}

/// Where a version can run.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct CapacityView {
    pub(crate) version: u32,
    pub(crate) percent: u32,
    pub(crate) ready_workers: u32,
    pub(crate) reachable_workers: u32,
    pub(crate) wanted_workers: u32,
}

/// A bound of calls at once.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ConcurrencyView {
    /// `function` or `namespace`.
    pub(crate) whose: String,
    pub(crate) current: u64,
    /// Null where there is no bound.
    pub(crate) allowed: Option<u64>,
}

/// When a version was made.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct DeployView {
    pub(crate) version: u32,
    pub(crate) create_time: Option<Time>,
    pub(crate) creator: String,
    pub(crate) note: String,
}

impl From<v1::DescribeFunctionResponse> for HealthView {
    fn from(wire: v1::DescribeFunctionResponse) -> Self {
        let health = wire.health.unwrap_or_default();
        Self {
            state: state(health.state()),
            summary: health.summary,
            problems: health.problems.into_iter().map(ProblemView::from).collect(),
            window_ms: Millis::from_wire(health.window),
            activity: health.activity.unwrap_or_default().into(),
            versions: health.versions.into_iter().map(CapacityView::from).collect(),
            concurrency: health.concurrency.into_iter().map(ConcurrencyView::from).collect(),
            quotas: health.quotas.into_iter().map(QuotaUseView::from).collect(),
            rollout: health.rollout.map(RolloutView::from),
            budget: health.budget.map(BudgetView::from),
            domains: health.domains.into_iter().map(DomainView::from).collect(),
            last_release: health.last_release.as_ref().map(ReleaseView::from),
            last_deploy: health.last_deploy.map(DeployView::from),
            failures: health.failures.into_iter().map(InvocationView::from).collect(),
            lost_records: health.lost_records,
            lost_log_lines: health.lost_log_lines,
            webhook: health.webhook.map(WebhookHealthView::from),
            unreachable: wire.unreachable,
        }
    }
}

fn state(state: v1::HealthState) -> &'static str {
    match state {
        v1::HealthState::Unspecified => "unknown",
        v1::HealthState::Healthy => "healthy",
        v1::HealthState::Degraded => "degraded",
        v1::HealthState::Failing => "failing",
        v1::HealthState::Disabled => "disabled",
        v1::HealthState::NoTraffic => "no_traffic",
    }
}

impl From<v1::HealthProblem> for ProblemView {
    fn from(wire: v1::HealthProblem) -> Self {
        let grade = match wire.grade() {
            v1::HealthGrade::Failing => "failing",
            v1::HealthGrade::Degraded => "degraded",
            v1::HealthGrade::Note | v1::HealthGrade::Unspecified => "note",
        };
        Self { grade, text: wire.text, command: wire.command }
    }
}

impl From<v1::FunctionActivity> for ActivityView {
    fn from(wire: v1::FunctionActivity) -> Self {
        let kinds = |counts: Vec<v1::OutcomeCount>| {
            counts.into_iter().map(|count| KindView { kind: count.outcome, count: count.count }).collect()
        };
        Self {
            calls: wire.calls,
            failures: wire.failures,
            errors: kinds(wire.errors),
            cold_starts: wire.cold_starts,
            refusals: kinds(wire.refusals),
            p50_ms: wire.p50.map(|p50| Millis::from_wire(Some(p50))),
            p99_ms: wire.p99.map(|p99| Millis::from_wire(Some(p99))),
        }
    }
}

impl From<v1::VersionCapacity> for CapacityView {
    fn from(wire: v1::VersionCapacity) -> Self {
        let v1::VersionCapacity { version, percent, ready_workers, reachable_workers, wanted_workers } = wire;
        Self { version, percent, ready_workers, reachable_workers, wanted_workers }
    }
}

impl From<v1::ConcurrencyUse> for ConcurrencyView {
    fn from(wire: v1::ConcurrencyUse) -> Self {
        let v1::ConcurrencyUse { whose, current, allowed } = wire;
        Self { whose, current, allowed: Some(allowed).filter(|allowed| *allowed > 0) }
    }
}

/// What is used of a bound of calls in a day or month.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct QuotaUseView {
    /// `function` or `namespace`.
    pub(crate) whose: String,
    pub(crate) usage: QuotaUsageView,
}

impl QuotaUseView {
    fn text(&self) -> String {
        format!("{}: {}", self.whose, self.usage.text())
    }
}

impl From<v1::QuotaUse> for QuotaUseView {
    fn from(wire: v1::QuotaUse) -> Self {
        Self { whose: wire.whose, usage: wire.usage.unwrap_or_default().into() }
    }
}

impl From<v1::Deploy> for DeployView {
    fn from(wire: v1::Deploy) -> Self {
        let create_time = Time::from_wire(wire.create_time);
        Self { version: wire.version, create_time, creator: wire.creator, note: wire.note }
    }
}

impl HealthView {
    /// For a person: the verdict, then each problem with the next command.
    pub(crate) fn verdict(&self, style: Style) -> String {
        let summary = printable(&self.summary);
        let summary = match self.state {
            "failing" | "disabled" => style.bad(&summary),
            "degraded" => style.caution(&summary),
            "healthy" => style.good(&summary),
            _ => style.strong(&summary),
        };
        self.problems.iter().fold(summary + "\n", |text, problem| text + &problem.text(style))
    }

    /// What the verdict rests on, line by line.
    pub(crate) fn evidence(&self) -> String {
        let window = format!("Last {}", units::duration(self.window_ms.0));
        let mut facts = vec![(window.as_str(), self.activity.text())];
        facts.extend(kinds("Failed", &self.activity.errors));
        facts.extend(kinds("Refused", &self.activity.refusals));
        facts.push(("Ready", or_dash(&joined(&self.versions, CapacityView::text))));
        facts.push(("At once", or_dash(&joined(&self.concurrency, ConcurrencyView::text))));
        facts.extend((!self.quotas.is_empty()).then(|| ("Quotas", joined(&self.quotas, QuotaUseView::text))));
        facts.extend(self.rollout.as_ref().map(|rollout| ("Rollout", rollout.summary())));
        facts.extend((!self.domains.is_empty()).then(|| ("Domains", joined(&self.domains, DomainView::state_text))));
        facts.extend(self.last_deploy.as_ref().map(|deploy| ("Last deploy", deploy.text())));
        facts.extend(self.last_release.as_ref().map(|release| ("Last change", release.title())));
        facts.push(("Webhook", self.webhook_text()));
        let lines = format!("{} log lines among its last 1,000", self.lost_log_lines);
        facts.push(("Lost", format!("{} records, {lines}", self.lost_records)));
        pairs(&facts)
    }

    /// Whether somebody is told of what happens.
    fn webhook_text(&self) -> String {
        match &self.webhook {
            Some(webhook) => webhook.text(),
            // It may have one.
            None if self.unreachable.iter().any(|silent| silent.starts_with("the scheduler")) => "not known".to_owned(),
            None => "none; set one up with: dunlin webhook set URL".to_owned(),
        }
    }

    /// The last failures, each with the command that explains it.
    pub(crate) fn last_failures(&self) -> String {
        let line = |call: &InvocationView| {
            let namespace = part(&call.resource, "namespaces");
            let what = format!(
                "{}  {} {}  {} {}",
                units::ago(&age(call.start_time)),
                call.method,
                units::short(&call.path),
                call.status,
                call.outcome
            );
            format!("{}\n    dunlin why {} --namespace {namespace}\n", printable(&what), printable(&call.id))
        };
        self.failures.iter().map(line).collect()
    }
}

/// `function_failed 3, internal 1` under a name; nothing where there are none.
fn kinds<'n>(name: &'n str, kinds: &[KindView]) -> Option<(&'n str, String)> {
    (!kinds.is_empty()).then(|| (name, joined(kinds, |kind| format!("{} {}", kind.kind, kind.count))))
}

fn joined<T>(items: &[T], text: impl Fn(&T) -> String) -> String {
    items.iter().map(text).collect::<Vec<_>>().join(", ")
}

impl ProblemView {
    fn text(&self, style: Style) -> String {
        let text = printable(&self.text);
        let text = if self.grade == "note" { style.faint(&text) } else { text.into_owned() };
        let next =
            if self.command.is_empty() { String::new() } else { format!("      {}\n", printable(&self.command)) };
        format!("  - {text}\n{next}")
    }
}

impl ActivityView {
    fn text(&self) -> String {
        let took = |time: Option<Millis>| time.map_or_else(|| "-".to_owned(), Millis::text);
        let Self { calls, failures, cold_starts, p50_ms, p99_ms, .. } = self;
        let (p50, p99) = (took(*p50_ms), took(*p99_ms));
        let (calls, cold_starts) = (units::count(*calls, "call"), units::count(*cold_starts, "cold start"));
        format!("{calls}, {failures} failed, {cold_starts}, p50 {p50}, p99 {p99}")
    }
}

impl CapacityView {
    fn text(&self) -> String {
        let Self { version, percent, ready_workers, reachable_workers, wanted_workers } = self;
        let away =
            if reachable_workers < ready_workers { format!(", {reachable_workers} reachable") } else { String::new() };
        let ready_workers = units::count(*ready_workers, "worker");
        format!("v{version} ({percent}%) on {ready_workers}, {wanted_workers} wanted always{away}")
    }
}

impl ConcurrencyView {
    fn text(&self) -> String {
        let of = self.allowed.map_or_else(String::new, |allowed| format!(" of {allowed}"));
        format!("{} {}{of}", self.whose, self.current)
    }
}

impl DeployView {
    fn text(&self) -> String {
        let by = if self.creator.is_empty() { String::new() } else { format!(" by {}", self.creator) };
        let note = if self.note.is_empty() { String::new() } else { format!(": {}", self.note) };
        format!("v{}, {}{by}{note}", self.version, units::ago(&age(self.create_time)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verdict_comes_first_and_each_problem_has_its_command() {
        let problem = |grade: v1::HealthGrade, text: &str, command: &str| v1::HealthProblem {
            grade: grade.into(),
            text: text.into(),
            command: command.into(),
        };
        let health = v1::FunctionHealth {
            state: v1::HealthState::Failing.into(),
            summary: "failing: 3 of 4 calls failed".into(),
            problems: vec![
                problem(v1::HealthGrade::Failing, "3 of 4 calls failed: \u{1b}[31m 3", "dunlin why 1"),
                problem(v1::HealthGrade::Note, "2 log lines of the namespace were lost", ""),
            ],
            window: Some(prost_types::Duration { seconds: 300, nanos: 0 }),
            concurrency: vec![v1::ConcurrencyUse { whose: "function".into(), current: 2, allowed: 0 }],
            quotas: vec![v1::QuotaUse {
                whose: "namespace".into(),
                usage: Some(v1::QuotaUsage {
                    used: 7,
                    quota: Some("90/day".parse::<dunlin_proto::model::Quota>().unwrap().into()),
                    ..Default::default()
                }),
            }],
            ..Default::default()
        };
        let wire = v1::DescribeFunctionResponse { health: Some(health), unreachable: Vec::new() };
        let view = HealthView::from(wire);
        assert_eq!(
            view.verdict(Style::PLAIN),
            "failing: 3 of 4 calls failed\n  - 3 of 4 calls failed: \\u{1b}[31m 3\n      dunlin why 1\n  \
             - 2 log lines of the namespace were lost\n"
        );
        let evidence = view.evidence();
        assert!(evidence.starts_with("Last 5m:"), "{evidence}");
        assert!(evidence.contains("namespace: 7 of 90/day used until"), "{evidence}");
        assert!(
            evidence.contains("At once:  function 2\n")
                && evidence.contains("0 records, 0 log lines among its last 1,000"),
            "{evidence}"
        );
    }
}
