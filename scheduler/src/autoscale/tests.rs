//! Tables of what is asked over time, and what is wanted then.

use super::*;

const POLICY: Policy = Policy {
    min_workers: 0,
    max_workers: None,
    idle_timeout: Duration::from_secs(60),
    per_worker: 10,
    max_concurrency: None,
};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn running(in_flight: u32, ready: u32) -> Stats {
    Stats { in_flight, ready, ..Stats::default() }
}

/// Runs through (second, what is asked, what must be wanted then).
fn follow(policy: &Policy, steps: &[(u64, Stats, u32)]) -> State {
    let mut state = None;
    for (second, stats, desired) in steps {
        let next = decide(policy, stats, state.as_ref(), seconds(*second));
        assert_eq!(next.desired, *desired, "at {second} s with {stats:?} after {state:?}");
        state = Some(next);
    }
    state.unwrap()
}

#[test]
fn what_nobody_asks_for_is_nowhere() {
    assert!(follow(&POLICY, &[(0, running(0, 0), 0), (1000, running(0, 0), 0)]).is_over());
}

#[test]
fn the_first_call_places_it_twice_and_an_idle_minute_nowhere() {
    follow(
        &POLICY,
        &[
            (0, running(1, 0), 2),
            (1, running(0, 2), 2),
            (59, running(0, 2), 2),
            (60, running(0, 2), 0),
            (61, running(1, 0), 2),
        ],
    );
}

#[test]
fn nothing_is_scaled_for_that_gateways_do_not_admit() {
    let policy = Policy { max_concurrency: Some(20), ..POLICY };
    // Reports of several gateways overlap for a moment: more is said to run than may.
    follow(&policy, &[(0, running(500, 0), 3)]);
    let waits = |ready| Stats { in_flight: 1, queued: 4, ready, ..Stats::default() };
    let single = Policy { max_concurrency: Some(1), per_worker: 1, ..POLICY };
    follow(&single, &[(0, waits(0), 2), (1, waits(2), 2), (2, waits(3), 2)]);
    let few = Policy { max_concurrency: Some(4), min_workers: 6, ..POLICY };
    follow(&few, &[(0, waits(0), 6)]);
}

#[test]
fn activation_counts_as_use() {
    let activated = Stats { activated: true, ..Stats::default() };
    follow(
        &POLICY,
        &[
            (0, activated, 2),
            (30, running(0, 2), 2),
            (59, activated, 2),
            (118, running(0, 2), 2),
            (119, running(0, 2), 0),
        ],
    );
}

#[test]
fn load_brings_workers_at_once_and_a_quiet_minute_takes_them_away() {
    follow(
        &POLICY,
        &[
            (0, running(8, 2), 2),
            (1, running(40, 2), 5),
            (2, running(8, 5), 5),
            (30, running(24, 5), 5),
            (61, running(8, 5), 5),
            (62, running(8, 5), 3),
            (122, running(8, 3), 3),
            (123, running(8, 3), 3),
            (183, running(8, 3), 2),
        ],
    );
}

#[test]
fn a_burst_within_the_quiet_minute_begins_it_anew() {
    follow(
        &POLICY,
        &[
            (0, running(40, 2), 5),
            (10, running(8, 5), 5),
            (50, running(40, 5), 5),
            (60, running(8, 5), 5),
            (119, running(8, 5), 5),
            (120, running(8, 5), 2),
        ],
    );
}

#[test]
fn who_waits_gets_one_worker_more_once_all_wanted_ones_are_there() {
    let waiting = |ready| Stats { in_flight: 2, queue_delay: Duration::from_millis(50), ready, ..Stats::default() };
    follow(
        &POLICY,
        &[(0, waiting(0), 2), (1, waiting(1), 2), (2, waiting(2), 3), (3, waiting(2), 3), (4, waiting(3), 4)],
    );
    let short = Stats { queue_delay: Duration::from_millis(5), ..running(2, 2) };
    follow(&POLICY, &[(0, short, 2), (1, short, 2)]);
}

#[test]
fn bounds_hold() {
    let policy = Policy { min_workers: 1, max_workers: Some(3), ..POLICY };
    follow(
        &policy,
        &[(0, running(0, 0), 1), (1, running(1000, 1), 3), (200, running(0, 3), 1), (300, running(0, 1), 1)],
    );
    let one = Policy { max_workers: Some(1), ..POLICY };
    follow(&one, &[(0, running(1, 0), 1), (1, running(100, 1), 1)]);
}

#[test]
fn numbers_out_of_this_world_do_not_overflow() {
    let all =
        Stats { in_flight: u32::MAX, queued: u32::MAX, queue_delay: Duration::MAX, ready: u32::MAX, activated: true };
    let state = decide(&Policy { per_worker: 0, ..POLICY }, &all, None, Duration::MAX);
    assert_eq!(state.desired, u32::MAX);
    assert_eq!(wanted_workers([&state].into_iter(), u64::MAX, 0), u32::MAX);
}

#[test]
fn the_cluster_wants_room_for_all_and_workers_for_the_greediest() {
    let busy = decide(&POLICY, &running(40, 5), None, seconds(0));
    let calm = decide(&POLICY, &running(1, 2), None, seconds(0));
    assert_eq!(wanted_workers([&busy, &calm].into_iter(), 41, 1000), 5);
    assert_eq!(wanted_workers([&calm].into_iter(), 1, 1000), 1);
    assert_eq!(wanted_workers([&calm].into_iter(), 8000, 1000), 10);
    assert_eq!(wanted_workers([].into_iter(), 0, 1000), 0);
}

mod curves;
