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

    async fn start_rollout(&self, request: Request<v1::StartRolloutRequest>) -> Answer<v1::StartRolloutResponse> {
        let request = request.into_inner();
        let function =
            if request.parent.is_empty() { request.function } else { format!("{}/functions/all", request.parent) };
        let v1::StartRolloutRequest { version, steps, step_time, step_calls, others, app, .. } = request;
        let mut rollout = v1::Rollout {
            function: function.clone(),
            old_version: 1,
            new_version: version.max(2),
            steps,
            step: 1,
            step_time,
            step_calls,
            app,
            create_time: ago(300),
            ..Default::default()
        };
        rollout.set_state(v1::RolloutState::Running);
        rollout.old_tally = Some(v1::VersionTally { calls: 1_900, failures: 2, ..Default::default() });
        let p99 = Some(prost_types::Duration { seconds: 0, nanos: 12_000_000 });
        rollout.new_tally = Some(v1::VersionTally { calls: 100, failures: 3, traps: 1, p99 });
        let targets = [v1::RolloutTarget { function: function.clone(), version }].into_iter().chain(others);
        let part = |target: v1::RolloutTarget| v1::RolloutFunction {
            function: target.function,
            old_version: 1,
            new_version: target.version.max(2),
            old_tally: rollout.old_tally,
            new_tally: rollout.new_tally,
        };
        rollout.functions = targets.map(part).collect();
        let mut state = self.state();
        state.rollouts.insert(function, rollout.clone());
        let lagging_gateways = state.lagging.clone();
        Ok(Response::new(v1::StartRolloutResponse { rollout: Some(rollout), lagging_gateways }))
    }

    async fn get_rollout(&self, request: Request<v1::GetRolloutRequest>) -> Answer<v1::GetRolloutResponse> {
        let function = request.into_inner().function;
        let found = self.state().rollouts.get(&function).cloned();
        let rollout = found.ok_or_else(|| Status::from(ApiError::not_found(&function)))?;
        Ok(Response::new(v1::GetRolloutResponse { rollout: Some(rollout) }))
    }

    async fn stop_rollout(&self, request: Request<v1::StopRolloutRequest>) -> Answer<v1::StopRolloutResponse> {
        let v1::StopRolloutRequest { function, promote } = request.into_inner();
        let found = self.state().rollouts.get(&function).cloned();
        let mut rollout = found.ok_or_else(|| Status::from(ApiError::not_found(&function)))?;
        rollout.set_state(v1::RolloutState::Stopped);
        rollout.reason = format!("zoe ended it, promote {promote}");
        (rollout.old_tally, rollout.new_tally) = (None, None);
        Ok(Response::new(v1::StopRolloutResponse { rollout: Some(rollout), lagging_gateways: Vec::new() }))
    }
}
