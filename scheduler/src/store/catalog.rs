//! What placements and gateways are made of, read in one transaction: all of it, or what has changed since a version.

use std::collections::{BTreeMap, BTreeSet};

use dunlin_proto::names::{KeyName, RouteName};
use sqlx::{Any, Transaction};

use super::{
    Store, aliases, artifacts,
    changes::{Changed, config_changed_in_tx, config_version_in_tx},
    domains, functions, keys, namespaces, plans, routes, versions,
};
use crate::{
    error::Error,
    model::{
        AliasRecord, Compiled, DomainRecord, FunctionRecord, KeyRecord, NamespaceRecord, PlanRecord, RouteRecord, Time,
        VersionRecord,
    },
};

/// Keys and routes that are read one by one; where more have changed, everything is read.
const MOST_SINGLE: usize = 200;

/// Everything but keys and routes.
#[derive(Debug, Clone, Default)]
pub(crate) struct CoreRows {
    pub(crate) namespaces: Vec<NamespaceRecord>,
    pub(crate) functions: Vec<FunctionRecord>,
    pub(crate) versions: Vec<VersionRecord>,
    /// Without those that functions have anyway.
    pub(crate) aliases: Vec<AliasRecord>,
    pub(crate) codes: Vec<Compiled>,
    pub(crate) plans: Vec<PlanRecord>,
    pub(crate) domains: Vec<DomainRecord>,
}

/// One state of the database.
#[derive(Debug, Clone, Default)]
pub(crate) struct CatalogRows {
    /// The configuration's version.
    pub(crate) version: u64,
    pub(crate) core: CoreRows,
    /// The keys that are neither revoked nor expired.
    pub(crate) keys: Vec<KeyRecord>,
    pub(crate) routes: Vec<RouteRecord>,
}

/// What turns one state of the database into a later one.
#[derive(Debug, Clone, Default)]
pub(crate) struct CatalogChanges {
    /// The later version of the configuration.
    pub(crate) version: u64,
    /// Where any of it may have changed, all of it.
    pub(crate) core: Option<CoreRows>,
    /// The keys that may have changed; nothing where one is of no use any more.
    pub(crate) keys: BTreeMap<KeyName, Option<KeyRecord>>,
    /// The routes that may have changed; nothing where one is gone.
    pub(crate) routes: BTreeMap<RouteName, Option<RouteRecord>>,
}

/// What a load found.
#[derive(Debug, Clone)]
pub(crate) enum CatalogNews {
    All(CatalogRows),
    Changes(CatalogChanges),
}

impl Store {
    /// Reads all of it as it was at one moment.
    pub(crate) async fn catalog_load(&self, now: Time) -> Result<CatalogRows, Error> {
        let mut tx = self.begin_snapshot().await?;
        let rows = all_in_tx(&mut tx, now).await?;
        tx.commit().await?;
        Ok(rows)
    }

    /// Reads what has changed since a version of the configuration, where there is one, and with `core` all but keys and routes
    /// in any case: not everything of it counts as a change of the configuration.
    pub(crate) async fn catalog_follow(&self, since: Option<u64>, core: bool, now: Time) -> Result<CatalogNews, Error> {
        let mut tx = self.begin_snapshot().await?;
        let version = config_version_in_tx(&mut tx).await?;
        let changed = match since {
            Some(since) => config_changed_in_tx(&mut tx, since, version).await?,
            None => None,
        };
        let news = match changed.filter(|changed| changed.len() <= MOST_SINGLE) {
            Some(changed) => CatalogNews::Changes(changes_in_tx(&mut tx, version, core, changed, now).await?),
            None => CatalogNews::All(all_in_tx(&mut tx, now).await?),
        };
        tx.commit().await?;
        Ok(news)
    }
}

async fn all_in_tx(tx: &mut Transaction<'static, Any>, now: Time) -> Result<CatalogRows, Error> {
    let version = config_version_in_tx(tx).await?;
    let core = core_in_tx(tx).await?;
    let sql = "SELECT * FROM api_keys WHERE revoke_time IS NULL AND (expire_time IS NULL OR expire_time > $1)";
    let keys = sqlx::query(sql).bind(now.0).fetch_all(&mut **tx).await?;
    let routed = sqlx::query("SELECT * FROM routes").fetch_all(&mut **tx).await?;
    Ok(CatalogRows {
        version,
        core,
        keys: keys.iter().map(keys::read).collect::<Result<_, _>>()?,
        routes: routed.iter().map(routes::read).collect::<Result<_, _>>()?,
    })
}

async fn core_in_tx(tx: &mut Transaction<'static, Any>) -> Result<CoreRows, Error> {
    let tenants = sqlx::query("SELECT * FROM namespaces ORDER BY name").fetch_all(&mut **tx).await?;
    let functions = sqlx::query("SELECT * FROM functions").fetch_all(&mut **tx).await?;
    let versions = sqlx::query(versions::select!("")).fetch_all(&mut **tx).await?;
    let named = sqlx::query("SELECT * FROM aliases ORDER BY function_uid, name").fetch_all(&mut **tx).await?;
    let codes = sqlx::query("SELECT * FROM codes").fetch_all(&mut **tx).await?;
    let planned = sqlx::query("SELECT * FROM plans").fetch_all(&mut **tx).await?;
    let owned = sqlx::query("SELECT * FROM domains").fetch_all(&mut **tx).await?;
    Ok(CoreRows {
        namespaces: tenants.iter().map(namespaces::read).collect::<Result<_, _>>()?,
        functions: functions.iter().map(functions::read).collect::<Result<_, _>>()?,
        versions: versions.iter().map(versions::read).collect::<Result<_, _>>()?,
        aliases: named.iter().map(aliases::read).collect::<Result<_, _>>()?,
        codes: codes.iter().map(artifacts::read).collect::<Result<_, _>>()?,
        plans: planned.iter().map(plans::read).collect::<Result<_, _>>()?,
        domains: owned.iter().map(domains::read).collect::<Result<_, _>>()?,
    })
}

async fn changes_in_tx(
    tx: &mut Transaction<'static, Any>,
    version: u64,
    core: bool,
    changed: Vec<Changed>,
    now: Time,
) -> Result<CatalogChanges, Error> {
    let core = core || changed.contains(&Changed::Core);
    let mut changes = CatalogChanges { version, ..CatalogChanges::default() };
    for name in changed.iter().filter_map(Changed::as_key).collect::<BTreeSet<_>>() {
        let key = keys::key_find_in_tx(tx, name).await?.filter(|key| key.is_valid(now));
        changes.keys.insert(name.clone(), key);
    }
    for name in changed.iter().filter_map(Changed::as_route).collect::<BTreeSet<_>>() {
        changes.routes.insert(name.clone(), routes::route_find_in_tx(tx, name).await?);
    }
    if core {
        changes.core = Some(core_in_tx(tx).await?);
    }
    Ok(changes)
}
