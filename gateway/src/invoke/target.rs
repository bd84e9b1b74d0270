//! Whom a request is for: the gateway itself, then whatever a route says, then a function by its automatic address, which
//! names it in host or path, or one of its versions: `v7--pay--shop.DOMAIN`, `/shop/pay@7/`.

use std::sync::Arc;

use bytes::Bytes;
use dunlin_proto::{
    ApiError, ErrorCode,
    ids::{AliasId, VersionNumber},
};
use http::{HeaderValue, Response, StatusCode, Uri, header, request::Parts};

use super::{
    choice::Choice,
    routed::{self, Answer, Routed},
};
use crate::{
    auth::Takes,
    config::Config,
    routes::{
        Function, Table,
        host::{self, HostTarget},
        path,
        router::Parameters,
    },
};

/// The only path that the gateway keeps for itself (RFC 8615).
const OWN: &str = "/.well-known/dunlin/";

/// Whom a request is for.
#[derive(Debug)]
pub(super) enum Target {
    /// The gateway itself; what follows its own prefix.
    Own(String),
    /// A route that has an answer without a function.
    Answer(Box<Answer>),
    /// A function.
    Function(Called),
}

/// A function that is called.
#[derive(Debug)]
pub(super) struct Called {
    pub(super) function: Arc<Function>,
    /// Which version, or how to find out.
    pub(super) choice: Choice,
    pub(super) sees: Sees,
    /// The route that led to it; nothing where its automatic address did.
    pub(super) route: Option<Arc<Routed>>,
    /// The parameters that the route's path has.
    pub(super) parameters: Parameters,
}

/// What a function sees of the address that its caller named. It is worked out where the function is called: what is stored is
/// answered without.
#[derive(Debug)]
pub(super) enum Sees {
    /// This, below that part of the caller's path which led to it.
    Below { base_path: String, path_and_query: Uri },
    /// What follows the namespace of its route, and the query.
    BelowNamespace,
}

impl Sees {
    /// The part of the caller's path that led to the function, and what it sees.
    pub(super) fn of(self, asked: &Uri, route: Option<&Routed>) -> Result<(String, Uri), ApiError> {
        match (self, route) {
            (Self::Below { base_path, path_and_query }, _) => Ok((base_path, path_and_query)),
            // As the namespace is written, not as the caller did: what is stored of the answer is for everybody.
            (Self::BelowNamespace, Some(route)) => {
                Ok((route.base(), seen(route.path_of(asked.path()), asked.query())?))
            }
            (Self::BelowNamespace, None) => Err(ApiError::internal()),
        }
    }
}

impl Called {
    /// Which credential its callers need.
    pub(super) fn takes(&self) -> Takes {
        self.route.as_ref().map_or(Takes::Function, |route| route.takes())
    }
}

/// Finds whom a request is for, whose path has been checked; `host` is canonical.
pub(super) fn find(parts: &Parts, host: &str, config: &Config, table: &Table) -> Result<Target, ApiError> {
    let path = parts.uri.path();
    if let Some(own) = path.strip_prefix(OWN) {
        return Ok(Target::Own(own.to_owned()));
    }
    if table.router.is_empty() {
        return automatic(parts, host, config, table).map(Target::Function);
    }
    match routed::find(parts, host, config, table)? {
        routed::Outcome::Target(target) => Ok(target),
        routed::Outcome::Automatic => automatic(parts, host, config, table).map(Target::Function),
        // Only where nobody else takes it is the method what is wrong.
        routed::Outcome::NotAllowed(others) => match automatic(parts, host, config, table) {
            Err(error) if error.code == ErrorCode::NotFound => {
                Ok(Target::Answer(Box::new(Answer::not_allowed(others))))
            }
            found => found.map(Target::Function),
        },
    }
}

/// Finds a function by its automatic address.
fn automatic(parts: &Parts, host: &str, config: &Config, table: &Table) -> Result<Called, ApiError> {
    let path = parts.uri.path();
    let by_host = config.domain.as_deref().map_or(HostTarget::Other, |domain| host::target(host, domain));
    if let HostTarget::Function { namespace, function, version } = by_host {
        return addressed(table, (namespace, function), version, String::new(), parts.uri.clone());
    }
    if !config.paths() {
        let message = format!("the host {host:?} is not served here");
        let hint =
            format!("functions are at {{function}}--{{namespace}}.{}", config.domain.as_deref().unwrap_or_default());
        return Err(ApiError::new(ErrorCode::Misdirected, message).hint(hint));
    }
    let nothing = || {
        ApiError::new(ErrorCode::NotFound, "nothing is served at this path")
            .hint("functions are at /{namespace}/{function}")
    };
    let found = path::split(path).ok_or_else(nothing)?;
    let (function, version) = match found.function.split_once('@') {
        Some((function, version)) => (function, Some(version.parse().map_err(|_| nothing())?)),
        None => (&*found.function, None),
    };
    let seen = seen(found.rest, parts.uri.query())?;
    addressed(table, (&found.namespace, function), version, found.base.to_owned(), seen)
}

/// A call by an automatic address. That of a version leads to it whether it has traffic or not, and whether routes name the
/// function or not: it is for developers alone.
fn addressed(
    table: &Table,
    (namespace, name): (&str, &str),
    version: Option<VersionNumber>,
    base_path: String,
    path_and_query: Uri,
) -> Result<Called, ApiError> {
    let Some(version) = version else {
        let function = automatic_function(table, namespace, name)?;
        return called(function, None, Sees::Below { base_path, path_and_query });
    };
    let function = table.function(namespace, name).ok_or_else(|| not_found(namespace, name))?.clone();
    function.check_enabled()?;
    let sees = Sees::Below { base_path, path_and_query };
    Ok(Called { function, choice: Choice::Preview(version), sees, route: None, parameters: Parameters::new() })
}

fn automatic_function<'t>(table: &'t Table, namespace: &str, name: &str) -> Result<&'t Arc<Function>, ApiError> {
    let function = table.function(namespace, name).ok_or_else(|| not_found(namespace, name))?;
    if !function.automatic {
        let message = format!("function {namespace}/{name} is served on its routes alone");
        let hint = "its routes: dunlin route list; deployed with direct = true, it is served here as well";
        return Err(ApiError::new(ErrorCode::NotFound, message).hint(hint));
    }
    Ok(function)
}

/// What the function sees of a path and query.
pub(super) fn seen(rest: &str, query: Option<&str>) -> Result<Uri, ApiError> {
    let path = if rest.is_empty() { "/" } else { rest };
    let text = query.map_or_else(|| path.to_owned(), |query| [path, "?", query].concat());
    let parsed = http::uri::PathAndQuery::from_maybe_shared(Bytes::from(text)).map(Uri::from);
    parsed.map_err(|_| super::bad_request("the request's path is not valid"))
}

/// A call of a function by one of its aliases, or by none.
pub(super) fn called(function: &Arc<Function>, alias: Option<&AliasId>, sees: Sees) -> Result<Called, ApiError> {
    function.check_enabled()?;
    let choice = Choice::of(function, alias)?;
    Ok(Called { function: function.clone(), choice, sees, route: None, parameters: Parameters::new() })
}

/// Names of functions are no secret, but what a caller sent is quoted only where it could be one.
pub(super) fn not_found(namespace: &str, name: &str) -> ApiError {
    let valid = namespace.parse::<dunlin_proto::ids::Namespace>().is_ok()
        && name.parse::<dunlin_proto::ids::FunctionName>().is_ok();
    let what = if valid { format!("function {namespace}/{name}") } else { "the function".to_owned() };
    ApiError::not_found(what).hint("check namespace and name: dunlin list")
}

/// Answers for the gateway itself: its health, for load balancers.
pub(super) fn own(path: &str, table: &Table, is_stale: bool) -> Result<Response<Bytes>, ApiError> {
    let ready = match path {
        "health" | "ready" => table.version > 0 && !is_stale,
        "live" => true,
        _ => return Err(ApiError::new(ErrorCode::NotFound, "nothing is served at this path")),
    };
    let status = match ready {
        true => "ok",
        false if is_stale => "stale",
        false => "starting",
    };
    let body = serde_json::json!({"status": status, "config_version": table.version}).to_string();
    let mut response = Response::new(Bytes::from(body));
    if !ready {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, time::Duration};

    use dunlin_proto::ids::{FunctionUid, VersionKey};

    use super::*;
    use crate::routes::{
        Demand, Version, by_name,
        split::{Split, Sticky},
    };

    fn table() -> Table {
        let uid = FunctionUid::new();
        let version = |number: u32| {
            let key = VersionKey { function: uid, number: number.try_into().unwrap() };
            let demand = Arc::new(Demand::default());
            (
                number,
                Arc::new(Version {
                    key,
                    timeout: Duration::ZERO,
                    request_body_bytes: 1,
                    response_body_bytes: 1,
                    standbys: 2,
                    idempotent: false,
                    made: None,
                    demand,
                }),
            )
        };
        let function = Function {
            name: "namespaces/shop/functions/pay".parse().unwrap(),
            public: true,
            automatic: true,
            disabled: false,
            traffic: Arc::new(Split::new(uid, "", 1, [(VersionNumber::FIRST, 100)], Sticky::default())),
            aliases: HashMap::new(),
            versions: [version(1), version(2)].into(),
            quota: crate::quota::Quota::default(),
        };
        Table { version: 3, functions: Arc::new(by_name([function])), ..Table::default() }
    }

    fn found(domain: Option<&str>, paths: Option<bool>, host: &str, path: &str) -> Result<String, u16> {
        let config = Config { domain: domain.map(str::to_owned), path_addressing: paths, ..Config::default() };
        let parts = http::Request::builder().uri(path).body(()).unwrap().into_parts().0;
        match find(&parts, &host::canonical(host).unwrap_or_default(), &config, &table()) {
            Ok(Target::Own(own)) => Ok(format!("own {own}")),
            Ok(Target::Function(called)) => {
                let which = match &called.choice {
                    Choice::One(version) => format!("v{}", version.key.number),
                    Choice::Preview(number) => format!("preview of v{number}"),
                    Choice::Divided(split) => panic!("one version has everything: {split:?}"),
                };
                let (base_path, path_and_query) = called.sees.of(&parts.uri, None).unwrap();
                Ok(format!("{which} {base_path} {path_and_query}"))
            }
            Ok(Target::Answer(answer)) => panic!("no route is there: {answer:?}"),
            Err(error) => Err(error.code.http_status()),
        }
    }

    #[test]
    fn a_gateway_lives_before_it_is_ready() {
        let status = |path: &str, version: u64| {
            let mut table = table();
            table.version = version;
            own(path, &table, version == 9)
                .map_or_else(|error| error.code.http_status(), |answer| answer.status().as_u16())
        };
        assert_eq!(
            [("live", 0), ("ready", 0), ("health", 0)].map(|(path, version)| status(path, version)),
            [200, 503, 503]
        );
        assert_eq!([("live", 1), ("ready", 1), ("health", 1)].map(|(path, version)| status(path, version)), [200; 3]);
        assert_eq!([("live", 9), ("ready", 9)].map(|(path, stale)| status(path, stale)), [200, 503]);
        assert_eq!(status("else", 1), 404);
    }

    #[test]
    fn without_a_domain_paths_lead_to_functions_on_any_host() {
        let find = |path| found(None, None, "anything:1", path);
        assert_eq!(find("/shop/pay"), Ok("v1 /shop/pay /".to_owned()));
        assert_eq!(find("/shop/pay?a=b"), Ok("v1 /shop/pay /?a=b".to_owned()));
        assert_eq!(find("/shop/pay/x//y%2fz?a=/shop"), Ok("v1 /shop/pay /x//y%2fz?a=/shop".to_owned()));
        assert_eq!(find("/shop/pay@2/x?a"), Ok("preview of v2 /shop/pay@2 /x?a".to_owned()));
        assert_eq!(find("/shop/pay@9"), Ok("preview of v9 /shop/pay@9 /".to_owned()), "told to developers alone");
        for path in ["/", "/shop", "/shop/", "/shop/cart", "/bank/pay", "//shop/pay", "/shop//pay", "/Shop/pay"] {
            assert_eq!(find(path), Err(404), "{path}");
        }
        for path in [
            "/shop/pay@",
            "/shop/pay@0",
            "/shop/pay@02",
            "/shop/pay@v2",
            "/shop/pay@2@2",
            "/shop/cart@2",
            "/shop/@2",
            "/shop/pay%40",
        ] {
            assert_eq!(find(path), Err(404), "{path}");
        }
    }

    #[test]
    fn t36_names_are_decoded_once() {
        let find = |path| found(None, None, "anything:1", path);
        assert_eq!(find("/sho%70/p%61y/%78?%61"), Ok("v1 /sho%70/p%61y /%78?%61".to_owned()));
        assert_eq!(find("/shop/pay%402/x"), Ok("preview of v2 /shop/pay%402 /x".to_owned()));
        for path in ["/shop%2Fpay", "/shop%2Fpay/", "/shop/pay%2Fx", "/sho%2570/pay", "/shop/pay%25402", "/shop/pa%FF"]
        {
            assert_eq!(find(path), Err(404), "{path}");
        }
    }

    #[test]
    fn with_a_domain_hosts_lead_to_functions_and_paths_do_not() {
        let find = |host, path| found(Some("fn.example.com"), None, host, path);
        assert_eq!(find("pay--shop.fn.example.com", "/shop/pay?x"), Ok("v1  /shop/pay?x".to_owned()));
        assert_eq!(find("V2--PAY--shop.fn.example.com.:80", "/"), Ok("preview of v2  /".to_owned()));
        assert_eq!(find("v2--cart--shop.fn.example.com", "/"), Err(404));
        assert_eq!(find("cart--shop.fn.example.com", "/"), Err(404));
        for host in ["fn.example.com", "example.com", "127.0.0.1", "", "pay.fn.example.com"] {
            assert_eq!(find(host, "/shop/pay"), Err(421), "{host}");
        }
        assert_eq!(
            found(Some("fn.example.com"), Some(true), "127.0.0.1", "/shop/pay"),
            Ok("v1 /shop/pay /".to_owned())
        );
    }

    #[test]
    fn only_one_path_is_the_gateways_own() {
        for domain in [None, Some("fn.example.com")] {
            let host = "pay--shop.fn.example.com";
            assert_eq!(found(domain, None, host, "/.well-known/dunlin/health"), Ok("own health".to_owned()));
        }
        assert_eq!(
            found(Some("fn.example.com"), None, "pay--shop.fn.example.com", "/.well-known/acme"),
            Ok("v1  /.well-known/acme".to_owned())
        );
        assert_eq!(own("health", &table(), false).unwrap().status(), 200);
        assert_eq!(own("health", &Table::default(), false).unwrap().status(), 503);
        assert_eq!(own("x", &table(), false).unwrap_err().code, ErrorCode::NotFound);
    }
}
