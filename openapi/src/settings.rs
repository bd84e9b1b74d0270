//! `x-dunlin-route`: what a route can say and OpenAPI can't.

use std::collections::BTreeMap;

use dunlin_proto::v1::{self, route::Target};
use prost_types::Duration;
use serde::{Deserialize, Serialize};

/// The extension's name.
pub(crate) const ROUTE: &str = "x-dunlin-route";
/// The extension that names the function: `NAME` or `NAME:ALIAS`.
pub(crate) const FUNCTION: &str = "x-dunlin-function";
/// Beside the methods of a path: the operation for all of them.
pub(crate) const ANY_METHOD: &str = "x-dunlin-any-method";
/// In the document: operations that have no place under `paths`, such as those of several hosts at one path.
pub(crate) const ROUTES: &str = "x-dunlin-routes";

/// Settings of an operation's route.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) host: Option<String>,
    /// Instead of the document's, without the base path of its servers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) path: Option<String>,
    /// Instead of the document's; an empty list means all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) methods: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rewrite: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) respond: Option<Respond>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) redirect: Option<Redirect>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) request_headers: Option<Changes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) response_headers: Option<Changes>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) allow: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) deny: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cors: Option<Cors>,
    /// Instead of what `security` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) authorizer: Option<Authorizer>,
    /// What tokens must say beside the scopes in `security`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<Token>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) compress: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) cache: bool,
}

/// An answer without a function.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Respond {
    status: u32,
    content_type: String,
    body: String,
}

/// An answer that sends the caller elsewhere.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Redirect {
    location: String,
    #[serde(default)]
    status: u32,
}

/// What is changed of headers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Changes {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    remove: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    add: Vec<Added>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Added {
    name: String,
    value: String,
}

/// A function that says who may call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Authorizer {
    function: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl_seconds: Option<u32>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    credential: String,
}

/// What tokens must say.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Token {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    issuers: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    audiences: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    claims: BTreeMap<String, Vec<String>>,
}

/// Which pages of other origins may call.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Cors {
    allow_origins: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    allow_methods: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    allow_headers: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    expose_headers: Vec<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    allow_credentials: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_age_seconds: Option<u32>,
}

impl Settings {
    /// Those of a route, but for its name, path and methods.
    pub(crate) fn of(route: &v1::Route) -> Self {
        let mut settings = Self {
            host: Some(route.host.clone()).filter(|host| !host.is_empty()),
            request_headers: route.request_headers.as_ref().and_then(Changes::of),
            response_headers: route.response_headers.as_ref().and_then(Changes::of),
            allow: route.allow.clone(),
            deny: route.deny.clone(),
            cors: route.cors.as_ref().map(Cors::of),
            authorizer: route.authorizer.as_ref().map(Authorizer::of),
            token: route.token.as_ref().and_then(Token::of),
            compress: route.compress,
            cache: route.cache,
            ..Self::default()
        };
        match &route.target {
            Some(Target::Function(target)) => {
                settings.rewrite = Some(target.rewrite.clone()).filter(|path| !path.is_empty());
            }
            Some(Target::Response(v1::StaticResponse { status, content_type, body })) => {
                let body = String::from_utf8_lossy(body).into_owned();
                settings.respond = Some(Respond { status: *status, content_type: content_type.clone(), body });
            }
            Some(Target::Redirect(v1::Redirect { location, status })) => {
                settings.redirect = Some(Redirect { location: location.clone(), status: *status });
            }
            None => {}
        }
        settings
    }

    /// The route's target, where it is none of the namespace's functions.
    pub(crate) fn answer(&self) -> Option<Target> {
        let respond = self.respond.clone().map(|Respond { status, content_type, body }| {
            Target::Response(v1::StaticResponse { status, content_type, body: body.into() })
        });
        respond.or_else(|| {
            let Redirect { location, status } = self.redirect.clone()?;
            Some(Target::Redirect(v1::Redirect { location, status }))
        })
    }

    /// Fills in what they say.
    pub(crate) fn apply(self, route: &mut v1::Route) {
        route.host = self.host.unwrap_or_default();
        route.request_headers = self.request_headers.map(Changes::into_message);
        route.response_headers = self.response_headers.map(Changes::into_message);
        route.allow = self.allow;
        route.deny = self.deny;
        route.cors = self.cors.map(Cors::into_message);
        if let Some(authorizer) = self.authorizer {
            route.auth = v1::RouteAuth::Authorizer.into();
            route.authorizer = Some(authorizer.into_message());
            route.token = None;
        }
        if let Some(token) = self.token {
            token.apply(route);
        }
        route.compress = self.compress;
        route.cache = self.cache;
    }
}

impl Changes {
    fn of(changes: &v1::HeaderChanges) -> Option<Self> {
        let added =
            |v1::AddedHeader { name, value }: &v1::AddedHeader| Added { name: name.clone(), value: value.clone() };
        let changes = Self { remove: changes.remove.clone(), add: changes.add.iter().map(added).collect() };
        Some(changes).filter(|changes| *changes != Self::default())
    }

    fn into_message(self) -> v1::HeaderChanges {
        let added = |Added { name, value }| v1::AddedHeader { name, value };
        v1::HeaderChanges { remove: self.remove, add: self.add.into_iter().map(added).collect() }
    }
}

impl Authorizer {
    fn of(authorizer: &v1::Authorizer) -> Self {
        Self {
            function: authorizer.function.clone(),
            ttl_seconds: authorizer.ttl.as_ref().map(|ttl| u32::try_from(ttl.seconds).unwrap_or_default()),
            credential: authorizer.credential.clone(),
        }
    }

    fn into_message(self) -> v1::Authorizer {
        v1::Authorizer {
            function: self.function,
            ttl: self.ttl_seconds.map(|seconds| Duration { seconds: seconds.into(), nanos: 0 }),
            credential: self.credential,
        }
    }
}

impl Token {
    fn of(rule: &v1::TokenRule) -> Option<Self> {
        let claim = |rule: &v1::ClaimRule| (rule.name.clone(), rule.values.clone());
        let claims = rule.claims.iter().map(claim).collect();
        let token = Self { issuers: rule.issuers.clone(), audiences: rule.audiences.clone(), claims };
        Some(token).filter(|token| *token != Self::default())
    }

    /// Adds it to what `security` says.
    fn apply(self, route: &mut v1::Route) {
        let rule = route.token.get_or_insert_default();
        (rule.issuers, rule.audiences) = (self.issuers, self.audiences);
        rule.claims = self.claims.into_iter().map(|(name, values)| v1::ClaimRule { name, values }).collect();
    }
}

impl Cors {
    fn of(policy: &v1::CorsPolicy) -> Self {
        Self {
            allow_origins: policy.allow_origins.clone(),
            allow_methods: policy.allow_methods.clone(),
            allow_headers: policy.allow_headers.clone(),
            expose_headers: policy.expose_headers.clone(),
            allow_credentials: policy.allow_credentials,
            max_age_seconds: policy.max_age.as_ref().map(|age| u32::try_from(age.seconds).unwrap_or_default()),
        }
    }

    fn into_message(self) -> v1::CorsPolicy {
        v1::CorsPolicy {
            allow_origins: self.allow_origins,
            allow_methods: self.allow_methods,
            allow_headers: self.allow_headers,
            expose_headers: self.expose_headers,
            allow_credentials: self.allow_credentials,
            max_age: self.max_age_seconds.map(|seconds| Duration { seconds: seconds.into(), nanos: 0 }),
        }
    }
}
