//! The loop of a simulation: takes the next thing that happens, in the order of virtual time.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap},
    time::Instant,
};

use serde_json::Value;

use crate::{
    Options,
    cluster::{CallId, Cluster, Held, Seconds},
    policy::{Demand, Policy},
    report::Report,
    traffic::{Call, Traffic},
};

/// How long after a call found its function nowhere the policy looks, in seconds: looks take time themselves.
const HINT: f64 = 0.01;
/// How long calls may go on after the last one has come, in seconds.
const END: f64 = 900.0;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    End { worker: usize, generation: u64 },
    Loaded { worker: usize, function: u32 },
    Idle { worker: usize, function: u32 },
    Look { periodic: bool },
}

/// A simulation of one policy.
pub struct Engine<'a> {
    options: &'a Options,
    traffic: &'a Traffic,
    policy: Box<dyn Policy>,
    cluster: Cluster,
    demands: Vec<Demand>,
    /// Calls that wait at the gateway, by function.
    waiting: Vec<Vec<CallId>>,
    /// Calls that waited for their function to be loaded.
    cold: Vec<bool>,
    /// Functions that are somewhere or asked for.
    active: BTreeSet<u32>,
    /// Where each function is or will be.
    placed: Vec<Vec<usize>>,
    events: BinaryHeap<Reverse<(Seconds, Event)>>,
    hinted: bool,
    random: fastrand::Rng,
    report: Report,
    now: f64,
}

impl<'a> Engine<'a> {
    /// Nothing has happened yet.
    pub fn new(options: &'a Options, traffic: &'a Traffic, policy: Box<dyn Policy>) -> Self {
        Self {
            cluster: Cluster::new(options.workers, f64::from(options.cores) / options.cpu_share),
            demands: vec![Demand::default(); traffic.functions],
            waiting: vec![Vec::new(); traffic.functions],
            cold: vec![false; traffic.calls.len()],
            placed: vec![Vec::new(); traffic.functions],
            active: BTreeSet::new(),
            events: BinaryHeap::new(),
            hinted: false,
            random: fastrand::Rng::with_seed(3),
            report: Report::default(),
            now: 0.0,
            options,
            traffic,
            policy,
        }
    }

    /// Everything to its end; the figures.
    pub fn run(mut self) -> Value {
        let traffic = self.traffic;
        let last = traffic.calls.last().map_or(0.0, |call| call.at);
        if self.policy.period().is_some() {
            self.push(0.0, Event::Look { periodic: true });
        }
        for (id, call) in traffic.calls.iter().enumerate() {
            self.until(call.at);
            self.arrive(id as CallId, call);
        }
        self.report.stop_the_clock();
        while self.now < last + END && self.unfinished() > 0 {
            let Some(Reverse((at, _))) = self.events.peek() else { break };
            let at = at.0;
            self.until(at);
        }
        let unfinished = self.unfinished();
        self.report.json(unfinished)
    }

    fn unfinished(&self) -> usize {
        self.cluster.calls + self.active.iter().map(|function| self.waiting[*function as usize].len()).sum::<usize>()
    }

    fn push(&mut self, at: f64, event: Event) {
        self.events.push(Reverse((Seconds(at), event)));
    }

    /// Lets everything happen that is due until then.
    fn until(&mut self, then: f64) {
        while let Some(Reverse((at, event))) = self.events.peek().copied() {
            if at.0 > then {
                break;
            }
            self.events.pop();
            self.pass(at.0);
            self.happen(event);
        }
        self.pass(then);
    }

    fn pass(&mut self, now: f64) {
        self.now = now;
        self.report.advance(now);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::End { worker, generation } if self.cluster.workers[worker].generation == generation => {
                self.end(worker)
            }
            Event::End { .. } => {}
            Event::Loaded { worker, function } => self.loaded(worker, function),
            Event::Idle { worker, function } => self.idle(worker, function),
            Event::Look { periodic } => self.look(periodic),
        }
    }

    fn arrive(&mut self, id: CallId, call: &Call) {
        let demand = &mut self.demands[call.function as usize];
        match self.policy.route(call.function, &demand.ready, &self.cluster, &mut self.random) {
            Some(worker) => self.send(id, worker),
            None => {
                demand.waiting += 1;
                demand.missed = true;
                self.cold[id as usize] = true;
                self.active.insert(call.function);
                self.waiting[call.function as usize].push(id);
                if !std::mem::replace(&mut self.hinted, true) {
                    self.push(self.now + HINT, Event::Look { periodic: false });
                }
            }
        }
    }

    /// Sends a call to a worker: it waits there where the function is not loaded or has as many calls as it may.
    fn send(&mut self, id: CallId, worker: usize) {
        let function = self.traffic.calls[id as usize].function;
        self.active.insert(function);
        self.load(worker, function);
        self.cluster.count(worker, true);
        let (now, most) = (self.now, self.options.concurrency());
        let Some(held) = self.cluster.workers[worker].held.get_mut(&function) else { return };
        held.used = now;
        if held.ready && held.running < most {
            self.start(id, worker);
        } else {
            self.cold[id as usize] |= !held.ready;
            held.line.push_back((id, now));
            self.demands[function as usize].waiting += 1;
        }
    }

    fn start(&mut self, id: CallId, worker: usize) {
        let call = self.traffic.calls[id as usize];
        let state = &mut self.cluster.workers[worker];
        state.start(id, f64::from(call.seconds), self.now);
        if let Some(held) = state.held.get_mut(&call.function) {
            held.running += 1;
        }
        self.demands[call.function as usize].running += 1;
        self.expect_end(worker);
    }

    fn expect_end(&mut self, worker: usize) {
        let state = &self.cluster.workers[worker];
        if let Some(at) = state.next_end() {
            let generation = state.generation;
            self.push(at, Event::End { worker, generation });
        }
    }

    /// The next call of a worker ends; whoever waited for its place starts.
    fn end(&mut self, worker: usize) {
        let Some(id) = self.cluster.workers[worker].finish(self.now) else { return };
        let call = self.traffic.calls[id as usize];
        self.cluster.count(worker, false);
        self.demands[call.function as usize].running -= 1;
        self.report.ended(f64::from(call.seconds), self.now - call.at, self.cold[id as usize]);
        let now = self.now;
        if let Some(held) = self.cluster.workers[worker].held.get_mut(&call.function) {
            held.running -= 1;
            held.used = now;
        }
        self.next_in_line(worker, call.function);
        self.expect_end(worker);
        self.unload_if_retired(worker, call.function);
    }

    fn next_in_line(&mut self, worker: usize, function: u32) {
        let most = self.options.concurrency();
        loop {
            let Some(held) = self.cluster.workers[worker].held.get_mut(&function) else { return };
            if !held.ready || held.running >= most {
                return;
            }
            let Some((id, since)) = held.line.pop_front() else { return };
            let demand = &mut self.demands[function as usize];
            demand.waiting -= 1;
            demand.longest_wait = demand.longest_wait.max(self.now - since);
            self.start(id, worker);
        }
    }

    /// Begins to load a function, unless it is there.
    fn load(&mut self, worker: usize, function: u32) {
        let now = self.now;
        let state = &mut self.cluster.workers[worker];
        if let Some(held) = state.held.get_mut(&function) {
            let ready = &mut self.demands[function as usize].ready;
            if std::mem::replace(&mut held.retired, false) && held.ready && !ready.contains(&worker) {
                ready.push(worker);
            }
            return;
        }
        state.held.insert(function, Held { used: now, ..Held::default() });
        self.report.held(true, state.held.len());
        let fetch = if state.on_disk.insert(function) { self.options.fetch_ms } else { 0.0 };
        self.push(now + (self.options.map_ms + fetch) / 1e3, Event::Loaded { worker, function });
        if self.policy.period().is_none() {
            self.push(now + self.options.idle, Event::Idle { worker, function });
        }
    }

    fn loaded(&mut self, worker: usize, function: u32) {
        let Some(held) = self.cluster.workers[worker].held.get_mut(&function) else { return };
        if std::mem::replace(&mut held.ready, true) {
            return;
        }
        self.demands[function as usize].ready.push(worker);
        self.next_in_line(worker, function);
        for id in std::mem::take(&mut self.waiting[function as usize]) {
            self.demands[function as usize].waiting -= 1;
            self.arrive(id, &self.traffic.calls[id as usize]);
        }
        self.unload_if_retired(worker, function);
    }

    /// Lets a function go that nobody has called for long; only where functions are not placed.
    fn idle(&mut self, worker: usize, function: u32) {
        let Some(held) = self.cluster.workers[worker].held.get(&function) else { return };
        let due = held.used + self.options.idle;
        if !held.is_idle() || due > self.now {
            let at = due.max(self.now + self.options.idle / 10.0);
            self.push(at, Event::Idle { worker, function });
        } else {
            self.unload(worker, function);
        }
    }

    fn look(&mut self, periodic: bool) {
        self.hinted = false;
        if let (true, Some(period)) = (periodic, self.policy.period()) {
            self.push(self.now + period, Event::Look { periodic: true });
        }
        let demands: Vec<_> =
            self.active.iter().map(|function| (*function, &self.demands[*function as usize])).collect();
        let begun = Instant::now();
        let placed = self.policy.place(&demands, &self.cluster, self.now);
        self.report.looked(begun.elapsed().as_secs_f64(), self.policy.wanted_workers());
        let mut gone = std::mem::take(&mut self.active);
        for (function, workers) in placed {
            gone.remove(&function);
            self.move_to(function, workers);
        }
        for function in gone {
            self.move_to(function, Vec::new());
        }
    }

    /// Loads a function where it shall be, and lets it go elsewhere: once it is loaded somewhere it shall be, as the
    /// scheduler does.
    fn move_to(&mut self, function: u32, workers: Vec<usize>) {
        let demand = &mut self.demands[function as usize];
        (demand.missed, demand.longest_wait) = (false, 0.0);
        for worker in &workers {
            self.load(*worker, function);
        }
        let ready = &self.demands[function as usize].ready;
        let moved = workers.is_empty() || workers.iter().any(|worker| ready.contains(worker));
        let before = std::mem::take(&mut self.placed[function as usize]);
        let (leave, mut stay): (Vec<_>, Vec<_>) =
            before.into_iter().filter(|worker| !workers.contains(worker)).partition(|_| moved);
        for worker in leave {
            self.retire(worker, function);
        }
        stay.extend(workers);
        if !stay.is_empty() || !self.waiting[function as usize].is_empty() {
            self.active.insert(function);
        }
        self.placed[function as usize] = stay;
    }

    fn retire(&mut self, worker: usize, function: u32) {
        if let Some(held) = self.cluster.workers[worker].held.get_mut(&function) {
            held.retired = true;
            self.demands[function as usize].ready.retain(|ready| *ready != worker);
        }
        self.unload_if_retired(worker, function);
    }

    fn unload_if_retired(&mut self, worker: usize, function: u32) {
        let held = self.cluster.workers[worker].held.get(&function);
        if held.is_some_and(|held| held.retired && held.ready && held.is_idle()) {
            self.unload(worker, function);
        }
    }

    fn unload(&mut self, worker: usize, function: u32) {
        let state = &mut self.cluster.workers[worker];
        if state.held.remove(&function).is_some() {
            self.report.held(false, state.held.len());
        }
        self.demands[function as usize].ready.retain(|ready| *ready != worker);
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::{Name, traffic::synthetic};

    #[test]
    fn every_call_ends_under_every_policy() {
        let small = ["simulator", "--workers", "20", "--functions", "200", "--minutes", "2"];
        let options = Options::parse_from(small);
        let traffic = synthetic(&options);
        for name in Name::ALL {
            let figures = Engine::new(&options, &traffic, options.policy(name, traffic.functions)).run();
            assert_eq!(
                (figures["calls"].as_u64(), figures["unfinished"].as_u64()),
                (Some(traffic.calls.len() as u64), Some(0)),
                "{name}"
            );
            assert!(figures["slowdown"]["p50"].as_f64() >= Some(0.999), "{name}");
        }
    }

    #[test]
    fn a_lone_call_waits_for_its_function_only() {
        let options = Options::parse_from(["simulator", "--workers", "2", "--map-ms", "3", "--fetch-ms", "20"]);
        let traffic = Traffic { calls: vec![Call { at: 1.0, function: 0, seconds: 1.0 }], functions: 1 };
        let figures = Engine::new(&options, &traffic, options.policy(Name::LeastLoaded, 1)).run();
        assert_eq!((figures["delay_ms"]["max"].as_f64(), figures["cold_percent"].as_f64()), (Some(23.0), Some(100.0)));
    }
}
