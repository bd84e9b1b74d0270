//! The simulated RouteService and DomainService.

use dunlin_proto::{
    ApiError, ErrorCode,
    v1::{self, domain_service_server::DomainService, route_service_server::RouteService},
};
use tonic::{Request, Response, Status};

use super::{Fake, ago};

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl RouteService for Fake {
    async fn put_route(&self, request: Request<v1::PutRouteRequest>) -> Answer<v1::PutRouteResponse> {
        let v1::PutRouteRequest { route, replace } = request.into_inner();
        let route = v1::Route { update_time: ago(300), creator: "zoe".into(), ..route.unwrap_or_default() };
        if !replace && self.state().routes.contains_key(&route.name) {
            return Err(ApiError::new(ErrorCode::AlreadyExists, "the route exists already").into());
        }
        self.state().routes.insert(route.name.clone(), route.clone());
        Ok(Response::new(v1::PutRouteResponse { route: Some(route), ..Default::default() }))
    }

    async fn get_route(&self, _: Request<v1::GetRouteRequest>) -> Answer<v1::GetRouteResponse> {
        Err(Status::unimplemented("no command asks for one route"))
    }

    async fn list_routes(&self, _: Request<v1::ListRoutesRequest>) -> Answer<v1::ListRoutesResponse> {
        let routes = self.state().routes.values().cloned().collect();
        Ok(Response::new(v1::ListRoutesResponse { routes, next_page_token: String::new() }))
    }

    async fn delete_route(&self, request: Request<v1::DeleteRouteRequest>) -> Answer<v1::DeleteRouteResponse> {
        let name = request.into_inner().name;
        self.state().routes.remove(&name).ok_or_else(|| Status::from(ApiError::not_found(&name)))?;
        Ok(Response::new(v1::DeleteRouteResponse { lagging_gateways: self.state().lagging.clone() }))
    }

    async fn import_routes(&self, request: Request<v1::ImportRoutesRequest>) -> Answer<v1::ImportRoutesResponse> {
        let mut state = self.state();
        let request = request.into_inner();
        let deleted = if request.prune { vec!["gone".to_owned()] } else { Vec::new() };
        state.imported.push(request.clone());
        Ok(Response::new(v1::ImportRoutesResponse {
            routes: request.routes,
            deleted,
            lagging_gateways: state.lagging.clone(),
        }))
    }

    async fn export_routes(&self, request: Request<v1::ExportRoutesRequest>) -> Answer<v1::ExportRoutesResponse> {
        assert_eq!(request.into_inner().parent, "namespaces/default");
        Ok(Response::new(v1::ExportRoutesResponse { document: r#"{"openapi":"3.1.0","paths":{}}"#.to_owned() }))
    }

    async fn purge_cache(&self, request: Request<v1::PurgeCacheRequest>) -> Answer<v1::PurgeCacheResponse> {
        let mut state = self.state();
        state.purged.push(request.into_inner());
        Ok(Response::new(v1::PurgeCacheResponse { lagging_gateways: state.lagging.clone() }))
    }
}

#[tonic::async_trait]
impl DomainService for Fake {
    async fn create_domain(&self, request: Request<v1::CreateDomainRequest>) -> Answer<v1::CreateDomainResponse> {
        let v1::CreateDomainRequest { parent, domain, tls, vouch } = request.into_inner();
        let name = format!("{parent}/domains/{domain}");
        let state = if vouch { v1::DomainProofState::Proved } else { v1::DomainProofState::Pending };
        let proof = v1::DomainProof {
            state: state.into(),
            record_name: format!("_dunlin-challenge.{domain}"),
            record_text: "text".into(),
            ..Default::default()
        };
        let domain = v1::Domain {
            name: name.clone(),
            create_time: ago(300),
            creator: "zoe".into(),
            tls,
            certificate: None,
            proof: Some(proof),
            file_certificate: None,
        };
        self.state().domains.insert(name, domain.clone());
        Ok(Response::new(v1::CreateDomainResponse { domain: Some(domain) }))
    }

    async fn list_domains(&self, _: Request<v1::ListDomainsRequest>) -> Answer<v1::ListDomainsResponse> {
        let domains = self.state().domains.values().cloned().collect();
        Ok(Response::new(v1::ListDomainsResponse { domains, next_page_token: String::new() }))
    }

    async fn delete_domain(&self, request: Request<v1::DeleteDomainRequest>) -> Answer<v1::DeleteDomainResponse> {
        let name = request.into_inner().name;
        self.state().domains.remove(&name).ok_or_else(|| Status::from(ApiError::not_found(&name)))?;
        Ok(Response::new(v1::DeleteDomainResponse {}))
    }
}
