//! Versions and what they are granted, as shown.

use std::collections::BTreeMap;

use dunlin_proto::{model, v1};
use serde::Serialize;

use super::{Millis, Time, age, function::FunctionView, or_dash, part, plan::QuotaView};
use crate::{
    output::{Column, printable},
    units,
};

/// A version.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct VersionView {
    pub(crate) resource: String,
    pub(crate) namespace: String,
    pub(crate) function: String,
    pub(crate) version: u32,
    /// The share of the function's calls that it gets; absent where that was not asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) traffic_percent: Option<u32>,
    pub(crate) kind: &'static str,
    pub(crate) artifact_digest: String,
    pub(crate) artifact_size_bytes: u64,
    pub(crate) compiled_size_bytes: u64,
    pub(crate) imports: Vec<String>,
    pub(crate) creator: String,
    pub(crate) note: String,
    pub(crate) create_time: Option<Time>,
    pub(crate) spec: SpecView,
    /// Why sandboxes are not used again although the version asks for it; empty where they are, or nobody knows yet.
    pub(crate) reuse_refusal: String,
    /// Where developers reach it, traffic or not.
    pub(crate) preview_urls: Vec<String>,
    /// What the function's `public` becomes when this version gets all calls; absent where it stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pending_public: Option<bool>,
    /// The same of `direct`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pending_direct: Option<bool>,
}

/// Grants and limits, with the defaults filled in.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct SpecView {
    pub(crate) memory_bytes: u64,
    pub(crate) cpu_time_ms: Millis,
    pub(crate) timeout_ms: Millis,
    pub(crate) request_body_bytes: u64,
    pub(crate) response_body_bytes: u64,
    pub(crate) log_bytes: u64,
    pub(crate) rate: Option<RateView>,
    pub(crate) quota: Option<QuotaView>,
    pub(crate) min_sandboxes: u32,
    pub(crate) max_sandboxes: u32,
    pub(crate) idle_timeout_ms: Millis,
    pub(crate) min_workers: u32,
    pub(crate) max_workers: Option<u32>,
    pub(crate) max_concurrency: Option<u32>,
    pub(crate) reserved_concurrency: u32,
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) allowed_outbound_hosts: Vec<String>,
    pub(crate) idempotent: bool,
    pub(crate) reuse: Option<ReuseView>,
}

/// How sandboxes are used again.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ReuseView {
    pub(crate) max_calls: u32,
    pub(crate) max_idle_ms: Millis,
}

impl From<model::Reuse> for ReuseView {
    fn from(reuse: model::Reuse) -> Self {
        Self { max_calls: reuse.max_calls, max_idle_ms: Millis(reuse.max_idle) }
    }
}

/// Calls in a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct RateView {
    /// As people write it.
    pub(crate) rate: String,
    pub(crate) burst: u32,
}

impl RateView {
    /// A cluster of another version may know what this one does not; then nothing is shown.
    pub(crate) fn from_wire(wire: v1::RateLimit) -> Option<Self> {
        model::Rate::from_wire("rate", wire).ok().map(Self::from)
    }
}

impl From<model::Rate> for RateView {
    fn from(rate: model::Rate) -> Self {
        Self { rate: rate.to_string(), burst: rate.burst }
    }
}

impl From<v1::VersionSpec> for SpecView {
    fn from(spec: v1::VersionSpec) -> Self {
        // A cluster of another version may allow what this one does not know; then its defaults are shown.
        let model::VersionSpec { limits, scaling, environment, allowed_outbound_hosts, idempotent, reuse } =
            spec.try_into().unwrap_or_default();
        Self {
            memory_bytes: limits.memory_bytes,
            cpu_time_ms: Millis(limits.cpu_time),
            timeout_ms: Millis(limits.timeout),
            request_body_bytes: limits.request_body_bytes,
            response_body_bytes: limits.response_body_bytes,
            log_bytes: limits.log_bytes,
            rate: limits.rate.map(RateView::from),
            quota: limits.quota.map(QuotaView::from),
            min_sandboxes: scaling.min_sandboxes,
            max_sandboxes: scaling.max_sandboxes,
            idle_timeout_ms: Millis(scaling.idle_timeout),
            min_workers: scaling.min_workers,
            max_workers: scaling.max_workers,
            max_concurrency: scaling.max_concurrency,
            reserved_concurrency: scaling.reserved_concurrency,
            environment,
            allowed_outbound_hosts,
            idempotent,
            reuse: reuse.map(ReuseView::from),
        }
    }
}

impl SpecView {
    /// Its limits in one line.
    pub(crate) fn limits_text(&self) -> String {
        format!(
            "memory {}, CPU {}, timeout {}, request {}, response {}, logs {}",
            units::size(self.memory_bytes),
            units::setting(self.cpu_time_ms.0),
            units::setting(self.timeout_ms.0),
            units::size(self.request_body_bytes),
            units::size(self.response_body_bytes),
            units::size(self.log_bytes),
        )
    }

    /// Its scaling in one line.
    pub(crate) fn scaling_text(&self) -> String {
        let most = self.max_workers.map_or_else(|| "any number of".to_owned(), |most| format!("to {most}"));
        format!(
            "{} to {} sandboxes a worker, idle {}, {} {most} workers",
            self.min_sandboxes,
            self.max_sandboxes,
            units::setting(self.idle_timeout_ms.0),
            self.min_workers,
        )
    }
}

impl SpecView {
    /// How many calls at once it may have, in one line.
    pub(crate) fn concurrency_text(&self) -> String {
        let most = self.max_concurrency.map_or_else(|| "as many as the namespace".to_owned(), |most| most.to_string());
        let rate = self.rate.as_ref().map(|rate| format!(", {} with a burst of {}", rate.rate, rate.burst));
        let reserved = match self.reserved_concurrency {
            0 => String::new(),
            reserved => format!(", {reserved} of the namespace's reserved"),
        };
        let quota = self.quota.as_ref().map(|quota| format!(", {}", quota.quota)).unwrap_or_default();
        format!("{most} calls at once{reserved}{}{quota}", rate.unwrap_or_default())
    }
}

impl VersionView {
    /// What changes of the function with all its calls, in one line; nothing where nothing does.
    pub(crate) fn pending_text(&self, function: &FunctionView) -> Option<String> {
        let fields = [
            ("public", self.pending_public.filter(|public| *public != function.public)),
            ("direct", self.pending_direct.filter(|direct| *direct != function.direct)),
        ];
        let said = fields.into_iter().filter_map(|(field, value)| Some(format!("{field} = {}", value?)));
        let said = said.collect::<Vec<_>>().join(", ");
        (!said.is_empty()).then(|| format!("{said}, once version {} has all calls", self.version))
    }

    /// Whether its sandboxes are used again, in one line.
    pub(crate) fn reuse_text(&self) -> String {
        match &self.spec.reuse {
            None => "no: a fresh sandbox for every call".to_owned(),
            Some(_) if !self.reuse_refusal.is_empty() => format!("off: {}", printable(&self.reuse_refusal)),
            Some(ReuseView { max_calls, max_idle_ms }) => {
                format!("{max_calls} calls a sandbox, one at a time, idle {}", units::setting(max_idle_ms.0))
            }
        }
    }
}

impl From<v1::Version> for VersionView {
    fn from(version: v1::Version) -> Self {
        Self {
            namespace: part(&version.name, "namespaces"),
            function: part(&version.name, "functions"),
            resource: version.name.clone(),
            version: version.number,
            traffic_percent: None,
            kind: kind(version.kind()),
            spec: version.spec.unwrap_or_default().into(),
            artifact_digest: version.artifact_digest,
            artifact_size_bytes: version.artifact_size_bytes,
            compiled_size_bytes: version.compiled_size_bytes,
            imports: version.imports,
            creator: version.creator,
            note: version.note,
            create_time: Time::from_wire(version.create_time),
            reuse_refusal: version.reuse_refusal,
            preview_urls: version.preview_urls,
            pending_public: version.pending_public,
            pending_direct: version.pending_direct,
        }
    }
}

/// The kind of an artifact, in the words of the documentation.
fn kind(kind: v1::FunctionKind) -> &'static str {
    match kind {
        v1::FunctionKind::Http02 => "http-0.2",
        v1::FunctionKind::Http03 => "http-0.3",
        v1::FunctionKind::Command => "command",
        v1::FunctionKind::Unspecified => "unknown",
    }
}

/// The columns of a list of versions.
pub(crate) const COLUMNS: &[Column<VersionView>] = &[
    Column::new("VERSION", |version| format!("v{}", version.version)),
    Column::new("TRAFFIC", |version| match version.traffic_percent {
        None | Some(0) => "-".to_owned(),
        Some(percent) => format!("{percent}%"),
    }),
    Column::new("KIND", |version| version.kind.to_owned()),
    Column::new("SIZE", |version| units::size(version.artifact_size_bytes)),
    Column::new("CREATED", |version| age(version.create_time)),
    Column::new("BY", |version| or_dash(&version.creator)),
    Column::new("NOTE", |version| or_dash(&version.note)),
    Column::wide("COMPILED", |version| units::size(version.compiled_size_bytes)),
    Column::wide("DIGEST", |version| version.artifact_digest.clone()),
];
