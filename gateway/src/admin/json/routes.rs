//! Routes and domains as JSON.

use axum::{Json, extract::State};
use dunlin_proto::{
    ApiError,
    names::{DomainRef, NamespaceRef, RouteName},
    v1,
};
use http::StatusCode;
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::{
    Answer,
    body::Body,
    doc::{Refused, Unchanged},
};
use crate::admin::{
    app::App,
    fault::Fault,
    model::{Domain, DomainList, DomainTls, PurgeCache, PurgedCache, Route, RouteList, RouteSpec},
    params::{DomainIds, Named, NamespaceIds, Page, Query, RouteIds, listed},
    session::Caller,
};

/// Lists the routes of a namespace in the order of their names.
#[utoipa::path(
    get,
    path = "/namespaces/{namespace}/routes",
    tag = "routes",
    params(NamespaceIds, Page),
    responses((status = 200, body = RouteList, description = "A page of routes"), Refused),
)]
pub(super) async fn list_routes(
    State(app): State<App>,
    Caller(who): Caller,
    Named(parent): Named<NamespaceRef>,
    Query(page): Query<Page>,
) -> Answer<RouteList> {
    let (page_size, page_token) = page.checked()?;
    let request = v1::ListRoutesRequest { parent: parent.to_string(), page_size, page_token };
    Ok(Json(listed(app.route_list(&who, request).await)?.into()))
}

/// Returns one route.
#[utoipa::path(
    get,
    path = "/namespaces/{namespace}/routes/{route}",
    tag = "routes",
    params(RouteIds),
    responses((status = 200, body = Route, description = "The route"), Refused),
)]
pub(super) async fn get_route(
    State(app): State<App>,
    Caller(who): Caller,
    Named(name): Named<RouteName>,
) -> Answer<Route> {
    let response = app.route_get(&who, v1::GetRouteRequest { name: name.to_string() }).await?;
    Ok(Json(response.route.unwrap_or_default().into()))
}

/// Makes a route, or replaces the one of its name.
#[utoipa::path(
    put,
    path = "/namespaces/{namespace}/routes/{route}",
    tag = "routes",
    params(RouteIds),
    request_body = RouteSpec,
    responses((status = 200, body = Route, description = "The route as it is now"), Refused, Unchanged),
)]
pub(super) async fn put_route(
    State(app): State<App>,
    Caller(who): Caller,
    Named(name): Named<RouteName>,
    Body(body): Body<RouteSpec>,
) -> Answer<Route> {
    let request = v1::PutRouteRequest { route: Some(body.into_message(name.to_string())), replace: true };
    Ok(Json(app.route_put(&who, request).await?.route.unwrap_or_default().into()))
}

/// Deletes a route.
#[utoipa::path(
    delete,
    path = "/namespaces/{namespace}/routes/{route}",
    tag = "routes",
    params(RouteIds),
    responses((status = 204, description = "It is gone"), Refused, Unchanged),
)]
pub(super) async fn delete_route(
    State(app): State<App>,
    Caller(who): Caller,
    Named(name): Named<RouteName>,
) -> Result<StatusCode, Fault> {
    app.route_delete(&who, v1::DeleteRouteRequest { name: name.to_string() }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Returns the routes as a document of OpenAPI 3.1, from which the same routes can be imported.
#[utoipa::path(
    get,
    path = "/namespaces/{namespace}/openapi",
    tag = "routes",
    params(NamespaceIds),
    responses((status = 200, body = Object, description = "The document"), Refused),
)]
pub(super) async fn export_routes(
    State(app): State<App>,
    Caller(who): Caller,
    Named(parent): Named<NamespaceRef>,
) -> Answer<Value> {
    let response = app.routes_export(&who, v1::ExportRoutesRequest { parent: parent.to_string() }).await?;
    let document = serde_json::from_str(&response.document).map_err(|_| ApiError::internal())?;
    Ok(Json(document))
}

/// Forgets answers that gateways have stored for routes with `cache`.
#[utoipa::path(
    post,
    path = "/namespaces/{namespace}/cache/purge",
    tag = "routes",
    params(NamespaceIds),
    request_body = PurgeCache,
    responses((status = 200, body = PurgedCache, description = "They are forgotten"), Refused),
)]
pub(super) async fn purge_cache(
    State(app): State<App>,
    Caller(who): Caller,
    Named(parent): Named<NamespaceRef>,
    Body(body): Body<PurgeCache>,
) -> Answer<PurgedCache> {
    let request = body.into_message(parent.to_string())?;
    Ok(Json(app.cache_purge(&who, request).await?.into()))
}

/// Lists the domains of a namespace in the order of their names.
#[utoipa::path(
    get,
    path = "/namespaces/{namespace}/domains",
    tag = "routes",
    params(NamespaceIds, Page),
    responses((status = 200, body = DomainList, description = "A page of domains"), Refused),
)]
pub(super) async fn list_domains(
    State(app): State<App>,
    Caller(who): Caller,
    Named(parent): Named<NamespaceRef>,
    Query(page): Query<Page>,
) -> Answer<DomainList> {
    let (page_size, page_token) = page.checked()?;
    let request = v1::ListDomainsRequest { parent: parent.to_string(), page_size, page_token };
    Ok(Json(listed(app.domain_list(&who, request).await)?.into()))
}

/// Asks for a domain.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateDomain {
    /// A DNS name of two labels at least.
    #[schema(max_length = 253, example = "shop.example")]
    domain: String,
    /// Whether the cluster gets a certificate for it. Default `acme`.
    #[serde(default)]
    tls: DomainTls,
    /// Give it without proof, which operators alone may. Default false.
    #[serde(default)]
    vouch: bool,
}

/// Asks for a domain, with every name below it, for a namespace. It is the namespace's once the record of its `proof` is found, or at
/// once where an operator vouches. Asked again before that, the record is looked for at once.
#[utoipa::path(
    post,
    path = "/namespaces/{namespace}/domains",
    tag = "routes",
    params(NamespaceIds),
    request_body = CreateDomain,
    responses((status = 201, body = Domain, description = "The domain"), Refused, Unchanged),
)]
pub(super) async fn create_domain(
    State(app): State<App>,
    Caller(who): Caller,
    Named(parent): Named<NamespaceRef>,
    Body(body): Body<CreateDomain>,
) -> Result<(StatusCode, Json<Domain>), Fault> {
    let tls = v1::DomainTls::from(body.tls).into();
    let request = v1::CreateDomainRequest { parent: parent.to_string(), domain: body.domain, tls, vouch: body.vouch };
    let given = app.domain_create(&who, request).await?.domain.unwrap_or_default();
    Ok((StatusCode::CREATED, Json(given.into())))
}

/// Takes a domain away from its namespace, unless a route names a host of it.
#[utoipa::path(
    delete,
    path = "/namespaces/{namespace}/domains/{domain}",
    tag = "routes",
    params(DomainIds),
    responses((status = 204, description = "It is nobody's"), Refused, Unchanged),
)]
pub(super) async fn delete_domain(
    State(app): State<App>,
    Caller(who): Caller,
    Named(name): Named<DomainRef>,
) -> Result<StatusCode, Fault> {
    app.domain_delete(&who, v1::DeleteDomainRequest { name: name.to_string() }).await?;
    Ok(StatusCode::NO_CONTENT)
}
