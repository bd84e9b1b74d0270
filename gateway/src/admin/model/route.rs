//! Routes, as administration shows them, and what of a route it takes in.

use dunlin_proto::v1;
use prost_types::Duration;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Time, id_in, token_rule::TokenRule, validation::Validation};

/// Which requests become what.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Route {
    /// `namespaces/{namespace}/routes/{route}`.
    pub(crate) name: String,
    /// The namespace's bare name.
    pub(crate) namespace: String,
    /// The route's bare name.
    pub(crate) route: String,
    /// What it does.
    pub(crate) spec: RouteSpec,
    /// When it was made.
    pub(crate) create_time: Option<Time>,
    /// When it was last put.
    pub(crate) update_time: Option<Time>,
    /// Who put it.
    pub(crate) creator: String,
}

/// For which requests a route is, and what becomes of them.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RouteSpec {
    /// Such as `api.example.com` or `*.example.com`, on a domain of the namespace; empty means all of them and shared hosts.
    #[serde(default)]
    #[schema(max_length = 255, required = false)]
    pub(crate) host: String,
    /// Such as `GET`; empty means all.
    #[serde(default)]
    #[schema(max_items = 20, required = false)]
    pub(crate) methods: Vec<String>,
    /// Such as `/users/{id}`, `/files/{path+}` or `/static/{path*}`.
    #[schema(max_length = 1024, example = "/users/{id}")]
    pub(crate) path: String,
    /// What becomes of the requests.
    pub(crate) target: RouteTarget,
    /// Who may call.
    #[serde(default)]
    #[schema(required = false)]
    pub(crate) auth: RouteAuth,
    /// Who says who may call, where `auth` is `authorizer`; null otherwise.
    #[serde(default)]
    #[schema(required = false)]
    pub(crate) authorizer: Option<Authorizer>,
    /// What a caller's token must say, where `auth` takes tokens; null means that any token of the namespace will do.
    #[serde(default)]
    #[schema(required = false)]
    pub(crate) token: Option<TokenRule>,
    /// What is changed of the headers that the function sees.
    #[serde(default)]
    #[schema(required = false)]
    pub(crate) request_headers: HeaderChanges,
    /// What is changed of the headers that the caller sees.
    #[serde(default)]
    #[schema(required = false)]
    pub(crate) response_headers: HeaderChanges,
    /// Addresses and networks that may call; empty means all.
    #[serde(default)]
    #[schema(max_items = 200, required = false)]
    pub(crate) allow: Vec<String>,
    /// Those that may not.
    #[serde(default)]
    #[schema(max_items = 200, required = false)]
    pub(crate) deny: Vec<String>,
    /// Which pages of other origins may call; null leaves that to the function.
    #[serde(default)]
    #[schema(required = false)]
    pub(crate) cors: Option<CorsPolicy>,
    /// Answers are compressed for callers that accept it.
    #[serde(default)]
    #[schema(required = false)]
    pub(crate) compress: bool,
    /// Answers of the function are stored as far as they allow it.
    #[serde(default)]
    #[schema(required = false)]
    pub(crate) cache: bool,
    /// What requests must be like; null means that anything goes.
    #[serde(default)]
    #[schema(required = false)]
    pub(crate) validation: Option<Validation>,
    /// The API that it was imported with; empty where it was put alone.
    #[serde(default)]
    #[schema(pattern = "^([a-z](-?[a-z0-9])*)?$", max_length = 63, required = false)]
    pub(crate) api: String,
    /// The app that declares it; empty where none does.
    #[serde(default)]
    #[schema(pattern = "^([a-z](-?[a-z0-9])*)?$", max_length = 63, required = false)]
    pub(crate) app: String,
    /// The `operationId` that it was imported with, where its name does not say it; exported again.
    #[serde(default)]
    #[schema(max_length = 255, required = false)]
    pub(crate) operation_id: String,
}

/// What becomes of a request.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum RouteTarget {
    /// A function is called.
    Function {
        /// Its bare name.
        #[schema(pattern = "^[a-z](-?[a-z0-9])*$", min_length = 1, max_length = 32, example = "checkout")]
        function: String,
        /// One of its aliases; empty means its own traffic.
        #[serde(default)]
        #[schema(pattern = "^([a-z](-?[a-z0-9])*)?$", max_length = 32, required = false, example = "beta")]
        alias: String,
        /// The path that it sees; empty means the caller's.
        #[serde(default)]
        #[schema(max_length = 2048, required = false)]
        rewrite: String,
    },
    /// The gateway answers.
    Response {
        /// From 200 to 599; 0 means 200.
        #[serde(default)]
        #[schema(required = false, example = 200)]
        status: u32,
        /// Empty means text.
        #[serde(default)]
        #[schema(max_length = 256, required = false)]
        content_type: String,
        /// Text.
        #[serde(default)]
        #[schema(max_length = 16384, required = false)]
        body: String,
    },
    /// The gateway sends the caller elsewhere.
    Redirect {
        /// A path or URL with the path's parameters.
        #[schema(max_length = 2048, example = "https://www.example.com/{path}")]
        location: String,
        /// 301, 302, 303, 307 or 308; 0 means 308.
        #[serde(default)]
        #[schema(required = false, example = 308)]
        status: u32,
    },
}

/// Nothing that a route could have: what is left out is refused.
impl Default for RouteTarget {
    fn default() -> Self {
        Self::Function { function: String::new(), alias: String::new(), rewrite: String::new() }
    }
}

/// Who may call through a route.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RouteAuth {
    /// Whom the function lets call.
    #[default]
    Function,
    /// Anybody.
    Public,
    /// Who has a token or key of the namespace.
    Private,
    /// Who has a token of the namespace.
    Jwt,
    /// Whom the authorizer lets call.
    Authorizer,
    /// Who has a key of the namespace.
    Key,
}

/// The function that says who may call.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Authorizer {
    /// Its bare name.
    #[schema(pattern = "^[a-z](-?[a-z0-9])*$", min_length = 1, max_length = 32, example = "verify")]
    pub(crate) function: String,
    /// How long a verdict counts for the same credential, in seconds; null means 60, and with 0 each request is asked about.
    #[serde(default)]
    #[schema(maximum = 3600, required = false)]
    pub(crate) ttl_seconds: Option<u32>,
    /// `header:NAME`, `cookie:NAME` or `query:NAME`; empty means `header:authorization`.
    #[serde(default)]
    #[schema(max_length = 71, required = false, example = "cookie:session")]
    pub(crate) credential: String,
}

/// What is changed of headers: first the removals, then what is added.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct HeaderChanges {
    /// Names.
    #[serde(default)]
    #[schema(max_items = 20, required = false)]
    pub(crate) remove: Vec<String>,
    /// What is added.
    #[serde(default)]
    #[schema(max_items = 20, required = false)]
    pub(crate) add: Vec<AddedHeader>,
}

/// A header that is added.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AddedHeader {
    /// Its name.
    #[schema(example = "x-tier")]
    pub(crate) name: String,
    /// Visible ASCII.
    #[schema(max_length = 4096)]
    pub(crate) value: String,
}

/// Which pages of other origins may call.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CorsPolicy {
    /// Such as `https://app.example.com`, `https://*.example.com` or `*`.
    #[schema(min_items = 1, max_items = 50)]
    pub(crate) allow_origins: Vec<String>,
    /// Empty means those of the route.
    #[serde(default)]
    #[schema(max_items = 20, required = false)]
    pub(crate) allow_methods: Vec<String>,
    /// `*` means all that are asked for.
    #[serde(default)]
    #[schema(max_items = 50, required = false)]
    pub(crate) allow_headers: Vec<String>,
    /// Headers of answers that pages may read.
    #[serde(default)]
    #[schema(max_items = 50, required = false)]
    pub(crate) expose_headers: Vec<String>,
    /// Whether cookies and other credentials may be sent.
    #[serde(default)]
    #[schema(required = false)]
    pub(crate) allow_credentials: bool,
    /// How long browsers may remember a preflight, in seconds.
    #[serde(default)]
    #[schema(maximum = 86_400, required = false)]
    pub(crate) max_age_seconds: Option<u32>,
}

impl From<v1::Route> for Route {
    fn from(wire: v1::Route) -> Self {
        let auth = match wire.auth() {
            v1::RouteAuth::Unspecified => RouteAuth::Function,
            v1::RouteAuth::Public => RouteAuth::Public,
            v1::RouteAuth::Private => RouteAuth::Private,
            v1::RouteAuth::Jwt => RouteAuth::Jwt,
            v1::RouteAuth::Key => RouteAuth::Key,
            v1::RouteAuth::Authorizer => RouteAuth::Authorizer,
        };
        Self {
            namespace: id_in(&wire.name, "namespaces").to_owned(),
            route: id_in(&wire.name, "routes").to_owned(),
            name: wire.name,
            spec: RouteSpec {
                host: wire.host,
                methods: wire.methods,
                path: wire.path,
                target: wire.target.map(RouteTarget::from).unwrap_or_default(),
                auth,
                authorizer: wire.authorizer.map(Authorizer::from),
                token: wire.token.map(TokenRule::from),
                request_headers: wire.request_headers.map(HeaderChanges::from).unwrap_or_default(),
                response_headers: wire.response_headers.map(HeaderChanges::from).unwrap_or_default(),
                allow: wire.allow,
                deny: wire.deny,
                cors: wire.cors.map(CorsPolicy::from),
                compress: wire.compress,
                cache: wire.cache,
                validation: wire.validation.map(Validation::from),
                api: wire.api,
                app: wire.app,
                operation_id: wire.operation_id,
            },
            create_time: wire.create_time.map(Time::from),
            update_time: wire.update_time.map(Time::from),
            creator: wire.creator,
        }
    }
}

impl RouteSpec {
    /// The message that asks for it under a resource name.
    pub(crate) fn into_message(self, name: String) -> v1::Route {
        let auth = match self.auth {
            RouteAuth::Function => v1::RouteAuth::Unspecified,
            RouteAuth::Public => v1::RouteAuth::Public,
            RouteAuth::Private => v1::RouteAuth::Private,
            RouteAuth::Jwt => v1::RouteAuth::Jwt,
            RouteAuth::Key => v1::RouteAuth::Key,
            RouteAuth::Authorizer => v1::RouteAuth::Authorizer,
        };
        v1::Route {
            name,
            host: self.host,
            methods: self.methods,
            path: self.path,
            target: Some(self.target.into()),
            auth: auth.into(),
            authorizer: self.authorizer.map(v1::Authorizer::from),
            token: self.token.map(v1::TokenRule::from),
            request_headers: Some(self.request_headers.into()),
            response_headers: Some(self.response_headers.into()),
            allow: self.allow,
            deny: self.deny,
            cors: self.cors.map(v1::CorsPolicy::from),
            compress: self.compress,
            cache: self.cache,
            validation: self.validation.map(v1::Validation::from),
            api: self.api,
            app: self.app,
            operation_id: self.operation_id,
            ..Default::default()
        }
    }
}

impl From<v1::route::Target> for RouteTarget {
    fn from(wire: v1::route::Target) -> Self {
        use v1::route::Target;
        match wire {
            Target::Function(v1::FunctionTarget { function, rewrite, alias }) => {
                Self::Function { function, alias, rewrite }
            }
            Target::Redirect(v1::Redirect { location, status }) => Self::Redirect { location, status },
            Target::Response(v1::StaticResponse { status, content_type, body }) => {
                Self::Response { status, content_type, body: String::from_utf8_lossy(&body).into_owned() }
            }
        }
    }
}

impl From<RouteTarget> for v1::route::Target {
    fn from(target: RouteTarget) -> Self {
        match target {
            RouteTarget::Function { function, alias, rewrite } => {
                Self::Function(v1::FunctionTarget { function, rewrite, alias })
            }
            RouteTarget::Redirect { location, status } => Self::Redirect(v1::Redirect { location, status }),
            RouteTarget::Response { status, content_type, body } => {
                Self::Response(v1::StaticResponse { status, content_type, body: body.into() })
            }
        }
    }
}

impl From<v1::Authorizer> for Authorizer {
    fn from(v1::Authorizer { function, ttl, credential }: v1::Authorizer) -> Self {
        Self { function, ttl_seconds: ttl.map(|ttl| u32::try_from(ttl.seconds).unwrap_or_default()), credential }
    }
}

impl From<Authorizer> for v1::Authorizer {
    fn from(Authorizer { function, ttl_seconds, credential }: Authorizer) -> Self {
        let ttl = ttl_seconds.map(|seconds| Duration { seconds: seconds.into(), nanos: 0 });
        Self { function, ttl, credential }
    }
}

impl From<v1::HeaderChanges> for HeaderChanges {
    fn from(wire: v1::HeaderChanges) -> Self {
        let added = |v1::AddedHeader { name, value }| AddedHeader { name, value };
        Self { remove: wire.remove, add: wire.add.into_iter().map(added).collect() }
    }
}

impl From<HeaderChanges> for v1::HeaderChanges {
    fn from(changes: HeaderChanges) -> Self {
        let added = |AddedHeader { name, value }| v1::AddedHeader { name, value };
        Self { remove: changes.remove, add: changes.add.into_iter().map(added).collect() }
    }
}

impl From<v1::CorsPolicy> for CorsPolicy {
    fn from(wire: v1::CorsPolicy) -> Self {
        Self {
            allow_origins: wire.allow_origins,
            allow_methods: wire.allow_methods,
            allow_headers: wire.allow_headers,
            expose_headers: wire.expose_headers,
            allow_credentials: wire.allow_credentials,
            max_age_seconds: wire.max_age.map(|age| u32::try_from(age.seconds).unwrap_or_default()),
        }
    }
}

impl From<CorsPolicy> for v1::CorsPolicy {
    fn from(policy: CorsPolicy) -> Self {
        Self {
            allow_origins: policy.allow_origins,
            allow_methods: policy.allow_methods,
            allow_headers: policy.allow_headers,
            expose_headers: policy.expose_headers,
            allow_credentials: policy.allow_credentials,
            max_age: policy.max_age_seconds.map(|seconds| Duration { seconds: seconds.into(), nanos: 0 }),
        }
    }
}

/// A page of routes.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct RouteList {
    /// The page.
    pub(crate) routes: Vec<Route>,
    /// Empty on the last page.
    pub(crate) next_page_token: String,
}

impl From<v1::ListRoutesResponse> for RouteList {
    fn from(wire: v1::ListRoutesResponse) -> Self {
        Self { routes: wire.routes.into_iter().map(Route::from).collect(), next_page_token: wire.next_page_token }
    }
}
