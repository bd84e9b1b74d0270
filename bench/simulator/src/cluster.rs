//! Workers in virtual time: what each holds, what runs on it, and how fast.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap, HashMap, HashSet, VecDeque},
};

/// An index into the calls of the traffic.
pub type CallId = u32;

/// Seconds of virtual time, ordered.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seconds(pub f64);

impl Eq for Seconds {}

impl PartialOrd for Seconds {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Seconds {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// All workers, and their order by how much runs on them.
#[derive(Debug)]
pub struct Cluster {
    /// The workers.
    pub workers: Vec<Worker>,
    /// Calls on a worker, those that wait there included, and its number.
    pub by_load: BTreeSet<(u32, usize)>,
    /// Calls on all workers.
    pub calls: usize,
}

impl Cluster {
    /// So many workers, each of which runs `full_speed` calls without slowing down.
    pub fn new(workers: usize, full_speed: f64) -> Self {
        let by_load = (0..workers).map(|number| (0, number)).collect();
        Self { workers: (0..workers).map(|_| Worker::new(full_speed)).collect(), by_load, calls: 0 }
    }

    /// A call has come to a worker, or has left it.
    pub fn count(&mut self, worker: usize, comes: bool) {
        let entry = &mut self.workers[worker];
        self.by_load.remove(&(entry.calls, worker));
        (entry.calls, self.calls) =
            if comes { (entry.calls + 1, self.calls + 1) } else { (entry.calls - 1, self.calls - 1) };
        self.by_load.insert((entry.calls, worker));
    }
}

/// One worker.
#[derive(Debug)]
pub struct Worker {
    full_speed: f64,
    /// Work that every running call has been given since the beginning; a call ends when this reaches its mark.
    given: f64,
    updated: f64,
    running: BinaryHeap<Reverse<(Seconds, CallId)>>,
    /// Counts changes of what runs, so that an outdated end can be told.
    pub generation: u64,
    /// Calls here, those that wait included.
    pub calls: u32,
    /// The functions here.
    pub held: HashMap<u32, Held>,
    /// The functions whose code is on its disk.
    pub on_disk: HashSet<u32>,
}

/// A function on a worker.
#[derive(Debug, Default)]
pub struct Held {
    /// Whether it is loaded.
    pub ready: bool,
    /// Whether it goes once nothing of it runs here.
    pub retired: bool,
    /// Calls that run.
    pub running: u32,
    /// Calls that wait until it is loaded or until others end, and since when.
    pub line: VecDeque<(CallId, f64)>,
    /// When a call last came or ended.
    pub used: f64,
}

impl Held {
    /// Whether no call is here.
    pub fn is_idle(&self) -> bool {
        self.running == 0 && self.line.is_empty()
    }
}

impl Worker {
    fn new(full_speed: f64) -> Self {
        Self {
            full_speed,
            given: 0.0,
            updated: 0.0,
            running: BinaryHeap::new(),
            generation: 0,
            calls: 0,
            held: HashMap::new(),
            on_disk: HashSet::new(),
        }
    }

    fn speed(&self) -> f64 {
        (self.full_speed / self.running.len().max(1) as f64).min(1.0)
    }

    fn advance(&mut self, now: f64) {
        self.given += (now - self.updated) * self.speed();
        self.updated = now;
    }

    /// Starts a call.
    pub fn start(&mut self, call: CallId, seconds: f64, now: f64) {
        self.advance(now);
        self.running.push(Reverse((Seconds(self.given + seconds), call)));
        self.generation += 1;
    }

    /// When the next call ends, if nothing else happens.
    pub fn next_end(&self) -> Option<f64> {
        let Reverse((mark, _)) = self.running.peek()?;
        Some(self.updated + (mark.0 - self.given).max(0.0) / self.speed())
    }

    /// Takes the call that ends now.
    pub fn finish(&mut self, now: f64) -> Option<CallId> {
        self.advance(now);
        self.generation += 1;
        self.running.pop().map(|Reverse((_, call))| call)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_share_a_worker() {
        let mut worker = Worker::new(1.0);
        worker.start(0, 1.0, 0.0);
        assert_eq!(worker.next_end(), Some(1.0));
        // From here on each has half of it: the first one has half a second of work left, the second one a whole.
        worker.start(1, 1.0, 0.5);
        assert_eq!(worker.next_end(), Some(1.5));
        assert_eq!(worker.finish(1.5), Some(0));
        assert_eq!(worker.next_end(), Some(2.0));
    }
}
