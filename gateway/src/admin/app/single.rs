//! What the scheduler tells in lists alone, read one by one: plans, aliases, keys and domains.

use dunlin_proto::{
    ApiError,
    names::{AliasName, DomainRef, FunctionRef, KeyName, NamespaceRef, PlanName},
    v1,
};

use super::App;
use crate::auth::Principal;

/// As many as a page can have.
const PAGE: i32 = 1_000;

impl App {
    pub(crate) async fn plan_get(&self, who: &Principal, wanted: &PlanName) -> Result<v1::Plan, ApiError> {
        let (parent, name) = (parent(&wanted.namespace), wanted.to_string());
        let list = self.plan_list(who, v1::ListPlansRequest { parent }).await?;
        list.plans.into_iter().find(|plan| plan.name == name).ok_or_else(|| ApiError::not_found(wanted))
    }

    pub(crate) async fn alias_get(&self, who: &Principal, wanted: &AliasName) -> Result<v1::Alias, ApiError> {
        let function = FunctionRef { namespace: wanted.namespace.clone(), function: wanted.function.clone() };
        let list = self.alias_list(who, v1::ListAliasesRequest { parent: function.to_string() }).await?;
        let name = wanted.to_string();
        list.aliases.into_iter().find(|alias| alias.name == name).ok_or_else(|| ApiError::not_found(wanted))
    }

    pub(crate) async fn key_get(&self, who: &Principal, wanted: &KeyName) -> Result<v1::Key, ApiError> {
        let (parent, name) = (parent(&wanted.namespace), wanted.to_string());
        let mut request = v1::ListKeysRequest { parent, page_size: PAGE, ..Default::default() };
        loop {
            let page = self.key_list(who, request.clone()).await?;
            if let Some(found) = page.keys.into_iter().find(|key| key.name == name) {
                return Ok(found);
            }
            request.page_token = after(page.next_page_token, wanted)?;
        }
    }

    pub(crate) async fn domain_get(&self, who: &Principal, wanted: &DomainRef) -> Result<v1::Domain, ApiError> {
        let (parent, name) = (parent(&wanted.namespace), wanted.to_string());
        let mut request = v1::ListDomainsRequest { parent, page_size: PAGE, ..Default::default() };
        loop {
            let page = self.domain_list(who, request.clone()).await?;
            if let Some(found) = page.domains.into_iter().find(|domain| domain.name == name) {
                return Ok(found);
            }
            request.page_token = after(page.next_page_token, wanted)?;
        }
    }
}

fn parent(namespace: &dunlin_proto::ids::Namespace) -> String {
    NamespaceRef { namespace: namespace.clone() }.to_string()
}

/// Where the next page begins; after the last one, it is not there.
fn after(next: String, wanted: impl std::fmt::Display) -> Result<String, ApiError> {
    Some(next).filter(|token| !token.is_empty()).ok_or_else(|| ApiError::not_found(wanted))
}
