//! Dunlin's muscle: runs invocations in WebAssembly sandboxes.
//!
//! A gateway's session (`session`) asks the holdings for a version (`holdings`), its pool for a sandbox (`pool`), and runs it
//! (`sandbox`). What is held comes from the scheduler (`agent`), compiled code through a cache that trusts nobody
//! (`artifacts`); what guests write is kept beside (`logs`). Only `sandbox` and `compile` know wasmtime.

mod agent;
mod artifacts;
pub mod command;
pub mod compile;
pub mod config;
mod holdings;
mod identity;
mod logs;
mod pool;
mod remembered;
pub mod sandbox;
mod session;

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use anyhow::{Context, bail};
use dunlin_process::{data::DataDir, shutdown::Shutdown};
use dunlin_proto::{
    INITIAL_CREDIT_BYTES,
    ids::WorkerId,
    internal::v1::{
        artifact_service_client::ArtifactServiceClient, artifact_service_server::ArtifactServiceServer,
        session_service_server::SessionServiceServer, sync_service_client::SyncServiceClient,
        worker_log_service_server::WorkerLogServiceServer,
    },
    local::Local,
    metadata::ClusterSecret,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{
    service::interceptor::InterceptedService,
    transport::{Channel, Endpoint, Server, server::TcpIncoming},
};
use tonic_health::{ServingStatus, server::HealthReporter};

use agent::Agent;
use artifacts::{Artifacts, CodeService, Peers};
use holdings::Holdings;
use logs::{LogLimits, Logs, service::LogService};
use pool::Capacity;
use remembered::Remembered;
use sandbox::Runtime;
use session::Sessions;

pub use config::{Config, WorkerArgs};

/// The largest message of a gateway: a request's head, or a piece of its body.
const MAX_MESSAGE_BYTES: usize = 1 << 20;
/// The largest assignment.
const MAX_ASSIGNMENT_BYTES: usize = 64 << 20;
/// How often both sides of a connection make sure of each other, and how long they wait for it.
const KEEPALIVE: Duration = Duration::from_secs(5);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// The scheduler is missed sooner, since it misses workers within two seconds.
const SCHEDULER_KEEPALIVE: Duration = Duration::from_secs(1);
/// What is left after the grace period has so long to end.
const LAST_MOMENTS: Duration = Duration::from_secs(1);

/// A worker that has bound its port and serves nobody yet.
#[derive(Debug)]
pub struct Worker {
    name: WorkerId,
    config: Config,
    secret: ClusterSecret,
    listener: TcpListener,
    address: SocketAddr,
    runtime: Arc<Runtime>,
    logs: Arc<Logs>,
    artifacts: Arc<Artifacts>,
    channel: Channel,
    data: DataDir,
    local: Option<Local>,
}

/// What these PEM files hold, one after another.
fn authorities(files: &[PathBuf]) -> anyhow::Result<Vec<u8>> {
    let mut all = Vec::new();
    for file in files {
        let read = std::fs::read(file).with_context(|| format!("read authorities of --outbound-ca {}", file.display()));
        all.extend(read?);
        all.push(b'\n');
    }
    Ok(all)
}

impl Worker {
    /// Opens the data folder, starts the engine and binds the port. Reaches for nobody: the scheduler may come later.
    ///
    /// # Errors
    /// A value of the configuration makes no sense, the folder or the port is taken, or the machine can't run the engine.
    pub async fn bind(config: Config) -> anyhow::Result<Self> {
        config.check()?;
        let secret = ClusterSecret::from_file(&config.cluster_secret)?;
        let data = DataDir::open(&config.data_dir)?;
        let name = identity::name(&config.name, data.path())?;
        let listener = TcpListener::bind(config.listen).await;
        let listener =
            listener.with_context(|| format!("listen on {}; name a free port with --listen ADDRESS", config.listen))?;
        let address = listener.local_addr()?;
        let runtime = Runtime::new(&config.sandbox(authorities(&config.outbound_ca)?)?)?;
        let limits = LogLimits {
            total_bytes: config.log_bytes,
            namespace_bytes: config.log_bytes_per_namespace,
            rate_bytes: config.log_rate_bytes,
        };
        let logs = Arc::new(Logs::open(data.folder("logs")?, limits)?);
        let channel = scheduler(&config.scheduler)?;
        let client = ArtifactServiceClient::with_interceptor(channel.clone(), secret.attach());
        let peers = Peers::new(&name, secret.clone());
        let cache =
            Artifacts::open(data.folder("code")?, config.code_cache_bytes, runtime.fingerprint(), client, peers);
        let artifacts = Arc::new(cache.context("open the code cache")?);
        Ok(Self { name, config, secret, listener, address, runtime, logs, artifacts, channel, data, local: None })
    }

    /// Also takes sessions from a gateway of the same process, without a network.
    #[must_use]
    pub fn beside(self, local: Local) -> Self {
        Self { local: Some(local), ..self }
    }

    /// Its name in the cluster.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// Where gateways reach it.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` begins; then takes nothing new, finishes what runs within the grace period, and ends.
    ///
    /// # Errors
    /// The port can't be served any longer.
    pub async fn serve(self, shutdown: Shutdown) -> anyhow::Result<()> {
        let (finished, stop) = (CancellationToken::new(), CancellationToken::new());
        let (background, work) = (shutdown.child(), shutdown.child());
        let holdings = self.holdings(&background);
        let agent = self.agent(&holdings, &shutdown);
        agent.resume();
        background.spawn(agent.run(finished.clone()));
        tracing::info!(worker = self.name(), address = %self.address, engine = self.runtime.fingerprint(), "serving");
        let context = session::Context {
            worker: self.name().to_owned(),
            endpoint: identity::endpoint(&self.name),
            holdings: holdings.clone(),
            shutdown: work.clone(),
            stop: stop.clone(),
        };
        let logs = LogService::new(self.logs.clone(), self.name(), work.clone());
        let sessions = Sessions::new(context);
        if let Some(local) = &self.local {
            background.spawn(sessions.clone().serve_local(local.listen(self.address)));
        }
        let code = CodeService::new(self.artifacts.clone());
        let (health, router) = router(&self.secret, self.config.capacity, sessions, logs, code).await;
        let incoming = TcpIncoming::from(self.listener).with_nodelay(Some(true));
        let mut served = std::pin::pin!(router.serve_with_incoming_shutdown(incoming, shutdown.begun()));
        let mut drained = std::pin::pin!(async {
            shutdown.begun().await;
            health.set_service_status("", ServingStatus::NotServing).await;
            if !work.finish(self.config.grace).await {
                stop.cancel();
                work.finish(LAST_MOMENTS).await;
            }
        });
        tokio::select! {
            ended = &mut served => {
                ended.context("serve gateways")?;
                if !shutdown.has_begun() {
                    bail!("the listener on {} was closed", self.address);
                }
                drained.await;
            }
            () = &mut drained => {
                // Whoever keeps a connection open now keeps nothing.
                let _ = tokio::time::timeout(LAST_MOMENTS, served).await;
            }
        }
        holdings.close();
        finished.cancel();
        background.finish(LAST_MOMENTS).await;
        self.logs.close().await;
        drop(self.data);
        tracing::info!("stopped");
        Ok(())
    }

    fn holdings(&self, background: &Shutdown) -> Holdings {
        let capacity = Arc::new(Capacity::new(self.config.capacity, self.config.prepared_capacity()));
        let (runtime, artifacts) = (self.runtime.clone(), self.artifacts.clone());
        Holdings::new(runtime, artifacts, self.logs.clone(), capacity, background.clone())
    }

    fn agent(&self, holdings: &Holdings, shutdown: &Shutdown) -> Agent {
        let client = SyncServiceClient::with_interceptor(self.channel.clone(), self.secret.attach());
        Agent {
            hello: identity::hello(&self.name, self.address, &self.config, self.runtime.fingerprint()),
            client: client.max_decoding_message_size(MAX_ASSIGNMENT_BYTES),
            holdings: holdings.clone(),
            artifacts: self.artifacts.clone(),
            remembered: Remembered::new(self.data.path()),
            forgettable: AtomicBool::new(false),
            shutdown: shutdown.clone(),
        }
    }
}

/// Everything behind the internal listener; nothing of it without the cluster's secret.
async fn router(
    secret: &ClusterSecret,
    capacity: u32,
    sessions: Sessions,
    logs: LogService,
    code: CodeService,
) -> (HealthReporter, tonic::transport::server::Router) {
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<SessionServiceServer<Sessions>>().await;
    let sessions = SessionServiceServer::new(sessions).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let logs = WorkerLogServiceServer::new(logs).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let window = window(capacity);
    let router = Server::builder()
        .initial_stream_window_size(window)
        .initial_connection_window_size(window)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .add_service(InterceptedService::new(sessions, secret.require()))
        .add_service(InterceptedService::new(logs, secret.require()))
        .add_service(InterceptedService::new(ArtifactServiceServer::new(code), secret.require()))
        .add_service(InterceptedService::new(health_service, secret.require()));
    (health, router)
}

/// More than all invocations together may send without new credit, so that none of them holds up another.
fn window(capacity: u32) -> u32 {
    let credits = u64::from(capacity) * INITIAL_CREDIT_BYTES + (4 << 20);
    // The most that HTTP/2 knows (RFC 9113 6.9.1).
    u32::try_from(credits).unwrap_or(u32::MAX).min((1 << 31) - 1)
}

/// The way to the scheduler, opened when it is needed.
fn scheduler(url: &str) -> anyhow::Result<Channel> {
    let endpoint = Endpoint::from_shared(url.to_owned())
        .with_context(|| format!("scheduler is {url:?}, but must be an address such as http://127.0.0.1:7070"))?;
    Ok(endpoint
        .connect_timeout(Duration::from_secs(1))
        .tcp_nodelay(true)
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(16 << 20)
        .http2_keep_alive_interval(SCHEDULER_KEEPALIVE)
        .keep_alive_timeout(SCHEDULER_KEEPALIVE * 2)
        .keep_alive_while_idle(true)
        .connect_lazy())
}
