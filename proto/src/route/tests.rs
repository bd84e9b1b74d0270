//! Routes over the wire and through JSON, what is refused of them, and when two can't be there at once.

use super::*;
use crate::{error::ApiError, v1};

fn wire(path: &str) -> v1::Route {
    let target = v1::FunctionTarget { function: "pay".into(), ..Default::default() };
    v1::Route { path: path.into(), target: Some(v1::route::Target::Function(target)), ..Default::default() }
}

fn spec(change: impl FnOnce(&mut v1::Route)) -> Result<RouteSpec, ApiError> {
    let mut route = wire("/users/{id}");
    change(&mut route);
    route.try_into()
}

fn redirect(location: &str, status: u32) -> Option<v1::route::Target> {
    Some(v1::route::Target::Redirect(v1::Redirect { location: location.into(), status }))
}

fn response(status: u32, body: &'static [u8]) -> Option<v1::route::Target> {
    let body = body.into();
    Some(v1::route::Target::Response(v1::StaticResponse { status, content_type: String::new(), body }))
}

fn full(route: &mut v1::Route) {
    route.host = "*.example.com".into();
    route.methods = vec!["GET".into(), "POST".into()];
    route.auth = v1::RouteAuth::Jwt.into();
    let header = v1::AddedHeader { name: "x-a".into(), value: "b c".into() };
    route.request_headers = Some(v1::HeaderChanges { remove: vec!["cookie".into()], add: vec![header] });
    route.allow = vec!["10.0.0.0/8".into(), "192.0.2.7".into()];
    route.deny = vec!["2001:db8::/32".into()];
    route.cache = true;
    route.cors = Some(v1::CorsPolicy {
        allow_origins: vec!["https://*.example.com".into()],
        allow_headers: vec!["x-a".into()],
        allow_credentials: true,
        max_age: Some(prost_types::Duration { seconds: 600, nanos: 0 }),
        ..Default::default()
    });
}

fn authorized(route: &mut v1::Route) {
    route.auth = v1::RouteAuth::Authorizer.into();
    let ttl = Some(prost_types::Duration::default());
    route.authorizer = Some(v1::Authorizer { function: "verify".into(), ttl, credential: "cookie:Session".into() });
}

#[test]
fn a_route_names_its_authorizer_and_nobody_else_does() {
    let field = |change: &dyn Fn(&mut v1::Route)| spec(|route| change(route)).unwrap_err().field.unwrap_or_default();
    let with = |change: &dyn Fn(&mut v1::Authorizer)| {
        field(&|route| {
            authorized(route);
            change(route.authorizer.as_mut().unwrap());
        })
    };
    let names = |name: &str| spec(authorized).unwrap().names(&name.parse().unwrap());
    assert!(names("verify") && names("pay") && !names("other"));
    assert_eq!(field(&|route| route.auth = v1::RouteAuth::Authorizer.into()), "route.authorizer");
    assert_eq!(field(&|route| route.authorizer = Some(v1::Authorizer::default())), "route.authorizer");
    assert_eq!(field(&|route| route.auth = 99), "route.auth");
    assert_eq!(with(&|authorizer| authorizer.function = "No".into()), "route.authorizer.function");
    assert_eq!(with(&|authorizer| authorizer.credential = "body:x".into()), "route.authorizer.credential");
    for seconds in [-1, 3601] {
        let ttl = Some(prost_types::Duration { seconds, nanos: 0 });
        assert_eq!(with(&|authorizer| authorizer.ttl = ttl), "route.authorizer.ttl");
    }
    let fixed = |route: &mut v1::Route| {
        authorized(route);
        route.target = response(200, b"");
    };
    assert_eq!(field(&fixed), "route.auth");
}

#[test]
fn a_route_survives_the_wire_and_the_database() {
    for spec in [
        spec(|_| {}),
        spec(full),
        spec(authorized),
        spec(|route| {
            authorized(route);
            route.authorizer = Some(v1::Authorizer { function: "verify".into(), ..Default::default() });
        }),
        spec(|route| route.target = redirect("https://www.example.com/{id}", 0)),
        spec(|route| route.target = response(0, b"hello")),
    ] {
        let spec = spec.unwrap();
        assert_eq!(RouteSpec::try_from(v1::Route::from(&spec)).unwrap(), spec);
        let json = serde_json::to_string(&spec).unwrap();
        assert_eq!(serde_json::from_str::<RouteSpec>(&json).unwrap(), spec, "{json}");
    }
}

#[test]
fn what_is_wrong_is_named() {
    let header = |name: &str, value: &str| {
        let add = vec![v1::AddedHeader { name: name.into(), value: value.into() }];
        Some(v1::HeaderChanges { remove: Vec::new(), add })
    };
    let removed = |name: &str| Some(v1::HeaderChanges { remove: vec![name.into()], add: Vec::new() });
    let cors = |change: fn(&mut v1::CorsPolicy)| {
        let mut policy = v1::CorsPolicy { allow_origins: vec!["*".into()], ..Default::default() };
        change(&mut policy);
        Some(policy)
    };
    for (result, field) in [
        (spec(|r| r.path = "users".into()), "route.path"),
        (spec(|r| r.host = "localhost".into()), "route.host"),
        (spec(|r| r.methods = vec!["get".into()]), "route.methods"),
        (spec(|r| r.methods = vec!["TRACE".into()]), "route.methods"),
        (spec(|r| r.target = None), "route.target"),
        (spec(|r| r.target = redirect("//evil.example", 0)), "route.redirect.location"),
        (spec(|r| r.target = redirect("/{none}", 0)), "route.redirect.location"),
        (spec(|r| r.target = redirect("/", 304)), "route.redirect.status"),
        (spec(|r| r.target = response(100, b"")), "route.response.status"),
        (spec(|r| r.target = response(204, b"x")), "route.response.body"),
        (spec(|r| r.target = response(200, &[0; (16 << 10) + 1])), "route.response.body"),
        (spec(|r| (r.target, r.auth) = (response(200, b""), v1::RouteAuth::Private.into())), "route.auth"),
        (spec(|r| r.token = Some(v1::TokenRule { scopes: vec!["x".into()], ..Default::default() })), "route.token"),
        (spec(|r| (r.target, r.cache) = (response(200, b""), true)), "route.cache"),
        (spec(|r| r.request_headers = header("x a", "b")), "route.request_headers.add"),
        (spec(|r| r.request_headers = header("x-a", "b\r\nc: d")), "route.request_headers.add"),
        (spec(|r| r.request_headers = header("X-Forwarded-For", "1.2.3.4")), "route.request_headers.add"),
        (spec(|r| r.request_headers = removed("dunlin-path-id")), "route.request_headers.remove"),
        (spec(|r| r.response_headers = header("Content-Length", "1")), "route.response_headers.add"),
        (spec(|r| r.allow = vec!["10.0.0.0/33".into()]), "route.allow"),
        (spec(|r| r.deny = vec!["example.com".into()]), "route.deny"),
        (spec(|r| r.cors = cors(|c| c.allow_origins.clear())), "route.cors.allow_origins"),
        (spec(|r| r.cors = cors(|c| c.allow_credentials = true)), "route.cors.allow_credentials"),
        (spec(|r| r.cors = cors(|c| c.allow_methods.push("x".into()))), "route.cors.allow_methods"),
        (spec(|r| r.cors = cors(|c| c.allow_headers.push("a b".into()))), "route.cors.allow_headers"),
        (
            spec(|r| r.cors = cors(|c| c.max_age = Some(prost_types::Duration { seconds: 86_401, nanos: 0 }))),
            "route.cors.max_age",
        ),
    ] {
        assert_eq!(result.unwrap_err().field.as_deref(), Some(field));
    }
}

#[test]
fn two_routes_conflict_where_nothing_decides_between_them() {
    let route = |host: &str, methods: &[&str], path: &str| {
        let methods = methods.iter().map(|method| (*method).to_owned()).collect();
        RouteSpec::try_from(v1::Route { host: host.into(), methods, ..wire(path) }).unwrap()
    };
    let first = route("", &["GET", "PUT"], "/users/{id}");
    assert_eq!(first.to_string(), "GET,PUT /users/{id}");
    for (other, conflict) in [
        (route("", &["GET"], "/users/:name/"), true),
        (route("", &["GET"], "/users/me"), false),
        (route("", &["GET"], "/users/{id+}"), false),
        (route("", &["POST"], "/users/{id}"), false),
        (route("", &[], "/users/{id}"), false),
        (route("example.com", &["GET"], "/users/{id}"), false),
    ] {
        assert_eq!((first.conflicts(&other), other.conflicts(&first)), (conflict, conflict), "{other}");
    }
    let all = route("*.example.com", &[], "/...");
    assert_eq!(all.to_string(), "*.example.com/{path*}");
    assert!(all.conflicts(&route("*.Example.com", &[], "/{rest+}")));
    assert!(!all.conflicts(&route("example.com", &[], "/{rest+}")));
}

#[test]
fn addresses_are_admitted_unless_they_are_denied() {
    let lists = |allow: &[&str], deny: &[&str]| {
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        spec(|route| (route.allow, route.deny) = (texts(allow), texts(deny))).unwrap()
    };
    let admits = |route: &RouteSpec, address: &str| route.admits(address.parse().unwrap());
    assert!(admits(&lists(&[], &[]), "192.0.2.7"));
    let route = lists(&["10.0.0.0/8", "2001:db8::/32"], &["10.6.6.6"]);
    assert!(admits(&route, "10.1.2.3") && admits(&route, "::ffff:10.1.2.3") && admits(&route, "2001:db8::1"));
    assert!(!admits(&route, "10.6.6.6") && !admits(&route, "::ffff:10.6.6.6") && !admits(&route, "192.0.2.7"));
}

#[test]
fn headers_are_removed_and_then_added() {
    let mut headers = http::HeaderMap::new();
    headers.append("x-a", "old".parse().unwrap());
    headers.append("x-b", "kept".parse().unwrap());
    let added = |name: &str| AddedHeader { name: name.into(), value: "new".into() };
    let changes = HeaderChanges { remove: vec!["x-a".into()], add: vec![added("x-a"), added("x-b")] };
    changes.apply(&mut headers);
    assert_eq!(headers.get_all("x-a").iter().collect::<Vec<_>>(), ["new"]);
    assert_eq!(headers.get_all("x-b").iter().collect::<Vec<_>>(), ["kept", "new"]);
}
