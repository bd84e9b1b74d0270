//! Functions and their versions: authorised here, done by the scheduler.

use std::sync::Arc;

use dunlin_proto::{
    ApiError,
    ids::{Digest, Namespace},
    names::{FunctionRef, NamespaceRef, VersionName},
    v1,
};
use futures::{Stream, StreamExt};

use super::{App, MAX_ANSWER_BYTES, ask, from_scheduler, look, name, on_behalf, page_size};
use crate::{
    admin::access::Operation,
    auth::{Principal, Role},
    config::Config,
    routes::router::{Router, Rule},
};

impl App {
    pub(super) fn functions(&self) -> v1::function_service_client::FunctionServiceClient<crate::upstream::Secured> {
        self.context.scheduler.functions().max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    /// A function as clients see it: the scheduler does not know this gateway's addresses.
    fn with_urls(&self, function: &mut v1::Function) {
        let Ok(name) = function.name.parse::<FunctionRef>() else { return };
        let (config, table) = (&self.context.config, self.context.routes.load());
        function.urls = routed_urls(config, &table.router, &name);
        let known = table.function(name.namespace.as_str(), name.function.as_str());
        if known.is_none_or(|known| known.automatic) {
            function.urls.extend(urls(config, &name));
        }
    }

    /// A version as clients see it, with its own addresses at this gateway.
    fn with_previews(&self, version: &mut v1::Version) {
        if let Ok(name) = version.name.parse::<VersionName>() {
            version.preview_urls = previews(&self.context.config, &name);
        }
    }

    pub(crate) async fn function_list(
        &self,
        who: &Principal,
        request: v1::ListFunctionsRequest,
    ) -> Result<v1::ListFunctionsResponse, ApiError> {
        let mut response = self.function_list_bare(who, request).await?;
        response.functions.iter_mut().for_each(|function| self.with_urls(function));
        Ok(response)
    }

    /// The same without their addresses, which are many where functions are.
    pub(crate) async fn function_list_bare(
        &self,
        who: &Principal,
        request: v1::ListFunctionsRequest,
    ) -> Result<v1::ListFunctionsResponse, ApiError> {
        let NamespaceRef { namespace } = name("parent", &request.parent)?;
        Operation::ListFunctions.allow_in(who, &namespace)?;
        page_size(request.page_size)?;
        look(self.functions().list_functions(on_behalf(who, request))).await
    }

    pub(crate) async fn function_get(
        &self,
        who: &Principal,
        request: v1::GetFunctionRequest,
    ) -> Result<v1::GetFunctionResponse, ApiError> {
        let FunctionRef { namespace, .. } = name("name", &request.name)?;
        Operation::GetFunction.allow_in(who, &namespace)?;
        let mut response = look(self.functions().get_function(on_behalf(who, request))).await?;
        response.function.iter_mut().for_each(|function| self.with_urls(function));
        Ok(response)
    }

    pub(crate) async fn function_update(
        &self,
        who: &Principal,
        request: v1::UpdateFunctionRequest,
    ) -> Result<v1::UpdateFunctionResponse, ApiError> {
        let wanted = request.function.as_ref().ok_or_else(|| ApiError::invalid("function", "function is missing"))?;
        let FunctionRef { namespace, .. } = name("function.name", &wanted.name)?;
        Operation::UpdateFunction.allow_in(who, &namespace)?;
        let mut response = ask(self.functions().update_function(on_behalf(who, request))).await?;
        response.function.iter_mut().for_each(|function| self.with_urls(function));
        Ok(response)
    }

    pub(crate) async fn function_delete(
        &self,
        who: &Principal,
        request: v1::DeleteFunctionRequest,
    ) -> Result<v1::DeleteFunctionResponse, ApiError> {
        let FunctionRef { namespace, .. } = name("name", &request.name)?;
        Operation::DeleteFunction.allow_in(who, &namespace)?;
        ask(self.functions().delete_function(on_behalf(who, request))).await
    }

    pub(crate) async fn function_rollback(
        &self,
        who: &Principal,
        request: v1::RollbackFunctionRequest,
    ) -> Result<v1::RollbackFunctionResponse, ApiError> {
        let FunctionRef { namespace, .. } = name("name", &request.name)?;
        Operation::RollbackFunction.allow_in(who, &namespace)?;
        let mut response = ask(self.functions().rollback_function(on_behalf(who, request))).await?;
        response.function.iter_mut().for_each(|function| self.with_urls(function));
        Ok(response)
    }

    /// Deploys. The stream is the scheduler's own, message for message; a reader who leaves ends it.
    pub(crate) async fn version_create(
        &self,
        who: &Principal,
        request: v1::CreateVersionRequest,
    ) -> Result<impl Stream<Item = Result<v1::CreateVersionResponse, ApiError>> + Send + use<>, ApiError> {
        let FunctionRef { namespace, .. } = name("parent", &request.parent)?;
        Operation::CreateVersion.allow_in(who, &namespace)?;
        name::<Digest>("artifact_digest", &request.artifact_digest)?;
        let stream = ask(self.functions().create_version(on_behalf(who, request))).await?;
        let app = self.clone();
        Ok(stream.map(move |event| {
            let mut event = event.map_err(|status| from_scheduler(&status))?;
            if let Some(v1::create_version_response::Event::Version(version)) = &mut event.event {
                app.with_previews(version);
            }
            Ok(event)
        }))
    }

    pub(crate) async fn version_get(
        &self,
        who: &Principal,
        request: v1::GetVersionRequest,
    ) -> Result<v1::GetVersionResponse, ApiError> {
        let VersionName { namespace, .. } = name("name", &request.name)?;
        Operation::GetVersion.allow_in(who, &namespace)?;
        let mut response = look(self.functions().get_version(on_behalf(who, request))).await?;
        hide_values(who, &namespace, response.version.iter_mut());
        response.version.iter_mut().for_each(|version| self.with_previews(version));
        Ok(response)
    }

    pub(crate) async fn version_list(
        &self,
        who: &Principal,
        request: v1::ListVersionsRequest,
    ) -> Result<v1::ListVersionsResponse, ApiError> {
        let FunctionRef { namespace, .. } = name("parent", &request.parent)?;
        Operation::ListVersions.allow_in(who, &namespace)?;
        page_size(request.page_size)?;
        let mut response = look(self.functions().list_versions(on_behalf(who, request))).await?;
        hide_values(who, &namespace, response.versions.iter_mut());
        response.versions.iter_mut().for_each(|version| self.with_previews(version));
        Ok(response)
    }
}

/// Whether somebody sees the values of environment variables: whoever may deploy does.
pub(crate) fn sees_values(who: &Principal, namespace: &Namespace) -> bool {
    who.role_in(namespace).is_some_and(|role| role >= Role::Developer)
}

/// Empties the values of environment variables for a viewer, on every transport alike.
fn hide_values<'a>(who: &Principal, namespace: &Namespace, versions: impl Iterator<Item = &'a mut v1::Version>) {
    if !sees_values(who, namespace) {
        let specs = versions.filter_map(|version| version.spec.as_mut());
        specs.flat_map(|spec| spec.environment.values_mut()).for_each(String::clear);
    }
}

/// Where callers reach a function by its routes.
fn routed_urls(config: &Config, router: &Router, name: &FunctionRef) -> Vec<String> {
    let Some(site) = router.site(name.namespace.as_str()) else { return Vec::new() };
    let mut domains: Vec<_> = router.domains(&name.namespace).collect();
    domains.sort_unstable();
    let of_rule = |rule: &Arc<Rule>| {
        let path = &rule.spec.path;
        let hosts = match &rule.spec.host {
            Some(host) => vec![host.to_string()],
            None => domains.iter().map(ToString::to_string).collect(),
        };
        let shared = (rule.spec.host.is_none() && config.paths())
            .then(|| format!("{}://{}/{}{path}", config.tls.scheme(), config.functions, name.namespace));
        hosts.into_iter().map(|host| url(config, &host, path)).chain(shared).collect::<Vec<_>>()
    };
    site.calling(&name.function).iter().flat_map(of_rule).collect()
}

fn url(config: &Config, host: &str, path: impl std::fmt::Display) -> String {
    match (config.tls.scheme(), config.public_port()) {
        (scheme @ "http", 80) | (scheme @ "https", 443) => format!("{scheme}://{host}{path}"),
        (scheme, port) => format!("{scheme}://{host}:{port}{path}"),
    }
}

/// Where callers reach a function automatically, by this gateway's configuration.
fn urls(config: &Config, name: &FunctionRef) -> Vec<String> {
    let label = format!("{}--{}", name.function, name.namespace);
    let by_host = config.domain.iter().map(|domain| url(config, &format!("{label}.{domain}"), "/"));
    let host = config.functions;
    let scheme = config.tls.scheme();
    let by_path = config.paths().then(|| format!("{scheme}://{host}/{}/{}/", name.namespace, name.function));
    by_host.chain(by_path).collect()
}

/// Where developers reach a version, by this gateway's configuration.
fn previews(config: &Config, name: &VersionName) -> Vec<String> {
    let VersionName { namespace, function, number } = name;
    let by_host = |domain: &String| url(config, &format!("v{number}--{function}--{namespace}.{domain}"), "/");
    let (scheme, host) = (config.tls.scheme(), config.functions);
    let by_path = config.paths().then(|| format!("{scheme}://{host}/{namespace}/{function}@{number}/"));
    config.domain.iter().map(by_host).chain(by_path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::CertificateConfig;

    #[test]
    fn a_version_has_addresses_of_its_own() {
        let name: VersionName = "namespaces/shop/functions/pay/versions/7".parse().unwrap();
        let mut config = Config::default();
        assert_eq!(previews(&config, &name), ["http://127.0.0.1:8080/shop/pay@7/"]);
        config.domain = Some("fn.example.com".to_owned());
        assert_eq!(previews(&config, &name), ["http://v7--pay--shop.fn.example.com:8080/"]);
    }

    #[test]
    fn a_function_has_the_addresses_that_the_gateway_serves() {
        let name: FunctionRef = "namespaces/shop/functions/pay".parse().unwrap();
        let mut config = Config::default();
        assert_eq!(urls(&config, &name), ["http://127.0.0.1:8080/shop/pay/"]);
        config.domain = Some("fn.example.com".to_owned());
        assert_eq!(urls(&config, &name), ["http://pay--shop.fn.example.com:8080/"]);
        config.path_addressing = Some(true);
        config.functions.set_port(80);
        assert_eq!(urls(&config, &name), ["http://pay--shop.fn.example.com/", "http://127.0.0.1:80/shop/pay/"]);
        config.path_addressing = Some(false);
        config.tls.certificates =
            vec![CertificateConfig { certificate: "c".into(), key: "k".into(), passphrase: None }];
        assert_eq!(urls(&config, &name), ["https://pay--shop.fn.example.com:80/"]);
        config.tls.port = Some(443);
        assert_eq!(urls(&config, &name), ["https://pay--shop.fn.example.com/"]);
    }
}
