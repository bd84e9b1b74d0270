//! Dunlin's public edge: HTTP in, credentials checked, invocations out to workers, administration passed to the scheduler.
//!
//! The path of a call: `edge` (connections) -> `invoke` (one request) -> `auth`, `routes` -> `dispatch` (sessions with
//! workers). Beside it: `snapshot` keeps configuration and placements current, `records` keeps what became of calls, `metering` counts what they used,
//! `admin` serves people and tools. It holds no durable state but a copy of the configuration, records, and
//! usage that has not been reported yet.

mod admin;
mod attempts;
mod auth;
mod cache;
mod checked;
mod config;
mod dispatch;
mod edge;
mod error;
mod invoke;
mod limits;
mod metering;
mod metrics;
mod quota;
mod records;
mod routes;
mod snapshot;
mod tls;
mod traces;
mod upstream;

use std::{future::ready, net::SocketAddr, sync::Arc};

use anyhow::Context as _;
use dunlin_process::{
    cores::Cores,
    data::DataDir,
    metrics::{Metrics, Serving},
    shutdown::Shutdown,
};
use dunlin_proto::{
    internal::v1::invocation_record_service_server::InvocationRecordServiceServer,
    local::Local,
    trust::{Enrolment, Home, Role, Trust},
    vault::Vault,
};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

pub use admin::{Least, PLACES, Place};
pub use config::{
    CacheConfig, CertificateConfig, Config, DispatchConfig, ForwardedHeader, GatewayArgs, LimitsConfig, OidcAlgorithm,
    OidcConfig, OidcPurpose, ProxiesConfig, RecordsConfig, SignInConfig, TlsConfig, TracingConfig, TracingProtocol,
};
pub use traces::{Branch, Tree, Trees};

/// Where a gateway listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// Functions.
    pub functions: SocketAddr,
    /// Administration.
    pub admin: SocketAddr,
    /// Other gateways' questions.
    pub peer: SocketAddr,
    /// Redirects to HTTPS.
    pub redirect: Option<SocketAddr>,
}

/// What every part of the gateway works with.
#[derive(Debug)]
pub(crate) struct Context {
    /// The configuration of the process.
    pub(crate) config: Arc<Config>,
    /// Checks credentials.
    pub(crate) verifier: auth::Verifier,
    /// Signs people in through issuers.
    pub(crate) sign_ins: auth::SignIns,
    /// What is served.
    pub(crate) routes: routes::RouteTable,
    /// Stored answers.
    pub(crate) cache: cache::Cache,
    /// What authorizers said of callers.
    pub(crate) verdicts: invoke::Verdicts,
    /// Sends invocations to workers; its directory says where versions run and who the other gateways are.
    pub(crate) dispatcher: dispatch::Dispatcher,
    /// Borrows parts of limits.
    pub(crate) borrowing: limits::Borrowing,
    /// The scheduler's services.
    pub(crate) scheduler: upstream::Scheduler,
    /// Workers' logs and gateways' records, by address.
    pub(crate) workers: upstream::Workers,
    /// Counts what invocations use.
    pub(crate) metering: metering::Metering,
    /// This gateway's records.
    pub(crate) records: Arc<records::Records>,
    /// Which invocations are traced.
    pub(crate) traces: traces::Traces,
    /// What the cluster got for domains.
    pub(crate) issued: tls::Issued,
    /// Certificates from files; nothing where there is no TLS.
    pub(crate) tls: Option<tls::Tls>,
    /// What was tried here and goes into the audit log.
    pub(crate) attempts: attempts::Attempts,
    /// What this process measures.
    pub(crate) metrics: Metrics,
    /// What calls count.
    pub(crate) counted: metrics::Counted,
    /// The end of the process.
    pub(crate) shutdown: Shutdown,
}

/// A gateway that has bound its ports but does not serve yet.
#[derive(Debug)]
pub struct Gateway {
    addresses: Addresses,
    listeners: Listeners,
    tls: Option<tls::Tls>,
    issued: tls::Issued,
    vault: Arc<Vault>,
    config: Arc<Config>,
    data: DataDir,
    trust: Trust,
    sign_ins: auth::SignIns,
    records: Arc<records::Records>,
    keeper: records::Keeper,
    traces: traces::Traces,
    exporter: Option<traces::Exporter>,
    trees: Option<Trees>,
    local: Local,
    cores: Option<Cores>,
    metrics: Metrics,
    scrapes: Option<Serving>,
}

#[derive(Debug)]
struct Listeners {
    functions: TcpListener,
    admin: TcpListener,
    peer: TcpListener,
    redirect: Option<TcpListener>,
}

impl Listeners {
    fn bind(config: &Config) -> anyhow::Result<Self> {
        Ok(Self {
            functions: bind("--functions", config.functions)?,
            admin: bind("--admin", config.admin)?,
            peer: bind("--peer", config.peer)?,
            redirect: config.tls.redirect.map(|address| bind("tls.redirect", address)).transpose()?,
        })
    }

    fn addresses(&self) -> std::io::Result<Addresses> {
        Ok(Addresses {
            functions: self.functions.local_addr()?,
            admin: self.admin.local_addr()?,
            peer: self.peer.local_addr()?,
            redirect: self.redirect.as_ref().map(TcpListener::local_addr).transpose()?,
        })
    }
}

fn bind(flag: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    let hint =
        || format!("listen on {address}; if another process has the port, stop it or choose another with {flag}");
    dunlin_process::listen::listen(address).with_context(hint)
}

async fn enrol(config: &Config, home: &Home) -> anyhow::Result<Trust> {
    let name = config.name.as_str();
    let enrolment = Enrolment {
        role: Role::Gateway,
        // The name of somebody who has not been given one is nobody's wish.
        wanted: (config.name != Config::default().name).then_some(name),
        fallback: name,
        home,
        secret: &config.cluster_secret,
        token: config.join_token_file.as_deref(),
        scheduler: &config.scheduler,
    };
    Ok(enrolment.open().await?)
}

/// Runs a gateway until the shutdown, which also ends waiting for a scheduler to join.
///
/// # Errors
/// As [`Gateway::bind`] and [`Gateway::serve`].
pub async fn run(config: Config, shutdown: Shutdown) -> anyhow::Result<()> {
    let threads = config.threads;
    let gateway = tokio::select! {
        bound = Gateway::bind(config) => bound?,
        () = shutdown.begun() => return Ok(()),
    };
    let Addresses { functions, admin, peer, redirect } = gateway.addresses();
    tracing::info!(%functions, %admin, %peer, ?redirect, tls = gateway.config.tls.is_on(), "gateway listens");
    gateway.on(Cores::start(threads)?).serve(shutdown).await
}

impl Gateway {
    /// Opens the data folder, reads what is in it and binds every port. Waits for the scheduler only where it has to join.
    ///
    /// # Errors
    /// The configuration is not valid, the folder, a certificate or the secret can't be used, a port is taken.
    pub async fn bind(config: Config) -> anyhow::Result<Self> {
        config.validate()?;
        let issued = tls::Issued::default();
        let tls = tls::Tls::open(&config.tls, issued.clone()).context("set up TLS towards callers")?;
        let data = DataDir::open(&config.data_dir)?;
        let vault = Arc::new(Vault::open(config.storage_key.as_deref(), data.path())?);
        let trust = enrol(&config, &Home::new(data.path(), vault.clone())).await?;
        let name = trust.identity().map(|identity| identity.id.parse()).transpose()?.unwrap_or(config.name.clone());
        trust.check_listener("--peer", config.peer)?;
        let listeners = Listeners::bind(&config)?;
        let addresses = listeners.addresses()?;
        // What is told about a listener is where it is, not where it was asked for: port 0 is nobody's address.
        let Addresses { functions, admin, peer, .. } = addresses;
        let config = Arc::new(Config { functions, admin, peer, name, ..config });
        let sign_ins = auth::SignIns::open(&config).context("prepare signing in at the dashboard")?;
        let (traces, exporter, trees) = traces::Traces::open(&config).context("set up traces")?;
        let (records, keeper) = records::Records::open(data.folder("records")?, &config.records, traces.clone())?;
        let (metrics, scrapes) = (Metrics::of_process(env!("CARGO_PKG_VERSION")), config.metrics.bind()?);
        Ok(Self {
            addresses,
            listeners,
            tls,
            issued,
            vault,
            config,
            data,
            trust,
            sign_ins,
            records,
            keeper,
            traces,
            exporter,
            trees,
            local: Local::default(),
            cores: None,
            metrics,
            scrapes,
        })
    }

    /// Reaches these workers, which are in the same process, without a network.
    #[must_use]
    pub fn beside(self, local: Local) -> Self {
        Self { local, ..self }
    }

    /// Serves functions on these threads; without any, on those of the process.
    #[must_use]
    pub fn on(self, cores: Cores) -> Self {
        Self { cores: Some(cores), ..self }
    }

    /// Measures into these, which other roles of the process share.
    #[must_use]
    pub fn measured_by(self, metrics: Metrics) -> Self {
        Self { metrics, ..self }
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// The traces of its invocations as they come, once, where `tracing.watched` asks for them.
    pub fn trees(&mut self) -> Option<Trees> {
        self.trees.take()
    }

    /// Where it serves metrics without a credential, if it does.
    #[must_use]
    pub fn scrapes(&self) -> Option<SocketAddr> {
        self.scrapes.as_ref().map(Serving::address)
    }

    /// The addresses of functions and of administration, for people. By TLS the latter has the name of the first certificate,
    /// for by another nobody would trust it.
    #[must_use]
    pub fn urls(&self) -> (String, String) {
        let Addresses { functions, admin, .. } = self.addresses;
        let name = self.tls.as_ref().filter(|_| self.config.admin_tls()).and_then(tls::Tls::name);
        let admin = match name {
            Some(name) => format!("https://{name}:{}", admin.port()),
            None => format!("{}://{admin}", if self.config.admin_tls() { "https" } else { "http" }),
        };
        (format!("{}://{functions}", self.config.tls.scheme()), admin)
    }

    /// Serves until `shutdown` begins, then lets running requests end within the grace period.
    ///
    /// # Errors
    /// The scheduler's URL can't be read, an issuer can't be used, or the system gives no signal handler.
    pub async fn serve(self, shutdown: Shutdown) -> anyhow::Result<()> {
        // What requests need lives longer than the listeners: sessions end once the last request has.
        let backstage = Shutdown::default();
        let cores = self.cores.clone().unwrap_or_else(Cores::here);
        let (context, sync) = self.context(&cores, &shutdown, &backstage)?;
        let Self { listeners, tls, config, trust, keeper, exporter, data, records, vault, metrics, scrapes, .. } = self;
        let Listeners { functions, admin, peer, redirect } = listeners;
        backstage.spawn(keeper.run(backstage.clone()));
        if let Some(exporter) = exporter {
            backstage.spawn(exporter.run(backstage.clone()));
        }
        backstage.spawn(sync.run(backstage.clone()));
        if let Some(scrapes) = scrapes {
            backstage.spawn(scrapes.run(metrics, backstage.clone()));
        }
        let unsent = data.path().join("usage.unsent");
        let (metering, scheduler) = (context.metering.clone(), context.scheduler.clone());
        let reporter = metering::report::Reporter::new(metering, &config.name, scheduler, unsent);
        backstage.spawn(reporter.run(backstage.clone()));
        let fresh =
            trust.clone().keep_fresh(config.scheduler.clone(), Home::new(data.path(), vault), backstage.clone());
        backstage.spawn(fresh);
        if let Some(tls) = tls.clone() {
            let signal = signal(SignalKind::hangup()).context("listen to SIGHUP")?;
            backstage.spawn(tls.watch(signal, config.tls.reload, backstage.clone()));
        }
        let public = invoke::Functions::new(context.clone());
        let serve = move |request, peer| public.serve(request, peer);
        let limits = Arc::new(config.limits.clone());
        let crowds = Arc::new(config.proxies.clone());
        let proxies = config.proxies.protocol.then(|| crowds.clone());
        let terms = edge::Terms { limits, proxies, crowds, hsts: config.tls.hsts_header(), tls };
        let mut listening = vec![("functions", edge::serve(functions, &cores, &terms, &serve, &shutdown))];
        let clear = edge::Terms { tls: None, ..terms.clone() };
        if let Some(redirect) = redirect {
            let (config, issued) = (config.clone(), context.issued.clone());
            let serve = move |request, peer| ready(invoke::redirect(request, &peer, &config, &issued));
            listening.push(("redirect", edge::serve(redirect, &Cores::here(), &clear, &serve, &shutdown)));
        }
        let telling = context.attempts.clone();
        let (gateway, scheduler) = (config.name.to_string(), context.scheduler.clone());
        backstage.spawn(telling.run(gateway, scheduler, backstage.clone()));
        let (router, measured) = (admin::router(context.clone()), context.clone());
        let routes = context.routes.clone();
        let serve = move |request, peer| invoke::administration(router.clone(), request, peer, context.clone());
        // Proxies stand before functions.
        let terms = edge::Terms { proxies: None, ..if config.admin_tls() { terms } else { clear } };
        listening.push(("admin", edge::serve(admin, &Cores::here(), &terms, &serve, &shutdown)));
        metrics::register(&measured, metrics::Listening(listening));
        drop(measured);
        let guard = trust.require(&[Role::Gateway]);
        let service = records::service::RecordService { records, routes };
        let service = InvocationRecordServiceServer::with_interceptor(service, guard);
        // While anything runs here, other processes must see that this one is there.
        let (ended, incoming) = (backstage.clone(), trust.incoming(peer.into(), false)?);
        let server = tonic::transport::Server::builder().add_service(service);
        backstage.spawn(server.serve_with_incoming_shutdown(incoming, async move { ended.begun().await }));
        shutdown.begun().await;
        shutdown.finish(config.grace).await;
        backstage.begin();
        backstage.finish(std::time::Duration::from_secs(2)).await;
        drop(data);
        Ok(())
    }

    fn context(
        &self,
        cores: &Cores,
        shutdown: &Shutdown,
        backstage: &Shutdown,
    ) -> anyhow::Result<(Arc<Context>, snapshot::Sync)> {
        let config = &self.config;
        let routes = routes::RouteTable::default();
        let verifier = auth::Verifier::new(routes.clone(), &config.oidc)?;
        let scheduler = upstream::Scheduler::new(&config.scheduler, &self.trust)?;
        let connector = dispatch::Connector {
            gateway: config.name.clone(),
            trust: self.trust.clone(),
            local: self.local.clone(),
            changed: tokio::sync::watch::Sender::new(0),
        };
        let directory = dispatch::Directory::new(connector, config.dispatch.sessions, cores.clone(), backstage.clone());
        let borrowing = limits::Borrowing::new(config.name.clone(), directory.clone(), scheduler.clone());
        let activator = dispatch::activate::Activator::new(scheduler.clone(), backstage.clone());
        let counted = metrics::Counted::default();
        let metering = metering::Metering::default();
        let dispatcher = dispatch::Dispatcher::new(
            config.name.clone(),
            (directory.clone(), borrowing.clone()),
            activator,
            (self.records.clone(), metrics::Series::new(counted.clone()), metering.clone()),
            config.dispatch.clone(),
            backstage.clone(),
        );
        let peer = self.addresses.peer.to_string();
        let cache = cache::Cache::new(config.cache.max_bytes);
        let identity = snapshot::Identity { name: config.name.clone(), peer_address: peer };
        let sync = snapshot::Sync::open(
            self.data.path(),
            self.vault.clone(),
            identity,
            scheduler.clone(),
            snapshot::Sinks {
                routes: routes.clone(),
                verifier: verifier.clone(),
                directory,
                borrowing: borrowing.clone(),
                cache: cache.clone(),
                issued: self.issued.clone(),
                metering: metering.clone(),
                records: self.records.clone(),
            },
            config.max_staleness,
        );
        let context = Context {
            config: config.clone(),
            verifier,
            sign_ins: self.sign_ins.clone(),
            routes,
            cache,
            verdicts: invoke::Verdicts::default(),
            dispatcher,
            borrowing,
            scheduler,
            workers: upstream::Workers::new(self.trust.clone()),
            metering,
            records: self.records.clone(),
            traces: self.traces.clone(),
            issued: self.issued.clone(),
            tls: self.tls.clone(),
            attempts: attempts::Attempts::default(),
            metrics: self.metrics.clone(),
            counted,
            shutdown: shutdown.clone(),
        };
        Ok((Arc::new(context), sync))
    }
}
