//! The routes and domains of the simulated scheduler: kept as they come.

use dunlin_proto::v1::{self, domain_service_server::DomainService, route_service_server::RouteService};
use tonic::{Request, Response, Status};

use super::scheduler::{Scheduler, missing, under};

#[tonic::async_trait]
impl RouteService for Scheduler {
    async fn put_route(&self, request: Request<v1::PutRouteRequest>) -> Result<Response<v1::PutRouteResponse>, Status> {
        let route = self.open("PutRoute", request).route.unwrap_or_default();
        self.state().routes.insert(route.name.clone(), route.clone());
        Ok(Response::new(v1::PutRouteResponse { route: Some(route), ..Default::default() }))
    }

    async fn get_route(&self, request: Request<v1::GetRouteRequest>) -> Result<Response<v1::GetRouteResponse>, Status> {
        let v1::GetRouteRequest { name } = self.open("GetRoute", request);
        let route = self.state().routes.get(&name).cloned().ok_or_else(|| missing(&name))?;
        Ok(Response::new(v1::GetRouteResponse { route: Some(route) }))
    }

    async fn list_routes(
        &self,
        request: Request<v1::ListRoutesRequest>,
    ) -> Result<Response<v1::ListRoutesResponse>, Status> {
        let v1::ListRoutesRequest { parent, .. } = self.open("ListRoutes", request);
        let routes = self.state().routes.values().filter(|route| under(&route.name, &parent)).cloned().collect();
        Ok(Response::new(v1::ListRoutesResponse { routes, ..Default::default() }))
    }

    async fn delete_route(
        &self,
        request: Request<v1::DeleteRouteRequest>,
    ) -> Result<Response<v1::DeleteRouteResponse>, Status> {
        let v1::DeleteRouteRequest { name } = self.open("DeleteRoute", request);
        self.state().routes.remove(&name).ok_or_else(|| missing(&name))?;
        Ok(Response::new(v1::DeleteRouteResponse::default()))
    }

    async fn import_routes(
        &self,
        request: Request<v1::ImportRoutesRequest>,
    ) -> Result<Response<v1::ImportRoutesResponse>, Status> {
        let v1::ImportRoutesRequest { routes, .. } = self.open("ImportRoutes", request);
        Ok(Response::new(v1::ImportRoutesResponse { routes, ..Default::default() }))
    }

    async fn export_routes(
        &self,
        request: Request<v1::ExportRoutesRequest>,
    ) -> Result<Response<v1::ExportRoutesResponse>, Status> {
        self.open("ExportRoutes", request);
        Ok(Response::new(v1::ExportRoutesResponse { document: r#"{"openapi":"3.1.0"}"#.to_owned() }))
    }

    async fn purge_cache(
        &self,
        request: Request<v1::PurgeCacheRequest>,
    ) -> Result<Response<v1::PurgeCacheResponse>, Status> {
        self.open("PurgeCache", request);
        Ok(Response::new(v1::PurgeCacheResponse { lagging_gateways: vec!["gateway-2".to_owned()] }))
    }
}

#[tonic::async_trait]
impl DomainService for Scheduler {
    async fn create_domain(
        &self,
        request: Request<v1::CreateDomainRequest>,
    ) -> Result<Response<v1::CreateDomainResponse>, Status> {
        let v1::CreateDomainRequest { parent, domain, .. } = self.open("CreateDomain", request);
        let domain = v1::Domain { name: format!("{parent}/domains/{domain}"), ..Default::default() };
        self.state().domains.insert(domain.name.clone(), domain.clone());
        Ok(Response::new(v1::CreateDomainResponse { domain: Some(domain) }))
    }

    async fn list_domains(
        &self,
        request: Request<v1::ListDomainsRequest>,
    ) -> Result<Response<v1::ListDomainsResponse>, Status> {
        let v1::ListDomainsRequest { parent, .. } = self.open("ListDomains", request);
        let domains = self.state().domains.values().filter(|domain| under(&domain.name, &parent)).cloned().collect();
        Ok(Response::new(v1::ListDomainsResponse { domains, ..Default::default() }))
    }

    async fn delete_domain(
        &self,
        request: Request<v1::DeleteDomainRequest>,
    ) -> Result<Response<v1::DeleteDomainResponse>, Status> {
        let v1::DeleteDomainRequest { name } = self.open("DeleteDomain", request);
        self.state().domains.remove(&name).ok_or_else(|| missing(&name))?;
        Ok(Response::new(v1::DeleteDomainResponse {}))
    }
}
