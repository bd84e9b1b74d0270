//! Routes and domains over gRPC.

use dunlin_proto::v1::{self, domain_service_server::DomainService, route_service_server::RouteService};
use tonic::{Request, Response, Status};

use super::Api;

#[tonic::async_trait]
impl RouteService for Api {
    async fn put_route(&self, request: Request<v1::PutRouteRequest>) -> Result<Response<v1::PutRouteResponse>, Status> {
        self.unary(request, async |app, who, message| app.route_put(&who, message).await).await
    }

    async fn get_route(&self, request: Request<v1::GetRouteRequest>) -> Result<Response<v1::GetRouteResponse>, Status> {
        self.unary(request, async |app, who, message| app.route_get(&who, message).await).await
    }

    async fn list_routes(
        &self,
        request: Request<v1::ListRoutesRequest>,
    ) -> Result<Response<v1::ListRoutesResponse>, Status> {
        self.unary(request, async |app, who, message| app.route_list(&who, message).await).await
    }

    async fn delete_route(
        &self,
        request: Request<v1::DeleteRouteRequest>,
    ) -> Result<Response<v1::DeleteRouteResponse>, Status> {
        self.unary(request, async |app, who, message| app.route_delete(&who, message).await).await
    }

    async fn import_routes(
        &self,
        request: Request<v1::ImportRoutesRequest>,
    ) -> Result<Response<v1::ImportRoutesResponse>, Status> {
        self.unary(request, async |app, who, message| app.routes_import(&who, message).await).await
    }

    async fn export_routes(
        &self,
        request: Request<v1::ExportRoutesRequest>,
    ) -> Result<Response<v1::ExportRoutesResponse>, Status> {
        self.unary(request, async |app, who, message| app.routes_export(&who, message).await).await
    }

    async fn purge_cache(
        &self,
        request: Request<v1::PurgeCacheRequest>,
    ) -> Result<Response<v1::PurgeCacheResponse>, Status> {
        self.unary(request, async |app, who, message| app.cache_purge(&who, message).await).await
    }
}

#[tonic::async_trait]
impl DomainService for Api {
    async fn create_domain(
        &self,
        request: Request<v1::CreateDomainRequest>,
    ) -> Result<Response<v1::CreateDomainResponse>, Status> {
        self.unary(request, async |app, who, message| app.domain_create(&who, message).await).await
    }

    async fn list_domains(
        &self,
        request: Request<v1::ListDomainsRequest>,
    ) -> Result<Response<v1::ListDomainsResponse>, Status> {
        self.unary(request, async |app, who, message| app.domain_list(&who, message).await).await
    }

    async fn delete_domain(
        &self,
        request: Request<v1::DeleteDomainRequest>,
    ) -> Result<Response<v1::DeleteDomainResponse>, Status> {
        self.unary(request, async |app, who, message| app.domain_delete(&who, message).await).await
    }
}
