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
pub mod join;
mod line_table;
mod logs;
mod metrics;
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
use dunlin_process::{
    cores::Cores,
    data::DataDir,
    listen::Sockets,
    metrics::{Metrics, Serving},
    shutdown::Shutdown,
};
use dunlin_proto::{
    INITIAL_CREDIT_BYTES,
    ids::WorkerId,
    internal::v1::{
        artifact_service_client::ArtifactServiceClient, artifact_service_server::ArtifactServiceServer,
        session_service_server::SessionServiceServer, sync_service_client::SyncServiceClient,
        worker_log_service_server::WorkerLogServiceServer,
    },
    local::Local,
    trust::{Enrolment, Expected, Home, Link, Role, Trust},
    vault::Vault,
};
use tokio::{net::TcpListener, runtime::Handle, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tonic::{
    service::interceptor::InterceptedService,
    transport::{Server, server::Router},
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
/// The largest frame of a gateway: a whole piece of a body, and what belongs to it.
const FRAME_BYTES: u32 = 128 << 10;
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
    trust: Trust,
    home: Home,
    listener: TcpListener,
    address: SocketAddr,
    runtime: Arc<Runtime>,
    logs: Arc<Logs>,
    artifacts: Arc<Artifacts>,
    scheduler: Link,
    data: DataDir,
    local: Option<Local>,
    cores: Option<Cores>,
    metrics: Metrics,
    scrapes: Option<Serving>,
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

/// Its name, and how it is trusted: the name that its certificate says, if it has one.
async fn enrol(config: &Config, data: &DataDir, home: &Home) -> anyhow::Result<(WorkerId, Trust)> {
    let name = identity::name(&config.name, data.path())?;
    let trust = enrolment(config, home, &name).open().await?;
    let name = trust.identity().map(|identity| identity.id.parse()).transpose()?.unwrap_or(name);
    Ok((name, trust))
}

/// Where it keeps its key and certificate.
fn home(config: &Config, data: &DataDir) -> anyhow::Result<Home> {
    let vault = Vault::open(config.storage_key.as_deref(), data.path())?;
    Ok(Home::new(data.path(), vault.into()))
}

fn enrolment<'a>(config: &'a Config, home: &'a Home, name: &'a WorkerId) -> Enrolment<'a> {
    Enrolment {
        role: Role::Worker,
        wanted: (!config.name.is_empty()).then_some(&*config.name),
        fallback: name.as_str(),
        home,
        secret: &config.cluster_secret,
        token: config.join_token_file.as_deref(),
        scheduler: &config.scheduler,
    }
}

impl Worker {
    /// Opens the data folder, starts the engine and binds the port. Waits for the scheduler only where it has to join.
    ///
    /// # Errors
    /// A value of the configuration makes no sense, the folder or the port is taken, or the machine can't run the engine.
    pub async fn bind(config: Config) -> anyhow::Result<Self> {
        config.check()?;
        let data = DataDir::open(&config.data_dir)?;
        let home = home(&config, &data)?;
        let (name, trust) = enrol(&config, &data, &home).await?;
        trust.check_listener("--listen", config.listen)?;
        let listener = dunlin_process::listen::listen(config.listen);
        let listener =
            listener.with_context(|| format!("listen on {}; name a free port with --listen ADDRESS", config.listen))?;
        let address = listener.local_addr()?;
        let runtime = Runtime::new(&config.sandbox(authorities(&config.outbound_ca)?)?)?;
        let limits = LogLimits {
            total_bytes: config.log_bytes,
            namespace_bytes: config.log_bytes_per_namespace,
            rate_bytes: config.log_rate_bytes,
            max_age: config.log_max_age,
        };
        let logs = Arc::new(Logs::open(data.path().join("logs"), limits)?);
        let scheduler = scheduler(&trust, &config.scheduler)?;
        let client = ArtifactServiceClient::new(scheduler.clone());
        let peers = Peers::new(&name, trust.clone());
        let cache =
            Artifacts::open(data.folder("code")?, config.code_cache_bytes, runtime.fingerprint(), client, peers);
        let artifacts = Arc::new(cache.context("open the code cache")?);
        let (metrics, scrapes) = (Metrics::of_process(env!("CARGO_PKG_VERSION")), config.metrics.bind()?);
        Ok(Self {
            name,
            config,
            trust,
            home,
            listener,
            address,
            runtime,
            logs,
            artifacts,
            scheduler,
            data,
            local: None,
            cores: None,
            metrics,
            scrapes,
        })
    }

    /// Also takes sessions from a gateway of the same process, without a network.
    #[must_use]
    pub fn beside(self, local: Local) -> Self {
        Self { local: Some(local), ..self }
    }

    /// Takes sessions on these threads, which then run guests; without any, on those of the process.
    #[must_use]
    pub fn on(self, cores: Cores) -> Self {
        Self { cores: Some(cores), ..self }
    }

    /// Measures into these, which other roles of the process share.
    #[must_use]
    pub fn measured_by(self, metrics: Metrics) -> Self {
        Self { metrics, ..self }
    }

    /// Where it serves metrics, if it does.
    #[must_use]
    pub fn scrapes(&self) -> Option<SocketAddr> {
        self.scrapes.as_ref().map(Serving::address)
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
    pub async fn serve(mut self, shutdown: Shutdown) -> anyhow::Result<()> {
        let (finished, stop) = (CancellationToken::new(), CancellationToken::new());
        let (background, work) = (shutdown.child(), shutdown.child());
        let capacity = self.capacity();
        let holdings = self.holdings(&capacity, &background);
        let agent = self.agent(&holdings, &shutdown);
        let counted = metrics::Counted::default();
        let parts = metrics::Parts {
            counted: counted.clone(),
            holdings: holdings.clone(),
            artifacts: self.artifacts.clone(),
            logs: self.logs.clone(),
            capacity,
            linked: agent.linked.clone(),
        };
        metrics::register(&self.metrics, parts);
        agent.resume();
        background.spawn(agent.run(finished.clone()));
        let (logs, ending) = (self.logs.clone(), background.clone());
        background.spawn(async move { logs.forget_old(ending).await });
        if let Some(scrapes) = self.scrapes.take() {
            background.spawn(scrapes.run(self.metrics.clone(), background.clone()));
        }
        tracing::info!(worker = self.name(), address = %self.address, engine = self.runtime.fingerprint(), "serving");
        let context = session::Context {
            worker: self.name().to_owned(),
            endpoint: identity::endpoint(&self.name),
            holdings: holdings.clone(),
            counted,
            shutdown: work.clone(),
            stop: stop.clone(),
        };
        let logs = LogService::new(self.logs.clone(), self.name(), work.clone());
        let sessions = Sessions::new(context);
        if let Some(local) = &self.local {
            background.spawn(sessions.clone().serve_local(local.listen(self.address)));
        }
        let code = CodeService::new(self.artifacts.clone());
        let (health, router) = router(&self.trust, self.config.capacity, sessions, logs, code).await;
        let cores = self.cores.unwrap_or_else(Cores::here);
        let mut servers = serve(&router, Sockets::share(self.listener, &cores, &background), &self.trust, &shutdown)?;
        let fresh = self.trust.clone();
        let fresh = fresh.keep_fresh(self.config.scheduler.clone(), self.home.clone(), background.clone());
        background.spawn(fresh);
        let mut drained = std::pin::pin!(async {
            shutdown.begun().await;
            health.set_service_status("", ServingStatus::NotServing).await;
            if !work.finish(self.config.grace).await {
                stop.cancel();
                work.finish(LAST_MOMENTS).await;
            }
        });
        tokio::select! {
            Some(ended) = servers.join_next() => {
                ended.context("serve gateways")?.context("serve gateways")?;
                if !shutdown.has_begun() {
                    bail!("the listener on {} was closed", self.address);
                }
                drained.await;
            }
            () = &mut drained => {
                // Whoever keeps a connection open now keeps nothing.
                let _ = tokio::time::timeout(LAST_MOMENTS, servers.join_all()).await;
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

    fn capacity(&self) -> Arc<Capacity> {
        let threads = self.cores.as_ref().map_or(1, |cores| cores.handles().len());
        let threads = u32::try_from(threads).unwrap_or(u32::MAX);
        Capacity::new(self.config.capacity, self.config.prepared_capacity(), threads)
    }

    fn holdings(&self, capacity: &Arc<Capacity>, background: &Shutdown) -> Holdings {
        let (runtime, artifacts) = (self.runtime.clone(), self.artifacts.clone());
        Holdings::new(runtime, artifacts, self.logs.clone(), capacity.clone(), background.clone())
    }

    fn agent(&self, holdings: &Holdings, shutdown: &Shutdown) -> Agent {
        let client = SyncServiceClient::new(self.scheduler.clone());
        Agent {
            hello: identity::hello(&self.name, self.address, &self.config, self.runtime.fingerprint()),
            client: client.max_decoding_message_size(MAX_ASSIGNMENT_BYTES),
            holdings: holdings.clone(),
            artifacts: self.artifacts.clone(),
            logs: self.logs.clone(),
            remembered: Remembered::new(self.data.path()),
            forgettable: AtomicBool::new(false),
            linked: Arc::default(),
            shutdown: shutdown.clone(),
        }
    }
}

/// Serves connections, each on its thread, until the shutdown begins.
fn serve(
    router: &Router,
    shared: Vec<(Handle, Sockets)>,
    trust: &Trust,
    shutdown: &Shutdown,
) -> anyhow::Result<JoinSet<Result<(), tonic::transport::Error>>> {
    let mut servers = JoinSet::new();
    for (core, sockets) in shared {
        let (incoming, end) = (trust.incoming(sockets, false)?, shutdown.clone());
        let serving = router.clone().serve_with_incoming_shutdown(incoming, async move { end.begun().await });
        servers.spawn_on(serving, &core);
    }
    Ok(servers)
}

/// Everything behind the internal listener: code for other workers, the rest for gateways.
async fn router(
    trust: &Trust,
    capacity: u32,
    sessions: Sessions,
    logs: LogService,
    code: CodeService,
) -> (HealthReporter, Router) {
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<SessionServiceServer<Sessions>>().await;
    let sessions = SessionServiceServer::new(sessions).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let logs = WorkerLogServiceServer::new(logs).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let (window, gateways) = (window(capacity), || trust.require(&[Role::Gateway]));
    let router = Server::builder()
        .initial_stream_window_size(window)
        .initial_connection_window_size(window)
        .max_frame_size(Some(FRAME_BYTES))
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .add_service(InterceptedService::new(sessions, gateways()))
        .add_service(InterceptedService::new(logs, gateways()))
        .add_service(InterceptedService::new(ArtifactServiceServer::new(code), trust.require(&[Role::Worker])))
        .add_service(InterceptedService::new(health_service, gateways()));
    (health, router)
}

/// More than all invocations together may send without new credit, so that none of them holds up another.
fn window(capacity: u32) -> u32 {
    let credits = u64::from(capacity) * INITIAL_CREDIT_BYTES + (4 << 20);
    // The most that HTTP/2 knows (RFC 9113 6.9.1).
    u32::try_from(credits).unwrap_or(u32::MAX).min((1 << 31) - 1)
}

/// The way to the scheduler, opened when it is needed.
fn scheduler(trust: &Trust, url: &str) -> anyhow::Result<Link> {
    let endpoint = trust
        .scheduler(url)?
        .connect_timeout(Duration::from_secs(1))
        .tcp_nodelay(true)
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(16 << 20)
        .http2_keep_alive_interval(SCHEDULER_KEEPALIVE)
        .keep_alive_timeout(SCHEDULER_KEEPALIVE * 2)
        .keep_alive_while_idle(true);
    Ok(trust.link(&endpoint, Expected::any(Role::Scheduler))?)
}
