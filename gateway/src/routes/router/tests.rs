//! Which route a request takes, as tables, and against a second, simpler way to find it.

use dunlin_proto::{
    route::{PathPattern, RouteSpec, Segment},
    v1,
};
use proptest::prelude::*;

use super::*;

/// A route by `[host] path`, with methods, in the namespace `shop`.
fn rule(id: usize, host: &str, methods: &[&str], path: &str) -> Rule {
    let target = Some(v1::route::Target::Response(v1::StaticResponse::default()));
    let methods = methods.iter().map(|method| (*method).to_owned()).collect();
    let route = v1::Route { host: host.into(), methods, path: path.into(), target, ..Default::default() };
    let name = format!("namespaces/shop/routes/r{id}").parse().unwrap();
    Rule::new(name, RouteSpec::try_from(route).unwrap()).unwrap()
}

fn router(rules: Vec<Rule>) -> Router {
    let domains = [("example.com", "shop"), ("bank.example", "bank")];
    let domains = domains.map(|(name, owner)| (name.parse().unwrap(), owner.parse().unwrap()));
    let rules = rules.into_iter().map(|rule| (rule.name.to_string(), Some(rule)));
    Router::default().changed(domains.into_iter(), rules)
}

/// The path of the route that takes a request, with the values of its parameters.
fn found(router: &Router, host: Option<&str>, path: &str, method: &str) -> String {
    match router.site("shop").unwrap().find(host, path, method) {
        Lookup::Found(Matched { rule, values }) => {
            values.iter().fold(rule.spec.to_string(), |text, value| format!("{text} {value:?}"))
        }
        Lookup::NotAllowed(rules) => methods(&rules).into_iter().collect::<Vec<_>>().join(" "),
        Lookup::Nothing => "nothing".to_owned(),
    }
}

#[test]
fn text_goes_before_a_parameter_and_both_before_the_rest() {
    let paths = [
        "/",
        "/users",
        "/users/me",
        "/users/{id}",
        "/users/{id}/posts",
        "/users/{path+}",
        "/files/{path*}",
        "/a b/{x}",
        "/{any*}",
    ];
    let router = router(paths.iter().enumerate().map(|(at, path)| rule(at, "", &[], path)).collect());
    for (path, expected) in [
        ("/", "/"),
        ("/users", "/users"),
        ("/users/", "/users"),
        ("/users/me", "/users/me"),
        ("/users/%6De", "/users/me"),
        ("/users/Me", "/users/{id} \"Me\""),
        ("/users/7/", "/users/{id} \"7\""),
        ("/users/7%2f8", "/users/{id} \"7%2f8\""),
        ("/users/me/posts", "/users/{id}/posts \"me\""),
        ("/users/me/likes", "/users/{path+} \"me/likes\""),
        ("/users/me/likes/", "/users/{path+} \"me/likes/\""),
        ("/users//posts", "/users/{path+} \"/posts\""),
        ("/files", "/files/{path*} \"\""),
        ("/files/", "/files/{path*} \"\""),
        ("/files/a//b%2Fc", "/files/{path*} \"a//b%2Fc\""),
        ("/a%20b/%22", "/a%20b/{x} \"%22\""),
        ("/a%20b/\u{e9}", "/a%20b/{x} \"%C3%A9\""),
        ("/a+b/c", "/{any*} \"a+b/c\""),
        ("/users%2Fme", "/{any*} \"users%2Fme\""),
        ("//", "/"),
    ] {
        assert_eq!(found(&router, None, path, "GET"), expected, "{path}");
    }
}

#[test]
fn a_method_that_is_not_taken_leads_on_and_at_last_to_those_that_are() {
    let router = router(vec![
        rule(1, "", &["GET"], "/a/b"),
        rule(2, "", &["POST"], "/a/{x}"),
        rule(3, "", &["HEAD"], "/head"),
        rule(4, "", &["GET"], "/head"),
        rule(5, "", &["PUT"], "/any"),
        rule(6, "", &[], "/any"),
    ]);
    for (method, path, expected) in [
        ("GET", "/a/b", "GET /a/b"),
        ("HEAD", "/a/b", "GET /a/b"),
        ("POST", "/a/b", "POST /a/{x} \"b\""),
        ("PUT", "/a/b", "GET HEAD POST"),
        ("GET", "/a/c", "POST"),
        ("HEAD", "/head", "HEAD /head"),
        ("PUT", "/any", "PUT /any"),
        ("PURGE", "/any", "/any"),
        ("GET", "/b", "nothing"),
    ] {
        assert_eq!(found(&router, None, path, method), expected, "{method} {path}");
    }
}

#[test]
fn a_host_goes_before_no_host_and_the_longest_first() {
    let hosts = ["", "example.com", "*.example.com", "*.b.example.com", "a.b.example.com"];
    let mut rules: Vec<_> = hosts.iter().enumerate().map(|(at, host)| rule(at, host, &[], "/x")).collect();
    rules.push(rule(9, "", &[], "/only"));
    let router = router(rules);
    for (host, expected) in [
        (Some("a.b.example.com"), "a.b.example.com/x"),
        (Some("z.b.example.com"), "*.b.example.com/x"),
        (Some("y.z.b.example.com"), "*.b.example.com/x"),
        (Some("b.example.com"), "*.example.com/x"),
        (Some("example.com"), "example.com/x"),
        (Some("other.example"), "/x"),
        (None, "/x"),
    ] {
        assert_eq!(found(&router, host, "/x", "GET"), expected, "{host:?}");
        assert_eq!(found(&router, host, "/only", "GET"), "/only", "what no host has is looked for without one");
    }
    let owner = |host: &str| router.owner(host).map(ToString::to_string);
    assert_eq!(owner("example.com").as_deref(), Some("shop"));
    assert_eq!(owner("a.b.example.com").as_deref(), Some("shop"));
    assert_eq!(owner("bank.example").as_deref(), Some("bank"));
    assert_eq!((owner("badexample.com"), owner("com"), owner("127.0.0.1"), owner("")), (None, None, None, None));
}

/// The rank of a pattern for a path, the smaller the more specific; nothing where it does not match.
fn rank(pattern: &PathPattern, path: &str) -> Option<Vec<u8>> {
    let path = path.strip_prefix('/').unwrap();
    let path = path.strip_suffix('/').unwrap_or(path);
    let mut segments: Vec<_> = if path.is_empty() { Vec::new() } else { path.split('/').collect() };
    let mut ranks = Vec::new();
    for piece in pattern.segments() {
        if segments.is_empty() {
            return None;
        }
        let segment = segments.remove(0);
        match piece {
            Segment::Literal(text) if **text == *segment => ranks.push(0),
            Segment::Parameter(_) if !segment.is_empty() => ranks.push(1),
            _ => return None,
        }
    }
    match pattern.tail() {
        None => segments.is_empty().then_some(ranks),
        Some(tail) => {
            ranks.push(2);
            (tail.optional || segments.iter().any(|segment| !segment.is_empty()) || segments.len() > 1).then_some(ranks)
        }
    }
}

fn any_pattern() -> impl Strategy<Value = String> {
    let segment = prop_oneof![Just("a"), Just("b"), Just("{}")];
    let tail = prop_oneof![3 => Just(""), 1 => Just("/{rest+}"), 1 => Just("/{rest*}")];
    (prop::collection::vec(segment, 0..4), tail).prop_map(|(segments, tail)| {
        let name = |(at, segment): (usize, &str)| match segment {
            "{}" => format!("/{{p{at}}}"),
            text => format!("/{text}"),
        };
        let path: String = segments.into_iter().enumerate().map(name).collect::<String>() + tail;
        if path.is_empty() { "/".to_owned() } else { path }
    })
}

fn any_route() -> impl Strategy<Value = (String, Vec<&'static str>, &'static str)> {
    let methods =
        prop_oneof![Just(vec![]), Just(vec!["GET"]), Just(vec!["POST"]), Just(vec!["HEAD"]), Just(vec!["GET", "POST"])];
    let host = prop_oneof![Just(""), Just("example.com"), Just("*.example.com"), Just("*.b.example.com")];
    (any_pattern(), methods, host)
}

fn any_path() -> impl Strategy<Value = String> {
    let segment = prop_oneof![3 => Just("a"), 3 => Just("b"), 2 => Just("c"), 1 => Just("")];
    prop::collection::vec(segment, 0..5).prop_map(|segments| format!("/{}", segments.join("/")))
}

fn host_rank(host: &str, asked: &str) -> Option<usize> {
    match host.strip_prefix("*.") {
        _ if host.is_empty() => Some(1_000),
        Some(below) => asked.strip_suffix(below).filter(|rest| rest.ends_with('.')).map(|rest| 1 + rest.len()),
        None => (host == asked).then_some(0),
    }
}

proptest! {
    #[test]
    fn the_tree_finds_what_a_list_in_order_finds(
        routes in prop::collection::vec(any_route(), 1..12),
        path in any_path(),
        method in prop_oneof![Just("GET"), Just("POST"), Just("HEAD"), Just("PUT")],
        asked in prop_oneof![Just("example.com"), Just("x.example.com"), Just("x.b.example.com")],
    ) {
        let mut rules: Vec<Rule> = Vec::new();
        for (at, (path, methods, host)) in routes.iter().enumerate() {
            let new = rule(at, host, methods, path);
            if !rules.iter().any(|other| other.spec.conflicts(&new.spec)) {
                rules.push(new);
            }
        }
        let by_method = |rule: &Rule| match (rule.takes(method), rule.takes("GET"), rule.spec.methods.is_empty()) {
            (true, ..) => Some(0),
            (_, true, _) if method == "HEAD" => Some(1),
            (_, _, true) => Some(2),
            _ => None,
        };
        let ranked = rules.iter().filter_map(|rule| {
            let host = rule.spec.host.as_ref().map(ToString::to_string).unwrap_or_default();
            Some(((host_rank(&host, asked)?, rank(&rule.spec.path, &path)?, by_method(rule)?), rule.name.to_string()))
        });
        let expected = ranked.min().map(|(_, name)| name);
        let router = router(rules);
        let found = match router.site("shop").unwrap().find(Some(asked), &path, method) {
            Lookup::Found(matched) => Some(matched.rule.name.to_string()),
            _ => None,
        };
        prop_assert_eq!(found, expected);
    }
}
