//! Routes as messages: checked on the receiving side, with every default filled in.

use std::collections::BTreeSet;

use super::{
    Authorizer, CorsPolicy, HeaderChanges, HostPattern, Network, PathPattern, RouteAuth, RouteSpec, RouteTarget,
    TokenRule, Validation,
};
use crate::{
    error::ApiError,
    ids::{AppId, RouteId},
    v1,
};

/// The most methods, and the most networks of each list.
const MOST_METHODS: usize = 20;
const MOST_NETWORKS: usize = 200;
/// The longest id of an operation, in bytes.
const MOST_ID: usize = 255;

impl TryFrom<v1::Route> for RouteSpec {
    type Error = ApiError;

    fn try_from(wire: v1::Route) -> Result<Self, ApiError> {
        let auth = auth(wire.auth, wire.authorizer)?;
        let token = token(&auth, wire.token)?;
        let path: PathPattern = wire.path.parse()?;
        let target = RouteTarget::read(wire.target, &path)?;
        if target.function().is_none() && !matches!(auth, RouteAuth::Function | RouteAuth::Public) {
            let message = "only a function can be private; what is answered without one is for everybody";
            return Err(ApiError::invalid("route.auth", message).hint("leave auth out, or restrict it with allow"));
        }
        if target.function().is_none() && wire.cache {
            let message = "only a function's answers are stored; what is answered without one costs nothing anyway";
            return Err(ApiError::invalid("route.cache", message).hint("leave cache out"));
        }
        if target.function().is_none() && wire.validation.is_some() {
            let message = "only requests for a function are validated; what is answered without one depends on none";
            return Err(ApiError::invalid("route.validation", message).hint("leave validation out"));
        }
        let validation = wire.validation.map(|wire| Validation::read(wire, &path)).transpose()?;
        Ok(Self {
            host: host(&wire.host)?,
            methods: methods("route.methods", &wire.methods)?,
            path,
            target,
            auth,
            token,
            request_headers: changes("route.request_headers", wire.request_headers)?,
            response_headers: changes("route.response_headers", wire.response_headers)?,
            allow: networks("route.allow", &wire.allow)?,
            deny: networks("route.deny", &wire.deny)?,
            cors: wire.cors.map(CorsPolicy::try_from).transpose()?,
            compress: wire.compress,
            cache: wire.cache,
            validation: validation.filter(|validation| !validation.is_empty()),
            api: api(&wire.api)?,
            app: app(&wire.app)?,
            operation_id: operation_id(wire.operation_id)?,
        })
    }
}

/// What is not known here is refused: a newer software may mean something stricter than the default.
fn auth(wire: i32, authorizer: Option<v1::Authorizer>) -> Result<RouteAuth, ApiError> {
    let wire = v1::RouteAuth::try_from(wire)
        .map_err(|_| ApiError::invalid("route.auth", format!("auth has the value {wire}, which is not known here")))?;
    if authorizer.is_some() && wire != v1::RouteAuth::Authorizer {
        let error = ApiError::invalid("route.authorizer", "the route names an authorizer, but its auth is another one");
        return Err(error.hint("set auth to authorizer, or leave the authorizer out"));
    }
    Ok(match wire {
        v1::RouteAuth::Unspecified => RouteAuth::Function,
        v1::RouteAuth::Public => RouteAuth::Public,
        v1::RouteAuth::Private => RouteAuth::Private,
        v1::RouteAuth::Jwt => RouteAuth::Jwt,
        v1::RouteAuth::Key => RouteAuth::Key,
        v1::RouteAuth::Authorizer => RouteAuth::Authorizer(Authorizer::read(authorizer)?),
    })
}

/// A rule for tokens where none is taken is a mistake that would let callers in.
fn token(auth: &RouteAuth, wire: Option<v1::TokenRule>) -> Result<Option<TokenRule>, ApiError> {
    if wire.is_some() && !matches!(auth, RouteAuth::Private | RouteAuth::Jwt) {
        let error =
            ApiError::invalid("route.token", "the route has a rule for tokens, but its auth does not take them");
        return Err(error.hint("set auth to jwt or private, or leave the rule out"));
    }
    wire.map(TokenRule::read).transpose()
}

fn host(text: &str) -> Result<Option<HostPattern>, ApiError> {
    let read = |text: &str| text.parse::<HostPattern>().map_err(|error| ApiError::invalid("route.host", error));
    if text.is_empty() { Ok(None) } else { read(text).map(Some) }
}

fn api(text: &str) -> Result<Option<RouteId>, ApiError> {
    let read = |text: &str| text.parse::<RouteId>().map_err(|error| ApiError::invalid("route.api", error));
    if text.is_empty() { Ok(None) } else { read(text).map(Some) }
}

fn app(text: &str) -> Result<Option<AppId>, ApiError> {
    let read = |text: &str| text.parse::<AppId>().map_err(|error| ApiError::invalid("route.app", error));
    if text.is_empty() { Ok(None) } else { read(text).map(Some) }
}

fn operation_id(text: String) -> Result<String, ApiError> {
    if text.len() <= MOST_ID && !text.chars().any(char::is_control) {
        return Ok(text);
    }
    let message = format!("an operationId has {MOST_ID} bytes at most, and no control characters");
    Err(ApiError::invalid("route.operation_id", message))
}

fn changes(field: &str, wire: Option<v1::HeaderChanges>) -> Result<HeaderChanges, ApiError> {
    HeaderChanges::read(field, wire.unwrap_or_default())
}

fn networks(field: &str, texts: &[String]) -> Result<Vec<Network>, ApiError> {
    if texts.len() > MOST_NETWORKS {
        return Err(ApiError::invalid(field, format!("{field} may have {MOST_NETWORKS} entries at most")));
    }
    texts.iter().map(|text| text.parse::<Network>().map_err(|error| ApiError::invalid(field, error))).collect()
}

/// Methods have a case (RFC 9110 9.1), and all that are in use are in upper case; `get` is a mistake.
pub(super) fn methods(field: &str, texts: &[String]) -> Result<BTreeSet<String>, ApiError> {
    let fine = |text: &&String| {
        let letters = text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-');
        (1..=32).contains(&text.len()) && letters
    };
    if texts.len() > MOST_METHODS {
        return Err(ApiError::invalid(field, format!("{field} may have {MOST_METHODS} entries at most")));
    }
    if let Some(bad) = texts.iter().find(|text| !fine(text)) {
        let bad: String = bad.chars().take(40).collect();
        return Err(ApiError::invalid(field, format!("{bad:?} is no method; write for example GET, in upper case")));
    }
    // No gateway serves these.
    if let Some(bad) = texts.iter().find(|text| matches!(text.as_str(), "TRACE" | "CONNECT")) {
        return Err(ApiError::invalid(field, format!("the method {bad} is not served")));
    }
    Ok(texts.iter().cloned().collect())
}

/// A route without its name and times.
impl From<&RouteSpec> for v1::Route {
    fn from(spec: &RouteSpec) -> Self {
        let auth = match spec.auth {
            RouteAuth::Function => v1::RouteAuth::Unspecified,
            RouteAuth::Public => v1::RouteAuth::Public,
            RouteAuth::Private => v1::RouteAuth::Private,
            RouteAuth::Jwt => v1::RouteAuth::Jwt,
            RouteAuth::Key => v1::RouteAuth::Key,
            RouteAuth::Authorizer(_) => v1::RouteAuth::Authorizer,
        };
        Self {
            host: spec.host.as_ref().map(ToString::to_string).unwrap_or_default(),
            methods: spec.methods.iter().cloned().collect(),
            path: spec.path.to_string(),
            target: Some(spec.target.to_wire()),
            auth: auth.into(),
            request_headers: spec.request_headers.to_wire(),
            response_headers: spec.response_headers.to_wire(),
            allow: spec.allow.iter().map(ToString::to_string).collect(),
            deny: spec.deny.iter().map(ToString::to_string).collect(),
            cors: spec.cors.as_ref().map(v1::CorsPolicy::from),
            compress: spec.compress,
            cache: spec.cache,
            token: spec.token.as_ref().map(v1::TokenRule::from),
            authorizer: spec.authorizer().map(v1::Authorizer::from),
            validation: spec.validation.as_ref().map(v1::Validation::from),
            api: spec.api.as_ref().map(ToString::to_string).unwrap_or_default(),
            app: spec.app.as_ref().map(ToString::to_string).unwrap_or_default(),
            operation_id: spec.operation_id.clone(),
            ..Self::default()
        }
    }
}
