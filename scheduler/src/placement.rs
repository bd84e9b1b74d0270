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
    /// What fails together with it; may be empty.
    pub(crate) zone: String,
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
    /// Workers that have its code on their disks.
    pub(crate) near: BTreeSet<WorkerId>,
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
/// the least. Among those with room it prefers a zone that the version is not in, and then a worker that has its code. Every
/// worker of the answer accepts versions and has an engine for them; no version has more workers than it wants.
pub(crate) fn place(problem: &Problem, previous: &Placement) -> Placement {
    let mut solution = kept(problem, previous);
    let mut loads = Loads::new(problem, &solution);
    for (version, want) in &problem.versions {
        let placed = solution.entry(*version).or_default();
        while placed.len() > want.workers as usize {
            let Some(fullest) = loads.fullest(placed, version) else { break };
            loads.change(&fullest, want, false);
            placed.remove(&fullest);
        }
        while placed.len() < want.workers as usize {
            let Some(emptiest) = loads.emptiest(version, want, placed) else { break };
            loads.change(&emptiest, want, true);
            placed.insert(emptiest);
        }
    }
    balance(problem, &mut solution, &mut loads);
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

/// Equally empty workers that are compared before a version takes one of them.
const CANDIDATES: usize = 8;

/// A worker that has the code may be so much fuller than the emptiest one, in millionths of its capacity.
const NEARBY: u64 = 125_000;

/// The sandboxes that each worker is expected to have, and the workers in the order of their fill.
#[derive(Debug)]
struct Loads<'a> {
    workers: &'a BTreeMap<WorkerId, WorkerSpec>,
    sandboxes: BTreeMap<&'a WorkerId, u64>,
    by_fill: BTreeSet<(u64, &'a WorkerId)>,
    /// How many zones accept versions.
    zones: usize,
}

impl<'a> Loads<'a> {
    fn new(problem: &'a Problem, placement: &Placement) -> Self {
        let mut sandboxes: BTreeMap<_, u64> = problem.workers.keys().map(|id| (id, 0)).collect();
        for (version, workers) in placement {
            let Some(want) = problem.versions.get(version) else { continue };
            for worker in workers {
                if let Some(load) = sandboxes.get_mut(worker) {
                    *load = load.saturating_add(weight(want));
                }
            }
        }
        let accepting = problem.workers.values().filter(|worker| worker.accepting);
        let zones = accepting.map(|worker| &worker.zone).collect::<BTreeSet<_>>().len();
        let mut loads = Self { workers: &problem.workers, sandboxes, by_fill: BTreeSet::new(), zones };
        loads.by_fill = problem.workers.keys().map(|id| (loads.fill(id), id)).collect();
        loads
    }

    fn change(&mut self, worker: &WorkerId, want: &Want, more: bool) {
        let Some((worker, _)) = self.workers.get_key_value(worker) else { return };
        self.by_fill.remove(&(self.fill(worker), worker));
        let load = self.sandboxes.entry(worker).or_default();
        *load = if more { load.saturating_add(weight(want)) } else { load.saturating_sub(weight(want)) };
        self.by_fill.insert((self.fill(worker), worker));
    }

    /// How full a worker is, in millionths of its capacity.
    fn fill(&self, worker: &WorkerId) -> u64 {
        let capacity = self.workers.get(worker).map_or(1, |worker| u64::from(worker.capacity.max(1)));
        self.sandboxes.get(worker).copied().unwrap_or_default().saturating_mul(1_000_000) / capacity
    }

    /// The emptiest worker that can hold one more version: in a zone without it where there is one, and there one that has
    /// its code where that is not much fuller. Among equals each version has an order of its own, so that the versions of
    /// one worker share their other workers with many.
    fn emptiest(&self, version: &VersionKey, want: &Want, placed: &BTreeSet<WorkerId>) -> Option<WorkerId> {
        let used: BTreeSet<&str> = placed.iter().filter_map(|id| self.zone(id)).collect();
        let able =
            |id: &WorkerId| self.workers.get(id).is_some_and(|worker| can_hold(worker, want)) && !placed.contains(id);
        let elsewhere = |id: &WorkerId| able(id) && self.zone(id).is_some_and(|zone| !used.contains(zone));
        // With all zones used, or with only one, there is nothing to look for.
        let found = (used.len() < self.zones).then(|| self.first(version, want, elsewhere)).flatten();
        found.or_else(|| self.first(version, want, able))
    }

    /// The emptiest of the workers that are `able`, or one with the code that is hardly fuller.
    fn first(&self, version: &VersionKey, want: &Want, able: impl Fn(&WorkerId) -> bool) -> Option<WorkerId> {
        let mut free = self.by_fill.iter().filter(|(_, id)| able(id)).peekable();
        let least = free.peek()?.0;
        let near = want.near.iter().filter(|id| able(id)).map(|id| (self.fill(id), id));
        if let Some((_, id)) = near.filter(|(fill, _)| *fill <= least.saturating_add(NEARBY)).min() {
            return Some(id.clone());
        }
        let equals = free.take_while(|(fill, _)| *fill == least).take(CANDIDATES);
        equals.min_by_key(|(_, id)| order(id, version)).map(|(_, id)| (*id).clone())
    }

    fn zone(&self, worker: &WorkerId) -> Option<&'a str> {
        self.workers.get(worker).map(|worker| worker.zone.as_str())
    }

    /// The fullest of the workers that hold a version.
    fn fullest(&self, placed: &BTreeSet<WorkerId>, version: &VersionKey) -> Option<WorkerId> {
        placed.iter().max_by_key(|id| (self.fill(id), order(id, version))).cloned()
    }
}

fn weight(want: &Want) -> u64 {
    u64::from(want.weight.max(1))
}

/// The order of workers for one version.
fn order(worker: &WorkerId, version: &VersionKey) -> u64 {
    let mut hasher = DefaultHasher::new();
    (worker, version).hash(&mut hasher);
    hasher.finish()
}

/// A worker that is this much fuller than another one, in millionths of its capacity, gives versions away.
const IMBALANCE: u64 = 250_000;

/// Moves versions from the fullest worker to the emptiest, as long as that narrows a gap worth the reload: otherwise a
/// worker that joins later would stay empty.
fn balance(problem: &Problem, solution: &mut Placement, loads: &mut Loads<'_>) {
    // Each move makes the fullest worker less full, and nobody as full as it was, so this ends; the bound only says so.
    let most = solution.values().map(BTreeSet::len).sum::<usize>().saturating_mul(problem.workers.len());
    for _ in 0..most {
        let Some(step) = next_move(problem, solution, loads) else { return };
        let Some(want) = problem.versions.get(&step.version) else { return };
        let workers = solution.entry(step.version).or_default();
        workers.remove(&step.from);
        workers.insert(step.to.clone());
        loads.change(&step.from, want, false);
        loads.change(&step.to, want, true);
    }
}

/// A version that goes from one worker to another.
struct Move {
    version: VersionKey,
    from: WorkerId,
    to: WorkerId,
}

fn next_move(problem: &Problem, solution: &Placement, loads: &Loads<'_>) -> Option<Move> {
    let accepting = |(_, id): &&(u64, &WorkerId)| problem.workers.get(*id).is_some_and(|worker| worker.accepting);
    let (highest, fullest) = loads.by_fill.iter().rev().find(accepting)?;
    let (lowest, emptiest) = loads.by_fill.iter().find(accepting)?;
    let gap = highest.saturating_sub(*lowest);
    if gap < IMBALANCE {
        return None;
    }
    let target = problem.workers.get(*emptiest)?;
    let movable = |(version, workers): &(&VersionKey, &BTreeSet<WorkerId>)| {
        let Some(want) = problem.versions.get(version) else { return false };
        let step = weight(want).saturating_mul(1_000_000) / u64::from(target.capacity.max(1));
        let narrows = step.saturating_mul(2) <= gap;
        if !narrows || !workers.contains(*fullest) || workers.contains(*emptiest) || !can_hold(target, want) {
            return false;
        }
        // A move must not bring workers of a version together in one zone.
        let mut others = workers.iter().filter(|id| id != fullest).filter_map(|id| loads.zone(id));
        loads.zone(fullest) == Some(&target.zone) || others.all(|zone| zone != target.zone)
    };
    let (version, _) = solution.iter().find(movable)?;
    Some(Move { version: *version, from: (*fullest).clone(), to: (*emptiest).clone() })
}

#[cfg(test)]
mod tests;
