//! Calls of versions that run nowhere, and workers that are frozen: what the gateway does by itself.

use std::{sync::atomic::Ordering, time::Duration};

use futures::future::join_all;
use tokio::time::{Instant, timeout};

use crate::harness::{Cluster, Plan, eventually};

async fn seated(workers: usize) -> Cluster {
    let cluster = Cluster::with(Plan { placed: false, workers, ..Plan::default() }).await;
    cluster.seat(2, &cluster.workers);
    eventually("an answer", async || cluster.call("GET", "/", &[], "").await.status == 200).await;
    cluster
}

fn activations(cluster: &Cluster) -> usize {
    cluster.scheduler.seen.activations.load(Ordering::SeqCst)
}

#[tokio::test]
async fn a_version_that_runs_nowhere_is_called_on_a_standby_without_asking() {
    let cluster = seated(4).await;
    let (asked, began) = (activations(&cluster), Instant::now());
    for _ in 0..20 {
        assert_eq!(cluster.call("GET", "/", &[], "").await.status, 200);
    }
    // Whoever waits for a placement waits for ten seconds here.
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    assert_eq!(activations(&cluster), asked);
    let used = cluster.workers.iter().filter(|worker| !worker.begins().is_empty()).count();
    assert!((2..=4).contains(&used), "two standbys of each of two versions: {used}");
}

#[tokio::test]
async fn a_crowd_on_standbys_asks_for_a_placement_once() {
    let cluster = seated(2).await;
    let before = activations(&cluster);
    let answers = join_all((0..50).map(|_| cluster.call("GET", "/unread", &[], ""))).await;
    assert!(answers.iter().all(|answer| answer.status == 200));
    let asked = activations(&cluster) - before;
    // Again each half second, on a machine that is slow or stands still.
    assert!((1..=12).contains(&asked), "for two versions, and not for each of 50 calls: {asked}");
}

#[tokio::test]
async fn cold_calls_go_on_without_the_scheduler_also_after_a_restart() {
    let mut cluster = seated(3).await;
    let file = cluster.config.data_dir.join("placements.snapshot");
    eventually("the file", async || file.exists()).await;
    cluster.scheduler.stop();
    assert_eq!(cluster.call("GET", "/", &[], "").await.status, 200);
    cluster.stop_gateway().await;
    cluster.start_gateway().await;
    assert_eq!(cluster.call("GET", "/", &[], "").await.status, 200);
}

#[tokio::test]
async fn a_standby_that_refuses_or_is_gone_is_passed_over() {
    let cluster = seated(4).await;
    for lost in 0..2 {
        cluster.workers[lost].seen.lacks.send_replace(true);
    }
    for _ in 0..20 {
        assert_eq!(cluster.call("GET", "/", &[], "").await.status, 200);
    }
    cluster.workers[2].stop();
    // What had begun there when it stopped may be lost, and nothing later.
    eventually("only one is left", async || {
        let answers = join_all((0..20).map(|_| cluster.call("GET", "/", &[], ""))).await;
        answers.iter().all(|answer| answer.status == 200)
    })
    .await;
}

#[tokio::test]
async fn what_holders_have_no_room_for_is_refused_at_once_although_others_could_be_asked() {
    let cluster = seated(4).await;
    for worker in &cluster.workers[..2] {
        worker.seen.full.send_replace(true);
    }
    for worker in &cluster.workers[2..] {
        worker.seen.lacks.send_replace(true);
    }
    let began = Instant::now();
    let answer = cluster.call("GET", "/", &[], "").await;
    assert_eq!((answer.status, answer.code()), (503, "unavailable".to_owned()));
    assert_eq!(answer.header("retry-after"), "2");
    // Whoever waits for room waits for ten seconds.
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
}

#[tokio::test]
async fn f02_a_frozen_worker_gets_nothing_new_within_a_second_and_is_back_when_it_speaks() {
    let cluster = Cluster::with(Plan { workers: 2, ..Plan::default() }).await;
    eventually("both", async || {
        assert_eq!(cluster.call("GET", "/", &[], "").await.status, 200);
        cluster.workers.iter().all(|worker| !worker.begins().is_empty())
    })
    .await;
    // Where the machine stands still meanwhile, it is frozen once more.
    let mut attempts = 0;
    while !passed_over_while_frozen(&cluster).await {
        attempts += 1;
        assert!(attempts < 4, "a frozen worker still gets calls after a second");
    }
}

/// Freezes the first worker for a second and a little longer; says whether calls are then answered at once.
async fn passed_over_while_frozen(cluster: &Cluster) -> bool {
    cluster.workers[0].seen.frozen.send_replace(true);
    // Both of its sessions get a call that stays there.
    let stuck = join_all((0..40).map(|_| cluster.call("GET", "/", &[], "")));
    let moved = async {
        tokio::time::sleep(Duration::from_millis(1000)).await;
        let mut passed_over = true;
        for _ in 0..40 {
            let answer = timeout(Duration::from_secs(1), cluster.call("GET", "/", &[], "")).await;
            passed_over = passed_over && answer.is_ok_and(|answer| answer.status == 200);
            if !passed_over {
                break;
            }
        }
        cluster.workers[0].seen.frozen.send_replace(false);
        passed_over
    };
    let (answers, passed_over) = futures::join!(stuck, moved);
    assert!(answers.iter().all(|answer| answer.status == 200), "it had only stopped for a while");
    let before = cluster.workers[0].begins().len();
    eventually("it is used again", async || {
        assert_eq!(cluster.call("GET", "/", &[], "").await.status, 200);
        cluster.workers[0].begins().len() > before
    })
    .await;
    passed_over
}
