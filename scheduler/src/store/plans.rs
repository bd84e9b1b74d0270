//! Usage plans in the database. What is used of quotas is in `quotas.rs`.

use std::collections::HashMap;

use dunlin_proto::{
    ApiError, ErrorCode,
    ids::{Namespace, PlanId},
    names::{KeyName, PlanName},
};
use sqlx::{Any, Transaction, any::AnyRow};

use super::{Store, config_bump, keys::key_fetch_in_tx, namespaces::namespace_fetch_in_tx, row};
use crate::{
    audit::Change,
    error::Error,
    model::{PlanRecord, Time},
};

/// The most plans of a namespace.
const MOST: i64 = 200;

/// Reads a whole row.
pub(super) fn read(row: &AnyRow) -> Result<PlanRecord, Error> {
    let name = PlanName { namespace: row::parsed(row, "namespace")?, plan: row::parsed(row, "name")? };
    Ok(PlanRecord {
        name,
        rate: row::optional_json(row, "rate")?,
        quota: row::optional_json(row, "quota")?,
        max_concurrency: row::optional_count(row, "max_concurrency")?,
        create_time: row::time(row, "create_time")?,
    })
}

/// A plan, within a transaction.
pub(super) async fn plan_fetch_in_tx(tx: &mut Transaction<'static, Any>, name: &PlanName) -> Result<PlanRecord, Error> {
    plan_find_in_tx(tx, name).await?.ok_or_else(|| missing(name))
}

async fn plan_find_in_tx(tx: &mut Transaction<'static, Any>, name: &PlanName) -> Result<Option<PlanRecord>, Error> {
    let query = sqlx::query("SELECT * FROM plans WHERE namespace = $1 AND name = $2");
    let found = query.bind(name.namespace.as_str()).bind(name.plan.as_str()).fetch_optional(&mut **tx).await?;
    found.as_ref().map(read).transpose()
}

fn change(action: &'static str, name: &PlanName) -> Change {
    Change::new(action, &name.namespace, name)
}

fn missing(name: &PlanName) -> Error {
    ApiError::not_found(format!("plan {name}")).hint("the namespace's plans: dunlin plan list").into()
}

/// How many keys are under a plan that callers can use.
async fn keys_in_tx(tx: &mut Transaction<'static, Any>, name: &PlanName, now: Time) -> Result<u32, Error> {
    let sql = "SELECT COUNT(*) AS keys FROM api_keys WHERE namespace = $1 AND plan = $2 AND revoke_time IS NULL \
               AND (expire_time IS NULL OR expire_time > $3)";
    let query = sqlx::query(sql).bind(name.namespace.as_str()).bind(name.plan.as_str()).bind(now.0);
    row::count(&query.fetch_one(&mut **tx).await?, "keys")
}

impl Store {
    /// Makes a plan, or changes it. Returns it with the number of valid keys that are under it.
    pub(crate) async fn plan_put(&self, plan: &PlanRecord) -> Result<(PlanRecord, u32), Error> {
        let mut tx = self.begin().await?;
        let namespace = &plan.name.namespace;
        namespace_fetch_in_tx(&mut tx, namespace).await?;
        let before = plan_find_in_tx(&mut tx, &plan.name).await?;
        let sql = "INSERT INTO plans (namespace, name, rate, quota, max_concurrency, create_time) \
                   VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (namespace, name) DO UPDATE \
                   SET rate = excluded.rate, quota = excluded.quota, max_concurrency = excluded.max_concurrency";
        let query = sqlx::query(sql).bind(namespace.as_str()).bind(plan.name.plan.as_str());
        let query = query.bind(plan.rate.as_ref().map(row::to_json).transpose()?);
        let query = query.bind(plan.quota.as_ref().map(row::to_json).transpose()?);
        let query = query.bind(plan.max_concurrency.map(i64::from));
        query.bind(plan.create_time.0).execute(&mut *tx).await?;
        let query = sqlx::query("SELECT COUNT(*) AS plans FROM plans WHERE namespace = $1");
        let count = row::number(&query.bind(namespace.as_str()).fetch_one(&mut *tx).await?, "plans")?;
        if count > MOST {
            let message = format!("namespace {namespace} has {MOST} plans, the most that it may have");
            return Err(ApiError::new(ErrorCode::FailedPrecondition, message).into());
        }
        let stored = plan_fetch_in_tx(&mut tx, &plan.name).await?;
        let keys = keys_in_tx(&mut tx, &plan.name, Time::now()).await?;
        config_bump(&mut tx).await?;
        let change = change("plan.put", &plan.name).after(&stored);
        self.audit_in_tx(&mut tx, before.iter().fold(change, Change::before)).await?;
        tx.commit().await?;
        Ok((stored, keys))
    }

    /// All plans of a namespace in the order of their names, each with the number of valid keys that are under it.
    pub(crate) async fn plan_list(&self, namespace: &Namespace) -> Result<Vec<(PlanRecord, u32)>, Error> {
        let mut tx = self.begin().await?;
        namespace_fetch_in_tx(&mut tx, namespace).await?;
        let query = sqlx::query("SELECT * FROM plans WHERE namespace = $1 ORDER BY name");
        let rows = query.bind(namespace.as_str()).fetch_all(&mut *tx).await?;
        let sql = "SELECT plan, COUNT(*) AS keys FROM api_keys WHERE namespace = $1 AND plan IS NOT NULL \
                   AND revoke_time IS NULL AND (expire_time IS NULL OR expire_time > $2) GROUP BY plan";
        let counted = sqlx::query(sql).bind(namespace.as_str()).bind(Time::now().0).fetch_all(&mut *tx).await?;
        tx.commit().await?;
        let count = |row: &AnyRow| Ok((row::parsed(row, "plan")?, row::count(row, "keys")?));
        let keys: HashMap<PlanId, u32> = counted.iter().map(count).collect::<Result<_, Error>>()?;
        let with_keys = |plan: PlanRecord| {
            let under = keys.get(&plan.name.plan).copied().unwrap_or_default();
            (plan, under)
        };
        rows.iter().map(|row| read(row).map(with_keys)).collect()
    }

    /// The plan that a key is under, revoked and expired ones too.
    pub(crate) async fn key_plan(&self, name: &KeyName) -> Result<Option<PlanRecord>, Error> {
        let mut tx = self.begin().await?;
        let plan = match key_fetch_in_tx(&mut tx, name).await?.plan {
            Some(plan) => {
                let name = PlanName { namespace: name.namespace.clone(), plan };
                Some(plan_fetch_in_tx(&mut tx, &name).await?)
            }
            None => None,
        };
        tx.commit().await?;
        Ok(plan)
    }

    /// Deletes a plan that no valid key is under; keys that are of no use any more are under none then.
    pub(crate) async fn plan_delete(&self, name: &PlanName) -> Result<(), Error> {
        let mut tx = self.begin().await?;
        let before = plan_fetch_in_tx(&mut tx, name).await?;
        let keys = keys_in_tx(&mut tx, name, Time::now()).await?;
        if keys > 0 {
            let message = format!("{keys} valid keys are under the plan {}", name.plan);
            let error = ApiError::new(ErrorCode::FailedPrecondition, message);
            return Err(error.hint("put them under another one first: dunlin key update ID --plan NAME").into());
        }
        for sql in [
            "UPDATE api_keys SET plan = NULL WHERE namespace = $1 AND plan = $2",
            "DELETE FROM plans WHERE namespace = $1 AND name = $2",
        ] {
            let query = sqlx::query(sql).bind(name.namespace.as_str()).bind(name.plan.as_str());
            query.execute(&mut *tx).await?;
        }
        config_bump(&mut tx).await?;
        self.audit_in_tx(&mut tx, change("plan.delete", name).before(&before)).await?;
        tx.commit().await?;
        Ok(())
    }
}
