//! Routes that belong together, those of an API or of an app: what becomes of a namespace's routes where all of an owner's are given at
//! once. What is somebody else's is left alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use dunlin_proto::{
    ApiError, ErrorCode,
    ids::{AppId, FunctionName, Namespace, RouteId},
    names::RouteName,
    route::RouteSpec,
};
use serde_json::{Value, json};
use sqlx::{Any, Transaction};

use super::routes::{
    check_functions_in_tx, check_host_in_tx, check_others, route_delete_in_tx, route_list_in_tx, route_write_in_tx,
};
use crate::{error::Error, model::RouteRecord};

/// Whose routes they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Owner {
    /// They were imported together.
    Api(RouteId),
    /// An app declares them.
    App(AppId),
}

impl Owner {
    /// Who owns a route; nobody where it was put alone.
    fn of(spec: &RouteSpec) -> Option<Self> {
        let api = spec.api.clone().map(Self::Api);
        spec.app.clone().map(Self::App).or(api)
    }

    /// The route as one of its own.
    pub(crate) fn mark(&self, spec: RouteSpec) -> RouteSpec {
        let (api, app) = match self {
            Self::Api(api) => (Some(api.clone()), None),
            Self::App(app) => (None, Some(app.clone())),
        };
        RouteSpec { api, app, ..spec }
    }

    fn hint(&self) -> &'static str {
        match self {
            Self::Api(_) => {
                "remove it first (dunlin route remove), or name the operation's route otherwise (x-dunlin-route)"
            }
            Self::App(_) => "remove it first (dunlin route remove), or name the manifest's route otherwise",
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Api(api) => write!(f, "the API {api}"),
            Self::App(app) => write!(f, "the app {app}"),
        }
    }
}

/// What an owner's routes shall be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    /// Where.
    pub(super) namespace: &'a Namespace,
    /// Whose they are.
    pub(super) owner: &'a Owner,
    /// All of them.
    pub(super) routes: &'a [RouteRecord],
    /// Whether others of the owner are deleted.
    pub(super) prune: bool,
    /// Functions that are not there yet and will be.
    pub(super) to_come: &'a BTreeSet<FunctionName>,
}

/// What has become of them.
#[derive(Debug)]
pub(super) struct Settled {
    /// Those of the owner, as they are; whether each was written.
    pub(super) routes: Vec<(RouteRecord, bool)>,
    /// Those that are gone.
    pub(super) deleted: Vec<RouteName>,
}

impl Settled {
    /// Whether anything was changed.
    pub(super) fn changed(&self) -> bool {
        !self.deleted.is_empty() || self.routes.iter().any(|(_, written)| *written)
    }

    /// For the audit log: which routes, and for which requests they are.
    pub(super) fn facts(&self) -> Value {
        let written = self.routes.iter().filter(|(_, written)| *written);
        let written: BTreeMap<_, _> =
            written.map(|(route, _)| (route.name.route.to_string(), route.spec.to_string())).collect();
        let deleted: Vec<_> = self.deleted.iter().map(|name| name.route.to_string()).collect();
        json!({ "written": written, "deleted": deleted })
    }
}

/// Makes of the owner's routes what they shall be. The namespace is locked.
pub(super) async fn routes_settle_in_tx(
    tx: &mut Transaction<'static, Any>,
    wanted: Wanted<'_>,
) -> Result<Settled, Error> {
    let settled = routes_check_in_tx(tx, wanted).await?;
    routes_write_in_tx(tx, &settled).await?;
    Ok(settled)
}

/// Decides what is to be written, and checks that it can be there. The namespace is locked.
pub(super) async fn routes_check_in_tx(
    tx: &mut Transaction<'static, Any>,
    wanted: Wanted<'_>,
) -> Result<Settled, Error> {
    let (settled, mut others) = plan(wanted, route_list_in_tx(tx, wanted.namespace).await?)?;
    for (route, _) in &settled.routes {
        check_others(route, &others)?;
        check_in_tx(tx, route, wanted.to_come).await.map_err(|error| of_route(route, error))?;
        others.push(route.clone());
    }
    Ok(settled)
}

/// Writes what has been decided.
pub(super) async fn routes_write_in_tx(tx: &mut Transaction<'static, Any>, settled: &Settled) -> Result<(), Error> {
    for name in &settled.deleted {
        route_delete_in_tx(tx, name).await?;
    }
    for (route, _) in settled.routes.iter().filter(|(_, written)| *written) {
        route_write_in_tx(tx, route).await?;
    }
    Ok(())
}

async fn check_in_tx(
    tx: &mut Transaction<'static, Any>,
    route: &RouteRecord,
    to_come: &BTreeSet<FunctionName>,
) -> Result<(), Error> {
    check_host_in_tx(tx, route).await?;
    let target = &route.spec.target;
    let comes = target.function().is_some_and(|function| to_come.contains(function)) && target.alias().is_none();
    let asked = route.spec.authorizer().is_some_and(|authorizer| to_come.contains(&authorizer.function));
    // What is not there yet can't be looked at; it is when it is there.
    if comes || asked { Ok(()) } else { check_functions_in_tx(tx, route).await }
}

/// Decides what becomes of the routes that there are; gives also those that stay as they are.
fn plan(wanted: Wanted<'_>, before: Vec<RouteRecord>) -> Result<(Settled, Vec<RouteRecord>), Error> {
    let mut names = BTreeSet::new();
    if let Some(twice) = wanted.routes.iter().find(|route| !names.insert(&route.name)) {
        return Err(ApiError::invalid("routes", format!("the route {} is there twice", twice.name.route)).into());
    }
    let owns = |route: &RouteRecord| Owner::of(&route.spec).as_ref() == Some(wanted.owner);
    if let Some(other) = before.iter().find(|route| names.contains(&route.name) && !owns(route)) {
        return Err(taken(other, wanted.owner).into());
    }
    let routes = wanted.routes.iter().map(|new| match before.iter().find(|route| route.name == new.name) {
        Some(same) if same.spec == new.spec => (same.clone(), false),
        Some(old) => (RouteRecord { create_time: old.create_time, ..new.clone() }, true),
        None => (new.clone(), true),
    });
    let routes = routes.collect();
    let others = before.into_iter().filter(|route| !names.contains(&route.name));
    let (gone, others): (Vec<_>, Vec<_>) = others.partition(|route| wanted.prune && owns(route));
    Ok((Settled { routes, deleted: gone.into_iter().map(|route| route.name).collect() }, others))
}

fn taken(route: &RouteRecord, owner: &Owner) -> ApiError {
    let whose = match Owner::of(&route.spec) {
        Some(other) => format!("belongs to {other}"),
        None => "was put alone".to_owned(),
    };
    let name = &route.name.route;
    let message = format!("the route {name} ({}) exists already and {whose}; {owner} can't have it", route.spec);
    ApiError::new(ErrorCode::AlreadyExists, message).hint(owner.hint())
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
