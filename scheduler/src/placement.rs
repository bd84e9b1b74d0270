//! Which worker holds which version: a pure function of the workers, of how many each version wants, and of where versions
//! are now. It moves nothing without a reason: asked again with its own answer it gives the same.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
};

use dunlin_proto::ids::{VersionKey, WorkerId};

/// A worker, as placement sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WorkerSpec {
    /// Sandboxes that it can have at once.
    pub(crate) capacity: u32,
    /// The engines that it has.
    pub(crate) engines: BTreeSet<String>,
    /// Whether it is alive, not drained and not leaving.
    pub(crate) accepting: bool,
}

/// What a version wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Want {
    /// On so many workers, where there are so many.
    pub(crate) workers: u32,
    /// The engines that it has code for.
    pub(crate) engines: BTreeSet<String>,
    /// Sandboxes that it is expected to use on each.
    pub(crate) weight: u32,
}

/// What is to be placed, and where it can go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) workers: BTreeMap<WorkerId, WorkerSpec>,
    pub(crate) versions: BTreeMap<VersionKey, Want>,
}

/// The workers of each version.
pub(crate) type Placement = BTreeMap<VersionKey, BTreeSet<WorkerId>>;

/// Places every version on as many workers as it wants, or on all that can run it.
///
/// It keeps `previous` where that is still possible, adds workers that have the most room, and takes away those that have
/// the least. Every worker of the answer accepts versions and has an engine for them; no version has more workers than it
/// wants.
pub(crate) fn place(problem: &Problem, previous: &Placement) -> Placement {
    let mut solution = kept(problem, previous);
    let mut load = loads(problem, &solution);
    for (version, want) in &problem.versions {
        let placed = solution.entry(*version).or_default();
        while placed.len() > want.workers as usize {
            let Some(fullest) = placed.iter().max_by_key(|worker| load.rank(problem, worker, version)).cloned() else {
                break;
            };
            load.change(&fullest, want, false);
            placed.remove(&fullest);
        }
        while placed.len() < want.workers as usize {
            let free = problem.workers.iter().filter(|(id, worker)| can_hold(worker, want) && !placed.contains(*id));
            let Some((emptiest, _)) = free.min_by_key(|(id, _)| load.rank(problem, id, version)) else { break };
            load.change(emptiest, want, true);
            placed.insert(emptiest.clone());
        }
    }
    balance(problem, &mut solution, &mut load);
    solution.retain(|_, workers| !workers.is_empty());
    solution
}

fn can_hold(worker: &WorkerSpec, want: &Want) -> bool {
    worker.accepting && !worker.engines.is_disjoint(&want.engines)
}

/// What of the previous placement is still possible and wanted.
fn kept(problem: &Problem, previous: &Placement) -> Placement {
    let still = |version: &VersionKey, want: &Want| {
        let before = previous.get(version).into_iter().flatten();
        let can = |id: &&WorkerId| problem.workers.get(*id).is_some_and(|worker| can_hold(worker, want));
        before.filter(can).cloned().collect()
    };
    let wanted = problem.versions.iter().filter(|(_, want)| want.workers > 0);
    wanted.map(|(version, want)| (*version, still(version, want))).collect()
}

/// The sandboxes that each worker is expected to have.
#[derive(Debug)]
struct Loads(BTreeMap<WorkerId, u64>);

fn loads(problem: &Problem, placement: &Placement) -> Loads {
    let mut loads = Loads(problem.workers.keys().map(|id| (id.clone(), 0)).collect());
    for (version, workers) in placement {
        if let Some(want) = problem.versions.get(version) {
            workers.iter().for_each(|worker| loads.change(worker, want, true));
        }
    }
    loads
}

impl Loads {
    fn change(&mut self, worker: &WorkerId, want: &Want, more: bool) {
        if let Some(load) = self.0.get_mut(worker) {
            let weight = u64::from(want.weight.max(1));
            *load = if more { load.saturating_add(weight) } else { load.saturating_sub(weight) };
        }
    }

    /// How full a worker is, in millionths of its capacity.
    fn fill(&self, problem: &Problem, worker: &WorkerId) -> u64 {
        let capacity = problem.workers.get(worker).map_or(1, |worker| u64::from(worker.capacity.max(1)));
        self.0.get(worker).copied().unwrap_or_default().saturating_mul(1_000_000) / capacity
    }

    /// Emptier workers come first; among equals each version has an order of its own, which spreads versions evenly.
    fn rank(&self, problem: &Problem, worker: &WorkerId, version: &VersionKey) -> (u64, u64) {
        let mut hasher = DefaultHasher::new();
        (worker, version).hash(&mut hasher);
        (self.fill(problem, worker), hasher.finish())
    }
}

/// A worker that is this much fuller than another one, in millionths of its capacity, gives versions away.
const IMBALANCE: u64 = 250_000;

/// Moves versions from the fullest worker to the emptiest, as long as that narrows a gap worth the reload: otherwise a
/// worker that joins later would stay empty.
fn balance(problem: &Problem, solution: &mut Placement, load: &mut Loads) {
    // Each move makes the fullest worker less full, and nobody as full as it was, so this ends; the bound only says so.
    let most = solution.values().map(BTreeSet::len).sum::<usize>().saturating_mul(problem.workers.len());
    for _ in 0..most {
        let accepting = problem.workers.iter().filter(|(_, worker)| worker.accepting).map(|(id, _)| id);
        let by_fill = |id: &&WorkerId| load.fill(problem, id);
        let (Some(fullest), Some(emptiest)) = (accepting.clone().max_by_key(by_fill), accepting.min_by_key(by_fill))
        else {
            return;
        };
        let gap = load.fill(problem, fullest).saturating_sub(load.fill(problem, emptiest));
        let Some(target) = problem.workers.get(emptiest) else { return };
        let movable = |(version, workers): &(&VersionKey, &BTreeSet<WorkerId>)| {
            let Some(want) = problem.versions.get(version) else { return false };
            let step = u64::from(want.weight.max(1)).saturating_mul(1_000_000) / u64::from(target.capacity.max(1));
            let narrows = step.saturating_mul(2) <= gap;
            narrows && workers.contains(fullest) && !workers.contains(emptiest) && can_hold(target, want)
        };
        if gap < IMBALANCE {
            return;
        }
        let Some(version) = solution.iter().find(movable).map(|(version, _)| *version) else { return };
        let (from, to) = (fullest.clone(), emptiest.clone());
        if let (Some(workers), Some(want)) = (solution.get_mut(&version), problem.versions.get(&version)) {
            workers.remove(&from);
            workers.insert(to.clone());
            load.change(&from, want, false);
            load.change(&to, want, true);
        }
    }
}

#[cfg(test)]
mod tests;
