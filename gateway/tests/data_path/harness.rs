//! A whole cluster in one process, with everything but the gateway simulated.

mod client;
mod scheduler;
mod secure;
mod worker;

use std::{net::SocketAddr, os::unix::fs::OpenOptionsExt, path::Path, sync::Arc, time::Duration};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use dunlin_gateway::{Addresses, Config, Gateway};
use dunlin_process::shutdown::Shutdown;
use dunlin_proto::{
    ids::{Digest, FunctionUid},
    internal::v1::{
        ConfigSnapshot, FunctionConfig, KeyConfig, ListRecordsRequest, PlacedEndpoint, Placements, StandbySeat,
        StickyConfig, TokenKey, TrafficShare, VersionConfig, VersionPlacement, VersionRef,
        invocation_record_service_client::InvocationRecordServiceClient,
    },
    metadata::ClusterSecret,
    v1,
};
use serde_json::json;
use tonic::transport::Endpoint;

pub(crate) use client::{Answer, connect, connect_as_proxy, get, h1, h1_on, h2, h2_on, h2_stream, raw, send};
pub(crate) use scheduler::Scheduler;
pub(crate) use secure::Authority;
pub(crate) use worker::Worker;

pub(crate) const SECRET: &str = "0123456789abcdef0123456789abcdef";
/// The functions of the cluster: namespace `shop`, public and private.
pub(crate) const PUBLIC: &str = "open";
pub(crate) const PRIVATE: &str = "closed";
pub(crate) const IDEMPOTENT: &str = "twice";

/// A gateway, and what it needs.
pub(crate) struct Cluster {
    pub(crate) scheduler: Scheduler,
    pub(crate) workers: Vec<Worker>,
    pub(crate) addresses: Addresses,
    pub(crate) uid: FunctionUid,
    pub(crate) config: Config,
    signer: Arc<Ed25519KeyPair>,
    gateway: Option<(Shutdown, tokio::task::JoinHandle<anyhow::Result<()>>)>,
    // Removed at last.
    _folder: tempfile::TempDir,
}

/// What differs from an ordinary cluster.
pub(crate) struct Plan {
    pub(crate) workers: usize,
    pub(crate) placed: bool,
    pub(crate) timeout: Duration,
    pub(crate) configure: fn(&mut Config),
}

impl Default for Plan {
    fn default() -> Self {
        Self { workers: 1, placed: true, timeout: Duration::from_secs(10), configure: |_| {} }
    }
}

pub(crate) fn secret() -> ClusterSecret {
    ClusterSecret::from_text(SECRET).unwrap()
}

fn write_secret(path: &Path) {
    use std::io::Write;
    let mut file = std::fs::OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(path).unwrap();
    file.write_all(SECRET.as_bytes()).unwrap();
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        Self::with(Plan::default()).await
    }

    pub(crate) async fn with(plan: Plan) -> Self {
        let folder = tempfile::tempdir().unwrap();
        write_secret(&folder.path().join("secret"));
        let (uid, signer) = (FunctionUid::new(), Arc::new(Ed25519KeyPair::generate().unwrap()));
        let mut workers = Vec::new();
        for number in 0..plan.workers {
            workers.push(Worker::start(&format!("w{number}")).await);
        }
        let snapshot = snapshot(uid, plan.timeout, signer.public_key().as_ref());
        let placements = placements(1, uid, if plan.placed { &workers } else { &[] });
        let scheduler = Scheduler::start(snapshot, placements).await;
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let mut config = Config {
            functions: any,
            admin: any,
            peer: any,
            scheduler: format!("http://{}", scheduler.address),
            data_dir: folder.path().join("gateway"),
            cluster_secret: folder.path().join("secret"),
            grace: Duration::from_secs(1),
            ..Config::default()
        };
        (plan.configure)(&mut config);
        let addresses = Addresses { functions: any, admin: any, peer: any, redirect: None };
        let mut cluster = Self { scheduler, workers, addresses, uid, config, signer, gateway: None, _folder: folder };
        cluster.start_gateway().await;
        cluster
    }

    /// Starts the gateway, again perhaps, and waits until it has a configuration.
    pub(crate) async fn start_gateway(&mut self) {
        let gateway = Gateway::bind(self.config.clone()).await.unwrap();
        self.addresses = gateway.addresses();
        let shutdown = Shutdown::default();
        let running = shutdown.spawn(gateway.serve(shutdown.child()));
        self.gateway = Some((shutdown, running));
        eventually("a configuration", async || self.is_ready().await).await;
    }

    async fn is_ready(&self) -> bool {
        let health = "/.well-known/dunlin/health";
        let caller = self.config.tls.is_on().then(|| self.authority().caller());
        let answer = match (caller, self.config.proxies.protocol) {
            (None, false) => get(self.functions(), health).await,
            (None, true) => {
                let stream = connect_as_proxy([127, 0, 0, 1], self.functions()).await;
                let request = http::Request::get(health).header("host", "h").body(String::new()).unwrap();
                h1_on(stream, request).await.unwrap()
            }
            (Some(caller), false) => caller.get(self.functions(), "a.test", health).await,
            (Some(caller), true) => {
                let stream = connect_as_proxy([127, 0, 0, 1], self.functions()).await;
                caller.get_on(stream, "a.test", health).await
            }
        };
        answer.status == 200
    }

    /// The folder of everything.
    pub(crate) fn folder(&self) -> &Path {
        self._folder.path()
    }

    /// Who has signed the gateway's certificates.
    pub(crate) fn authority(&self) -> Authority {
        Authority::of(self.folder())
    }

    pub(crate) async fn stop_gateway(&mut self) {
        let (shutdown, running) = self.gateway.take().unwrap();
        shutdown.begin();
        running.await.unwrap().unwrap();
    }

    /// Sends a request for the public function.
    pub(crate) async fn call(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        send(self.addresses.functions, method, &format!("/shop/{PUBLIC}{path}"), headers, body).await
    }

    /// The function runs nowhere, but these workers may hold it on standby.
    pub(crate) fn seat(&self, sequence: u64, workers: &[Worker]) {
        let seats = workers.iter().map(|worker| StandbySeat { worker: worker.name.clone(), ..Default::default() });
        let placed = placements(sequence, self.uid, workers);
        let seated = Placements { versions: Vec::new(), seats: seats.collect(), ..placed };
        self.scheduler.placements.send_replace(seated);
    }

    /// Changes where the function runs.
    pub(crate) fn place(&self, sequence: u64, workers: &[Worker]) {
        self.scheduler.placements.send_replace(placements(sequence, self.uid, workers));
    }

    /// The records of the namespace's calls, the newest first.
    pub(crate) async fn records(&self) -> Vec<v1::Invocation> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.addresses.peer)).unwrap();
        let channel = endpoint.connect().await.unwrap();
        let query = v1::ListInvocationsRequest { parent: "namespaces/shop".into(), ..Default::default() };
        let request = ListRecordsRequest { query: Some(query), ..Default::default() };
        let mut client = InvocationRecordServiceClient::with_interceptor(channel, secret().attach());
        client.list_records(request).await.unwrap().into_inner().invocations
    }

    pub(crate) fn functions(&self) -> SocketAddr {
        self.addresses.functions
    }

    /// A token of the cluster, put together by hand.
    pub(crate) fn token(&self, audience: &str) -> String {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let encode = |json: serde_json::Value| BASE64_URL_SAFE_NO_PAD.encode(json.to_string());
        let header = encode(json!({"alg": "EdDSA", "kid": "k1"}));
        let claims = encode(json!({
            "iss": "dunlin", "aud": audience, "sub": "zoe", "iat": now, "nbf": now, "exp": now + 600,
            "grants": [{"namespace": "shop", "role": "admin"}],
        }));
        let signed = format!("{header}.{claims}");
        let signature = BASE64_URL_SAFE_NO_PAD.encode(self.signer.sign(signed.as_bytes()).as_ref());
        format!("{signed}.{signature}")
    }
}

/// A caller's key of namespace `shop`, for all of its functions or for `closed2` alone.
pub(crate) fn key(id: &str) -> String {
    let body = format!("dk_{id}_{}", "s".repeat(43));
    let mut value = crc32fast::hash(body.as_bytes());
    let mut digits = Vec::new();
    for _ in 0..6 {
        digits.push(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"[(value % 62) as usize]);
        value /= 62;
    }
    digits.reverse();
    format!("{body}_{}", String::from_utf8(digits).unwrap())
}

/// The id of a key for everything in `shop`, of one for another function, and of one of namespace `bank`.
pub(crate) const KEYS: [&str; 3] = ["abcdefghijkl", "otherfuncion", "bankbankbank"];

fn snapshot(uid: FunctionUid, timeout: Duration, token_key: &[u8]) -> ConfigSnapshot {
    let version = |number| VersionConfig {
        number,
        timeout: Some(timeout.try_into().unwrap()),
        request_body_bytes: 1 << 20,
        response_body_bytes: 64 << 20,
        standbys: 2,
        idempotent: false,
        create_time: None,
    };
    let function = |name: &str, public, uid: String| FunctionConfig {
        uid,
        namespace: "shop".into(),
        function: name.into(),
        public,
        traffic: vec![TrafficShare { version: 1, percent: 50 }, TrafficShare { version: 2, percent: 50 }],
        versions: vec![version(1), version(2)],
        ..FunctionConfig::default()
    };
    let mut twice = function(IDEMPOTENT, true, uid.to_string());
    twice.versions.iter_mut().for_each(|version| version.idempotent = true);
    // The first has the calls; the second was made in 1970, and nobody has called it since.
    let mut old = function("old", true, uid.to_string());
    old.traffic = vec![TrafficShare { version: 1, percent: 100 }];
    for version in &mut old.versions {
        version.create_time = Some(prost_types::Timestamp::default());
        version.standbys = if version.number == 1 { 2 } else { 0 };
    }
    let mut sticky = function("sticky", true, uid.to_string());
    sticky.sticky =
        Some(StickyConfig { division: 3, header: "x-user".into(), cookie: true, ..StickyConfig::default() });
    let key = |id: &str, namespace: &str, functions: &[&str]| KeyConfig {
        id: id.into(),
        namespace: namespace.into(),
        secret_sha256: Digest::of(key(id).as_bytes()).as_bytes().to_vec().into(),
        functions: functions.iter().map(|name| (*name).to_owned()).collect(),
        expire_time: None,
        ..KeyConfig::default()
    };
    ConfigSnapshot {
        version: 7,
        // All are the same code: only who may call them differs, and whether a lost call runs again.
        functions: vec![
            function(PUBLIC, true, uid.to_string()),
            function(PRIVATE, false, uid.to_string()),
            twice,
            sticky,
            old,
        ],
        keys: vec![key(KEYS[0], "shop", &[]), key(KEYS[1], "shop", &["other"]), key(KEYS[2], "bank", &[])],
        token_keys: vec![TokenKey { id: "k1".into(), public_key: token_key.to_vec().into() }],
        namespaces: vec!["shop".into(), "bank".into()],
        ..ConfigSnapshot::default()
    }
}

fn placements(sequence: u64, uid: FunctionUid, workers: &[Worker]) -> Placements {
    let endpoint = |worker: &Worker| PlacedEndpoint {
        id: format!("{}/0", worker.name),
        worker: worker.name.clone(),
        address: worker.address.to_string(),
    };
    let placed = |number| VersionPlacement {
        version: Some(VersionRef { function_uid: uid.to_string(), number }),
        endpoints: workers.iter().map(|worker| format!("{}/0", worker.name)).collect(),
    };
    let versions = if workers.is_empty() { Vec::new() } else { vec![placed(1), placed(2)] };
    Placements {
        epoch: 1,
        sequence,
        endpoints: workers.iter().map(endpoint).collect(),
        versions,
        ..Placements::default()
    }
}

/// Waits until something is true, for twenty seconds at the least.
pub(crate) async fn eventually(what: &str, mut is: impl AsyncFnMut() -> bool) {
    for _ in 0..2_000 {
        if is().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what} did not come");
}
