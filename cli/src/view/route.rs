//! Routes, as shown.

use std::collections::BTreeMap;

use dunlin_proto::v1;
use serde::Serialize;

use super::{Millis, Time, age, or_dash, part};
use crate::output::Column;

/// Which requests become what.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct RouteView {
    pub(crate) resource: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) host: String,
    pub(crate) methods: Vec<String>,
    pub(crate) path: String,
    pub(crate) target: TargetView,
    pub(crate) auth: &'static str,
    pub(crate) authorizer: Option<AuthorizerView>,
    pub(crate) token: Option<TokenRuleView>,
    pub(crate) request_headers: ChangesView,
    pub(crate) response_headers: ChangesView,
    pub(crate) allow: Vec<String>,
    pub(crate) deny: Vec<String>,
    pub(crate) cors: Option<CorsView>,
    pub(crate) compress: bool,
    pub(crate) cache: bool,
    pub(crate) validates: bool,
    pub(crate) api: String,
    pub(crate) app: String,
    pub(crate) creator: String,
    pub(crate) create_time: Option<Time>,
    pub(crate) update_time: Option<Time>,
}

/// What becomes of a request.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(crate) enum TargetView {
    Function { function: String, alias: String, rewrite: String },
    Response { status: u32, content_type: String, body: String },
    Redirect { location: String, status: u32 },
    Unknown,
}

/// The function that says who may call.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct AuthorizerView {
    pub(crate) function: String,
    pub(crate) ttl_ms: Millis,
    pub(crate) credential: String,
}

/// What a caller's token must say.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct TokenRuleView {
    pub(crate) issuers: Vec<String>,
    pub(crate) audiences: Vec<String>,
    pub(crate) scopes: Vec<String>,
    pub(crate) claims: BTreeMap<String, Vec<String>>,
}

/// What is changed of headers.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct ChangesView {
    pub(crate) remove: Vec<String>,
    pub(crate) add: Vec<AddedView>,
}

/// A header that is added.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct AddedView {
    pub(crate) name: String,
    pub(crate) value: String,
}

/// Which pages of other origins may call.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct CorsView {
    pub(crate) allow_origins: Vec<String>,
    pub(crate) allow_methods: Vec<String>,
    pub(crate) allow_headers: Vec<String>,
    pub(crate) expose_headers: Vec<String>,
    pub(crate) allow_credentials: bool,
    pub(crate) max_age_ms: Option<Millis>,
}

impl From<v1::Route> for RouteView {
    fn from(route: v1::Route) -> Self {
        Self {
            auth: auth(route.auth()),
            authorizer: route.authorizer.map(AuthorizerView::from),
            token: route.token.map(TokenRuleView::from),
            namespace: part(&route.name, "namespaces"),
            name: part(&route.name, "routes"),
            resource: route.name,
            host: route.host,
            methods: route.methods,
            path: route.path,
            target: route.target.map_or(TargetView::Unknown, TargetView::from),
            request_headers: route.request_headers.map(ChangesView::from).unwrap_or_default(),
            response_headers: route.response_headers.map(ChangesView::from).unwrap_or_default(),
            allow: route.allow,
            deny: route.deny,
            cors: route.cors.map(CorsView::from),
            compress: route.compress,
            cache: route.cache,
            validates: route.validation.is_some(),
            api: route.api,
            app: route.app,
            creator: route.creator,
            create_time: Time::from_wire(route.create_time),
            update_time: Time::from_wire(route.update_time),
        }
    }
}

fn auth(auth: v1::RouteAuth) -> &'static str {
    match auth {
        v1::RouteAuth::Unspecified => "function",
        v1::RouteAuth::Public => "public",
        v1::RouteAuth::Private => "private",
        v1::RouteAuth::Jwt => "jwt",
        v1::RouteAuth::Key => "key",
        v1::RouteAuth::Authorizer => "authorizer",
    }
}

impl From<v1::Authorizer> for AuthorizerView {
    fn from(v1::Authorizer { function, ttl, credential }: v1::Authorizer) -> Self {
        Self { function, ttl_ms: Millis::from_wire(ttl), credential }
    }
}

impl From<v1::TokenRule> for TokenRuleView {
    fn from(v1::TokenRule { issuers, audiences, scopes, claims }: v1::TokenRule) -> Self {
        let claims = claims.into_iter().map(|v1::ClaimRule { name, values }| (name, values)).collect();
        Self { issuers, audiences, scopes, claims }
    }
}

impl From<v1::route::Target> for TargetView {
    fn from(target: v1::route::Target) -> Self {
        match target {
            v1::route::Target::Function(v1::FunctionTarget { function, rewrite, alias }) => {
                Self::Function { function, alias, rewrite }
            }
            v1::route::Target::Redirect(v1::Redirect { location, status }) => Self::Redirect { location, status },
            v1::route::Target::Response(v1::StaticResponse { status, content_type, body }) => {
                Self::Response { status, content_type, body: String::from_utf8_lossy(&body).into_owned() }
            }
        }
    }
}

impl From<v1::HeaderChanges> for ChangesView {
    fn from(changes: v1::HeaderChanges) -> Self {
        let added = |v1::AddedHeader { name, value }| AddedView { name, value };
        Self { remove: changes.remove, add: changes.add.into_iter().map(added).collect() }
    }
}

impl From<v1::CorsPolicy> for CorsView {
    fn from(policy: v1::CorsPolicy) -> Self {
        Self {
            allow_origins: policy.allow_origins,
            allow_methods: policy.allow_methods,
            allow_headers: policy.allow_headers,
            expose_headers: policy.expose_headers,
            allow_credentials: policy.allow_credentials,
            max_age_ms: policy.max_age.map(|age| Millis::from_wire(Some(age))),
        }
    }
}

impl RouteView {
    /// What becomes of its requests, in a few words.
    pub(crate) fn target_text(&self) -> String {
        match &self.target {
            TargetView::Function { function, alias, rewrite } => {
                let alias = if alias.is_empty() { String::new() } else { format!(":{alias}") };
                let rewrite = if rewrite.is_empty() { String::new() } else { format!(" as {rewrite}") };
                format!("function {function}{alias}{rewrite}")
            }
            TargetView::Response { status, .. } => format!("status {status}"),
            TargetView::Redirect { location, status } => format!("{status} to {location}"),
            TargetView::Unknown => "unknown".to_owned(),
        }
    }

    /// Who may call, as `--auth` takes it.
    pub(crate) fn auth_text(&self) -> String {
        match &self.authorizer {
            Some(authorizer) => format!("function:{}", authorizer.function),
            None if self.token.is_some() => format!("{} with claims", self.auth),
            None => self.auth.to_owned(),
        }
    }

    /// All of it, in a few words.
    pub(crate) fn summary(&self) -> String {
        let methods = if self.methods.is_empty() { String::new() } else { self.methods.join(",") + " " };
        format!("{methods}{}{} -> {}", self.host, self.path, self.target_text())
    }
}

/// The columns of a list of routes.
pub(crate) const ROUTES: &[Column<RouteView>] = &[
    Column::new("NAME", |route| route.name.clone()),
    Column::new("METHODS", |route| if route.methods.is_empty() { "all".to_owned() } else { route.methods.join(",") }),
    Column::new("HOST", |route| or_dash(&route.host)),
    Column::new("PATH", |route| route.path.clone()),
    Column::new("TARGET", RouteView::target_text),
    Column::new("AUTH", RouteView::auth_text),
    Column::new("UPDATED", |route| age(route.update_time)),
    Column::wide("ALLOW", |route| or_dash(&route.allow.join(" "))),
    Column::wide("DENY", |route| or_dash(&route.deny.join(" "))),
    Column::wide("SCOPES", |route| {
        or_dash(&route.token.as_ref().map(|rule| rule.scopes.join(" ")).unwrap_or_default())
    }),
    Column::wide("ORIGINS", |route| {
        or_dash(&route.cors.as_ref().map(|cors| cors.allow_origins.join(" ")).unwrap_or_default())
    }),
    Column::wide("VALIDATES", |route| if route.validates { "yes".to_owned() } else { "no".to_owned() }),
    Column::wide("API", |route| or_dash(&route.api)),
    Column::wide("APP", |route| or_dash(&route.app)),
    Column::wide("BY", |route| or_dash(&route.creator)),
];
