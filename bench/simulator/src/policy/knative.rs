//! Autoscaling by windows, as Knative's pod autoscaler does by default: mean concurrency over a minute, or over six seconds
//! where that asks for twice as much as there is; to nothing after a quiet minute and a grace of half a minute.

use std::collections::{HashMap, VecDeque};

use super::{Demand, Policy, less_busy};
use crate::{Options, cluster::Cluster};

const PERIOD: f64 = 2.0;
const STABLE_WINDOW: f64 = 60.0;
const PANIC_WINDOW: f64 = 6.0;
const PANIC_THRESHOLD: f64 = 2.0;
const GRACE: f64 = 30.0;
const TARGET_UTILIZATION: f64 = 0.7;

/// The autoscaler of every function.
#[derive(Debug)]
pub struct Knative {
    target: f64,
    scalers: HashMap<u32, Scaler>,
    /// Instances on each worker.
    instances: Vec<u32>,
}

#[derive(Debug, Default)]
struct Scaler {
    /// Concurrency at the looks of the last minute.
    seen: VecDeque<(f64, f64)>,
    panic_until: f64,
    zero_since: Option<f64>,
    on: Vec<usize>,
}

impl Knative {
    /// None has any instance yet.
    pub fn new(options: &Options, _functions: usize) -> Self {
        let target = f64::from(options.concurrency()) * TARGET_UTILIZATION;
        Self { target, scalers: HashMap::new(), instances: vec![0; options.workers] }
    }
}

impl Scaler {
    /// How many instances there shall be.
    fn desired(&mut self, concurrency: f64, missed: bool, now: f64, target: f64) -> usize {
        self.seen.push_back((now, concurrency));
        while self.seen.front().is_some_and(|(at, _)| *at < now - STABLE_WINDOW) {
            self.seen.pop_front();
        }
        let stable = (self.mean(now - STABLE_WINDOW) / target).ceil();
        let panic = (self.mean(now - PANIC_WINDOW) / target).ceil();
        let has = self.on.len() as f64;
        if panic >= PANIC_THRESHOLD * has.max(1.0) {
            self.panic_until = now + STABLE_WINDOW;
        }
        let wanted = if now < self.panic_until { panic.max(has) } else { stable };
        self.zero_since = if wanted > 0.0 || missed { None } else { self.zero_since.or(Some(now)) };
        let graced = self.zero_since.is_none_or(|since| now - since < GRACE);
        wanted.max(if missed || (graced && has > 0.0) { 1.0 } else { 0.0 }) as usize
    }

    fn mean(&self, since: f64) -> f64 {
        let (sum, count) = self
            .seen
            .iter()
            .filter(|(at, _)| *at >= since)
            .fold((0.0, 0), |(sum, count), (_, seen)| (sum + seen, count + 1));
        sum / f64::from(count.max(1))
    }
}

impl Policy for Knative {
    fn route(&mut self, _: u32, ready: &[usize], cluster: &Cluster, random: &mut fastrand::Rng) -> Option<usize> {
        less_busy(ready, cluster, random)
    }

    fn period(&self) -> Option<f64> {
        Some(PERIOD)
    }

    fn place(&mut self, demands: &[(u32, &Demand)], _: &Cluster, now: f64) -> Vec<(u32, Vec<usize>)> {
        let mut placed = Vec::new();
        for (function, demand) in demands {
            let scaler = self.scalers.entry(*function).or_default();
            let concurrency = f64::from(demand.running + demand.waiting);
            let desired = scaler.desired(concurrency, demand.missed, now, self.target).min(self.instances.len());
            while scaler.on.len() > desired {
                if let Some(worker) = scaler.on.pop() {
                    self.instances[worker] -= 1;
                }
            }
            while scaler.on.len() < desired {
                let free = (0..self.instances.len()).filter(|worker| !scaler.on.contains(worker));
                let Some(worker) = free.min_by_key(|worker| self.instances[*worker]) else { break };
                self.instances[worker] += 1;
                scaler.on.push(worker);
            }
            placed.push((*function, scaler.on.clone()));
        }
        placed
    }
}
