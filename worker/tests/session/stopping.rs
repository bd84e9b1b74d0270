//! A worker that is told to stop: finishes what runs, takes nothing new, and leaves in time.

use std::time::Duration;

use dunlin_proto::internal::v1::open_session_response::Frame;
use tokio::time::{Instant, timeout};
use tonic::Code;

use crate::{
    cluster::{Cluster, eventually},
    gateway::{Gateway, hello, message, open},
    guests,
};

#[tokio::test]
async fn a_stopping_worker_finishes_what_runs_and_takes_nothing_new() {
    let mut cluster = Cluster::with_worker().await;
    let echo = cluster.deploy("echo", guests::ECHO).await;
    let mut gateway = Gateway::connect(cluster.address).await;
    let mut idle = Gateway::connect(cluster.address).await;
    let mut running = gateway.begin(&echo, b"before", false).await;
    assert!(matches!(running.next().await, Frame::Head(_)));
    let stopped = cluster.begin_stop();
    assert_eq!(idle.end().await.code(), Code::Ok, "a session without calls is closed");
    let goaway = gateway.goaway.wait_for(|goaway| *goaway);
    timeout(Duration::from_secs(20), goaway).await.unwrap().unwrap();
    eventually("it says that it leaves", || cluster.scheduler.0.load.lock().unwrap().leaving).await;
    let refusal = gateway.call(&echo, b"").await.refusal.unwrap();
    assert_eq!(refusal.code, "unavailable");
    running.body(b", after", true).await;
    let answer = running.finish().await;
    assert_eq!((answer.body.as_slice(), answer.end.outcome.as_str()), (&b"before, after"[..], "ok"));
    assert_eq!(gateway.end().await.code(), Code::Ok);
    timeout(Duration::from_secs(20), stopped).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn what_does_not_end_within_the_grace_period_is_stopped() {
    let mut cluster = Cluster::new().await;
    cluster.start_worker(|config| config.grace = Duration::from_millis(300)).await;
    let spin = cluster.deploy("spin", guests::SPIN).await;
    let mut gateway = Gateway::connect(cluster.address).await;
    let _running = gateway.begin(&spin, b"", true).await;
    eventually("it runs", || cluster.load_of(&spin).unwrap().in_flight == 1).await;
    let began = Instant::now();
    cluster.stop_worker().await;
    // It would go on for ten seconds.
    assert!((300..8000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    assert_eq!(gateway.end().await.code(), Code::Unavailable);
}

#[tokio::test]
async fn an_idle_worker_stops_at_once() {
    let mut cluster = Cluster::with_worker().await;
    // Where the machine stands still just then, it is tried again.
    let mut times = Vec::new();
    while times.iter().all(|time| *time >= Duration::from_secs(2)) {
        assert!(times.len() < 3, "{times:?}");
        let mut gateway = Gateway::connect(cluster.address).await;
        let began = Instant::now();
        cluster.stop_worker().await;
        times.push(began.elapsed());
        assert_eq!(gateway.end().await.code(), Code::Ok);
        let refused = tokio::net::TcpStream::connect(cluster.address).await.is_err();
        assert!(refused, "nobody listens any more");
        // Its folder is free for the next one.
        cluster.start_worker(|_| {}).await;
    }
    let first = message(0, dunlin_proto::internal::v1::open_session_request::Frame::Hello(hello("w1/1")));
    assert!(open(cluster.address, first).await.is_ok());
}
