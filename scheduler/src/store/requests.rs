//! What requests with an id have done: a repeated request gets the first one's result and does nothing more.
//!
//! The row is written in the transaction that does the work, so that there is never one without the other.

use std::time::Duration;

use dunlin_proto::{
    ApiError,
    ids::{Digest, Namespace, RequestId},
};
use serde::{Serialize, de::DeserializeOwned};
use sqlx::{Any, Transaction};

use super::{Store, row};
use crate::{error::Error, model::Time};

/// Within what an id is unique.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Scope {
    /// Requests about the cluster itself.
    Cluster,
    /// A tenant's requests.
    Namespace(Namespace),
}

impl Scope {
    fn as_str(&self) -> &str {
        match self {
            Self::Cluster => "",
            Self::Namespace(namespace) => namespace.as_str(),
        }
    }
}

/// A request that can be told from others: who may repeat it, and what it must say again.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct RequestKey {
    pub(crate) scope: Scope,
    pub(crate) method: &'static str,
    pub(crate) id: RequestId,
    /// Of everything that the request asks for.
    pub(crate) payload: Digest,
}

impl RequestKey {
    /// The error for an id that has been used for something else.
    pub(crate) fn reused(&self) -> ApiError {
        let message = format!("request id {} has been used for another request", self.id);
        ApiError::invalid("request_id", message).hint("choose a new UUID for each new request")
    }
}

/// What the request did before, if it has been made before.
pub(super) async fn request_find_in_tx<T: DeserializeOwned>(
    tx: &mut Transaction<'static, Any>,
    key: &RequestKey,
) -> Result<Option<T>, Error> {
    let sql = "SELECT payload, result FROM requests WHERE scope = $1 AND method = $2 AND id = $3";
    let query = sqlx::query(sql).bind(key.scope.as_str()).bind(key.method).bind(key.id.to_string());
    let Some(found) = query.fetch_optional(&mut **tx).await? else { return Ok(None) };
    if row::parsed::<Digest>(&found, "payload")? != key.payload {
        return Err(key.reused().into());
    }
    row::json(&found, "result").map(Some)
}

/// Notes what the request did.
pub(super) async fn request_note_in_tx<T: Serialize>(
    tx: &mut Transaction<'static, Any>,
    key: &RequestKey,
    result: &T,
) -> Result<(), Error> {
    let sql = "INSERT INTO requests (scope, method, id, payload, result, create_time) VALUES ($1, $2, $3, $4, $5, $6)";
    let query = sqlx::query(sql).bind(key.scope.as_str()).bind(key.method).bind(key.id.to_string());
    let query = query.bind(key.payload.to_string()).bind(row::to_json(result)?).bind(Time::now().0);
    query.execute(&mut **tx).await?;
    Ok(())
}

impl Store {
    /// What the request did before, if it has been made before.
    pub(crate) async fn request_find<T: DeserializeOwned>(&self, key: &RequestKey) -> Result<Option<T>, Error> {
        let mut tx = self.begin().await?;
        let found = request_find_in_tx(&mut tx, key).await?;
        tx.commit().await?;
        Ok(found)
    }

    /// Forgets requests older than `age`; says how many.
    pub(crate) async fn request_expire(&self, age: Duration, now: Time) -> Result<u64, Error> {
        let before = now.0.saturating_sub(Time(0).after(age).0);
        let deleted = sqlx::query("DELETE FROM requests WHERE create_time < $1").bind(before).execute(&self.pool);
        Ok(deleted.await?.rows_affected())
    }
}
