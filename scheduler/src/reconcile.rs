//! The loop that makes it so: every 250 ms, and at once on a hint, it looks at the whole view, decides, and publishes what
//! each worker shall hold and where versions run. It takes no input and remembers little, so that a restart needs no path
//! of its own.
//!
//! After a restart it publishes nothing until every worker that was a member has reported, or two seconds have passed:
//! gateways keep the placements that they have, so that no version is dropped only because its worker is slower to
//! reconnect than another. A version moves by being ready on its new worker before it leaves the old one.

mod acknowledge;
mod certificates;
mod plan;
mod publish;
mod standbys;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use dunlin_process::{
    metrics::count::{Histogram, WAITS},
    shutdown::Shutdown,
};
use dunlin_proto::ids::{VersionKey, WorkerId};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

pub(crate) use self::publish::{Peer, Placed, Placements};
use crate::{
    acme::Published, autoscale::State, catalog::CatalogKeeper, cluster::Cluster, placement::Placement, purges::PurgeLog,
};

/// How often it decides without a hint.
const PERIOD: Duration = Duration::from_millis(250);

/// How long after a restart it waits for workers that were members.
const SETTLE: Duration = Duration::from_secs(2);

/// What the loop and the streams share.
#[derive(Debug)]
pub(crate) struct Board {
    cluster: Mutex<Cluster>,
    hint: Notify,
    /// Nothing until it has settled.
    placements: watch::Sender<Option<Arc<Placements>>>,
    /// How many workers the load asks for.
    wanted_workers: watch::Sender<u32>,
    /// Counts what gateways have said.
    acknowledgements: watch::Sender<u64>,
    /// The last purges of stored answers.
    purges: watch::Sender<PurgeLog>,
    /// What gateways are told of certificates.
    certificates: watch::Sender<Arc<Published>>,
    /// How long decisions took.
    decisions: Histogram,
    epoch: u64,
    /// When this scheduler began.
    began: Instant,
}

impl Board {
    /// A board for this start of the scheduler.
    pub(crate) fn new(cluster: Cluster, epoch: u64, began: Instant) -> Self {
        Self {
            cluster: Mutex::new(cluster),
            hint: Notify::new(),
            placements: watch::Sender::new(None),
            wanted_workers: watch::Sender::new(0),
            acknowledgements: watch::Sender::new(0),
            purges: watch::Sender::new(PurgeLog::new(epoch)),
            certificates: watch::Sender::new(Arc::new(Published::new(epoch))),
            decisions: Histogram::new(WAITS),
            epoch,
            began,
        }
    }

    /// The view of the cluster. Held for moments only, never across a wait.
    pub(crate) fn cluster(&self) -> MutexGuard<'_, Cluster> {
        self.cluster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Decides at once; why is seen in the view.
    pub(crate) fn hint(&self) {
        self.hint.notify_one();
    }

    /// Asks for a version that may be nowhere.
    pub(crate) fn activate(&self, version: VersionKey) {
        self.cluster().activate(version);
        self.hint();
    }

    /// Follows where versions run.
    pub(crate) fn placements(&self) -> watch::Receiver<Option<Arc<Placements>>> {
        self.placements.subscribe()
    }

    /// Follows purges of stored answers.
    pub(crate) fn purges(&self) -> watch::Receiver<PurgeLog> {
        self.purges.subscribe()
    }

    /// How long decisions took.
    pub(crate) fn decisions(&self) -> &Histogram {
        &self.decisions
    }

    /// How many workers the load asks for.
    pub(crate) fn wanted_workers(&self) -> u32 {
        *self.wanted_workers.borrow()
    }

    /// Whether placements are being made: a restart waits for the workers it knew.
    pub(crate) fn has_settled(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.began) >= SETTLE || self.cluster().is_complete()
    }
}

/// What the loop remembers from one decision to the next.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    pub(super) scales: BTreeMap<VersionKey, State>,
    pub(super) placement: Placement,
    /// Nothing has been decided yet: what workers hold is what was placed before.
    pub(super) begun: bool,
    standbys: standbys::Standbys,
    /// What each worker's assignment was made of.
    made_of: BTreeMap<WorkerId, publish::Basis>,
}

/// Runs until the shutdown begins.
pub(crate) async fn run(board: Arc<Board>, catalog: Arc<CatalogKeeper>, shutdown: Shutdown) {
    let mut memory = Memory::default();
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut changes = catalog.subscribe();
    loop {
        // Each arm only wakes: all of them are cancel-safe.
        tokio::select! {
            _ = ticks.tick() => {}
            () = board.hint.notified() => {}
            Ok(()) = changes.changed() => {}
            () = shutdown.begun() => return,
        }
        let began = Instant::now();
        decide(&board, &catalog, &mut memory, began);
        board.decisions.observe(began.elapsed());
        // With many versions a decision takes a while, and hints come all the time: those who have news for the view, on which
        // the next decision rests, have their turn before it.
        tokio::time::sleep(began.elapsed().min(PERIOD)).await;
    }
}

/// One decision.
pub(crate) fn decide(board: &Board, catalog: &CatalogKeeper, memory: &mut Memory, now: Instant) {
    if !board.has_settled(now) {
        return;
    }
    let catalog = catalog.current();
    let mut cluster = board.cluster();
    memory.standbys.renew(&cluster, &catalog, now);
    let plan = plan::plan(&mut cluster, &catalog, memory, now, now.saturating_duration_since(board.began));
    publish::assign(&cluster, &catalog, &plan, memory, board.epoch);
    let seats = memory.standbys.seated();
    let (next, wanted) = (publish::placements(&cluster, &catalog, &plan, seats, now), plan.wanted_workers);
    drop(cluster);
    board.placements.send_if_modified(|current| publish::replace(current, next, board.epoch));
    board.wanted_workers.send_if_modified(|current| std::mem::replace(current, wanted) != wanted);
}

#[cfg(test)]
mod tests;
