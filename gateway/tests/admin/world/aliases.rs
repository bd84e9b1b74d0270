//! The aliases of the simulated scheduler: `live` alone, and whatever is set is answered with, unless its etag is `stale`.

use dunlin_proto::{
    ApiError, ErrorCode,
    v1::{self, alias_service_server::AliasService},
};
use tonic::{Request, Response, Status};

use super::scheduler::{Scheduler, missing};

impl Scheduler {
    /// The function of an alias, where it is there.
    fn function_of(&self, alias: &str) -> Result<v1::Function, Status> {
        let function = alias.split("/aliases/").next().unwrap_or_default();
        self.state().functions.get(function).cloned().ok_or_else(|| missing(function))
    }
}

#[tonic::async_trait]
impl AliasService for Scheduler {
    async fn set_alias(&self, request: Request<v1::SetAliasRequest>) -> Result<Response<v1::SetAliasResponse>, Status> {
        let v1::SetAliasRequest { alias, etag } = self.open("SetAlias", request);
        let alias = alias.unwrap_or_default();
        self.function_of(&alias.name)?;
        if etag == "stale" {
            return Err(ApiError::new(ErrorCode::FailedPrecondition, "it has been changed since").into());
        }
        let lagging_gateways = vec!["gateway-2".to_owned()];
        Ok(Response::new(v1::SetAliasResponse { alias: Some(alias), lagging_gateways }))
    }

    async fn list_aliases(
        &self,
        request: Request<v1::ListAliasesRequest>,
    ) -> Result<Response<v1::ListAliasesResponse>, Status> {
        let v1::ListAliasesRequest { parent } = self.open("ListAliases", request);
        let function = self.function_of(&parent)?;
        let live = v1::Alias {
            name: format!("{parent}/aliases/live"),
            traffic: function.traffic,
            sticky: Some(v1::Sticky { header: "x-user".to_owned(), cookie: false }),
            create_time: function.create_time,
            update_time: function.update_time,
        };
        Ok(Response::new(v1::ListAliasesResponse { aliases: vec![live] }))
    }

    async fn promote_alias(
        &self,
        request: Request<v1::PromoteAliasRequest>,
    ) -> Result<Response<v1::PromoteAliasResponse>, Status> {
        let v1::PromoteAliasRequest { name, .. } = self.open("PromoteAlias", request);
        let version = self.function_of(&name)?.latest_version;
        let traffic = vec![v1::TrafficTarget { version, percent: 100 }];
        let alias = Some(v1::Alias { name, traffic, ..Default::default() });
        Ok(Response::new(v1::PromoteAliasResponse { alias, version, lagging_gateways: vec![] }))
    }

    async fn delete_alias(
        &self,
        request: Request<v1::DeleteAliasRequest>,
    ) -> Result<Response<v1::DeleteAliasResponse>, Status> {
        let v1::DeleteAliasRequest { name } = self.open("DeleteAlias", request);
        self.function_of(&name)?;
        Ok(Response::new(v1::DeleteAliasResponse::default()))
    }

    async fn start_rollout(
        &self,
        request: Request<v1::StartRolloutRequest>,
    ) -> Result<Response<v1::StartRolloutResponse>, Status> {
        let v1::StartRolloutRequest { function, others, .. } = self.open("StartRollout", request);
        self.function_of(&function)?;
        let names = [function.clone()].into_iter().chain(others.into_iter().map(|other| other.function));
        let part = |function| v1::RolloutFunction { function, old_version: 1, new_version: 2, ..Default::default() };
        let rollout = v1::Rollout { function, functions: names.map(part).collect(), ..Default::default() };
        Ok(Response::new(v1::StartRolloutResponse { rollout: Some(rollout), ..Default::default() }))
    }

    async fn get_rollout(
        &self,
        request: Request<v1::GetRolloutRequest>,
    ) -> Result<Response<v1::GetRolloutResponse>, Status> {
        let v1::GetRolloutRequest { function } = self.open("GetRollout", request);
        self.function_of(&function)?;
        let mut rollout =
            v1::Rollout { function, old_version: 1, new_version: 2, steps: vec![5, 50], ..Default::default() };
        (rollout.step, rollout.step_calls) = (1, 500);
        rollout.functions = [rollout.function.clone(), "namespaces/shop/functions/mail".to_owned()]
            .map(|function| v1::RolloutFunction { function, old_version: 1, new_version: 2, ..Default::default() })
            .to_vec();
        rollout.set_state(v1::RolloutState::Running);
        let p99 = Some(prost_types::Duration { seconds: 0, nanos: 12_000_000 });
        rollout.new_tally = Some(v1::VersionTally { calls: 100, failures: 3, traps: 1, p99 });
        rollout.old_tally = Some(v1::VersionTally { calls: 1_900, ..Default::default() });
        Ok(Response::new(v1::GetRolloutResponse { rollout: Some(rollout) }))
    }

    async fn stop_rollout(
        &self,
        request: Request<v1::StopRolloutRequest>,
    ) -> Result<Response<v1::StopRolloutResponse>, Status> {
        let v1::StopRolloutRequest { function, .. } = self.open("StopRollout", request);
        self.function_of(&function)?;
        let rollout = v1::Rollout { function, ..Default::default() };
        Ok(Response::new(v1::StopRolloutResponse { rollout: Some(rollout), ..Default::default() }))
    }
}
