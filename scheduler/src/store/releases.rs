//! Releases in the database. Whoever changes what callers get records it in the transaction of the change, after counting the
//! configuration up: that holds a row until the transaction ends, so that numbers follow each other without gaps.

use std::collections::BTreeMap;

use dunlin_proto::{
    ApiError, ErrorCode,
    ids::{FunctionName, FunctionUid, Namespace, RouteId},
    names::ReleaseName,
};
use serde::Serialize;
use sqlx::{Any, Row, Transaction, any::AnyRow};

use super::{Store, aliases, audit::clean, functions, namespaces::namespace_fetch_in_tx, retried, routes, row};
use crate::{
    error::Error,
    model::{AliasRecord, Time},
    releases::{Contents, FunctionState, ReleaseRecord, changed},
};

/// Releases of a namespace that are kept.
const KEPT: i64 = 100;

/// The form in which parts are written. Whoever reads another one leaves it alone.
const FORMAT: i64 = 1;

/// What a change may have changed of a release. Nothing else is looked at.
#[derive(Debug, Clone, Copy)]
pub(super) enum Touched<'a> {
    /// A function with its aliases.
    Function(&'a FunctionName),
    /// A route.
    Route(&'a RouteId),
    /// Anything.
    All,
}

impl<'a> Touched<'a> {
    /// The names of functions and of routes to look at; empty means all of them.
    fn names(self) -> (Option<&'a str>, Option<&'a str>) {
        match self {
            Self::Function(name) => (Some(name.as_str()), None),
            Self::Route(name) => (None, Some(name.as_str())),
            Self::All => (Some(""), Some("")),
        }
    }
}

fn read(row: &AnyRow) -> Result<ReleaseRecord, Error> {
    Ok(ReleaseRecord {
        namespace: row::parsed(row, "namespace")?,
        number: row::count(row, "number")?,
        cause: row::text(row, "cause")?,
        actor: row::text(row, "actor")?,
        create_time: row::time(row, "create_time")?,
    })
}

fn missing(name: &ReleaseName) -> Error {
    let hint = format!("the last {KEPT} are kept: dunlin release list");
    ApiError::not_found(format!("release {name}")).hint(hint).into()
}

/// A release, within a transaction.
pub(super) async fn release_fetch_in_tx(
    tx: &mut Transaction<'static, Any>,
    name: &ReleaseName,
) -> Result<ReleaseRecord, Error> {
    let query = sqlx::query("SELECT * FROM releases WHERE namespace = $1 AND number = $2");
    let query = query.bind(name.namespace.as_str()).bind(i64::from(name.number.get()));
    query.fetch_optional(&mut **tx).await?.as_ref().map(read).transpose()?.ok_or_else(|| missing(name))
}

/// The newest release of a namespace.
pub(super) async fn release_newest_in_tx(
    tx: &mut Transaction<'static, Any>,
    namespace: &Namespace,
) -> Result<Option<ReleaseRecord>, Error> {
    let query = sqlx::query("SELECT * FROM releases WHERE namespace = $1 ORDER BY number DESC LIMIT 1");
    query.bind(namespace.as_str()).fetch_optional(&mut **tx).await?.as_ref().map(read).transpose()
}

/// All releases of a namespace that are kept, by their numbers.
pub(super) async fn release_all_in_tx(
    tx: &mut Transaction<'static, Any>,
    namespace: &Namespace,
) -> Result<BTreeMap<u32, ReleaseRecord>, Error> {
    let query = sqlx::query("SELECT * FROM releases WHERE namespace = $1").bind(namespace.as_str());
    let found = query.fetch_all(&mut **tx).await?;
    found.iter().map(|row| read(row).map(|release| (release.number, release))).collect()
}

/// What callers get now.
pub(super) async fn contents_now_in_tx(
    tx: &mut Transaction<'static, Any>,
    namespace: &Namespace,
    touched: Touched<'_>,
) -> Result<Contents, Error> {
    let (function, route) = touched.names();
    let mut contents = Contents::default();
    if let Some(name) = function {
        contents.functions = functions_now_in_tx(tx, namespace, name).await?;
    }
    if let Some(name) = route {
        let sql = "SELECT * FROM routes WHERE namespace = $1 AND ($2 = '' OR name = $2)";
        let rows = sqlx::query(sql).bind(namespace.as_str()).bind(name.to_owned()).fetch_all(&mut **tx).await?;
        let found = rows.iter().map(|row| routes::read(row).map(|route| (route.name.route, route.spec)));
        contents.routes = found.collect::<Result<_, _>>()?;
    }
    Ok(contents)
}

async fn functions_now_in_tx(
    tx: &mut Transaction<'static, Any>,
    namespace: &Namespace,
    name: &str,
) -> Result<BTreeMap<FunctionName, FunctionState>, Error> {
    let sql = "SELECT * FROM functions WHERE namespace = $1 AND ($2 = '' OR name = $2)";
    let known = sqlx::query(sql).bind(namespace.as_str()).bind(name.to_owned()).fetch_all(&mut **tx).await?;
    let sql = "SELECT a.* FROM aliases a JOIN functions f ON f.uid = a.function_uid AND f.namespace = a.namespace \
               WHERE a.namespace = $1 AND ($2 = '' OR f.name = $2)";
    let named = sqlx::query(sql).bind(namespace.as_str()).bind(name.to_owned()).fetch_all(&mut **tx).await?;
    let mut aliases: BTreeMap<FunctionUid, Vec<AliasRecord>> = BTreeMap::new();
    for alias in named.iter().map(aliases::read) {
        let alias = alias?;
        aliases.entry(alias.uid).or_default().push(alias);
    }
    let mut found = BTreeMap::new();
    for function in known.iter().map(functions::read) {
        let function = function?;
        let own = aliases.remove(&function.uid).unwrap_or_default();
        found.extend(FunctionState::of(&function, &own).map(|state| (function.name, state)));
    }
    Ok(found)
}

/// What the newest release holds.
async fn contents_kept_in_tx(
    tx: &mut Transaction<'static, Any>,
    namespace: &Namespace,
    touched: Touched<'_>,
) -> Result<Contents, Error> {
    let (function, route) = touched.names();
    let mut contents = Contents::default();
    for (kind, name) in [("function", function), ("route", route)] {
        let Some(name) = name else { continue };
        let sql = "SELECT kind, name, format, body FROM release_parts \
                   WHERE namespace = $1 AND kind = $2 AND until IS NULL AND ($3 = '' OR name = $3)";
        let query = sqlx::query(sql).bind(namespace.as_str()).bind(kind).bind(name.to_owned());
        for row in query.fetch_all(&mut **tx).await? {
            // What another software wrote counts as something else, and is written anew.
            if row::number(&row, "format")? == FORMAT {
                add(&row, &mut contents)?;
            }
        }
    }
    Ok(contents)
}

fn add(row: &AnyRow, contents: &mut Contents) -> Result<(), Error> {
    match row.try_get::<String, _>("kind")?.as_str() {
        "function" => drop(contents.functions.insert(row::parsed(row, "name")?, row::json(row, "body")?)),
        "route" => drop(contents.routes.insert(row::parsed(row, "name")?, row::json(row, "body")?)),
        other => return Err(Error::Damaged { what: "kind", value: other.to_owned() }),
    }
    Ok(())
}

/// What a release holds.
pub(super) async fn release_contents_in_tx(
    tx: &mut Transaction<'static, Any>,
    name: &ReleaseName,
) -> Result<Contents, Error> {
    release_fetch_in_tx(tx, name).await?;
    let sql = "SELECT kind, name, format, body FROM release_parts \
               WHERE namespace = $1 AND since <= $2 AND (until IS NULL OR until > $2)";
    let query = sqlx::query(sql).bind(name.namespace.as_str()).bind(i64::from(name.number.get()));
    let mut contents = Contents::default();
    for row in query.fetch_all(&mut **tx).await? {
        if row::number(&row, "format")? != FORMAT {
            let message = format!("release {} was written by another version of the software", name.number);
            let error = ApiError::new(ErrorCode::FailedPrecondition, message);
            return Err(error.hint("update the scheduler, or choose another release").into());
        }
        add(&row, &mut contents)?;
    }
    Ok(contents)
}

/// Ends a part with the release before `number`, and begins the one that takes its place.
async fn part_write_in_tx<T: Serialize>(
    tx: &mut Transaction<'static, Any>,
    namespace: &Namespace,
    number: i64,
    (kind, name): (&'static str, &str),
    part: Option<&T>,
) -> Result<(), Error> {
    let sql = "UPDATE release_parts SET until = $1 WHERE namespace = $2 AND kind = $3 AND name = $4 AND until IS NULL";
    let query = sqlx::query(sql).bind(number).bind(namespace.as_str()).bind(kind).bind(name.to_owned());
    query.execute(&mut **tx).await?;
    let Some(part) = part else { return Ok(()) };
    let sql = "INSERT INTO release_parts (namespace, kind, name, since, format, body) VALUES ($1, $2, $3, $4, $5, $6)";
    let query = sqlx::query(sql).bind(namespace.as_str()).bind(kind).bind(name.to_owned()).bind(number);
    query.bind(FORMAT).bind(row::to_json(part)?).execute(&mut **tx).await?;
    Ok(())
}

/// Forgets the releases before the last ones, and what only they hold.
async fn release_forget_in_tx(
    tx: &mut Transaction<'static, Any>,
    namespace: &Namespace,
    newest: i64,
) -> Result<(), Error> {
    let oldest = newest - KEPT + 1;
    let query = sqlx::query("DELETE FROM releases WHERE namespace = $1 AND number < $2");
    query.bind(namespace.as_str()).bind(oldest).execute(&mut **tx).await?;
    let query = sqlx::query("DELETE FROM release_parts WHERE namespace = $1 AND until <= $2");
    query.bind(namespace.as_str()).bind(oldest).execute(&mut **tx).await?;
    Ok(())
}

impl Store {
    /// Makes the next release where callers get something else than the newest one says.
    pub(super) async fn release_record_in_tx(
        &self,
        tx: &mut Transaction<'static, Any>,
        namespace: &Namespace,
        touched: Touched<'_>,
        cause: String,
    ) -> Result<(), Error> {
        let newest = release_newest_in_tx(tx, namespace).await?;
        // The first one holds what was there before it, too.
        let touched = if newest.is_some() { touched } else { Touched::All };
        let kept = contents_kept_in_tx(tx, namespace, touched).await?;
        let now = contents_now_in_tx(tx, namespace, touched).await?;
        if kept == now {
            return Ok(());
        }
        let number = newest.map_or(0, |newest| i64::from(newest.number)) + 1;
        for (name, state) in changed(&kept.functions, &now.functions) {
            part_write_in_tx(tx, namespace, number, ("function", name.as_str()), state).await?;
        }
        for (name, route) in changed(&kept.routes, &now.routes) {
            part_write_in_tx(tx, namespace, number, ("route", name.as_str()), route).await?;
        }
        let sql = "INSERT INTO releases (namespace, number, cause, actor, create_time) VALUES ($1, $2, $3, $4, $5)";
        let query =
            sqlx::query(sql).bind(namespace.as_str()).bind(number).bind(cause).bind(clean(&self.author.subject));
        query.bind(Time::now().0).execute(&mut **tx).await?;
        release_forget_in_tx(tx, namespace, number).await
    }

    /// Makes the first release of namespaces that have none, from what their callers get.
    pub(crate) async fn releases_begin(&self) -> Result<(), Error> {
        retried!(self.releases_begin_once())
    }

    async fn releases_begin_once(&self) -> Result<(), Error> {
        let mut tx = self.begin().await?;
        let sql = "SELECT name FROM namespaces WHERE name NOT IN (SELECT namespace FROM releases)";
        for row in sqlx::query(sql).fetch_all(&mut *tx).await? {
            let namespace = row::parsed(&row, "name")?;
            self.release_record_in_tx(&mut tx, &namespace, Touched::All, "what there was".to_owned()).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// A release with what it holds.
    pub(crate) async fn release_fetch(&self, name: &ReleaseName) -> Result<(ReleaseRecord, Contents), Error> {
        let mut tx = self.begin().await?;
        let contents = release_contents_in_tx(&mut tx, name).await?;
        let release = release_fetch_in_tx(&mut tx, name).await?;
        tx.commit().await?;
        Ok((release, contents))
    }

    /// At most `limit` releases of a namespace, the newest first, before a number.
    pub(crate) async fn release_list(
        &self,
        namespace: &Namespace,
        before: i64,
        limit: i64,
    ) -> Result<Vec<ReleaseRecord>, Error> {
        let mut tx = self.begin().await?;
        namespace_fetch_in_tx(&mut tx, namespace).await?;
        let sql = "SELECT * FROM releases WHERE namespace = $1 AND number < $2 ORDER BY number DESC LIMIT $3";
        let rows = sqlx::query(sql).bind(namespace.as_str()).bind(before).bind(limit).fetch_all(&mut *tx).await?;
        tx.commit().await?;
        rows.iter().map(read).collect()
    }
}
