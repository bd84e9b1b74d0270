//! Workers that fail, refuse, leave and come, and what callers see of it.

use std::{sync::atomic::Ordering, time::Duration};

use dunlin_proto::{
    internal::v1::{ListRecordsRequest, invocation_record_service_client::InvocationRecordServiceClient},
    v1,
};
use futures::future::join_all;
use tonic::transport::Endpoint;

use crate::harness::{Cluster, IDEMPOTENT, PUBLIC, Plan, Worker, eventually, secret, send};

#[tokio::test]
async fn a_function_that_fails_is_a_502_that_says_why() {
    let cluster = Cluster::start().await;
    for (path, code, part) in [
        ("/trap", "function_failed", "stack_overflow"),
        ("/nothing", "function_failed", "without an answer"),
        ("/switching", "function_failed", "101"),
        ("/trap-after-head", "memory_exceeded", "memory_exceeded"),
        ("/die", "worker_lost", "went away"),
    ] {
        let answer = cluster.call("GET", path, &[], "").await;
        assert_eq!((answer.status, answer.code().as_str()), (502, code), "{path}");
        assert!(answer.text().contains(part), "{}", answer.text());
    }
    eventually("another session", async || cluster.call("GET", "/", &[], "").await.status == 200).await;
    assert_eq!(
        cluster.workers[0].begins().iter().filter(|begin| begin.path_and_query == "/die").count(),
        1,
        "never twice"
    );
}

#[tokio::test]
async fn a_call_of_an_idempotent_function_that_is_lost_with_its_worker_runs_again_with_its_body() {
    let cluster = Cluster::with(Plan { workers: 3, ..Plan::default() }).await;
    let call = async |function: &str, path: &str, body: &str| {
        send(cluster.functions(), "POST", &format!("/shop/{function}{path}"), &[], body).await
    };
    // A call runs again elsewhere where there is somebody: all of them have their sessions.
    eventually("all workers run calls", async || {
        call(IDEMPOTENT, "/", "").await;
        cluster.workers.iter().all(|worker| !worker.begins().is_empty())
    })
    .await;
    let body = "x".repeat(200 << 10);
    let answer = call(IDEMPOTENT, "/die-once", &body).await;
    assert_eq!((answer.status, answer.text().len()), (200, body.len()), "{}", answer.code());
    let lost = call(PUBLIC, "/die-once", &body).await;
    assert_eq!((lost.status, lost.code().as_str()), (502, "worker_lost"));
    assert!(lost.text().contains("idempotent"), "{}", lost.text());
    // What brings down every worker that runs it, runs on three of them at the most.
    let deadly = call(IDEMPOTENT, "/die", "").await;
    assert_eq!((deadly.status, deadly.code().as_str()), (502, "worker_lost"));
    let begun = |worker: &Worker| worker.begins().iter().filter(|begin| begin.path_and_query == "/die").count();
    assert!((1..=3).contains(&cluster.workers.iter().map(begun).sum::<usize>()));
}

#[tokio::test]
async fn t47_a_worker_that_sends_garbage_loses_its_session_and_no_other_worker_does() {
    let cluster = Cluster::with(Plan { workers: 2, ..Plan::default() }).await;
    for path in ["/other-epoch", "/no-frame"] {
        // A call that runs elsewhere is not touched.
        let (bad, good) = futures::join!(
            cluster.call("GET", path, &[], ""),
            join_all((0..10).map(|_| cluster.call("GET", "/", &[], "")))
        );
        assert_eq!((bad.status, bad.code().as_str()), (502, "worker_lost"), "{path}");
        // Those on the same session may be lost with it, but say so.
        assert!(good.iter().all(|answer| answer.status == 200 || answer.code() == "worker_lost"), "{path}");
        assert!(good.iter().any(|answer| answer.status == 200));
        for _ in 0..10 {
            assert_eq!(cluster.call("GET", "/", &[], "").await.status, 200, "after {path}");
        }
    }
    for _ in 0..4 {
        assert_eq!(cluster.call("GET", "/for-others", &[], "").await.text(), "mine");
    }
}

#[tokio::test]
async fn what_one_worker_refuses_another_may_take_with_the_whole_body() {
    let cluster = Cluster::with(Plan { workers: 2, ..Plan::default() }).await;
    // Where there is nobody else yet, a refusal is the answer.
    eventually("both run calls", async || {
        cluster.call("GET", "/", &[], "").await;
        cluster.workers.iter().all(|worker| !worker.begins().is_empty())
    })
    .await;
    let begun = || [0, 1].map(|worker: usize| cluster.workers[worker].begins().len());
    cluster.workers[0].seen.full.send_replace(true);
    let before = begun();
    let body = "x".repeat(200_000);
    for _ in 0..20 {
        let answer = cluster.call("POST", "/echo", &[], &body).await;
        assert!(answer.status == 200 && answer.text() == body, "{} of {} bytes", answer.status, answer.body.len());
    }
    let after = begun();
    assert!(after[0] > before[0], "both are asked");
    assert_eq!(after[1] - before[1], 20);
}

#[tokio::test]
async fn a_worker_that_takes_nothing_of_what_it_is_given_is_hardly_asked_until_it_takes_something() {
    let cluster = Cluster::with(Plan { workers: 2, ..Plan::default() }).await;
    let liar = &cluster.workers[0];
    let asked = async || {
        let before = liar.begins().len();
        for _ in 0..40 {
            assert_eq!(cluster.call("GET", "/", &[], "").await.status, 200);
        }
        liar.begins().len() - before
    };
    liar.seen.lacks.send_replace(true);
    eventually("it is passed over", async || asked().await <= 5).await;
    liar.seen.lacks.send_replace(false);
    eventually("it is used like the other", async || asked().await >= 10).await;
}

#[tokio::test]
async fn a_worker_that_fails_calls_on_its_side_is_left_out_until_it_works_again() {
    left_out_while_it_fails(false).await;
}

#[tokio::test]
async fn a_worker_whose_failures_are_slow_to_come_is_left_out_as_well() {
    left_out_while_it_fails(true).await;
}

async fn left_out_while_it_fails(slowly: bool) {
    let cluster = Cluster::with(Plan { workers: 3, ..Plan::default() }).await;
    let broken = &cluster.workers[0];
    broken.seen.slow.send_replace(slowly);
    let fails = async || {
        let mut failures = 0;
        for n in 0..60 {
            let function = if n % 2 == 0 { PUBLIC } else { IDEMPOTENT };
            let answer = send(cluster.functions(), "GET", &format!("/shop/{function}/"), &[], "").await;
            assert!(answer.status == 200 || answer.code() == "internal", "{}", answer.text());
            failures += usize::from(answer.status != 200);
        }
        failures
    };
    // Its quickness would draw calls to it.
    broken.seen.broken.send_replace(true);
    let first = fails().await;
    assert!((5..20).contains(&first), "{first} of 60");
    assert!(fails().await <= 2, "one call now and then finds out");
    broken.seen.broken.send_replace(false);
    eventually("it is used like the others", async || {
        let before = broken.begins().len();
        fails().await == 0 && broken.begins().len() - before >= 10
    })
    .await;
}

#[tokio::test]
async fn a_worker_that_lets_the_time_of_its_calls_run_out_is_left_out_until_it_works_again() {
    let cluster = Cluster::with(Plan { workers: 3, timeout: Duration::from_millis(300), ..Plan::default() }).await;
    let stuck = &cluster.workers[0];
    let asked = async || {
        let before = stuck.begins().len();
        for answer in join_all((0..40).map(|_| cluster.call("GET", "/", &[], ""))).await {
            assert!(answer.status == 200 || answer.code() == "deadline_exceeded", "{}", answer.text());
        }
        stuck.begins().len() - before
    };
    stuck.seen.stuck.send_replace(true);
    eventually("it is left out", async || asked().await == 0).await;
    stuck.seen.stuck.send_replace(false);
    eventually("it is used like the others", async || asked().await >= 5).await;
}

#[tokio::test]
async fn guests_that_are_slow_are_not_their_workers_fault() {
    let cluster = Cluster::with(Plan { workers: 2, ..Plan::default() }).await;
    for path in ["/slow-stream", "/slow-trap"] {
        let before: Vec<_> = cluster.workers.iter().map(|worker| worker.begins().len()).collect();
        join_all((0..40).map(|_| cluster.call("GET", path, &[], ""))).await;
        for (worker, before) in cluster.workers.iter().zip(before) {
            assert!(worker.begins().len() - before >= 10, "both are asked all the time");
        }
    }
    // Nor are those that take all the time that they have: their workers end them.
    let before: Vec<_> = cluster.workers.iter().map(|worker| worker.begins().len()).collect();
    for _ in 0..40 {
        assert_eq!(cluster.call("GET", "/too-long", &[], "").await.code(), "deadline_exceeded");
    }
    assert!(cluster.workers.iter().zip(before).all(|(worker, before)| worker.begins().len() - before >= 5));
}

#[tokio::test]
async fn what_guests_do_wrong_is_not_their_workers_fault() {
    let cluster = Cluster::with(Plan { workers: 2, ..Plan::default() }).await;
    for _ in 0..60 {
        assert_eq!(cluster.call("GET", "/trap", &[], "").await.code(), "function_failed");
    }
    for worker in &cluster.workers {
        assert!(worker.begins().len() >= 15, "both are asked all the time");
    }
}

#[tokio::test]
async fn a_cluster_that_is_full_says_when_to_come_back() {
    let configure = |config: &mut dunlin_gateway::Config| config.dispatch.queue_timeout = Duration::from_secs(2);
    let cluster = Cluster::with(Plan { workers: 2, configure, ..Plan::default() }).await;
    eventually("a session", async || cluster.call("GET", "/", &[], "").await.status == 200).await;
    let answer = cluster.call("GET", "/busy", &[], "").await;
    assert_eq!(
        (answer.status, answer.code().as_str(), answer.header("retry-after").as_str()),
        (429, "too_many_requests", "2")
    );
    for worker in &cluster.workers {
        worker.seen.full.send_replace(true);
    }
    let answer = cluster.call("GET", "/", &[], "").await;
    assert_eq!(
        (answer.status, answer.code().as_str(), answer.header("retry-after").as_str()),
        (503, "unavailable", "2")
    );
}

#[tokio::test]
async fn what_no_worker_can_load_is_a_503_in_the_workers_words() {
    let configure = |config: &mut dunlin_gateway::Config| config.dispatch.queue_timeout = Duration::from_secs(2);
    let cluster = Cluster::with(Plan { workers: 2, configure, ..Plan::default() }).await;
    eventually("a session", async || cluster.call("GET", "/", &[], "").await.status == 200).await;
    let before = cluster.workers.iter().map(|worker| worker.begins().len()).sum::<usize>();
    for worker in &cluster.workers {
        worker.seen.lacks.send_replace(true);
    }
    let answer = cluster.call("GET", "/", &[], "").await;
    assert_eq!((answer.status, answer.code().as_str()), (503, "unavailable"));
    assert!(answer.text().contains("not here"), "{}", answer.text());
    let asked = cluster.workers.iter().map(|worker| worker.begins().len()).sum::<usize>() - before;
    // Both, twenty times a second.
    assert!(asked <= 100, "asked again now and then, not in a loop: {asked}");
}

#[tokio::test]
async fn a_version_without_a_worker_is_asked_for_once_and_waited_for() {
    let cluster = Cluster::with(Plan { placed: false, ..Plan::default() }).await;
    let calls = join_all((0..50).map(|_| cluster.call("GET", "/", &[], "")));
    let place = async {
        eventually("a question", async || cluster.scheduler.seen.activations.load(Ordering::SeqCst) > 0).await;
        eventually("demand", async || {
            let loads = cluster.scheduler.seen.loads.lock().unwrap();
            loads.iter().any(|load| load.demand.iter().map(|demand| demand.queued).sum::<u32>() == 50)
        })
        .await;
        cluster.place(2, &cluster.workers);
    };
    let (answers, ()) = futures::join!(calls, place);
    assert!(answers.iter().all(|answer| answer.status == 200));
    // Two versions, asked for again each half second, which is more often on a slow machine; but not by each of 50 calls.
    let asked = cluster.scheduler.seen.activations.load(Ordering::SeqCst);
    assert!(asked <= 20, "{asked}");
}

#[tokio::test]
async fn those_who_wait_are_bounded_in_number_and_time() {
    let configure = |config: &mut dunlin_gateway::Config| {
        // All of them come before the first ones have waited for so long.
        config.dispatch.queue_timeout = Duration::from_secs(3);
        config.dispatch.queue = 1;
    };
    let cluster = Cluster::with(Plan { placed: false, configure, ..Plan::default() }).await;
    let answers = join_all((0..10).map(|_| cluster.call("GET", "/", &[], ""))).await;
    for answer in &answers {
        assert_eq!(
            (answer.status, answer.code().as_str(), answer.header("retry-after").as_str()),
            (503, "unavailable", "1")
        );
    }
    let turned_away = answers.iter().filter(|answer| answer.text().contains("as may wait")).count();
    assert!((8..10).contains(&turned_away), "{turned_away} of 10, with two versions");
}

#[tokio::test]
async fn work_moves_when_workers_come_and_go() {
    let mut cluster = Cluster::start().await;
    assert_eq!(cluster.call("GET", "/", &[], "").await.status, 200);
    let second = Worker::start("w9").await;
    let workers = [second];
    cluster.place(2, &workers);
    eventually("the other worker", async || {
        assert_eq!(cluster.call("GET", "/", &[], "").await.status, 200);
        !workers[0].begins().is_empty()
    })
    .await;
    // The old one is no longer placed, so it is no longer needed.
    cluster.workers.clear();
    assert_eq!(cluster.call("GET", "/", &[], "").await.status, 200);
}

#[tokio::test]
async fn a_worker_that_drains_gets_nothing_new() {
    let cluster = Cluster::with(Plan { workers: 2, ..Plan::default() }).await;
    let sessions = || cluster.workers.iter().map(|worker| worker.seen.sessions.load(Ordering::SeqCst)).sum::<u64>();
    eventually("all sessions", async || sessions() == 4).await;
    // Each of the two sessions to whichever worker takes it says goodbye; what runs there is answered.
    for _ in 0..3 {
        assert_eq!(cluster.call("GET", "/leave", &[], "").await.text(), "bye");
    }
    assert_eq!(cluster.call("GET", "/", &[], "").await.status, 200);
}

#[tokio::test]
async fn records_say_what_became_of_calls() {
    let cluster = Cluster::start().await;
    cluster.call("GET", "/ok?secret=1", &[("x-request-id", "mine")], "").await;
    cluster.call("GET", "/trap", &[], "").await;
    let endpoint = Endpoint::from_shared(format!("http://{}", cluster.addresses.peer)).unwrap();
    let channel = endpoint.connect().await.unwrap();
    let query = v1::ListInvocationsRequest { parent: "namespaces/shop".into(), ..Default::default() };
    let request = ListRecordsRequest { query: Some(query), ..Default::default() };
    let refused = InvocationRecordServiceClient::new(channel.clone()).list_records(request.clone()).await;
    assert_eq!(refused.unwrap_err().code(), tonic::Code::Unauthenticated);
    let mut client = InvocationRecordServiceClient::with_interceptor(channel, secret().attach());
    let mut found = Vec::new();
    eventually("two records", async || {
        found = client.list_records(request.clone()).await.unwrap().into_inner().invocations;
        found.len() == 2
    })
    .await;
    let [trap, ok] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((trap.outcome.as_str(), trap.status, trap.path.as_str()), ("function_failed", 502, "/trap"));
    assert_eq!((ok.outcome.as_str(), ok.status, ok.path.as_str(), ok.request_id.as_str()), ("ok", 200, "/ok", "mine"));
    assert_eq!((ok.worker.as_str(), ok.gateway.as_str()), ("w0", "gateway"));
    assert_eq!(ok.receipt.as_ref().unwrap().cpu.unwrap().nanos, 4_000_000);
    let mut other = request;
    other.query.as_mut().unwrap().parent = "namespaces/bank".into();
    assert!(client.list_records(other).await.unwrap().into_inner().invocations.is_empty());
}
