//! Limits: sizes, times, and the errors that name them.

use std::{sync::atomic::Ordering, time::Duration};

use bytes::Bytes;
use dunlin_proto::{
    internal::v1::{ConfigDelta, NamespaceLimit, NamespaceLimits, NamespaceRate},
    v1::{RateLimit, RatePeriod},
};
use futures::stream;
use http::Request;
use http_body::Frame;
use http_body_util::{Full, StreamBody};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::{Cluster, PRIVATE, Plan, connect, eventually, get, h1, h2, raw};

const LIMIT: usize = 1 << 20;

#[tokio::test]
async fn a_body_over_the_limit_is_refused_at_once_or_on_the_way() {
    let cluster = Cluster::start().await;
    let post = async |path: &str, body: Full<Bytes>| {
        let request = Request::post(format!("/shop/open{path}")).header("host", "h").body(body).unwrap();
        h1(cluster.functions(), request).await
    };
    let answer = post("/echo", Full::new(vec![0; LIMIT].into())).await;
    assert_eq!((answer.status, answer.body.len()), (200, LIMIT));
    // Announced: nothing is read, and no worker hears of it.
    let (answer, closed) = raw(
        cluster.functions(),
        format!("POST /shop/open/ HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n", LIMIT + 1).as_bytes(),
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("payload_too_large") && closed, "{answer}");
    assert_eq!(cluster.workers[0].begins().len(), 1);
    // Not announced: refused when the limit is passed, though the function reads on.
    let pieces =
        (0..LIMIT / 32_768 + 1).map(|_| Ok::<_, std::convert::Infallible>(Frame::data(Bytes::from(vec![0; 32_768]))));
    let body = StreamBody::new(stream::iter(pieces.collect::<Vec<_>>()));
    let request = Request::post("http://h/shop/open/swallow").body(body).unwrap();
    let answer = h2(cluster.functions(), request).await;
    assert_eq!((answer.status, answer.code().as_str()), (413, "payload_too_large"));
}

#[tokio::test]
async fn a_client_that_reads_only_after_it_has_written_gets_the_refusal() {
    let cluster = Cluster::start().await;
    let mut stream = tokio::net::TcpStream::connect(cluster.functions()).await.unwrap();
    stream
        .write_all(b"POST /shop/open/swallow HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await
        .unwrap();
    let chunk = [b"10000\r\n".as_slice(), &[0; 65_536], b"\r\n"].concat();
    for _ in 0..256 {
        stream.write_all(&chunk).await.unwrap();
    }
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("payload_too_large"), "{answer}");
}

#[tokio::test]
async fn t31_heads_over_the_limit_are_refused() {
    let cluster = Cluster::start().await;
    let long = "a".repeat(16 << 10);
    let answer = cluster.call("GET", &format!("/{long}"), &[], "").await;
    assert_eq!((answer.status, answer.code().as_str()), (414, "uri_too_long"));
    let (a, b, c) = ("a".repeat(12 << 10), "b".repeat(12 << 10), "c".repeat(12 << 10));
    let answer = cluster.call("GET", "/", &[("x-a", &a), ("x-b", &b), ("x-c", &c)], "").await;
    assert_eq!((answer.status, answer.code().as_str()), (431, "headers_too_large"));
    assert_eq!(cluster.call("GET", "/", &[("x-a", &a), ("x-b", &b)], "").await.status, 200);
    let many: String = (0..150).map(|n| format!("x-{n}: 1\r\n")).collect();
    let (answer, _) =
        raw(cluster.functions(), format!("GET /shop/open HTTP/1.1\r\nHost: h\r\n{many}\r\n").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431") && answer.contains("headers_too_large"), "{answer}");
    // Beyond what is read at all.
    let huge = "x".repeat(300 << 10);
    let (answer, closed) =
        raw(cluster.functions(), format!("GET /shop/open HTTP/1.1\r\nHost: h\r\nx: {huge}\r\n\r\n").as_bytes()).await;
    // What is still on its way may turn the goodbye into a reset.
    assert!((answer.is_empty() || answer.contains("headers_too_large")) && closed, "{answer}");
    assert_eq!(cluster.call("GET", "/", &[], "").await.status, 200);
}

#[tokio::test]
async fn the_time_of_an_invocation_ends_and_the_error_names_the_stage() {
    // Enough for a call to begin, whatever happens.
    let plan = || Plan { timeout: Duration::from_secs(2), ..Plan::default() };
    let cluster = Cluster::with(plan()).await;
    for path in ["/hang", "/silent"] {
        let answer = cluster.call("GET", path, &[], "").await;
        assert_eq!((answer.status, answer.code().as_str()), (504, "deadline_exceeded"), "{path}");
        assert!(answer.text().contains("running the function"), "{}", answer.text());
    }
    eventually("a cancel", async || cluster.workers[0].cancels() == ["deadline_exceeded", "deadline_exceeded"]).await;
    let cluster = Cluster::with(Plan { placed: false, ..plan() }).await;
    let answer = cluster.call("GET", "/", &[], "").await;
    assert_eq!((answer.status, answer.code().as_str()), (504, "deadline_exceeded"));
    assert!(answer.text().contains("waiting for a worker"), "{}", answer.text());
}

#[tokio::test]
async fn t30_a_caller_that_sends_too_slowly_is_refused() {
    let configure = |config: &mut dunlin_gateway::Config| config.limits.body_patience = Duration::from_secs(2);
    let cluster = Cluster::with(Plan { configure, ..Plan::default() }).await;
    let mut stream = connect(cluster.functions()).await;
    stream.write_all(b"POST /shop/open/hang HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nhalf").await.unwrap();
    let mut answer = vec![0; 16];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&answer), "HTTP/1.1 408 Req");
    eventually("a cancel", async || cluster.workers[0].cancels() == ["request_timeout"]).await;
}

#[tokio::test]
async fn a_caller_is_told_to_go_on_only_where_its_body_is_wanted() {
    let cluster = Cluster::start().await;
    let head = |length: usize| {
        format!("POST /shop/open/echo HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n")
    };
    let mut stream = connect(cluster.functions()).await;
    stream.write_all(head(5).as_bytes()).await.unwrap();
    let mut answer = [0; 25];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"hello").await.unwrap();
    let mut answer = vec![0; 15];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, b"HTTP/1.1 200 OK");
    let (answer, _) = raw(cluster.functions(), head(LIMIT + 1).as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}

#[tokio::test]
async fn a_gateway_takes_so_many_invocations_at_once_and_no_more() {
    let configure = |config: &mut dunlin_gateway::Config| config.dispatch.in_flight = 1;
    let cluster = Cluster::with(Plan { configure, ..Plan::default() }).await;
    let mut stream = connect(cluster.functions()).await;
    stream.write_all(b"GET /shop/open/hang HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    eventually("the call", async || cluster.workers[0].begins().len() == 1).await;
    let answer = cluster.call("GET", "/", &[], "").await;
    assert_eq!(
        (answer.status, answer.code().as_str(), answer.header("retry-after").as_str()),
        (503, "unavailable", "1")
    );
    drop(stream);
    eventually("a free place", async || cluster.call("GET", "/", &[], "").await.status == 200).await;
}

#[tokio::test]
async fn a_namespace_over_its_limit_gets_429_until_the_limit_is_lifted() {
    let cluster = Cluster::start().await;
    let limits = |base_version, max: Option<u32>| {
        let limit = |max_concurrency| NamespaceLimit { namespace: "shop".into(), max_concurrency };
        let limits = Some(NamespaceLimits { limits: max.map(limit).into_iter().collect(), ..Default::default() });
        ConfigDelta { base_version, version: base_version + 1, limits, ..ConfigDelta::default() }
    };
    assert_eq!(cluster.call("GET", "/", &[], "").await.status, 200);
    cluster.scheduler.deltas.send(limits(7, Some(0))).unwrap();
    eventually("the limit", async || cluster.call("GET", "/", &[], "").await.status == 429).await;
    let answer = cluster.call("GET", "/", &[], "").await;
    assert_eq!((answer.code().as_str(), answer.header("retry-after").as_str()), ("too_many_requests", "1"));
    assert!(answer.text().contains("namespace shop has reached its max_concurrency of 0"), "{}", answer.text());
    let before = cluster.workers[0].begins().len();
    cluster.call("GET", "/", &[], "").await;
    assert_eq!(cluster.workers[0].begins().len(), before, "no worker hears of it");
    let stranger = get(cluster.functions(), &format!("/shop/{PRIVATE}/")).await;
    assert_eq!(stranger.status, 401, "who may not call learns nothing of the limits");
    cluster.scheduler.deltas.send(limits(8, None)).unwrap();
    eventually("no limit", async || cluster.call("GET", "/", &[], "").await.status == 200).await;
}

fn rates(base_version: u64, rate: Option<RateLimit>) -> ConfigDelta {
    let rate = rate.map(|rate| NamespaceRate { namespace: "shop".into(), rate: Some(rate) });
    let limits = Some(NamespaceLimits { rates: rate.into_iter().collect(), ..NamespaceLimits::default() });
    ConfigDelta { base_version, version: base_version + 1, limits, ..ConfigDelta::default() }
}

#[tokio::test]
async fn a_rate_is_kept_to_by_a_part_that_the_scheduler_lends() {
    let cluster = Cluster::start().await;
    let rate = RateLimit { requests: 40, period: RatePeriod::Second.into(), burst: Some(32) };
    cluster.scheduler.deltas.send(rates(7, Some(rate))).unwrap();
    let call = async || cluster.call("GET", "/", &[], "").await;
    let mut answer = call().await;
    // Many at once, which is more than the rate also on a slow machine.
    eventually("a refusal", async || {
        let answers = futures::future::join_all((0..50).map(|_| call())).await;
        answers.into_iter().find(|answer| answer.status == 429).is_some_and(|refused| {
            answer = refused;
            true
        })
    })
    .await;
    assert_eq!((answer.code().as_str(), answer.header("retry-after").as_str()), ("too_many_requests", "1"));
    assert_eq!(answer.header("ratelimit-policy"), "\"namespace-rate\";q=40;w=1");
    assert_eq!(answer.header("ratelimit"), "\"namespace-rate\";r=0;t=1");
    let text = answer.text();
    assert!(text.contains("namespace shop has reached its rate of 40/s with a burst of 32"), "{text}");
    assert!(text.contains("\"kind\":\"rate\"") && text.contains("\"allowed\":40"), "{text}");
    assert_eq!(cluster.scheduler.seen.admissions.load(Ordering::SeqCst), 0);
    eventually("what is earned", async || call().await.status == 200).await;
    cluster.scheduler.deltas.send(rates(8, None)).unwrap();
    eventually("no limit", async || {
        let answers = futures::future::join_all((0..50).map(|_| call())).await;
        answers.iter().all(|answer| answer.status == 200)
    })
    .await;
}

#[tokio::test]
async fn small_rates_are_granted_one_by_one_and_refusals_cost_no_question() {
    let cluster = Cluster::start().await;
    let rate = RateLimit { requests: 1, period: RatePeriod::Minute.into(), burst: Some(1) };
    cluster.scheduler.deltas.send(rates(7, Some(rate))).unwrap();
    let asked = || cluster.scheduler.seen.admissions.load(Ordering::SeqCst);
    eventually("the limit", async || cluster.call("GET", "/", &[], "").await.status == 429).await;
    assert_eq!(asked(), 2, "one was admitted, one refused");
    for _ in 0..20 {
        let answer = cluster.call("GET", "/", &[], "").await;
        let after: u32 = answer.header("retry-after").parse().unwrap();
        assert!(answer.status == 429 && (40..=60).contains(&after), "{} {after}", answer.status);
    }
    assert_eq!(asked(), 2);
}
