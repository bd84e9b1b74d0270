//! T60-T64 with a real guest: what it may reach, and that a listener beside it sees nothing of what it may not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dunlin_proto::outbound::AllowedHosts;
use dunlin_worker::sandbox::{Limits, Policy, Program, Runtime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::build::build_rust;
use super::http::hostile;
use super::support::{call, get, load, small};

/// Answers every connection with the same bytes and keeps what it was sent.
struct Upstream {
    port: u16,
    connections: Arc<AtomicU32>,
    last: Arc<std::sync::Mutex<String>>,
    _task: JoinSet<()>,
}

impl Upstream {
    async fn start(answer: Vec<u8>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (connections, last) = (Arc::new(AtomicU32::new(0)), Arc::new(std::sync::Mutex::new(String::new())));
        let (counted, kept) = (connections.clone(), last.clone());
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                let (answer, kept) = (answer.clone(), kept.clone());
                open.spawn(async move {
                    let mut request = vec![0; 4096];
                    let length = stream.read(&mut request).await.unwrap_or(0);
                    *kept.lock().unwrap() = String::from_utf8_lossy(&request[..length]).into_owned();
                    if stream.write_all(&answer).await.is_ok() && answer.is_empty() {
                        tokio::time::sleep(Duration::from_secs(60)).await;
                    }
                });
            }
        });
        Self { port, connections, last, _task: task }
    }

    fn connections(&self) -> u32 {
        self.connections.load(Ordering::SeqCst)
    }
}

const FINE: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

fn allowing(patterns: &[&str]) -> Policy {
    Policy { allowed_outbound_hosts: AllowedHosts::parse(patterns).unwrap(), ..Policy::default() }
}

async fn outbound(program: &Program, what: &str) -> String {
    let answer = call(program, get(&format!("/outbound?{what}"))).await;
    assert_eq!(answer.code(), "ok", "{what}: {answer:?}");
    answer.text()
}

#[tokio::test]
async fn an_allowed_request_goes_out_as_we_frame_it() {
    let upstream = Upstream::start(FINE.to_vec()).await;
    let program = hostile(allowing(&["http://127.0.0.1:*"]));
    let target = format!("http|127.0.0.1:{}|/path?q=1", upstream.port);
    assert_eq!(outbound(&program, &target).await, "status 200");
    let seen = upstream.last.lock().unwrap().to_ascii_lowercase();
    assert!(seen.starts_with("get /path?q=1 http/1.1\r\n"), "{seen}");
    assert_eq!(seen.matches("host: ").count(), 1);
    assert!(seen.contains(&format!("host: 127.0.0.1:{}\r\n", upstream.port)), "{seen}");
    assert!(
        seen.contains("dunlin-depth: 1\r\n") && !seen.contains("dunlin-depth: 0"),
        "a guest set its own depth: {seen}"
    );
    assert!(!seen.contains("transfer-encoding"), "a body of nothing: {seen}");
}

#[tokio::test]
async fn nothing_goes_out_that_was_not_allowed() {
    let upstream = Upstream::start(FINE.to_vec()).await;
    let target = format!("http|127.0.0.1:{}|/", upstream.port);
    for policy in [
        Policy::default(),
        allowing(&["https://127.0.0.1:*"]),
        allowing(&["http://127.0.0.1"]),
        allowing(&["http://example.com:*"]),
    ] {
        assert!(outbound(&hostile(policy), &target).await.contains("HttpRequestDenied"));
    }
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test]
async fn t60_private_addresses_are_refused_however_they_are_spelled() {
    let upstream = Upstream::start(FINE.to_vec()).await;
    // A runtime of its own, for which no private network is open.
    let runtime = Runtime::new(&small()).unwrap();
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guests/hostile-http");
    let program = load(&runtime, &build_rust(&folder, "hostile_http.wasm"), allowing(&["*://*:*"]));
    let hosts = [
        "127.0.0.1",
        "127.1",
        "127.0.1",
        "2130706433",
        "0x7f000001",
        "0x7f.0.0.1",
        "0177.0.0.1",
        "017700000001",
        "0.0.0.0",
        "0",
        "localhost",
        "localhost.",
        "LOCALHOST",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "127.0.0.1.",
        "metadata.google.internal",
        "169.254.169.254",
        "[fe80::1]",
        "[fd00::1]",
    ];
    for host in hosts {
        let refused = outbound(&program, &format!("http|{host}:{}|/", upstream.port)).await;
        assert!(!refused.starts_with("status"), "{host}: {refused}");
        assert!(
            refused.contains("Prohibited")
                || refused.contains("refused")
                || refused.contains("Invalid")
                || refused.contains("Dns"),
            "{host}: {refused}"
        );
    }
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test]
async fn t62_no_spelling_of_a_request_reaches_another_host() {
    let (upstream, other) = (Upstream::start(FINE.to_vec()).await, Upstream::start(FINE.to_vec()).await);
    let program = hostile(allowing(&[&format!("http://127.0.0.1:{}", upstream.port)]));
    let (port, elsewhere) = (upstream.port, other.port);
    let table = [
        format!("http|127.0.0.1:{elsewhere}|/"),
        format!("http|127.0.0.1:{port}@127.0.0.1:{elsewhere}|/"),
        format!("http|user@127.0.0.1:{port}|/"),
        format!("http|127.0.0.1:{port}|http://127.0.0.1:{elsewhere}/"),
        format!("http|127.0.0.1:{port}|//127.0.0.1:{elsewhere}/"),
        format!("http|127.0.0.1:{port}|*"),
        format!("http|127.0.0.1:{port}/|/"),
        format!("http|127.0.0.1:{port}%23@127.0.0.1:{elsewhere}|/"),
        "http||/".to_owned(),
        "http|127.0.0.1:0|/".to_owned(),
        "http|127.0.0.1:99999|/".to_owned(),
        format!("file|127.0.0.1:{port}|/"),
        format!("unix|127.0.0.1:{port}|/"),
    ];
    for what in table {
        let answer = outbound(&program, &what).await;
        assert_eq!(other.connections(), 0, "{what} reached the other host: {answer}");
        // A path with two slashes is a path of the right host.
        assert_eq!(answer.starts_with("status"), what.contains("|//"), "{what}: {answer}");
    }
}

#[tokio::test]
async fn t62_redirects_are_answers_and_are_not_followed() {
    let other = Upstream::start(FINE.to_vec()).await;
    let redirect =
        format!("HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:{}/\r\ncontent-length: 0\r\n\r\n", other.port);
    let upstream = Upstream::start(redirect.into_bytes()).await;
    let program = hostile(allowing(&["http://127.0.0.1:*"]));
    assert_eq!(outbound(&program, &format!("http|127.0.0.1:{}|/", upstream.port)).await, "status 302");
    assert_eq!(other.connections(), 0);
}

#[tokio::test]
async fn t63_timeouts_of_zero_and_of_ages_are_taken_as_sensible_ones() {
    let upstream = Upstream::start(FINE.to_vec()).await;
    let program = hostile(allowing(&["http://127.0.0.1:*"]));
    let target = format!("http|127.0.0.1:{}|/", upstream.port);
    assert_eq!(outbound(&program, &format!("{target}|{}", u64::MAX)).await, "status 200");
    let zero = outbound(&program, &format!("{target}|0")).await;
    assert!(zero.starts_with("status") || zero.contains("Timeout"), "{zero}");
    let silent = Upstream::start(Vec::new()).await;
    let late = outbound(&program, &format!("http|127.0.0.1:{}|/|50000000", silent.port)).await;
    assert!(late.contains("Timeout"), "{late}");
}

#[tokio::test]
async fn t63_requests_of_an_invocation_are_counted() {
    let upstream = Upstream::start(FINE.to_vec()).await;
    let limits = Limits { outbound_total: 5, ..Limits::default() };
    let program = hostile(Policy { limits, ..allowing(&["http://127.0.0.1:*"]) });
    let answer = call(&program, get(&format!("/many-outbound?8|http|127.0.0.1:{}|/", upstream.port))).await;
    assert!(answer.text().starts_with("5 ") && answer.text().contains("ConnectionLimitReached"), "{}", answer.text());
    assert_eq!(upstream.connections(), 5);
}

#[tokio::test]
async fn t63_chains_of_functions_end() {
    let upstream = Upstream::start(FINE.to_vec()).await;
    let program = hostile(allowing(&["http://127.0.0.1:*"]));
    for (depth, ends) in [("0", false), ("15", false), ("16", true), ("4294967296", true), ("-1", true), ("x", true)] {
        let mut request = get(&format!("/outbound?http|127.0.0.1:{}|/", upstream.port));
        request.headers_mut().insert("dunlin-depth", depth.parse().unwrap());
        let text = call(&program, request).await.text();
        assert_eq!(text.contains("LoopDetected"), ends, "depth {depth}: {text}");
    }
    assert!(upstream.last.lock().unwrap().contains("dunlin-depth: 16"));
}

#[tokio::test]
async fn t64_hostile_servers_end_at_the_limits() {
    let program = hostile(Policy {
        limits: Limits { outbound_response_bytes: 100_000, ..Limits::default() },
        ..allowing(&["http://127.0.0.1:*"])
    });
    let headers = |count: usize, length: usize| {
        let fields: String = (0..count).map(|index| format!("x-{index}: {}\r\n", "v".repeat(length))).collect();
        format!("HTTP/1.1 200 OK\r\n{fields}content-length: 0\r\n\r\n").into_bytes()
    };
    let long = [b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n".to_vec(), vec![b'x'; 1_000_000]].concat();
    let table = [
        ("many headers", headers(1000, 10)),
        ("large headers", headers(10, 50_000)),
        ("a body too large", long),
        ("a body cut off", b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc".to_vec()),
        ("broken chunks", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n".to_vec()),
        ("no HTTP", b"SSH-2.0-OpenSSH\r\n".to_vec()),
        ("two lengths", b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab".to_vec()),
    ];
    for (what, answer) in table {
        let upstream = Upstream::start(answer).await;
        let text = outbound(&program, &format!("http|127.0.0.1:{}|/", upstream.port)).await;
        assert!(!text.starts_with("status"), "{what}: {text}");
    }
}

#[tokio::test]
async fn a_certificate_that_nobody_signed_is_refused() {
    let upstream = Upstream::start(b"not TLS".to_vec()).await;
    let program = hostile(allowing(&["https://127.0.0.1:*"]));
    let text = outbound(&program, &format!("https|127.0.0.1:{}|/", upstream.port)).await;
    assert!(text.contains("Tls"), "{text}");
}

#[tokio::test]
async fn the_deadline_ends_a_request_that_waits() {
    let silent = Upstream::start(Vec::new()).await;
    let limits = Limits { wall: Duration::from_millis(300), ..Limits::default() };
    let program = hostile(Policy { limits, ..allowing(&["http://127.0.0.1:*"]) });
    let answer = call(&program, get(&format!("/outbound?http|127.0.0.1:{}|/", silent.port))).await;
    // By itself the request would wait for half a minute.
    assert!(answer.took < Duration::from_secs(10), "{:?}", answer.took);
    assert!(answer.code() == "deadline_exceeded" || answer.text().contains("Timeout"), "{answer:?}");
}
