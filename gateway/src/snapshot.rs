//! The gateway's stream to the scheduler: configuration and placements down, demand up; reconnects for ever.
//!
//! They are kept on disk as they arrive, with the certificates of domains, so that a gateway that starts while the scheduler is
//! away serves what it served before. How a configuration changes is in `snapshot/configuration.rs`, what it means in `convert.rs`,
//! the files in `disk.rs`.

mod age;
mod certificates;
mod configuration;
mod convert;
mod demand;
mod disk;
mod encoded;
mod lefts;
mod limits;
mod rates;

use std::{
    collections::{BTreeSet, HashSet},
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::Context;
use dunlin_process::shutdown::Shutdown;
use dunlin_proto::{
    PROTOCOL_VERSION,
    ids::{GatewayId, VersionKey},
    internal::v1::{
        CachePurges, Certificates, CertificatesPosition, GatewayHello, GatewayLoad, HeldRates, Placements,
        PurgePosition, SyncGatewayRequest, SyncGatewayResponse, VersionOutcomes, WatchedVersions,
        sync_gateway_request::Report, sync_gateway_response::Update,
    },
    limit::LimitId,
    route::Purge,
    vault::Vault,
};
use futures::StreamExt;
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use configuration::Configuration;
use lefts::Lefts;
use rates::Look;

use crate::{
    auth::Verifier,
    cache::Cache,
    dispatch::{Backoff, Directory, wire},
    limits::Borrowing,
    metering::Metering,
    records::Records,
    routes::{RouteTable, Version},
    tls::Issued,
    upstream::Scheduler,
};

/// How often demand is reported.
const TICK: Duration = Duration::from_millis(500);
/// How often a file says when the scheduler was heard.
const NOTED: Duration = Duration::from_secs(60);
/// How long the scheduler may take to answer a new stream.
const OPENING: Duration = Duration::from_secs(5);

/// How long a gateway that leaves takes to give back what it was lent.
const GIVING_BACK: Duration = Duration::from_secs(2);

/// Who this gateway is to the scheduler.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    /// Its name.
    pub(crate) name: GatewayId,
    /// Where other gateways ask it for its records.
    pub(crate) peer_address: String,
}

/// Who works with what arrives.
#[derive(Debug, Clone)]
pub(crate) struct Sinks {
    /// Functions and keys.
    pub(crate) routes: RouteTable,
    /// Forgets tokens when keys change.
    pub(crate) verifier: Verifier,
    /// Placements.
    pub(crate) directory: Directory,
    /// Learns whether there is a stream.
    pub(crate) borrowing: Borrowing,
    /// Forgets stored answers.
    pub(crate) cache: Cache,
    /// Shows certificates, and answers challenges.
    pub(crate) issued: Issued,
    /// Learns which budgets are used up.
    pub(crate) metering: Metering,
    /// Learns for how long namespaces have records kept.
    pub(crate) records: Arc<Records>,
}

/// The stream and what it has brought.
#[derive(Debug)]
pub(crate) struct Sync {
    identity: Identity,
    scheduler: Scheduler,
    sinks: Sinks,
    /// How long what is known is served without the scheduler.
    max_staleness: Duration,
    /// When the file of the configuration was last given the time at which the scheduler was heard.
    noted: Instant,
    config: disk::Kept<Configuration>,
    /// What the table in force was made of.
    served: Configuration,
    placements: disk::Kept<Placements>,
    /// This gateway's parts of limits, for a time without the scheduler.
    parts: disk::Kept<HeldRates>,
    /// They have changed since they were set down.
    lent: bool,
    /// Limits of which something was lent that are not known here: the scheduler is told.
    unknown: BTreeSet<LimitId>,
    certificates: disk::Kept<Certificates>,
    /// What of them this process has heard of; challenges are not kept.
    certified: CertificatesPosition,
    /// The purges that have been followed; at the start, nothing is stored.
    purged: PurgePosition,
    /// The next hello asks for the whole configuration.
    whole: bool,
    /// Whether there is a stream; nothing before the first try.
    connected: Option<bool>,
    /// The versions whose calls are counted.
    watched: HashSet<VersionKey>,
    /// By what the scheduler tells counts of this process from those of another.
    counted_by: u64,
    /// The last report, which is not repeated.
    reported: Option<GatewayLoad>,
    /// What has been said of quotas.
    lefts: Lefts,
}

impl Sync {
    /// Serves what the files of an earlier process hold, until the scheduler says otherwise.
    pub(crate) fn open(
        folder: &Path,
        vault: Arc<Vault>,
        identity: Identity,
        scheduler: Scheduler,
        sinks: Sinks,
        max_staleness: Duration,
    ) -> Self {
        let config = disk::Kept::open(folder.join("config.snapshot"));
        let placements = disk::Kept::open(folder.join("placements.snapshot"));
        let parts = disk::Kept::open(folder.join("limits.snapshot"));
        let certificates = disk::Kept::sealed(folder.join("certificates.sealed"), vault);
        let mut sync = Self {
            identity,
            scheduler,
            sinks,
            max_staleness,
            noted: Instant::now(),
            config,
            served: Configuration::default(),
            placements,
            parts,
            lent: false,
            unknown: BTreeSet::new(),
            certificates,
            certified: CertificatesPosition::default(),
            purged: PurgePosition::default(),
            whole: false,
            connected: None,
            watched: HashSet::new(),
            counted_by: rand::random(),
            reported: None,
            lefts: Lefts::new(Instant::now()),
        };
        sync.config.time().into_iter().for_each(|time| sync.sinks.routes.heard().set(time));
        age::look(&sync.sinks.routes, max_staleness);
        sync.publish_config();
        sync.publish_placements();
        if let Some(certificates) = sync.certificates.value() {
            sync.sinks.issued.apply(&certificates);
        }
        // They were true of an earlier process; whatever the scheduler says is newer.
        sync.sinks.directory.accept_any();
        sync
    }

    /// Runs until `shutdown`.
    pub(crate) async fn run(self, shutdown: Shutdown) {
        let (config, placements) = (self.config.writer(), self.placements.writer());
        let (config, placements) = (config.run(shutdown.clone()), placements.run(shutdown.clone()));
        let parts = self.parts.writer().run(shutdown.clone());
        let certificates = self.certificates.writer().run(shutdown.clone());
        let age = age::watch(self.sinks.routes.clone(), self.max_staleness, shutdown.clone());
        tokio::join!(self.follow(shutdown), config, placements, parts, certificates, age);
    }

    /// Follows one stream after another until `shutdown`.
    async fn follow(mut self, shutdown: Shutdown) {
        let mut backoff = Backoff::default();
        while !shutdown.has_begun() {
            tokio::select! {
                ended = self.stream(&mut backoff) => {
                    let Err(error) = ended;
                    if self.connected.is_none() {
                        self.restore();
                    }
                    // Said once: it is tried again every second.
                    if self.connected.replace(false) != Some(false) {
                        tracing::warn!(error = format!("{error:#}"), "no stream to the scheduler; what is known is served on");
                    }
                }
                () = shutdown.begun() => break,
            }
            self.sinks.borrowing.close();
            tokio::select! {
                () = tokio::time::sleep(backoff.next(rand::random())) => {}
                () = shutdown.begun() => break,
            }
        }
        self.give_back().await;
    }

    /// Gives back what has been lent of quotas and is not used. Where that fails, it counts as used.
    async fn give_back(&self) {
        let table = self.sinks.routes.load().clone();
        let rests: Vec<_> = table.quotas().filter_map(|quota| quota.rest()).collect();
        let given = futures::stream::iter(rests).map(|rest| self.sinks.borrowing.quota(rest));
        let failed = given.buffer_unordered(16).filter(|answer| std::future::ready(answer.is_err())).count();
        // The process does not stay for a scheduler that is not there.
        match tokio::time::timeout(GIVING_BACK, failed).await {
            Ok(0) => {}
            Ok(failed) => tracing::warn!(failed, "what is left of quotas could not be given back; it counts as used"),
            Err(_) => tracing::warn!("what is left of quotas was not given back in time; it counts as used"),
        }
    }

    /// Opens a stream and follows it until it fails. Cancel-safe.
    async fn stream(&mut self, backoff: &mut Backoff) -> anyhow::Result<std::convert::Infallible> {
        let (reports, outgoing) = mpsc::channel(4);
        let taken = self.sinks.borrowing.taken();
        reports.send(self.hello()).await.context("send hello")?;
        let mut client = self.scheduler.sync();
        let opening = client.sync_gateway(ReceiverStream::new(outgoing));
        let opened = tokio::time::timeout(OPENING, opening).await.context("the scheduler did not answer in time")?;
        let mut updates = opened.context("open stream")?.into_inner();
        tracing::info!("stream to the scheduler is open");
        self.connected = Some(true);
        self.sinks.directory.accept_any();
        self.reported = None;
        if !self.sinks.borrowing.open(taken) {
            anyhow::bail!("parts of limits were taken while the stream was opened; it is opened again to say so");
        }
        let (mut tick, mut measure) = (tokio::time::interval(TICK), tokio::time::interval(rates::MEASURE));
        let borrowing = self.sinks.borrowing.clone();
        let slots = borrowing.slots();
        // A stream on which nothing ever comes says nothing of what is known.
        let mut speaks = false;
        loop {
            tokio::select! {
                update = next(&mut updates) => {
                    *backoff = Backoff::default();
                    let update = update?;
                    speaks = true;
                    self.hear();
                    let look = looks(&update);
                    self.take_in(update)?;
                    if let Some(look) = look {
                        self.lent |= look == Look::Loans;
                        self.tell(&reports, look)?;
                    }
                    // Whoever made a change waits for it to be served.
                    self.acknowledge(&reports)?;
                }
                _ = measure.tick() => {
                    self.tell(&reports, Look::Measure)?;
                    if self.lefts.is_due(Instant::now()) {
                        self.report(&reports)?;
                    }
                }
                () = borrowing.woken() => self.tell(&reports, Look::Loans)?,
                () = slots.notified() => self.tell(&reports, Look::Slots)?,
                _ = tick.tick() => {
                    if speaks {
                        self.hear();
                    }
                    self.report(&reports)?;
                    self.keep_parts();
                }
            }
        }
    }

    /// The scheduler is there. Its file keeps when that was, for a process that starts without it.
    fn hear(&mut self) {
        self.sinks.routes.heard().set(SystemTime::now());
        age::look(&self.sinks.routes, self.max_staleness);
        if self.noted.elapsed() >= NOTED {
            self.noted = Instant::now();
            self.config.note();
        }
    }

    /// Says what there is to say of limits.
    fn tell(&mut self, reports: &mpsc::Sender<SyncGatewayRequest>, look: Look) -> anyhow::Result<()> {
        if rates::report(&self.sinks.routes.load(), reports, look, &mut self.unknown)? {
            self.sinks.borrowing.count();
        }
        Ok(())
    }

    /// Sets down what this gateway has been lent, where that has changed.
    fn keep_parts(&mut self) {
        if std::mem::take(&mut self.lent) {
            self.parts.set(rates::parts(&self.sinks.routes.load(), SystemTime::now()));
        }
    }

    /// Without a scheduler at the start, what an earlier process was lent is in force still: it may hold others to the rest.
    fn restore(&self) {
        let Some(parts) = self.parts.value() else { return };
        let kept = rates::restore(&self.sinks.routes.load(), &parts, SystemTime::now(), self.max_staleness);
        tracing::info!(limits = kept, "parts of limits are in force that an earlier process was lent");
    }

    fn hello(&mut self) -> SyncGatewayRequest {
        // What an older software has kept knows no routes or aliases, and its version alone does not say so.
        let kept = self.config.value().filter(|config| config.core.domains.is_some() && config.core.aliases);
        // What is held is said below, and all the rest is not.
        self.unknown.clear();
        self.lefts.begin(&self.sinks.routes.load());
        let known = kept.map_or(0, |config| config.version);
        let hello = GatewayHello {
            gateway: self.identity.name.to_string(),
            protocol_version: PROTOCOL_VERSION,
            software_version: env!("CARGO_PKG_VERSION").to_owned(),
            peer_address: self.identity.peer_address.clone(),
            config_version: if std::mem::take(&mut self.whole) { 0 } else { known },
            held_rates: rates::held(&self.sinks.routes.load()),
            purged: Some(self.purged),
            certificates: Some(self.certified),
            budgets: true,
            boot: self.sinks.borrowing.boot(),
        };
        SyncGatewayRequest { report: Some(Report::Hello(hello)) }
    }

    /// Says what callers want, where that has changed, and what is left of quotas.
    fn report(&mut self, reports: &mpsc::Sender<SyncGatewayRequest>) -> anyhow::Result<()> {
        let counts = GatewayLoad { outcomes: self.outcomes(), counted_by: self.counted_by, ..GatewayLoad::default() };
        let load = demand::load(&self.sinks.routes, self.purged, self.certified, counts);
        let (changed, now) = (self.reported.as_ref() != Some(&load), Instant::now());
        if !changed && !self.lefts.is_due(now) {
            return Ok(());
        }
        let place = match reports.try_reserve() {
            Ok(place) => place,
            // The scheduler is slow; the next tick says it again.
            Err(mpsc::error::TrySendError::Full(())) => return Ok(()),
            Err(error @ mpsc::error::TrySendError::Closed(())) => return Err(error).context("send report"),
        };
        let (lefts, lefts_sequence) = self.lefts.look(&self.sinks.routes.load(), now);
        if changed || !lefts.is_empty() {
            self.reported = Some(load.clone());
            let load = GatewayLoad { lefts, lefts_sequence, ..load };
            place.send(SyncGatewayRequest { report: Some(Report::Load(load)) });
        }
        Ok(())
    }

    /// Says at once which configuration and certificates are served and which purges have been followed, where that has changed.
    fn acknowledge(&mut self, reports: &mpsc::Sender<SyncGatewayRequest>) -> anyhow::Result<()> {
        let served = (self.sinks.routes.load().version, Some(self.purged), Some(self.certified));
        let said = self.reported.as_ref().map(|load| (load.config_version, load.purged, load.certificates));
        if said == Some(served) { Ok(()) } else { self.report(reports) }
    }

    fn take_in(&mut self, update: Update) -> anyhow::Result<()> {
        match update {
            Update::Config(config) => {
                self.config.set(config.into());
                self.publish_config();
            }
            Update::ConfigDelta(delta) => {
                // Whatever happens, a configuration is never half changed: without a result, the whole is asked for.
                self.whole = true;
                let base = self.config.value().unwrap_or_default();
                self.config.set(base.apply(delta)?);
                self.whole = false;
                self.publish_config();
            }
            Update::Placements(placements) => {
                self.placements.set(placements);
                self.publish_placements();
            }
            Update::LeftsNoted(noted) => self.lefts.noted(noted.sequence),
            Update::RateLoans(loans) => rates::apply(&self.sinks.routes.load(), loans, &mut self.unknown),
            Update::CachePurges(purges) => self.purge(purges),
            Update::Watched(watched) => self.watch(&watched),
            Update::SpentBudgets(spent) => self.sinks.metering.refuse(spent),
            Update::Certificates(update) => {
                self.sinks.issued.apply(&update);
                self.certified = update.position.unwrap_or_default();
                let kept = self.certificates.value().map(|kept| (*kept).clone()).unwrap_or_default();
                self.certificates.set(certificates::apply(kept, &update));
            }
        }
        Ok(())
    }

    /// Counts the calls of these versions, and of no others.
    fn watch(&mut self, watched: &WatchedVersions) {
        let keys = watched.versions.iter().filter_map(|version| VersionKey::try_from(version).ok());
        self.watched = keys.collect();
        self.sinks.routes.load().versions().for_each(|version| self.count(version));
    }

    fn count(&self, version: &Version) {
        version.demand.outcomes.watch(self.watched.contains(&version.key));
    }

    /// What has been counted.
    fn outcomes(&self) -> Vec<VersionOutcomes> {
        if self.watched.is_empty() {
            return Vec::new();
        }
        let (table, now) = (self.sinks.routes.load(), Instant::now());
        let counted = table.versions().filter(|version| self.watched.contains(&version.key));
        let report = |version: &Arc<Version>| version.demand.outcomes.report(wire::version_ref(version.key), now);
        let mut outcomes: Vec<_> = counted.filter_map(report).collect();
        // Tables have no order, and equal reports must look equal.
        outcomes
            .sort_by_cached_key(|outcomes| outcomes.version.as_ref().map(|it| (it.function_uid.clone(), it.number)));
        outcomes
    }

    /// Forgets stored answers. What can't be read may be about any of them.
    fn purge(&mut self, purges: CachePurges) {
        let CachePurges { position, all, purges } = purges;
        let read: Result<Vec<Purge>, _> = purges.into_iter().map(Purge::try_from).collect();
        match read {
            Ok(purges) if !all => purges.iter().for_each(|purge| self.sinks.cache.purge(purge)),
            Ok(_) | Err(_) => self.sinks.cache.clear(),
        }
        self.purged = position.unwrap_or_default();
    }

    fn publish_config(&mut self) {
        let Some(config) = self.config.value() else { return };
        let old = self.sinks.routes.load().clone();
        let new = convert::table(&config, &self.served, &old, &self.sinks.borrowing.slots());
        self.sinks.records.keep(config.core.limits.as_ref().map_or(&[], |limits| &limits.retentions));
        self.served = (*config).clone();
        let keys_changed = new.token_keys != old.token_keys;
        tracing::debug!(version = new.version, "configuration is served");
        if !self.watched.is_empty() {
            new.versions().for_each(|version| self.count(version));
        }
        self.sinks.routes.replace(new);
        if keys_changed {
            self.sinks.verifier.forget();
        }
    }

    fn publish_placements(&self) {
        if let Some(placements) = self.placements.value() {
            self.sinks.directory.announce(convert::announced(&placements));
        }
    }
}

/// What there may be to tell once an update is in force. Smaller parts are confirmed at once, and so is what runs under a new limit
/// of calls at once; with very many limits, nothing is looked at for nothing.
fn looks(update: &Update) -> Option<Look> {
    match update {
        Update::RateLoans(_) => Some(Look::Loans),
        Update::Config(_) | Update::ConfigDelta(_) => Some(Look::Slots),
        _ => None,
    }
}

async fn next(updates: &mut Streaming<SyncGatewayResponse>) -> anyhow::Result<Update> {
    let message = updates.message().await.context("read update")?.context("the scheduler ended the stream")?;
    message.update.context("the scheduler sent an empty update")
}
