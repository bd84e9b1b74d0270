//! `RouteService` and `DomainService`.

use dunlin_proto::{
    ApiError,
    ids::DomainName,
    metadata,
    names::{DomainRef, NamespaceRef, RouteName},
    route::{Purge, Purged},
    v1::{self, domain_service_server::DomainService, route_service_server::RouteService},
};
use tonic::{Request, Response, Status};

use super::{Desk, convert, functions::beyond, name, page};
use crate::model::{DomainRecord, DomainTls, RouteRecord, Time};

#[tonic::async_trait]
impl RouteService for Desk {
    async fn put_route(&self, request: Request<v1::PutRouteRequest>) -> Result<Response<v1::PutRouteResponse>, Status> {
        let creator = metadata::actor(&request);
        let v1::PutRouteRequest { route, replace } = request.into_inner();
        let route = route.ok_or_else(|| ApiError::invalid("route", "route is missing"))?;
        let (name, now): (RouteName, _) = (name("route.name", &route.name)?, Time::now());
        let new = RouteRecord { name, spec: route.try_into()?, creator, create_time: now, update_time: now };
        let app = self.app()?;
        let put = app.store.route_put(&new, replace).await?;
        app.config_changed().await;
        tracing::info!(namespace = %put.name.namespace, route = %put.name.route, spec = %put.spec, actor = put.creator, "a route has been put");
        Ok(Response::new(v1::PutRouteResponse { route: Some(convert::route(&put)) }))
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
        app.store.route_delete(&target).await?;
        app.config_changed().await;
        tracing::info!(namespace = %target.namespace, route = %target.route, actor, "a route has been deleted");
        Ok(Response::new(v1::DeleteRouteResponse {}))
    }

    async fn purge_cache(
        &self,
        request: Request<v1::PurgeCacheRequest>,
    ) -> Result<Response<v1::PurgeCacheResponse>, Status> {
        let actor = metadata::actor(&request);
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
        let lagging_gateways = app.board.purge(purge).await;
        Ok(Response::new(v1::PurgeCacheResponse { lagging_gateways }))
    }
}

#[tonic::async_trait]
impl DomainService for Desk {
    async fn create_domain(
        &self,
        request: Request<v1::CreateDomainRequest>,
    ) -> Result<Response<v1::CreateDomainResponse>, Status> {
        let creator = metadata::actor(&request);
        let request = request.into_inner();
        let NamespaceRef { namespace } = name("parent", &request.parent)?;
        let domain: DomainName = name("domain", &request.domain)?;
        let tls = match request.tls() {
            v1::DomainTls::Unspecified | v1::DomainTls::Acme => DomainTls::Acme,
            v1::DomainTls::None => DomainTls::None,
        };
        let new = DomainRecord { name: DomainRef { namespace, domain }, creator, create_time: Time::now(), tls };
        let app = self.app()?;
        app.store.domain_create(&new).await?;
        app.config_changed().await;
        tracing::info!(namespace = %new.name.namespace, domain = %new.name.domain, actor = new.creator, "a domain has been given");
        Ok(Response::new(v1::CreateDomainResponse { domain: Some(convert::domain(&new, None)) }))
    }

    async fn list_domains(
        &self,
        request: Request<v1::ListDomainsRequest>,
    ) -> Result<Response<v1::ListDomainsResponse>, Status> {
        let request = request.into_inner();
        let namespace = name::<NamespaceRef>("parent", &request.parent)?.namespace;
        let (size, list) = (page::size(request.page_size)?, format!("domains/{namespace}"));
        let after: String = page::read(&list, &request.page_token)?.unwrap_or_default();
        let app = self.app()?;
        let found = app.store.domain_list(&namespace, &after, beyond(size)).await?;
        let certificates = app.store.certificate_list(&namespace).await?;
        let (found, next_page_token) = page::cut(&list, found, size, |domain| domain.name.domain.to_string());
        let certificate = |record: &DomainRecord| certificates.iter().find(|it| it.domain == record.name.domain);
        let domains = found.iter().map(|record| convert::domain(record, certificate(record))).collect();
        Ok(Response::new(v1::ListDomainsResponse { domains, next_page_token }))
    }

    async fn delete_domain(
        &self,
        request: Request<v1::DeleteDomainRequest>,
    ) -> Result<Response<v1::DeleteDomainResponse>, Status> {
        let actor = metadata::actor(&request);
        let target: DomainRef = name("name", &request.get_ref().name)?;
        let app = self.app()?;
        app.store.domain_delete(&target).await?;
        app.config_changed().await;
        tracing::info!(namespace = %target.namespace, domain = %target.domain, actor, "a domain has been taken away");
        Ok(Response::new(v1::DeleteDomainResponse {}))
    }
}
