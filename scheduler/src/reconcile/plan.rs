//! From the view to a plan: demand of every version, workers that it wants, workers that it gets. Only brings together what
//! `autoscale.rs` and `placement.rs` decide.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use dunlin_proto::ids::{VersionKey, WorkerId};
use tokio::time::Instant;

use super::Memory;
use crate::{
    autoscale::{self, Policy, State, Stats},
    catalog::Catalog,
    cluster::{Cluster, HeldState},
    model::VersionRecord,
    placement::{Placement, Problem, Want, WorkerSpec, place},
};

/// What shall be.
#[derive(Debug)]
pub(super) struct Plan {
    /// What each worker shall hold, with what it still holds because nobody else has it ready.
    pub(super) holds: BTreeMap<WorkerId, BTreeSet<VersionKey>>,
    /// How many workers the load asks for.
    pub(super) wanted_workers: u32,
}

/// Decides on everything anew.
pub(super) fn plan(
    cluster: &mut Cluster,
    catalog: &Catalog,
    memory: &mut Memory,
    now: Instant,
    since: Duration,
) -> Plan {
    let mut stats = stats(cluster, catalog);
    for version in cluster.take_activations() {
        stats.entry(version).or_default().activated = true;
    }
    if !memory.begun {
        adopt(cluster, catalog, memory, &mut stats);
    }
    memory.scales = scales(catalog, &stats, &memory.scales, since);
    let problem = problem(cluster, catalog, memory, &stats, now);
    memory.placement = place(&problem, &memory.placement);
    let total = stats.values().map(|stats| u64::from(stats.in_flight) + u64::from(stats.queued)).sum();
    let wanted_workers = autoscale::wanted_workers(memory.scales.values(), total, mean_capacity(&problem));
    Plan { holds: holds(cluster, catalog, &memory.placement, &problem), wanted_workers }
}

/// What workers hold when the first decision is made was placed before the restart, and counts as in use.
fn adopt(cluster: &Cluster, catalog: &Catalog, memory: &mut Memory, stats: &mut BTreeMap<VersionKey, Stats>) {
    for (id, worker) in cluster.workers() {
        for (version, held) in worker.held() {
            if catalog.version(version).is_some() && !matches!(held.state, HeldState::Failed(_)) {
                memory.placement.entry(*version).or_default().insert(id.clone());
                stats.entry(*version).or_default().activated = true;
            }
        }
    }
    memory.begun = true;
}

/// What is asked of each version, by all gateways and on all workers.
fn stats(cluster: &Cluster, catalog: &Catalog) -> BTreeMap<VersionKey, Stats> {
    let mut stats: BTreeMap<VersionKey, Stats> = BTreeMap::new();
    let mut on_workers: BTreeMap<VersionKey, u32> = BTreeMap::new();
    for worker in cluster.workers().values().filter(|worker| worker.connected) {
        for (version, held) in worker.held() {
            let stats = stats.entry(*version).or_default();
            stats.queued = stats.queued.saturating_add(held.queued);
            stats.queue_delay = stats.queue_delay.max(held.queue_delay);
            stats.ready = stats.ready.saturating_add(u32::from(held.state == HeldState::Ready));
            let running = on_workers.entry(*version).or_default();
            *running = running.saturating_add(held.in_flight);
        }
    }
    for gateway in cluster.gateways().values() {
        for (version, demand) in &gateway.demand {
            let stats = stats.entry(*version).or_default();
            stats.in_flight = stats.in_flight.saturating_add(demand.in_flight);
            stats.queued = stats.queued.saturating_add(demand.queued);
        }
    }
    // Both ends see the same invocations, one of them a little earlier.
    for (version, running) in on_workers {
        let stats = stats.entry(version).or_default();
        stats.in_flight = stats.in_flight.max(running);
    }
    stats.retain(|version, _| catalog.version(version).is_some());
    stats
}

/// What a version may have; all of a function share the bound of its calls at once.
fn policy(version: &VersionRecord, max_concurrency: Option<u32>) -> Policy {
    let scaling = &version.spec.scaling;
    Policy {
        min_workers: scaling.min_workers,
        max_workers: scaling.max_workers,
        idle_timeout: scaling.idle_timeout,
        per_worker: scaling.max_sandboxes,
        max_concurrency,
    }
}

/// How many workers each version wants. A version without traffic keeps no workers for its minimum's sake.
fn scales(
    catalog: &Catalog,
    stats: &BTreeMap<VersionKey, Stats>,
    before: &BTreeMap<VersionKey, State>,
    since: Duration,
) -> BTreeMap<VersionKey, State> {
    let mut scales = BTreeMap::new();
    for function in catalog.functions.values() {
        let max_concurrency = function.leading().and_then(|spec| spec.scaling.max_concurrency);
        for (number, version) in &function.versions {
            let key = version.key();
            let (stats, state) = (stats.get(&key), before.get(&key));
            let serves = function.serves(*number);
            let min_workers = if serves { version.spec.scaling.min_workers } else { 0 };
            let policy = Policy { min_workers, ..policy(version, max_concurrency) };
            if stats.is_none() && state.is_none() && policy.min_workers == 0 {
                continue;
            }
            let state = autoscale::decide(&policy, &stats.copied().unwrap_or_default(), state, since);
            if !state.is_over() {
                scales.insert(key, state);
            }
        }
    }
    scales
}

fn problem(
    cluster: &Cluster,
    catalog: &Catalog,
    memory: &Memory,
    stats: &BTreeMap<VersionKey, Stats>,
    now: Instant,
) -> Problem {
    let worker = |(id, view): (&WorkerId, &crate::cluster::WorkerView)| {
        let (capacity, engines) = (view.capacity(), view.engines());
        let zone = view.hello.zone.clone();
        (id.clone(), WorkerSpec { capacity, engines, zone, accepting: cluster.accepts(id, now) })
    };
    let version = |(key, state): (&VersionKey, &State)| {
        let version = catalog.version(key)?;
        let engines = catalog.codes(version)?.keys().cloned().collect();
        let demand = stats.get(key).map_or(0, |stats| stats.in_flight.saturating_add(stats.queued));
        let most = version.spec.scaling.max_sandboxes;
        let weight = (demand / state.desired.max(1)).clamp(1, most).max(version.spec.scaling.min_sandboxes);
        let near = memory.standbys.holders(catalog, version);
        Some((*key, Want { workers: state.desired, engines, weight, near }))
    };
    Problem {
        workers: cluster.workers().iter().map(worker).collect(),
        versions: memory.scales.iter().filter_map(version).collect(),
    }
}

fn mean_capacity(problem: &Problem) -> u64 {
    let accepting = problem.workers.values().filter(|worker| worker.accepting);
    let (count, sum) = accepting.fold((0, 0), |(count, sum), worker| (count + 1, sum + u64::from(worker.capacity)));
    // Without a worker nobody knows how large one is; a hundred is its default.
    u64::checked_div(sum, count).unwrap_or(100)
}

/// What each worker shall hold. What it has ready stays as long as no worker of the placement has it ready, so that a
/// version that moves is never nowhere; what is wanted by nobody goes.
fn holds(
    cluster: &Cluster,
    catalog: &Catalog,
    placement: &Placement,
    problem: &Problem,
) -> BTreeMap<WorkerId, BTreeSet<VersionKey>> {
    let mut holds: BTreeMap<_, BTreeSet<_>> =
        cluster.workers().keys().map(|id| (id.clone(), BTreeSet::new())).collect();
    for (version, workers) in placement {
        for worker in workers {
            holds.entry(worker.clone()).or_default().insert(*version);
        }
    }
    let ready = |version: &VersionKey| {
        let ready = |id| cluster.workers().get(id).is_some_and(|worker| worker.has_ready(version));
        placement.get(version).is_some_and(|workers| workers.iter().any(ready))
    };
    let somebody = problem.workers.values().any(|worker| worker.accepting);
    // Who is drained with nobody to take over is let go all the same: that is what the operator asked for.
    let stays = |id: &&WorkerId| somebody || !cluster.is_drained(id);
    for (id, worker) in cluster.workers().iter().filter(|(id, _)| stays(id)) {
        for (version, _) in worker.held() {
            let wanted = problem.versions.get(version).is_some_and(|want| want.workers > 0);
            if wanted && catalog.version(version).is_some() && worker.has_ready(version) && !ready(version) {
                holds.entry(id.clone()).or_default().insert(*version);
            }
        }
    }
    holds
}
