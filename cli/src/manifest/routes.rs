//! The routes of a manifest, in the words of `dunlin route add`. What a route may say is checked here as the cluster will check it, so
//! that an error has its line; what depends on other routes of the namespace and on its domains is the cluster's to know.

use std::time::Duration;

use dunlin_proto::{
    ApiError,
    ids::{AliasId, FunctionName, RouteId},
    model::to_wire_duration,
    route::{CredentialSource, RouteSpec},
    v1,
};

use super::{Function, reader::Section};
use crate::{exit::Failure, units};

/// The fields of a route.
const FIELDS: [&str; 25] = [
    "name",
    "path",
    "function",
    "external",
    "rewrite",
    "respond",
    "redirect",
    "status",
    "content_type",
    "host",
    "methods",
    "auth",
    "auth_ttl",
    "auth_credential",
    "scopes",
    "claims",
    "issuers",
    "audiences",
    "request_headers",
    "response_headers",
    "allow",
    "deny",
    "cors",
    "compress",
    "cache",
];

/// Reads the routes, each with its bare name.
pub(super) fn read(root: &Section<'_>, functions: &[Function]) -> Result<Vec<v1::Route>, Failure> {
    let mut found: Vec<(v1::Route, RouteSpec)> = Vec::new();
    for table in root.sections("routes")? {
        let table = table.with_fields(&FIELDS)?;
        let route = route(&table)?;
        check_functions(&table, &route, functions)?;
        let spec = RouteSpec::try_from(route.clone()).map_err(|error| wrong(&table, &error))?;
        check_others(&table, (&route, &spec), &found)?;
        found.push((route, spec));
    }
    Ok(found.into_iter().map(|(route, _)| route).collect())
}

fn route(table: &Section<'_>) -> Result<v1::Route, Failure> {
    let name = table.required("name", |text| text.parse::<RouteId>().map_err(|error| error.to_string()))?;
    let (auth, authorizer) = auth(table)?;
    Ok(v1::Route {
        name: name.to_string(),
        path: table.required("path", |text| Ok(text.to_owned()))?,
        target: Some(target(table)?),
        host: table.text("host")?.unwrap_or_default(),
        methods: table.strings("methods")?.iter().map(|method| method.to_ascii_uppercase()).collect(),
        auth: auth.into(),
        authorizer,
        token: token(table)?,
        request_headers: headers(table, "request_headers")?,
        response_headers: headers(table, "response_headers")?,
        allow: table.strings("allow")?,
        deny: table.strings("deny")?,
        cors: table.section("cors")?.map(cors).transpose()?,
        compress: table.boolean("compress")?.unwrap_or_default(),
        cache: table.boolean("cache")?.unwrap_or_default(),
        ..v1::Route::default()
    })
}

/// What becomes of the requests: exactly one of three.
fn target(table: &Section<'_>) -> Result<v1::route::Target, Failure> {
    let (function, respond) = (table.parsed("function", called)?, table.text("respond")?);
    let redirect = table.text("redirect")?;
    let rewrite = table.text("rewrite")?.unwrap_or_default();
    let (status, content_type) = (table.count("status")?, table.text("content_type")?);
    for (field, given, fits) in [
        ("rewrite", !rewrite.is_empty(), function.is_some()),
        ("status", status.is_some(), function.is_none()),
        ("content_type", content_type.is_some(), respond.is_some()),
    ] {
        if given && !fits {
            return Err(table.wrong(field, &format!("{field} does not go with what the route does")));
        }
    }
    let (status, content_type) = (status.unwrap_or_default(), content_type.unwrap_or_default());
    match (function, respond, redirect) {
        (Some((function, alias)), None, None) => {
            let (function, alias) = (function.to_string(), alias.map(String::from).unwrap_or_default());
            Ok(v1::route::Target::Function(v1::FunctionTarget { function, alias, rewrite }))
        }
        (None, Some(text), None) => {
            Ok(v1::route::Target::Response(v1::StaticResponse { status, content_type, body: text.into() }))
        }
        (None, None, Some(location)) => Ok(v1::route::Target::Redirect(v1::Redirect { location, status })),
        _ => Err(table.wrong("path", "a route has one of the fields function, respond and redirect")),
    }
}

/// Reads `NAME` or `NAME:ALIAS`.
fn called(text: &str) -> Result<(FunctionName, Option<AliasId>), String> {
    let (function, alias) = match text.split_once(':') {
        Some((function, alias)) => (function, Some(alias)),
        None => (text, None),
    };
    let alias = alias.map(|alias| alias.parse::<AliasId>().map_err(|error| error.to_string())).transpose()?;
    Ok((function.parse().map_err(|error: dunlin_proto::ids::IdError| error.to_string())?, alias))
}

/// Who may call, and the function that says so where one does.
fn auth(table: &Section<'_>) -> Result<(v1::RouteAuth, Option<v1::Authorizer>), Failure> {
    let (auth, function) = table.parsed("auth", who)?.unwrap_or((v1::RouteAuth::Unspecified, None));
    let ttl: Option<Duration> = table.parsed("auth_ttl", units::parse_duration)?;
    let credential =
        table.parsed("auth_credential", |text| text.parse::<CredentialSource>().map_err(|error| error.to_string()))?;
    let wanted = function.is_some() || ttl.is_some() || credential.is_some();
    let authorizer = wanted.then(|| v1::Authorizer {
        function: function.map(String::from).unwrap_or_default(),
        ttl: ttl.map(to_wire_duration),
        credential: credential.map(String::from).unwrap_or_default(),
    });
    Ok((auth, authorizer))
}

fn who(text: &str) -> Result<(v1::RouteAuth, Option<FunctionName>), String> {
    if let Some(function) = text.strip_prefix("function:") {
        let function: Result<FunctionName, _> = function.parse();
        return Ok((v1::RouteAuth::Authorizer, Some(function.map_err(|error| error.to_string())?)));
    }
    match text {
        "public" => Ok((v1::RouteAuth::Public, None)),
        "private" => Ok((v1::RouteAuth::Private, None)),
        "jwt" => Ok((v1::RouteAuth::Jwt, None)),
        "key" => Ok((v1::RouteAuth::Key, None)),
        _ => Err("it must be public, private, jwt, key or function:NAME".to_owned()),
    }
}

/// What a caller's token must say.
fn token(table: &Section<'_>) -> Result<Option<v1::TokenRule>, Failure> {
    let claims = match table.section("claims")? {
        Some(claims) => claims.names().map(|name| claim(&claims, name)).collect::<Result<_, _>>()?,
        None => Vec::new(),
    };
    let rule = v1::TokenRule {
        issuers: table.strings("issuers")?,
        audiences: table.strings("audiences")?,
        scopes: table.strings("scopes")?,
        claims,
    };
    Ok(Some(rule).filter(|rule| *rule != v1::TokenRule::default()))
}

fn claim(claims: &Section<'_>, name: String) -> Result<v1::ClaimRule, Failure> {
    Ok(v1::ClaimRule { values: claims.one_or_more(&name)?, name })
}

fn headers(table: &Section<'_>, name: &str) -> Result<Option<v1::HeaderChanges>, Failure> {
    let Some(section) = table.section(name)? else { return Ok(None) };
    let section = section.with_fields(&["add", "remove"])?;
    Ok(Some(v1::HeaderChanges { add: section.parsed_list("add", header)?, remove: section.strings("remove")? }))
}

fn header(text: &str) -> Result<v1::AddedHeader, String> {
    let (name, value) = text.split_once(':').ok_or("it must have the form NAME: VALUE")?;
    Ok(v1::AddedHeader { name: name.trim().to_owned(), value: value.trim().to_owned() })
}

fn cors(section: Section<'_>) -> Result<v1::CorsPolicy, Failure> {
    let section = section.with_fields(&["origins", "methods", "headers", "expose", "credentials", "max_age"])?;
    Ok(v1::CorsPolicy {
        allow_origins: section.strings("origins")?,
        allow_methods: section.strings("methods")?.iter().map(|method| method.to_ascii_uppercase()).collect(),
        allow_headers: section.strings("headers")?,
        expose_headers: section.strings("expose")?,
        allow_credentials: section.boolean("credentials")?.unwrap_or_default(),
        max_age: section.parsed("max_age", units::parse_duration)?.map(to_wire_duration),
    })
}

/// A route names functions of its manifest, unless it says that it does not.
fn check_functions(table: &Section<'_>, route: &v1::Route, functions: &[Function]) -> Result<(), Failure> {
    let called = match &route.target {
        Some(v1::route::Target::Function(target)) => Some(("function", &target.function)),
        _ => None,
    };
    let asked = route.authorizer.as_ref().map(|authorizer| ("auth", &authorizer.function));
    let declared = |name: &String| functions.iter().any(|function| function.name.as_str() == *name);
    let external = table.boolean("external")?.unwrap_or_default();
    let unknown = called.into_iter().chain(asked).find(|(_, name)| !declared(name) && !name.is_empty());
    let Some((field, name)) = unknown.filter(|_| !external) else { return Ok(()) };
    let failure = table.wrong(field, &format!("the manifest declares no function {name}"));
    Err(failure.hint("declare it, or say external = true where it is another one of the namespace"))
}

/// No two routes have one name, or are for the same requests.
fn check_others(
    table: &Section<'_>,
    (route, spec): (&v1::Route, &RouteSpec),
    others: &[(v1::Route, RouteSpec)],
) -> Result<(), Failure> {
    if others.iter().any(|(other, _)| other.name == route.name) {
        return Err(table.wrong("name", &format!("there are two routes with the name {}", route.name)));
    }
    let Some((other, twin)) = others.iter().find(|(_, other)| other.conflicts(spec)) else { return Ok(()) };
    let message = format!(
        "the route {} ({spec}) conflicts with the route {} ({twin}): nothing decides which of them takes a request",
        route.name, other.name
    );
    Err(table.wrong("path", &message))
}

/// Says in the manifest's words, and at its place, what the API would say of a field.
fn wrong(table: &Section<'_>, error: &ApiError) -> Failure {
    let field = error.field.as_deref().unwrap_or_default();
    let field = field.strip_prefix("route.").unwrap_or(field).split('.').next().unwrap_or_default();
    let place = match field {
        "authorizer" => "auth",
        "token" => "scopes",
        "response" => "respond",
        other => other,
    };
    let failure = table.wrong(place, &error.message.replace("route.", ""));
    match &error.hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}
