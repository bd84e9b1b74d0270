//! Routes and domains: authorised here, done by the scheduler, which does not know the hosts that belong to all namespaces.

use dunlin_proto::{
    ApiError, ErrorCode,
    ids::DomainName,
    names::{DomainRef, NamespaceRef, RouteName},
    route::{Purge, RouteSpec},
    v1,
};

use super::{App, MAX_ANSWER_BYTES, ask, look, name, on_behalf, page_size};
use crate::{
    admin::{
        access::Operation,
        model::{Domain, id_in},
    },
    auth::Principal,
    config::Config,
    tls::FileCertificate,
};

impl App {
    fn routes(&self) -> v1::route_service_client::RouteServiceClient<crate::upstream::Secured> {
        self.context.scheduler.routes().max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    fn domains(&self) -> v1::domain_service_client::DomainServiceClient<crate::upstream::Secured> {
        self.context.scheduler.domains().max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    pub(crate) async fn route_put(
        &self,
        who: &Principal,
        request: v1::PutRouteRequest,
    ) -> Result<v1::PutRouteResponse, ApiError> {
        let route = request.route.as_ref().ok_or_else(|| ApiError::invalid("route", "route is missing"))?;
        let RouteName { namespace, .. } = name("route.name", &route.name)?;
        Operation::PutRoute.allow_in(who, &namespace)?;
        // Checked where it is answered first; the scheduler checks again, and what it depends on.
        RouteSpec::try_from(route.clone())?;
        ask(self.routes().put_route(on_behalf(who, request))).await
    }

    pub(crate) async fn route_get(
        &self,
        who: &Principal,
        request: v1::GetRouteRequest,
    ) -> Result<v1::GetRouteResponse, ApiError> {
        let RouteName { namespace, .. } = name("name", &request.name)?;
        Operation::GetRoute.allow_in(who, &namespace)?;
        look(self.routes().get_route(on_behalf(who, request))).await
    }

    pub(crate) async fn route_list(
        &self,
        who: &Principal,
        request: v1::ListRoutesRequest,
    ) -> Result<v1::ListRoutesResponse, ApiError> {
        let NamespaceRef { namespace } = name("parent", &request.parent)?;
        Operation::ListRoutes.allow_in(who, &namespace)?;
        page_size(request.page_size)?;
        look(self.routes().list_routes(on_behalf(who, request))).await
    }

    pub(crate) async fn route_delete(
        &self,
        who: &Principal,
        request: v1::DeleteRouteRequest,
    ) -> Result<v1::DeleteRouteResponse, ApiError> {
        let RouteName { namespace, .. } = name("name", &request.name)?;
        Operation::DeleteRoute.allow_in(who, &namespace)?;
        ask(self.routes().delete_route(on_behalf(who, request))).await
    }

    pub(crate) async fn routes_import(
        &self,
        who: &Principal,
        request: v1::ImportRoutesRequest,
    ) -> Result<v1::ImportRoutesResponse, ApiError> {
        let NamespaceRef { namespace } = name("parent", &request.parent)?;
        Operation::ImportRoutes.allow_in(who, &namespace)?;
        ask(self.routes().import_routes(on_behalf(who, request))).await
    }

    pub(crate) async fn routes_export(
        &self,
        who: &Principal,
        request: v1::ExportRoutesRequest,
    ) -> Result<v1::ExportRoutesResponse, ApiError> {
        let NamespaceRef { namespace } = name("parent", &request.parent)?;
        Operation::ExportRoutes.allow_in(who, &namespace)?;
        look(self.routes().export_routes(on_behalf(who, request))).await
    }

    pub(crate) async fn cache_purge(
        &self,
        who: &Principal,
        request: v1::PurgeCacheRequest,
    ) -> Result<v1::PurgeCacheResponse, ApiError> {
        let NamespaceRef { namespace } = name("parent", &request.parent)?;
        Operation::PurgeCache.allow_in(who, &namespace)?;
        Purge::try_from(request.clone())?;
        ask(self.routes().purge_cache(on_behalf(who, request))).await
    }

    pub(crate) async fn domain_create(
        &self,
        who: &Principal,
        request: v1::CreateDomainRequest,
    ) -> Result<v1::CreateDomainResponse, ApiError> {
        let NamespaceRef { namespace } = name("parent", &request.parent)?;
        Operation::CreateDomain.allow_in(who, &namespace)?;
        if request.vouch {
            // Without proof, it could be anybody's.
            who.require_operator().inspect_err(|_| who.note("domain.create", Some(&namespace), true))?;
        }
        let domain: DomainName = name("domain", &request.domain.to_ascii_lowercase())?;
        check_domain(&self.context.config, who, &domain).inspect_err(|error| {
            if error.code == ErrorCode::PermissionDenied {
                who.note("domain.create", Some(&namespace), true);
            }
        })?;
        let request = v1::CreateDomainRequest { domain: domain.to_string(), ..request };
        let mut made = ask(self.domains().create_domain(on_behalf(who, request))).await?;
        made.domain.iter_mut().for_each(|domain| self.add_file(domain));
        Ok(made)
    }

    pub(crate) async fn domain_list(
        &self,
        who: &Principal,
        request: v1::ListDomainsRequest,
    ) -> Result<v1::ListDomainsResponse, ApiError> {
        let NamespaceRef { namespace } = name("parent", &request.parent)?;
        Operation::ListDomains.allow_in(who, &namespace)?;
        page_size(request.page_size)?;
        let mut found = look(self.domains().list_domains(on_behalf(who, request))).await?;
        found.domains.iter_mut().for_each(|domain| self.add_file(domain));
        Ok(found)
    }

    /// Adds what the scheduler does not know: the certificate of this gateway's files.
    fn add_file(&self, domain: &mut v1::Domain) {
        let of_file = |tls: &crate::tls::Tls| tls.of_file(id_in(&domain.name, "domains"));
        domain.file_certificate = self.context.tls.as_ref().and_then(of_file).map(v1::FileCertificate::from);
    }

    /// The certificates of this gateway's files that a namespace with these domains is served by: those for its domains, and
    /// for hosts that all namespaces share. Operators see every one.
    pub(crate) fn file_certificates(&self, who: &Principal, domains: &[Domain]) -> Vec<FileCertificate> {
        let Some(tls) = &self.context.tls else { return Vec::new() };
        let config = &self.context.config;
        let shared = config.shared_hosts.iter().map(DomainName::as_str).chain(config.domain.as_deref());
        tls.of_files(|names| {
            who.is_operator()
                || shared.clone().any(|host| names.serve(host))
                || domains.iter().any(|domain| names.serve(&domain.domain))
        })
    }

    pub(crate) async fn domain_delete(
        &self,
        who: &Principal,
        request: v1::DeleteDomainRequest,
    ) -> Result<v1::DeleteDomainResponse, ApiError> {
        let DomainRef { namespace, .. } = name("name", &request.name)?;
        Operation::DeleteDomain.allow_in(who, &namespace)?;
        ask(self.domains().delete_domain(on_behalf(who, request))).await
    }
}

/// Keeps the hosts that all namespaces share from becoming one namespace's.
fn check_domain(config: &Config, who: &Principal, domain: &DomainName) -> Result<(), ApiError> {
    let of_cluster = config.domain.iter().map(String::as_str);
    let mut shared = of_cluster.chain(config.shared_hosts.iter().map(DomainName::as_str));
    if config.is_shared(domain.as_str()) || shared.any(|shared| domain.holds(shared)) {
        let message = format!("the domain {domain} is, or holds, a host that all namespaces share");
        return Err(ApiError { field: Some("domain".into()), ..ApiError::new(ErrorCode::FailedPrecondition, message) });
    }
    // Any host leads to every namespace here, so that whoever owns one could answer for the others.
    if config.paths() && config.shared_hosts.is_empty() && !who.is_operator() {
        let message =
            "only an operator gives domains here: the gateway does not know by which host everybody reaches it";
        let error = ApiError::new(ErrorCode::PermissionDenied, message);
        return Err(error.hint("with --shared-host, the gateway lets a namespace's admins add domains"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::auth::{Grant, Role};

    #[test]
    fn t46_what_all_namespaces_share_becomes_nobodys() {
        let somebody = |namespace: Option<&str>, role| Principal {
            subject: "zoe".into(),
            issuer: "dunlin".into(),
            expires: SystemTime::UNIX_EPOCH,
            issued: None,
            grants: vec![Grant { namespace: namespace.map(|name| name.parse().unwrap()), role }],
            token_id: String::new(),
            origin: crate::auth::Origin::default(),
        };
        let (admin, operator) = (somebody(Some("shop"), Role::Admin), somebody(None, Role::Operator));
        let mut config = Config::default();
        let check = |config: &Config, who: &Principal, domain: &str| {
            check_domain(config, who, &domain.parse().unwrap()).map_err(|error| error.code)
        };
        assert_eq!(check(&config, &admin, "shop.example"), Err(ErrorCode::PermissionDenied));
        assert_eq!(check(&config, &operator, "shop.example"), Ok(()));
        config.shared_hosts = vec!["faas.example.com".parse().unwrap()];
        assert_eq!(check(&config, &admin, "shop.example"), Ok(()));
        // Names beside and below a shared host are nobody's yet; the host itself, and what holds it, are taken.
        assert_eq!(check(&config, &admin, "shop.faas.example.com"), Ok(()));
        for taken in ["faas.example.com", "example.com"] {
            assert_eq!(check(&config, &operator, taken), Err(ErrorCode::FailedPrecondition), "{taken}");
        }
        config.domain = Some("fn.example.org".into());
        for taken in ["fn.example.org", "pay--shop.fn.example.org", "example.org"] {
            assert_eq!(check(&config, &operator, taken), Err(ErrorCode::FailedPrecondition), "{taken}");
        }
    }
}
