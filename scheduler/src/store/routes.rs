//! Routes in the database. Whether a route may be there depends on the others of its namespace, on its domains and
//! functions; so whoever changes one of these holds the namespace's row until the transaction ends.

use dunlin_proto::{
    ApiError, ErrorCode,
    ids::Namespace,
    names::{FunctionRef, RouteName},
    route::RouteSpec,
};
use sqlx::{Any, Transaction, any::AnyRow};

use super::{
    Store,
    aliases::alias_exists_in_tx,
    changes::{Changed, config_note},
    claims::claim_list_in_tx,
    domains::domain_list_in_tx,
    functions::function_fetch_in_tx,
    namespaces::{namespace_fetch_in_tx, namespace_lock_in_tx},
    releases::Touched,
    retried, row,
};
use crate::{
    audit::Change,
    error::Error,
    model::{RouteRecord, Time},
};

/// Reads a whole row.
pub(super) fn read(row: &AnyRow) -> Result<RouteRecord, Error> {
    Ok(RouteRecord {
        name: RouteName { namespace: row::parsed(row, "namespace")?, route: row::parsed(row, "name")? },
        spec: row::json(row, "spec")?,
        creator: row::text(row, "creator")?,
        create_time: row::time(row, "create_time")?,
        update_time: row::time(row, "update_time")?,
    })
}

/// All routes of a namespace, in the order of their names.
pub(super) async fn route_list_in_tx(
    tx: &mut Transaction<'static, Any>,
    namespace: &Namespace,
) -> Result<Vec<RouteRecord>, Error> {
    let query = sqlx::query("SELECT * FROM routes WHERE namespace = $1 ORDER BY name").bind(namespace.as_str());
    query.fetch_all(&mut **tx).await?.iter().map(read).collect()
}

/// Refuses to go on where routes name what is about to go, with their names.
pub(super) fn routes_unused(
    what: &str,
    routes: &[RouteRecord],
    uses: impl Fn(&RouteSpec) -> bool,
) -> Result<(), Error> {
    let users: Vec<_> =
        routes.iter().filter(|route| uses(&route.spec)).map(|route| route.name.route.as_str()).collect();
    if users.is_empty() {
        return Ok(());
    }
    let named = users.get(..5).unwrap_or(&users).join(", ");
    let more = if users.len() > 5 { format!(" and {} more", users.len() - 5) } else { String::new() };
    let error = ApiError::new(ErrorCode::FailedPrecondition, format!("{what} is named by the routes {named}{more}"));
    Err(error.hint("remove or change them first: dunlin route remove").into())
}

/// Checks that a route fits in with the others of its namespace.
pub(super) fn check_others(new: &RouteRecord, others: &[RouteRecord]) -> Result<(), Error> {
    let others: Vec<_> = others.iter().filter(|other| other.name != new.name).collect();
    if let Some(other) = others.iter().find(|other| other.spec.conflicts(&new.spec)) {
        let message = format!(
            "the route {} ({}) conflicts with the route {} ({}): nothing decides which of them takes a request",
            new.name.route, new.spec, other.name.route, other.spec
        );
        let error = ApiError::new(ErrorCode::AlreadyExists, message);
        return Err(error.hint("change host, path or methods of one of them, or remove the other").into());
    }
    if others.len() >= RouteSpec::MOST {
        let message =
            format!("namespace {} has {} routes, the most that it may have", new.name.namespace, others.len());
        return Err(ApiError::new(ErrorCode::FailedPrecondition, message).into());
    }
    let bytes: usize = others.iter().map(|other| other.spec.schema_bytes()).sum::<usize>() + new.spec.schema_bytes();
    if bytes > RouteSpec::MOST_SCHEMA_BYTES {
        let message = format!(
            "with the route {}, the schemas of namespace {} have {bytes} bytes but may have {} at most",
            new.name.route,
            new.name.namespace,
            RouteSpec::MOST_SCHEMA_BYTES
        );
        return Err(ApiError::new(ErrorCode::FailedPrecondition, message).into());
    }
    Ok(())
}

/// Checks that a route's host lies on a domain of its namespace, or on one that it asks for: then it is served later.
pub(super) async fn check_host_in_tx(tx: &mut Transaction<'static, Any>, new: &RouteRecord) -> Result<(), Error> {
    let Some(host) = &new.spec.host else { return Ok(()) };
    let namespace = &new.name.namespace;
    let owned = domain_list_in_tx(tx, namespace).await?;
    if owned.iter().any(|domain| domain.name.domain.holds(host.domain().as_str())) {
        return Ok(());
    }
    let claims = claim_list_in_tx(tx, namespace).await?;
    if claims.iter().any(|claim| claim.name.domain.holds(host.domain().as_str())) {
        return Ok(());
    }
    let message = format!("the host {host} is on no domain of namespace {namespace}");
    let error =
        ApiError { field: Some("route.host".to_owned()), ..ApiError::new(ErrorCode::FailedPrecondition, message) };
    Err(error.hint(format!("an admin of the namespace adds it: dunlin domain add {}", host.domain())).into())
}

/// Checks that the function that a route calls is there, with the alias under which it is called, and the one that it asks.
pub(super) async fn check_functions_in_tx(tx: &mut Transaction<'static, Any>, new: &RouteRecord) -> Result<(), Error> {
    if let Some(authorizer) = new.spec.authorizer() {
        let function = authorizer.function.clone();
        function_fetch_in_tx(tx, &FunctionRef { namespace: new.name.namespace.clone(), function }).await?;
    }
    let Some(function) = new.spec.target.function() else { return Ok(()) };
    let function = FunctionRef { namespace: new.name.namespace.clone(), function: function.clone() };
    let function = function_fetch_in_tx(tx, &function).await?;
    match new.spec.target.alias() {
        Some(alias) => alias_exists_in_tx(tx, &function, alias).await,
        None => Ok(()),
    }
}

/// The route, where there is one.
pub(super) async fn route_find_in_tx(
    tx: &mut Transaction<'static, Any>,
    name: &RouteName,
) -> Result<Option<RouteRecord>, Error> {
    let query = sqlx::query("SELECT * FROM routes WHERE namespace = $1 AND name = $2");
    let query = query.bind(name.namespace.as_str()).bind(name.route.as_str());
    query.fetch_optional(&mut **tx).await?.as_ref().map(read).transpose()
}

fn change(action: &'static str, name: &RouteName) -> Change {
    Change::new(action, &name.namespace, name)
}

fn missing(name: &RouteName) -> Error {
    ApiError::not_found(format!("route {name}")).into()
}

impl Store {
    /// Makes a route, or with `replace` changes the one of its name; gives it as it is now.
    pub(crate) async fn route_put(&self, new: &RouteRecord, replace: bool) -> Result<RouteRecord, Error> {
        retried!(self.route_put_once(new, replace))
    }

    async fn route_put_once(&self, new: &RouteRecord, replace: bool) -> Result<RouteRecord, Error> {
        let mut tx = self.begin().await?;
        namespace_lock_in_tx(&mut tx, &new.name.namespace).await?;
        let all = route_list_in_tx(&mut tx, &new.name.namespace).await?;
        let before = all.iter().find(|route| route.name == new.name);
        if let Some(before) = before.filter(|_| !replace) {
            let message = format!("route {} exists already ({})", before.name.route, before.spec);
            let error = ApiError::new(ErrorCode::AlreadyExists, message);
            return Err(error.hint("ask to replace it (--replace), or choose another name").into());
        }
        check_others(new, &all)?;
        check_host_in_tx(&mut tx, new).await?;
        check_functions_in_tx(&mut tx, new).await?;
        let create_time = before.map_or(new.create_time, |before| before.create_time);
        let new = RouteRecord { create_time, ..new.clone() };
        route_write_in_tx(&mut tx, &new).await?;
        config_note(&mut tx, &Changed::Route(new.name.clone())).await?;
        self.release_record_in_tx(
            &mut tx,
            &new.name.namespace,
            Touched::Route(&new.name.route),
            format!("put route {}", new.name.route),
        )
        .await?;
        let change = change("route.put", &new.name).after(&new);
        self.audit_in_tx(&mut tx, before.into_iter().fold(change, Change::before)).await?;
        tx.commit().await?;
        Ok(new)
    }

    /// The route.
    pub(crate) async fn route_fetch(&self, name: &RouteName) -> Result<RouteRecord, Error> {
        let mut tx = self.begin().await?;
        let found = route_find_in_tx(&mut tx, name).await?;
        tx.commit().await?;
        found.ok_or_else(|| missing(name))
    }

    /// At most `limit` routes of a namespace, in the order of their names, after a name.
    pub(crate) async fn route_list(
        &self,
        namespace: &Namespace,
        after: &str,
        limit: i64,
    ) -> Result<Vec<RouteRecord>, Error> {
        let mut tx = self.begin().await?;
        namespace_fetch_in_tx(&mut tx, namespace).await?;
        let sql = "SELECT * FROM routes WHERE namespace = $1 AND name > $2 ORDER BY name LIMIT $3";
        let rows = sqlx::query(sql).bind(namespace.as_str()).bind(after).bind(limit).fetch_all(&mut *tx).await?;
        tx.commit().await?;
        rows.iter().map(read).collect()
    }

    /// Deletes a route.
    pub(crate) async fn route_delete(&self, name: &RouteName) -> Result<(), Error> {
        let mut tx = self.begin().await?;
        let before = route_find_in_tx(&mut tx, name).await?.ok_or_else(|| missing(name))?;
        if !route_delete_in_tx(&mut tx, name).await? {
            return Err(missing(name));
        }
        config_note(&mut tx, &Changed::Route(name.clone())).await?;
        self.release_record_in_tx(
            &mut tx,
            &name.namespace,
            Touched::Route(&name.route),
            format!("delete route {}", name.route),
        )
        .await?;
        self.audit_in_tx(&mut tx, change("route.delete", name).before(&before)).await?;
        tx.commit().await?;
        Ok(())
    }
}

/// Deletes a route, within a transaction; says whether it was there.
pub(super) async fn route_delete_in_tx(tx: &mut Transaction<'static, Any>, name: &RouteName) -> Result<bool, Error> {
    let query = sqlx::query("DELETE FROM routes WHERE namespace = $1 AND name = $2");
    let query = query.bind(name.namespace.as_str()).bind(name.route.as_str());
    Ok(query.execute(&mut **tx).await?.rows_affected() > 0)
}

/// Writes a route, within a transaction.
pub(super) async fn route_write_in_tx(tx: &mut Transaction<'static, Any>, route: &RouteRecord) -> Result<(), Error> {
    let sql = "INSERT INTO routes (namespace, name, spec, creator, create_time, update_time) VALUES ($1, $2, $3, $4, $5, $6) \
               ON CONFLICT (namespace, name) DO UPDATE SET spec = excluded.spec, creator = excluded.creator, \
               update_time = excluded.update_time";
    let Time(created) = route.create_time;
    let query = sqlx::query(sql).bind(route.name.namespace.as_str()).bind(route.name.route.as_str());
    let query = query.bind(row::to_json(&route.spec)?).bind(&*route.creator).bind(created);
    query.bind(route.update_time.0).execute(&mut **tx).await?;
    Ok(())
}
