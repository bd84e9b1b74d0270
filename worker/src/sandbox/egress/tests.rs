//! T61: names whose addresses change or mix, against a DNS server of our own and a listener that must never be reached.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::{A, CNAME};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;

use super::super::limits::EgressConfig;
use super::*;

/// Reachable by configuration, routed nowhere: stands for a public address.
const PUBLIC: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
const LOOPBACK: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// A DNS server that changes its mind. Every answer has a time to live of zero.
async fn dns_server() -> (SocketAddr, JoinSet<()>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let mut task = JoinSet::new();
    task.spawn(async move {
        let asked = AtomicU32::new(0);
        let mut buffer = [0; 1500];
        while let Ok((length, client)) = socket.recv_from(&mut buffer).await {
            let query = Message::from_vec(&buffer[..length]).unwrap();
            let answer = respond(&query, &asked);
            socket.send_to(&answer.to_vec().unwrap(), client).await.unwrap();
        }
    });
    (address, task)
}

fn respond(query: &Message, asked: &AtomicU32) -> Message {
    let mut answer = query.clone().into_response();
    let Some(question) = query.queries.first() else { return answer };
    let (name, kind) = (question.name().clone(), question.query_type());
    let record = |data: RData| Record::from_rdata(name.clone(), 0, data);
    let a = |address: Ipv4Addr| record(RData::A(A(address)));
    match name.to_string().as_str() {
        _ if kind != RecordType::A => {}
        "rebind.test." => {
            let first = asked.fetch_add(1, Ordering::Relaxed).is_multiple_of(2);
            answer.add_answer(a(if first { PUBLIC } else { LOOPBACK }));
        }
        "mixed.test." => drop(answer.add_answers([a(PUBLIC), a(LOOPBACK)])),
        "public.test." => drop(answer.add_answer(a(PUBLIC))),
        "alias.test." => {
            let target: Name = "hidden.test.".parse().unwrap();
            answer.add_answer(record(RData::CNAME(CNAME(target.clone()))));
            answer.add_answer(Record::from_rdata(target, 0, RData::A(A(LOOPBACK))));
        }
        _ => answer.metadata.response_code = ResponseCode::NXDomain,
    }
    answer
}

async fn egress() -> (Egress, JoinSet<()>) {
    let (dns, task) = dns_server().await;
    let config = EgressConfig {
        dns_servers: vec![dns],
        allow_private: vec!["198.18.0.0/15".parse().unwrap()],
        ..EgressConfig::default()
    };
    (Egress::new(&config).unwrap(), task)
}

fn target(host: &str, port: u16) -> send::Target {
    let request = Request::get(format!("http://{host}:{port}/")).body(()).unwrap();
    send::Target::of(&request).unwrap()
}

#[tokio::test]
async fn t61_a_name_that_changes_its_address_never_reaches_loopback() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (egress, _dns) = egress().await;
    let (mut refused, mut tried) = (0, 0);
    for _ in 0..1000 {
        match egress.connect(&target("rebind.test", port), Duration::from_millis(2)).await {
            Ok(_) => panic!("connected"),
            Err(Error::DestinationIpProhibited) => refused += 1,
            Err(_) => tried += 1,
        }
    }
    // Both answers were seen, and each attempt went where its own answer pointed.
    assert!(refused > 100 && tried > 100, "{refused} refused, {tried} tried");
    let arrived = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await;
    assert!(arrived.is_err(), "somebody reached the listener");
}

#[tokio::test]
async fn t61_mixed_answers_and_aliases_are_refused_as_a_whole() {
    let (egress, _dns) = egress().await;
    for host in ["mixed.test", "alias.test"] {
        let refused = egress.connect(&target(host, 80), Duration::from_secs(1)).await.err();
        assert!(matches!(refused, Some(Error::DestinationIpProhibited)), "{host}: {refused:?}");
    }
    let unknown = egress.connect(&target("unknown.test", 80), Duration::from_secs(1)).await.err();
    assert!(matches!(unknown, Some(Error::DnsError { .. })), "{unknown:?}");
}

#[tokio::test]
async fn t60_names_of_metadata_services_are_refused_without_asking() {
    let (egress, _dns) = egress().await;
    for host in ["metadata.google.internal", "METADATA", "instance-data."] {
        let refused = egress.connect(&target(host, 80), Duration::from_secs(1)).await.err();
        assert!(matches!(refused, Some(Error::DestinationIpProhibited)), "{host}: {refused:?}");
    }
}

#[test]
fn t62_requests_that_could_be_read_in_two_ways_are_refused() {
    let of = |method: &str, uri: &str| send::Target::of(&Request::builder().method(method).uri(uri).body(()).unwrap());
    for (method, uri) in [
        ("GET", "http://user@example.com/"),
        ("GET", "http://user:pass@example.com/"),
        ("GET", "ftp://example.com/"),
        ("GET", "/relative"),
        ("GET", "http://example.com:0/"),
        ("GET", "http://.:80/"),
        ("CONNECT", "http://example.com/"),
    ] {
        assert!(of(method, uri).is_err(), "{method} {uri}");
    }
    let good = of("GET", "https://EXAMPLE.com.:8443?x=1").unwrap();
    assert_eq!((good.https, good.host.as_str(), good.port), (true, "example.com", 8443));
    assert_eq!(of("GET", "http://[::1]:81/").unwrap().host, "::1");
}

#[test]
fn t63_depths_that_make_no_sense_are_deepest() {
    let depth_of = |value: &'static str| depth(&[(DEPTH, http::HeaderValue::from_static(value))].into_iter().collect());
    assert_eq!((depth(&HeaderMap::new()), depth_of("3")), (0, 3));
    for nonsense in ["-1", "x", "", "4294967296"] {
        assert_eq!(depth_of(nonsense), MAX_DEPTH, "{nonsense}");
    }
}
