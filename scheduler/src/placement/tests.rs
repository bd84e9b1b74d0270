//! Tables for the reasons to move, and properties that hold for any cluster.

use dunlin_proto::ids::FunctionUid;
use proptest::prelude::*;

use super::*;

fn worker(number: usize) -> WorkerId {
    format!("worker-{number}").parse().unwrap()
}

fn engines(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn spec(capacity: u32) -> WorkerSpec {
    WorkerSpec { capacity, engines: engines(&["e"]), zone: String::new(), accepting: true }
}

fn version(number: u128) -> VersionKey {
    let uid = uuid::Uuid::from_u128(number + 1).to_string().parse::<FunctionUid>().unwrap();
    VersionKey { function: uid, number: 1.try_into().unwrap() }
}

fn want(workers: u32) -> Want {
    Want { workers, engines: engines(&["e"]), weight: 1, near: BTreeSet::new() }
}

fn problem(workers: usize, versions: &[u32]) -> Problem {
    Problem {
        workers: (0..workers).map(|number| (worker(number), spec(100))).collect(),
        versions: versions.iter().enumerate().map(|(n, workers)| (version(n as u128), want(*workers))).collect(),
    }
}

#[test]
fn a_version_in_use_survives_a_worker() {
    let placed = place(&problem(2, &[2, 2]), &Placement::new());
    assert!(placed.values().all(|workers| workers.len() == 2));
    let placed = place(&problem(1, &[2, 2]), &placed);
    assert!(placed.values().all(|workers| workers.len() == 1));
}

#[test]
fn versions_spread_over_workers() {
    let placed = place(&problem(4, &[2; 40]), &Placement::new());
    for number in 0..4 {
        let held = placed.values().filter(|workers| workers.contains(&worker(number))).count();
        assert!((18..=22).contains(&held), "worker {number} holds {held}");
    }
}

#[test]
fn a_larger_worker_holds_more() {
    let mut problem = problem(2, &[1; 30]);
    problem.workers.insert(worker(1), spec(200));
    let placed = place(&problem, &Placement::new());
    let held = placed.values().filter(|workers| workers.contains(&worker(1))).count();
    assert_eq!(held, 20);
}

#[test]
fn drained_lost_and_foreign_workers_hold_nothing() {
    let mut problem = problem(3, &[3]);
    problem.workers.get_mut(&worker(0)).unwrap().accepting = false;
    problem.workers.get_mut(&worker(1)).unwrap().engines = engines(&["other"]);
    let everywhere = [(version(0), (0..4).map(worker).collect())].into();
    let placed = place(&problem, &everywhere);
    assert_eq!(placed, [(version(0), [worker(2)].into())].into());
}

#[test]
fn nothing_moves_when_a_worker_joins_or_returns_without_need() {
    let before = place(&problem(2, &[2; 5]), &Placement::new());
    assert_eq!(place(&problem(3, &[2; 5]), &before), before);
}

#[test]
fn a_worker_that_joins_a_full_cluster_takes_its_share() {
    let before = place(&problem(2, &[2; 80]), &Placement::new());
    let after = place(&problem(3, &[2; 80]), &before);
    let held = after.values().filter(|workers| workers.contains(&worker(2))).count();
    assert!((20..=60).contains(&held), "it holds {held}");
}

#[test]
fn one_answer_moves_all_that_is_worth_moving() {
    // Four versions on two small workers, and two large ones that stand empty.
    let mut problem = problem(4, &[2; 4]);
    for number in [0, 1] {
        problem.workers.insert(worker(number), spec(4));
    }
    let small: BTreeSet<_> = [worker(0), worker(1)].into();
    let before = problem.versions.keys().map(|version| (*version, small.clone())).collect();
    let once = place(&problem, &before);
    assert_ne!(once, before);
    assert_eq!(place(&problem, &once), once);
}

#[test]
fn a_worker_that_has_the_code_is_preferred_unless_it_is_much_fuller() {
    let mut problem = problem(5, &[2; 10]);
    for want in problem.versions.values_mut() {
        want.near = [worker(3), worker(4)].into();
    }
    let placed = place(&problem, &Placement::new());
    assert!(placed.values().all(|workers| *workers == [worker(3), worker(4)].into()));
    for want in problem.versions.values_mut() {
        want.weight = 10;
    }
    let placed = place(&problem, &Placement::new());
    let held = placed.values().filter(|workers| workers.contains(&worker(3))).count();
    assert!((3..8).contains(&held), "the others are empty: {held}");
}

#[test]
fn workers_of_a_version_are_in_as_many_zones_as_there_are() {
    let mut problem = problem(9, &[2, 3, 5, 3, 2, 2]);
    for (number, spec) in problem.workers.values_mut().enumerate() {
        spec.zone = format!("zone-{}", number % 3);
    }
    // The code is where it would have to share a zone.
    problem.versions.values_mut().for_each(|want| want.near = [worker(0), worker(3), worker(6)].into());
    let placed = place(&problem, &Placement::new());
    for (version, workers) in &placed {
        let zones: BTreeSet<_> = workers.iter().map(|id| problem.workers[id].zone.clone()).collect();
        assert_eq!(zones.len(), workers.len().min(3), "{version}");
    }
}

#[test]
fn t47_a_worker_that_claims_too_much_gets_no_more_than_one_place_in_each_version() {
    let mut problem = problem(4, &[2; 40]);
    problem.workers.insert(worker(0), spec(100_000));
    let placed = place(&problem, &Placement::new());
    assert!(placed.values().all(|workers| workers.len() == 2), "each has an honest one beside it");
    for number in 1..4 {
        let held = placed.values().filter(|workers| workers.contains(&worker(number))).count();
        assert!((10..=17).contains(&held), "honest worker {number} holds {held}");
    }
}

#[test]
fn what_wants_nothing_is_let_go() {
    let before = place(&problem(2, &[2]), &Placement::new());
    assert!(place(&problem(2, &[0]), &before).is_empty());
    assert!(place(&problem(2, &[]), &before).is_empty());
}

prop_compose! {
    fn any_problem()(
        workers in prop::collection::vec((1_u32..200, 0_u8..4, prop::bool::weighted(0.8), 0_u8..3), 0..8),
        versions in prop::collection::vec((0_u32..6, 0_u8..4, 0_u32..50, prop::option::of(0_usize..9)), 0..20),
    ) -> Problem {
        // Two engines: bit 0 and bit 1.
        let engines = |bits: u8| ["a", "b"].iter().enumerate()
            .filter(|(bit, _)| bits & (1 << bit) != 0).map(|(_, name)| (*name).to_owned()).collect();
        Problem {
            workers: workers.into_iter().enumerate().map(|(number, (capacity, bits, accepting, zone))| {
                (worker(number), WorkerSpec { capacity, engines: engines(bits), zone: zone.to_string(), accepting })
            }).collect(),
            versions: versions.into_iter().enumerate().map(|(number, (workers, bits, weight, near))| {
                let near = near.into_iter().map(worker).collect();
                (version(number as u128), Want { workers, engines: engines(bits), weight, near })
            }).collect(),
        }
    }
}

prop_compose! {
    fn any_previous()(
        pairs in prop::collection::vec((0_u128..25, 0_usize..10), 0..40),
    ) -> Placement {
        let mut placement = Placement::new();
        for (number, at) in pairs {
            placement.entry(version(number)).or_default().insert(worker(at));
        }
        placement
    }
}

proptest! {
    #[test]
    fn every_version_is_on_as_many_workers_as_it_wants_and_can_have(problem in any_problem(), previous in any_previous()) {
        let placed = place(&problem, &previous);
        for (version, want) in &problem.versions {
            let able = problem.workers.values().filter(|worker| can_hold(worker, want)).count();
            let on = placed.get(version).map_or(0, BTreeSet::len);
            prop_assert_eq!(on, able.min(want.workers as usize));
        }
        for (version, workers) in &placed {
            prop_assert!(!workers.is_empty());
            for id in workers {
                prop_assert!(can_hold(&problem.workers[id], &problem.versions[version]));
            }
        }
    }

    #[test]
    fn asked_again_it_answers_the_same(problem in any_problem(), previous in any_previous()) {
        let once = place(&problem, &previous);
        prop_assert_eq!(&place(&problem, &once), &once);
    }

    #[test]
    fn a_lost_worker_moves_only_its_own(problem in any_problem(), lost in 0_usize..8) {
        let before = place(&problem, &Placement::new());
        let mut smaller = problem.clone();
        smaller.workers.remove(&worker(lost));
        // Without balancing, which may move others on purpose.
        let mut after = kept(&smaller, &before);
        after.retain(|_, workers| !workers.is_empty());
        for (version, workers) in &before {
            let mut rest = workers.clone();
            rest.remove(&worker(lost));
            prop_assert_eq!(after.get(version).cloned().unwrap_or_default(), rest);
        }
    }
}
