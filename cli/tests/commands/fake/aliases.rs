//! The simulated AliasService.

use dunlin_proto::{
    ApiError,
    v1::{self, alias_service_server::AliasService},
};
use tonic::{Request, Response, Status};

use super::{Fake, ago};

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl AliasService for Fake {
    async fn set_alias(&self, request: Request<v1::SetAliasRequest>) -> Answer<v1::SetAliasResponse> {
        let alias = request.into_inner().alias.unwrap_or_default();
        let alias = v1::Alias { create_time: ago(300), update_time: ago(300), ..alias };
        let mut state = self.state();
        state.aliases.insert(alias.name.clone(), alias.clone());
        Ok(Response::new(v1::SetAliasResponse { alias: Some(alias), lagging_gateways: state.lagging.clone() }))
    }

    async fn list_aliases(&self, _: Request<v1::ListAliasesRequest>) -> Answer<v1::ListAliasesResponse> {
        let aliases = self.state().aliases.values().cloned().collect();
        Ok(Response::new(v1::ListAliasesResponse { aliases }))
    }

    async fn promote_alias(&self, request: Request<v1::PromoteAliasRequest>) -> Answer<v1::PromoteAliasResponse> {
        let v1::PromoteAliasRequest { name, version, .. } = request.into_inner();
        let mut state = self.state();
        let lagging_gateways = state.lagging.clone();
        let alias = state.aliases.get_mut(&name).ok_or_else(|| Status::from(ApiError::not_found(&name)))?;
        let newest = alias.traffic.iter().map(|share| share.version).max().unwrap_or_default();
        let version = if version == 0 { newest } else { version };
        alias.traffic = vec![v1::TrafficTarget { version, percent: 100 }];
        Ok(Response::new(v1::PromoteAliasResponse { alias: Some(alias.clone()), version, lagging_gateways }))
    }

    async fn delete_alias(&self, request: Request<v1::DeleteAliasRequest>) -> Answer<v1::DeleteAliasResponse> {
        let name = request.into_inner().name;
        self.state().aliases.remove(&name).ok_or_else(|| Status::from(ApiError::not_found(&name)))?;
        Ok(Response::new(v1::DeleteAliasResponse::default()))
    }
}
