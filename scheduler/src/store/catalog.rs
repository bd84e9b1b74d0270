//! Everything that placements and gateways are made of, read in one transaction.

use super::{Store, aliases, artifacts, domains, functions, keys, namespaces, plans, routes, row, versions};
use crate::{
    error::Error,
    model::{
        AliasRecord, Compiled, DomainRecord, FunctionRecord, KeyRecord, NamespaceRecord, PlanRecord, RouteRecord, Time,
        VersionRecord,
    },
};

/// One state of the database.
#[derive(Debug, Clone, Default)]
pub(crate) struct CatalogRows {
    /// The configuration's version.
    pub(crate) version: u64,
    pub(crate) namespaces: Vec<NamespaceRecord>,
    pub(crate) functions: Vec<FunctionRecord>,
    pub(crate) versions: Vec<VersionRecord>,
    /// Without those that functions have anyway.
    pub(crate) aliases: Vec<AliasRecord>,
    pub(crate) codes: Vec<Compiled>,
    /// The keys that are neither revoked nor expired.
    pub(crate) keys: Vec<KeyRecord>,
    pub(crate) plans: Vec<PlanRecord>,
    pub(crate) routes: Vec<RouteRecord>,
    pub(crate) domains: Vec<DomainRecord>,
}

impl Store {
    /// Reads all of it as it was at one moment.
    pub(crate) async fn catalog_load(&self, now: Time) -> Result<CatalogRows, Error> {
        let mut tx = self.begin_snapshot().await?;
        let counter = sqlx::query("SELECT value FROM counters WHERE name = 'config'").fetch_one(&mut *tx).await?;
        let tenants = sqlx::query("SELECT * FROM namespaces ORDER BY name").fetch_all(&mut *tx).await?;
        let functions = sqlx::query("SELECT * FROM functions").fetch_all(&mut *tx).await?;
        let versions = sqlx::query(versions::select!("")).fetch_all(&mut *tx).await?;
        let named = sqlx::query("SELECT * FROM aliases ORDER BY function_uid, name").fetch_all(&mut *tx).await?;
        let codes = sqlx::query("SELECT * FROM codes").fetch_all(&mut *tx).await?;
        let sql = "SELECT * FROM api_keys WHERE revoke_time IS NULL AND (expire_time IS NULL OR expire_time > $1)";
        let keys = sqlx::query(sql).bind(now.0).fetch_all(&mut *tx).await?;
        let planned = sqlx::query("SELECT * FROM plans").fetch_all(&mut *tx).await?;
        let routed = sqlx::query("SELECT * FROM routes").fetch_all(&mut *tx).await?;
        let owned = sqlx::query("SELECT * FROM domains").fetch_all(&mut *tx).await?;
        tx.commit().await?;
        Ok(CatalogRows {
            version: row::count(&counter, "value")?,
            namespaces: tenants.iter().map(namespaces::read).collect::<Result<_, _>>()?,
            functions: functions.iter().map(functions::read).collect::<Result<_, _>>()?,
            versions: versions.iter().map(versions::read).collect::<Result<_, _>>()?,
            aliases: named.iter().map(aliases::read).collect::<Result<_, _>>()?,
            codes: codes.iter().map(artifacts::read).collect::<Result<_, _>>()?,
            keys: keys.iter().map(keys::read).collect::<Result<_, _>>()?,
            plans: planned.iter().map(plans::read).collect::<Result<_, _>>()?,
            routes: routed.iter().map(routes::read).collect::<Result<_, _>>()?,
            domains: owned.iter().map(domains::read).collect::<Result<_, _>>()?,
        })
    }
}
