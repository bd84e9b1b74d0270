//! The routes of an API in one transaction: all of them as they are wanted, or none.

use std::collections::{BTreeMap, BTreeSet};

use dunlin_proto::{
    ApiError, ErrorCode,
    ids::{Namespace, RouteId},
    names::{NamespaceRef, RouteName},
};
use serde_json::json;

use super::{
    Store,
    changes::config_bump_all,
    namespaces::namespace_lock_in_tx,
    releases::Touched,
    retried,
    routes::{
        check_functions_in_tx, check_host_in_tx, check_others, route_delete_in_tx, route_list_in_tx, route_write_in_tx,
    },
};
use crate::{audit::Change, error::Error, model::RouteRecord};

/// What is to be imported.
#[derive(Debug, Clone)]
pub(crate) struct Import {
    /// Where.
    pub(crate) namespace: Namespace,
    /// What the routes together are called.
    pub(crate) api: RouteId,
    /// All of them.
    pub(crate) routes: Vec<RouteRecord>,
    /// Whether others of the API are deleted.
    pub(crate) prune: bool,
    /// Whether nothing is changed.
    pub(crate) validate_only: bool,
    /// Who wants it.
    pub(crate) creator: String,
}

/// What was imported.
#[derive(Debug)]
pub(crate) struct Imported {
    /// The routes as they are now.
    pub(crate) routes: Vec<RouteRecord>,
    /// Those that are deleted.
    pub(crate) deleted: Vec<RouteId>,
}

/// What becomes of a namespace's routes.
struct Plan {
    /// Those of the import, as they will be; whether each is written.
    routes: Vec<(RouteRecord, bool)>,
    /// Those that stay as they are.
    others: Vec<RouteRecord>,
    deleted: Vec<RouteName>,
}

impl Store {
    /// Makes, replaces and deletes the routes of an API.
    pub(crate) async fn routes_import(&self, import: &Import) -> Result<Imported, Error> {
        retried!(self.routes_import_once(import))
    }

    async fn routes_import_once(&self, import: &Import) -> Result<Imported, Error> {
        let mut tx = self.begin().await?;
        namespace_lock_in_tx(&mut tx, &import.namespace).await?;
        let Plan { routes, mut others, deleted } = plan(import, route_list_in_tx(&mut tx, &import.namespace).await?)?;
        for (route, _) in &routes {
            check_others(route, &others)?;
            check_host_in_tx(&mut tx, route).await.map_err(|error| of_route(route, error))?;
            check_functions_in_tx(&mut tx, route).await.map_err(|error| of_route(route, error))?;
            others.push(route.clone());
        }
        for name in &deleted {
            route_delete_in_tx(&mut tx, name).await?;
        }
        let mut changed = !deleted.is_empty();
        for (route, _) in routes.iter().filter(|(_, written)| *written) {
            route_write_in_tx(&mut tx, route).await?;
            changed = true;
        }
        if import.validate_only {
            tx.rollback().await?;
        } else {
            if changed {
                config_bump_all(&mut tx).await?;
                self.release_record_in_tx(
                    &mut tx,
                    &import.namespace,
                    Touched::All,
                    format!("import API {}", import.api),
                )
                .await?;
                self.audit_in_tx(&mut tx, change(import, &routes, &deleted)).await?;
            }
            tx.commit().await?;
        }
        let deleted = deleted.into_iter().map(|name| name.route).collect();
        Ok(Imported { routes: routes.into_iter().map(|(route, _)| route).collect(), deleted })
    }
}

/// What the audit log says: which routes, and for which requests they are.
fn change(import: &Import, routes: &[(RouteRecord, bool)], deleted: &[RouteName]) -> Change {
    let written = routes.iter().filter(|(_, written)| *written);
    let written: BTreeMap<_, _> =
        written.map(|(route, _)| (route.name.route.to_string(), route.spec.to_string())).collect();
    let deleted: Vec<_> = deleted.iter().map(|name| name.route.to_string()).collect();
    let resource = NamespaceRef { namespace: import.namespace.clone() };
    Change::new("route.import", &import.namespace, &resource)
        .after(&json!({ "api": import.api.to_string(), "written": written, "deleted": deleted }))
}

/// Decides what becomes of the routes that there are.
fn plan(import: &Import, before: Vec<RouteRecord>) -> Result<Plan, Error> {
    let mut names = BTreeSet::new();
    if let Some(twice) = import.routes.iter().find(|route| !names.insert(&route.name)) {
        return Err(ApiError::invalid("routes", format!("the route {} is there twice", twice.name.route)).into());
    }
    let foreign = |route: &&RouteRecord| names.contains(&route.name) && route.spec.api.as_ref() != Some(&import.api);
    if let Some(other) = before.iter().find(foreign) {
        return Err(taken(other, &import.api).into());
    }
    let routes = import.routes.iter().map(|new| match before.iter().find(|route| route.name == new.name) {
        Some(same) if same.spec == new.spec => (same.clone(), false),
        Some(old) => (RouteRecord { create_time: old.create_time, ..new.clone() }, true),
        None => (new.clone(), true),
    });
    let routes = routes.collect();
    let others = before.into_iter().filter(|route| !names.contains(&route.name));
    let goes = |route: &RouteRecord| import.prune && route.spec.api.as_ref() == Some(&import.api);
    let (gone, others): (Vec<_>, Vec<_>) = others.partition(goes);
    Ok(Plan { routes, others, deleted: gone.into_iter().map(|route| route.name).collect() })
}

fn taken(route: &RouteRecord, api: &RouteId) -> ApiError {
    let owner = match &route.spec.api {
        Some(other) => format!("belongs to the API {other}"),
        None => "was put alone".to_owned(),
    };
    let name = &route.name.route;
    let message = format!("the route {name} ({}) exists already and {owner}; the API {api} can't have it", route.spec);
    let error = ApiError::new(ErrorCode::AlreadyExists, message);
    error.hint("remove it first (dunlin route remove), or name the operation's route otherwise (x-dunlin-route)")
}

/// Says of which route it is.
fn of_route(route: &RouteRecord, error: Error) -> Error {
    match error {
        Error::Api(error) => {
            Error::Api(ApiError { message: format!("route {}: {}", route.name.route, error.message), ..error })
        }
        other => other,
    }
}
