//! Namespaces in the database.

use std::time::Duration;

use dunlin_proto::{
    ApiError, ErrorCode,
    ids::Namespace,
    limit::LimitId,
    model::{Quota, Rate, Retention},
    names::NamespaceRef,
};
use sqlx::{Any, Transaction, any::AnyRow};

use super::{
    RequestKey, Store,
    changes::config_bump_all,
    config_bump, is_conflict,
    requests::{request_find_in_tx, request_note_in_tx},
    reservations::reservations_check_in_tx,
    retried, row,
};
use crate::{audit::Change, error::Error, model::NamespaceRecord};

/// What an update changes; what is absent stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct NamespaceChange {
    pub(crate) description: Option<String>,
    /// The new bound, or none any more.
    pub(crate) max_concurrency: Option<Option<u32>>,
    /// The new rate, or none any more.
    pub(crate) rate: Option<Option<Rate>>,
    /// The new quota, or none any more.
    pub(crate) quota: Option<Option<Quota>>,
    /// The new age of what is kept, or none of its own any more.
    pub(crate) log_retention: Option<Option<Duration>>,
    /// The new bytes of lines, or none of its own any more.
    pub(crate) log_bytes: Option<Option<u64>>,
}

impl NamespaceChange {
    fn applied_to(&self, namespace: NamespaceRecord) -> NamespaceRecord {
        NamespaceRecord {
            description: self.description.clone().unwrap_or(namespace.description),
            max_concurrency: self.max_concurrency.unwrap_or(namespace.max_concurrency),
            rate: self.rate.unwrap_or(namespace.rate),
            quota: self.quota.unwrap_or(namespace.quota),
            retention: Retention {
                age: self.log_retention.unwrap_or(namespace.retention.age),
                log_bytes: self.log_bytes.unwrap_or(namespace.retention.log_bytes),
            },
            ..namespace
        }
    }
}

fn json<T: serde::Serialize>(bound: Option<&T>) -> Result<Option<String>, Error> {
    bound.map(row::to_json).transpose()
}

fn seconds(retention: Retention) -> Option<i64> {
    retention.age.map(|age| row::signed(age.as_secs()))
}

/// Reads a whole row.
pub(super) fn read(row: &AnyRow) -> Result<NamespaceRecord, Error> {
    Ok(NamespaceRecord {
        name: row::parsed(row, "name")?,
        description: row::text(row, "description")?,
        create_time: row::time(row, "create_time")?,
        max_concurrency: row::optional_count(row, "max_concurrency")?,
        rate: row::optional_json(row, "rate")?,
        quota: row::optional_json(row, "quota")?,
        retention: Retention {
            age: row::optional_count(row, "log_retention_seconds")?.map(Duration::from_secs),
            log_bytes: row::optional_count(row, "log_bytes")?,
        },
    })
}

/// The error for a namespace that is not there.
pub(super) fn missing(name: &Namespace) -> Error {
    let hint = "an operator makes namespaces: dunlin namespace create";
    ApiError::not_found(format!("namespace {name}")).hint(hint).into()
}

/// The namespace, where it is there.
pub(super) async fn namespace_find_in_tx(
    tx: &mut Transaction<'static, Any>,
    name: &Namespace,
) -> Result<Option<NamespaceRecord>, Error> {
    let query = sqlx::query("SELECT * FROM namespaces WHERE name = $1");
    query.bind(name.as_str()).fetch_optional(&mut **tx).await?.as_ref().map(read).transpose()
}

/// The namespace, within a transaction.
pub(super) async fn namespace_fetch_in_tx(
    tx: &mut Transaction<'static, Any>,
    name: &Namespace,
) -> Result<NamespaceRecord, Error> {
    namespace_find_in_tx(tx, name).await?.ok_or_else(|| missing(name))
}

/// The namespace, which nobody else changes before the transaction ends.
pub(super) async fn namespace_lock_in_tx(
    tx: &mut Transaction<'static, Any>,
    name: &Namespace,
) -> Result<NamespaceRecord, Error> {
    let sql = "UPDATE namespaces SET name = name WHERE name = $1 RETURNING *";
    let found = sqlx::query(sql).bind(name.as_str()).fetch_optional(&mut **tx).await?;
    found.as_ref().map(read).transpose()?.ok_or_else(|| missing(name))
}

impl Store {
    /// Makes a namespace; a repeated request finds the one that the first made.
    pub(crate) async fn namespace_create(
        &self,
        new: &NamespaceRecord,
        request: Option<&RequestKey>,
    ) -> Result<NamespaceRecord, Error> {
        let created: Result<_, Error> = self.namespace_create_once(new, request).await;
        match created {
            // Somebody was faster: with the same request this finds what it did, otherwise the name is taken.
            Err(error) if is_conflict(&error) => self.namespace_create_once(new, request).await,
            ended => ended,
        }
    }

    async fn namespace_create_once(
        &self,
        new: &NamespaceRecord,
        request: Option<&RequestKey>,
    ) -> Result<NamespaceRecord, Error> {
        let mut tx = self.begin().await?;
        // Looked for first: whoever makes it between the two statements is then found by the second.
        let taken = namespace_find_in_tx(&mut tx, &new.name).await?.is_some();
        if let Some(request) = request
            && let Some(name) = request_find_in_tx::<Namespace>(&mut tx, request).await?
        {
            return namespace_fetch_in_tx(&mut tx, &name).await;
        }
        if taken {
            let message = format!("namespace {} exists already", new.name);
            return Err(ApiError::new(ErrorCode::AlreadyExists, message).into());
        }
        let insert = "INSERT INTO namespaces \
                      (name, description, create_time, max_concurrency, rate, quota, log_retention_seconds, log_bytes) \
                      VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
        let query = sqlx::query(insert).bind(new.name.as_str()).bind(&*new.description).bind(new.create_time.0);
        let query = query.bind(new.max_concurrency.map(i64::from)).bind(json(new.rate.as_ref())?);
        let query = query.bind(json(new.quota.as_ref())?);
        let query = query.bind(seconds(new.retention)).bind(new.retention.log_bytes.map(row::signed));
        query.execute(&mut *tx).await?;
        if let Some(request) = request {
            request_note_in_tx(&mut tx, request, &new.name).await?;
        }
        config_bump(&mut tx).await?;
        self.audit_in_tx(&mut tx, change("namespace.create", &new.name).after(new)).await?;
        tx.commit().await?;
        Ok(new.clone())
    }

    /// Changes a namespace.
    pub(crate) async fn namespace_update(
        &self,
        name: &Namespace,
        change: &NamespaceChange,
    ) -> Result<NamespaceRecord, Error> {
        retried!(self.namespace_update_once(name, change))
    }

    async fn namespace_update_once(
        &self,
        name: &Namespace,
        change: &NamespaceChange,
    ) -> Result<NamespaceRecord, Error> {
        let mut tx = self.begin().await?;
        let before = namespace_lock_in_tx(&mut tx, name).await?;
        let after = change.applied_to(before.clone());
        if after.max_concurrency != before.max_concurrency {
            reservations_check_in_tx(&mut tx, &after, None).await?;
        }
        let sql = "UPDATE namespaces SET description = $1, max_concurrency = $2, rate = $3, quota = $4, \
                   log_retention_seconds = $5, log_bytes = $6 WHERE name = $7";
        let query = sqlx::query(sql).bind(&*after.description).bind(after.max_concurrency.map(i64::from));
        let query = query.bind(json(after.rate.as_ref())?).bind(json(after.quota.as_ref())?);
        let query = query.bind(seconds(after.retention)).bind(after.retention.log_bytes.map(row::signed));
        query.bind(name.as_str()).execute(&mut *tx).await?;
        if after != before {
            config_bump(&mut tx).await?;
            self.audit_in_tx(&mut tx, self::change("namespace.update", name).before(&before).after(&after)).await?;
        }
        tx.commit().await?;
        Ok(after)
    }

    /// The namespace.
    pub(crate) async fn namespace_fetch(&self, name: &Namespace) -> Result<NamespaceRecord, Error> {
        let query = sqlx::query("SELECT * FROM namespaces WHERE name = $1");
        let found = query.bind(name.as_str()).fetch_optional(&self.pool).await?;
        found.as_ref().map(read).transpose()?.ok_or_else(|| missing(name))
    }

    /// At most `limit` namespaces, in the order of their names, after a name.
    pub(crate) async fn namespace_list(&self, after: &str, limit: i64) -> Result<Vec<NamespaceRecord>, Error> {
        let sql = "SELECT * FROM namespaces WHERE name > $1 ORDER BY name LIMIT $2";
        let rows = sqlx::query(sql).bind(after).bind(limit).fetch_all(&self.pool).await?;
        rows.iter().map(read).collect()
    }

    /// Deletes a namespace that has no functions, with its keys and artifacts.
    pub(crate) async fn namespace_delete(&self, name: &Namespace) -> Result<(), Error> {
        let ended: Result<(), Error> = retried!(self.namespace_delete_once(name));
        match ended {
            // A function came in between.
            Err(Error::Database(sqlx::Error::Database(error))) if error.is_foreign_key_violation() => {
                Err(not_empty(name).into())
            }
            ended => ended,
        }
    }

    async fn namespace_delete_once(&self, name: &Namespace) -> Result<(), Error> {
        let mut tx = self.begin().await?;
        let before = namespace_fetch_in_tx(&mut tx, name).await?;
        let functions = sqlx::query("SELECT COUNT(*) AS functions FROM functions WHERE namespace = $1");
        let functions = row::number(&functions.bind(name.as_str()).fetch_one(&mut *tx).await?, "functions")?;
        if functions > 0 {
            return Err(not_empty(name).into());
        }
        sqlx::query("DELETE FROM requests WHERE scope = $1").bind(name.as_str()).execute(&mut *tx).await?;
        // Another namespace may have the name later.
        let used = sqlx::query("DELETE FROM period_quotas WHERE owner = $1");
        used.bind(LimitId::Namespace(name.clone()).to_string()).execute(&mut *tx).await?;
        let deleted = sqlx::query("DELETE FROM namespaces WHERE name = $1").bind(name.as_str());
        if deleted.execute(&mut *tx).await?.rows_affected() == 0 {
            return Err(missing(name));
        }
        // Its keys and routes go with it.
        config_bump_all(&mut tx).await?;
        self.audit_in_tx(&mut tx, change("namespace.delete", name).before(&before)).await?;
        tx.commit().await?;
        Ok(())
    }
}

fn change(action: &'static str, name: &Namespace) -> Change {
    Change::new(action, name, &NamespaceRef { namespace: name.clone() })
}

fn not_empty(name: &Namespace) -> ApiError {
    let message = format!("namespace {name} still has functions");
    ApiError::new(ErrorCode::FailedPrecondition, message).hint("delete its functions first")
}
