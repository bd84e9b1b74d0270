//! Domains that namespaces ask for: their records are looked for until they are found, or for too long. What is looked for is
//! `claims/prover.rs`'s, when `claims/schedule.rs`'s; whose a domain is, the store decides.

mod prover;
mod schedule;

use std::{sync::Arc, time::Duration};

use dunlin_process::shutdown::Shutdown;
use dunlin_proto::{ErrorCode, names::DomainRef};
use futures::{StreamExt, stream};
use tokio::sync::Notify;

use self::prover::Failure;
pub(crate) use self::{prover::Prover, schedule::LIFE};
use crate::{
    catalog::CatalogKeeper,
    error::Error,
    model::{ClaimRecord, Time},
    store::Store,
};

/// As whom the audit log knows this.
const ACTOR: &str = "domains";
/// Claims of one look.
const MOST: i64 = 64;
/// Questions at once.
const AT_ONCE: usize = 8;
/// How often it is looked what is due, without a reason.
const LOOK: Duration = Duration::from_secs(30);
/// How soon after a look there is another one, at the least.
const PAUSE: Duration = Duration::from_millis(250);

/// Looks for records.
#[derive(Debug)]
pub(crate) struct Claims {
    pub(crate) prover: Arc<Prover>,
    store: Store,
    catalog: Arc<CatalogKeeper>,
    hint: Notify,
}

impl Claims {
    pub(crate) fn new(prover: Arc<Prover>, store: &Store, catalog: Arc<CatalogKeeper>) -> Self {
        Self { prover, store: store.acting(ACTOR), catalog, hint: Notify::new() }
    }

    /// Has claims looked at soon.
    pub(crate) fn hint(&self) {
        self.hint.notify_one();
    }

    /// Looks until the shutdown.
    pub(crate) async fn run(self: Arc<Self>, shutdown: Shutdown) {
        loop {
            // Cancel-safe: what is begun in the database is taken back.
            let pause = tokio::select! { pause = self.look() => pause, () = shutdown.begun() => return };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.hint.notified() => {}
                () = shutdown.begun() => return,
            }
        }
    }

    async fn look(&self) -> Duration {
        let now = Time::now();
        let found = match self.store.claims_due(now, MOST).await {
            Ok(found) => found,
            Err(error) => {
                let cause = format!("{:#}", anyhow::Error::new(error));
                tracing::warn!(cause, "it can't be read which domains are to be proved");
                return LOOK;
            }
        };
        let pause = schedule::pause(now, found.next, LOOK).max(PAUSE);
        let looked = !found.due.is_empty();
        stream::iter(found.due).for_each_concurrent(AT_ONCE, |(claim, taken)| self.attempt(claim, taken)).await;
        // What was looked for may be due again before what was next.
        if looked { PAUSE } else { pause }
    }

    async fn attempt(&self, claim: ClaimRecord, taken: bool) {
        let seen = if taken { Err(Failure::taken()) } else { self.prover.look(&claim.name).await };
        let noted = match seen {
            Ok(()) => self.give(&claim).await,
            Err(failure) => self.postpone(&claim, failure).await,
        };
        if let Err(error) = noted {
            let cause = format!("{:#}", anyhow::Error::new(error));
            tracing::error!(domain = %claim.name.domain, cause, "what became of a domain's proof can't be remembered");
        }
    }

    async fn give(&self, claim: &ClaimRecord) -> Result<(), Error> {
        let DomainRef { namespace, domain } = &claim.name;
        match self.store.domain_prove(&claim.name, Time::now()).await {
            Ok(_) => {
                tracing::info!(%namespace, %domain, "a domain is proved, and belongs to its namespace");
                self.catalog.refresh().await;
                Ok(())
            }
            // It was given back meanwhile.
            Err(Error::Api(error)) if error.code == ErrorCode::NotFound => Ok(()),
            // Somebody else was faster.
            Err(Error::Api(_)) => self.postpone(claim, Failure::taken()).await,
            Err(error) => Err(error),
        }
    }

    async fn postpone(&self, claim: &ClaimRecord, failure: Failure) -> Result<(), Error> {
        let next = schedule::next(Time::now(), claim.attempts, claim.expire);
        let Failure { error, hint } = failure;
        tracing::debug!(domain = %claim.name.domain, error, "a domain is not proved");
        self.store.claim_fail(claim, (&error, &hint), next).await
    }
}
