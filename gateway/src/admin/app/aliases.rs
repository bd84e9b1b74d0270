//! Aliases: authorised here, done by the scheduler, which also waits until gateways know.

use dunlin_proto::{
    ApiError,
    ids::Namespace,
    model::Sticky,
    names::{AliasName, FunctionRef, NamespaceRef},
    v1,
};

use super::{App, MAX_ANSWER_BYTES, ask, look, name, on_behalf};
use crate::{admin::access::Operation, auth::Principal};

/// The one namespace that a rollout concerns.
fn of_rollout(request: &v1::StartRolloutRequest) -> Result<Namespace, ApiError> {
    let namespace = if request.parent.is_empty() || !request.function.is_empty() {
        name::<FunctionRef>("function", &request.function)?.namespace
    } else {
        name::<NamespaceRef>("parent", &request.parent)?.namespace
    };
    for other in &request.others {
        let other: FunctionRef = name("others.function", &other.function)?;
        if other.namespace != namespace {
            let message = format!("{other} is not in namespace {namespace}: functions of one namespace move together");
            return Err(ApiError::invalid("others", message));
        }
    }
    if !request.parent.is_empty() && name::<NamespaceRef>("parent", &request.parent)?.namespace != namespace {
        return Err(ApiError::invalid("parent", "parent is another namespace than that of function"));
    }
    Ok(namespace)
}

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
        look(self.aliases().list_aliases(on_behalf(who, request))).await
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
        let namespace = of_rollout(&request)?;
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
        look(self.aliases().get_rollout(on_behalf(who, request))).await
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rollout_concerns_one_namespace() {
        let of = |function: &str, others: &[&str], parent: &str| {
            let other = |name: &&str| v1::RolloutTarget { function: (*name).to_owned(), version: 0 };
            let (function, parent) = (function.to_owned(), parent.to_owned());
            let others = others.iter().map(other).collect();
            let request = v1::StartRolloutRequest { function, others, parent, ..Default::default() };
            of_rollout(&request).map(|namespace| namespace.to_string()).map_err(|error| error.field.unwrap_or_default())
        };
        let (till, mail, foreign) =
            ("namespaces/shop/functions/till", "namespaces/shop/functions/mail", "namespaces/bank/functions/till");
        for (function, others, parent, expected) in [
            (till, &[][..], "", Ok("shop")),
            (till, &[mail], "", Ok("shop")),
            ("", &[], "namespaces/bank", Ok("bank")),
            (till, &[mail, foreign], "", Err("others")),
            (till, &["mail"], "", Err("others.function")),
            (till, &[], "namespaces/bank", Err("parent")),
            ("", &[till], "namespaces/bank", Err("others")),
            ("", &[], "bank", Err("parent")),
            ("", &[], "", Err("function")),
        ] {
            let expected = expected.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(of(function, others, parent), expected, "{function} {others:?} {parent}");
        }
    }
}
