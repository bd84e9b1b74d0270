//! Who is alive, who may take whose name, and who is waited for.

use super::*;

fn hello(worker: &str, incarnation: &str) -> WorkerHello {
    let endpoint = EndpointSpec {
        id: format!("{worker}/0"),
        address: "127.0.0.1:9".into(),
        fingerprint: "e".into(),
        capacity: 10,
    };
    WorkerHello {
        worker: worker.parse().unwrap(),
        incarnation: incarnation.into(),
        software_version: "1".into(),
        endpoints: vec![endpoint],
        zone: String::new(),
    }
}

struct Table {
    cluster: Cluster,
    start: Instant,
}

impl Table {
    fn new() -> Self {
        Self { cluster: Cluster::default(), start: Instant::now() }
    }

    fn at(&self, millis: u64) -> Instant {
        self.start + Duration::from_millis(millis)
    }

    fn join(&mut self, incarnation: &str, millis: u64) -> Result<Session, ApiError> {
        let now = self.at(millis);
        self.cluster.worker_join(hello("w", incarnation), now, Time(0)).map(|(session, _)| session)
    }

    fn report(&mut self, session: Session, millis: u64) -> Result<(), ApiError> {
        let now = self.at(millis);
        self.cluster.worker_report(&"w".parse().unwrap(), session, WorkerReport::default(), now, Time(0))
    }

    fn accepts(&self, millis: u64) -> bool {
        self.cluster.accepts(&"w".parse().unwrap(), self.at(millis))
    }
}

#[test]
fn a_silent_worker_is_out_within_two_seconds_and_back_with_its_next_report() {
    let mut table = Table::new();
    let session = table.join("a", 0).unwrap();
    assert!(!table.accepts(0), "not before its first report");
    table.report(session, 100).unwrap();
    assert!(table.accepts(1600));
    assert!(!table.accepts(1601));
    table.report(session, 5000).unwrap();
    assert!(table.accepts(5000));
}

#[test]
fn a_name_belongs_to_who_is_alive() {
    let mut table = Table::new();
    let first = table.join("a", 0).unwrap();
    table.report(first, 0).unwrap();
    let error = table.join("b", 1000).unwrap_err();
    assert_eq!(error.code, ErrorCode::AlreadyExists);
    assert!(error.hint.unwrap().contains("--name"));
    table.report(first, 1000).unwrap();
    let second = table.join("b", 2501).unwrap();
    assert!(table.report(first, 2502).is_err(), "the older one can report no more");
    table.report(second, 2503).unwrap();
}

#[test]
fn the_same_process_may_reconnect_at_any_time_and_a_restarted_one_once_its_stream_is_gone() {
    let mut table = Table::new();
    let worker: WorkerId = "w".parse().unwrap();
    let first = table.join("a", 0).unwrap();
    table.report(first, 0).unwrap();
    let second = table.join("a", 10).unwrap();
    assert!(table.cluster.workers()[&worker].report.is_some(), "it still holds what it held");
    table.cluster.worker_leave(&worker, first);
    assert!(table.cluster.workers()[&worker].connected, "the end of a replaced stream says nothing");
    table.cluster.worker_leave(&worker, second);
    table.join("b", 20).unwrap();
    assert!(table.cluster.workers()[&worker].report.is_none(), "a new process holds nothing");
}

#[test]
fn a_drained_or_leaving_worker_accepts_nothing() {
    let mut table = Table::new();
    let worker: WorkerId = "w".parse().unwrap();
    let session = table.join("a", 0).unwrap();
    table.report(session, 0).unwrap();
    table.cluster.set_drained(&worker, true);
    assert!(!table.accepts(1));
    table.cluster.set_drained(&worker, false);
    assert!(table.accepts(1));
    let leaving = WorkerReport { leaving: true, ..WorkerReport::default() };
    table.cluster.worker_report(&worker, session, leaving, table.at(2), Time(0)).unwrap();
    assert!(!table.accepts(2) && !table.cluster.any_accepts(table.at(2)));
}

#[test]
fn after_a_restart_every_member_is_waited_for() {
    let member = WorkerRecord { member: true, drained: false };
    let drained = WorkerRecord { member: false, drained: true };
    let remembered = [("w".parse().unwrap(), member), ("x".parse().unwrap(), drained)].into();
    let mut table = Table { cluster: Cluster::new(&remembered), start: Instant::now() };
    assert!(!table.cluster.is_complete() && table.cluster.is_drained(&"x".parse().unwrap()));
    let session = table.join("a", 0).unwrap();
    assert!(!table.cluster.is_complete(), "a hello says nothing of what it holds");
    table.report(session, 1).unwrap();
    assert!(table.cluster.is_complete());
}

#[test]
fn a_lost_worker_is_forgotten_after_a_while() {
    let mut table = Table::new();
    let worker: WorkerId = "w".parse().unwrap();
    let session = table.join("a", 0).unwrap();
    assert!(table.cluster.forget(table.at(700_000)).is_empty(), "its stream is open");
    table.cluster.worker_leave(&worker, session);
    assert!(table.cluster.forget(table.at(599_000)).is_empty());
    assert_eq!(table.cluster.forget(table.at(600_000)), [worker]);
}

#[test]
fn a_gateway_that_leaves_asks_for_nothing() {
    let mut cluster = Cluster::default();
    let hello = |peer: &str| GatewayHello {
        gateway: "g".parse().unwrap(),
        software_version: "1".into(),
        peer_address: peer.into(),
        config_version: 0,
    };
    let first = cluster.gateway_join(hello("a:1"), Time(0)).unwrap();
    assert_eq!(cluster.gateway_join(hello("b:1"), Time(0)).unwrap_err().code, ErrorCode::AlreadyExists);
    let second = cluster.gateway_join(hello("a:1"), Time(0)).unwrap();
    assert!(cluster.gateway_report(&"g".parse().unwrap(), first, 1, BTreeMap::new()).is_err());
    cluster.gateway_report(&"g".parse().unwrap(), second, 7, BTreeMap::new()).unwrap();
    cluster.gateway_leave(&"g".parse().unwrap(), first, Instant::now());
    assert_eq!(cluster.gateways().len(), 1);
    cluster.gateway_leave(&"g".parse().unwrap(), second, Instant::now());
    assert!(cluster.gateways().is_empty());
}
