//! T01 beside other tenants: sixty-four endless loops at once, and a short function that has to be served all the while.

use std::sync::Arc;
use std::time::Duration;

use dunlin_worker::sandbox::{Limits, Policy};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::support::{call, get, policy, wat};

fn p99(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() * 99 / 100]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t01_sixty_four_endless_loops_leave_a_neighbour_served() {
    let hello = Arc::new(wat("hello.wat", Policy::default()));
    let probe = async |rounds: u32| {
        let mut times = Vec::new();
        for _ in 0..rounds {
            let began = Instant::now();
            assert_eq!(call(&hello, get("/")).await.code(), "ok");
            times.push(began.elapsed());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        times
    };
    let idle = p99(probe(200).await);
    let limits = Limits { cpu: Duration::from_secs(60), wall: Duration::from_secs(3), ..Limits::default() };
    let hostile = Arc::new(wat("loop.wat", policy(limits)));
    let mut loops = JoinSet::new();
    for _ in 0..64 {
        let hostile = hostile.clone();
        loops.spawn(async move { call(&hostile, get("/")).await });
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let busy = p99(probe(200).await);
    while let Some(answer) = loops.join_next().await {
        let answer = answer.unwrap();
        assert_eq!(answer.code(), "deadline_exceeded");
        // Sixty-four of them take turns of two milliseconds, at low priority.
        assert!(answer.completion.usage.run < Duration::from_millis(4500), "{:?}", answer.completion.usage);
    }
    println!("hello p99: {idle:?} idle, {busy:?} beside 64 endless loops");
    assert!(busy < (5 * idle).max(Duration::from_millis(50)), "{busy:?} against {idle:?} idle");
}
