//! Sends what webhooks of namespaces are told: each event of the outbox (`store/webhooks.rs`) until its receiver has taken it, again
//! and again for a day, and always with the same id: whoever gets one twice knows it.
//!
//! Of a namespace, one event is under way at a time, so that slow receivers hold up nobody else. What an event says is
//! `webhooks/event.rs`, when it is tried again `schedule.rs`, how it is signed `signature.rs`, how a receiver is reached `client.rs`,
//! and what Prometheus is told `counts.rs`.

mod client;
mod counts;
mod event;
mod schedule;
mod signature;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use anyhow::Context;
use dunlin_process::{metrics::Page, shutdown::Shutdown};
use dunlin_proto::{ApiError, ids::Namespace, vault::Vault};
use futures::{StreamExt, stream::FuturesUnordered};

use self::{
    client::{Answer, Failure, Message, Sender},
    counts::Counts,
};
pub(crate) use self::{
    event::{BudgetUse, Event},
    signature::Secret,
};
use crate::{
    config::WebhooksConfig,
    error::Error,
    model::{Attempt, DeliveryRecord, DeliveryState, DueDelivery, Time, WebhookRecord},
    store::Store,
};

/// Events under way at once.
const MOST: usize = 16;
/// How often it is looked what is due.
const LOOK: Duration = Duration::from_secs(1);
/// How often it is counted what waits.
const COUNT: Duration = Duration::from_secs(5);
/// How long it is waited where it can't be noted what came of an attempt.
const PAUSE: Duration = Duration::from_secs(5);
/// How long an old secret signs beside a new one.
const OVERLAP: Duration = Duration::from_secs(24 * 3600);
/// How long it is known what was sent: longer than a month, in which a budget is told of once.
const KEPT: Duration = Duration::from_secs(35 * 24 * 3600);

/// What is set up before there is a database: how receivers are reached, and how secrets are encrypted.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    sender: Sender,
    vault: Arc<Vault>,
}

impl Setup {
    /// Checks what can be checked.
    ///
    /// # Errors
    /// The system's authorities can't be read.
    pub(crate) fn new(config: &WebhooksConfig, vault: Arc<Vault>) -> anyhow::Result<Self> {
        Ok(Self { sender: Sender::new(config).context("prepare to send events to webhooks")?, vault })
    }
}

/// Manages webhooks and sends what they are told.
#[derive(Debug)]
pub(crate) struct Webhooks {
    setup: Setup,
    store: Store,
    counts: Counts,
}

impl Webhooks {
    pub(crate) fn new(setup: Setup, store: Store) -> Self {
        Self { setup, store, counts: Counts::default() }
    }

    /// Sets up a webhook in somebody's name; one that is new has a secret, which is said once.
    pub(crate) async fn set(
        &self,
        store: &Store,
        namespace: &Namespace,
        url: &str,
    ) -> Result<(WebhookRecord, Option<Secret>), Error> {
        let url = self.setup.sender.check(url)?;
        let (secret, sealed) = self.secret(namespace)?;
        let (webhook, is_new) = store.webhook_set(namespace, url.as_str(), &sealed).await?;
        Ok((webhook, is_new.then_some(secret)))
    }

    /// Gives a webhook another secret in somebody's name.
    pub(crate) async fn rotate(&self, store: &Store, namespace: &Namespace) -> Result<(WebhookRecord, Secret), Error> {
        let (secret, sealed) = self.secret(namespace)?;
        Ok((store.webhook_rotate(namespace, &sealed, Time::now().after(OVERLAP)).await?, secret))
    }

    /// A new secret, and the same encrypted.
    fn secret(&self, namespace: &Namespace) -> Result<(Secret, Vec<u8>), Error> {
        let secret = Secret::random().ok_or_else(ApiError::internal)?;
        let sealed = self.setup.vault.seal(&purpose(namespace), secret.as_bytes());
        sealed.map(|sealed| (secret, sealed)).map_err(|error| {
            tracing::error!(%error, "the secret of a webhook can't be encrypted");
            ApiError::internal().into()
        })
    }

    /// Sends until the shutdown; what is under way then is sent again after the next start.
    pub(crate) async fn run(self: Arc<Self>, shutdown: Shutdown) {
        let (mut running, mut busy) = (FuturesUnordered::new(), BTreeSet::new());
        loop {
            for due in self.due(&busy).await {
                busy.insert(due.record.namespace.clone());
                running.push(self.attempt(due));
            }
            tokio::select! {
                Some(namespace) = running.next() => {
                    busy.remove(&namespace);
                }
                () = tokio::time::sleep(LOOK) => {}
                () = shutdown.begun() => return,
            }
        }
    }

    /// Counts again and again what waits, until the shutdown.
    pub(crate) async fn keep_counting(self: Arc<Self>, shutdown: Shutdown) {
        loop {
            match self.store.webhook_pending().await {
                Ok(pending) => self.counts.waiting(pending),
                // That the database is away is told by its own metrics.
                Err(error) => tracing::debug!(%error, "it can't be counted what waits for webhooks"),
            }
            tokio::select! {
                () = tokio::time::sleep(COUNT) => {}
                () = shutdown.begun() => return,
            }
        }
    }

    /// Tells Prometheus.
    pub(crate) fn write(&self, page: &mut Page) {
        self.counts.write(page);
    }

    /// Forgets what was sent long ago.
    pub(crate) async fn tidy(&self) {
        let before = Time(Time::now().0.saturating_sub(Time(0).after(KEPT).0));
        if let Err(error) = self.store.webhook_forget(before).await {
            tracing::warn!(
                cause = format!("{:#}", anyhow::Error::new(error)),
                "old events of webhooks can't be deleted"
            );
        }
    }

    /// What begins now.
    async fn due(&self, busy: &BTreeSet<Namespace>) -> Vec<DueDelivery> {
        let free = MOST.saturating_sub(busy.len());
        if free == 0 {
            return Vec::new();
        }
        // Those that are under way are due as well.
        let most = i64::try_from(MOST).unwrap_or(i64::MAX);
        match self.store.webhook_due(Time::now(), most).await {
            Ok(mut due) => {
                due.retain(|due| !busy.contains(&due.record.namespace));
                due.truncate(free);
                due
            }
            Err(error) => {
                let cause = format!("{:#}", anyhow::Error::new(error));
                tracing::warn!(cause, "it can't be read what webhooks are to be told");
                Vec::new()
            }
        }
    }

    /// Tries to deliver an event once, and notes what came of it.
    async fn attempt(&self, due: DueDelivery) -> Namespace {
        let answer = self.post(&due).await;
        let DueDelivery { record, url, .. } = due;
        let attempt = attempt(&record, &answer, Time::now(), rand::random());
        self.counts.tried(attempt.state);
        if attempt.state == DeliveryState::GivenUp {
            let DeliveryRecord { namespace, id, kind, .. } = &record;
            tracing::warn!(%namespace, id, kind, error = attempt.error, "an event of a webhook is given up");
        }
        if let Err(error) = self.note(&record, &attempt, matches!(answer, Answer::Gone(_)).then_some(&*url)).await {
            let (namespace, cause) = (&record.namespace, format!("{:#}", anyhow::Error::new(error)));
            tracing::warn!(%namespace, id = record.id, cause, "it can't be noted what became of an event: it is sent again");
            tokio::time::sleep(PAUSE).await;
        }
        record.namespace
    }

    async fn note(&self, record: &DeliveryRecord, attempt: &Attempt, gone: Option<&str>) -> Result<(), Error> {
        self.store.webhook_note(record, attempt).await?;
        match gone {
            Some(url) => self.store.webhook_gone(&record.namespace, url, attempt.time).await,
            None => Ok(()),
        }
    }

    async fn post(&self, due: &DueDelivery) -> Answer {
        let (id, timestamp) = (&*due.record.id, Time::now().0.div_euclid(1_000_000));
        let Some(secrets) = self.secrets(due) else {
            let error = "the secret can't be decrypted: put back the storage key, or run dunlin webhook rotate-secret";
            return Answer::Failed(Failure::new(error));
        };
        let signature = signature::signatures(&secrets, id, timestamp, &due.body);
        self.setup.sender.post(&due.url, Message { id, timestamp, signature, body: due.body.clone() }).await
    }

    /// Those that can be decrypted, if the newest is one of them.
    fn secrets(&self, due: &DueDelivery) -> Option<Vec<Secret>> {
        let purpose = purpose(&due.record.namespace);
        let open = |sealed: &Vec<u8>| self.setup.vault.open_sealed(&purpose, sealed).ok().map(Secret::from_bytes);
        let (newest, older) = due.sealed.split_first()?;
        Some(std::iter::once(open(newest)?).chain(older.iter().filter_map(open)).collect())
    }
}

/// For what the secret of a namespace's webhook is encrypted.
fn purpose(namespace: &Namespace) -> String {
    format!("webhook {namespace}")
}

/// What an answer makes of a delivery.
fn attempt(record: &DeliveryRecord, answer: &Answer, now: Time, chance: f64) -> Attempt {
    let over = |state, status, error: &str| Attempt { state, time: now, next: now, status, error: error.to_owned() };
    match answer {
        Answer::Taken(status) => over(DeliveryState::Delivered, *status, ""),
        Answer::Gone(status) => over(DeliveryState::GivenUp, *status, "the receiver is gone"),
        Answer::Failed(Failure { status, error, wait }) => {
            let tries = record.tries.saturating_add(1);
            match schedule::retry(record.event_time, now, tries, *wait, chance) {
                Some(next) => Attempt { next, ..over(DeliveryState::Pending, *status, error) },
                None => over(DeliveryState::GivenUp, *status, error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400_000_000;

    #[test]
    fn an_answer_makes_a_delivery_over_or_due_again() {
        let record = DeliveryRecord {
            id: "a".into(),
            namespace: "shop".parse().unwrap(),
            kind: "dev.dunlin.test".into(),
            subject: String::new(),
            event_time: Time(0),
            state: DeliveryState::Pending,
            tries: 0,
            next: Time(0),
            last: None,
            status: 0,
            error: String::new(),
        };
        let failed =
            |seconds| Answer::Failed(Failure { status: 503, error: "busy".into(), wait: Duration::from_secs(seconds) });
        for (answer, now, state, next, status, error) in [
            (Answer::Taken(204), 5, DeliveryState::Delivered, 5, 204, ""),
            (Answer::Gone(410), 5, DeliveryState::GivenUp, 5, 410, "the receiver is gone"),
            (failed(0), 5, DeliveryState::Pending, 5_000_005, 503, "busy"),
            (failed(60), 5, DeliveryState::Pending, 60_000_005, 503, "busy"),
            (failed(60), DAY - 1, DeliveryState::Pending, DAY, 503, "busy"),
            (failed(0), DAY, DeliveryState::GivenUp, DAY, 503, "busy"),
        ] {
            let expected = Attempt { state, time: Time(now), next: Time(next), status, error: error.to_owned() };
            assert_eq!(attempt(&record, &answer, Time(now), 1.0), expected, "{answer:?}");
        }
    }
}
