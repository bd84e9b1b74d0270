//! Apps as JSON: what one manifest says of functions and routes, in one step.

use axum::{Json, extract::State};
use dunlin_proto::{
    ids::Namespace,
    names::{AppName, NamespaceRef},
    v1,
};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    Answer,
    body::Body,
    doc::{Refused, Unchanged},
    fields::{items, maybe_whole},
};
use crate::admin::{
    app::App,
    model::{ActivatedApp, App as Shown, AppList, RouteSpec},
    params::{AppIds, Named, NamespaceIds},
    session::Caller,
};

/// A function of an app.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AppFunction {
    /// The function's bare name.
    #[schema(pattern = "^[a-z](-?[a-z0-9])*$", min_length = 1, max_length = 32, example = "checkout")]
    function: String,
    /// The version that gets its calls; left out, they stay as they are.
    #[serde(default, deserialize_with = "maybe_whole::<_, 1, { u32::MAX }>")]
    #[schema(value_type = u32, minimum = 1, maximum = 4_294_967_295_u32, required = false)]
    version: Option<u32>,
}

/// A route of an app.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AppRoute {
    /// The route's bare name.
    #[schema(pattern = "^[a-z](-?[a-z0-9])*$", min_length = 1, max_length = 63, example = "users")]
    route: String,
    /// What it does; its `app` and `api` are ignored.
    spec: RouteSpec,
}

/// What an app shall be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ActivateApp {
    /// Its functions, each once.
    #[serde(default, deserialize_with = "items::<_, _, 0, 100>")]
    #[schema(max_items = 100, required = false)]
    functions: Vec<AppFunction>,
    /// All its routes, each name once; others of the app are deleted.
    #[serde(default, deserialize_with = "items::<_, _, 0, 1000>")]
    #[schema(max_items = 1000, required = false)]
    routes: Vec<AppRoute>,
    /// The routes stay as they are; none are given.
    #[serde(default)]
    #[schema(required = false)]
    keep_routes: bool,
    /// How many percent of the calls the versions get; left out, all.
    #[serde(default, deserialize_with = "maybe_whole::<_, 1, 99>")]
    #[schema(value_type = u32, minimum = 1, maximum = 99, required = false)]
    canary_percent: Option<u32>,
    /// Checks everything and changes nothing; functions without a version need not be there yet.
    #[serde(default)]
    #[schema(required = false)]
    validate_only: bool,
}

impl AppRoute {
    /// The message that asks for it in a namespace.
    pub(super) fn into_message(self, namespace: &Namespace) -> v1::Route {
        self.spec.into_message(format!("namespaces/{namespace}/routes/{}", self.route))
    }
}

impl ActivateApp {
    fn into_message(self, app: &AppName) -> v1::ActivateAppRequest {
        let function =
            |it: AppFunction| v1::AppFunction { function: it.function, version: it.version.unwrap_or_default() };
        v1::ActivateAppRequest {
            name: app.to_string(),
            functions: self.functions.into_iter().map(function).collect(),
            routes: self.routes.into_iter().map(|route| route.into_message(&app.namespace)).collect(),
            keep_routes: self.keep_routes,
            canary_percent: self.canary_percent,
            validate_only: self.validate_only,
        }
    }
}

/// Lists all apps of a namespace: functions and routes that one manifest declares. An app is known by its routes alone.
#[utoipa::path(
    get,
    path = "/namespaces/{namespace}/apps",
    tag = "releases",
    params(NamespaceIds),
    responses((status = 200, body = AppList, description = "All apps"), Refused),
)]
pub(super) async fn list_apps(
    State(app): State<App>,
    Caller(who): Caller,
    Named(parent): Named<NamespaceRef>,
) -> Answer<AppList> {
    Ok(Json(app.app_list(&who, v1::ListAppsRequest { parent: parent.to_string() }).await?.into()))
}

/// Returns one app.
#[utoipa::path(
    get,
    path = "/namespaces/{namespace}/apps/{app}",
    tag = "releases",
    params(AppIds),
    responses((status = 200, body = Shown, description = "The app"), Refused),
)]
pub(super) async fn get_app(State(app): State<App>, Caller(who): Caller, Named(name): Named<AppName>) -> Answer<Shown> {
    let found = app.app_get(&who, v1::GetAppRequest { name: name.to_string() }).await?;
    Ok(Json(found.app.unwrap_or_default().into()))
}

/// Makes of an app what is said here, all of it or nothing: versions get their functions' calls, and its routes become these. Answers
/// once all gateways serve it, or names those that do not yet.
#[utoipa::path(
    put,
    path = "/namespaces/{namespace}/apps/{app}",
    tag = "releases",
    params(AppIds),
    request_body = ActivateApp,
    responses((status = 200, body = ActivatedApp, description = "The app as it is now"), Refused, Unchanged),
)]
pub(super) async fn activate_app(
    State(app): State<App>,
    Caller(who): Caller,
    Named(name): Named<AppName>,
    Body(body): Body<ActivateApp>,
) -> Answer<ActivatedApp> {
    Ok(Json(app.app_activate(&who, body.into_message(&name)).await?.into()))
}
