//! What a route is, validated: for which requests it is, and what becomes of them.
//!
//! The scheduler checks a route with it when it is put, and gateways once more when they hear of it. Which route a request
//! takes is the gateway's to find out; when two can't be there at once is decided here, in [`RouteSpec::conflicts`].

mod authorizer;
mod cors;
mod headers;
mod host;
mod network;
mod pattern;
mod purge;
mod target;
mod template;
mod token;
mod validation;
mod wire;

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};

use crate::ids::{AppId, FunctionName, RouteId};

pub use authorizer::{Authorizer, CredentialSource, InvalidCredentialSource};
pub use cors::{CorsPolicy, OriginPattern};
pub use headers::{AddedHeader, HeaderChanges};
pub use host::HostPattern;
pub use network::Network;
pub use pattern::{ParameterName, PathPattern, Segment, Tail};
pub use purge::{Purge, Purged};
pub use target::{Redirect, RouteTarget, StaticResponse};
pub use template::PathTemplate;
pub use token::TokenRule;
pub use validation::{BodyRule, MediaTypeRule, ParameterPlace, ParameterRule, ParameterStyle, Validation};

/// A route without its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteSpec {
    /// The hosts that it is for; nothing means all domains of the namespace, and shared hosts.
    pub host: Option<HostPattern>,
    /// The methods that it is for; empty means all.
    pub methods: BTreeSet<String>,
    /// The paths that it is for.
    pub path: PathPattern,
    /// What becomes of the requests.
    pub target: RouteTarget,
    /// Who may call.
    pub auth: RouteAuth,
    /// What a caller's token must say; nothing means that any token of the namespace will do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<TokenRule>,
    /// What is changed of the headers that the function sees.
    pub request_headers: HeaderChanges,
    /// What is changed of the headers that the caller sees.
    pub response_headers: HeaderChanges,
    /// Who may call, by address; empty means all.
    pub allow: Vec<Network>,
    /// Who may not, whatever `allow` says.
    pub deny: Vec<Network>,
    /// Which pages of other origins may call it.
    pub cors: Option<CorsPolicy>,
    /// Answers are compressed for callers that accept it.
    #[serde(default)]
    pub compress: bool,
    /// Answers of the function are stored as far as they allow it.
    #[serde(default)]
    pub cache: bool,
    /// What requests must be like; nothing means that anything goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<Validation>,
    /// The API that it was imported with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api: Option<RouteId>,
    /// The app that declares it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<AppId>,
    /// The `operationId` that it was imported with, where its name does not say it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub operation_id: String,
}

/// Who may call through a route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RouteAuth {
    /// Whom the function lets call.
    Function,
    /// Anybody.
    Public,
    /// Who has a token or key of the namespace.
    Private,
    /// Who has a token of the namespace.
    Jwt,
    /// Who has a key of the namespace.
    Key,
    /// Whom a function lets call.
    Authorizer(Authorizer),
}

impl RouteSpec {
    /// The most routes of a namespace.
    pub const MOST: usize = 1_000;
    /// The most bytes that the schemas of a namespace's routes have together: every gateway keeps all of them.
    pub const MOST_SCHEMA_BYTES: usize = 4 << 20;

    /// The size of its schemas.
    #[must_use]
    pub fn schema_bytes(&self) -> usize {
        self.validation.iter().flat_map(Validation::schemas).map(|(_, schema)| schema.len()).sum()
    }

    /// Whether nothing decides between this route and another one of the same namespace.
    #[must_use]
    pub fn conflicts(&self, other: &Self) -> bool {
        let both_all = self.methods.is_empty() && other.methods.is_empty();
        let same_methods = both_all || !self.methods.is_disjoint(&other.methods);
        self.host == other.host && same_methods && self.path.shape() == other.path.shape()
    }

    /// Who says who may call, where that is a function.
    #[must_use]
    pub fn authorizer(&self) -> Option<&Authorizer> {
        match &self.auth {
            RouteAuth::Authorizer(authorizer) => Some(authorizer),
            RouteAuth::Function | RouteAuth::Public | RouteAuth::Private | RouteAuth::Jwt | RouteAuth::Key => None,
        }
    }

    /// Whether it names a function: to call it, or to ask it who may call.
    #[must_use]
    pub fn names(&self, function: &FunctionName) -> bool {
        let authorizer = self.authorizer().map(|authorizer| &authorizer.function);
        self.target.function() == Some(function) || authorizer == Some(function)
    }

    /// Whether a caller with this address may call.
    #[must_use]
    pub fn admits(&self, address: std::net::IpAddr) -> bool {
        // An address of IPv4 that came over a socket of IPv6 is the same address.
        let address = address.to_canonical();
        let among = |networks: &[Network]| networks.iter().any(|network| network.contains(address));
        !among(&self.deny) && (self.allow.is_empty() || among(&self.allow))
    }
}

/// As in `GET,POST api.example.com/users/{id}`.
impl fmt::Display for RouteSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, method) in self.methods.iter().enumerate() {
            write!(f, "{}{method}", if at > 0 { "," } else { "" })?;
        }
        let space = if self.methods.is_empty() { "" } else { " " };
        let host = self.host.as_ref().map(ToString::to_string).unwrap_or_default();
        write!(f, "{space}{host}{}", self.path)
    }
}

#[cfg(test)]
mod tests;
