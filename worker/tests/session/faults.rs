//! Gateways that break the protocol, or are not of the cluster: they lose their session, and nobody else does.

use std::time::Duration;

use bytes::Bytes;
use dunlin_proto::internal::v1::{
    Begin, Body, Header, OpenSessionRequest, SessionHello, VersionRef, open_session_request::Frame as Ask,
    open_session_response::Frame, session_service_client::SessionServiceClient,
};
use tokio::time::timeout;
use tonic::{Code, transport::Endpoint};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use crate::{
    cluster::{Cluster, eventually, secret},
    gateway::{Gateway, hello, message, open},
    guests,
};

#[tokio::test]
async fn t47_nothing_is_served_without_the_secret() {
    let cluster = Cluster::with_worker().await;
    let channel = Endpoint::from_shared(format!("http://{}", cluster.address)).unwrap().connect().await.unwrap();
    let stream = futures::stream::pending::<OpenSessionRequest>();
    let error = SessionServiceClient::new(channel.clone()).open_session(stream).await.unwrap_err();
    assert_eq!(error.code(), Code::Unauthenticated);
    let request = dunlin_proto::internal::v1::ReadWorkerLogsRequest::default();
    let mut logs = dunlin_proto::internal::v1::worker_log_service_client::WorkerLogServiceClient::new(channel);
    assert_eq!(logs.read_worker_logs(request).await.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test]
async fn a_worker_says_that_it_is_well() {
    let cluster = Cluster::with_worker().await;
    let channel = Endpoint::from_shared(format!("http://{}", cluster.address)).unwrap().connect().await.unwrap();
    let mut health = HealthClient::with_interceptor(channel, secret().attach());
    for service in ["", "dunlin.internal.v1.SessionService"] {
        let answer = health.check(HealthCheckRequest { service: service.into() }).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving);
    }
}

#[tokio::test]
async fn a_hello_that_does_not_fit_is_refused_with_the_reason() {
    let cluster = Cluster::with_worker().await;
    let wrong = |change: fn(&mut SessionHello)| {
        let mut hello = hello("w1/1");
        change(&mut hello);
        message(0, Ask::Hello(hello))
    };
    for (first, words) in [
        (wrong(|hello| hello.protocol_version = 2), "version 2"),
        (wrong(|hello| hello.endpoint = "w2/1".into()), "this is endpoint w1/1"),
        (wrong(|hello| hello.epoch = 3), "epoch"),
        (message(1, Ask::Hello(hello("w1/1"))), "begins with a hello"),
        (message(0, Ask::Credit(1)), "begins with a hello"),
        (OpenSessionRequest::default(), "begins with a hello"),
    ] {
        let error = open(cluster.address, first).await.unwrap_err();
        assert!(error.message().contains(words), "{error:?}");
    }
}

#[tokio::test]
async fn a_gateway_that_breaks_the_protocol_loses_its_session_and_no_other_does() {
    let mut cluster = Cluster::with_worker().await;
    let echo = cluster.deploy("echo", guests::ECHO).await;
    let mut good = Gateway::connect(cluster.address).await;
    let mut staying = good.begin(&echo, b"here", false).await;
    assert!(matches!(staying.next().await, Frame::Head(_)));
    let body = |bytes| Body { data: Bytes::from(vec![0; bytes]), last: false, trailers: Vec::new() };
    let bad_trailer = Header { name: "a b".into(), value: Bytes::new() };
    let cases = [
        ("another epoch", vec![OpenSessionRequest { epoch: 1, ..message(1, Ask::Credit(1)) }]),
        ("an unknown frame", vec![OpenSessionRequest { frame: None, ..message(1, Ask::Credit(1)) }]),
        ("a second hello", vec![message(0, Ask::Hello(hello("w1/1")))]),
        ("a body of nothing", vec![message(9, Ask::Body(body(1)))]),
        ("credit for nothing", vec![message(9, Ask::Credit(1))]),
        ("number 0", vec![message(0, Ask::Begin(Begin::default()))]),
        ("a number twice", vec![message(1, Ask::Begin(Begin::default()))]),
        ("a far number", vec![message(1 << 60, Ask::Begin(Begin::default()))]),
        ("a large piece", vec![message(1, Ask::Body(body((64 << 10) + 1)))]),
        ("more than the credit", vec![message(1, Ask::Body(body(64 << 10))); 32]),
        ("absurd credit", vec![message(1, Ask::Credit(u64::MAX))]),
        ("bad trailers", vec![message(1, Ask::Body(Body { trailers: vec![bad_trailer], last: true, ..body(0) }))]),
        ("a huge message", vec![message(1, Ask::Body(body(2 << 20)))]),
    ];
    for (name, messages) in cases {
        let mut bad = Gateway::connect(cluster.address).await;
        // It answers nothing, so that credit stays used up.
        let mut call = bad.begin(&echo, b"", false).await;
        assert!(matches!(call.next().await, Frame::Head(_)), "{name}");
        bad.provoke(messages).await;
        let status = bad.end().await;
        assert_eq!(status.code(), Code::InvalidArgument, "{name}: {status:?}");
        assert!(!status.message().is_empty(), "{name}");
    }
    eventually("the calls of lost sessions end", || cluster.load_of(&echo).unwrap().in_flight == 1).await;
    staying.body(b", still", true).await;
    assert_eq!(staying.finish().await.body, b"here, still");
}

#[tokio::test]
async fn a_body_beyond_its_credit_ends_its_gateways_session_which_is_told_why_and_no_other() {
    let mut cluster = Cluster::with_worker().await;
    let (echo, spin) = (cluster.deploy("echo", guests::ECHO).await, cluster.deploy("spin", guests::SPIN).await);
    let mut good = Gateway::connect(cluster.address).await;
    let staying = good.begin(&echo, b"here", false).await;
    let mut bad = Gateway::connect(cluster.address).await;
    // It reads nothing, so that credit is used up soon.
    let greedy = bad.begin(&spin, b"", false).await;
    for _ in 0..4 {
        greedy.body(&[0; 64 << 10], false).await;
    }
    assert_eq!(bad.call(&echo, b"all of it may be used").await.body, b"all of it may be used");
    let _beside = bad.begin(&echo, b"", false).await;
    eventually("all run", || cluster.load_of(&echo).unwrap().in_flight == 2).await;
    let piece = Body { data: Bytes::from(vec![0; 64 << 10]), last: false, trailers: Vec::new() };
    bad.provoke(vec![message(greedy.number, Ask::Body(piece)); 32]).await;
    let status = bad.end().await;
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("65536 bytes of a body with a credit of 0"), "{status:?}");
    let running = |version| cluster.load_of(version).unwrap().in_flight;
    eventually("what that gateway began is stopped", || (running(&echo), running(&spin)) == (1, 0)).await;
    staying.body(b", still", true).await;
    assert_eq!(staying.finish().await.body, b"here, still");
    assert_eq!(Gateway::connect(cluster.address).await.call(&echo, b"again").await.body, b"again");
}

#[tokio::test]
async fn a_gateway_that_begins_calls_without_end_and_hears_no_answer_loses_its_session() {
    let mut cluster = Cluster::with_worker().await;
    let echo = cluster.deploy("echo", guests::ECHO).await;
    let (sender, mut answers, _) = open(cluster.address, message(0, Ask::Hello(hello("w1/1")))).await.unwrap();
    for number in 1..200_000 {
        // Each is refused, but nobody takes the refusal. A session that has ended reads no more.
        let begin = sender.send(message(number, Ask::Begin(Begin::default())));
        if !matches!(timeout(Duration::from_secs(6), begin).await, Ok(Ok(()))) {
            break;
        }
    }
    let mut good = Gateway::connect(cluster.address).await;
    assert_eq!(good.call(&echo, b"meanwhile").await.body, b"meanwhile");
    let status = loop {
        match timeout(Duration::from_secs(20), answers.message()).await.unwrap() {
            Ok(answer) => assert!(answer.is_some(), "it ended without a reason"),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("65536 invocations at once"), "{status:?}");
}

#[tokio::test]
async fn a_call_that_makes_no_sense_is_refused_alone() {
    let mut cluster = Cluster::with_worker().await;
    let hello = cluster.deploy("hello", guests::HELLO).await;
    let mut gateway = Gateway::connect(cluster.address).await;
    type Change = fn(&mut Begin);
    let cases: [(&str, Change); 5] = [
        ("invalid_argument", |begin| begin.id = Bytes::from_static(b"x")),
        ("invalid_argument", |begin| begin.version = None),
        ("invalid_argument", |begin| begin.method = "NOT A METHOD".into()),
        ("invalid_argument", |begin| begin.path_and_query = "/ /".into()),
        ("unavailable", |begin| {
            let function_uid = dunlin_proto::ids::FunctionUid::new().to_string();
            begin.version = Some(VersionRef { function_uid, number: 1 });
        }),
    ];
    for (code, change) in cases {
        let answer = gateway.begin_with(&hello, b"", true, change).await.finish().await;
        assert_eq!(answer.refusal.expect("no guest ran").code, code);
    }
    assert_eq!(gateway.call(&hello, b"").await.body, b"hello");
}

#[tokio::test]
async fn a_lost_gateway_takes_its_calls_with_it() {
    let mut cluster = Cluster::with_worker().await;
    let spin = cluster.deploy("spin", guests::SPIN).await;
    let mut gateway = Gateway::connect(cluster.address).await;
    let call = gateway.begin(&spin, b"", true).await;
    eventually("it runs", || cluster.load_of(&spin).unwrap().in_flight == 1).await;
    drop((call, gateway));
    eventually("it is stopped", || cluster.load_of(&spin).unwrap().in_flight == 0).await;
}
