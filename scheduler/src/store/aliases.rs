//! Aliases in the database. `live` is the function's own traffic and lies in its row; every change of another one writes
//! that row too, so that a function's etag and revision cover all its aliases.

use dunlin_proto::{
    ApiError, ErrorCode,
    ids::{AliasId, VersionNumber},
    model::Sticky,
    names::{AliasName, FunctionRef},
};
use sqlx::{Any, Transaction, any::AnyRow};

use super::{
    ATTEMPTS, RequestKey, Store, config_bump,
    functions::{function_fetch_in_tx, function_write_in_tx, stale, version_exists_in_tx},
    namespaces::namespace_lock_in_tx,
    releases::Touched,
    requests::{request_find_in_tx, request_note_in_tx},
    retried,
    routes::{route_list_in_tx, routes_unused},
    row,
};
use crate::{
    audit::Change,
    error::Error,
    model::{AliasRecord, FunctionRecord, Share, Time, full, newest, text},
    releases::Division,
};

/// The most aliases of a function, beside `live`.
const MOST: usize = 49;

/// What a change makes of an alias.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AliasChange {
    pub(crate) shares: Vec<Share>,
    /// Absent, it stays.
    pub(crate) sticky: Option<Sticky>,
}

/// Reads a whole row.
pub(super) fn read(row: &AnyRow) -> Result<AliasRecord, Error> {
    Ok(AliasRecord {
        uid: row::parsed(row, "function_uid")?,
        name: row::parsed(row, "name")?,
        shares: row::json(row, "shares")?,
        sticky: row::json(row, "sticky")?,
        division: row::number(row, "division")?,
        create_time: row::time(row, "create_time")?,
        update_time: row::time(row, "update_time")?,
    })
}

fn missing(name: &AliasName) -> Error {
    ApiError::not_found(format!("alias {name}")).hint("a function's aliases: dunlin alias list").into()
}

/// An alias for people: `pay:beta`, or `pay` for its own traffic.
fn of(name: &AliasName) -> String {
    if name.alias.is_live() { name.function.to_string() } else { format!("{}:{}", name.function, name.alias) }
}

/// All aliases of a function: `live`, then the others in the order of their names.
pub(super) async fn alias_list_in_tx(
    tx: &mut Transaction<'static, Any>,
    function: &FunctionRecord,
) -> Result<Vec<AliasRecord>, Error> {
    let query = sqlx::query("SELECT * FROM aliases WHERE namespace = $1 AND function_uid = $2 ORDER BY name");
    let query = query.bind(function.namespace.as_str()).bind(function.uid.to_string());
    let others = query.fetch_all(&mut **tx).await?;
    AliasRecord::live(function).map(Ok).into_iter().chain(others.iter().map(read)).collect()
}

/// Checks that an alias is there, within a transaction.
pub(super) async fn alias_exists_in_tx(
    tx: &mut Transaction<'static, Any>,
    function: &FunctionRecord,
    alias: &AliasId,
) -> Result<(), Error> {
    let known = alias_list_in_tx(tx, function).await?;
    let there = known.iter().any(|known| known.name == *alias);
    there.then_some(()).ok_or_else(|| missing(&function.reference().alias(alias.clone())))
}

/// An alias that is about to be made, without calls.
fn new(function: &FunctionRecord, name: AliasId, known: &[AliasRecord]) -> Result<AliasRecord, Error> {
    if known.len() > MOST {
        let message = format!("function {} has {} aliases, the most that it may have", function.name, known.len());
        return Err(ApiError::new(ErrorCode::FailedPrecondition, message).into());
    }
    let (now, sticky) = (Time::now(), Sticky::default());
    Ok(AliasRecord { uid: function.uid, name, shares: vec![], sticky, division: 0, create_time: now, update_time: now })
}

/// Writes a changed alias with its function; says whether that was still as it had been read.
async fn alias_write_in_tx(
    tx: &mut Transaction<'static, Any>,
    function: &mut FunctionRecord,
    alias: &AliasRecord,
) -> Result<bool, Error> {
    if alias.name.is_live() {
        function.set_traffic(alias.shares.clone());
        function.sticky.clone_from(&alias.sticky);
    } else {
        alias_upsert_in_tx(tx, function, alias).await?;
    }
    function_write_in_tx(tx, function).await
}

/// Deletes those aliases of a function that are meant, within a transaction.
pub(super) async fn alias_forget_in_tx(
    tx: &mut Transaction<'static, Any>,
    function: &FunctionRecord,
    meant: impl Fn(&AliasId) -> bool,
) -> Result<(), Error> {
    for alias in alias_list_in_tx(tx, function).await?.iter().filter(|alias| !alias.name.is_live()) {
        if meant(&alias.name) {
            let sql = "DELETE FROM aliases WHERE namespace = $1 AND function_uid = $2 AND name = $3";
            let query = sqlx::query(sql).bind(function.namespace.as_str()).bind(function.uid.to_string());
            query.bind(alias.name.as_str().to_owned()).execute(&mut **tx).await?;
        }
    }
    Ok(())
}

/// Divides the calls of an alias as they were once, and makes it where it is not there, within a transaction.
pub(super) async fn alias_put_in_tx(
    tx: &mut Transaction<'static, Any>,
    function: &FunctionRecord,
    name: &AliasId,
    division: &Division,
) -> Result<(), Error> {
    let known = alias_list_in_tx(tx, function).await?;
    let mut alias = match known.into_iter().find(|alias| alias.name == *name) {
        Some(alias) if alias.shares == division.shares && alias.sticky == division.sticky => return Ok(()),
        Some(alias) => alias,
        None => new(function, name.clone(), &[])?,
    };
    alias.divide(division.shares.clone(), function.revision);
    alias.sticky.clone_from(&division.sticky);
    alias_upsert_in_tx(tx, function, &alias).await
}

async fn alias_upsert_in_tx(
    tx: &mut Transaction<'static, Any>,
    function: &FunctionRecord,
    alias: &AliasRecord,
) -> Result<(), Error> {
    let sql = "INSERT INTO aliases (function_uid, name, namespace, shares, sticky, division, create_time, update_time) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (function_uid, name) DO UPDATE SET \
               shares = excluded.shares, sticky = excluded.sticky, division = excluded.division, \
               update_time = excluded.update_time";
    let query = sqlx::query(sql).bind(function.uid.to_string()).bind(alias.name.as_str());
    let query = query.bind(function.namespace.as_str()).bind(row::to_json(&alias.shares)?);
    let query = query.bind(row::to_json(&alias.sticky)?).bind(alias.division).bind(alias.create_time.0);
    query.bind(alias.update_time.0).execute(&mut **tx).await?;
    Ok(())
}

/// The version that an alias shall have: the one that is named, the newest of those that share its calls, or the function's.
fn promoted(
    name: &AliasName,
    function: &FunctionRecord,
    alias: &AliasRecord,
    named: Option<VersionNumber>,
) -> Result<VersionNumber, Error> {
    let latest = || VersionNumber::try_from(function.latest_version).ok();
    let shared = newest(&alias.shares).filter(|_| full(&alias.shares).is_none());
    let Some(target) = named.or(shared).or_else(latest) else {
        let message = format!("function {} has no version to promote", function.name);
        return Err(ApiError::new(ErrorCode::FailedPrecondition, message).hint("deploy one").into());
    };
    if named.is_none() && full(&alias.shares) == Some(target) {
        let message = format!("{name} sends all calls to version {target} already, and there is no newer one");
        let error = ApiError::new(ErrorCode::FailedPrecondition, message);
        return Err(error.hint("name the version to promote, or go back with: dunlin rollback").into());
    }
    Ok(target)
}

fn change(action: &'static str, name: &AliasName, before: Option<&AliasRecord>, after: Option<&AliasRecord>) -> Change {
    let change = Change::new(action, &name.namespace, name);
    let change = before.into_iter().fold(change, Change::before);
    after.into_iter().fold(change, Change::after)
}

impl Store {
    /// A function's aliases: `live`, then the others in the order of their names.
    pub(crate) async fn alias_list(&self, function: &FunctionRef) -> Result<Vec<AliasRecord>, Error> {
        let mut tx = self.begin().await?;
        let function = function_fetch_in_tx(&mut tx, function).await?;
        let found = alias_list_in_tx(&mut tx, &function).await?;
        tx.commit().await?;
        Ok(found)
    }

    /// Divides the calls of an alias, and makes it where it is not there; a non-empty `etag` must be the function's.
    pub(crate) async fn alias_set(
        &self,
        name: &AliasName,
        etag: &str,
        change: &AliasChange,
    ) -> Result<AliasRecord, Error> {
        for _ in 0..ATTEMPTS {
            let set: Result<_, Error> = retried!(self.alias_set_once(name, etag, change));
            if let Some(set) = set? {
                return Ok(set);
            }
        }
        Err(stale(&name.parent()))
    }

    async fn alias_set_once(
        &self,
        name: &AliasName,
        etag: &str,
        change: &AliasChange,
    ) -> Result<Option<AliasRecord>, Error> {
        let mut tx = self.begin().await?;
        let mut function = function_fetch_in_tx(&mut tx, &name.parent()).await?;
        if !etag.is_empty() && etag != function.etag() {
            return Err(stale(&name.parent()));
        }
        for Share(version, _) in &change.shares {
            version_exists_in_tx(&mut tx, &function, *version).await?;
        }
        let known = alias_list_in_tx(&mut tx, &function).await?;
        let found = known.iter().find(|alias| alias.name == name.alias).cloned();
        let mut alias = found.clone().map_or_else(|| new(&function, name.alias.clone(), &known), Ok)?;
        alias.divide(change.shares.clone(), function.revision);
        alias.sticky = change.sticky.clone().unwrap_or(alias.sticky);
        if !alias_write_in_tx(&mut tx, &mut function, &alias).await? {
            return Ok(None);
        }
        config_bump(&mut tx).await?;
        self.release_record_in_tx(
            &mut tx,
            &name.namespace,
            Touched::Function(&name.function),
            format!("divide {}: {}", of(name), text(&alias.shares)),
        )
        .await?;
        self.audit_in_tx(&mut tx, self::change("alias.set", name, found.as_ref(), Some(&alias))).await?;
        tx.commit().await?;
        Ok(Some(alias))
    }

    /// Sends all calls of an alias to one version, by default the newest of those that share them.
    pub(crate) async fn alias_promote(
        &self,
        name: &AliasName,
        version: Option<VersionNumber>,
        request: Option<&RequestKey>,
    ) -> Result<(AliasRecord, VersionNumber), Error> {
        for _ in 0..ATTEMPTS {
            let promoted: Result<_, Error> = retried!(self.alias_promote_once(name, version, request));
            if let Some(promoted) = promoted? {
                return Ok(promoted);
            }
        }
        Err(stale(&name.parent()))
    }

    async fn alias_promote_once(
        &self,
        name: &AliasName,
        version: Option<VersionNumber>,
        request: Option<&RequestKey>,
    ) -> Result<Option<(AliasRecord, VersionNumber)>, Error> {
        let mut tx = self.begin().await?;
        let mut function = function_fetch_in_tx(&mut tx, &name.parent()).await?;
        let known = alias_list_in_tx(&mut tx, &function).await?;
        let mut alias = known.into_iter().find(|alias| alias.name == name.alias).ok_or_else(|| missing(name))?;
        if let Some(request) = request
            && let Some(version) = request_find_in_tx(&mut tx, request).await?
        {
            return Ok(Some((alias, version)));
        }
        let target = promoted(name, &function, &alias, version)?;
        version_exists_in_tx(&mut tx, &function, target).await?;
        let before = alias.clone();
        alias.divide(vec![Share(target, 100)], function.revision);
        if !alias_write_in_tx(&mut tx, &mut function, &alias).await? {
            return Ok(None);
        }
        if let Some(request) = request {
            request_note_in_tx(&mut tx, request, &target).await?;
        }
        config_bump(&mut tx).await?;
        self.release_record_in_tx(
            &mut tx,
            &name.namespace,
            Touched::Function(&name.function),
            format!("promote {}@{target}", of(name)),
        )
        .await?;
        self.audit_in_tx(&mut tx, change("alias.promote", name, Some(&before), Some(&alias))).await?;
        tx.commit().await?;
        Ok(Some((alias, target)))
    }

    /// Deletes an alias, unless a route names it.
    pub(crate) async fn alias_delete(&self, name: &AliasName) -> Result<(), Error> {
        for _ in 0..ATTEMPTS {
            let deleted: Result<bool, Error> = retried!(self.alias_delete_once(name));
            if deleted? {
                return Ok(());
            }
        }
        Err(stale(&name.parent()))
    }

    async fn alias_delete_once(&self, name: &AliasName) -> Result<bool, Error> {
        let mut tx = self.begin().await?;
        // No route comes in between.
        namespace_lock_in_tx(&mut tx, &name.namespace).await?;
        let mut function = function_fetch_in_tx(&mut tx, &name.parent()).await?;
        let before = alias_list_in_tx(&mut tx, &function).await?.into_iter().find(|alias| alias.name == name.alias);
        let sql = "DELETE FROM aliases WHERE namespace = $1 AND function_uid = $2 AND name = $3";
        let query = sqlx::query(sql).bind(name.namespace.as_str()).bind(function.uid.to_string());
        if query.bind(name.alias.as_str()).execute(&mut *tx).await?.rows_affected() == 0 {
            return Err(missing(name));
        }
        let routes = route_list_in_tx(&mut tx, &name.namespace).await?;
        routes_unused(&format!("alias {}:{}", name.function, name.alias), &routes, |route| {
            route.target.function() == Some(&name.function) && route.target.alias() == Some(&name.alias)
        })?;
        if !function_write_in_tx(&mut tx, &mut function).await? {
            return Ok(false);
        }
        config_bump(&mut tx).await?;
        self.release_record_in_tx(
            &mut tx,
            &name.namespace,
            Touched::Function(&name.function),
            format!("delete {}", of(name)),
        )
        .await?;
        self.audit_in_tx(&mut tx, change("alias.delete", name, before.as_ref(), None)).await?;
        tx.commit().await?;
        Ok(true)
    }
}
