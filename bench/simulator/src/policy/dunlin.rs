//! Dunlin: its scheduler's own code decides where functions are, and a gateway picks the less busy of two workers.

use std::{collections::BTreeMap, time::Duration};

use dunlin_proto::{
    ids::{VersionKey, VersionNumber, WorkerId},
    model::Scaling,
};
use dunlin_scheduler::decide::{Decisions, Load};

use super::{Demand, Policy, less_busy};
use crate::{Options, cluster::Cluster, decisions};

/// As often as the scheduler looks without a hint.
const PERIOD: f64 = 0.25;

/// The scheduler.
#[derive(Debug)]
pub struct Dunlin {
    decisions: Decisions,
    scaling: Scaling,
    keys: Vec<VersionKey>,
    functions: BTreeMap<VersionKey, u32>,
    workers: BTreeMap<WorkerId, usize>,
}

impl Dunlin {
    /// One that knows these workers.
    pub fn new(options: &Options, functions: usize) -> Self {
        let keys: Vec<_> = (0..functions).filter_map(decisions::version).collect();
        let workers: Vec<_> = (0..options.workers).filter_map(decisions::worker).collect();
        Self {
            decisions: Decisions::new(workers.iter().cloned(), options.capacity),
            scaling: Scaling {
                max_sandboxes: options.concurrency(),
                idle_timeout: Duration::from_secs_f64(options.idle),
                ..Scaling::default()
            },
            functions: keys.iter().enumerate().map(|(number, key)| (*key, number as u32)).collect(),
            keys,
            workers: workers.into_iter().enumerate().map(|(number, worker)| (worker, number)).collect(),
        }
    }
}

impl Policy for Dunlin {
    fn route(&mut self, _: u32, ready: &[usize], cluster: &Cluster, random: &mut fastrand::Rng) -> Option<usize> {
        less_busy(ready, cluster, random)
    }

    fn period(&self) -> Option<f64> {
        Some(PERIOD)
    }

    fn place(&mut self, demands: &[(u32, &Demand)], _: &Cluster, now: f64) -> Vec<(u32, Vec<usize>)> {
        let load = |(function, demand): &(u32, &Demand)| {
            let load = Load {
                in_flight: demand.running,
                queued: demand.waiting,
                queue_delay: Duration::from_secs_f64(demand.longest_wait),
                ready: demand.ready.len() as u32,
                activated: demand.missed,
            };
            (self.keys[*function as usize], load)
        };
        let loads = demands.iter().map(load).collect();
        self.decisions.decide(&loads, &self.scaling, Duration::from_secs_f64(now));
        let placed = self.decisions.placement().filter_map(|(key, workers)| {
            let workers = workers.iter().filter_map(|worker| self.workers.get(worker).copied());
            Some((*self.functions.get(key)?, workers.collect()))
        });
        placed.collect()
    }

    fn wanted_workers(&self) -> Option<u32> {
        Some(self.decisions.wanted_workers())
    }
}

/// The only version of each function.
pub const VERSION: VersionNumber = VersionNumber::FIRST;
