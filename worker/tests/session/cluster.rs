//! What is around a worker: a scheduler that assigns and seals code, on a port of its own, which can be stopped and started.

use std::{
    collections::HashMap,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use bytes::Bytes;
use dunlin_process::shutdown::Shutdown;
use dunlin_proto::{
    ids::{Digest, FunctionUid, VersionKey, VersionNumber},
    internal::v1::{
        ActivateRequest, ActivateResponse, AdmitRequest, AdmitResponse, AssignedVersion, Assignment, AssignmentDelta,
        AssignmentVersion, BorrowQuotaRequest, BorrowQuotaResponse, CompiledCode, FetchCodeRequest, FetchCodeResponse,
        InvocationPolicy, LoadState, ReportUsageRequest, ReportUsageResponse, SyncGatewayRequest, SyncGatewayResponse,
        SyncWorkerRequest, SyncWorkerResponse, VersionLoad, WorkerHello, WorkerLoad, WorkerPeer, WorkerWelcome,
        artifact_service_server::{ArtifactService, ArtifactServiceServer},
        sync_service_server::{SyncService, SyncServiceServer},
        sync_worker_request::Report,
        sync_worker_response::Update,
    },
    metadata::ClusterSecret,
    model::VersionSpec,
    seal,
};
use dunlin_worker::{Config, Worker};
use tokio::{
    net::TcpListener,
    runtime::{self, Runtime},
    sync::{mpsc, watch},
    task::JoinHandle,
    time::timeout,
};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming, service::interceptor::InterceptedService, transport::Server};

use crate::guests;

pub(crate) const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// Waits for a condition that something else brings about.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let waited = timeout(Duration::from_secs(20), async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(waited.await.is_ok(), "never happened: {what}");
}

/// A scheduler's state.
pub(crate) struct State {
    key: Ed25519KeyPair,
    code: Mutex<HashMap<String, Vec<u8>>>,
    assignment: watch::Sender<Assignment>,
    deltas: watch::Sender<AssignmentDelta>,
    pub(crate) hellos: Mutex<Vec<WorkerHello>>,
    pub(crate) load: Mutex<WorkerLoad>,
    pub(crate) fetches: AtomicUsize,
    pub(crate) silent: AtomicBool,
}

#[derive(Clone)]
pub(crate) struct Scheduler(pub(crate) Arc<State>);

impl Scheduler {
    /// Sends this assignment, whatever came before.
    pub(crate) fn send(&self, assignment: Assignment) {
        self.0.assignment.send_replace(assignment);
    }

    /// Sends this change to whoever is connected.
    pub(crate) fn send_delta(&self, delta: AssignmentDelta) {
        self.0.deltas.send_replace(delta);
    }

    /// Loses all code.
    pub(crate) fn take_code(&self) -> HashMap<String, Vec<u8>> {
        std::mem::take(&mut self.0.code.lock().unwrap())
    }

    /// Has this code.
    pub(crate) fn give_code(&self, code: HashMap<String, Vec<u8>>) {
        *self.0.code.lock().unwrap() = code;
    }
}

#[tonic::async_trait]
impl SyncService for Scheduler {
    type SyncWorkerStream = ReceiverStream<Result<SyncWorkerResponse, Status>>;
    type SyncGatewayStream = ReceiverStream<Result<SyncGatewayResponse, Status>>;

    async fn sync_worker(
        &self,
        request: Request<Streaming<SyncWorkerRequest>>,
    ) -> Result<Response<Self::SyncWorkerStream>, Status> {
        let (sender, receiver) = mpsc::channel(16);
        let mut reports = request.into_inner();
        let state = self.0.clone();
        Shutdown::default().spawn(async move {
            let mut assignments = state.assignment.subscribe();
            assignments.mark_changed();
            let mut deltas = state.deltas.subscribe();
            let mut welcomed = false;
            loop {
                let update = tokio::select! {
                    report = reports.message() => match report {
                        Ok(Some(SyncWorkerRequest { report: Some(Report::Hello(hello)) })) => {
                            state.hellos.lock().unwrap().push(hello);
                            Update::Welcome(WorkerWelcome {
                                report_interval: Some(prost_types::Duration { seconds: 0, nanos: 50_000_000 }),
                                code_keys: vec![Bytes::copy_from_slice(state.key.public_key().as_ref())],
                            })
                        }
                        Ok(Some(SyncWorkerRequest { report: Some(Report::Load(load)) })) => {
                            *state.load.lock().unwrap() = load;
                            continue;
                        }
                        _ => return,
                    },
                    changed = assignments.changed(), if welcomed => {
                        changed.unwrap();
                        Update::Assignment(assignments.borrow_and_update().clone())
                    }
                    changed = deltas.changed(), if welcomed => {
                        changed.unwrap();
                        Update::AssignmentDelta(deltas.borrow_and_update().clone())
                    }
                };
                if state.silent.load(Ordering::SeqCst) {
                    continue;
                }
                welcomed = true;
                if sender.send(Ok(SyncWorkerResponse { update: Some(update) })).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn sync_gateway(
        &self,
        _: Request<Streaming<SyncGatewayRequest>>,
    ) -> Result<Response<Self::SyncGatewayStream>, Status> {
        Err(Status::unimplemented("no gateways here"))
    }

    async fn report_usage(&self, _: Request<ReportUsageRequest>) -> Result<Response<ReportUsageResponse>, Status> {
        Err(Status::unimplemented("no gateways here"))
    }

    async fn borrow_quota(&self, _: Request<BorrowQuotaRequest>) -> Result<Response<BorrowQuotaResponse>, Status> {
        Err(Status::unimplemented("nothing is limited here"))
    }

    async fn admit(&self, _: Request<AdmitRequest>) -> Result<Response<AdmitResponse>, Status> {
        Err(Status::unimplemented("nothing is limited here"))
    }

    async fn activate(&self, _: Request<ActivateRequest>) -> Result<Response<ActivateResponse>, Status> {
        Err(Status::unimplemented("no gateways here"))
    }
}

#[tonic::async_trait]
impl ArtifactService for Scheduler {
    type FetchCodeStream = ReceiverStream<Result<FetchCodeResponse, Status>>;

    async fn fetch_code(&self, request: Request<FetchCodeRequest>) -> Result<Response<Self::FetchCodeStream>, Status> {
        self.0.fetches.fetch_add(1, Ordering::SeqCst);
        let code = self.0.code.lock().unwrap().get(&request.into_inner().key).cloned();
        let code = code.ok_or_else(|| Status::not_found("no such code"))?;
        let (sender, receiver) = mpsc::channel(1 + code.len() / (256 << 10));
        for chunk in code.chunks(256 << 10) {
            sender.try_send(Ok(FetchCodeResponse { chunk: Bytes::copy_from_slice(chunk) })).unwrap();
        }
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

/// A scheduler, and a worker that may be running.
pub(crate) struct Cluster {
    pub(crate) scheduler: Scheduler,
    pub(crate) scheduler_address: SocketAddr,
    /// The scheduler's own threads: with them go its connections.
    server: Option<Runtime>,
    pub(crate) folder: tempfile::TempDir,
    worker: Option<(Shutdown, JoinHandle<anyhow::Result<()>>)>,
    pub(crate) address: SocketAddr,
    versions: Vec<AssignedVersion>,
    /// The workers that every worker is told of.
    pub(crate) peers: Vec<WorkerPeer>,
    pub(crate) sequence: u64,
}

impl Cluster {
    /// A scheduler that serves, and no worker.
    pub(crate) async fn new() -> Self {
        let state = State {
            key: Ed25519KeyPair::generate().unwrap(),
            code: Mutex::default(),
            assignment: watch::Sender::new(Assignment::default()),
            deltas: watch::Sender::default(),
            hellos: Mutex::default(),
            load: Mutex::default(),
            fetches: AtomicUsize::new(0),
            silent: AtomicBool::new(false),
        };
        let folder = tempfile::tempdir().unwrap();
        dunlin_process::data::write_private(&folder.path().join("secret"), SECRET.as_bytes()).unwrap();
        let mut cluster = Self {
            scheduler: Scheduler(Arc::new(state)),
            scheduler_address: ([127, 0, 0, 1], 0).into(),
            server: None,
            folder,
            worker: None,
            address: ([127, 0, 0, 1], 0).into(),
            versions: Vec::new(),
            peers: Vec::new(),
            sequence: 0,
        };
        cluster.start_scheduler().await;
        cluster
    }

    /// A scheduler and a worker, both serving.
    pub(crate) async fn with_worker() -> Self {
        let mut cluster = Self::new().await;
        cluster.start_worker(|_| {}).await;
        cluster
    }

    pub(crate) async fn start_scheduler(&mut self) {
        let threads = runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let address = self.scheduler_address;
        let listener = threads.spawn(async move { TcpListener::bind(address).await.unwrap() }).await.unwrap();
        self.scheduler_address = listener.local_addr().unwrap();
        let secret = secret();
        let (sync, code) =
            (SyncServiceServer::new(self.scheduler.clone()), ArtifactServiceServer::new(self.scheduler.clone()));
        let router = Server::builder()
            .add_service(InterceptedService::new(sync, secret.require()))
            .add_service(InterceptedService::new(code, secret.require()));
        threads.spawn(async move { router.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap() });
        self.server = Some(threads);
    }

    /// Ends the scheduler and all its connections.
    pub(crate) async fn stop_scheduler(&mut self) {
        self.server.take().unwrap().shutdown_background();
        eventually("the port is free", || std::net::TcpListener::bind(self.scheduler_address).is_ok()).await;
        self.scheduler.0.hellos.lock().unwrap().clear();
    }

    pub(crate) async fn start_worker(&mut self, change: impl FnOnce(&mut Config)) {
        let mut config = Config {
            name: "w1".into(),
            listen: ([127, 0, 0, 1], 0).into(),
            scheduler: format!("http://{}", self.scheduler_address),
            data_dir: self.folder.path().join("worker"),
            cluster_secret: self.folder.path().join("secret"),
            capacity: 16,
            grace: Duration::from_secs(10),
            ..Config::default()
        };
        change(&mut config);
        let worker = Worker::bind(config).await.unwrap();
        self.address = worker.address();
        let shutdown = Shutdown::default();
        let serving = Shutdown::default().spawn(worker.serve(shutdown.clone()));
        self.worker = Some((shutdown, serving));
    }

    /// Tells the worker to stop; the handle ends when it has.
    pub(crate) fn begin_stop(&mut self) -> JoinHandle<anyhow::Result<()>> {
        let (shutdown, serving) = self.worker.take().unwrap();
        shutdown.begin();
        serving
    }

    pub(crate) async fn stop_worker(&mut self) {
        let serving = self.begin_stop();
        timeout(Duration::from_secs(15), serving).await.unwrap().unwrap().unwrap();
    }

    /// A version of a guest in namespace `shop`, with code that the scheduler has sealed; not yet assigned.
    pub(crate) fn version(&self, function: &str, guest: &'static str) -> AssignedVersion {
        self.version_of(function, "command", guest, guests::compiled(guest))
    }

    /// A version of the HTTP guest that does what its path says.
    pub(crate) fn http_version(&self, function: &str) -> AssignedVersion {
        self.version_of(function, "http-0.2", "hostile-http", guests::http())
    }

    fn version_of(&self, function: &str, kind: &str, guest: &str, body: &[u8]) -> AssignedVersion {
        let options = dunlin_worker::compile::CompileOptions::default();
        let fingerprint = dunlin_worker::compile::fingerprint(&options).unwrap();
        let artifact = Digest::of(guest.as_bytes());
        let code = CompiledCode {
            key: seal::code_key(&artifact, &fingerprint),
            artifact: artifact.hex(),
            fingerprint,
            body_sha256: Digest::of(body).hex(),
            size_bytes: body.len() as u64,
            signature: Bytes::new(),
        };
        self.scheduler.0.code.lock().unwrap().insert(code.key.clone(), body.to_vec());
        let key = VersionKey { function: FunctionUid::new(), number: VersionNumber::FIRST };
        AssignedVersion {
            version: Some(key.into()),
            namespace: "shop".into(),
            function: function.into(),
            kind: kind.into(),
            code: Some(seal::sign(code, &self.scheduler.0.key)),
            policy: Some(InvocationPolicy::from(&VersionSpec::default())),
            min_sandboxes: 0,
            max_sandboxes: 10,
            idle_timeout: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
            standby: false,
            reuse: None,
        }
    }

    /// Assigns one more version and waits until the worker says that it is ready.
    pub(crate) async fn assign(&mut self, version: AssignedVersion) -> AssignedVersion {
        self.versions.push(version.clone());
        self.publish();
        let scheduler = self.scheduler.clone();
        eventually("a version becomes ready", || state_of(&scheduler, &version) == Some(LoadState::Ready)).await;
        version
    }

    /// A guest, assigned and ready.
    pub(crate) async fn deploy(&mut self, function: &str, guest: &'static str) -> AssignedVersion {
        let version = self.version(function, guest);
        self.assign(version).await
    }

    /// Assigns one more version that is only kept on disk, and waits until it is.
    pub(crate) async fn stand_by(&mut self, function: &str, guest: &'static str) -> AssignedVersion {
        let idle_timeout = Some(prost_types::Duration { seconds: 1, nanos: 0 });
        let version = AssignedVersion { standby: true, idle_timeout, ..self.version(function, guest) };
        self.versions.push(version.clone());
        self.publish();
        let stored = u32::try_from(self.versions.iter().filter(|version| version.standby).count()).unwrap();
        let scheduler = self.scheduler.clone();
        eventually("it is on disk", || scheduler.0.load.lock().unwrap().stored == stored).await;
        version
    }

    /// Assigns these versions and nothing else.
    pub(crate) fn assign_only(&mut self, versions: Vec<AssignedVersion>) {
        self.versions = versions;
        self.publish();
    }

    fn publish(&mut self) {
        self.sequence += 1;
        let version = Some(AssignmentVersion { epoch: 1, sequence: self.sequence });
        self.scheduler.0.assignment.send_replace(Assignment {
            version,
            versions: self.versions.clone(),
            peers: self.peers.clone(),
            ..Assignment::default()
        });
    }

    /// What the worker last reported of a version.
    pub(crate) fn load_of(&self, version: &AssignedVersion) -> Option<VersionLoad> {
        load_of(&self.scheduler, version)
    }

    pub(crate) fn code_folder(&self) -> std::path::PathBuf {
        self.folder.path().join("worker/code")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(threads) = self.server.take() {
            threads.shutdown_background();
        }
    }
}

pub(crate) fn secret() -> ClusterSecret {
    ClusterSecret::from_text(SECRET).unwrap()
}

fn load_of(scheduler: &Scheduler, version: &AssignedVersion) -> Option<VersionLoad> {
    let load = scheduler.0.load.lock().unwrap();
    load.versions.iter().find(|load| load.version == version.version).cloned()
}

pub(crate) fn state_of(scheduler: &Scheduler, version: &AssignedVersion) -> Option<LoadState> {
    load_of(scheduler, version).map(|load| load.state())
}

/// The names of files in a folder.
pub(crate) fn files(folder: &Path) -> Vec<String> {
    let names = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    names.collect()
}
