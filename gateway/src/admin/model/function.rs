//! Functions and their versions, as administration shows them.

use std::collections::BTreeMap;

use dunlin_proto::v1;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::admin::json::whole;

use super::{
    QuotaLimit, QuotaUsage, Rate, Time, id_in,
    time::{micros, millis},
};

/// A function.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Function {
    /// `namespaces/{namespace}/functions/{function}`.
    pub(crate) name: String,
    /// The namespace's bare name.
    pub(crate) namespace: String,
    /// The function's bare name.
    pub(crate) function: String,
    /// Another function of the same name has another one.
    pub(crate) uid: String,
    /// What it is for.
    pub(crate) description: String,
    /// Whether anybody may call it.
    pub(crate) public: bool,
    /// Whether its automatic addresses are served although routes name it.
    pub(crate) direct: bool,
    /// Whether every call is refused for now.
    pub(crate) disabled: bool,
    /// How calls divide over versions.
    pub(crate) traffic: Vec<TrafficTarget>,
    /// The highest version number; 0 before the first version is ready.
    pub(crate) latest_version: u32,
    /// When it was made.
    pub(crate) create_time: Option<Time>,
    /// When it was last changed.
    pub(crate) update_time: Option<Time>,
    /// Changes with every update.
    pub(crate) etag: String,
    /// Where callers reach it.
    pub(crate) urls: Vec<String>,
    /// What is used of its quota; null without one, and in lists.
    pub(crate) quota_usage: Option<QuotaUsage>,
}

impl Function {
    /// Leaves out what is the answering gateway's own: its addresses.
    pub(crate) fn forget_gateway(&mut self) {
        self.urls.clear();
    }
}

impl From<v1::Function> for Function {
    fn from(wire: v1::Function) -> Self {
        Self {
            namespace: id_in(&wire.name, "namespaces").to_owned(),
            function: id_in(&wire.name, "functions").to_owned(),
            name: wire.name,
            uid: wire.uid,
            description: wire.description,
            public: wire.public,
            direct: wire.direct,
            disabled: wire.disabled,
            traffic: wire.traffic.into_iter().map(TrafficTarget::from).collect(),
            latest_version: wire.latest_version,
            create_time: wire.create_time.map(Time::from),
            update_time: wire.update_time.map(Time::from),
            etag: wire.etag,
            urls: wire.urls,
            quota_usage: wire.quota_usage.map(QuotaUsage::from),
        }
    }
}

/// A share of a function's calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TrafficTarget {
    /// The version's number.
    #[serde(deserialize_with = "whole::<_, 1, { u32::MAX }>")]
    #[schema(minimum = 1, maximum = 4_294_967_295_u32)]
    pub(crate) version: u32,
    /// From 1 to 100; all of them sum to 100.
    #[serde(deserialize_with = "whole::<_, 1, 100>")]
    #[schema(minimum = 1, maximum = 100)]
    pub(crate) percent: u32,
}

impl From<v1::TrafficTarget> for TrafficTarget {
    fn from(wire: v1::TrafficTarget) -> Self {
        Self { version: wire.version, percent: wire.percent }
    }
}

/// A page of functions, in the order of their names.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct FunctionList {
    /// The page.
    pub(crate) functions: Vec<Function>,
    /// Empty on the last page.
    pub(crate) next_page_token: String,
}

impl From<v1::ListFunctionsResponse> for FunctionList {
    fn from(wire: v1::ListFunctionsResponse) -> Self {
        Self {
            functions: wire.functions.into_iter().map(Function::from).collect(),
            next_page_token: wire.next_page_token,
        }
    }
}

/// What a rollback did.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Rollback {
    /// The function after it.
    pub(crate) function: Option<Function>,
    /// The version that has the traffic now.
    pub(crate) version: u32,
    /// The gateways that have not said that they serve the change; they will, once they are reached.
    pub(crate) lagging_gateways: Vec<String>,
}

impl From<v1::RollbackFunctionResponse> for Rollback {
    fn from(wire: v1::RollbackFunctionResponse) -> Self {
        let function = wire.function.map(Function::from);
        Self { function, version: wire.version, lagging_gateways: wire.lagging_gateways }
    }
}

/// What kind of WebAssembly artifact a version runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) enum FunctionKind {
    /// Not known.
    #[serde(rename = "unknown")]
    Unknown,
    /// Exports `wasi:http/incoming-handler@0.2`.
    #[serde(rename = "http-0.2")]
    Http02,
    /// Exports `wasi:http/handler@0.3`.
    #[serde(rename = "http-0.3")]
    Http03,
    /// A WASI command, called by CGI.
    #[serde(rename = "command")]
    Command,
}

impl FunctionKind {
    /// For people.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Unknown => "unknown kind",
            Self::Http02 => "HTTP, WASI 0.2",
            Self::Http03 => "HTTP, WASI 0.3",
            Self::Command => "WASI command",
        }
    }
}

impl From<v1::FunctionKind> for FunctionKind {
    fn from(wire: v1::FunctionKind) -> Self {
        match wire {
            v1::FunctionKind::Unspecified => Self::Unknown,
            v1::FunctionKind::Http02 => Self::Http02,
            v1::FunctionKind::Http03 => Self::Http03,
            v1::FunctionKind::Command => Self::Command,
        }
    }
}

/// An immutable deploy of a function.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Version {
    /// `namespaces/{namespace}/functions/{function}/versions/{number}`.
    pub(crate) name: String,
    /// 1, 2, 3...
    pub(crate) number: u32,
    /// `sha256:` and 64 hexadecimal digits.
    pub(crate) artifact_digest: String,
    /// The artifact's size in bytes.
    pub(crate) artifact_size_bytes: u64,
    /// The size of the code compiled from it, in bytes.
    pub(crate) compiled_size_bytes: u64,
    /// Detected from the artifact's exports.
    pub(crate) kind: FunctionKind,
    /// Limits of each invocation.
    pub(crate) limits: Limits,
    /// How many sandboxes and workers it may have.
    pub(crate) scaling: Scaling,
    /// Environment variables. Values are null for a reader with less than the role `developer`.
    pub(crate) environment: BTreeMap<String, Option<String>>,
    /// Hosts that the guest may call.
    pub(crate) allowed_outbound_hosts: Vec<String>,
    /// Whether a call that is lost with its worker may run again.
    pub(crate) idempotent: bool,
    /// How sandboxes are used again; null means a fresh one for every call.
    pub(crate) reuse: Option<Reuse>,
    /// Why every call gets a fresh sandbox although `reuse` asks for another; empty where it does not, or nobody knows yet.
    pub(crate) reuse_refusal: String,
    /// The interfaces that the artifact imports.
    pub(crate) imports: Vec<String>,
    /// When it was made.
    pub(crate) create_time: Option<Time>,
    /// Who made it.
    pub(crate) creator: String,
    /// Why it was made.
    pub(crate) note: String,
    /// Where developers reach it, traffic or not, with an administration token of the role `developer` or more.
    pub(crate) preview_urls: Vec<String>,
    /// What `public` of the function becomes when this version gets all calls; null where it stays, and once it has.
    pub(crate) pending_public: Option<bool>,
    /// The same of `direct`.
    pub(crate) pending_direct: Option<bool>,
}

impl Version {
    /// Leaves out what is the answering gateway's own: its addresses.
    pub(crate) fn forget_gateway(&mut self) {
        self.preview_urls.clear();
    }

    /// A version as a reader may see it: without `values`, the environment shows its names alone.
    pub(crate) fn new(wire: v1::Version, values: bool) -> Self {
        let kind = wire.kind().into();
        let spec = wire.spec.unwrap_or_default();
        Self {
            name: wire.name,
            number: wire.number,
            artifact_digest: wire.artifact_digest,
            artifact_size_bytes: wire.artifact_size_bytes,
            compiled_size_bytes: wire.compiled_size_bytes,
            kind,
            limits: spec.limits.unwrap_or_default().into(),
            scaling: spec.scaling.unwrap_or_default().into(),
            environment: spec.environment.into_iter().map(|(name, value)| (name, values.then_some(value))).collect(),
            allowed_outbound_hosts: spec.allowed_outbound_hosts,
            idempotent: spec.idempotent,
            reuse: spec.reuse.map(Reuse::from),
            reuse_refusal: wire.reuse_refusal,
            imports: wire.imports,
            create_time: wire.create_time.map(Time::from),
            creator: wire.creator,
            note: wire.note,
            preview_urls: wire.preview_urls,
            pending_public: wire.pending_public,
            pending_direct: wire.pending_direct,
        }
    }
}

/// A page of versions, the newest first.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct VersionList {
    /// The page.
    pub(crate) versions: Vec<Version>,
    /// Empty on the last page.
    pub(crate) next_page_token: String,
}

impl VersionList {
    /// A page as a reader may see it; see [`Version::new`].
    pub(crate) fn new(wire: v1::ListVersionsResponse, values: bool) -> Self {
        Self {
            versions: wire.versions.into_iter().map(|version| Version::new(version, values)).collect(),
            next_page_token: wire.next_page_token,
        }
    }
}

/// Limits of one invocation.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Limits {
    /// Linear memory in bytes.
    pub(crate) memory_bytes: u64,
    /// CPU time of the guest, in microseconds.
    pub(crate) cpu_time_us: u64,
    /// From the gateway's acceptance to the end of the answer, in milliseconds.
    pub(crate) timeout_ms: u64,
    /// Body of a request in bytes.
    pub(crate) request_body_bytes: u64,
    /// Body of an answer in bytes.
    pub(crate) response_body_bytes: u64,
    /// Log output of an invocation in bytes.
    pub(crate) log_bytes: u64,
    /// Calls of the function in a time, in the whole cluster; null means as many as the namespace may have.
    pub(crate) rate: Option<Rate>,
    /// Calls of the function in a day or month, in the whole cluster; null means as many as the namespace may have.
    pub(crate) quota: Option<QuotaLimit>,
}

impl From<v1::Limits> for Limits {
    fn from(wire: v1::Limits) -> Self {
        let default = dunlin_proto::model::Limits::default();
        let duration = |value: Option<_>, default| value.or(Some(dunlin_proto::model::to_wire_duration(default)));
        Self {
            memory_bytes: wire.memory_bytes.unwrap_or(default.memory_bytes),
            cpu_time_us: micros(duration(wire.cpu_time, default.cpu_time)),
            timeout_ms: millis(duration(wire.timeout, default.timeout)),
            request_body_bytes: wire.request_body_bytes.unwrap_or(default.request_body_bytes),
            response_body_bytes: wire.response_body_bytes.unwrap_or(default.response_body_bytes),
            log_bytes: wire.log_bytes.unwrap_or(default.log_bytes),
            rate: wire.rate.and_then(Rate::from_wire),
            quota: wire.quota.and_then(QuotaLimit::from_wire),
        }
    }
}

/// How many sandboxes and workers a version may have.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Scaling {
    /// Sandboxes kept prepared on each worker that holds the version.
    pub(crate) min_sandboxes: u32,
    /// Invocations that run at once on each worker.
    pub(crate) max_sandboxes: u32,
    /// How long a prepared sandbox is kept, in milliseconds.
    pub(crate) idle_timeout_ms: u64,
    /// Workers that always hold the version.
    pub(crate) min_workers: u32,
    /// Workers that hold it at the most; null means as many as there are.
    pub(crate) max_workers: Option<u32>,
    /// Invocations of the function at once in the whole cluster; null means as many as the namespace may have.
    pub(crate) max_concurrency: Option<u32>,
    /// Of the namespace's `max_concurrency`, what no other function takes.
    pub(crate) reserved_concurrency: u32,
}

impl From<v1::Scaling> for Scaling {
    fn from(wire: v1::Scaling) -> Self {
        let default = dunlin_proto::model::Scaling::default();
        let idle = wire.idle_timeout.or(Some(dunlin_proto::model::to_wire_duration(default.idle_timeout)));
        Self {
            min_sandboxes: wire.min_sandboxes.unwrap_or(default.min_sandboxes),
            max_sandboxes: wire.max_sandboxes.unwrap_or(default.max_sandboxes),
            idle_timeout_ms: millis(idle),
            min_workers: wire.min_workers.unwrap_or(default.min_workers),
            max_workers: wire.max_workers,
            max_concurrency: wire.max_concurrency,
            reserved_concurrency: wire.reserved_concurrency.unwrap_or(default.reserved_concurrency),
        }
    }
}

/// How sandboxes are used again, each for one call at a time.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Reuse {
    /// Calls that a sandbox serves.
    pub(crate) max_calls: u32,
    /// How long it waits for its next call, in milliseconds.
    pub(crate) max_idle_ms: u64,
}

impl From<v1::Reuse> for Reuse {
    fn from(wire: v1::Reuse) -> Self {
        let default = dunlin_proto::model::Reuse::default();
        let idle = wire.max_idle.or(Some(dunlin_proto::model::to_wire_duration(default.max_idle)));
        Self { max_calls: wire.max_calls.unwrap_or(default.max_calls), max_idle_ms: millis(idle) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_version_leaves_out_is_shown_as_the_default() {
        let version = Version::new(v1::Version::default(), true);
        assert_eq!(version.limits.memory_bytes, 128 << 20);
        assert_eq!((version.limits.cpu_time_us, version.limits.timeout_ms), (10_000_000, 30_000));
        assert_eq!((version.scaling.max_sandboxes, version.scaling.idle_timeout_ms), (100, 60_000));
    }

    #[test]
    fn a_viewer_sees_the_names_of_the_environment_alone() {
        let environment = [("A".to_owned(), "1".to_owned())].into();
        let spec = v1::VersionSpec { environment, ..Default::default() };
        let wire = v1::Version { spec: Some(spec), ..Default::default() };
        assert_eq!(Version::new(wire.clone(), false).environment["A"], None);
        assert_eq!(Version::new(wire, true).environment["A"].as_deref(), Some("1"));
    }
}
