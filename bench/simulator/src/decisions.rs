//! How fast the scheduler's real code decides, in real time.

use std::{
    collections::BTreeMap,
    hint::black_box,
    time::{Duration, Instant},
};

use dunlin_proto::{
    ids::{VersionKey, WorkerId},
    model::Scaling,
};
use dunlin_scheduler::decide::{Decisions, Load};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::policy::VERSION;

const ROUNDS: u32 = 5;

/// The name of a worker; there is one for every number.
pub fn worker(number: usize) -> Option<WorkerId> {
    format!("worker-{number}").parse().ok()
}

/// The only version of a function; there is one for every number.
pub fn version(number: usize) -> Option<VersionKey> {
    let uid = Uuid::from_u128(number as u128 + 1).to_string();
    Some(VersionKey { function: uid.parse().ok()?, number: VERSION })
}

/// Every function asked for at once on an empty cluster; then again with nothing changed, and with one function in ten
/// asked for ten times as much.
pub fn measure(workers: usize, functions: usize, capacity: u32) -> Value {
    let scaling = Scaling::default();
    let load = |in_flight| Load { in_flight, ready: 2, ..Load::default() };
    let mut loads: BTreeMap<_, _> = (0..functions).filter_map(version).map(|version| (version, load(1))).collect();
    let mut times = [Duration::ZERO; 3];
    let mut placed = [0; 2];
    for _ in 0..ROUNDS {
        let mut decisions = Decisions::new((0..workers).filter_map(worker), capacity);
        let mut decide = |loads: &BTreeMap<VersionKey, Load>, now| {
            let begun = Instant::now();
            decisions.decide(loads, &scaling, Duration::from_secs(now));
            let took = begun.elapsed();
            (took, black_box(decisions.placement().map(|(_, workers)| workers.len()).sum::<usize>()))
        };
        let (first, count) = decide(&loads, 0);
        let (again, _) = decide(&loads, 1);
        loads.values_mut().step_by(10).for_each(|load| load.in_flight = 1000);
        let (more, grown) = decide(&loads, 2);
        loads.values_mut().for_each(|load| load.in_flight = 1);
        placed = [count, grown - count];
        for (sum, took) in times.iter_mut().zip([first, again, more]) {
            *sum += took / ROUNDS;
        }
    }
    let millis = |time: Duration| (time.as_secs_f64() * 1e4).round() / 10.0;
    json!({
        "workers": workers, "functions": functions,
        "placements_per_second_from_nothing": (placed[0] as f64 / times[0].as_secs_f64()).round(),
        "placements_per_second_in_growth": (placed[1] as f64 / times[2].as_secs_f64()).round(),
        "from_nothing_ms": millis(times[0]), "unchanged_ms": millis(times[1]), "growth_ms": millis(times[2]),
        "functions_looked_at_per_second_unchanged": (functions as f64 / times[1].as_secs_f64()).round(),
    })
}
