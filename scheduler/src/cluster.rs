//! The cluster as it reports itself: workers with what they hold, gateways with what they ask for, and when each was last
//! heard. Nothing here is durable but who is drained, which the store remembers too. Time is an argument; what decides on
//! this view is in `placement.rs` and `autoscale.rs`.

mod gateways;
mod workers;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use dunlin_proto::{
    ApiError, ErrorCode,
    ids::{GatewayId, Namespace, VersionKey, WorkerId},
    model::Retention,
};
use tokio::{sync::watch, time::Instant};

pub(crate) use self::{
    gateways::{Demand, GatewayHello, GatewayView},
    workers::{EndpointSpec, Held, HeldState, WorkerHello, WorkerReport, WorkerView},
};
use crate::{
    model::{Code, Time, VersionRecord},
    purges::Position,
    store::WorkerRecord,
};

/// Silence after which a worker is taken out of placement: three reports missed.
pub(crate) const SILENCE: Duration = Duration::from_millis(1500);

/// How long a lost worker keeps its seat among those that hold versions on standby: a restart must not make others fetch
/// thousands of versions.
const SEAT: Duration = Duration::from_secs(30);

/// How long a lost worker is still shown.
const FORGET: Duration = Duration::from_secs(600);

/// How long a gateway that has gone is told to those who change what it may still serve, and to those who ask all for what each
/// keeps for itself.
const DEPARTED: Duration = Duration::from_secs(600);

/// Processes of one kind that are known at once.
const MOST: usize = 10_000;

/// One stream of a worker or gateway: what a later one replaced can report no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Session(u64);

/// A version that a worker shall hold.
#[derive(Debug, Clone)]
pub(crate) struct Assigned {
    pub(crate) version: Arc<VersionRecord>,
    pub(crate) code: Arc<Code>,
    /// Only kept on disk.
    pub(crate) standby: bool,
}

impl PartialEq for Assigned {
    /// Mostly they are the same values, which is quick to see.
    fn eq(&self, other: &Self) -> bool {
        let version = Arc::ptr_eq(&self.version, &other.version) || self.version == other.version;
        let code = Arc::ptr_eq(&self.code, &other.code) || self.code == other.code;
        version && code && self.standby == other.standby
    }
}

/// A worker that holds versions on standby.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seated {
    pub(crate) worker: WorkerId,
    pub(crate) zone: String,
    /// Where other workers fetch code from it.
    pub(crate) address: String,
}

/// The whole of what a worker shall hold.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Assignment {
    /// The scheduler's start, and the count within it.
    pub(crate) version: (u64, u64),
    pub(crate) versions: BTreeMap<VersionKey, Assigned>,
    /// An operator drains the worker.
    pub(crate) drain: bool,
    /// Who else may have the code.
    pub(crate) peers: Arc<Vec<Seated>>,
    /// What is kept of the logs of namespaces that have that of their own.
    pub(crate) retentions: Arc<BTreeMap<Namespace, Retention>>,
}

/// All workers and gateways.
#[derive(Debug, Default)]
pub(crate) struct Cluster {
    workers: BTreeMap<WorkerId, WorkerView>,
    gateways: BTreeMap<GatewayId, GatewayView>,
    /// When gateways went that have not come back, and where they were reached.
    departed: BTreeMap<GatewayId, (Instant, String)>,
    drained: BTreeSet<WorkerId>,
    /// Versions that somebody asked for since the last decision.
    activations: BTreeSet<VersionKey>,
    /// Workers that were members when the scheduler ended, and have not reported yet.
    awaited: BTreeSet<WorkerId>,
    sessions: u64,
}

impl Cluster {
    /// The cluster as the store remembers it.
    pub(crate) fn new(remembered: &BTreeMap<WorkerId, WorkerRecord>) -> Self {
        let names = |pick: fn(&WorkerRecord) -> bool| {
            remembered.iter().filter(|(_, worker)| pick(worker)).map(|(name, _)| name.clone()).collect()
        };
        Self { drained: names(|worker| worker.drained), awaited: names(|worker| worker.member), ..Self::default() }
    }

    fn next_session(&mut self) -> Session {
        self.sessions += 1;
        Session(self.sessions)
    }

    /// A worker opens its stream. Returns its session and what it shall hold.
    ///
    /// # Errors
    /// Another process with its name is alive.
    pub(crate) fn worker_join(
        &mut self,
        hello: WorkerHello,
        now: Instant,
        wall: Time,
    ) -> Result<(Session, watch::Receiver<Arc<Assignment>>), ApiError> {
        let session = self.next_session();
        if let Some(known) = self.workers.get_mut(&hello.worker) {
            if known.hello.incarnation != hello.incarnation && known.connected && !known.is_silent(now) {
                return Err(taken("worker", hello.worker.as_str()));
            }
            let restarted = known.hello.incarnation != hello.incarnation;
            known.rejoin(hello, session, restarted, now, wall);
            return Ok((session, known.assignment.subscribe()));
        }
        if self.workers.len() >= MOST {
            return Err(ApiError::new(ErrorCode::TooManyRequests, "the cluster has too many workers"));
        }
        let worker = hello.worker.clone();
        let view = WorkerView::new(hello, session, now, wall);
        let assignment = view.assignment.subscribe();
        self.workers.insert(worker, view);
        Ok((session, assignment))
    }

    /// A worker reports.
    ///
    /// # Errors
    /// A later stream of the same worker has replaced this one.
    pub(crate) fn worker_report(
        &mut self,
        worker: &WorkerId,
        session: Session,
        report: WorkerReport,
        now: Instant,
        wall: Time,
    ) -> Result<(), ApiError> {
        let known = self.workers.get_mut(worker).filter(|known| known.session == session);
        let Some(known) = known else { return Err(taken("worker", worker.as_str())) };
        (known.heard, known.heard_time, known.report) = (now, wall, Some(report));
        self.awaited.remove(worker);
        Ok(())
    }

    /// A worker's stream has ended.
    pub(crate) fn worker_leave(&mut self, worker: &WorkerId, session: Session) {
        if let Some(known) = self.workers.get_mut(worker).filter(|known| known.session == session) {
            known.connected = false;
        }
    }

    /// Forgets workers that have been lost for long.
    pub(crate) fn forget(&mut self, now: Instant) -> Vec<WorkerId> {
        let lost = |worker: &WorkerView| !worker.connected && now.saturating_duration_since(worker.heard) >= FORGET;
        let lost: Vec<_> = self.workers.iter().filter(|(_, worker)| lost(worker)).map(|(id, _)| id.clone()).collect();
        for worker in &lost {
            self.workers.remove(worker);
        }
        lost
    }

    /// The workers, by name.
    pub(crate) fn workers(&self) -> &BTreeMap<WorkerId, WorkerView> {
        &self.workers
    }

    /// Whether an operator drains the worker.
    pub(crate) fn is_drained(&self, worker: &WorkerId) -> bool {
        self.drained.contains(worker)
    }

    /// Drains a worker, or takes it back in.
    pub(crate) fn set_drained(&mut self, worker: &WorkerId, drained: bool) {
        if drained {
            self.drained.insert(worker.clone());
        } else {
            self.drained.remove(worker);
        }
    }

    /// Whether a worker is alive, not leaving and not drained.
    pub(crate) fn accepts(&self, worker: &WorkerId, now: Instant) -> bool {
        let takes = |view: &WorkerView| view.report.as_ref().is_some_and(|report| !report.leaving);
        let known = self.workers.get(worker).filter(|known| !known.is_silent(now) && takes(known));
        known.is_some() && !self.is_drained(worker)
    }

    /// The workers that hold versions on standby: neither drained nor lost for long.
    pub(crate) fn seated(&self, now: Instant) -> Vec<Seated> {
        let stays = |view: &WorkerView| now.saturating_duration_since(view.heard) <= SEAT;
        let seated = self.workers.values().filter(|view| stays(view) && !self.is_drained(&view.hello.worker));
        seated.filter_map(WorkerView::seat).collect()
    }

    /// Whether any worker takes versions.
    pub(crate) fn any_accepts(&self, now: Instant) -> bool {
        self.workers.keys().any(|worker| self.accepts(worker, now))
    }

    /// Whether every worker that was a member before the restart has reported.
    pub(crate) fn is_complete(&self) -> bool {
        self.awaited.is_empty()
    }

    /// Asks for a version at the next decision.
    pub(crate) fn activate(&mut self, version: VersionKey) {
        self.activations.insert(version);
    }

    /// The versions asked for since the last time.
    pub(crate) fn take_activations(&mut self) -> BTreeSet<VersionKey> {
        std::mem::take(&mut self.activations)
    }

    /// A gateway opens its stream.
    ///
    /// # Errors
    /// Another gateway with its name is connected.
    pub(crate) fn gateway_join(&mut self, hello: GatewayHello, wall: Time) -> Result<Session, ApiError> {
        if let Some(known) = self.gateways.get(&hello.gateway)
            && known.hello.peer_address != hello.peer_address
        {
            return Err(taken("gateway", hello.gateway.as_str()));
        }
        if self.gateways.len() >= MOST {
            return Err(ApiError::new(ErrorCode::TooManyRequests, "the cluster has too many gateways"));
        }
        let session = self.next_session();
        self.departed.remove(&hello.gateway);
        self.gateways.insert(hello.gateway.clone(), GatewayView::new(hello, session, wall));
        Ok(session)
    }

    /// A gateway reports.
    ///
    /// # Errors
    /// A later stream of the same gateway has replaced this one.
    pub(crate) fn gateway_report(
        &mut self,
        gateway: &GatewayId,
        session: Session,
        config_version: u64,
        demand: BTreeMap<VersionKey, Demand>,
    ) -> Result<(), ApiError> {
        let known = self.gateways.get_mut(gateway).filter(|known| known.session == session);
        let Some(known) = known else { return Err(taken("gateway", gateway.as_str())) };
        (known.config_version, known.demand) = (config_version, demand);
        Ok(())
    }

    /// A gateway says which purges of stored answers it has followed.
    pub(crate) fn gateway_purged(&mut self, gateway: &GatewayId, session: Session, purged: Option<Position>) {
        if let Some(known) = self.gateways.get_mut(gateway).filter(|known| known.session == session) {
            known.purged = purged;
        }
    }

    /// A gateway says which certificates and challenges it serves.
    pub(crate) fn gateway_certified(&mut self, gateway: &GatewayId, session: Session, has: Option<Position>) {
        if let Some(known) = self.gateways.get_mut(gateway).filter(|known| known.session == session) {
            known.certificates = has;
        }
    }

    /// The connected gateways that do not serve these certificates and challenges yet, or never will.
    pub(crate) fn behind_certificates(&self, newest: Position) -> BTreeSet<GatewayId> {
        let behind = |known: &GatewayView| {
            known.certificates.is_none_or(|has| has.epoch != newest.epoch || has.sequence < newest.sequence)
        };
        self.gateways.iter().filter(|(_, known)| behind(known)).map(|(gateway, _)| gateway.clone()).collect()
    }

    /// The connected gateways that store answers and have not followed so far.
    pub(crate) fn behind_purge(&self, newest: Position) -> BTreeSet<GatewayId> {
        let behind = |known: &GatewayView| {
            known.purged.is_some_and(|purged| purged.epoch != newest.epoch || purged.sequence < newest.sequence)
        };
        self.gateways.iter().filter(|(_, known)| behind(known)).map(|(gateway, _)| gateway.clone()).collect()
    }

    /// A gateway's stream has ended: what it asked for is asked for no more.
    pub(crate) fn gateway_leave(&mut self, gateway: &GatewayId, session: Session, now: Instant) {
        if self.gateways.get(gateway).is_some_and(|known| known.session == session)
            && let Some(known) = self.gateways.remove(gateway)
        {
            self.departed.retain(|_, (gone, _)| now.saturating_duration_since(*gone) < DEPARTED);
            self.departed.insert(gateway.clone(), (now, known.hello.peer_address));
        }
    }

    /// The connected gateways that serve an older configuration.
    pub(crate) fn behind(&self, config_version: u64) -> BTreeSet<GatewayId> {
        let behind = self.gateways.iter().filter(|(_, known)| known.config_version < config_version);
        behind.map(|(gateway, _)| gateway.clone()).collect()
    }

    /// The gateways that have gone lately: cut off, they may serve on.
    pub(crate) fn departed(&self, now: Instant) -> BTreeSet<GatewayId> {
        self.last_reached(now).map(|(gateway, _)| gateway.clone()).collect()
    }

    /// The same, with where they were reached.
    pub(crate) fn last_reached(&self, now: Instant) -> impl Iterator<Item = (&GatewayId, &str)> {
        let lately = self.departed.iter().filter(move |(_, (gone, _))| now.saturating_duration_since(*gone) < DEPARTED);
        lately.map(|(gateway, (_, address))| (gateway, address.as_str()))
    }

    /// The gateways, by name.
    pub(crate) fn gateways(&self) -> &BTreeMap<GatewayId, GatewayView> {
        &self.gateways
    }
}

fn taken(kind: &str, name: &str) -> ApiError {
    let message = format!("another {kind} is connected as {name}");
    ApiError::new(ErrorCode::AlreadyExists, message)
        .hint(format!("give each {kind} a name of its own with --name; after a crash, try again in 2 s"))
        .retry_after(Duration::from_secs(2))
}

#[cfg(test)]
mod tests;
