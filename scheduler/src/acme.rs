//! Certificates of domains, got and renewed by ACME (RFC 8555): which domains want one, when, and what becomes of it. The database
//! remembers all of it, so that a restart goes on where it was; an order that was under way begins anew.
//!
//! One order is `acme/order.rs`, its moment `schedule.rs`, what gateways are told `published.rs`, how the authority is reached
//! `client.rs`.

mod client;
mod order;
mod published;
mod schedule;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use dunlin_process::shutdown::Shutdown;
use dunlin_proto::{
    ids::{DomainName, Namespace},
    vault::Vault,
};
use futures::{StreamExt, stream::FuturesUnordered};
use instant_acme::{Account, NewAccount};
use tokio::sync::{Mutex, watch::Receiver};

use self::{
    client::Client,
    order::{Failure, Obtained},
};
pub(crate) use self::{
    published::{Challenge, Change, Published, Served},
    schedule::ends_soon,
};
use crate::{
    catalog::{Catalog, CatalogKeeper},
    config::AcmeConfig,
    error::Error,
    model::{CertificateRecord, Issued, Time},
    reconcile::Board,
    store::Store,
    webhooks::Event,
};

/// Orders at once.
const MOST: usize = 4;
/// How often it is looked what is due, without a reason.
const LOOK: Duration = Duration::from_secs(60);
/// How soon after a look there is another one, at the least.
const PAUSE: Duration = Duration::from_millis(250);
/// How long an order may take.
const PATIENCE: Duration = Duration::from_secs(300);
/// How long it is remembered in memory that a webhook was told of a certificate's end, after that end.
const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);
/// For what the account's credentials are encrypted.
const ACCOUNT: &str = "acme account";

/// Gets certificates.
#[derive(Debug)]
pub(crate) struct Acme {
    config: AcmeConfig,
    store: Store,
    catalog: Arc<CatalogKeeper>,
    board: Arc<Board>,
    vault: Arc<Vault>,
    client: Client,
    account: Mutex<Option<Opened>>,
    /// The certificates of which webhooks have been told that they end.
    told: Mutex<BTreeSet<(DomainName, Time)>>,
}

/// The cluster's account with the authority.
#[derive(Clone)]
struct Opened(Account);

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Opened").field(&self.0.id()).finish()
    }
}

/// What the operator has set up: the authority, and how private keys are encrypted.
#[derive(Debug)]
pub(crate) struct Setup {
    config: AcmeConfig,
    vault: Arc<Vault>,
    client: Client,
}

impl Setup {
    /// Checks what can be checked before there is a database.
    ///
    /// # Errors
    /// The file of authorities can't be used.
    pub(crate) fn new(config: &AcmeConfig, vault: Arc<Vault>) -> anyhow::Result<Self> {
        Ok(Self { config: config.clone(), vault, client: Client::new(config)? })
    }
}

/// A domain that wants a certificate.
type Wanted = (DomainName, Option<CertificateRecord>);

impl Acme {
    /// Serves the certificates that there are.
    pub(crate) async fn open(
        setup: &Setup,
        store: Store,
        catalog: Arc<CatalogKeeper>,
        board: Arc<Board>,
    ) -> Result<Self, Error> {
        let Setup { config, vault, client } = setup;
        let (config, vault, client) = (config.clone(), vault.clone(), client.clone());
        let acme =
            Self { config, store, catalog, board, vault, client, account: Mutex::default(), told: Mutex::default() };
        acme.serve(&acme.store.certificate_wanted().await?);
        Ok(acme)
    }

    /// Gets and renews certificates until the shutdown.
    pub(crate) async fn run(self, shutdown: Shutdown) {
        let (mut running, mut busy) = (FuturesUnordered::new(), BTreeSet::new());
        let mut catalogs = self.catalog.subscribe();
        loop {
            let looked = self.due(&busy).await;
            let pause = match looked {
                Ok((due, pause)) => {
                    for (domain, record) in due.into_iter().take(MOST.saturating_sub(running.len())) {
                        busy.insert(domain.clone());
                        running.push(self.attempt(domain, record));
                    }
                    pause
                }
                Err(error) => {
                    tracing::warn!(
                        cause = format!("{:#}", anyhow::Error::new(error)),
                        "it can't be read which certificates are due"
                    );
                    LOOK
                }
            };
            let domains = catalogs.borrow_and_update().domains.clone();
            tokio::select! {
                Some(domain) = running.next() => {
                    busy.remove(&domain);
                }
                () = tokio::time::sleep(pause) => {}
                // Cancel-safe: it only wakes.
                () = changed(&mut catalogs, &domains) => {}
                () = shutdown.begun() => return,
            }
        }
    }

    /// The domains whose turn it is, and how long to wait for the next one.
    async fn due(&self, busy: &BTreeSet<DomainName>) -> Result<(Vec<Wanted>, Duration), Error> {
        let mut wanted = self.store.certificate_wanted().await?;
        self.serve(&wanted);
        self.tell_of_ending(&wanted).await?;
        if self.config.directory.is_none() {
            return Ok((Vec::new(), LOOK));
        }
        // The authority would ask in vain, above all just after a start.
        if self.board.cluster().gateways().is_empty() {
            return Ok((Vec::new(), PAUSE * 4));
        }
        let now = Time::now();
        let moment = |record: &Option<CertificateRecord>| record.as_ref().map_or(now, |record| record.attempt);
        wanted.retain(|(domain, _)| !busy.contains(domain));
        let next = wanted.iter().map(|(_, record)| moment(record)).filter(|at| *at > now).min();
        let next = next.map_or(LOOK, |at| Duration::from_micros(u64::try_from(at.0 - now.0).unwrap_or_default()));
        wanted.retain(|(_, record)| moment(record) <= now);
        wanted.sort_by_key(|(_, record)| moment(record));
        Ok((wanted, next.clamp(PAUSE, LOOK)))
    }

    /// Tells gateways of certificates that they are not told yet, and of those that nobody wants any more.
    fn serve(&self, wanted: &[Wanted]) {
        let known = self.board.certificates().borrow().clone();
        let issued = |(domain, record): &Wanted| Some((domain.clone(), record.as_ref()?.issued.clone()?));
        let new = wanted.iter().filter(|(domain, _)| !known.has(domain)).filter_map(issued);
        let new = new.filter_map(|(domain, issued)| Some((domain.clone(), Arc::new(self.unseal(&domain, issued)?))));
        let new: Vec<_> = new.collect();
        let names: BTreeSet<_> = wanted.iter().map(|(domain, _)| domain).collect();
        self.board.serve(new, |domain| names.contains(domain));
    }

    /// Tells webhooks of certificates that end soon although they should have been renewed; of each once.
    async fn tell_of_ending(&self, wanted: &[Wanted]) -> Result<(), Error> {
        let (now, catalog, mut told) = (Time::now(), self.catalog.current(), self.told.lock().await);
        let issued = wanted.iter().filter_map(|(domain, record)| Some((domain, record.as_ref()?.issued.as_ref()?)));
        for (domain, issued) in issued.filter(|(_, issued)| schedule::ends_soon(issued.start, issued.expire, now)) {
            let key = (domain.clone(), issued.expire);
            // A webhook that comes later is told as it is set up.
            if let Some(namespace) = catalog.domains.get(domain).filter(|_| !told.contains(&key)) {
                tracing::warn!(%domain, expires = %issued.expire, "a certificate ends soon and has not been renewed");
                self.store.webhook_tell(&Event::certificate_expiring(namespace, domain, issued.expire)).await?;
                told.insert(key);
            }
        }
        told.retain(|(_, expire)| expire.after(KEPT) > now);
        Ok(())
    }

    fn unseal(&self, domain: &DomainName, issued: Issued) -> Option<Served> {
        match self.vault.open_sealed(&purpose(domain), &issued.sealed_key) {
            Ok(key) => Some(Served { chain: issued.chain, key }),
            Err(error) => {
                tracing::error!(%domain, %error, "the private key of a certificate can't be used; put back the storage key");
                None
            }
        }
    }

    /// Tries to get a certificate once, and remembers what came of it.
    async fn attempt(&self, domain: DomainName, record: Option<CertificateRecord>) -> DomainName {
        let failures = record.as_ref().map_or(0, |record| record.failures);
        let tried = tokio::time::timeout(PATIENCE, self.order(&domain, failures)).await;
        self.board.answered(&domain);
        let tried = tried.unwrap_or_else(|_| Err(Failure::new("the order was not done in time", "")));
        let noted = match tried {
            Ok(obtained) => self.keep(&domain, obtained).await,
            Err(failure) => self.postpone(&domain, record, failure).await,
        };
        if let Err(error) = noted {
            let cause = format!("{:#}", anyhow::Error::new(error));
            tracing::error!(%domain, cause, "what became of a certificate can't be remembered");
            // Its database is away: nobody is asked again at once.
            tokio::time::sleep(self.config.retry()).await;
        }
        domain
    }

    async fn order(&self, domain: &DomainName, failures: u32) -> Result<Obtained, Failure> {
        let kinds = &self.config.challenges;
        let kind = usize::try_from(failures).ok().and_then(|failures| kinds.get(failures.checked_rem(kinds.len())?));
        let kind = *kind.ok_or_else(|| Failure::new("no kind of challenge is configured", "see acme.challenges"))?;
        let Opened(account) = self.account().await?;
        let obtained = order::obtain(&account, domain, kind, &self.board).await;
        if matches!(&obtained, Err(failure) if failure.account_is_gone) {
            self.forget_account().await;
        }
        obtained
    }

    async fn keep(&self, domain: &DomainName, obtained: Obtained) -> Result<(), Error> {
        let Obtained { served, issuer, start, expire } = obtained;
        let sealed = self.vault.seal(&purpose(domain), &served.key);
        let Ok(sealed_key) = sealed else {
            return self.postpone(domain, None, Failure::new("the private key can't be encrypted", "")).await;
        };
        let issued = Issued { chain: served.chain.clone(), sealed_key, issuer, start, expire };
        let next = schedule::renewal(start, expire, rand::random());
        self.store.certificate_issue(domain, &issued, next).await?;
        self.board.serve(vec![(domain.clone(), Arc::new(served))], |_| true);
        tracing::info!(%domain, issuer = issued.issuer, expires = %expire, renewed = %next, "a certificate has been issued");
        Ok(())
    }

    async fn postpone(
        &self,
        domain: &DomainName,
        record: Option<CertificateRecord>,
        failure: Failure,
    ) -> Result<(), Error> {
        let failures = record.as_ref().map_or(0, |record| record.failures).saturating_add(1);
        let next = schedule::retry(Time::now(), self.config.retry(), failures, self.client.wanted(), rand::random());
        let Failure { error, hint, .. } = failure;
        self.store.certificate_fail(domain, (&error, &hint), next).await?;
        let expires = record.and_then(|record| record.issued).map(|issued| issued.expire.to_string());
        tracing::warn!(%domain, error, hint, failures, expires, again = %next, "there is no new certificate");
        Ok(())
    }

    /// The cluster's account, made with the first order.
    async fn account(&self) -> Result<Opened, Failure> {
        let mut account = self.account.lock().await;
        if account.is_none() {
            *account = Some(Opened(self.open_account().await?));
        }
        account.clone().ok_or_else(|| Failure::new("there is no account", ""))
    }

    async fn open_account(&self) -> Result<Account, Failure> {
        let ours =
            |what: &str, cause: String| Failure::new(format!("the account with the authority {what}: {cause}"), "");
        let directory = self.config.directory.as_deref().unwrap_or_default();
        let builder = Account::builder_with_http(Box::new(self.client.clone()));
        let kept =
            self.store.acme_account(directory).await.map_err(|error| ours("can't be read", error.to_string()))?;
        if let Some(sealed) = kept {
            let text =
                self.vault.open_sealed(ACCOUNT, &sealed).map_err(|error| ours("can't be used", error.to_string()))?;
            let credentials =
                serde_json::from_slice(&text).map_err(|_| ours("can't be used", "it is damaged".into()))?;
            return Ok(builder.from_credentials(credentials).await?);
        }
        let contact: Vec<_> = self.config.contact.iter().map(String::as_str).collect();
        let new = NewAccount {
            contact: &contact,
            terms_of_service_agreed: self.config.terms_agreed,
            only_return_existing: false,
        };
        let (account, credentials) = builder.create(&new, directory.to_owned(), None).await?;
        let text = serde_json::to_vec(&credentials).map_err(|error| ours("can't be kept", error.to_string()))?;
        let sealed = self.vault.seal(ACCOUNT, &text).map_err(|error| ours("can't be kept", error.to_string()))?;
        let kept = self.store.acme_account_put(directory, &sealed).await;
        kept.map_err(|error| ours("can't be kept", error.to_string()))?;
        tracing::info!(directory, "the cluster has an account with the authority");
        Ok(account)
    }

    /// The authority does not know the account: the next order makes another.
    async fn forget_account(&self) {
        let directory = self.config.directory.as_deref().unwrap_or_default();
        match self.store.acme_account_forget(directory).await {
            Ok(()) => *self.account.lock().await = None,
            Err(error) => {
                let cause = format!("{:#}", anyhow::Error::new(error));
                tracing::warn!(directory, cause, "an account that the authority does not know can't be forgotten");
            }
        }
    }
}

/// For what the private key of a domain's certificate is encrypted.
fn purpose(domain: &DomainName) -> String {
    format!("certificate {domain}")
}

/// Returns when there are other domains than these.
async fn changed(catalogs: &mut Receiver<Arc<Catalog>>, domains: &BTreeMap<DomainName, Namespace>) {
    if catalogs.wait_for(|catalog| catalog.domains != *domains).await.is_err() {
        // The process ends.
        std::future::pending().await
    }
}
