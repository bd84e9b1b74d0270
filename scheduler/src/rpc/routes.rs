//! `RouteService`.

use dunlin_openapi::Checker;
use dunlin_proto::{
    ApiError,
    ids::{Namespace, RouteId},
    metadata,
    names::{NamespaceRef, RouteName},
    route::{Purge, Purged, RouteSpec},
    v1::{self, route_service_server::RouteService},
};
use serde_json::{Value, json};
use tonic::{Request, Response, Status};

use super::{Desk, convert, functions::beyond, name, page};
use crate::{
    audit::Change,
    model::{RouteRecord, Time},
    store::{Import, Owner},
};

#[tonic::async_trait]
impl RouteService for Desk {
    async fn put_route(&self, request: Request<v1::PutRouteRequest>) -> Result<Response<v1::PutRouteResponse>, Status> {
        let (creator, store) = (metadata::actor(&request), self.store(&request)?);
        let v1::PutRouteRequest { route, replace } = request.into_inner();
        let route = route.ok_or_else(|| ApiError::invalid("route", "route is missing"))?;
        let (name, now): (RouteName, _) = (name("route.name", &route.name)?, Time::now());
        let new = RouteRecord { name, spec: route.try_into()?, creator, create_time: now, update_time: now };
        check(&new.spec)?;
        let app = self.app()?;
        let put = store.route_put(&new, replace).await?;
        let lagging_gateways = app.config_acknowledged().await;
        tracing::info!(namespace = %put.name.namespace, route = %put.name.route, spec = %put.spec, actor = put.creator, "a route has been put");
        let pending_domain = app.store.claim_holding(&put).await?.map(|claim| claim.name.domain.to_string());
        let pending_domain = pending_domain.unwrap_or_default();
        Ok(Response::new(v1::PutRouteResponse { route: Some(convert::route(&put)), pending_domain, lagging_gateways }))
    }

    async fn get_route(&self, request: Request<v1::GetRouteRequest>) -> Result<Response<v1::GetRouteResponse>, Status> {
        let target: RouteName = name("name", &request.get_ref().name)?;
        let route = Some(convert::route(&self.app()?.store.route_fetch(&target).await?));
        Ok(Response::new(v1::GetRouteResponse { route }))
    }

    async fn list_routes(
        &self,
        request: Request<v1::ListRoutesRequest>,
    ) -> Result<Response<v1::ListRoutesResponse>, Status> {
        let request = request.into_inner();
        let namespace = name::<NamespaceRef>("parent", &request.parent)?.namespace;
        let (size, list) = (page::size(request.page_size)?, format!("routes/{namespace}"));
        let after: String = page::read(&list, &request.page_token)?.unwrap_or_default();
        let found = self.app()?.store.route_list(&namespace, &after, beyond(size)).await?;
        let (found, next_page_token) = page::cut(&list, found, size, |route| route.name.route.to_string());
        let routes = found.iter().map(convert::route).collect();
        Ok(Response::new(v1::ListRoutesResponse { routes, next_page_token }))
    }

    async fn delete_route(
        &self,
        request: Request<v1::DeleteRouteRequest>,
    ) -> Result<Response<v1::DeleteRouteResponse>, Status> {
        let actor = metadata::actor(&request);
        let target: RouteName = name("name", &request.get_ref().name)?;
        let app = self.app()?;
        self.store(&request)?.route_delete(&target).await?;
        let lagging_gateways = app.config_acknowledged().await;
        tracing::info!(namespace = %target.namespace, route = %target.route, actor, "a route has been deleted");
        Ok(Response::new(v1::DeleteRouteResponse { lagging_gateways }))
    }

    async fn import_routes(
        &self,
        request: Request<v1::ImportRoutesRequest>,
    ) -> Result<Response<v1::ImportRoutesResponse>, Status> {
        let (creator, store) = (metadata::actor(&request), self.store(&request)?);
        let import = import(request.into_inner(), creator)?;
        let app = self.app()?;
        let done = store.routes_import(&import).await?;
        let mut lagging_gateways = Vec::new();
        if !import.validate_only {
            lagging_gateways = app.config_acknowledged().await;
            tracing::info!(namespace = %import.namespace, api = %import.api, routes = done.routes.len(), deleted = done.deleted.len(), actor = import.creator, "routes have been imported");
        }
        let routes = done.routes.iter().map(convert::route).collect();
        let deleted = done.deleted.iter().map(ToString::to_string).collect();
        Ok(Response::new(v1::ImportRoutesResponse { routes, deleted, lagging_gateways }))
    }

    async fn export_routes(
        &self,
        request: Request<v1::ExportRoutesRequest>,
    ) -> Result<Response<v1::ExportRoutesResponse>, Status> {
        let namespace = name::<NamespaceRef>("parent", &request.get_ref().parent)?.namespace;
        let most = i64::try_from(RouteSpec::MOST).unwrap_or(i64::MAX);
        let routes = self.app()?.store.route_list(&namespace, "", most).await?;
        let routes: Vec<_> = routes.iter().map(convert::route).collect();
        let document = dunlin_openapi::document(&namespace, &routes).to_string();
        Ok(Response::new(v1::ExportRoutesResponse { document }))
    }

    async fn purge_cache(
        &self,
        request: Request<v1::PurgeCacheRequest>,
    ) -> Result<Response<v1::PurgeCacheResponse>, Status> {
        let (actor, store) = (metadata::actor(&request), self.store(&request)?);
        let purge = Purge::try_from(request.into_inner())?;
        let app = self.app()?;
        let catalog = app.catalog.current();
        if !catalog.namespaces.contains(&purge.namespace) {
            return Err(ApiError::not_found(NamespaceRef { namespace: purge.namespace }).into());
        }
        if let Purged::Route(route) = &purge.what {
            let target = RouteName { namespace: purge.namespace.clone(), route: route.clone() };
            if !catalog.routes.contains_key(&target) {
                return Err(ApiError::not_found(target).hint("the namespace's routes: dunlin route list").into());
            }
        }
        tracing::info!(namespace = %purge.namespace, what = ?purge.what, actor, "stored answers are purged");
        let namespace = NamespaceRef { namespace: purge.namespace.clone() };
        let change = Change::new("cache.purge", &purge.namespace, &namespace).after(&purged(&purge.what));
        store.audit_append(change).await?;
        let lagging_gateways = app.board.purge(purge).await;
        Ok(Response::new(v1::PurgeCacheResponse { lagging_gateways }))
    }
}

/// Which answers, as the audit log says it.
fn purged(what: &Purged) -> Value {
    match what {
        Purged::All => json!({ "all": true }),
        Purged::Path(path) => json!({ "path": path }),
        Purged::Prefix(prefix) => json!({ "prefix": prefix }),
        Purged::Route(route) => json!({ "route": route.as_str() }),
    }
}

/// Checks what the contract does not know: schemas.
fn check(spec: &RouteSpec) -> Result<(), ApiError> {
    spec.validation.as_ref().map_or(Ok(()), |validation| Checker::new(validation).map(drop))
}

/// Reads the routes of an owner, and checks them as far as they depend on nothing else.
pub(super) fn records(
    namespace: &Namespace,
    owner: &Owner,
    routes: Vec<v1::Route>,
    creator: &str,
) -> Result<Vec<RouteRecord>, ApiError> {
    if routes.len() > RouteSpec::MOST {
        let message = format!("there are {} routes, but {} at most may be", routes.len(), RouteSpec::MOST);
        return Err(ApiError::invalid("routes", message));
    }
    let (now, mut records) = (Time::now(), Vec::new());
    for route in routes {
        let route_name: RouteName = name("routes.name", &route.name)?;
        let of_route =
            |error: ApiError| ApiError { message: format!("route {}: {}", route_name.route, error.message), ..error };
        if route_name.namespace != *namespace {
            let message = format!("it is of another namespace than {namespace}");
            return Err(of_route(ApiError::invalid("routes.name", message)));
        }
        let spec = owner.mark(RouteSpec::try_from(route).map_err(of_route)?);
        check(&spec).map_err(of_route)?;
        let (create_time, update_time, creator) = (now, now, creator.to_owned());
        records.push(RouteRecord { name: route_name, spec, creator, create_time, update_time });
    }
    Ok(records)
}

/// Checks an import as far as it depends on nothing else.
fn import(request: v1::ImportRoutesRequest, creator: String) -> Result<Import, ApiError> {
    let v1::ImportRoutesRequest { parent, api, routes, prune, validate_only } = request;
    let NamespaceRef { namespace } = name("parent", &parent)?;
    let api: RouteId = name("api", &api)?;
    let routes = records(&namespace, &Owner::Api(api.clone()), routes, &creator)?;
    Ok(Import { namespace, api, routes, prune, validate_only, creator })
}
