//! From a plan to what is sent: each worker's assignment and the gateways' placements, only where they changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use dunlin_proto::ids::{GatewayId, VersionKey, WorkerId};
use tokio::time::Instant;

use super::{Memory, plan::Plan};
use crate::{
    catalog::Catalog,
    cluster::{Assigned, Assignment, Cluster, Seated, WorkerView},
};

/// An endpoint that takes invocations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) id: String,
    pub(crate) worker: WorkerId,
    pub(crate) address: String,
}

/// Another gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) gateway: String,
    pub(crate) address: String,
}

/// Where versions run now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Placements {
    pub(crate) epoch: u64,
    /// Counts up within the epoch.
    pub(crate) sequence: u64,
    pub(crate) endpoints: Vec<Placed>,
    /// Ids of endpoints by version.
    pub(crate) versions: BTreeMap<VersionKey, BTreeSet<String>>,
    pub(crate) gateways: Vec<Peer>,
    /// Gateways that have gone lately, where they were.
    pub(crate) departed: Vec<Peer>,
    /// Who holds versions on standby.
    pub(crate) seats: Arc<Vec<Seated>>,
}

/// What an assignment was made of: while it is the same, there is nothing to compare and nothing to send.
#[derive(Debug)]
pub(super) struct Basis {
    catalog: Arc<Catalog>,
    standbys: Arc<BTreeSet<VersionKey>>,
    peers: Arc<Vec<Seated>>,
    holds: BTreeSet<VersionKey>,
    engines: BTreeSet<String>,
    drained: bool,
}

impl Basis {
    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.catalog, &other.catalog)
            && Arc::ptr_eq(&self.standbys, &other.standbys)
            && Arc::ptr_eq(&self.peers, &other.peers)
            && (&self.holds, &self.engines, self.drained) == (&other.holds, &other.engines, other.drained)
    }
}

/// Tells every worker what it shall hold, where that changed.
pub(super) fn assign(cluster: &Cluster, catalog: &Arc<Catalog>, plan: &Plan, memory: &mut Memory, epoch: u64) {
    let Memory { standbys, made_of, .. } = memory;
    made_of.retain(|id, _| cluster.workers().contains_key(id));
    for (id, worker) in cluster.workers() {
        let basis = Basis {
            catalog: catalog.clone(),
            standbys: standbys.of(id),
            peers: standbys.seated().clone(),
            holds: plan.holds.get(id).cloned().unwrap_or_default(),
            engines: worker.engines(),
            drained: cluster.is_drained(id),
        };
        let sent = worker.assignment.borrow().version.0 == epoch;
        if sent && made_of.get(id).is_some_and(|before| before.is(&basis)) {
            continue;
        }
        send(worker, &basis, epoch);
        made_of.insert(id.clone(), basis);
    }
}

/// Gives a worker another assignment, where it differs from the one that it has.
fn send(worker: &WorkerView, basis: &Basis, epoch: u64) {
    let standby = basis.standbys.iter().map(|version| (version, true));
    // What is held anyway is not on standby, so it comes later.
    let held = standby.chain(basis.holds.iter().map(|version| (version, false)));
    let assigned = |(version, standby)| assigned(worker, &basis.catalog, version, standby);
    let versions: BTreeMap<_, _> = held.filter_map(assigned).collect();
    // It refuses calls from then on, so others must have taken over.
    let drain = basis.drained && versions.is_empty();
    let (peers, retentions) = (basis.peers.clone(), basis.catalog.retentions.clone());
    worker.assignment.send_if_modified(|current| {
        let same = current.versions == versions && current.drain == drain && current.peers == peers;
        if current.version.0 == epoch && same && current.retentions == retentions {
            return false;
        }
        let version = (epoch, current.version.1 + 1);
        *current = Arc::new(Assignment { version, versions, drain, peers, retentions });
        true
    });
}

/// A version with the code for the first of the worker's engines that has one.
fn assigned(worker: &WorkerView, catalog: &Catalog, key: &VersionKey, standby: bool) -> Option<(VersionKey, Assigned)> {
    let version = catalog.version(key)?;
    let codes = catalog.codes(version)?;
    let code = worker.hello.endpoints.iter().find_map(|endpoint| codes.get(&endpoint.fingerprint))?;
    Some((*key, Assigned { version: version.clone(), code: code.clone(), standby }))
}

/// Where versions run: on workers that are alive, shall hold them and have them ready. A drained worker counts only for
/// what nobody else has ready.
pub(super) fn placements(
    cluster: &Cluster,
    catalog: &Catalog,
    plan: &Plan,
    seats: &Arc<Vec<Seated>>,
    now: Instant,
) -> Placements {
    let mut versions: BTreeMap<VersionKey, BTreeSet<String>> = BTreeMap::new();
    let alive = |(id, worker): &(&WorkerId, &WorkerView)| {
        let stays = worker.report.as_ref().is_some_and(|report| !report.leaving);
        stays && !worker.is_silent(now) && plan.holds.contains_key(*id)
    };
    let (drained, serving): (Vec<_>, Vec<_>) =
        cluster.workers().iter().filter(alive).partition(|(id, _)| cluster.is_drained(id));
    let mut endpoints = Vec::new();
    for (id, worker) in serving.into_iter().chain(drained) {
        let planned = plan.holds.get(id).into_iter().flatten();
        let ready = planned.filter(|version| worker.has_ready(version) && catalog.version(version).is_some());
        let needed = |version: &&VersionKey| !cluster.is_drained(id) || !versions.contains_key(version);
        let ready: Vec<_> = ready.filter(needed).copied().collect();
        if ready.is_empty() && cluster.is_drained(id) {
            continue;
        }
        for endpoint in &worker.hello.endpoints {
            for version in &ready {
                if runs_on(catalog, version, &endpoint.fingerprint) {
                    versions.entry(*version).or_default().insert(endpoint.id.clone());
                }
            }
            let (id, address) = (endpoint.id.clone(), endpoint.address.clone());
            endpoints.push(Placed { id, worker: worker.hello.worker.clone(), address });
        }
    }
    let peer = |view: &crate::cluster::GatewayView| Peer {
        gateway: view.hello.gateway.to_string(),
        address: view.hello.peer_address.clone(),
    };
    let gateways = cluster.gateways().values().map(peer).collect();
    let gone =
        |(gateway, address): (&GatewayId, &str)| Peer { gateway: gateway.to_string(), address: address.to_owned() };
    let departed = cluster.last_reached(now).map(gone).collect();
    Placements { epoch: 0, sequence: 0, endpoints, versions, gateways, departed, seats: seats.clone() }
}

fn runs_on(catalog: &Catalog, version: &VersionKey, fingerprint: &str) -> bool {
    let codes = catalog.version(version).and_then(|version| catalog.codes(version));
    codes.is_some_and(|codes| codes.contains_key(fingerprint))
}

/// Replaces the placements where they differ, and counts; says whether they did.
pub(super) fn replace(current: &mut Option<Arc<Placements>>, next: Placements, epoch: u64) -> bool {
    let sequence = current.as_ref().map_or(0, |current| current.sequence);
    let same = current.as_ref().is_some_and(|current| Placements { epoch, sequence, ..next.clone() } == **current);
    if !same {
        *current = Some(Arc::new(Placements { epoch, sequence: sequence + 1, ..next }));
    }
    !same
}
