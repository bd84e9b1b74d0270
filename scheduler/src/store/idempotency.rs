//! What requests with an idempotency key have done, for a day: a repeated one gets the first one's answer. An attempt holds its
//! key for a while; that its change was made is written in the transaction of the change, so that no other attempt makes it again
//! although the answer may have been lost. Answers come here encrypted.

use std::time::Duration;

use dunlin_proto::{
    ApiError, ErrorCode,
    idempotency::{Hold, KeyId},
    ids::Digest,
};
use sqlx::{Any, Row, Transaction, any::AnyRow};

use super::{Store, retried, row};
use crate::{error::Error, model::Time};

/// How long a key is known.
pub(crate) const KEPT: Duration = Duration::from_secs(24 * 3600);
/// How long an attempt holds its key: longer than a gateway waits for all that a change needs.
const BUSY: Duration = Duration::from_secs(60);
/// When somebody may try again whose request another attempt makes.
const AGAIN: Duration = Duration::from_secs(1);
/// Keys of one token, and of one namespace, within the time that they are known.
const OF_SCOPE: i64 = 1_000;
const OF_NAMESPACE: i64 = 5_000;

/// What there is under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Begun {
    /// The attempt holds it.
    Held,
    /// Its request was made, with this answer, encrypted.
    Answered(String),
}

/// What a row says.
#[derive(Debug)]
struct Found {
    request: Digest,
    attempt: String,
    busy_until: i64,
    changed: bool,
    sealed_answer: Option<String>,
}

impl Found {
    fn read(row: &AnyRow) -> Result<Self, Error> {
        Ok(Self {
            request: row::parsed(row, "request")?,
            attempt: row.try_get("attempt")?,
            busy_until: row.try_get("busy_until")?,
            changed: row.try_get::<i64, _>("changed")? != 0,
            sealed_answer: row.try_get("sealed_answer")?,
        })
    }

    /// What another attempt at a request gets; nothing where it may take the key over.
    fn told(self, request: &Digest, now: Time) -> Result<Option<Begun>, ApiError> {
        if self.request != *request {
            let message = "this idempotency key was used for another request";
            return Err(ApiError::new(ErrorCode::KeyReused, message).hint("choose a new key for each new request"));
        }
        match (self.sealed_answer, self.changed) {
            (Some(answer), _) => Ok(Some(Begun::Answered(answer))),
            (None, true) if self.busy_until <= now.0 => Err(lost()),
            _ if self.busy_until > now.0 => Err(busy()),
            _ => Ok(None),
        }
    }
}

/// An attempt is under way elsewhere.
fn busy() -> ApiError {
    let message = "a request with this idempotency key is under way";
    ApiError::new(ErrorCode::FailedPrecondition, message).hint("try again with the same key").retry_after(AGAIN)
}

/// The change was made, and nobody knows the answer.
pub(crate) fn lost() -> ApiError {
    let message = "the request with this idempotency key has been made, but its answer was lost; it is not made again";
    ApiError::new(ErrorCode::FailedPrecondition, message).hint("GET what it changed to see what came of it")
}

fn too_many(whose: &str, most: i64) -> ApiError {
    let message = format!("{whose} has used {most} idempotency keys within a day, as many as are kept");
    let error = ApiError::new(ErrorCode::TooManyRequests, message);
    error.hint("send the request without a key, or wait until older ones are forgotten").retry_after(BUSY)
}

impl Store {
    /// The same store for the changes of an attempt that holds an idempotency key.
    pub(crate) fn holding(self, hold: Option<Hold>) -> Self {
        Self { hold, ..self }
    }

    /// Takes a key for an attempt at a request that counts for a namespace, or says what is kept under it.
    pub(crate) async fn idempotency_begin(
        &self,
        hold: &Hold,
        request: &Digest,
        namespace: &str,
        now: Time,
    ) -> Result<Begun, Error> {
        retried!(self.idempotency_try_begin(hold, request, namespace, now))
    }

    async fn idempotency_try_begin(
        &self,
        hold: &Hold,
        request: &Digest,
        namespace: &str,
        now: Time,
    ) -> Result<Begun, Error> {
        let mut tx = self.begin().await?;
        let old = "DELETE FROM idempotency_keys WHERE scope = $1 AND id = $2 AND create_time < $3";
        let old = sqlx::query(old).bind(hold.id.scope.to_string()).bind(hold.id.key.to_string());
        old.bind(before(now)).execute(&mut *tx).await?;
        let begun = match find_in_tx(&mut tx, &hold.id).await? {
            None => {
                insert_in_tx(&mut tx, hold, request, namespace, now).await?;
                Begun::Held
            }
            Some(found) => {
                let attempt = found.attempt.clone();
                match found.told(request, now)? {
                    Some(begun) => begun,
                    None => take_over_in_tx(&mut tx, hold, &attempt, now).await?,
                }
            }
        };
        tx.commit().await?;
        Ok(begun)
    }

    /// Keeps the answer of an attempt, encrypted. One that has lost its key keeps nothing.
    pub(crate) async fn idempotency_answer(&self, hold: &Hold, sealed_answer: &str) -> Result<(), Error> {
        let sql = "UPDATE idempotency_keys SET sealed_answer = $4, busy_until = 0 WHERE scope = $1 AND id = $2 AND attempt = $3";
        bound(sql, hold).bind(sealed_answer).execute(&self.pool).await?;
        Ok(())
    }

    /// Ends an attempt without an answer: where it changed nothing, its request may be made again.
    pub(crate) async fn idempotency_release(&self, hold: &Hold) -> Result<(), Error> {
        let mut tx = self.begin().await?;
        let delete = "DELETE FROM idempotency_keys WHERE scope = $1 AND id = $2 AND attempt = $3 AND changed = 0 AND sealed_answer IS NULL";
        bound(delete, hold).execute(&mut *tx).await?;
        let free = "UPDATE idempotency_keys SET busy_until = 0 WHERE scope = $1 AND id = $2 AND attempt = $3";
        bound(free, hold).execute(&mut *tx).await?;
        Ok(tx.commit().await?)
    }

    /// Forgets keys that have been known for long enough; says how many.
    pub(crate) async fn idempotency_expire(&self, now: Time) -> Result<u64, Error> {
        let delete = sqlx::query("DELETE FROM idempotency_keys WHERE create_time < $1").bind(before(now));
        Ok(delete.execute(&self.pool).await?.rows_affected())
    }

    /// Notes in the transaction of a change that the key's request has been made, where there is a key.
    pub(super) async fn idempotency_note_in_tx(&self, tx: &mut Transaction<'static, Any>) -> Result<(), Error> {
        let Some(hold) = &self.hold else { return Ok(()) };
        let sql = "UPDATE idempotency_keys SET changed = 1 WHERE scope = $1 AND id = $2 AND attempt = $3";
        match bound(sql, hold).execute(&mut **tx).await?.rows_affected() {
            0 => Err(busy().into()),
            _ => Ok(()),
        }
    }
}

/// Keys from before that are not known any more.
fn before(now: Time) -> i64 {
    now.0.saturating_sub(Time(0).after(KEPT).0)
}

type Query<'q> = sqlx::query::Query<'q, Any, <Any as sqlx::Database>::Arguments>;

fn bound<'q>(sql: &'static str, hold: &Hold) -> Query<'q> {
    let Hold { id: KeyId { scope, key }, attempt } = hold;
    sqlx::query(sql).bind(scope.to_string()).bind(key.to_string()).bind(attempt.to_string())
}

async fn find_in_tx(tx: &mut Transaction<'static, Any>, id: &KeyId) -> Result<Option<Found>, Error> {
    let sql = "SELECT request, attempt, busy_until, changed, sealed_answer FROM idempotency_keys WHERE scope = $1 AND id = $2";
    let found = sqlx::query(sql).bind(id.scope.to_string()).bind(id.key.to_string()).fetch_optional(&mut **tx).await?;
    found.as_ref().map(Found::read).transpose()
}

async fn insert_in_tx(
    tx: &mut Transaction<'static, Any>,
    hold: &Hold,
    request: &Digest,
    namespace: &str,
    now: Time,
) -> Result<(), Error> {
    let count = "SELECT COUNT(*) AS count FROM idempotency_keys WHERE scope = $1";
    let count = sqlx::query(count).bind(hold.id.scope.to_string()).fetch_one(&mut **tx).await?;
    if count.try_get::<i64, _>("count")? >= OF_SCOPE {
        return Err(too_many("this token", OF_SCOPE).into());
    }
    let count = "SELECT COUNT(*) AS count FROM idempotency_keys WHERE namespace = $1";
    let count = sqlx::query(count).bind(namespace).fetch_one(&mut **tx).await?;
    if count.try_get::<i64, _>("count")? >= OF_NAMESPACE {
        return Err(too_many("this namespace", OF_NAMESPACE).into());
    }
    let sql = "INSERT INTO idempotency_keys (scope, id, attempt, request, namespace, busy_until, changed, create_time) \
               VALUES ($1, $2, $3, $4, $5, $6, 0, $7)";
    let query = bound(sql, hold).bind(request.to_string()).bind(namespace).bind(now.after(BUSY).0).bind(now.0);
    query.execute(&mut **tx).await?;
    Ok(())
}

/// Frees the keys of attempts that changed nothing before the scheduler started: what was under way has ended with its process. One
/// that goes on all the same makes its change unless another has taken its key.
pub(super) async fn free_in_tx(tx: &mut Transaction<'static, Any>) -> Result<(), Error> {
    let sql = "UPDATE idempotency_keys SET busy_until = 0 WHERE changed = 0 AND busy_until > 0";
    sqlx::query(sql).execute(&mut **tx).await?;
    Ok(())
}

/// Takes a key from an attempt that has not been heard of for long and changed nothing.
async fn take_over_in_tx(
    tx: &mut Transaction<'static, Any>,
    hold: &Hold,
    old: &str,
    now: Time,
) -> Result<Begun, Error> {
    let sql = "UPDATE idempotency_keys SET attempt = $3, busy_until = $4 \
               WHERE scope = $1 AND id = $2 AND attempt = $5 AND changed = 0 AND sealed_answer IS NULL";
    match bound(sql, hold).bind(now.after(BUSY).0).bind(old).execute(&mut **tx).await?.rows_affected() {
        0 => Err(busy().into()),
        _ => Ok(Begun::Held),
    }
}
