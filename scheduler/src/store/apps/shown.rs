//! Apps as they are now, read from the routes that name them. Nothing here changes any; that is the module above.

use std::collections::{BTreeMap, BTreeSet};

use dunlin_proto::{
    ApiError,
    ids::{AppId, FunctionName, Namespace, RouteId},
    names::AppName,
};
use sqlx::{Any, Row, Transaction};

use crate::{
    error::Error,
    model::RouteRecord,
    releases::ReleaseRecord,
    store::{Store, namespaces::namespace_fetch_in_tx, releases::release_all_in_tx, routes::route_list_in_tx, row},
};

/// An app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AppRecord {
    /// Which one.
    pub(crate) name: AppName,
    /// What its routes call, or ask who may call.
    pub(crate) functions: BTreeSet<FunctionName>,
    /// Its routes, in the order of their names.
    pub(crate) routes: Vec<RouteId>,
    /// The newest release that changed one of them; nothing where that is no longer kept.
    pub(crate) release: Option<ReleaseRecord>,
}

/// The release with which each function and route of a namespace became what it is.
#[derive(Debug, Default)]
struct Since {
    functions: BTreeMap<FunctionName, u32>,
    routes: BTreeMap<RouteId, u32>,
}

impl Since {
    fn newest(&self, functions: &BTreeSet<FunctionName>, routes: &[RouteId]) -> Option<u32> {
        let of_functions = functions.iter().filter_map(|name| self.functions.get(name));
        of_functions.chain(routes.iter().filter_map(|name| self.routes.get(name))).max().copied()
    }
}

/// The functions and routes of each app.
fn grouped(routes: Vec<RouteRecord>) -> BTreeMap<AppId, (BTreeSet<FunctionName>, Vec<RouteId>)> {
    let mut found: BTreeMap<AppId, (BTreeSet<FunctionName>, Vec<RouteId>)> = BTreeMap::new();
    for RouteRecord { name, spec, .. } in routes {
        let Some(app) = &spec.app else { continue };
        let (functions, routes) = found.entry(app.clone()).or_default();
        functions.extend(spec.target.function().cloned());
        functions.extend(spec.authorizer().map(|authorizer| authorizer.function.clone()));
        routes.push(name.route);
    }
    found
}

async fn since_in_tx(tx: &mut Transaction<'static, Any>, namespace: &Namespace) -> Result<Since, Error> {
    let sql = "SELECT kind, name, since FROM release_parts WHERE namespace = $1 AND until IS NULL";
    let mut found = Since::default();
    for row in sqlx::query(sql).bind(namespace.as_str()).fetch_all(&mut **tx).await? {
        let since = row::count(&row, "since")?;
        match row.try_get::<String, _>("kind")?.as_str() {
            "function" => drop(found.functions.insert(row::parsed(&row, "name")?, since)),
            _ => drop(found.routes.insert(row::parsed(&row, "name")?, since)),
        }
    }
    Ok(found)
}

impl Store {
    /// All apps of a namespace, in the order of their names.
    pub(crate) async fn app_list(&self, namespace: &Namespace) -> Result<Vec<AppRecord>, Error> {
        let mut tx = self.begin().await?;
        namespace_fetch_in_tx(&mut tx, namespace).await?;
        let found = grouped(route_list_in_tx(&mut tx, namespace).await?);
        // Most namespaces have none.
        if found.is_empty() {
            return Ok(Vec::new());
        }
        let since = since_in_tx(&mut tx, namespace).await?;
        let releases = release_all_in_tx(&mut tx, namespace).await?;
        tx.commit().await?;
        let app = |(app, (functions, routes)): (AppId, (BTreeSet<FunctionName>, Vec<RouteId>))| AppRecord {
            name: AppName { namespace: namespace.clone(), app },
            release: since.newest(&functions, &routes).and_then(|number| releases.get(&number).cloned()),
            functions,
            routes,
        };
        Ok(found.into_iter().map(app).collect())
    }

    /// An app.
    pub(crate) async fn app_fetch(&self, name: &AppName) -> Result<AppRecord, Error> {
        let apps = self.app_list(&name.namespace).await?;
        let missing = || ApiError::not_found(name).hint("an app is there as long as it has routes: dunlin app list");
        Ok(apps.into_iter().find(|app| app.name == *name).ok_or_else(missing)?)
    }
}
