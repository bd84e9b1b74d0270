//! Workers that are lost in the middle of an answer: what the caller sees of it where the call may run again, and where not.
//! Those that are lost before the head are in `workers.rs`; how long a head is held back is tested beside the code.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;

use crate::harness::{Cluster, IDEMPOTENT, PUBLIC, Plan, eventually, h2_stream, send};

async fn cluster(go: bool) -> Cluster {
    let cluster = Cluster::with(Plan { workers: 3, ..Plan::default() }).await;
    let_go(&cluster, go);
    cluster
}

fn let_go(cluster: &Cluster, go: bool) {
    for worker in &cluster.workers {
        worker.seen.go.send_replace(go);
    }
}

/// How often a path was begun, on each worker.
fn begun(cluster: &Cluster, path: &str) -> Vec<usize> {
    let count = |begins: Vec<dunlin_proto::internal::v1::Begin>| {
        begins.iter().filter(|begin| begin.path_and_query == path).count()
    };
    cluster.workers.iter().map(|worker| count(worker.begins())).collect()
}

/// The answer's head, which comes although its end does not.
async fn head(cluster: &Cluster, function: &str, path: &str) -> Response<Incoming> {
    let request = Request::get(format!("http://h/shop/{function}{path}")).body(Full::<Bytes>::default()).unwrap();
    let head = h2_stream(cluster.functions(), request);
    tokio::time::timeout(Duration::from_secs(20), head).await.unwrap()
}

/// Reads so many bytes of a body.
async fn read(body: &mut Incoming, bytes: usize) -> Vec<u8> {
    let mut all = Vec::new();
    while all.len() < bytes {
        all.extend_from_slice(&body.frame().await.unwrap().unwrap().into_data().unwrap());
    }
    all
}

#[tokio::test]
async fn a_short_answer_that_is_lost_in_the_middle_comes_whole_from_another_worker() {
    let cluster = cluster(true).await;
    let path = format!("/shop/{IDEMPOTENT}/cut-once");
    let answer = send(cluster.functions(), "POST", &path, &[], "body").await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "the other answer"));
    assert_eq!(answer.header("x-run"), "", "nothing of the first run is left");
    assert!(answer.header("server-timing").contains("run;dur=3.000"), "{:?}", answer.headers);
    let mut runs = begun(&cluster, "/cut-once");
    runs.sort_unstable();
    assert_eq!(runs, [0, 1, 1]);
    let begins = cluster.workers.iter().flat_map(|worker| worker.begins());
    let bodies = begins.filter(|begin| begin.path_and_query == "/cut-once").map(|begin| begin.body.unwrap().data);
    assert!(bodies.into_iter().all(|body| body == "body"), "each time with its body");
    let mut records = Vec::new();
    eventually("a record", async || {
        records = cluster.records().await;
        !records.is_empty()
    })
    .await;
    let [record] = records.as_slice() else { panic!("{records:?}") };
    assert_eq!((record.outcome.as_str(), record.status, record.error.as_str()), ("ok", 200, ""));
}

#[tokio::test]
async fn an_answer_that_every_worker_loses_is_tried_three_times_and_then_an_error() {
    let cluster = cluster(true).await;
    let answer = send(cluster.functions(), "GET", &format!("/shop/{IDEMPOTENT}/cut"), &[], "").await;
    assert_eq!((answer.status, answer.code().as_str()), (502, "worker_lost"));
    assert_eq!(answer.header("x-run"), "");
    assert!((1..=3).contains(&begun(&cluster, "/cut").iter().sum::<usize>()));
}

#[tokio::test]
async fn what_the_caller_has_already_is_cut_off_and_never_runs_again() {
    for (function, path, bytes) in [(PUBLIC, "/cut", 4), (IDEMPOTENT, "/cut", 4), (IDEMPOTENT, "/cut-long", 100_000)] {
        let cluster = cluster(false).await;
        let mut body = head(&cluster, function, path).await.into_body();
        assert_eq!(read(&mut body, bytes).await, vec![b'1'; bytes], "{function}{path}");
        let_go(&cluster, true);
        assert!(body.collect().await.is_err(), "{function}{path}");
        assert_eq!(begun(&cluster, path).iter().sum::<usize>(), 1, "{function}{path}");
        eventually("a record", async || {
            let records = cluster.records().await;
            records.iter().any(|record| (record.outcome.as_str(), record.status) == ("worker_lost", 200))
        })
        .await;
    }
}

#[tokio::test]
async fn a_streaming_answer_of_a_function_that_may_run_again_reaches_its_caller_before_its_end() {
    let cluster = cluster(false).await;
    let mut body = head(&cluster, IDEMPOTENT, "/drip").await.into_body();
    assert_eq!(read(&mut body, 4).await, b"drip");
    let_go(&cluster, true);
    assert_eq!(body.collect().await.unwrap().to_bytes(), "drop");
    assert_eq!(begun(&cluster, "/drip").iter().sum::<usize>(), 1);
}

#[tokio::test]
async fn an_answer_to_a_body_that_is_still_coming_is_held_while_the_body_is_sent() {
    let cluster = cluster(true).await;
    let body = "x".repeat(200 << 10);
    let answer = send(cluster.functions(), "POST", &format!("/shop/{IDEMPOTENT}/echo"), &[], &body).await;
    assert!(answer.status == 200 && answer.text() == body);
}
