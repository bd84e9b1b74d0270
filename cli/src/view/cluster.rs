//! Workers and namespaces, as shown.

use dunlin_proto::v1;
use serde::Serialize;

use super::{
    Millis, Time, age, or_dash, part,
    plan::{QuotaUsageView, QuotaView},
    version::RateView,
};
use crate::{output::Column, units};

/// A process that runs functions.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct WorkerView {
    pub(crate) resource: String,
    pub(crate) name: String,
    pub(crate) state: &'static str,
    pub(crate) address: String,
    pub(crate) software_version: String,
    pub(crate) engine: String,
    pub(crate) capacity: u32,
    pub(crate) in_flight: u32,
    pub(crate) prepared: u32,
    pub(crate) memory_bytes: u64,
    pub(crate) cpu_millis: u32,
    pub(crate) join_time: Option<Time>,
    pub(crate) heard_time: Option<Time>,
    pub(crate) versions: Vec<HeldVersionView>,
}

/// A version on a worker.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct HeldVersionView {
    pub(crate) namespace: String,
    pub(crate) function: String,
    pub(crate) version: String,
    pub(crate) state: String,
    pub(crate) error: String,
    pub(crate) in_flight: u32,
    pub(crate) prepared: u32,
}

impl From<v1::Worker> for WorkerView {
    fn from(worker: v1::Worker) -> Self {
        let state = match worker.state() {
            v1::WorkerState::Ready => "ready",
            v1::WorkerState::Draining => "draining",
            v1::WorkerState::Lost => "lost",
            v1::WorkerState::Unspecified => "unknown",
        };
        Self {
            name: part(&worker.name, "workers"),
            resource: worker.name.clone(),
            state,
            address: worker.address,
            software_version: worker.software_version,
            engine: worker.engine,
            capacity: worker.capacity,
            in_flight: worker.in_flight,
            prepared: worker.prepared,
            memory_bytes: worker.memory_bytes,
            cpu_millis: worker.cpu_millis,
            join_time: Time::from_wire(worker.join_time),
            heard_time: Time::from_wire(worker.heard_time),
            versions: worker.versions.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<v1::HeldVersion> for HeldVersionView {
    fn from(held: v1::HeldVersion) -> Self {
        Self {
            namespace: part(&held.version, "namespaces"),
            function: part(&held.version, "functions"),
            version: part(&held.version, "versions"),
            state: held.state,
            error: held.error,
            in_flight: held.in_flight,
            prepared: held.prepared,
        }
    }
}

/// The columns of a list of workers.
pub(crate) const WORKERS: &[Column<WorkerView>] = &[
    Column::new("NAME", |worker| worker.name.clone()),
    Column::new("STATE", |worker| worker.state.to_owned()),
    Column::new("RUNNING", |worker| format!("{}/{}", worker.in_flight, worker.capacity)),
    Column::new("PREPARED", |worker| worker.prepared.to_string()),
    Column::new("VERSIONS", |worker| worker.versions.len().to_string()),
    Column::new("CPU", |worker| format!("{:.2}", f64::from(worker.cpu_millis) / 1_000.0)),
    Column::new("MEMORY", |worker| units::size(worker.memory_bytes)),
    Column::new("HEARD", |worker| age(worker.heard_time)),
    Column::wide("JOINED", |worker| age(worker.join_time)),
    Column::wide("ADDRESS", |worker| worker.address.clone()),
    Column::wide("SOFTWARE", |worker| worker.software_version.clone()),
    Column::wide("ENGINE", |worker| worker.engine.clone()),
];

/// A tenant.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct NamespaceView {
    pub(crate) resource: String,
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) function_count: u32,
    pub(crate) max_concurrency: Option<u32>,
    pub(crate) rate: Option<RateView>,
    pub(crate) quota: Option<QuotaView>,
    /// What is used of the quota; null without one, and in lists.
    pub(crate) quota_usage: Option<QuotaUsageView>,
    /// How long records and lines are kept; null means as gateways and workers are set.
    pub(crate) log_retention_ms: Option<Millis>,
    /// Bytes of lines that each worker keeps; null means as workers are set.
    pub(crate) log_bytes: Option<u64>,
    pub(crate) create_time: Option<Time>,
}

impl From<v1::Namespace> for NamespaceView {
    fn from(namespace: v1::Namespace) -> Self {
        Self {
            name: part(&namespace.name, "namespaces"),
            resource: namespace.name,
            description: namespace.description,
            function_count: namespace.function_count,
            max_concurrency: namespace.max_concurrency,
            rate: namespace.rate.and_then(RateView::from_wire),
            quota: namespace.quota.and_then(QuotaView::from_wire),
            quota_usage: namespace.quota_usage.map(QuotaUsageView::from),
            log_retention_ms: namespace.log_retention.map(|age| Millis::from_wire(Some(age))),
            log_bytes: namespace.log_bytes,
            create_time: Time::from_wire(namespace.create_time),
        }
    }
}

/// How long records and lines of a namespace are kept, as one would say it.
fn kept_for(namespace: &NamespaceView) -> Option<String> {
    namespace.log_retention_ms.map(|age| humantime::format_duration(age.0).to_string())
}

/// What a namespace has used of its quota.
fn used(namespace: &NamespaceView) -> Option<String> {
    let quota = namespace.quota.as_ref()?;
    Some(namespace.quota_usage.as_ref().map_or_else(|| quota.quota.clone(), QuotaUsageView::text))
}

/// A namespace in detail.
pub(crate) fn namespace_pairs(namespace: &NamespaceView) -> Vec<(&'static str, String)> {
    let or = |text: Option<String>, otherwise: &str| text.unwrap_or_else(|| otherwise.to_owned());
    vec![
        ("Name", namespace.name.clone()),
        ("Description", or_dash(&namespace.description)),
        ("Created", age(namespace.create_time)),
        ("Functions", namespace.function_count.to_string()),
        ("Concurrency", or(namespace.max_concurrency.map(|most| most.to_string()), "any number of calls at once")),
        ("Rate", or(namespace.rate.as_ref().map(|rate| rate.rate.clone()), "any number of calls in a time")),
        ("Quota", or(used(namespace), "any number of calls in a day or month")),
        ("Kept for", or(kept_for(namespace), "as long as gateways and workers are set to")),
        ("Log bytes", or(namespace.log_bytes.map(units::size), "as many as workers are set to")),
    ]
}

/// The columns of a list of namespaces.
pub(crate) const NAMESPACES: &[Column<NamespaceView>] = &[
    Column::new("NAME", |namespace| namespace.name.clone()),
    Column::new("FUNCTIONS", |namespace| namespace.function_count.to_string()),
    Column::new("CONCURRENCY", |namespace| namespace.max_concurrency.map_or("-".to_owned(), |most| most.to_string())),
    Column::new("RATE", |namespace| namespace.rate.as_ref().map_or("-".to_owned(), |rate| rate.rate.clone())),
    Column::new("QUOTA", |namespace| namespace.quota.as_ref().map_or("-".to_owned(), |quota| quota.quota.clone())),
    Column::new("CREATED", |namespace| age(namespace.create_time)),
    Column::new("DESCRIPTION", |namespace| or_dash(&namespace.description)),
    Column::wide("KEPT FOR", |namespace| kept_for(namespace).unwrap_or("-".to_owned())),
    Column::wide("LOG BYTES", |namespace| namespace.log_bytes.map_or("-".to_owned(), units::size)),
];
