//! One worker: what it says of itself and when it was last heard. What it says is bounded where it enters (`rpc/sync.rs`).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use dunlin_proto::ids::{VersionKey, WorkerId};
use tokio::{sync::watch, time::Instant};

use super::{Assignment, SILENCE, Seated, Session};
use crate::model::Time;

/// A set of sandboxes with one engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EndpointSpec {
    /// `{worker}/{number}`.
    pub(crate) id: String,
    /// Host and port.
    pub(crate) address: String,
    /// The engine that code for it must be compiled for.
    pub(crate) fingerprint: String,
    /// Sandboxes that it can have at once.
    pub(crate) capacity: u32,
}

/// Who a worker is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WorkerHello {
    /// Its name.
    pub(crate) worker: WorkerId,
    /// Another one after each start of the process.
    pub(crate) incarnation: String,
    /// The release that it runs.
    pub(crate) software_version: String,
    /// Where gateways reach its sandboxes; one at least.
    pub(crate) endpoints: Vec<EndpointSpec>,
    /// What fails together with it; may be empty.
    pub(crate) zone: String,
}

/// Whether a version can run on a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HeldState {
    /// Its code is on the way.
    Loading,
    /// It takes invocations.
    Ready,
    /// It can't be loaded, and why; the worker tries again.
    Failed(String),
}

/// A version on a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    /// Whether it can run.
    pub(crate) state: HeldState,
    /// Invocations that run.
    pub(crate) in_flight: u32,
    /// Invocations that wait for a sandbox.
    pub(crate) queued: u32,
    /// Sandboxes that wait for an invocation.
    pub(crate) prepared: u32,
    /// The longest wait since the report before.
    pub(crate) queue_delay: Duration,
    /// Why its sandboxes can't be used again: nothing before that was tried, empty where they can.
    pub(crate) reuse_refusal: Option<String>,
}

/// What a worker does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct WorkerReport {
    /// What it holds, in whatever state.
    pub(crate) versions: BTreeMap<VersionKey, Held>,
    /// Resident memory in bytes.
    pub(crate) memory_bytes: u64,
    /// Processor use in thousandths of a core.
    pub(crate) cpu_millis: u32,
    /// It finishes what runs, and ends.
    pub(crate) leaving: bool,
    /// Versions on standby that it has on its disk, not loaded.
    pub(crate) stored: u32,
}

/// A worker that has joined.
#[derive(Debug)]
pub(crate) struct WorkerView {
    /// What it said when its newest stream was opened.
    pub(crate) hello: WorkerHello,
    /// That stream.
    pub(super) session: Session,
    /// Whether its stream is open.
    pub(crate) connected: bool,
    /// When this process joined.
    pub(crate) join_time: Time,
    /// When it was last heard, for deciding.
    pub(crate) heard: Instant,
    /// The same, for people.
    pub(crate) heard_time: Time,
    /// Nothing before its first report.
    pub(crate) report: Option<WorkerReport>,
    /// What it shall hold; its stream has the other end.
    pub(crate) assignment: watch::Sender<Arc<Assignment>>,
}

impl WorkerView {
    pub(super) fn new(hello: WorkerHello, session: Session, now: Instant, wall: Time) -> Self {
        Self {
            hello,
            session,
            connected: true,
            join_time: wall,
            heard: now,
            heard_time: wall,
            report: None,
            assignment: watch::Sender::default(),
        }
    }

    /// The same worker opens another stream; what it held is gone where it was started anew.
    pub(super) fn rejoin(&mut self, hello: WorkerHello, session: Session, restarted: bool, now: Instant, wall: Time) {
        if restarted {
            (self.report, self.join_time) = (None, wall);
        }
        (self.hello, self.session, self.connected) = (hello, session, true);
        (self.heard, self.heard_time) = (now, wall);
    }

    /// Whether it has not been heard for too long.
    pub(crate) fn is_silent(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.heard) > SILENCE
    }

    /// Its seat among those that hold versions on standby.
    pub(super) fn seat(&self) -> Option<Seated> {
        let WorkerHello { worker, zone, endpoints, .. } = &self.hello;
        let address = endpoints.first()?.address.clone();
        Some(Seated { worker: worker.clone(), zone: zone.clone(), address })
    }

    /// Sandboxes that it can have at once.
    pub(crate) fn capacity(&self) -> u32 {
        self.hello.endpoints.iter().fold(0, |sum, endpoint| sum.saturating_add(endpoint.capacity))
    }

    /// The engines that it has.
    pub(crate) fn engines(&self) -> BTreeSet<String> {
        self.hello.endpoints.iter().map(|endpoint| endpoint.fingerprint.clone()).collect()
    }

    /// The versions that it holds, in whatever state.
    pub(crate) fn held(&self) -> impl Iterator<Item = (&VersionKey, &Held)> {
        self.report.iter().flat_map(|report| &report.versions)
    }

    /// Whether it has the version ready.
    pub(crate) fn has_ready(&self, version: &VersionKey) -> bool {
        let held = self.report.as_ref().and_then(|report| report.versions.get(version));
        held.is_some_and(|held| held.state == HeldState::Ready)
    }
}
