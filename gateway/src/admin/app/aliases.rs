//! Aliases: authorised here, done by the scheduler, which also waits until gateways know.

use dunlin_proto::{
    ApiError,
    model::Sticky,
    names::{AliasName, FunctionRef},
    v1,
};

use super::{App, MAX_ANSWER_BYTES, ask, name, on_behalf};
use crate::{admin::access::Operation, auth::Principal};

impl App {
    fn aliases(&self) -> v1::alias_service_client::AliasServiceClient<crate::upstream::Secured> {
        self.context.scheduler.aliases().max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    pub(crate) async fn alias_set(
        &self,
        who: &Principal,
        request: v1::SetAliasRequest,
    ) -> Result<v1::SetAliasResponse, ApiError> {
        let alias = request.alias.as_ref().ok_or_else(|| ApiError::invalid("alias", "alias is missing"))?;
        let AliasName { namespace, .. } = name("alias.name", &alias.name)?;
        Operation::SetAlias.allow_in(who, &namespace)?;
        alias.sticky.clone().map(Sticky::try_from).transpose()?;
        ask(self.aliases().set_alias(on_behalf(who, request))).await
    }

    pub(crate) async fn alias_list(
        &self,
        who: &Principal,
        request: v1::ListAliasesRequest,
    ) -> Result<v1::ListAliasesResponse, ApiError> {
        let FunctionRef { namespace, .. } = name("parent", &request.parent)?;
        Operation::ListAliases.allow_in(who, &namespace)?;
        ask(self.aliases().list_aliases(on_behalf(who, request))).await
    }

    pub(crate) async fn alias_promote(
        &self,
        who: &Principal,
        request: v1::PromoteAliasRequest,
    ) -> Result<v1::PromoteAliasResponse, ApiError> {
        let AliasName { namespace, .. } = name("name", &request.name)?;
        Operation::PromoteAlias.allow_in(who, &namespace)?;
        ask(self.aliases().promote_alias(on_behalf(who, request))).await
    }

    pub(crate) async fn alias_delete(
        &self,
        who: &Principal,
        request: v1::DeleteAliasRequest,
    ) -> Result<v1::DeleteAliasResponse, ApiError> {
        let AliasName { namespace, .. } = name("name", &request.name)?;
        Operation::DeleteAlias.allow_in(who, &namespace)?;
        ask(self.aliases().delete_alias(on_behalf(who, request))).await
    }

    pub(crate) async fn rollout_start(
        &self,
        who: &Principal,
        request: v1::StartRolloutRequest,
    ) -> Result<v1::StartRolloutResponse, ApiError> {
        let FunctionRef { namespace, .. } = name("function", &request.function)?;
        Operation::StartRollout.allow_in(who, &namespace)?;
        ask(self.aliases().start_rollout(on_behalf(who, request))).await
    }

    pub(crate) async fn rollout_get(
        &self,
        who: &Principal,
        request: v1::GetRolloutRequest,
    ) -> Result<v1::GetRolloutResponse, ApiError> {
        let FunctionRef { namespace, .. } = name("function", &request.function)?;
        Operation::GetRollout.allow_in(who, &namespace)?;
        ask(self.aliases().get_rollout(on_behalf(who, request))).await
    }

    pub(crate) async fn rollout_stop(
        &self,
        who: &Principal,
        request: v1::StopRolloutRequest,
    ) -> Result<v1::StopRolloutResponse, ApiError> {
        let FunctionRef { namespace, .. } = name("function", &request.function)?;
        Operation::StopRollout.allow_in(who, &namespace)?;
        ask(self.aliases().stop_rollout(on_behalf(who, request))).await
    }
}
