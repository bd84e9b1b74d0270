//! Callers' keys in the database: hashes only.

use dunlin_proto::{
    ApiError, ErrorCode,
    ids::{Namespace, PlanId},
    names::{KeyName, PlanName},
};
use sqlx::{Any, Transaction, any::AnyRow};

use super::{
    Store,
    changes::{Changed, config_note},
    namespaces::namespace_fetch_in_tx,
    plans::plan_fetch_in_tx,
    row,
};
use crate::{
    audit::Change,
    error::Error,
    keys::{self, Rotation},
    model::{KeyRecord, OldSecret, Time},
};

/// Where a page of keys ended.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct KeyCursor {
    pub(crate) create_time: i64,
    pub(crate) id: String,
}

/// Reads a whole row.
pub(super) fn read(row: &AnyRow) -> Result<KeyRecord, Error> {
    Ok(KeyRecord {
        id: row::parsed(row, "id")?,
        namespace: row::parsed(row, "namespace")?,
        secret: row::parsed(row, "secret_sha256")?,
        display_name: row::text(row, "display_name")?,
        functions: row::json(row, "functions")?,
        creator: row::text(row, "creator")?,
        create_time: row::time(row, "create_time")?,
        expire_time: row::optional_time(row, "expire_time")?,
        revoke_time: row::optional_time(row, "revoke_time")?,
        plan: row::optional_parsed(row, "plan")?,
        old: old_secret(row)?,
    })
}

fn old_secret(row: &AnyRow) -> Result<Option<OldSecret>, Error> {
    let secret = row::optional_parsed(row, "old_secret_sha256")?;
    let expire_time = row::optional_time(row, "old_secret_expire_time")?;
    Ok(secret.zip(expire_time).map(|(secret, expire_time)| OldSecret { secret, expire_time }))
}

/// The key, where there is one.
pub(super) async fn key_find_in_tx(
    tx: &mut Transaction<'static, Any>,
    name: &KeyName,
) -> Result<Option<KeyRecord>, Error> {
    let query = sqlx::query("SELECT * FROM api_keys WHERE namespace = $1 AND id = $2");
    let found = query.bind(name.namespace.as_str()).bind(name.key.as_str()).fetch_optional(&mut **tx).await?;
    found.as_ref().map(read).transpose()
}

pub(super) async fn key_fetch_in_tx(tx: &mut Transaction<'static, Any>, name: &KeyName) -> Result<KeyRecord, Error> {
    key_find_in_tx(tx, name).await?.ok_or_else(|| ApiError::not_found(format!("key {name}")).into())
}

fn change(action: &'static str, name: &KeyName) -> Change {
    Change::new(action, &name.namespace, name)
}

/// Checks that the plan is one of the namespace's.
async fn plan_of_key_in_tx(
    tx: &mut Transaction<'static, Any>,
    namespace: &Namespace,
    plan: Option<&PlanId>,
) -> Result<(), Error> {
    let Some(plan) = plan else { return Ok(()) };
    plan_fetch_in_tx(tx, &PlanName { namespace: namespace.clone(), plan: plan.clone() }).await.map(|_| ())
}

impl Store {
    /// Stores a new key.
    pub(crate) async fn key_create(&self, key: &KeyRecord) -> Result<(), Error> {
        let mut tx = self.begin().await?;
        namespace_fetch_in_tx(&mut tx, &key.namespace).await?;
        plan_of_key_in_tx(&mut tx, &key.namespace, key.plan.as_ref()).await?;
        let sql = "INSERT INTO api_keys (id, namespace, secret_sha256, display_name, functions, creator, create_time, \
                   expire_time, revoke_time, plan) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
        let query = sqlx::query(sql).bind(key.id.as_str()).bind(key.namespace.as_str()).bind(key.secret.hex());
        let query = query.bind(&*key.display_name).bind(row::to_json(&key.functions)?).bind(&*key.creator);
        let query = query.bind(key.create_time.0).bind(key.expire_time.map(|time| time.0));
        let query = query.bind(key.revoke_time.map(|time| time.0));
        query.bind(key.plan.as_ref().map(PlanId::as_str)).execute(&mut *tx).await?;
        let name = KeyName { namespace: key.namespace.clone(), key: key.id.clone() };
        config_note(&mut tx, &Changed::Key(name.clone())).await?;
        self.audit_in_tx(&mut tx, change("key.create", &name).after(key)).await?;
        tx.commit().await?;
        Ok(())
    }

    /// At most `limit` keys of a namespace, the newest first, after a cursor.
    pub(crate) async fn key_list(
        &self,
        namespace: &Namespace,
        after: Option<&KeyCursor>,
        limit: i64,
    ) -> Result<Vec<KeyRecord>, Error> {
        let mut tx = self.begin().await?;
        namespace_fetch_in_tx(&mut tx, namespace).await?;
        let sql = "SELECT * FROM api_keys WHERE namespace = $1 AND (create_time < $2 OR (create_time = $2 AND id > $3)) \
                   ORDER BY create_time DESC, id LIMIT $4";
        let (time, id) = after.map_or((i64::MAX, ""), |cursor| (cursor.create_time, &*cursor.id));
        let query = sqlx::query(sql).bind(namespace.as_str()).bind(time).bind(id).bind(limit);
        let rows = query.fetch_all(&mut *tx).await?;
        tx.commit().await?;
        rows.iter().map(read).collect()
    }

    /// Puts a key under a plan, or under none.
    pub(crate) async fn key_set_plan(&self, name: &KeyName, plan: Option<&PlanId>) -> Result<KeyRecord, Error> {
        let mut tx = self.begin().await?;
        let before = key_fetch_in_tx(&mut tx, name).await?;
        plan_of_key_in_tx(&mut tx, &name.namespace, plan).await?;
        let query = sqlx::query("UPDATE api_keys SET plan = $1 WHERE namespace = $2 AND id = $3");
        let query = query.bind(plan.map(PlanId::as_str)).bind(name.namespace.as_str()).bind(name.key.as_str());
        query.execute(&mut *tx).await?;
        let changed = key_fetch_in_tx(&mut tx, name).await?;
        config_note(&mut tx, &Changed::Key(name.clone())).await?;
        self.audit_in_tx(&mut tx, change("key.update", name).before(&before).after(&changed)).await?;
        tx.commit().await?;
        Ok(changed)
    }

    /// Gives a key a new secret, or ends its old one.
    pub(crate) async fn key_rotate(&self, name: &KeyName, rotation: Rotation, now: Time) -> Result<KeyRecord, Error> {
        let mut tx = self.begin().await?;
        let before = key_fetch_in_tx(&mut tx, name).await?;
        let after = keys::rotated(&before, rotation, now)?;
        let sql = "UPDATE api_keys SET secret_sha256 = $1, old_secret_sha256 = $2, old_secret_expire_time = $3 \
                   WHERE namespace = $4 AND id = $5 AND secret_sha256 = $6";
        let query = sqlx::query(sql).bind(after.secret.hex()).bind(after.old.map(|old| old.secret.hex()));
        let query = query.bind(after.old.map(|old| old.expire_time.0)).bind(name.namespace.as_str());
        let query = query.bind(name.key.as_str()).bind(before.secret.hex());
        if query.execute(&mut *tx).await?.rows_affected() == 0 {
            // Another one came first, and its secret is not to be lost.
            let message = format!("key {} has just been given another secret", name.key);
            return Err(ApiError::new(ErrorCode::FailedPrecondition, message).into());
        }
        config_note(&mut tx, &Changed::Key(name.clone())).await?;
        self.audit_in_tx(&mut tx, change("key.rotate", name).before(&before).after(&after)).await?;
        tx.commit().await?;
        Ok(after)
    }

    /// Revokes a key for ever; one that is revoked stays so from the first time on.
    pub(crate) async fn key_revoke(&self, name: &KeyName) -> Result<KeyRecord, Error> {
        let mut tx = self.begin().await?;
        let before = key_fetch_in_tx(&mut tx, name).await?;
        let sql = "UPDATE api_keys SET revoke_time = $1 WHERE namespace = $2 AND id = $3 AND revoke_time IS NULL";
        let query = sqlx::query(sql).bind(Time::now().0).bind(name.namespace.as_str()).bind(name.key.as_str());
        let is_new = query.execute(&mut *tx).await?.rows_affected() == 1;
        let revoked = key_fetch_in_tx(&mut tx, name).await?;
        if is_new {
            config_note(&mut tx, &Changed::Key(name.clone())).await?;
            self.audit_in_tx(&mut tx, change("key.revoke", name).before(&before).after(&revoked)).await?;
        }
        tx.commit().await?;
        Ok(revoked)
    }
}
