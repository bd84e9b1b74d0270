//! The sample data: what a small shop runs, with some text that would like to be more than text.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use dunlin_proto::{audit::Author, ids::Digest, internal::v1::Attempt, model::to_wire_duration, v1};

/// Text that a page must show as it is.
pub(crate) const EVIL: &str = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>";

/// What the simulated scheduler knows.
#[derive(Debug, Clone, Default)]
pub(crate) struct State {
    pub(crate) namespaces: BTreeMap<String, v1::Namespace>,
    pub(crate) functions: BTreeMap<String, v1::Function>,
    pub(crate) versions: BTreeMap<String, Vec<v1::Version>>,
    pub(crate) keys: Vec<v1::Key>,
    pub(crate) workers: Vec<v1::Worker>,
    pub(crate) routes: BTreeMap<String, v1::Route>,
    pub(crate) domains: BTreeMap<String, v1::Domain>,
    /// Every call that came: method and actor.
    pub(crate) calls: Vec<(&'static str, String)>,
    pub(crate) authors: Vec<(&'static str, Author)>,
    pub(crate) attempts: Vec<Attempt>,
    /// Bytes of uploads that were read.
    pub(crate) uploaded: usize,
    /// Whether uploads are read at all.
    pub(crate) stalled: bool,
    /// What was done by idempotency keys, by whose they are and which.
    pub(crate) kept: BTreeMap<(String, String), super::idempotency::Kept>,
}

pub(crate) fn ago(seconds: u64) -> prost_types::Timestamp {
    (SystemTime::now() - Duration::from_secs(seconds)).into()
}

const FUNCTIONS: [(&str, &str, &str, bool, u32, u64); 6] = [
    ("shop", "checkout", "Takes the order and asks the bank", false, 4, 5_400),
    ("shop", "mail", "", false, 1, 864_000),
    ("shop", "price", "Prices in the customer's currency", true, 2, 90_000),
    ("shop", "search", EVIL, true, 1, 240),
    ("shop", "stock", "How many are left", false, 3, 1_900_000),
    ("bank", "ledger", "", false, 1, 4_000),
];

impl State {
    /// Two namespaces, some functions, keys and workers, of which two have logs.
    pub(crate) fn sample(busy: SocketAddr, idle: SocketAddr) -> Self {
        let mut state = Self::default();
        for (name, description) in [("shop", "The shop's own functions"), ("bank", ""), ("warehouse", "")] {
            state.add_namespace(name, description);
        }
        for (namespace, function, description, public, versions, changed) in FUNCTIONS {
            state.add_function(namespace, function, description, public, versions, changed);
        }
        state.split("namespaces/shop/functions/checkout", &[(3, 90), (4, 10)]);
        state.keys = keys();
        state.workers = vec![
            worker("worker-1", v1::WorkerState::Ready, busy, 12),
            worker("worker-2", v1::WorkerState::Draining, idle, 3),
            // Nobody listens there.
            worker("worker-3", v1::WorkerState::Lost, SocketAddr::from(([127, 0, 0, 1], 1)), 0),
        ];
        state
    }

    pub(crate) fn add_namespace(&mut self, id: &str, description: &str) -> v1::Namespace {
        let name = format!("namespaces/{id}");
        let made = v1::Namespace {
            name: name.clone(),
            description: description.to_owned(),
            create_time: Some(ago(8_000_000)),
            function_count: 0,
            max_concurrency: None,
            rate: None,
            log_retention: None,
            log_bytes: None,
            quota: None,
            quota_usage: None,
        };
        self.namespaces.insert(name, made.clone());
        made
    }

    fn add_function(&mut self, namespace: &str, id: &str, description: &str, public: bool, versions: u32, age: u64) {
        let name = format!("namespaces/{namespace}/functions/{id}");
        let function = v1::Function {
            name: name.clone(),
            uid: uuid::Uuid::now_v7().to_string(),
            description: description.to_owned(),
            public,
            traffic: vec![v1::TrafficTarget { version: versions, percent: 100 }],
            latest_version: versions,
            create_time: Some(ago(9_000_000)),
            update_time: Some(ago(age)),
            etag: "e1".to_owned(),
            urls: Vec::new(),
            ..Default::default()
        };
        let of = |number| version(&name, number, age * u64::from(versions - number + 1));
        self.versions.insert(name.clone(), (1..=versions).rev().map(of).collect());
        self.functions.insert(name, function);
    }

    fn split(&mut self, name: &str, shares: &[(u32, u32)]) {
        let target = |(version, percent): &(u32, u32)| v1::TrafficTarget { version: *version, percent: *percent };
        self.functions.get_mut(name).unwrap().traffic = shares.iter().map(target).collect();
    }
}

fn version(function: &str, number: u32, age: u64) -> v1::Version {
    let environment = [
        ("BANK_URL".to_owned(), "https://bank.example/v2".to_owned()),
        ("CURRENCY".to_owned(), "EUR".to_owned()),
        ("MOTTO".to_owned(), EVIL.to_owned()),
    ];
    v1::Version {
        name: format!("{function}/versions/{number}"),
        number,
        artifact_digest: Digest::of(function.as_bytes()).to_string(),
        artifact_size_bytes: 1_834_112 + u64::from(number) * 4_096,
        kind: if number.is_multiple_of(2) { v1::FunctionKind::Http02 } else { v1::FunctionKind::Command }.into(),
        spec: Some(v1::VersionSpec {
            limits: Some(v1::Limits { timeout: Some(to_wire_duration(Duration::from_secs(10))), ..Default::default() }),
            scaling: None,
            environment: environment.into(),
            allowed_outbound_hosts: vec!["https://bank.example".to_owned(), "https://*.mail.example:443".to_owned()],
            idempotent: true,
            reuse: Some(v1::Reuse::default()),
        }),
        imports: vec!["wasi:http/types@0.2.3".to_owned()],
        create_time: Some(ago(age)),
        creator: "ada@example.com".to_owned(),
        note: ["", "First try of the new tax rules", EVIL, "Ask the bank twice"][number as usize % 4].to_owned(),
        compiled_size_bytes: 6_340_000,
        reuse_refusal: EVIL.to_owned(),
        preview_urls: Vec::new(),
        pending_public: None,
        pending_direct: None,
    }
}

fn keys() -> Vec<v1::Key> {
    let key = |id: &str, name: &str, functions: &[&str]| v1::Key {
        name: format!("namespaces/shop/keys/{id}"),
        display_name: name.to_owned(),
        functions: functions.iter().map(|name| (*name).to_owned()).collect(),
        create_time: Some(ago(400_000)),
        creator: "ada@example.com".to_owned(),
        prefix: format!("dk_{id}"),
        ..Default::default()
    };
    vec![
        key("aaaaBBBB1111", "the shop's front end", &["checkout", "price"]),
        v1::Key { expire_time: Some(ago(10)), ..key("aaaaBBBB2222", "a test of last week", &[]) },
        v1::Key { revoke_time: Some(ago(9_000)), ..key("aaaaBBBB3333", EVIL, &["search"]) },
    ]
}

fn worker(id: &str, state: v1::WorkerState, address: SocketAddr, in_flight: u32) -> v1::Worker {
    let held = |function: &str, state: &str, error: &str| v1::HeldVersion {
        version: format!("namespaces/shop/functions/{function}/versions/1"),
        state: state.to_owned(),
        error: error.to_owned(),
        in_flight: in_flight / 3,
        prepared: 2,
    };
    v1::Worker {
        name: format!("workers/{id}"),
        state: state.into(),
        address: address.to_string(),
        software_version: "0.1.0".to_owned(),
        engine: "wasmtime 48 x86-64-v3".to_owned(),
        capacity: 1_000,
        in_flight,
        prepared: 6,
        memory_bytes: 148 << 20,
        cpu_millis: 640,
        join_time: Some(ago(700_000)),
        heard_time: Some(ago(if state == v1::WorkerState::Lost { 310 } else { 0 })),
        versions: vec![
            held("checkout", "ready", ""),
            held("price", "ready", ""),
            held("search", "failed", "fetch code: the seal does not match <b>"),
            held("stock", "loading", ""),
        ],
    }
}
