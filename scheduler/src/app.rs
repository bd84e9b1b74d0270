//! The scheduler once its database is there: everything that the services call, and the tasks behind it.

use std::{sync::Arc, time::Duration};

use dunlin_process::shutdown::Shutdown;
use dunlin_proto::ids::{GatewayId, WorkerId};
use tokio::time::Instant;

use crate::{
    acme::Acme,
    budgets::Budgets,
    catalog::CatalogKeeper,
    claims::Claims,
    cluster::Cluster,
    codes::{Codes, Workshop},
    collection::Keeping,
    config::{RetentionConfig, RolloutConfig},
    deploy::Deploys,
    error::Error,
    garbage::{Freed, Sweep},
    lending::{Buried, Lending, gone},
    members::Members,
    metrics::Probe,
    model::Time,
    reconcile::{self, Board},
    rollout::Rollouts,
    server::Setups,
    store::Store,
    trials::Trials,
    webhooks::Webhooks,
};

/// How often old request ids, lost workers and expired keys are looked for.
const TIDY: Duration = Duration::from_secs(60);

/// How often it is looked for artifacts that nothing needs.
const SWEEP: Duration = Duration::from_secs(15 * 60);

/// Of so many quotas what goes back is written in one transaction.
const QUOTAS_AT_ONCE: usize = 200;

/// How long a request id makes repetition harmless.
const REQUEST_AGE: Duration = Duration::from_secs(7 * 24 * 3600);

/// How long it is known what was used of quotas, in seconds since the beginning of their period.
const QUOTA_AGE: i64 = 100 * 24 * 3600;

/// What the operator lets namespaces choose.
#[derive(Debug, Clone)]
pub(crate) struct Allowed {
    pub(crate) rollout: RolloutConfig,
    pub(crate) retention: RetentionConfig,
}

/// What the services call.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) store: Store,
    pub(crate) catalog: Arc<CatalogKeeper>,
    pub(crate) codes: Codes,
    pub(crate) board: Arc<Board>,
    pub(crate) deploys: Arc<Deploys>,
    pub(crate) members: Members,
    pub(crate) lending: Lending,
    pub(crate) rollouts: Arc<Rollouts>,
    pub(crate) allowed: Allowed,
    pub(crate) probe: Probe,
    pub(crate) budgets: Arc<Budgets>,
    /// What was deleted because nothing needed it.
    pub(crate) freed: Freed,
    pub(crate) claims: Arc<Claims>,
    pub(crate) webhooks: Arc<Webhooks>,
    trials: Trials,
    keeping: Keeping,
    /// This start of the scheduler, as the database counts them.
    epoch: u64,
    /// How long entries of the audit log are kept.
    audit_age: Duration,
    shutdown: Shutdown,
}

impl App {
    /// Begins an epoch, reads what is remembered, and starts the tasks.
    pub(crate) async fn start(
        store: Store,
        workshop: Arc<Workshop>,
        (setups, keeping, allowed): (&Setups, Keeping, Allowed),
        audit_age: Duration,
        shutdown: &Shutdown,
    ) -> Result<Arc<Self>, Error> {
        let epoch = store.epoch_begin().await?;
        store.releases_begin().await?;
        let remembered = store.worker_list().await?;
        let members = Members::load(store.clone()).await?;
        let catalog = Arc::new(CatalogKeeper::load(store.clone()).await?);
        let lending = Lending::new(store.holder_list().await?, &catalog.current(), Instant::now(), keeping.shares);
        let board = Arc::new(Board::new(Cluster::new(&remembered), epoch, Instant::now()));
        let codes = Codes { workshop, store: store.clone(), catalog: catalog.clone() };
        let trials = Trials { store: store.clone(), catalog: catalog.clone(), board: board.clone() };
        let deploys = Deploys::new(codes.clone(), board.clone(), trials.clone(), shutdown.clone());
        let acme = Acme::open(&setups.acme, store.clone(), catalog.clone(), board.clone()).await?;
        shutdown.spawn(acme.run(shutdown.clone()));
        let claims = Arc::new(Claims::new(setups.prover.clone(), &store, catalog.clone()));
        shutdown.spawn(claims.clone().run(shutdown.clone()));
        let rollouts = Arc::new(Rollouts::new(&store, catalog.clone()));
        shutdown.spawn(rollouts.clone().run(shutdown.clone()));
        let budgets = Arc::new(Budgets::load(store.clone()).await?);
        shutdown.spawn(budgets.clone().run(shutdown.clone()));
        let webhooks = Arc::new(Webhooks::new(setups.webhooks.clone(), store.clone()));
        shutdown.spawn(webhooks.clone().run(shutdown.clone()));
        shutdown.spawn(webhooks.clone().keep_counting(shutdown.clone()));
        shutdown.spawn(reconcile::run(board.clone(), catalog.clone(), shutdown.clone()));
        shutdown.spawn(codes.clone().keep_compiled(shutdown.clone()));
        deploys.resume();
        let (shutdown, probe) = (shutdown.clone(), Probe::default());
        let app = Arc::new(Self {
            store,
            catalog,
            codes,
            board,
            deploys,
            members,
            lending,
            rollouts,
            allowed,
            probe,
            budgets,
            freed: Freed::default(),
            claims,
            webhooks,
            trials,
            keeping,
            epoch,
            audit_age,
            shutdown,
        });
        app.shutdown.spawn(app.clone().keep_fresh());
        app.shutdown.spawn(app.clone().keep_tidy());
        app.shutdown.spawn(app.clone().keep_swept());
        app.shutdown.spawn(app.clone().keep_probing());
        tracing::info!(epoch, store = app.store.kind(), "the scheduler's state is open");
        Ok(app)
    }

    /// Tells gateways and placement of a change that has been made.
    pub(crate) async fn config_changed(&self) {
        self.catalog.refresh().await;
    }

    /// Tells gateways and placement of a change that has been made, and waits until the gateways serve it. Names those that do
    /// not yet.
    pub(crate) async fn config_acknowledged(&self) -> Vec<String> {
        self.config_changed().await;
        self.board.lagging(&self.catalog).await
    }

    /// Remembers that a worker has joined or left. Where that fails, a restart waits a little too long or too short.
    pub(crate) fn remember_worker(&self, worker: &WorkerId, member: bool) {
        let (store, worker) = (self.store.clone(), worker.clone());
        self.shutdown.spawn(async move {
            if let Err(error) = store.worker_set_member(&worker, member).await {
                let cause = format!("{:#}", anyhow::Error::new(error));
                tracing::warn!(%worker, member, cause, "a worker's membership can't be remembered");
            }
        });
    }

    /// Remembers that a gateway may hold parts of limits, before any is lent to it. Where that fails, a restarted scheduler
    /// may lend them twice.
    pub(crate) async fn remember_holder(&self, gateway: &GatewayId) {
        if self.lending.remembers(gateway) {
            return;
        }
        match self.store.holder_add(gateway).await {
            Ok(()) => self.lending.remember(gateway, Instant::now()),
            Err(error) => {
                let cause = format!("{:#}", anyhow::Error::new(error));
                tracing::warn!(%gateway, cause, "it can't be remembered that a gateway holds parts of limits");
            }
        }
    }

    /// Lends again what a gateway had that is no longer heard, as soon as it is certain that its process is gone.
    pub(crate) fn bury_when_gone(self: Arc<Self>, gateway: GatewayId, address: String) {
        self.shutdown.clone().spawn(async move {
            tokio::select! {
                is_gone = gone(&address, self.lending.patience()) => if is_gone { self.bury(&gateway).await },
                () = self.shutdown.begun() => {}
            }
        });
    }

    async fn bury(&self, gateway: &GatewayId) {
        if let Some(buried) = self.lending.bury(gateway, &self.catalog.current(), Instant::now()) {
            tracing::info!(%gateway, "a gateway's process is gone; its parts of limits are lent again");
            self.take_back(buried).await;
            self.forget_holder(gateway).await;
        }
    }

    /// Gives back to quotas what processes cannot have used that are gone. Where that fails, it counts as used: whether it has been
    /// written is not known then, and must not be tried again.
    async fn take_back(&self, buried: Vec<Buried>) {
        for Buried { process, unused } in buried {
            for unused in unused.chunks(QUOTAS_AT_ONCE) {
                match self.store.quota_take_back(self.epoch, unused).await {
                    Ok(true) => {
                        let admissions: u64 = unused.iter().map(|unused| unused.admissions).sum();
                        tracing::info!(gateway = %process.0, admissions, "quotas have back what a gateway had not used that is gone");
                    }
                    Ok(false) => tracing::warn!("another scheduler has begun; nothing goes back to quotas"),
                    Err(error) => {
                        let cause = format!("{:#}", anyhow::Error::new(error));
                        tracing::warn!(gateway = %process.0, cause, "what a gateway had left of quotas that is gone counts as used");
                    }
                }
            }
            self.lending.forget_process(&process);
        }
    }

    /// The same, while others go on.
    pub(crate) fn take_back_later(self: &Arc<Self>, buried: Vec<Buried>) {
        if !buried.is_empty() {
            let app = self.clone();
            self.shutdown.spawn(async move { app.take_back(buried).await });
        }
    }

    async fn forget_holder(&self, gateway: &GatewayId) {
        if let Err(error) = self.store.holder_remove(gateway).await {
            let cause = format!("{:#}", anyhow::Error::new(error));
            tracing::warn!(%gateway, cause, "a gateway that is gone can't be forgotten");
        }
    }

    /// Lends again what was lost with gateways.
    async fn tidy_lending(&self) {
        for gateway in self.lending.tidy(&self.catalog.current(), Instant::now()) {
            let seconds = self.lending.patience().as_secs();
            tracing::warn!(
                %gateway,
                seconds,
                "a gateway has not been heard for too long; its shares of limits are lent again, and where it is cut off and                  alive, calls may exceed them by as much"
            );
            self.forget_holder(&gateway).await;
        }
    }

    /// Loads changes that could not be loaded when they were made, and notes what workers have found out.
    async fn keep_fresh(self: Arc<Self>) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
                () = self.shutdown.begun() => return,
            }
            if self.catalog.is_stale() {
                self.catalog.refresh().await;
            }
            self.tidy_lending().await;
            if let Err(error) = self.trials.note().await {
                tracing::warn!(
                    cause = format!("{:#}", anyhow::Error::new(error)),
                    "what workers tried can't be remembered"
                );
            }
        }
    }

    /// Deletes versions that are old and that nobody can get any more.
    async fn collect_versions(&self) {
        let (catalog, now) = (self.catalog.current(), Time::now());
        for function in catalog.functions.values().filter(|function| self.keeping.concerns(function, now)) {
            let name = function.record.reference();
            match self.store.versions_collect(&name, self.keeping, now).await {
                Ok(gone) if gone.is_empty() => {}
                Ok(gone) => tracing::info!(function = %name, versions = ?gone, "old versions have been deleted"),
                Err(error) => {
                    let cause = format!("{:#}", anyhow::Error::new(error));
                    tracing::warn!(function = %name, cause, "old versions can't be deleted");
                }
            }
        }
    }

    /// Deletes entries of the audit log that are too old.
    async fn prune_audit(&self) {
        let old = Time(Time::now().0.saturating_sub(Time(0).after(self.audit_age).0));
        match self.store.audit_prune(old).await {
            Ok(0) => {}
            Ok(entries) => tracing::info!(entries, "old entries of the audit log have been deleted"),
            Err(error) => {
                let cause = format!("{:#}", anyhow::Error::new(error));
                tracing::warn!(cause, "old entries of the audit log can't be deleted");
            }
        }
    }

    /// Asks the database whether it answers, so that its state is known also while nobody changes anything.
    async fn keep_probing(self: Arc<Self>) {
        tokio::select! { () = self.probe.run(&self.store) => {}, () = self.shutdown.begun() => {} }
    }

    /// Forgets usage that is old.
    async fn forget_usage(&self) {
        let before = Time::now().0 / 1_000_000 - i64::try_from(self.keeping.usage.as_secs()).unwrap_or(i64::MAX);
        if let Err(error) = self.store.usage_forget(before).await {
            tracing::warn!(cause = format!("{:#}", anyhow::Error::new(error)), "old usage can't be deleted");
        }
    }

    /// Deletes artifacts and code that no version needs, until the shutdown begins.
    async fn keep_swept(self: Arc<Self>) {
        loop {
            let swept = tokio::select! {
                swept = async {
                    tokio::time::sleep(SWEEP).await;
                    self.sweep().await
                } => swept,
                () = self.shutdown.begun() => return,
            };
            if let Err(error) = swept {
                let cause = format!("{:#}", anyhow::Error::new(error));
                tracing::warn!(cause, "artifacts that nothing needs can't be deleted for now");
            }
        }
    }

    async fn sweep(&self) -> Result<(), Error> {
        let (store, artifacts, freed) = (&self.store, &self.codes.workshop.artifacts, &self.freed);
        Sweep { store, artifacts, grace: self.keeping.artifacts, now: Time::now(), freed }.run().await
    }

    async fn keep_tidy(self: Arc<Self>) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(TIDY) => {}
                () = self.shutdown.begun() => return,
            }
            for worker in self.board.cluster().forget(Instant::now()) {
                self.remember_worker(&worker, false);
            }
            if let Err(error) = self.store.request_expire(REQUEST_AGE, Time::now()).await {
                tracing::warn!(cause = format!("{:#}", anyhow::Error::new(error)), "old request ids can't be deleted");
            }
            if let Err(error) = self.store.idempotency_expire(Time::now()).await {
                tracing::warn!(
                    cause = format!("{:#}", anyhow::Error::new(error)),
                    "old idempotency keys can't be deleted"
                );
            }
            if let Err(error) = self.store.quota_forget(Time::now().0 / 1_000_000 - QUOTA_AGE).await {
                tracing::warn!(cause = format!("{:#}", anyhow::Error::new(error)), "old quotas can't be deleted");
            }
            self.forget_usage().await;
            if let Err(error) = self.store.join_token_expire(Time::now()).await {
                tracing::warn!(cause = format!("{:#}", anyhow::Error::new(error)), "used join tokens can't be deleted");
            }
            self.collect_versions().await;
            self.prune_audit().await;
            self.webhooks.tidy().await;
            // Keys that have expired since.
            self.catalog.reload().await;
        }
    }
}
