//! Namespaces. Somebody without the role `operator` sees those alone in which their token has a role.

use dunlin_proto::{ApiError, ErrorCode, ids::Namespace, names::NamespaceRef, v1};
use futures::{StreamExt, TryStreamExt};

use super::{App, MAX_ANSWER_BYTES, ask, look, name, on_behalf, page_size};
use crate::{admin::access::Operation, auth::Principal};

/// Questions to the scheduler that run at once for one list.
const AT_ONCE: usize = 8;

impl App {
    fn namespaces(&self) -> v1::namespace_service_client::NamespaceServiceClient<crate::upstream::Secured> {
        self.context.scheduler.namespaces().max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    pub(crate) async fn namespace_create(
        &self,
        who: &Principal,
        request: v1::CreateNamespaceRequest,
    ) -> Result<v1::CreateNamespaceResponse, ApiError> {
        Operation::CreateNamespace.allow(who)?;
        name::<Namespace>("namespace_id", &request.namespace_id)?;
        ask(self.namespaces().create_namespace(on_behalf(who, request))).await
    }

    pub(crate) async fn namespace_get(
        &self,
        who: &Principal,
        request: v1::GetNamespaceRequest,
    ) -> Result<v1::GetNamespaceResponse, ApiError> {
        let NamespaceRef { namespace } = name("name", &request.name)?;
        Operation::GetNamespace.allow_in(who, &namespace)?;
        look(self.namespaces().get_namespace(on_behalf(who, request))).await
    }

    pub(crate) async fn namespace_update(
        &self,
        who: &Principal,
        request: v1::UpdateNamespaceRequest,
    ) -> Result<v1::UpdateNamespaceResponse, ApiError> {
        let named = request.namespace.as_ref().map(|namespace| namespace.name.as_str()).unwrap_or_default();
        let NamespaceRef { namespace } = name("namespace.name", named)?;
        Operation::UpdateNamespace.allow_in(who, &namespace)?;
        ask(self.namespaces().update_namespace(on_behalf(who, request))).await
    }

    pub(crate) async fn namespace_delete(
        &self,
        who: &Principal,
        request: v1::DeleteNamespaceRequest,
    ) -> Result<v1::DeleteNamespaceResponse, ApiError> {
        let NamespaceRef { namespace } = name("name", &request.name)?;
        Operation::DeleteNamespace.allow_in(who, &namespace)?;
        ask(self.namespaces().delete_namespace(on_behalf(who, request))).await
    }

    pub(crate) async fn namespace_list(
        &self,
        who: &Principal,
        request: v1::ListNamespacesRequest,
    ) -> Result<v1::ListNamespacesResponse, ApiError> {
        Operation::ListNamespaces.allow(who)?;
        let size = page_size(request.page_size)?;
        if who.is_operator() {
            return look(self.namespaces().list_namespaces(on_behalf(who, request))).await;
        }
        let (page, next_page_token) = own_page(who, size, &request.page_token)?;
        let found = futures::stream::iter(page).map(|namespace| self.namespace_find(who, namespace));
        let found: Vec<_> = found.buffered(AT_ONCE).try_collect().await?;
        Ok(v1::ListNamespacesResponse { namespaces: found.into_iter().flatten().collect(), next_page_token })
    }

    /// A namespace that a token grants a role in; it need not be there any more.
    async fn namespace_find(&self, who: &Principal, namespace: Namespace) -> Result<Option<v1::Namespace>, ApiError> {
        let request = v1::GetNamespaceRequest { name: NamespaceRef { namespace }.to_string() };
        match look(self.namespaces().get_namespace(on_behalf(who, request))).await {
            Ok(response) => Ok(response.namespace),
            Err(error) if error.code == ErrorCode::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// A page of the namespaces that a token names, and the token of the next page: the last name of this one.
fn own_page(who: &Principal, size: usize, after: &str) -> Result<(Vec<Namespace>, String), ApiError> {
    let after: Option<Namespace> = (!after.is_empty()).then(|| name("page_token", after)).transpose()?;
    let mut own: Vec<_> = who.grants.iter().filter_map(|grant| grant.namespace.clone()).collect();
    own.sort_unstable();
    own.dedup();
    own.retain(|namespace| after.as_ref().is_none_or(|after| namespace > after));
    let more = own.len() > size;
    own.truncate(size);
    let next = own.last().filter(|_| more).map(ToString::to_string).unwrap_or_default();
    Ok((own, next))
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::auth::{Grant, Role};

    #[test]
    fn a_token_lists_its_own_namespaces_page_by_page() {
        let grant = |name: &str| Grant { namespace: Some(name.parse().unwrap()), role: Role::Viewer };
        let who = Principal {
            subject: "ada".into(),
            issuer: "dunlin".into(),
            expires: SystemTime::UNIX_EPOCH,
            issued: None,
            grants: vec![grant("c"), grant("a"), grant("b"), grant("a")],
            token_id: String::new(),
            origin: crate::auth::Origin::default(),
        };
        let page = |size, after: &str| {
            let (page, next) = own_page(&who, size, after).unwrap();
            (page.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "), next)
        };
        assert_eq!(page(2, ""), ("a b".into(), "b".into()));
        assert_eq!(page(2, "b"), ("c".into(), String::new()));
        assert_eq!(page(3, ""), ("a b c".into(), String::new()));
        assert_eq!(own_page(&who, 2, "../x").unwrap_err().field.as_deref(), Some("page_token"));
    }
}
