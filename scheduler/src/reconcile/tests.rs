//! One decision after another, with time as an argument and nothing but values around it.

use std::collections::BTreeSet;

use dunlin_proto::ids::{Digest, FunctionUid, WorkerId};

use super::{publish::Placements, *};
use crate::{
    catalog::Catalog,
    cluster::{EndpointSpec, Held, HeldState, Session, WorkerHello, WorkerReport},
    model::{Code, Compiled, FunctionRecord, Kind, Share, Time, VersionRecord},
    store::{CatalogRows, CoreRows},
};

fn uid() -> FunctionUid {
    uuid::Uuid::from_u128(7).to_string().parse().unwrap()
}

fn key() -> VersionKey {
    VersionKey { function: uid(), number: 1.try_into().unwrap() }
}

/// One version with traffic, that keeps so many workers.
fn catalog(min_workers: u32) -> Catalog {
    let record = FunctionRecord {
        uid: uid(),
        namespace: "shop".parse().unwrap(),
        name: "till".parse().unwrap(),
        description: String::new(),
        public: false,
        direct: false,
        disabled: false,
        traffic: vec![Share(key().number, 100)],
        sticky: dunlin_proto::model::Sticky::default(),
        division: 0,
        seed: None,
        history: vec![],
        latest_version: 1,
        revision: 1,
        create_time: Time(0),
        update_time: Time(0),
    };
    let mut spec = dunlin_proto::model::VersionSpec::default();
    spec.scaling.min_workers = min_workers;
    let artifact = Digest::of(b"wasm");
    let version = VersionRecord {
        function: record.reference(),
        uid: uid(),
        number: key().number,
        artifact,
        artifact_size: 4,
        kind: Kind::Http02,
        spec,
        imports: vec![],
        creator: String::new(),
        note: String::new(),
        create_time: Time(0),
        compiled_size: 1,
        activation: false,
        canary: None,
        reuse_refusal: None,
        policy: crate::model::Policy::default(),
    };
    let code = Code {
        key: "k".into(),
        artifact,
        fingerprint: "e".into(),
        body: Digest::of(b"native"),
        size: 6,
        signature: vec![],
    };
    Catalog::from_rows(CatalogRows {
        version: 1,
        core: CoreRows {
            functions: vec![record],
            versions: vec![version],
            codes: vec![Compiled { code, kind: Kind::Http02, imports: vec![] }],
            ..CoreRows::default()
        },
        ..CatalogRows::default()
    })
}

/// A cluster, its catalog and what the loop remembers.
struct Table {
    cluster: Cluster,
    catalog: Arc<Catalog>,
    memory: Memory,
    start: Instant,
    sessions: BTreeMap<WorkerId, Session>,
}

impl Table {
    fn new(min_workers: u32) -> Self {
        Self {
            cluster: Cluster::default(),
            catalog: Arc::new(catalog(min_workers)),
            memory: Memory::default(),
            start: Instant::now(),
            sessions: BTreeMap::new(),
        }
    }

    fn at(&self, millis: u64) -> Instant {
        self.start + Duration::from_millis(millis)
    }

    fn join(&mut self, name: &str, engine: &str, millis: u64) {
        let endpoint = EndpointSpec {
            id: format!("{name}/0"),
            address: "127.0.0.1:9".into(),
            fingerprint: engine.into(),
            capacity: 10,
        };
        let hello = WorkerHello {
            worker: name.parse().unwrap(),
            incarnation: "1".into(),
            software_version: "1".into(),
            endpoints: vec![endpoint],
            zone: String::new(),
        };
        let now = self.at(millis);
        let (session, _) = self.cluster.worker_join(hello, now, Time(0)).unwrap();
        self.sessions.insert(name.parse().unwrap(), session);
        self.report(name, None, millis);
    }

    /// The worker reports that it holds the version in this state.
    fn report(&mut self, name: &str, state: Option<HeldState>, millis: u64) {
        let (worker, now): (WorkerId, _) = (name.parse().unwrap(), self.at(millis));
        let held = |state| Held {
            state,
            in_flight: 0,
            queued: 0,
            prepared: 0,
            queue_delay: Duration::ZERO,
            reuse_refusal: None,
        };
        let versions = state.map(|state| (key(), held(state))).into_iter().collect();
        let report = WorkerReport { versions, ..WorkerReport::default() };
        self.cluster.worker_report(&worker, self.sessions[&worker], report, now, Time(0)).unwrap();
    }

    /// The workers that shall hold the version, and the endpoints that are published.
    fn decide(&mut self, millis: u64) -> (Vec<String>, Vec<String>) {
        let now = self.at(millis);
        let since = now - self.start;
        self.memory.standbys.renew(&self.cluster, &self.catalog, now);
        let plan = plan::plan(&mut self.cluster, &self.catalog, &mut self.memory, now, since);
        publish::assign(&self.cluster, &self.catalog, &plan, &mut self.memory, 3);
        let seats = self.memory.standbys.seated();
        let placements = publish::placements(&self.cluster, &self.catalog, &plan, seats, now);
        let holds = plan.holds.iter().filter(|(_, versions)| versions.contains(&key())).map(|(id, _)| id.to_string());
        (holds.collect(), placements.versions.get(&key()).into_iter().flatten().cloned().collect())
    }
}

impl Table {
    /// The workers that shall keep the version on standby.
    fn standbys(&self) -> Vec<String> {
        let stands = |view: &crate::cluster::WorkerView| {
            view.assignment.borrow().versions.get(&key()).is_some_and(|assigned| assigned.standby)
        };
        self.cluster.workers().iter().filter(|(_, view)| stands(view)).map(|(id, _)| id.to_string()).collect()
    }
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn only_what_is_ready_is_published() {
    let mut table = Table::new(2);
    table.join("a", "e", 0);
    table.join("b", "e", 0);
    table.join("c", "other", 0);
    assert_eq!(table.decide(0), (names(&["a", "b"]), names(&[])));
    table.report("a", Some(HeldState::Loading), 100);
    table.report("b", Some(HeldState::Ready), 100);
    assert_eq!(table.decide(100).1, names(&["b/0"]));
    table.report("a", Some(HeldState::Failed("no".into())), 200);
    assert_eq!(table.decide(200).1, names(&["b/0"]));
    table.report("a", Some(HeldState::Ready), 300);
    assert_eq!(table.decide(300).1, names(&["a/0", "b/0"]));
}

#[test]
fn f01_a_silent_worker_is_replaced_and_its_return_moves_nothing() {
    let mut table = Table::new(2);
    for name in ["a", "b", "c"] {
        table.join(name, "e", 0);
    }
    let (first, _) = table.decide(0);
    let (lost, spare) =
        (first[0].clone(), ["a", "b", "c"].into_iter().find(|name| !first.contains(&(*name).to_owned())).unwrap());
    let keep = first[1].clone();
    table.report(&keep, Some(HeldState::Ready), 2000);
    table.report(spare, None, 2000);
    let (holds, published) = table.decide(2000);
    assert!(holds.contains(&keep) && holds.contains(&spare.to_owned()) && !holds.contains(&lost));
    assert_eq!(published, [format!("{keep}/0")]);
    table.report(spare, Some(HeldState::Ready), 2100);
    table.report(&lost, Some(HeldState::Ready), 2100);
    let (again, published) = table.decide(2100);
    assert_eq!((again, published.len()), (holds, 2));
}

#[test]
fn a_version_moves_by_being_ready_there_before_it_leaves() {
    let mut table = Table::new(1);
    table.join("a", "e", 0);
    table.report("a", Some(HeldState::Ready), 0);
    assert_eq!(table.decide(0), (names(&["a"]), names(&["a/0"])));
    table.join("b", "e", 100);
    table.cluster.set_drained(&"a".parse().unwrap(), true);
    assert_eq!(table.decide(100), (names(&["a", "b"]), names(&["a/0"])));
    table.report("b", Some(HeldState::Ready), 200);
    assert_eq!(table.decide(200), (names(&["b"]), names(&["b/0"])));
    let a = &table.cluster.workers()[&"a".parse::<WorkerId>().unwrap()];
    let assignment = a.assignment.borrow().clone();
    assert!(assignment.drain && assignment.versions.is_empty() && assignment.version.0 == 3);
}

#[test]
fn the_only_worker_is_let_go_when_it_is_drained() {
    let mut table = Table::new(1);
    table.join("a", "e", 0);
    table.report("a", Some(HeldState::Ready), 0);
    table.decide(0);
    table.cluster.set_drained(&"a".parse().unwrap(), true);
    assert_eq!(table.decide(100), (names(&[]), names(&[])));
}

#[test]
fn what_workers_hold_after_a_restart_stays_where_it_is() {
    let mut table = Table::new(0);
    for name in ["a", "b", "c"] {
        table.join(name, "e", 0);
    }
    for name in ["b", "c"] {
        table.report(name, Some(HeldState::Ready), 10);
    }
    assert_eq!(table.decide(10), (names(&["b", "c"]), names(&["b/0", "c/0"])));
    // An idle minute later nobody needs it.
    for name in ["a", "b", "c"] {
        table.report(name, None, 60_000);
    }
    assert_eq!(table.decide(60_010), (names(&[]), names(&[])));
}

#[test]
fn an_assignment_is_sent_only_when_it_changed() {
    let mut table = Table::new(1);
    table.join("a", "e", 0);
    let a: WorkerId = "a".parse().unwrap();
    let sequence = |table: &Table| table.cluster.workers()[&a].assignment.borrow().version.1;
    table.decide(0);
    let first = sequence(&table);
    table.decide(250);
    assert_eq!(sequence(&table), first);
    table.cluster.set_drained(&a, true);
    table.decide(500);
    assert_eq!(sequence(&table), first + 1);
}

#[test]
fn a_version_that_nobody_calls_is_on_standby_on_two_workers_that_can_run_it() {
    let mut table = Table::new(0);
    for (name, engine) in [("a", "e"), ("b", "e"), ("c", "e"), ("d", "other")] {
        table.join(name, engine, 0);
    }
    assert_eq!(table.decide(0), (names(&[]), names(&[])));
    let two = table.standbys();
    assert!(two.len() == 2 && !two.contains(&"d".to_owned()), "{two:?}");
    // Called, it runs where its code is, and nowhere else.
    table.cluster.activate(key());
    let (holds, _) = table.decide(100);
    assert_eq!((holds, table.standbys()), (two.clone(), names(&[])));
    for name in ["a", "b", "c", "d"] {
        table.report(name, None, 60_000);
    }
    assert_eq!(table.decide(60_200).0, names(&[]));
    assert_eq!(table.standbys(), two);
}

#[test]
fn a_standby_survives_a_restart_and_moves_after_a_loss() {
    let mut table = Table::new(0);
    for name in ["a", "b", "c"] {
        table.join(name, "e", 0);
    }
    table.decide(0);
    let two = table.standbys();
    let (lost, kept) = (two[0].clone(), two[1].clone());
    let others: Vec<_> = ["a", "b", "c"].into_iter().filter(|name| **name != *lost).collect();
    others.iter().for_each(|name| table.report(name, None, 29_000));
    table.decide(29_000);
    assert_eq!(table.standbys(), two, "it may only be restarting");
    table.decide(31_000);
    assert_eq!(table.standbys(), names(&others), "{kept} keeps what it has");
    table.cluster.set_drained(&others[0].parse().unwrap(), true);
    table.decide(31_001);
    assert_eq!(table.standbys(), names(&others[1..]));
}

#[test]
fn placements_count_only_changes() {
    let mut current = None;
    assert!(publish::replace(&mut current, Placements::default(), 3));
    assert!(!publish::replace(&mut current, Placements::default(), 3));
    let versions = [(key(), BTreeSet::from(["a/0".to_owned()]))].into();
    assert!(publish::replace(&mut current, Placements { versions, ..Placements::default() }, 3));
    let now = current.unwrap();
    assert_eq!((now.epoch, now.sequence), (3, 2));
}
