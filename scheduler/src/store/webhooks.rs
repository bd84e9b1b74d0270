//! Webhooks of namespaces in the database, and the outbox of what they are told: an event is written in the transaction of what it
//! tells. How it is sent is in `webhooks.rs`.

use dunlin_proto::{ApiError, ErrorCode, ids::Namespace, names::WebhookName};
use serde_json::{Value, json};
use sqlx::{Any, Transaction, any::AnyRow};

use super::{
    Store,
    certificates::standing_in_tx,
    namespaces::{namespace_fetch_in_tx, namespace_lock_in_tx},
    retried, row,
};
use crate::{
    audit::Change,
    error::Error,
    model::{Attempt, DeliveryRecord, DeliveryState, DueDelivery, Time, WebhookRecord, WebhookStatus},
    webhooks::Event,
};

/// Events of a namespace that wait, at the most: many failing rollbacks must not fill the disk of all.
const MOST_PENDING: u64 = 1_000;
/// Events of a namespace that are kept to be looked at once they are over.
const KEPT: i64 = 200;

fn read(row: &AnyRow) -> Result<WebhookRecord, Error> {
    Ok(WebhookRecord {
        namespace: row::parsed(row, "namespace")?,
        url: row::text(row, "url")?,
        creator: row::text(row, "creator")?,
        create_time: row::time(row, "create_time")?,
        update_time: row::time(row, "update_time")?,
        gone: row::optional_time(row, "gone_time")?,
        dropped: row::count(row, "dropped")?,
    })
}

fn read_delivery(row: &AnyRow) -> Result<DeliveryRecord, Error> {
    Ok(DeliveryRecord {
        id: row::text(row, "id")?,
        namespace: row::parsed(row, "namespace")?,
        kind: row::text(row, "kind")?,
        subject: row::text(row, "subject")?,
        event_time: row::time(row, "event_time")?,
        state: row::parsed(row, "state")?,
        tries: row::count(row, "tries")?,
        next: row::time(row, "next_time")?,
        last: row::optional_time(row, "last_time")?,
        status: row::count(row, "status")?,
        error: row::text(row, "error")?,
    })
}

fn read_due(row: &AnyRow, now: Time) -> Result<DueDelivery, Error> {
    let previous = row::optional_text(row, "sealed_previous")?.filter(|_| {
        let until = row::time(row, "previous_until");
        until.is_ok_and(|until| until > now)
    });
    let sealed = [Some(row::text(row, "sealed_secret")?), previous];
    Ok(DueDelivery {
        record: read_delivery(row)?,
        url: row::text(row, "url")?,
        body: row::text(row, "body")?,
        sealed: sealed.into_iter().flatten().map(|sealed| bytes(&sealed)).collect::<Result<_, _>>()?,
    })
}

fn bytes(text: &str) -> Result<Vec<u8>, Error> {
    // Not even a damaged secret is repeated.
    hex::decode(text).map_err(|_| Error::Damaged { what: "sealed secret", value: String::new() })
}

fn missing(namespace: &Namespace) -> Error {
    ApiError::not_found(format!("a webhook of namespace {namespace}"))
        .hint("set one up with: dunlin webhook set https://example.com/dunlin")
        .into()
}

fn change(action: &'static str, namespace: &Namespace) -> Change {
    Change::new(action, namespace, &WebhookName { namespace: namespace.clone() })
}

/// What the audit log says of a webhook. What follows the path of its URL may be a secret of the receiver's.
fn facts(webhook: &WebhookRecord) -> Value {
    json!({ "url": webhook.url.split('?').next() })
}

async fn webhook_find_in_tx(
    tx: &mut Transaction<'static, Any>,
    namespace: &Namespace,
) -> Result<Option<WebhookRecord>, Error> {
    let query = sqlx::query("SELECT * FROM webhooks WHERE namespace = $1").bind(namespace.as_str());
    query.fetch_optional(&mut **tx).await?.as_ref().map(read).transpose()
}

/// Forgets events that are over, but the newest, and those that are told once.
async fn deliveries_prune_in_tx(tx: &mut Transaction<'static, Any>, namespace: &Namespace) -> Result<(), Error> {
    let sql = "DELETE FROM webhook_deliveries WHERE namespace = $1 AND state <> 'pending' AND once_key IS NULL \
               AND event_time < (SELECT event_time FROM webhook_deliveries WHERE namespace = $1 \
               ORDER BY event_time DESC LIMIT 1 OFFSET $2)";
    sqlx::query(sql).bind(namespace.as_str()).bind(KEPT).execute(&mut **tx).await?;
    Ok(())
}

/// Has what happens once told again where whoever receives it now does not know: what was given up, and what another address took.
async fn deliveries_forget_keys_in_tx(
    tx: &mut Transaction<'static, Any>,
    namespace: &Namespace,
    is_same: bool,
) -> Result<(), Error> {
    let sql = match is_same {
        true => "UPDATE webhook_deliveries SET once_key = NULL WHERE namespace = $1 AND state = 'given_up'",
        false => "UPDATE webhook_deliveries SET once_key = NULL WHERE namespace = $1 AND state <> 'pending'",
    };
    sqlx::query(sql).bind(namespace.as_str()).execute(&mut **tx).await?;
    Ok(())
}

async fn delivery_insert_in_tx(tx: &mut Transaction<'static, Any>, event: &Event) -> Result<String, Error> {
    let (id, now) = (uuid::Uuid::now_v7().to_string(), Time::now());
    let sql = "INSERT INTO webhook_deliveries \
               (id, namespace, once_key, kind, subject, event_time, body, state, tries, next_time, status, error) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, 'pending', 0, $6, 0, '') \
               ON CONFLICT (namespace, once_key) DO NOTHING";
    let query = sqlx::query(sql).bind(&*id).bind(event.namespace.as_str()).bind(event.once.as_deref());
    let query = query.bind(event.kind.as_str()).bind(&*event.subject).bind(now.0).bind(event.body(&id, now));
    query.execute(&mut **tx).await?;
    Ok(id)
}

async fn pending_in_tx(tx: &mut Transaction<'static, Any>, namespace: &Namespace) -> Result<u64, Error> {
    let sql = "SELECT COUNT(*) AS waiting FROM webhook_deliveries WHERE namespace = $1 AND state = 'pending'";
    row::count(&sqlx::query(sql).bind(namespace.as_str()).fetch_one(&mut **tx).await?, "waiting")
}

async fn is_full_in_tx(tx: &mut Transaction<'static, Any>, namespace: &Namespace) -> Result<bool, Error> {
    Ok(pending_in_tx(tx, namespace).await? >= MOST_PENDING)
}

/// The event whose last attempt failed last. What failed before the webhook was set as it is says nothing of it.
async fn last_failure_in_tx(
    tx: &mut Transaction<'static, Any>,
    webhook: &WebhookRecord,
) -> Result<Option<DeliveryRecord>, Error> {
    let sql = "SELECT * FROM webhook_deliveries WHERE namespace = $1 AND error <> '' AND last_time >= $2 \
               ORDER BY last_time DESC, id DESC LIMIT 1";
    let query = sqlx::query(sql).bind(webhook.namespace.as_str()).bind(webhook.update_time.0);
    query.fetch_optional(&mut **tx).await?.as_ref().map(read_delivery).transpose()
}

/// Has a namespace's webhook told of something, if it has one, in the transaction of what is told.
pub(super) async fn webhook_tell_in_tx(tx: &mut Transaction<'static, Any>, event: &Event) -> Result<(), Error> {
    let namespace = &event.namespace;
    if webhook_find_in_tx(tx, namespace).await?.is_none_or(|webhook| webhook.gone.is_some()) {
        return Ok(());
    }
    if is_full_in_tx(tx, namespace).await? {
        let query = sqlx::query("UPDATE webhooks SET dropped = dropped + 1 WHERE namespace = $1");
        query.bind(namespace.as_str()).execute(&mut **tx).await?;
        return Ok(());
    }
    delivery_insert_in_tx(tx, event).await?;
    deliveries_prune_in_tx(tx, namespace).await
}

impl Store {
    /// Sets up a namespace's webhook, with an encrypted secret; one that is there gets the URL and keeps its own secret. It is told
    /// of certificates about which a webhook should have been told by now, if its receiver does not know. Says whether it is new.
    pub(crate) async fn webhook_set(
        &self,
        namespace: &Namespace,
        url: &str,
        sealed: &[u8],
    ) -> Result<(WebhookRecord, bool), Error> {
        retried!(self.webhook_set_once(namespace, url, sealed))
    }

    async fn webhook_set_once(
        &self,
        namespace: &Namespace,
        url: &str,
        sealed: &[u8],
    ) -> Result<(WebhookRecord, bool), Error> {
        let mut tx = self.begin().await?;
        namespace_lock_in_tx(&mut tx, namespace).await?;
        let before = webhook_find_in_tx(&mut tx, namespace).await?;
        let sql = "INSERT INTO webhooks \
                   (namespace, url, sealed_secret, previous_until, creator, create_time, update_time, dropped) \
                   VALUES ($1, $2, $3, 0, $4, $5, $5, 0) ON CONFLICT (namespace) DO UPDATE SET \
                   url = excluded.url, update_time = excluded.update_time, gone_time = NULL RETURNING *";
        let query = sqlx::query(sql).bind(namespace.as_str()).bind(url).bind(hex::encode(sealed));
        let query = query.bind(&*self.author.subject).bind(Time::now().0);
        let webhook = read(&query.fetch_one(&mut *tx).await?)?;
        let is_same = before.as_ref().is_some_and(|before| before.url == webhook.url);
        deliveries_forget_keys_in_tx(&mut tx, namespace, is_same).await?;
        for event in standing_in_tx(&mut tx, namespace, Time::now()).await? {
            webhook_tell_in_tx(&mut tx, &event).await?;
        }
        let change = change("webhook.set", namespace).after(&facts(&webhook));
        let change = before.iter().fold(change, |change, before| change.before(&facts(before)));
        self.audit_in_tx(&mut tx, change).await?;
        tx.commit().await?;
        Ok((webhook, before.is_none()))
    }

    /// A namespace's webhook, with the last events that it was told.
    pub(crate) async fn webhook_fetch(&self, namespace: &Namespace, most: i64) -> Result<WebhookStatus, Error> {
        let mut tx = self.begin_snapshot().await?;
        namespace_fetch_in_tx(&mut tx, namespace).await?;
        let webhook = webhook_find_in_tx(&mut tx, namespace).await?.ok_or_else(|| missing(namespace))?;
        let sql = "SELECT * FROM webhook_deliveries WHERE namespace = $1 ORDER BY event_time DESC, id DESC LIMIT $2";
        let rows = sqlx::query(sql).bind(namespace.as_str()).bind(most).fetch_all(&mut *tx).await?;
        let pending = pending_in_tx(&mut tx, namespace).await?;
        let last_failure = last_failure_in_tx(&mut tx, &webhook).await?;
        tx.commit().await?;
        let deliveries = rows.iter().map(read_delivery).collect::<Result<_, _>>()?;
        Ok(WebhookStatus { webhook, deliveries, pending, last_failure })
    }

    /// How many events wait, of all namespaces.
    pub(crate) async fn webhook_pending(&self) -> Result<u64, Error> {
        let sql = "SELECT COUNT(*) AS waiting FROM webhook_deliveries WHERE state = 'pending'";
        row::count(&sqlx::query(sql).fetch_one(&self.pool).await?, "waiting")
    }

    /// Gives a webhook another secret; the one before signs beside it until a moment.
    pub(crate) async fn webhook_rotate(
        &self,
        namespace: &Namespace,
        sealed: &[u8],
        until: Time,
    ) -> Result<WebhookRecord, Error> {
        let mut tx = self.begin().await?;
        namespace_fetch_in_tx(&mut tx, namespace).await?;
        let sql = "UPDATE webhooks SET sealed_previous = sealed_secret, sealed_secret = $2, previous_until = $3, \
                   update_time = $4 WHERE namespace = $1 RETURNING *";
        let query = sqlx::query(sql).bind(namespace.as_str()).bind(hex::encode(sealed)).bind(until.0);
        let found = query.bind(Time::now().0).fetch_optional(&mut *tx).await?;
        let webhook = read(&found.ok_or_else(|| missing(namespace))?)?;
        self.audit_in_tx(&mut tx, change("webhook.rotate", namespace)).await?;
        tx.commit().await?;
        Ok(webhook)
    }

    /// Deletes a namespace's webhook, with all that it was told and was to be told.
    pub(crate) async fn webhook_delete(&self, namespace: &Namespace) -> Result<(), Error> {
        let mut tx = self.begin().await?;
        namespace_fetch_in_tx(&mut tx, namespace).await?;
        let query = sqlx::query("DELETE FROM webhooks WHERE namespace = $1");
        if query.bind(namespace.as_str()).execute(&mut *tx).await?.rows_affected() == 0 {
            return Err(missing(namespace));
        }
        let query = sqlx::query("DELETE FROM webhook_deliveries WHERE namespace = $1");
        query.bind(namespace.as_str()).execute(&mut *tx).await?;
        self.audit_in_tx(&mut tx, change("webhook.delete", namespace)).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Has a test event sent, and says which id it has.
    pub(crate) async fn webhook_test(&self, namespace: &Namespace) -> Result<String, Error> {
        let mut tx = self.begin().await?;
        namespace_fetch_in_tx(&mut tx, namespace).await?;
        let webhook = webhook_find_in_tx(&mut tx, namespace).await?.ok_or_else(|| missing(namespace))?;
        let refused = |message: &str, hint: &str| ApiError::new(ErrorCode::FailedPrecondition, message).hint(hint);
        if webhook.gone.is_some() {
            let hint = "set its URL again with: dunlin webhook set URL";
            return Err(refused("the webhook's receiver answered that it is gone", hint).into());
        }
        if is_full_in_tx(&mut tx, namespace).await? {
            let hint = "see why its receiver does not take them: dunlin webhook show";
            return Err(refused("too many events wait for the webhook", hint).into());
        }
        let id = delivery_insert_in_tx(&mut tx, &Event::test(namespace, &self.author.subject)).await?;
        deliveries_prune_in_tx(&mut tx, namespace).await?;
        self.audit_in_tx(&mut tx, change("webhook.test", namespace)).await?;
        tx.commit().await?;
        Ok(id)
    }

    /// Has a namespace's webhook told of what has no transaction of its own.
    pub(crate) async fn webhook_tell(&self, event: &Event) -> Result<(), Error> {
        let mut tx = self.begin().await?;
        webhook_tell_in_tx(&mut tx, event).await?;
        tx.commit().await?;
        Ok(())
    }

    /// The first delivery of each namespace whose time has come, those that wait longest first.
    pub(crate) async fn webhook_due(&self, now: Time, most: i64) -> Result<Vec<DueDelivery>, Error> {
        let sql = "SELECT * FROM (SELECT webhook_deliveries.*, webhooks.url, webhooks.sealed_secret, \
                   webhooks.sealed_previous, webhooks.previous_until, ROW_NUMBER() OVER \
                   (PARTITION BY webhook_deliveries.namespace ORDER BY next_time, id) AS place \
                   FROM webhook_deliveries JOIN webhooks ON webhooks.namespace = webhook_deliveries.namespace \
                   WHERE state = 'pending' AND next_time <= $1) AS due WHERE place = 1 ORDER BY next_time LIMIT $2";
        let rows = sqlx::query(sql).bind(now.0).bind(most).fetch_all(&self.pool).await?;
        rows.iter().map(|row| read_due(row, now)).collect()
    }

    /// Notes what came of an attempt.
    pub(crate) async fn webhook_note(&self, delivery: &DeliveryRecord, attempt: &Attempt) -> Result<(), Error> {
        let over = attempt.state != DeliveryState::Pending;
        // What is over is not posted again.
        let sql = "UPDATE webhook_deliveries SET state = $1, tries = tries + 1, last_time = $2, next_time = $3, \
                   status = $4, error = $5, body = CASE WHEN $6 = 1 THEN '' ELSE body END \
                   WHERE namespace = $7 AND id = $8 AND state = 'pending'";
        let query = sqlx::query(sql).bind(attempt.state.as_str()).bind(attempt.time.0).bind(attempt.next.0);
        let query =
            query.bind(i64::from(attempt.status)).bind(super::audit::clean(&attempt.error)).bind(i64::from(over));
        query.bind(delivery.namespace.as_str()).bind(&*delivery.id).execute(&self.pool).await?;
        Ok(())
    }

    /// Stops a webhook whose receiver of this URL says that it is gone, and gives up what waits.
    pub(crate) async fn webhook_gone(&self, namespace: &Namespace, url: &str, now: Time) -> Result<(), Error> {
        let mut tx = self.begin().await?;
        let query = sqlx::query("UPDATE webhooks SET gone_time = $1 WHERE namespace = $2 AND url = $3");
        let query = query.bind(now.0).bind(namespace.as_str()).bind(url);
        // It may have another one by now.
        if query.execute(&mut *tx).await?.rows_affected() == 0 {
            return Ok(());
        }
        let sql = "UPDATE webhook_deliveries SET state = 'given_up', body = '', error = 'the receiver is gone' \
                   WHERE namespace = $1 AND state = 'pending'";
        sqlx::query(sql).bind(namespace.as_str()).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Forgets what is over and happened before a moment.
    pub(crate) async fn webhook_forget(&self, before: Time) -> Result<(), Error> {
        let sql = "DELETE FROM webhook_deliveries WHERE state <> 'pending' AND event_time < $1";
        sqlx::query(sql).bind(before.0).execute(&self.pool).await?;
        Ok(())
    }
}
