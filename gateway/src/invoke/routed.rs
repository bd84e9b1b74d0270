//! A request on its way through a route: which one takes it, what the function sees of it, and what is answered without one.
//!
//! Which route is the most specific is `routes/router`'s to find out. Automatic addresses are not known here.

use std::{borrow::Cow, net::IpAddr, sync::Arc};

use bytes::Bytes;
use dunlin_openapi::Checker;
use dunlin_proto::{
    ApiError, ErrorCode,
    ids::{InvocationId, Namespace},
    route::{Authorizer, Redirect, RouteAuth, RouteTarget, StaticResponse},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header, request::Parts};

use super::target::{Called, Sees, Target, called, not_found, seen};
use crate::{
    auth::{CallerIdentity, Takes},
    config::Config,
    error,
    routes::{
        Table,
        host::{self, HostTarget},
        path,
        router::{Lookup, Matched, Parameters, Rule, Site, cors, methods},
    },
};

/// What the routes say about a request.
pub(super) enum Outcome {
    /// A route takes it.
    Target(Target),
    /// These routes have its path, but for other methods; an automatic address may have it as well.
    NotAllowed(Vec<Arc<Rule>>),
    /// Only an automatic address may have it.
    Automatic,
}

/// The route that led to a function.
#[derive(Debug)]
pub(super) struct Routed {
    rule: Arc<Rule>,
    /// How long the part of the caller's path is that stands before the one that routes match.
    base: usize,
    /// Another route of the namespace stores answers, or this one.
    among_stored: bool,
}

/// An answer without a function.
#[derive(Debug)]
pub(super) struct Answer {
    rule: Option<Arc<Rule>>,
    response: Result<Response<Bytes>, ApiError>,
    /// The routes that have its path for other methods, where none takes it.
    others: Vec<Arc<Rule>>,
}

/// A request in the eyes of a namespace's routes.
struct Asked<'p> {
    parts: &'p Parts,
    namespace: &'p str,
    /// The domain's host; nothing on a shared one.
    host: Option<&'p str>,
    /// What stands before the path that routes match.
    base: &'p str,
    /// That path.
    path: &'p str,
}

/// Finds the route of a request; `host` is canonical.
pub(super) fn find(parts: &Parts, host: &str, config: &Config, table: &Table) -> Result<Outcome, ApiError> {
    // Whatever the configuration says, no namespace gets what belongs to all.
    if let Some(owner) = table.router.owner(host).filter(|_| !config.is_shared(host)) {
        let namespace = owner.as_str();
        let asked = Asked { parts, namespace, host: Some(host), base: "", path: parts.uri.path() };
        return on_domain(&asked, table).map(Outcome::Target);
    }
    let shared = shared(parts.uri.path()).filter(|_| config.paths() && !is_automatic(host, config));
    let Some((namespace, base, path)) = shared else { return Ok(Outcome::Automatic) };
    Ok(routed(&Asked { parts, namespace: &namespace, host: None, base, path }, table))
}

/// Whether a host is the automatic address of some function.
fn is_automatic(host: &str, config: &Config) -> bool {
    let by_host = config.domain.as_deref().map(|domain| host::target(host, domain));
    matches!(by_host, Some(HostTarget::Function { .. }))
}

/// On a namespace's own domain, nobody else has anything.
fn on_domain(asked: &Asked<'_>, table: &Table) -> Result<Target, ApiError> {
    match routed(asked, table) {
        Outcome::Target(target) => Ok(target),
        Outcome::NotAllowed(others) => Ok(Target::Answer(Box::new(Answer::not_allowed(others)))),
        Outcome::Automatic => {
            let error = ApiError::new(ErrorCode::NotFound, "no route has this path");
            Err(error.hint("the namespace's routes: dunlin route list"))
        }
    }
}

/// The path of a request on a shared host, `/{namespace}/...`: the namespace, its part of the path, and the path that routes match.
fn shared(whole: &str) -> Option<(Cow<'_, str>, &str, &str)> {
    let namespace = whole.strip_prefix('/')?.split('/').next()?;
    let (base, path) = whole.split_at_checked(1 + namespace.len())?;
    Some((path::name(namespace), base, if path.is_empty() { "/" } else { path }))
}

/// What the routes of a namespace say about a request.
fn routed(asked: &Asked<'_>, table: &Table) -> Outcome {
    let Some(site) = table.router.site(asked.namespace) else { return Outcome::Automatic };
    // Before what routes answer themselves: a browser takes only an answer of success with the headers of the policy for leave
    // (Fetch, CORS-preflight fetch), so that a redirect or a fixed 404 in its place would keep pages from such routes.
    if let Some(answer) = preflight(asked, site) {
        return Outcome::Target(Target::Answer(Box::new(answer)));
    }
    match site.find(asked.host, asked.path, asked.parts.method.as_str()) {
        Lookup::Found(matched) => Outcome::Target(target(asked, matched, table, site)),
        Lookup::NotAllowed(others) => Outcome::NotAllowed(others),
        Lookup::Nothing => Outcome::Automatic,
    }
}

/// Answers a browser that asks whether it may call a route which has a policy for that.
fn preflight(asked: &Asked<'_>, site: &Site) -> Option<Answer> {
    let method = cors::asked(&asked.parts.method, &asked.parts.headers)?;
    let Lookup::Found(Matched { rule, .. }) = site.find(asked.host, asked.path, method) else { return None };
    let response = cors::preflight(&rule, rule.spec.cors.as_ref()?, method, &asked.parts.headers);
    Some(Answer { rule: Some(rule), response, others: Vec::new() })
}

/// What becomes of a request. Where its function can't be called, the route still has its say about the answer.
fn target(asked: &Asked<'_>, matched: Matched<'_>, table: &Table, site: &Site) -> Target {
    let response = match &matched.rule.spec.target {
        RouteTarget::Function { .. } => match function(asked, &matched, table) {
            Ok(called) => {
                let (parameters, among_stored) = (matched.rule.headers(&matched.values), site.stores());
                let routed = Routed { rule: matched.rule, base: asked.base.len(), among_stored };
                return Target::Function(Called { route: Some(Arc::new(routed)), parameters, ..called });
            }
            Err(failure) => Err(failure),
        },
        RouteTarget::Response(response) => Ok(written(response)),
        RouteTarget::Redirect(redirect) => elsewhere(redirect, &matched, asked.parts.uri.query()),
    };
    Target::Answer(Box::new(Answer { rule: Some(matched.rule), response, others: Vec::new() }))
}

/// The function that a route calls, as if no route had led to it.
fn function(asked: &Asked<'_>, matched: &Matched<'_>, table: &Table) -> Result<Called, ApiError> {
    let Matched { rule, values } = matched;
    let RouteTarget::Function { function: name, alias, rewrite } = &rule.spec.target else {
        return Err(ApiError::internal());
    };
    let function =
        table.function(asked.namespace, name.as_str()).ok_or_else(|| not_found(asked.namespace, name.as_str()))?;
    let whole = |path_and_query| Sees::Below { base_path: String::new(), path_and_query };
    let sees = match rewrite {
        Some(template) => {
            let rewritten = template.fill(|name| rule.value(values, name));
            // Its parts have been checked, and so is what they became together.
            path::check(&rewritten).map_err(super::bad_request)?;
            whole(seen(&rewritten, asked.parts.uri.query())?)
        }
        None if asked.base.is_empty() => whole(asked.parts.uri.clone()),
        None => Sees::BelowNamespace,
    };
    called(function, alias.as_ref(), sees)
}

fn written(wanted: &StaticResponse) -> Response<Bytes> {
    let mut response = Response::new(Bytes::copy_from_slice(&wanted.body));
    *response.status_mut() = StatusCode::from_u16(wanted.status).unwrap_or_default();
    if let Ok(kind) = HeaderValue::from_str(&wanted.content_type)
        && !kind.is_empty()
    {
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
    }
    response
}

/// Sends a caller elsewhere, with the query that it came with unless the route has one of its own.
fn elsewhere(redirect: &Redirect, matched: &Matched<'_>, query: Option<&str>) -> Result<Response<Bytes>, ApiError> {
    let mut location = redirect.location.fill(|name| matched.rule.value(&matched.values, name));
    if let Some(query) = query.filter(|_| !redirect.location.has_query()) {
        location.push('?');
        location.push_str(query);
    }
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::from_u16(redirect.status).unwrap_or(StatusCode::PERMANENT_REDIRECT);
    let location =
        HeaderValue::from_str(&location).map_err(|_| super::bad_request("the request's target is not ASCII text"))?;
    response.headers_mut().insert(header::LOCATION, location);
    Ok(response)
}

/// Refuses a caller whose address a route does not let in.
fn check_address(rule: &Rule, remote: IpAddr) -> Result<(), ApiError> {
    if rule.spec.admits(remote) {
        return Ok(());
    }
    let message = format!("the route {} does not take calls from this address", rule.name.route);
    Err(ApiError::new(ErrorCode::PermissionDenied, message))
}

impl Answer {
    /// The answer to a method that no route at a path takes.
    pub(super) fn not_allowed(others: Vec<Arc<Rule>>) -> Self {
        let message = format!("the routes at this path take {}", listed(&others));
        let response = Err(ApiError::new(ErrorCode::MethodNotAllowed, message));
        Self { rule: None, response, others }
    }

    /// Why it is a refusal, if it is one, and the route that refuses.
    pub(super) fn refusal(&self, remote: IpAddr) -> Option<(ApiError, Option<&Rule>)> {
        let rule = self.rule.as_deref();
        let admitted = rule.map_or(Ok(()), |rule| check_address(rule, remote));
        let refused = admitted.err().or_else(|| self.response.as_ref().err().cloned())?;
        Some((refused, rule))
    }

    /// Whether it is compressed.
    pub(super) fn compresses(&self) -> bool {
        self.rule.as_ref().is_some_and(|rule| rule.spec.compress)
    }

    /// What the caller gets.
    pub(super) fn into_response(self, request: &Parts, remote: IpAddr, id: InvocationId) -> Response<Bytes> {
        let Self { rule, response, others } = self;
        let id = id.to_string();
        let admitted = rule.as_deref().map_or(Ok(()), |rule| check_address(rule, remote));
        let mut response = admitted.and(response).unwrap_or_else(|failure| error::response(&failure, &id));
        let headers = response.headers_mut();
        let allow = Some((header::ALLOW, listed(&others))).filter(|_| !others.is_empty());
        let own = allow.into_iter().chain([(error::REQUEST_ID, id)]);
        for (name, text) in own {
            if let Ok(value) = HeaderValue::from_str(&text) {
                headers.insert(name, value);
            }
        }
        if let Some(rule) = &rule {
            finish(rule, &request.headers, headers);
        }
        if let Some(policy) = cors::speaker(&others, &request.headers) {
            // A page that may call these routes may read why it could not.
            cors::apply(policy, &request.headers, headers);
        }
        if request.method == Method::HEAD { without_body(response) } else { response }
    }
}

/// The methods that routes take, as the field `Allow` has them.
fn listed(rules: &[Arc<Rule>]) -> String {
    methods(rules).into_iter().collect::<Vec<_>>().join(", ")
}

/// The answer to HEAD: the head alone, with the length that the body would have had (RFC 9110 9.3.2).
fn without_body(response: Response<Bytes>) -> Response<Bytes> {
    let (mut head, body) = response.into_parts();
    head.headers.insert(header::CONTENT_LENGTH, body.len().into());
    Response::from_parts(head, Bytes::new())
}

/// What a route changes of an answer. A preflight's has the policy's word already, which is the same.
fn finish(rule: &Rule, request: &HeaderMap, answer: &mut HeaderMap) {
    rule.spec.response_headers.apply(answer);
    crate::admin::remove_session_setting(answer);
    let preflight = answer.contains_key(header::ACCESS_CONTROL_ALLOW_METHODS);
    if let Some(policy) = rule.spec.cors.as_ref().filter(|_| !preflight) {
        cors::apply(policy, request, answer);
    }
}

impl Routed {
    /// Its bare name, for records.
    pub(super) fn label(&self) -> Arc<str> {
        self.rule.label.clone()
    }

    /// The path that it is for.
    pub(super) fn pattern(&self) -> Arc<str> {
        self.rule.pattern.clone()
    }

    /// Refuses a caller whose address the route does not let in.
    pub(super) fn check_address(&self, remote: IpAddr) -> Result<(), ApiError> {
        check_address(&self.rule, remote)
    }

    /// Whether anybody may call, where that is the function's own policy.
    pub(super) fn is_public(&self, function: bool) -> bool {
        match &self.rule.spec.auth {
            RouteAuth::Function => function,
            RouteAuth::Public => true,
            RouteAuth::Private | RouteAuth::Jwt | RouteAuth::Key | RouteAuth::Authorizer(_) => false,
        }
    }

    /// Which credentials it takes.
    pub(super) fn takes(&self) -> Takes {
        match &self.rule.spec.auth {
            RouteAuth::Function | RouteAuth::Public => Takes::Function,
            RouteAuth::Private => Takes::Either,
            RouteAuth::Jwt => Takes::Token,
            RouteAuth::Key => Takes::Key,
            RouteAuth::Authorizer(authorizer) => Takes::Other(authorizer.credential.clone()),
        }
    }

    /// Who says who may call, where that is a function, and the rule that says so.
    pub(super) fn authorizer(&self) -> Option<(&Rule, &Authorizer)> {
        Some((&self.rule, self.rule.spec.authorizer()?))
    }

    /// Refuses a key where only tokens are taken, a token where only keys are, and one that lacks what the route demands.
    pub(super) fn check_caller(&self, caller: &CallerIdentity) -> Result<(), ApiError> {
        match (&self.rule.spec.auth, caller) {
            (RouteAuth::Jwt, CallerIdentity::Key(_)) => Err(Takes::no_keys()),
            (RouteAuth::Key, CallerIdentity::Token(_)) => Err(Takes::no_tokens()),
            (_, CallerIdentity::Token(token)) => {
                self.rule.spec.token.as_ref().map_or(Ok(()), |demanded| token.require(demanded))
            }
            _ => Ok(()),
        }
    }

    /// What the function sees in place of what the caller sent.
    pub(super) fn to_function(&self, headers: &mut HeaderMap) {
        self.rule.spec.request_headers.apply(headers);
    }

    /// What the route changes of an answer of the function, or of the platform in its place.
    pub(super) fn to_caller(&self, request: &HeaderMap, answer: &mut HeaderMap) {
        finish(&self.rule, request, answer);
    }

    /// Whether answers are compressed.
    pub(super) fn compresses(&self) -> bool {
        self.rule.spec.compress
    }

    /// What requests are checked against.
    pub(super) fn checker(&self) -> Option<&Arc<Checker>> {
        self.rule.checker()
    }

    /// The parameters of the path by their names, as the caller wrote them.
    pub(super) fn named<'p>(&'p self, parameters: &'p Parameters) -> Vec<(&'p str, &'p str)> {
        let value = |header: &HeaderName| parameters.iter().find(|(known, _)| known == header)?.1.to_str().ok();
        self.rule.parameters().filter_map(|(name, header)| Some((name, value(header)?))).collect()
    }

    /// The route itself.
    pub(super) fn rule(&self) -> &Arc<Rule> {
        &self.rule
    }

    /// The tenant that it belongs to.
    pub(super) fn namespace(&self) -> &Namespace {
        &self.rule.name.namespace
    }

    /// The part of a caller's path that routes match.
    pub(super) fn path_of<'p>(&self, path: &'p str) -> &'p str {
        path.get(self.base..).filter(|path| !path.is_empty()).unwrap_or("/")
    }

    /// What stands before it, as the namespace is written.
    pub(super) fn base(&self) -> String {
        if self.base == 0 { String::new() } else { format!("/{}", self.namespace()) }
    }

    /// Whether answers are stored.
    pub(super) fn stores(&self) -> bool {
        self.rule.spec.cache
    }

    /// Whether a route of its namespace stores answers.
    pub(super) fn is_among_stored(&self) -> bool {
        self.among_stored
    }

    /// Whether browsers are told something even where a call fails.
    pub(super) fn has_policy(&self) -> bool {
        self.rule.spec.cors.is_some()
    }
}
