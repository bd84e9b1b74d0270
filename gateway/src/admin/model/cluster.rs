//! The cluster, its machines and its tenants, as administration shows them.

use dunlin_proto::{model::from_wire_duration, v1};
use serde::Serialize;
use utoipa::ToSchema;

use super::{QuotaLimit, QuotaUsage, Rate, Time, id_in};

/// The cluster's state at a glance.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Cluster {
    /// Version of the scheduler's software.
    pub(crate) software_version: String,
    /// Number of namespaces.
    pub(crate) namespace_count: u32,
    /// Number of functions.
    pub(crate) function_count: u32,
    /// The gateways.
    pub(crate) gateways: Vec<Gateway>,
    /// The workers.
    pub(crate) workers: Vec<Worker>,
    /// The workers that the load asks for.
    pub(crate) wanted_workers: u32,
    /// The newest configuration version.
    pub(crate) config_version: u64,
    /// Which database keeps the state.
    pub(crate) store: String,
}

impl From<v1::GetClusterResponse> for Cluster {
    fn from(wire: v1::GetClusterResponse) -> Self {
        Self {
            software_version: wire.software_version,
            namespace_count: wire.namespace_count,
            function_count: wire.function_count,
            gateways: wire.gateways.into_iter().map(Gateway::from).collect(),
            workers: wire.workers.into_iter().map(Worker::from).collect(),
            wanted_workers: wire.wanted_workers,
            config_version: wire.config_version,
            store: wire.store,
        }
    }
}

/// A process that serves callers.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Gateway {
    /// `gateways/{gateway}`.
    pub(crate) name: String,
    /// The gateway's bare name.
    pub(crate) gateway: String,
    /// Version of the software.
    pub(crate) software_version: String,
    /// When it connected.
    pub(crate) join_time: Option<Time>,
    /// The configuration version that it has acknowledged.
    pub(crate) config_version: u64,
}

impl From<v1::Gateway> for Gateway {
    fn from(wire: v1::Gateway) -> Self {
        Self {
            gateway: id_in(&wire.name, "gateways").to_owned(),
            name: wire.name,
            software_version: wire.software_version,
            join_time: wire.join_time.map(Time::from),
            config_version: wire.config_version,
        }
    }
}

/// Whether a worker takes invocations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum WorkerState {
    /// Not known.
    Unknown,
    /// It does.
    Ready,
    /// It finishes what runs.
    Draining,
    /// It has fallen silent.
    Lost,
}

impl WorkerState {
    /// As in JSON.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Lost => "lost",
        }
    }
}

impl From<v1::WorkerState> for WorkerState {
    fn from(wire: v1::WorkerState) -> Self {
        match wire {
            v1::WorkerState::Unspecified => Self::Unknown,
            v1::WorkerState::Ready => Self::Ready,
            v1::WorkerState::Draining => Self::Draining,
            v1::WorkerState::Lost => Self::Lost,
        }
    }
}

/// A process that runs functions.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Worker {
    /// `workers/{worker}`.
    pub(crate) name: String,
    /// The worker's bare name.
    pub(crate) worker: String,
    /// Whether it takes invocations.
    pub(crate) state: WorkerState,
    /// Where gateways reach it.
    pub(crate) address: String,
    /// Version of the software.
    pub(crate) software_version: String,
    /// Engine version, target and configuration that its compiled code must have.
    pub(crate) engine: String,
    /// Sandboxes that it can have at once.
    pub(crate) capacity: u32,
    /// Invocations that run on it.
    pub(crate) in_flight: u32,
    /// Sandboxes that wait prepared.
    pub(crate) prepared: u32,
    /// Its resident memory in bytes.
    pub(crate) memory_bytes: u64,
    /// CPU that it uses, in thousandths of a core.
    pub(crate) cpu_millis: u32,
    /// When it joined.
    pub(crate) join_time: Option<Time>,
    /// When it was last heard.
    pub(crate) heard_time: Option<Time>,
    /// The versions that it holds.
    pub(crate) versions: Vec<HeldVersion>,
}

impl From<v1::Worker> for Worker {
    fn from(wire: v1::Worker) -> Self {
        Self {
            state: wire.state().into(),
            worker: id_in(&wire.name, "workers").to_owned(),
            name: wire.name,
            address: wire.address,
            software_version: wire.software_version,
            engine: wire.engine,
            capacity: wire.capacity,
            in_flight: wire.in_flight,
            prepared: wire.prepared,
            memory_bytes: wire.memory_bytes,
            cpu_millis: wire.cpu_millis,
            join_time: wire.join_time.map(Time::from),
            heard_time: wire.heard_time.map(Time::from),
            versions: wire.versions.into_iter().map(HeldVersion::from).collect(),
        }
    }
}

/// A version on a worker.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct HeldVersion {
    /// `namespaces/{namespace}/functions/{function}/versions/{number}`.
    pub(crate) version: String,
    /// `loading`, `ready` or `failed`.
    pub(crate) state: String,
    /// Why it failed.
    pub(crate) error: String,
    /// Invocations of it that run there.
    pub(crate) in_flight: u32,
    /// Sandboxes of it that wait prepared there.
    pub(crate) prepared: u32,
}

impl From<v1::HeldVersion> for HeldVersion {
    fn from(wire: v1::HeldVersion) -> Self {
        Self {
            version: wire.version,
            state: wire.state,
            error: wire.error,
            in_flight: wire.in_flight,
            prepared: wire.prepared,
        }
    }
}

/// A page of workers, in the order of their names.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct WorkerList {
    /// The page.
    pub(crate) workers: Vec<Worker>,
    /// Empty on the last page.
    pub(crate) next_page_token: String,
}

impl From<v1::ListWorkersResponse> for WorkerList {
    fn from(wire: v1::ListWorkersResponse) -> Self {
        Self { workers: wire.workers.into_iter().map(Worker::from).collect(), next_page_token: wire.next_page_token }
    }
}

/// A tenant: owns functions and keys.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Namespace {
    /// `namespaces/{namespace}`.
    pub(crate) name: String,
    /// The namespace's bare name.
    pub(crate) namespace: String,
    /// For people.
    pub(crate) description: String,
    /// When it was made.
    pub(crate) create_time: Option<Time>,
    /// How many functions it has.
    pub(crate) function_count: u32,
    /// Invocations of all its functions that may run or wait at once, in the whole cluster; null means any number.
    pub(crate) max_concurrency: Option<u32>,
    /// Calls of all its functions in a time, in the whole cluster; null means any number.
    pub(crate) rate: Option<Rate>,
    /// Calls of all its functions in a day or month, in the whole cluster; null means any number.
    pub(crate) quota: Option<QuotaLimit>,
    /// What is used of its quota; null without one, and in lists.
    pub(crate) quota_usage: Option<QuotaUsage>,
    /// How long records of its invocations and lines of its logs are kept, in seconds; null means as gateways and workers are set.
    pub(crate) log_retention_seconds: Option<u64>,
    /// Bytes of its lines that each worker keeps; null means as workers are set.
    pub(crate) log_bytes: Option<u64>,
}

impl From<v1::Namespace> for Namespace {
    fn from(wire: v1::Namespace) -> Self {
        Self {
            namespace: id_in(&wire.name, "namespaces").to_owned(),
            name: wire.name,
            description: wire.description,
            create_time: wire.create_time.map(Time::from),
            function_count: wire.function_count,
            max_concurrency: wire.max_concurrency,
            rate: wire.rate.and_then(Rate::from_wire),
            quota: wire.quota.and_then(QuotaLimit::from_wire),
            quota_usage: wire.quota_usage.map(QuotaUsage::from),
            log_retention_seconds: wire.log_retention.map(|age| from_wire_duration(Some(age)).as_secs()),
            log_bytes: wire.log_bytes,
        }
    }
}

/// A page of namespaces, in the order of their names.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct NamespaceList {
    /// The page.
    pub(crate) namespaces: Vec<Namespace>,
    /// Empty on the last page.
    pub(crate) next_page_token: String,
}

impl From<v1::ListNamespacesResponse> for NamespaceList {
    fn from(wire: v1::ListNamespacesResponse) -> Self {
        Self {
            namespaces: wire.namespaces.into_iter().map(Namespace::from).collect(),
            next_page_token: wire.next_page_token,
        }
    }
}
