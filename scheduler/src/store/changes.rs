//! The configuration's version, and what each of its last versions changed.

use dunlin_proto::names::{KeyName, RouteName};
use sqlx::{Any, Row, Transaction, any::AnyRow};

use super::{counter_next, row};
use crate::error::Error;

/// Versions whose changes are remembered. Whoever knows only older ones reads everything.
const REMEMBERED: i64 = 1_000;

/// One thing that a version of the configuration changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Changed {
    /// Something that is neither a key nor a route.
    Core,
    /// A key.
    Key(KeyName),
    /// A route.
    Route(RouteName),
}

impl Changed {
    /// The key, where it is one.
    pub(super) fn as_key(&self) -> Option<&KeyName> {
        if let Self::Key(name) = self { Some(name) } else { None }
    }

    /// The route, where it is one.
    pub(super) fn as_route(&self) -> Option<&RouteName> {
        if let Self::Route(name) = self { Some(name) } else { None }
    }
}

/// Notes that gateways have something to learn, which is neither a key nor a route.
pub(super) async fn config_bump(tx: &mut Transaction<'static, Any>) -> Result<(), Error> {
    config_note(tx, &Changed::Core).await
}

/// Notes that gateways have something to learn, and that it may be anything.
pub(super) async fn config_bump_all(tx: &mut Transaction<'static, Any>) -> Result<(), Error> {
    counter_next(tx, "config").await.map(drop)
}

/// Notes that gateways have something to learn, and what.
pub(super) async fn config_note(tx: &mut Transaction<'static, Any>, changed: &Changed) -> Result<(), Error> {
    let version = counter_next(tx, "config").await?;
    let (kind, namespace, name) = match changed {
        Changed::Core => ("core", "", ""),
        Changed::Key(name) => ("key", name.namespace.as_str(), name.key.as_str()),
        Changed::Route(name) => ("route", name.namespace.as_str(), name.route.as_str()),
    };
    let sql = "INSERT INTO config_changes (version, kind, namespace, name) VALUES ($1, $2, $3, $4)";
    sqlx::query(sql).bind(version).bind(kind).bind(namespace).bind(name).execute(&mut **tx).await?;
    let forget = sqlx::query("DELETE FROM config_changes WHERE version <= $1").bind(version - REMEMBERED);
    forget.execute(&mut **tx).await?;
    Ok(())
}

/// The configuration's version.
pub(super) async fn config_version_in_tx(tx: &mut Transaction<'static, Any>) -> Result<u64, Error> {
    let counter = sqlx::query("SELECT value FROM counters WHERE name = 'config'").fetch_one(&mut **tx).await?;
    row::count(&counter, "value")
}

/// What has changed from one version to another; nothing where that is not remembered.
pub(super) async fn config_changed_in_tx(
    tx: &mut Transaction<'static, Any>,
    from: u64,
    to: u64,
) -> Result<Option<Vec<Changed>>, Error> {
    let (Ok(since), Some(count)) = (i64::try_from(from), to.checked_sub(from)) else { return Ok(None) };
    if count > REMEMBERED.unsigned_abs() {
        return Ok(None);
    }
    let sql = "SELECT kind, namespace, name FROM config_changes WHERE version > $1 ORDER BY version";
    let rows = sqlx::query(sql).bind(since).fetch_all(&mut **tx).await?;
    let known: Vec<_> = rows.iter().map(read).collect::<Result<Option<_>, _>>()?.unwrap_or_default();
    // One version, one row.
    Ok((known.len() as u64 == count).then_some(known))
}

/// Nothing for a kind that a newer software has written.
fn read(row: &AnyRow) -> Result<Option<Changed>, Error> {
    Ok(match row.try_get::<String, _>("kind")?.as_str() {
        "core" => Some(Changed::Core),
        "key" => {
            Some(Changed::Key(KeyName { namespace: row::parsed(row, "namespace")?, key: row::parsed(row, "name")? }))
        }
        "route" => {
            let name = RouteName { namespace: row::parsed(row, "namespace")?, route: row::parsed(row, "name")? };
            Some(Changed::Route(name))
        }
        _ => None,
    })
}
