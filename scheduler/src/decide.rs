//! The scheduler's decisions for those who have no cluster, such as the simulator in `bench/simulator`: the same placement
//! and autoscaling code as the scheduler's own loop, over workers and load that the caller makes up, in the caller's time.
//!
//! It takes no notice of what workers have loaded; the loop in `reconcile` keeps a version where it is until it is ready
//! elsewhere, and so must a simulation that wants to be like it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use dunlin_proto::{
    ids::{VersionKey, WorkerId},
    model::Scaling,
};

use crate::{
    autoscale::{self, Policy, State, Stats},
    placement::{Placement, Problem, Want, WorkerSpec, place},
};

/// What is asked of a version at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Invocations that run.
    pub in_flight: u32,
    /// Invocations that wait.
    pub queued: u32,
    /// The longest wait for a sandbox since the last decision.
    pub queue_delay: Duration,
    /// Workers that have it ready.
    pub ready: u32,
    /// Somebody asked for it while it was nowhere.
    pub activated: bool,
}

/// Workers, and what has been decided until now.
#[derive(Debug)]
pub struct Decisions {
    problem: Problem,
    mean_capacity: u64,
    states: BTreeMap<VersionKey, State>,
    placement: Placement,
    wanted_workers: u32,
}

impl Decisions {
    /// Equal workers under these names, each with room for so many sandboxes, and nothing on them.
    #[must_use]
    pub fn new(workers: impl IntoIterator<Item = WorkerId>, capacity: u32) -> Self {
        let worker = |id| (id, WorkerSpec { capacity, engines: engines(), zone: String::new(), accepting: true });
        let workers = workers.into_iter().map(worker).collect();
        Self {
            problem: Problem { workers, versions: BTreeMap::new() },
            mean_capacity: u64::from(capacity),
            states: BTreeMap::new(),
            placement: Placement::new(),
            wanted_workers: 0,
        }
    }

    /// Decides anew, as the scheduler does every 250 ms and whenever a version is asked for that is nowhere. A version that
    /// is not in `loads` is asked for nothing; `now` counts from any origin.
    pub fn decide(&mut self, loads: &BTreeMap<VersionKey, Load>, scaling: &Scaling, now: Duration) {
        let policy = policy(scaling);
        let keys: BTreeSet<_> = self.states.keys().chain(loads.keys()).copied().collect();
        let mut states = BTreeMap::new();
        for key in keys {
            let load = loads.get(&key).copied().unwrap_or_default();
            let state = autoscale::decide(&policy, &stats(load), self.states.get(&key), now);
            if !state.is_over() {
                states.insert(key, state);
            }
        }
        self.states = states;
        let want = |(key, state): (&VersionKey, &State)| (*key, want(state, loads.get(key), scaling));
        self.problem.versions = self.states.iter().map(want).collect();
        self.placement = place(&self.problem, &self.placement);
        let total = loads.values().map(demand).map(u64::from).sum();
        self.wanted_workers = autoscale::wanted_workers(self.states.values(), total, self.mean_capacity);
    }

    /// Where each version shall be.
    pub fn placement(&self) -> impl Iterator<Item = (&VersionKey, &BTreeSet<WorkerId>)> {
        self.placement.iter()
    }

    /// How many workers the load asks for.
    #[must_use]
    pub fn wanted_workers(&self) -> u32 {
        self.wanted_workers
    }
}

fn demand(load: &Load) -> u32 {
    load.in_flight.saturating_add(load.queued)
}

/// The one engine that all of them have.
fn engines() -> BTreeSet<String> {
    [String::new()].into()
}

fn policy(scaling: &Scaling) -> Policy {
    Policy {
        min_workers: scaling.min_workers,
        max_workers: scaling.max_workers,
        idle_timeout: scaling.idle_timeout,
        per_worker: scaling.max_sandboxes,
        max_concurrency: scaling.max_concurrency,
    }
}

fn stats(load: Load) -> Stats {
    let Load { in_flight, queued, queue_delay, ready, activated } = load;
    Stats { in_flight, queued, queue_delay, ready, activated }
}

fn want(state: &State, load: Option<&Load>, scaling: &Scaling) -> Want {
    let each = load.map_or(0, demand) / state.desired.max(1);
    let weight = each.clamp(1, scaling.max_sandboxes.max(1)).max(scaling.min_sandboxes);
    Want { workers: state.desired, engines: engines(), weight, near: BTreeSet::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> VersionKey {
        VersionKey { function: uuid::Uuid::from_u128(1).to_string().parse().unwrap(), number: 1.try_into().unwrap() }
    }

    #[test]
    fn a_version_comes_with_a_call_and_goes_when_it_is_idle() {
        let workers = (1..=3).map(|number| format!("worker-{number}").parse().unwrap());
        let mut decisions = Decisions::new(workers, 100);
        let scaling = Scaling::default();
        let asked = BTreeMap::from([(key(), Load { activated: true, ..Load::default() })]);
        decisions.decide(&asked, &scaling, Duration::ZERO);
        assert_eq!(decisions.placement().map(|(_, workers)| workers.len()).collect::<Vec<_>>(), [2]);
        assert_eq!(decisions.wanted_workers(), 1);
        decisions.decide(&BTreeMap::new(), &scaling, scaling.idle_timeout);
        assert_eq!(decisions.placement().count(), 0);
    }
}
