//! T34: callers by TLS. Who gets which certificate, which requests a connection may carry, and what goes on while
//! certificates are replaced.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use dunlin_gateway::{Config, Gateway};
use dunlin_process::shutdown::Shutdown;
use futures::future::join_all;
use http::Request;
use http_body_util::{Empty, Full};
use rustls::version::{TLS12, TLS13};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use crate::harness::{Authority, Cluster, Plan, connect, eventually, h1_on, h2_on, raw, send};

/// Certificates for `a.test` and `b.test`, of which the second has more names.
fn secure(config: &mut Config) {
    let authority = Authority::of(config.data_dir.parent().unwrap());
    config.tls.certificates =
        vec![authority.issue("a", &["a.test", "127.0.0.1"]), authority.issue("b", &["b.test", "*.b.test"])];
    config.tls.reload = Duration::from_millis(20);
}

async fn cluster(configure: fn(&mut Config)) -> Cluster {
    Cluster::with(Plan { configure, ..Plan::default() }).await
}

fn request(uri: &str, host: Option<&str>) -> Request<Empty<Bytes>> {
    let request = Request::get(uri);
    let request = if let Some(host) = host { request.header("host", host) } else { request };
    request.body(Empty::new()).unwrap()
}

#[tokio::test]
async fn t34_callers_speak_tls_1_2_and_1_3_and_choose_their_protocol() {
    let cluster = cluster(secure).await;
    for version in [&TLS12, &TLS13] {
        for protocols in [&[b"h2".as_slice(), b"http/1.1"][..], &[b"http/1.1"], &[]] {
            let caller = cluster.authority().caller_with(&[version], protocols);
            let stream = caller.connect(cluster.functions(), "a.test").await.unwrap();
            let state = stream.get_ref().1;
            assert_eq!(state.protocol_version(), Some(version.version));
            assert_eq!(state.alpn_protocol(), protocols.first().copied());
            let answer = if protocols.first().is_some_and(|first| *first == b"h2") {
                h2_on(stream, request("https://a.test/shop/open/", None)).await.unwrap()
            } else {
                h1_on(stream, request("/shop/open/", Some("a.test"))).await.unwrap()
            };
            assert_eq!(answer.status, 200, "{answer:?}");
            let given = answer.json();
            assert!(given["headers"].as_array().unwrap().contains(&serde_json::json!(["x-forwarded-proto", "https"])));
        }
    }
    assert!(cluster.workers[0].begins().iter().all(|begin| begin.scheme == "https"));
    let stranger = cluster.authority().caller_with(&[&TLS13], &[b"spdy/1"]);
    assert!(stranger.connect(cluster.functions(), "a.test").await.is_err(), "nothing in common");
}

#[tokio::test]
async fn t34_a_connection_carries_requests_for_its_own_hosts_only() {
    let cluster = cluster(secure).await;
    let caller = cluster.authority().caller();
    // Shown another certificate, the client would not be here: its names are checked.
    for (name, host, status) in [
        ("a.test", "a.test", 200),
        ("a.test", "A.TEST.:443", 200),
        ("a.test", "b.test", 421),
        ("b.test", "a.test", 421),
        ("b.test", "b.test", 200),
        ("x.b.test", "y.b.test", 200),
        ("x.b.test", "b.test", 200),
        ("x.b.test", "x.y.b.test", 421),
        ("127.0.0.1", "c.test", 200),
    ] {
        let stream = caller.connect(cluster.functions(), name).await.unwrap();
        let answer = h1_on(stream, request("/shop/open/", Some(host))).await.unwrap();
        assert_eq!(answer.status, status, "{name} {host} {answer:?}");
        if status == 421 {
            assert_eq!(answer.code(), "misdirected_request");
            assert!(answer.text().contains("a connection of its own"), "{}", answer.text());
        }
    }
    let h2 = cluster.authority().caller_with(&[&TLS13], &[b"h2"]);
    let stream = h2.connect(cluster.functions(), "a.test").await.unwrap();
    assert_eq!(h2_on(stream, request("https://b.test/shop/open/", None)).await.unwrap().status, 421);
    // Nobody's name: the first certificate, which is not of that name.
    assert!(caller.connect(cluster.functions(), "c.test").await.unwrap_err().to_string().contains("certificate"));
    let reached = cluster.workers[0].begins();
    assert!(reached.iter().all(|begin| !matches!(begin.authority.as_str(), "x.y.b.test")));
}

#[tokio::test]
async fn http_in_the_clear_is_told_to_come_by_tls() {
    let cluster = cluster(secure).await;
    let (answer, closed) = raw(cluster.functions(), b"GET /shop/open/ HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("https://") && closed, "{answer}");
    for bytes in [b"\0\0\0".as_slice(), b"\r\n\r\n", &[0x16, 3, 1, 0, 5, 1, 2, 3, 4, 5]] {
        let (answer, closed) = raw(cluster.functions(), bytes).await;
        assert!(!answer.contains("HTTP") && closed, "{bytes:?} {answer}");
    }
    assert!(cluster.workers[0].begins().is_empty());
}

#[tokio::test]
async fn t30_handshakes_that_stall_are_ended_and_others_are_served() {
    let cluster = cluster(|config| {
        secure(config);
        // For longer than a machine may stand still between two steps of a good caller.
        config.limits.header_timeout = Duration::from_secs(2);
    })
    .await;
    let stalls: [&[u8]; 4] = [b"", b"\x16", b"\x16\x03\x01", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"];
    let stalled = join_all(stalls.iter().cycle().take(40).map(async |bytes| {
        let mut stream = connect(cluster.functions()).await;
        // It is closed already where all of this machine has stood still.
        let _ = stream.write_all(bytes).await;
        let mut rest = Vec::new();
        let closed = timeout(Duration::from_secs(20), stream.read_to_end(&mut rest)).await;
        assert!(closed.is_ok(), "{bytes:?} stayed open");
    }));
    let silent = async {
        let mut stream = cluster.authority().caller().connect(cluster.functions(), "a.test").await.unwrap();
        let closed = timeout(Duration::from_secs(20), stream.read_to_end(&mut Vec::new())).await;
        assert!(closed.is_ok(), "a connection without a request stayed open");
    };
    let caller = cluster.authority().caller();
    let served = async {
        for _ in 0..50 {
            assert_eq!(caller.get(cluster.functions(), "a.test", "/shop/open/").await.status, 200);
        }
    };
    futures::join!(stalled, silent, served);
}

#[tokio::test]
async fn a_handshake_has_a_place_among_the_connections() {
    let cluster = cluster(|config| {
        secure(config);
        config.limits.connections = 3;
    })
    .await;
    let caller = cluster.authority().caller();
    // The place of the last look at its health may not be free yet.
    let mut held = Vec::new();
    eventually("three places", async || {
        held.push(connect(cluster.functions()).await);
        let mut last = connect(cluster.functions()).await;
        held.len() >= 3 && matches!(timeout(Duration::from_millis(200), last.read(&mut [0])).await, Ok(Ok(0) | Err(_)))
    })
    .await;
    assert!(caller.connect(cluster.functions(), "a.test").await.is_err());
    drop(held);
    eventually("a free place", async || caller.connect(cluster.functions(), "a.test").await.is_ok()).await;
}

/// Calls on new connections until told to stop, and counts.
async fn call(cluster: &Cluster, stop: &AtomicBool, calls: &AtomicUsize) {
    let caller = cluster.authority().caller();
    while !stop.load(Ordering::Relaxed) {
        assert_eq!(caller.get(cluster.functions(), "a.test", "/shop/open/").await.status, 200);
        calls.fetch_add(1, Ordering::Relaxed);
    }
}

/// The certificate that somebody who asks for `a.test` is shown.
async fn shown(cluster: &Cluster) -> Vec<u8> {
    let stream = cluster.authority().caller().connect(cluster.functions(), "a.test").await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

#[tokio::test]
async fn t34_certificates_are_replaced_under_load_and_no_connection_notices() {
    let cluster = cluster(secure).await;
    let (stop, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let h2 = cluster.authority().caller_with(&[&TLS13], &[b"h2"]);
    let stream = h2.connect(cluster.functions(), "a.test").await.unwrap();
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut old, driver) =
        hyper::client::conn::http2::handshake(hyper_util::rt::TokioExecutor::new(), io).await.unwrap();
    Shutdown::default().spawn(driver);
    let replaced = async {
        let authority = cluster.authority();
        for _ in 0..3 {
            let before = shown(&cluster).await;
            authority.issue("a", &["a.test"]);
            eventually("the new certificate", async || shown(&cluster).await != before).await;
            let answer = old.send_request(request("https://a.test/shop/open/", None)).await.unwrap();
            assert_eq!(answer.status(), 200, "on the connection from before");
        }
        // A key of somebody else's: what was there stays.
        let before = shown(&cluster).await;
        std::fs::copy(authority.files("b").key, authority.files("a").key).unwrap();
        let seen = calls.load(Ordering::Relaxed);
        eventually("some calls", async || calls.load(Ordering::Relaxed) > seen + 20).await;
        assert_eq!(shown(&cluster).await, before);
        stop.store(true, Ordering::Relaxed);
    };
    futures::join!(replaced, call(&cluster, &stop, &calls), call(&cluster, &stop, &calls));
    assert!(calls.load(Ordering::Relaxed) > 20);
}

#[tokio::test]
async fn browsers_are_told_to_stay_with_https_where_that_is_configured() {
    let told = cluster(|config| {
        secure(config);
        config.tls.hsts = Some(Duration::from_secs(3600));
        config.tls.redirect = Some(([127, 0, 0, 1], 0).into());
    })
    .await;
    let caller = told.authority().caller();
    for path in ["/shop/open/", "/shop/missing/", "/.well-known/dunlin/health"] {
        let answer = caller.get(told.functions(), "a.test", path).await;
        assert_eq!(answer.header("strict-transport-security"), "max-age=3600", "{path}");
    }
    let clear = told.addresses.redirect.unwrap();
    let answer = send(clear, "POST", "/shop/open/x?y=z", &[("host", "a.test:80")], "{}").await;
    let port = told.functions().port();
    assert_eq!((answer.status, answer.header("location")), (308, format!("https://a.test:{port}/shop/open/x?y=z")));
    assert_eq!(answer.header("strict-transport-security"), "", "never in the clear");
    assert_eq!(send(clear, "GET", "/", &[("host", "a b")], "").await.status, 400);
    let plain = cluster(secure).await;
    let answer = plain.authority().caller().get(plain.functions(), "a.test", "/shop/open/").await;
    assert_eq!(answer.header("strict-transport-security"), "");
}

#[tokio::test]
async fn a_wrong_pair_is_named_and_nothing_has_begun() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::of(folder.path());
    let (a, b) = (authority.issue("a", &["a.test"]), authority.issue("b", &["b.test"]));
    let mut config = Config { data_dir: folder.path().join("gateway"), ..Config::default() };
    config.tls.certificates =
        vec![dunlin_gateway::CertificateConfig { certificate: a.certificate, key: b.key, passphrase: None }];
    let error = format!("{:#}", Gateway::bind(config.clone()).await.unwrap_err());
    assert!(error.contains("b.key is not that of the certificate in") && error.contains("a.pem"), "{error}");
    assert!(!config.data_dir.exists());
}

#[tokio::test]
async fn administration_beyond_loopback_speaks_tls_alone() {
    let cluster = cluster(|config| {
        secure(config);
        config.admin = ([0, 0, 0, 0], 0).into();
    })
    .await;
    let admin = SocketAddr::from(([127, 0, 0, 1], cluster.addresses.admin.port()));
    let (answer, closed) = raw(admin, b"GET /sign-in HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("https://") && closed, "{answer}");
    let caller = cluster.authority().caller_with(&[&TLS13], &[b"h2"]);
    let token = cluster.token("dunlin-admin");
    // As browsers do it: over HTTP/2, which has no Host, and with the origin of the page.
    for (origin, status) in [("https://a.test", 303), ("https://b.test", 403)] {
        let request = Request::post("https://a.test/sign-in")
            .header("origin", origin)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Full::new(Bytes::from(format!("token={token}"))))
            .unwrap();
        let answer = h2_on(caller.connect(admin, "a.test").await.unwrap(), request).await.unwrap();
        assert_eq!(answer.status, status, "{answer:?}");
        assert!(status != 303 || answer.header("set-cookie").contains("; Secure"), "{answer:?}");
    }
    let stream = caller.connect(admin, "a.test").await.unwrap();
    assert_eq!(h2_on(stream, request("https://b.test/sign-in", None)).await.unwrap().status, 421);
}
