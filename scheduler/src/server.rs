//! The process: what is opened and bound before anything is served, how it waits for its database, and how it ends.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, bail, ensure};
use dunlin_process::{
    data::DataDir,
    metrics::{Metrics, Serving},
    shutdown::Shutdown,
};
use dunlin_proto::{
    metadata::ClusterSecret,
    trust::{Identity, Role, Trust},
    vault::Vault,
};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};
use tonic_health::server::HealthReporter;

use crate::{
    acme::Setup,
    app::{Allowed, App},
    artifacts::Artifacts,
    audit::Ledger,
    authority::Authority,
    claims::Prover,
    codes::Workshop,
    collection::Keeping,
    compiler::{ChildLimits, Compiler, Queue},
    config::Config,
    keyring::Keyring,
    model::Time,
    rpc::{self, Desk},
    signing::CodeSigner,
    store::{Database, OpenError, Store},
    tokens::{Grant, MAX_LIFETIME, Purpose, TokenSigner},
    webhooks,
};

/// What is set up before the database is there: how certificates are got, how domains are proved, and how webhooks are told.
#[derive(Debug)]
pub(crate) struct Setups {
    pub(crate) acme: Setup,
    pub(crate) prover: Arc<Prover>,
    pub(crate) webhooks: webhooks::Setup,
}

/// How long running work may take to end.
const GRACE: Duration = Duration::from_secs(10);

/// Between attempts to reach the database, at the most.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Where a scheduler listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// For gateways and workers.
    pub internal: SocketAddr,
}

/// A scheduler that is bound and not serving yet.
#[derive(Debug)]
pub struct Scheduler {
    listener: TcpListener,
    addresses: Addresses,
    database: Database,
    trust: Trust,
    authority: Arc<Authority>,
    workshop: Arc<Workshop>,
    tokens: Arc<TokenSigner>,
    vault: Arc<Vault>,
    setups: Setups,
    allowed: Allowed,
    keeping: Keeping,
    ledger: Ledger,
    metrics: Metrics,
    scrapes: Option<Serving>,
    /// Held until the end, so that nobody else uses the folder.
    _data: DataDir,
}

impl Scheduler {
    /// Opens the data folder and binds the listener. The database may still be away.
    ///
    /// # Errors
    /// The configuration makes no sense, the folder is in use, the port is taken, a key or secret can't be used.
    pub async fn bind(config: Config) -> anyhow::Result<Self> {
        config.check()?;
        let secret = config.cluster_secret.as_deref().map(ClusterSecret::from_file).transpose()?;
        let data = DataDir::open(&config.data_dir)?;
        let keys = data.folder("keys")?;
        let keys = Keyring::open(&keys, config.storage_key.as_deref())?;
        let setups = Setups {
            acme: Setup::new(&config.acme, keys.vault().clone())?,
            prover: Arc::new(Prover::new(&config.domains, &keys.key("domains.pk8")?)?),
            webhooks: webhooks::Setup::new(&config.webhooks, keys.vault().clone())?,
        };
        let authority = Authority::open(&keys, Duration::from_secs(config.certificate_seconds))?;
        let trust = match secret {
            Some(secret) => Trust::Secret(secret),
            None => Trust::Certificate(authority.member(&config.name)?),
        };
        trust.check_listener("--listen", config.listen)?;
        let limits = ChildLimits::for_compiling(
            config.compiler_memory_mib << 20,
            Duration::from_secs(config.compiler_cpu_seconds),
        );
        let (program, args) = config.compiler()?;
        let workshop = Arc::new(Workshop {
            artifacts: Artifacts::open(config.artifacts.as_deref(), &data)?,
            compiler: Compiler::new(&program, &args, limits),
            queue: Queue::new(config.compilers),
            signer: CodeSigner::open(&keys)?,
            engine: watch::Sender::new(None),
        });
        let tokens = Arc::new(TokenSigner::open(&keys)?);
        let ledger = Ledger::open(&keys, config.audit_days)?;
        let listener = listen(config.listen)?;
        let addresses = Addresses { internal: listener.local_addr().context("read the listener's address")? };
        let database = config.database()?;
        let (authority, keeping) = (Arc::new(authority), config.keeping());
        let allowed = Allowed { rollout: config.rollout, retention: config.retention };
        let (metrics, scrapes) = (Metrics::of_process(env!("CARGO_PKG_VERSION")), config.metrics.bind()?);
        Ok(Self {
            listener,
            addresses,
            database,
            trust,
            authority,
            workshop,
            tokens,
            vault: keys.vault().clone(),
            setups,
            allowed,
            keeping,
            ledger,
            metrics,
            scrapes,
            _data: data,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        self.addresses
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

    /// A token for everything in the cluster, made from the key alone.
    ///
    /// # Errors
    /// The token can't be signed.
    pub fn operator_token(&self, subject: &str, lifetime: Duration) -> anyhow::Result<String> {
        mint_operator_token(&self.tokens, subject, lifetime)
    }

    /// Serves until the shutdown begins and what runs has ended. Waits for the database as long as it takes.
    ///
    /// # Errors
    /// The database is there but can't be used, or the listener fails.
    pub async fn serve(self, shutdown: Shutdown) -> anyhow::Result<()> {
        let work = shutdown.child();
        let (app, opened) = watch::channel(None);
        let desk = Desk {
            app: opened,
            tokens: self.tokens.clone(),
            authority: self.authority.clone(),
            trust: self.trust.clone(),
            vault: self.vault,
            shutdown: work.clone(),
        };
        crate::metrics::register(&self.metrics, app.subscribe());
        let (reporter, health) = tonic_health::server::health_reporter();
        reporter.set_service_status("", tonic_health::ServingStatus::NotServing).await;
        let router = rpc::router(&desk, |mut server| server.add_service(health));
        // Strangers, too: they come to join, and everything else has a guard.
        let incoming = self.trust.incoming(self.listener.into(), true)?;
        if let Trust::Certificate(member) = self.trust {
            let (authority, ending) = (self.authority, work.clone());
            work.spawn(async move { authority.keep_fresh(&member, &ending).await });
        }
        if let Some(scrapes) = self.scrapes {
            work.spawn(scrapes.run(self.metrics.clone(), work.clone()));
        }
        let ending = work.clone();
        let serving = router.serve_with_incoming_shutdown(incoming, async move { ending.begun().await });
        tracing::info!(address = %self.addresses.internal, "the scheduler listens");
        let made = (self.workshop, self.ledger, (self.setups, self.keeping, self.allowed));
        let opening = work.spawn(open(self.database, made, app.clone(), reporter, work.clone()));
        let ended = tokio::select! {
            ended = serving => ended.context("serve the internal listener"),
            failed = failure(opening) => Err(failed),
            () = overdue(&work) => Ok(()),
        };
        work.begin();
        work.finish(GRACE).await;
        let app = app.borrow().clone();
        if let Some(app) = app {
            app.store.close().await;
        }
        ended
    }
}

/// Returns only when the database can't be used.
async fn failure(opening: JoinHandle<anyhow::Result<()>>) -> anyhow::Error {
    match opening.await {
        Ok(Ok(())) => std::future::pending().await,
        Ok(Err(error)) => error,
        Err(error) => anyhow::Error::new(error).context("open the database"),
    }
}

/// Returns when what runs has had its time after the shutdown began.
async fn overdue(shutdown: &Shutdown) {
    shutdown.begun().await;
    tokio::time::sleep(GRACE).await;
    tracing::warn!(grace = ?GRACE, "some calls did not end within the grace period");
}

/// Waits until the database is there, says so meanwhile, and begins with it.
async fn open(
    database: Database,
    (workshop, ledger, (setup, keeping, allowed)): (Arc<Workshop>, Ledger, (Setups, Keeping, Allowed)),
    app: watch::Sender<Option<Arc<App>>>,
    health: HealthReporter,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    let mut pause = Duration::from_millis(200);
    loop {
        let opened = tokio::select! {
            opened = begin(&database, workshop.clone(), &ledger, (&setup, keeping, allowed.clone()), &shutdown) => opened,
            () = shutdown.begun() => return Ok(()),
        };
        match opened {
            Ok(begun) => {
                app.send_replace(Some(begun));
                health.set_service_status("", tonic_health::ServingStatus::Serving).await;
                return Ok(());
            }
            Err(OpenError::Away(error)) => {
                let cause = format!("{:#}", anyhow::Error::new(error));
                tracing::warn!(store = database.kind(), cause, again_in = ?pause, "waiting for the database");
            }
            Err(OpenError::Unusable(error)) => return Err(error.context("the database can't be used")),
        }
        tokio::select! { () = tokio::time::sleep(pause) => {}, () = shutdown.begun() => return Ok(()) }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn begin(
    database: &Database,
    workshop: Arc<Workshop>,
    ledger: &Ledger,
    rules: (&Setups, Keeping, Allowed),
    shutdown: &Shutdown,
) -> Result<Arc<App>, OpenError> {
    let store = Store::open(database).await?.audited(ledger.signer.clone());
    Ok(App::start(store, workshop, rules, ledger.age, shutdown).await?)
}

fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    match dunlin_process::listen::listen(address) {
        Ok(listener) => Ok(listener),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            bail!("address {address} is taken by another process; stop it, or choose another address with --listen")
        }
        Err(error) => Err(error).with_context(|| format!("listen on {address}")),
    }
}

/// A token for everything in the cluster, made from the key in the data folder without a running scheduler. Makes the key
/// where there is none yet.
///
/// # Errors
/// The key can't be read or made.
pub fn operator_token(config: &Config, subject: &str, lifetime: Duration) -> anyhow::Result<String> {
    let (keys, _data) = own_keys(config, &["token.pk8"])?;
    mint_operator_token(&TokenSigner::open(&keys)?, subject, lifetime)
}

/// The keys in the data folder. Only where one of these files has to be made, the folder must be nobody else's meanwhile; a running
/// scheduler has made them.
fn own_keys(config: &Config, files: &[&str]) -> anyhow::Result<(Keyring, Option<DataDir>)> {
    let folder = config.data_dir.join("keys");
    let made = files.iter().all(|file| folder.join(file).exists());
    let data = if made { None } else { Some(DataDir::open(&config.data_dir)?) };
    data.as_ref().map(|data| data.folder("keys")).transpose()?;
    Ok((Keyring::open(&folder, config.storage_key.as_deref())?, data))
}

fn mint_operator_token(tokens: &TokenSigner, subject: &str, lifetime: Duration) -> anyhow::Result<String> {
    ensure!(
        (Duration::from_secs(1)..=MAX_LIFETIME).contains(&lifetime),
        "a token lives between 1 s and 24 h, but --lifetime is {lifetime:?}"
    );
    ensure!(!subject.trim().is_empty() && subject.len() <= 128, "--subject must have 1 to 128 bytes");
    let purpose = Purpose::Administration(vec![Grant::OPERATOR]);
    tokens.mint(subject, &purpose, lifetime, Time::now()).map(|(token, _)| token)
}

/// A token with which one gateway or worker can join the cluster, made from the keys in the data folder without a running
/// scheduler. Makes the keys where there are none yet.
///
/// # Errors
/// The name is none, the lifetime makes no sense, or the keys can't be read or made.
pub fn join_token(config: &Config, role: Role, name: Option<&str>, lifetime: Duration) -> anyhow::Result<String> {
    ensure!(role != Role::Scheduler, "a scheduler needs no join token; it has the keys");
    ensure!(
        (Duration::from_secs(1)..=MAX_LIFETIME).contains(&lifetime),
        "a join token lives between 1 s and 24 h, but --lifetime is {lifetime:?}"
    );
    if let Some(name) = name {
        Identity::new(role, name).map_err(anyhow::Error::msg)?;
    }
    let (keys, _data) = own_keys(config, &["token.pk8", "authority.pem"])?;
    let authority = Authority::open(&keys, MAX_LIFETIME)?;
    let purpose = Purpose::Join(role, name.map(str::to_owned), authority.fingerprint());
    TokenSigner::open(&keys)?.mint("operator", &purpose, lifetime, Time::now()).map(|(token, _)| token)
}
