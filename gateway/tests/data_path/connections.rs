//! Connections that stall, flood or break, while others are served.

use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use http::Request;
use http_body_util::Full;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, timeout},
};

use crate::harness::{Cluster, Plan, connect, raw};

/// For longer than a machine may stand still between two steps of a good caller, and much shorter than usually.
fn impatient() -> Plan {
    let configure = |config: &mut dunlin_gateway::Config| {
        config.limits.header_timeout = Duration::from_secs(2);
        config.limits.idle_timeout = Duration::from_secs(2);
    };
    Plan { configure, ..Plan::default() }
}

#[tokio::test]
async fn t30_connections_that_stall_are_closed_and_others_are_served() {
    let cluster = Cluster::with(impatient()).await;
    for address in [cluster.functions(), cluster.addresses.admin] {
        let stalls: [&[u8]; 6] = [
            b"",
            b"G",
            b"PRI * HTTP/2.0\r\n",
            b"GET / HTTP/1.1\r\nHost: h\r\nX-A",
            b"\x16\x03\x01",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        ];
        let stalled = join_all(stalls.iter().cycle().take(60).map(async |bytes| {
            let mut stream = connect(address).await;
            // It is closed already where all of this machine has stood still.
            let _ = stream.write_all(bytes).await;
            let mut rest = Vec::new();
            let closed = timeout(Duration::from_secs(20), stream.read_to_end(&mut rest)).await;
            assert!(closed.is_ok(), "{bytes:?} stayed open");
        }));
        let begun = Instant::now();
        let served = async {
            while begun.elapsed() < Duration::from_millis(2500) {
                assert_eq!(cluster.call("GET", "/", &[], "").await.status, 200);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        futures::join!(stalled, served);
    }
}

#[tokio::test]
async fn t30_a_head_that_trickles_is_closed() {
    let cluster = Cluster::with(impatient()).await;
    let mut stream = connect(cluster.functions()).await;
    let begun = Instant::now();
    for byte in b"GET /shop/open HTTP" {
        stream.write_all(&[*byte]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
    let mut rest = Vec::new();
    timeout(Duration::from_secs(20), stream.read_to_end(&mut rest)).await.unwrap().unwrap();
    // Without being told to be impatient, it would wait for ten seconds.
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    let text = String::from_utf8_lossy(&rest);
    assert!(text.starts_with("HTTP/1.1 408") && text.contains("request_timeout"), "{text}");
}

/// A head and, after a moment, its body: what libraries of clients send as two writes.
async fn in_two_writes(stream: &mut tokio::net::TcpStream, path: &str) -> String {
    let head =
        format!("POST {path} HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"}") {
        assert!(stream.read_buf(&mut answer).await.unwrap() > 0, "closed after {:?}", String::from_utf8_lossy(&answer));
    }
    stream.write_all(b"{}").await.unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn a_refusal_before_the_body_came_leaves_the_connection_usable() {
    let cluster = Cluster::start().await;
    for (address, path) in
        [(cluster.functions(), "/shop/closed/"), (cluster.addresses.admin, "/api/v1/namespaces/shop/keys")]
    {
        let mut stream = connect(address).await;
        for _ in 0..3 {
            let answer = in_two_writes(&mut stream, path).await;
            assert!(answer.starts_with("HTTP/1.1 401") && !answer.contains("connection: close"), "{answer}");
        }
    }
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_at_once() {
    let configure = |config: &mut dunlin_gateway::Config| config.limits.connections = 3;
    let cluster = Cluster::with(Plan { configure, ..Plan::default() }).await;
    let mut held = Vec::new();
    // The place of the last look at its health may not be free yet.
    crate::harness::eventually("three places", async || {
        let mut stream = connect(cluster.functions()).await;
        let _ = stream.write_all(b"GET /.well-known/dunlin/health HTTP/1.1\r\nHost: h\r\n\r\n").await;
        if stream.read_exact(&mut [0; 15]).await.is_ok() {
            held.push(stream);
        }
        held.len() == 3
    })
    .await;
    let (answer, closed) = raw(cluster.functions(), b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert!(answer.is_empty() && closed);
    drop(held);
    crate::harness::eventually("a free place", async || {
        raw(cluster.functions(), b"GET /.well-known/dunlin/health HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
            .await
            .0
            .starts_with("HTTP/1.1 200")
    })
    .await;
}

#[tokio::test]
async fn t33_a_flood_of_resets_ends_its_own_connection_only() {
    let cluster = Cluster::start().await;
    let io = TokioIo::new(connect(cluster.functions()).await);
    let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    let shutdown = dunlin_process::shutdown::Shutdown::default();
    let flood = shutdown.spawn(connection);
    for _ in 0..3_000 {
        let mut sender = sender.clone();
        if sender.ready().await.is_err() {
            break;
        }
        let request = Request::get("http://h/shop/open/hang").body(Full::<Bytes>::default()).unwrap();
        // Dropped at once, which resets the stream.
        let _ = timeout(Duration::from_micros(50), sender.send_request(request)).await;
    }
    assert_eq!(cluster.call("GET", "/", &[], "").await.status, 200);
    drop(sender);
    flood.abort();
}

#[tokio::test]
async fn a_gateway_that_stops_lets_running_requests_end() {
    let configure = |config: &mut dunlin_gateway::Config| config.grace = Duration::from_secs(10);
    let mut cluster = Cluster::with(Plan { configure, ..Plan::default() }).await;
    let mut stream = connect(cluster.functions()).await;
    stream.write_all(b"GET /shop/open/slow-stream HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    let mut first = [0; 15];
    stream.read_exact(&mut first).await.unwrap();
    let address = cluster.functions();
    let rest = async {
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        String::from_utf8_lossy(&rest).matches("tick").count()
    };
    let (ticks, ()) = futures::join!(rest, cluster.stop_gateway());
    assert_eq!(ticks, 3);
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}
