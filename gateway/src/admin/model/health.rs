//! Whether a function is healthy, as administration shows it.

use dunlin_proto::v1;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Budget, Domain, Invocation, QuotaUsage, ReleaseHead, Rollout, Time, WebhookHealth, time::micros};

/// Whether a function is healthy, and by what that is known.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = FunctionHealth)]
pub(crate) struct Health {
    /// The verdict.
    pub(crate) state: HealthState,
    /// The verdict in a sentence.
    pub(crate) summary: String,
    /// What is wrong or worth knowing, the worst first.
    pub(crate) problems: Vec<HealthProblem>,
    /// Calls that ended within so many microseconds are counted.
    pub(crate) window_us: u64,
    /// What they came to.
    pub(crate) activity: Activity,
    /// The versions that get calls.
    pub(crate) versions: Vec<VersionCapacity>,
    /// Bounds of calls at once, and what is used of them now.
    pub(crate) concurrency: Vec<ConcurrencyUse>,
    /// Bounds of calls in a day or month, and what is used of them.
    pub(crate) quotas: Vec<QuotaUse>,
    /// The last rollout; null where there was none.
    pub(crate) rollout: Option<Rollout>,
    /// The namespace's budget; null where it has none.
    pub(crate) budget: Option<Budget>,
    /// The domains on which it is served by routes, as far as they are the namespace's.
    pub(crate) domains: Vec<Domain>,
    /// The namespace's newest release; null where there is none.
    pub(crate) last_release: Option<ReleaseHead>,
    /// Its newest version; null where there is none.
    pub(crate) last_deploy: Option<Deploy>,
    /// The newest calls that failed, the newest first.
    pub(crate) failures: Vec<Invocation>,
    /// Records of invocations, of any function, that gateways lost within the window.
    pub(crate) lost_records: u64,
    /// Log lines of the namespace that are missing within the window, as far as that is known: looked for among the function's newest
    /// 1,000 lines.
    pub(crate) lost_log_lines: u64,
    /// How the namespace's webhook does; null where it has none.
    pub(crate) webhook: Option<WebhookHealth>,
    /// Processes that did not answer, whose part is missing here.
    pub(crate) unreachable: Vec<String>,
}

/// How a function does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum HealthState {
    /// Calls are answered.
    Healthy,
    /// Some calls go wrong, or something needs somebody soon.
    Degraded,
    /// Most calls go wrong, or none can be answered.
    Failing,
    /// Somebody took it out of service.
    Disabled,
    /// Nothing is wrong, and nobody called it.
    NoTraffic,
}

/// How bad something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum HealthGrade {
    /// Worth knowing; callers are not affected.
    Note,
    /// Some callers are, or soon will be.
    Degraded,
    /// Most callers are.
    Failing,
}

/// Something that is wrong or worth knowing.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct HealthProblem {
    /// How bad it is.
    pub(crate) grade: HealthGrade,
    /// What it is.
    pub(crate) text: String,
    /// The command to type next; empty where there is none.
    pub(crate) command: String,
}

/// What calls came to.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = FunctionActivity)]
pub(crate) struct Activity {
    /// Those that ended. Where very many end in a second it is an estimate.
    pub(crate) calls: u64,
    /// Of these, those that went wrong: by the platform's word, or with a status of 500 or above.
    pub(crate) failures: u64,
    /// Of these, how many of each kind, the most frequent first.
    pub(crate) errors: Vec<KindCount>,
    /// Calls for which a sandbox had to be prepared.
    pub(crate) cold_starts: u64,
    /// Requests that were refused before any function ran, by why; not among `calls`.
    pub(crate) refusals: Vec<KindCount>,
    /// What half of the calls did not exceed, in microseconds; null without calls.
    pub(crate) p50_us: Option<u64>,
    /// What 99 of 100 calls did not exceed, in microseconds; null without calls.
    pub(crate) p99_us: Option<u64>,
}

/// How many there were of a kind.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct KindCount {
    /// A code, or `answered_5xx` where the function itself answered with such a status.
    pub(crate) kind: String,
    /// How many.
    pub(crate) count: u64,
}

/// Where a version can run.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct VersionCapacity {
    /// Its number.
    pub(crate) version: u32,
    /// Its share of the calls.
    pub(crate) percent: u32,
    /// Workers that have it ready.
    pub(crate) ready_workers: u32,
    /// Of these, those that this gateway can reach.
    pub(crate) reachable_workers: u32,
    /// Workers that always hold it, as the version asks for.
    pub(crate) wanted_workers: u32,
}

/// A bound of calls at once.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ConcurrencyUse {
    /// Whose it is: `function` or `namespace`.
    pub(crate) whose: String,
    /// Calls that run or wait.
    pub(crate) current: u64,
    /// The most there may be; null where there is no bound.
    pub(crate) allowed: Option<u64>,
}

/// What is used of a bound of calls in a day or month.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct QuotaUse {
    /// Whose it is: `function` or `namespace`.
    pub(crate) whose: String,
    /// What is used.
    pub(crate) usage: QuotaUsage,
}

impl From<v1::QuotaUse> for QuotaUse {
    fn from(wire: v1::QuotaUse) -> Self {
        Self { whose: wire.whose, usage: wire.usage.unwrap_or_default().into() }
    }
}

/// When a version was made.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Deploy {
    /// Its number.
    pub(crate) version: u32,
    /// When.
    pub(crate) create_time: Option<Time>,
    /// Who made it.
    pub(crate) creator: String,
    /// Why, in the developer's words.
    pub(crate) note: String,
}

impl From<v1::DescribeFunctionResponse> for Health {
    fn from(wire: v1::DescribeFunctionResponse) -> Self {
        let health = wire.health.unwrap_or_default();
        Self {
            state: health.state().into(),
            summary: health.summary,
            problems: health.problems.into_iter().map(HealthProblem::from).collect(),
            window_us: micros(health.window),
            activity: health.activity.unwrap_or_default().into(),
            versions: health.versions.into_iter().map(VersionCapacity::from).collect(),
            concurrency: health.concurrency.into_iter().map(ConcurrencyUse::from).collect(),
            quotas: health.quotas.into_iter().map(QuotaUse::from).collect(),
            rollout: health.rollout.map(Rollout::from),
            budget: health.budget.map(Budget::from),
            domains: health.domains.into_iter().map(Domain::from).collect(),
            last_release: health.last_release.as_ref().map(ReleaseHead::from),
            last_deploy: health.last_deploy.map(Deploy::from),
            failures: health.failures.into_iter().map(Invocation::from).collect(),
            lost_records: health.lost_records,
            lost_log_lines: health.lost_log_lines,
            webhook: health.webhook.map(WebhookHealth::from),
            unreachable: wire.unreachable,
        }
    }
}

impl From<v1::HealthState> for HealthState {
    fn from(state: v1::HealthState) -> Self {
        match state {
            v1::HealthState::Healthy => Self::Healthy,
            v1::HealthState::Degraded => Self::Degraded,
            v1::HealthState::Failing => Self::Failing,
            v1::HealthState::Disabled => Self::Disabled,
            v1::HealthState::NoTraffic | v1::HealthState::Unspecified => Self::NoTraffic,
        }
    }
}

impl From<v1::HealthProblem> for HealthProblem {
    fn from(wire: v1::HealthProblem) -> Self {
        let grade = match wire.grade() {
            v1::HealthGrade::Failing => HealthGrade::Failing,
            v1::HealthGrade::Degraded => HealthGrade::Degraded,
            v1::HealthGrade::Note | v1::HealthGrade::Unspecified => HealthGrade::Note,
        };
        Self { grade, text: wire.text, command: wire.command }
    }
}

impl From<v1::FunctionActivity> for Activity {
    fn from(wire: v1::FunctionActivity) -> Self {
        let kinds = |counts: Vec<v1::OutcomeCount>| {
            counts.into_iter().map(|count| KindCount { kind: count.outcome, count: count.count }).collect()
        };
        Self {
            calls: wire.calls,
            failures: wire.failures,
            errors: kinds(wire.errors),
            cold_starts: wire.cold_starts,
            refusals: kinds(wire.refusals),
            p50_us: wire.p50.map(|p50| micros(Some(p50))),
            p99_us: wire.p99.map(|p99| micros(Some(p99))),
        }
    }
}

impl From<v1::VersionCapacity> for VersionCapacity {
    fn from(wire: v1::VersionCapacity) -> Self {
        let v1::VersionCapacity { version, percent, ready_workers, reachable_workers, wanted_workers } = wire;
        Self { version, percent, ready_workers, reachable_workers, wanted_workers }
    }
}

impl From<v1::ConcurrencyUse> for ConcurrencyUse {
    fn from(wire: v1::ConcurrencyUse) -> Self {
        let v1::ConcurrencyUse { whose, current, allowed } = wire;
        Self { whose, current, allowed: Some(allowed).filter(|allowed| *allowed > 0) }
    }
}

impl From<v1::Deploy> for Deploy {
    fn from(wire: v1::Deploy) -> Self {
        let v1::Deploy { version, create_time, creator, note } = wire;
        Self { version, create_time: create_time.map(Time::from), creator, note }
    }
}
