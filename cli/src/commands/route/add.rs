//! `dunlin route add`: flags become a route. What they may say together is the cluster's to check.

use std::time::Duration;

use clap::{ArgGroup, Args};
use dunlin_proto::{
    ids::{AliasId, FunctionName, IdError, RouteId},
    model::to_wire_duration,
    route::CredentialSource,
    v1,
};

use super::route_name;
use crate::{
    client::{Client, answer},
    commands::traffic::warn_of,
    exit::Failure,
    output::printable,
    session::Session,
    units,
    view::route::RouteView,
};

/// Arguments of `dunlin route add`.
#[derive(Args)]
#[command(group = ArgGroup::new("target").required(true))]
pub(crate) struct AddArgs {
    /// What to call it
    name: RouteId,
    /// Paths, such as /users/{id}, /files/{path+} or /static/...
    path: String,
    /// Call this function of the namespace, by its own traffic or one of its aliases
    #[arg(long, value_name = "NAME[:ALIAS]", group = "target", value_parser = called)]
    function: Option<(FunctionName, Option<AliasId>)>,
    /// Answer with this text
    #[arg(long, value_name = "TEXT", group = "target")]
    respond: Option<String>,
    /// Send callers to this path or URL, which may have the path's parameters: https://www.example.com/{path}
    #[arg(long, value_name = "LOCATION", group = "target")]
    redirect: Option<String>,
    /// Host on a domain of the namespace, such as api.example.com or *.example.com; all of them when left out
    #[arg(long)]
    host: Option<String>,
    /// Method, such as GET; may be repeated, all when left out
    #[arg(short, long = "method", value_name = "METHOD", value_parser = upper_case)]
    methods: Vec<String>,
    #[command(flatten)]
    auth: AuthArgs,
    /// Path that the function sees, such as /v1/users/{id}; the caller's when left out
    #[arg(long, value_name = "PATH", requires = "function")]
    rewrite: Option<String>,
    /// Status of the answer; 200, or 308 for a redirect
    #[arg(long, value_name = "STATUS", conflicts_with = "function")]
    status: Option<u32>,
    /// Type of the answer's body; text/plain when left out
    #[arg(long, value_name = "TYPE", requires = "respond")]
    content_type: Option<String>,
    #[command(flatten)]
    headers: HeaderArgs,
    /// Address or network that may call, such as 10.0.0.0/8; may be repeated, all when left out
    #[arg(long, value_name = "NETWORK")]
    allow: Vec<String>,
    /// Address or network that may not; may be repeated
    #[arg(long, value_name = "NETWORK")]
    deny: Vec<String>,
    #[command(flatten)]
    cors: CorsArgs,
    /// Compress answers for callers that accept it
    #[arg(long)]
    compress: bool,
    /// Store answers at the gateways as far as the function's Cache-Control allows it
    #[arg(long, requires = "function")]
    cache: bool,
    /// Replace the route of this name
    #[arg(long)]
    replace: bool,
}

/// Who may call.
#[derive(Args)]
struct AuthArgs {
    /// Who may call: public, private (token or key), jwt (token), key or function:NAME, an authorizer; the function's own policy when
    /// left out
    #[arg(long, value_parser = auth)]
    auth: Option<Auth>,
    /// How long a verdict of the authorizer counts for the same credential, such as 5m; 60s when left out, 0s asks for each request
    #[arg(long, value_name = "DURATION", requires = "auth", value_parser = units::parse_duration)]
    auth_ttl: Option<Duration>,
    /// What the authorizer knows callers by: header:NAME, cookie:NAME or query:NAME; header:authorization when left out
    #[arg(long, value_name = "PLACE:NAME", requires = "auth")]
    auth_credential: Option<CredentialSource>,
    /// Scope that the caller's token must have; may be repeated, all are needed
    #[arg(long = "scope", value_name = "SCOPE", requires = "auth")]
    scopes: Vec<String>,
    /// Claim that it must have, with this value, as itself or in a list; may be repeated, of one claim's values one is needed
    #[arg(long = "claim", value_name = "NAME=VALUE", requires = "auth", value_parser = claim)]
    claims: Vec<(String, String)>,
    /// Issuer whose tokens are taken; may be repeated, all that are trusted when left out
    #[arg(long = "issuer", value_name = "URL", requires = "auth")]
    issuers: Vec<String>,
    /// Audience that it must be for; may be repeated, one is needed
    #[arg(long = "audience", value_name = "AUDIENCE", requires = "auth")]
    audiences: Vec<String>,
}

/// What is changed of headers.
#[derive(Args)]
struct HeaderArgs {
    /// Add a header to requests; may be repeated
    #[arg(long, value_name = "NAME: VALUE", value_parser = header)]
    add_request_header: Vec<v1::AddedHeader>,
    /// Remove a header of requests; may be repeated
    #[arg(long, value_name = "NAME")]
    remove_request_header: Vec<String>,
    /// Add a header to answers; may be repeated
    #[arg(long, value_name = "NAME: VALUE", value_parser = header)]
    add_response_header: Vec<v1::AddedHeader>,
    /// Remove a header of answers; may be repeated
    #[arg(long, value_name = "NAME")]
    remove_response_header: Vec<String>,
}

/// Which pages of other origins may call.
#[derive(Args)]
struct CorsArgs {
    /// Origin whose pages may call, such as https://app.example.com, https://*.example.com or *; may be repeated
    #[arg(long = "cors-origin", value_name = "ORIGIN")]
    origins: Vec<String>,
    /// Method that they may use; may be repeated, those of the route when left out
    #[arg(long = "cors-method", value_name = "METHOD", requires = "origins", value_parser = upper_case)]
    cors_methods: Vec<String>,
    /// Header that they may send, or * for all; may be repeated
    #[arg(long = "cors-header", value_name = "NAME", requires = "origins")]
    cors_headers: Vec<String>,
    /// Header of answers that they may read; may be repeated
    #[arg(long = "cors-expose", value_name = "NAME", requires = "origins")]
    expose: Vec<String>,
    /// Let them send cookies and other credentials
    #[arg(long = "cors-credentials", requires = "origins")]
    credentials: bool,
    /// How long browsers may remember what they may do, such as 10m
    #[arg(long = "cors-max-age", value_name = "DURATION", requires = "origins", value_parser = units::parse_duration)]
    max_age: Option<Duration>,
}

/// Who may call.
#[derive(Clone)]
enum Auth {
    /// One of the platform's own ways.
    Known(v1::RouteAuth),
    /// Whom this function lets call.
    Authorizer(FunctionName),
}

fn auth(text: &str) -> Result<Auth, String> {
    if let Some(function) = text.strip_prefix("function:") {
        return function.parse().map(Auth::Authorizer).map_err(|error: IdError| error.to_string());
    }
    match text {
        "public" => Ok(Auth::Known(v1::RouteAuth::Public)),
        "private" => Ok(Auth::Known(v1::RouteAuth::Private)),
        "jwt" => Ok(Auth::Known(v1::RouteAuth::Jwt)),
        "key" => Ok(Auth::Known(v1::RouteAuth::Key)),
        _ => Err("it must be public, private, jwt, key or function:NAME".to_owned()),
    }
}

impl AuthArgs {
    /// What the route demands of tokens.
    fn token(&mut self) -> Option<v1::TokenRule> {
        let mut claims: Vec<v1::ClaimRule> = Vec::new();
        for (name, value) in self.claims.drain(..) {
            match claims.iter_mut().find(|claim| claim.name == name) {
                Some(claim) => claim.values.push(value),
                None => claims.push(v1::ClaimRule { name, values: vec![value] }),
            }
        }
        let (issuers, audiences) = (std::mem::take(&mut self.issuers), std::mem::take(&mut self.audiences));
        let rule = v1::TokenRule { issuers, audiences, scopes: std::mem::take(&mut self.scopes), claims };
        Some(rule).filter(|rule| *rule != v1::TokenRule::default())
    }

    /// What the route says. Flags of an authorizer without one are the cluster's to refuse.
    fn into_wire(self) -> (v1::RouteAuth, Option<v1::Authorizer>) {
        let (auth, function) = match self.auth {
            None => (v1::RouteAuth::Unspecified, None),
            Some(Auth::Known(auth)) => (auth, None),
            Some(Auth::Authorizer(function)) => (v1::RouteAuth::Authorizer, Some(function)),
        };
        let wanted = function.is_some() || self.auth_ttl.is_some() || self.auth_credential.is_some();
        let authorizer = wanted.then(|| v1::Authorizer {
            function: function.map(String::from).unwrap_or_default(),
            ttl: self.auth_ttl.map(to_wire_duration),
            credential: self.auth_credential.map(String::from).unwrap_or_default(),
        });
        (auth, authorizer)
    }
}

fn claim(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("it must have the form NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn called(text: &str) -> Result<(FunctionName, Option<AliasId>), IdError> {
    match text.split_once(':') {
        Some((function, alias)) => Ok((function.parse()?, Some(alias.parse()?))),
        None => Ok((text.parse()?, None)),
    }
}

fn upper_case(text: &str) -> Result<String, std::convert::Infallible> {
    Ok(text.to_ascii_uppercase())
}

fn header(text: &str) -> Result<v1::AddedHeader, String> {
    let (name, value) = text.split_once(':').ok_or("it must have the form NAME: VALUE")?;
    Ok(v1::AddedHeader { name: name.trim().to_owned(), value: value.trim().to_owned() })
}

/// Makes the route.
pub(super) async fn run(client: &Client, session: &Session, args: AddArgs) -> Result<(), Failure> {
    let name = route_name(client, args.name.clone()).to_string();
    let replace = args.replace;
    let request = v1::PutRouteRequest { route: Some(route(name, args)), replace };
    let done = answer(client.routes().put_route(request).await)?;
    let v1::PutRouteResponse { route, pending_domain, lagging_gateways } = done;
    let made = RouteView::from(route.unwrap_or_default());
    warn_of(&lagging_gateways, session.output);
    if session.output.is_json() {
        return session.output.json(&made);
    }
    session.output.note(format!("route {}: {}", made.name, printable(&made.summary())));
    if !pending_domain.is_empty() {
        let see = format!("dunlin domain show {pending_domain}");
        session.output.note(format!("it is served once the domain {pending_domain} is proved; see: {see}"));
    }
    Ok(())
}

fn route(name: String, mut args: AddArgs) -> v1::Route {
    let token = args.auth.token();
    let (auth, authorizer) = args.auth.into_wire();
    let HeaderArgs { add_request_header, remove_request_header, add_response_header, remove_response_header } =
        args.headers;
    let changes = |add, remove| Some(v1::HeaderChanges { remove, add });
    v1::Route {
        name,
        host: args.host.unwrap_or_default(),
        methods: args.methods,
        path: args.path,
        target: target(args.function, args.rewrite, args.respond, args.redirect, (args.status, args.content_type)),
        auth: auth.into(),
        authorizer,
        token,
        request_headers: changes(add_request_header, remove_request_header),
        response_headers: changes(add_response_header, remove_response_header),
        allow: args.allow,
        deny: args.deny,
        cors: cors(args.cors),
        compress: args.compress,
        cache: args.cache,
        ..v1::Route::default()
    }
}

fn target(
    function: Option<(FunctionName, Option<AliasId>)>,
    rewrite: Option<String>,
    respond: Option<String>,
    redirect: Option<String>,
    (status, content_type): (Option<u32>, Option<String>),
) -> Option<v1::route::Target> {
    let status = status.unwrap_or_default();
    if let Some((function, alias)) = function {
        let target = v1::FunctionTarget {
            function: function.to_string(),
            alias: alias.map(String::from).unwrap_or_default(),
            rewrite: rewrite.unwrap_or_default(),
        };
        return Some(v1::route::Target::Function(target));
    }
    if let Some(location) = redirect {
        return Some(v1::route::Target::Redirect(v1::Redirect { location, status }));
    }
    let content_type = content_type.unwrap_or_default();
    respond.map(|text| v1::route::Target::Response(v1::StaticResponse { status, content_type, body: text.into() }))
}

fn cors(args: CorsArgs) -> Option<v1::CorsPolicy> {
    let wanted = !args.origins.is_empty();
    wanted.then(|| v1::CorsPolicy {
        allow_origins: args.origins,
        allow_methods: args.cors_methods,
        allow_headers: args.cors_headers,
        expose_headers: args.expose,
        allow_credentials: args.credentials,
        max_age: args.max_age.map(to_wire_duration),
    })
}
