//! `AliasService`.

use std::collections::BTreeSet;

use dunlin_proto::{
    ApiError,
    ids::{AliasId, Digest, VersionNumber},
    metadata,
    model::Sticky,
    names::{AliasName, FunctionRef},
    v1::{self, alias_service_server::AliasService},
};
use tonic::{Request, Response, Status};

use super::{Desk, convert, name, request_id, rollouts};
use crate::{
    model::Share,
    store::{AliasChange, RequestKey, Scope},
};

/// Versions among which calls may be divided.
const MOST_SHARES: usize = 20;

#[tonic::async_trait]
impl AliasService for Desk {
    async fn set_alias(&self, request: Request<v1::SetAliasRequest>) -> Result<Response<v1::SetAliasResponse>, Status> {
        let (actor, store) = (metadata::actor(&request), self.store(&request)?);
        let v1::SetAliasRequest { alias, etag } = request.into_inner();
        let alias = alias.ok_or_else(|| ApiError::invalid("alias", "alias is missing"))?;
        let target: AliasName = name("alias.name", &alias.name)?;
        let sticky = alias.sticky.map(Sticky::try_from).transpose()?;
        let change = AliasChange { shares: shares("alias.traffic", &alias.traffic)?, sticky };
        let app = self.app()?;
        let set = store.alias_set(&target, &etag, &change).await?;
        let lagging_gateways = app.config_acknowledged().await;
        tracing::info!(namespace = %target.namespace, function = %target.function, alias = %target.alias, shares = ?change.shares, actor, "calls are divided");
        let alias = Some(convert::alias(&target.parent(), &set));
        Ok(Response::new(v1::SetAliasResponse { alias, lagging_gateways }))
    }

    async fn list_aliases(
        &self,
        request: Request<v1::ListAliasesRequest>,
    ) -> Result<Response<v1::ListAliasesResponse>, Status> {
        let function: FunctionRef = name("parent", &request.get_ref().parent)?;
        let found = self.app()?.store.alias_list(&function).await?;
        let aliases = found.iter().map(|alias| convert::alias(&function, alias)).collect();
        Ok(Response::new(v1::ListAliasesResponse { aliases }))
    }

    async fn promote_alias(
        &self,
        request: Request<v1::PromoteAliasRequest>,
    ) -> Result<Response<v1::PromoteAliasResponse>, Status> {
        let (actor, store) = (metadata::actor(&request), self.store(&request)?);
        let v1::PromoteAliasRequest { name: alias, version, request_id: id } = request.into_inner();
        let target: AliasName = name("name", &alias)?;
        let version = (version > 0).then(|| VersionNumber::try_from(version)).transpose();
        let version = version.map_err(|error| ApiError::invalid("version", error))?;
        let payload = Digest::of(format!("{target} {version:?}").as_bytes());
        let scope = Scope::Namespace(target.namespace.clone());
        let key = request_id(&id)?.map(|id| RequestKey { scope, method: "PromoteAlias", id, payload });
        let app = self.app()?;
        let (promoted, version) = store.alias_promote(&target, version, key.as_ref()).await?;
        let lagging_gateways = app.config_acknowledged().await;
        tracing::info!(namespace = %target.namespace, function = %target.function, alias = %target.alias, version = version.get(), actor, "promoted");
        let alias = Some(convert::alias(&target.parent(), &promoted));
        Ok(Response::new(v1::PromoteAliasResponse { alias, version: version.get(), lagging_gateways }))
    }

    async fn delete_alias(
        &self,
        request: Request<v1::DeleteAliasRequest>,
    ) -> Result<Response<v1::DeleteAliasResponse>, Status> {
        let actor = metadata::actor(&request);
        let target: AliasName = name("name", &request.get_ref().name)?;
        if target.alias.is_live() {
            let message = format!("the alias {} is every function's own traffic and can't be deleted", AliasId::LIVE);
            return Err(ApiError::invalid("name", message).into());
        }
        let app = self.app()?;
        self.store(&request)?.alias_delete(&target).await?;
        let lagging_gateways = app.config_acknowledged().await;
        tracing::info!(namespace = %target.namespace, function = %target.function, alias = %target.alias, actor, "an alias has been deleted");
        Ok(Response::new(v1::DeleteAliasResponse { lagging_gateways }))
    }

    async fn start_rollout(
        &self,
        request: Request<v1::StartRolloutRequest>,
    ) -> Result<Response<v1::StartRolloutResponse>, Status> {
        let (app, store) = (self.app()?, self.store(&request)?);
        let actor = metadata::actor(&request);
        rollouts::start(&app, &store, actor, request.into_inner()).await.map(Response::new)
    }

    async fn get_rollout(
        &self,
        request: Request<v1::GetRolloutRequest>,
    ) -> Result<Response<v1::GetRolloutResponse>, Status> {
        let app = self.app()?;
        rollouts::get(&app, request.get_ref()).await.map(Response::new)
    }

    async fn stop_rollout(
        &self,
        request: Request<v1::StopRolloutRequest>,
    ) -> Result<Response<v1::StopRolloutResponse>, Status> {
        let (app, store) = (self.app()?, self.store(&request)?);
        let actor = metadata::actor(&request);
        rollouts::stop(&app, &store, &actor, &request.into_inner()).await.map(Response::new)
    }
}

/// Checks that the shares are a whole.
pub(super) fn shares(field: &str, targets: &[v1::TrafficTarget]) -> Result<Vec<Share>, ApiError> {
    let wrong = |message: String| ApiError::invalid(field, message);
    if targets.len() > MOST_SHARES {
        return Err(wrong(format!("traffic may be divided among {MOST_SHARES} versions at most")));
    }
    let mut seen = BTreeSet::new();
    let mut shares = Vec::new();
    for target in targets {
        let version = VersionNumber::try_from(target.version).map_err(|error| wrong(error.to_string()))?;
        if !(1..=100).contains(&target.percent) {
            return Err(wrong(format!("version {version} has {} percent but must have 1 to 100", target.percent)));
        }
        if !seen.insert(version) {
            return Err(wrong(format!("traffic names version {version} twice")));
        }
        shares.push(Share(version, target.percent));
    }
    let sum: u32 = shares.iter().map(|share| share.1).sum();
    if sum != 100 {
        return Err(wrong(format!("the percentages of traffic sum to {sum} but must sum to 100")));
    }
    Ok(shares)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(targets: &[(u32, u32)]) -> Result<Vec<Share>, String> {
        let targets: Vec<_> = targets
            .iter()
            .map(|(version, percent)| v1::TrafficTarget { version: *version, percent: *percent })
            .collect();
        shares("alias.traffic", &targets).map_err(|error| error.message)
    }

    #[test]
    fn shares_are_a_whole_or_it_is_said_what_they_are() {
        assert_eq!(read(&[(7, 90), (8, 10)]).unwrap().len(), 2);
        assert_eq!(read(&[(7, 100)]).unwrap().len(), 1);
        for (bad, message) in [
            (&[][..], "sum to 0"),
            (&[(7, 90), (8, 20)], "sum to 110"),
            (&[(7, 90)], "sum to 90"),
            (&[(7, 0), (8, 100)], "1 to 100"),
            (&[(7, 101)], "1 to 100"),
            (&[(7, u32::MAX), (8, 100)], "1 to 100"),
            (&[(0, 100)], "from 1"),
            (&[(7, 50), (7, 50)], "twice"),
        ] {
            let error = read(bad).unwrap_err();
            assert!(error.contains(message), "{bad:?}: {error}");
        }
        assert!(read(&(1..=21).map(|version| (version, 1)).collect::<Vec<_>>()).unwrap_err().contains("at most"));
    }
}
