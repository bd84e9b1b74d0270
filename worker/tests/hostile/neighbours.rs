//! T01 beside other tenants: sixty-four endless loops at once, and a short function that has to be served all the while.

use std::sync::Arc;
use std::time::Duration;

use dunlin_worker::sandbox::{Limits, Policy, Program};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::support::{Answer, call, get, policy, wat};

/// How often the loops are started and looked at, until the machine has not stood still meanwhile.
const ATTEMPTS: u32 = 3;

fn p99(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() * 99 / 100]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t01_sixty_four_endless_loops_leave_a_neighbour_served() {
    let hello = wat("hello.wat", Policy::default());
    let limits = Limits { cpu: Duration::from_secs(60), wall: Duration::from_secs(3), ..Limits::default() };
    let hostile = Arc::new(wat("loop.wat", policy(limits)));
    for attempt in 1..=ATTEMPTS {
        let idle = p99(probe(&hello, 200).await);
        let mut loops = JoinSet::new();
        for _ in 0..64 {
            let hostile = hostile.clone();
            loops.spawn(async move { call(&hostile, get("/")).await });
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        let busy = p99(probe(&hello, 200).await);
        let longest = longest(loops).await;
        println!(
            "hello p99: {idle:?} idle, {busy:?} beside 64 endless loops, the longest of which ran for {longest:?}"
        );
        // Sixty-four of them take turns of two milliseconds, at low priority.
        let ended = longest < Duration::from_millis(4500);
        if ended && busy < (5 * idle).max(Duration::from_millis(50)) {
            return;
        }
        assert!(attempt < ATTEMPTS, "{busy:?} against {idle:?} idle, the longest loop {longest:?}");
    }
}

/// How long a short function took, so many times.
async fn probe(hello: &Program, rounds: u32) -> Vec<Duration> {
    let mut times = Vec::new();
    for _ in 0..rounds {
        let began = Instant::now();
        assert_eq!(call(hello, get("/")).await.code(), "ok");
        times.push(began.elapsed());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    times
}

/// The loops end at their deadline; how long the longest ran.
async fn longest(loops: JoinSet<Answer>) -> Duration {
    let answers = loops.join_all().await;
    assert!(answers.iter().all(|answer| answer.code() == "deadline_exceeded"), "{answers:?}");
    answers.iter().map(|answer| answer.completion.usage.run).max().unwrap()
}
