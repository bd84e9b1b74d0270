//! Explicit routes from outside: what the function is given, what is answered without one, who is let in.

use dunlin_proto::{
    internal::v1::{ConfigDelta, FunctionConfig, NamespaceLimit, NamespaceLimits, OwnedDomain, OwnedDomains},
    v1::{self, route::Target},
};
use http::Request;
use http_body_util::Empty;

use crate::harness::{Answer, Cluster, KEYS, PRIVATE, PUBLIC, Plan, eventually, get, h2, key, send};

fn calling(function: &str, rewrite: &str) -> Option<Target> {
    Some(Target::Function(v1::FunctionTarget {
        function: function.into(),
        rewrite: rewrite.into(),
        ..Default::default()
    }))
}

fn fixed(status: u32, text: &'static str) -> Option<Target> {
    Some(Target::Response(v1::StaticResponse { status, content_type: String::new(), body: text.into() }))
}

fn redirect(location: &str) -> Option<Target> {
    Some(Target::Redirect(v1::Redirect { location: location.into(), status: 0 }))
}

fn route(name: &str, path: &str, target: Option<Target>) -> v1::Route {
    v1::Route { name: format!("namespaces/shop/routes/{name}"), path: path.into(), target, ..Default::default() }
}

/// A cluster that serves these routes of `shop`, which owns `shop.example`.
async fn with(routes: Vec<v1::Route>) -> Cluster {
    let cluster = Cluster::with(Plan::default()).await;
    // The first call may wait for a session.
    cluster.call("GET", "/", &[], "").await;
    let domain = OwnedDomain { domain: "shop.example".into(), namespace: "shop".into() };
    let domains = Some(OwnedDomains { domains: vec![domain] });
    apply(&cluster, ConfigDelta { base_version: 7, version: 8, routes, domains, ..Default::default() }).await;
    cluster
}

/// Sends a change, and waits until the gateway has it.
async fn apply(cluster: &Cluster, delta: ConfigDelta) {
    let version = delta.version;
    cluster.scheduler.deltas.send(delta).unwrap();
    eventually("the change", async || {
        get(cluster.functions(), "/.well-known/dunlin/health").await.json()["config_version"] == version
    })
    .await;
}

/// Asks on the namespace's own domain.
async fn ask(cluster: &Cluster, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let headers: Vec<_> = [("host", "shop.example")].into_iter().chain(headers.iter().copied()).collect();
    send(cluster.functions(), method, path, &headers, "").await
}

fn given(answer: &Answer, name: &str) -> Option<String> {
    let json = answer.json();
    let headers = json["headers"].as_array().unwrap();
    headers.iter().find(|header| header[0] == name).map(|header| header[1].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_route_leads_to_a_function_on_a_domain_and_below_the_namespace_on_shared_hosts() {
    let rewritten = route("b", "/b/{id}/{rest*}", calling(PUBLIC, "/v1/{rest}/of/{id}"));
    let cluster = with(vec![route("a", "/a/{User-Id}", calling(PUBLIC, "")), rewritten]).await;
    let answer = ask(&cluster, "GET", "/a/7%2F8/?x=1", &[("dunlin-path-user-id", "mine")]).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let json = answer.json();
    assert_eq!((&json["path"], &json["base"]), (&"/a/7%2F8/?x=1".into(), &"".into()));
    assert_eq!(given(&answer, "dunlin-path-user-id").as_deref(), Some("7%2F8"));
    let answer = get(cluster.functions(), "/shop/a/7?x=1").await;
    assert_eq!((&answer.json()["path"], &answer.json()["base"]), (&"/a/7?x=1".into(), &"/shop".into()));
    // The namespace is a segment as any other; what the function is told of it does not depend on how it was written.
    let answer = get(cluster.functions(), "/sh%6Fp/a/%37").await;
    assert_eq!((&answer.json()["path"], &answer.json()["base"]), (&"/a/%37".into(), &"/shop".into()));
    let answer = ask(&cluster, "GET", "/b/1/x/y?q", &[]).await;
    assert_eq!(answer.json()["path"], "/v1/x/y/of/1?q");
    assert_eq!(ask(&cluster, "GET", "/b/1", &[]).await.json()["path"], "/v1/of/1");
    // The automatic address is off, on the domain there is none anyway.
    for (host, path) in
        [("functions.test", "/shop/open"), ("shop.example", "/shop/open"), ("shop.example", "/shop/closed")]
    {
        let answer = send(cluster.functions(), "GET", path, &[("host", host)], "").await;
        assert_eq!((answer.status, answer.code().as_str()), (404, "not_found"), "{host}{path}");
    }
    // Another function has its own still, and below the domain nobody else's begin.
    assert_eq!(get(cluster.functions(), "/shop/closed").await.status, 401);
    assert_eq!(send(cluster.functions(), "GET", "/a/7", &[("host", "www.shop.example")], "").await.status, 200);
}

#[tokio::test]
async fn a_direct_function_keeps_its_automatic_address_and_a_disabled_one_has_none() {
    let cluster = with(vec![route("a", "/a", calling(PUBLIC, ""))]).await;
    let change = |version: u64, direct, disabled| {
        let mut function = cluster.snapshot_function(PUBLIC);
        (function.direct, function.disabled) = (direct, disabled);
        ConfigDelta { base_version: version - 1, version, functions: vec![function], ..Default::default() }
    };
    assert_eq!(cluster.call("GET", "/", &[], "").await.status, 404);
    apply(&cluster, change(9, true, false)).await;
    assert_eq!(cluster.call("GET", "/", &[], "").await.status, 200);
    apply(&cluster, change(10, true, true)).await;
    for answer in [cluster.call("GET", "/", &[], "").await, ask(&cluster, "GET", "/a", &[]).await] {
        assert_eq!(
            (answer.status, answer.code().as_str(), answer.header("retry-after").as_str()),
            (503, "unavailable", "60")
        );
        assert!(answer.text().contains("function shop/open is disabled"), "{answer:?}");
    }
    apply(&cluster, change(11, false, false)).await;
    assert_eq!(ask(&cluster, "GET", "/a", &[]).await.status, 200);
}

#[tokio::test]
async fn what_needs_no_function_is_answered_without_one() {
    let mut hello = route("hello", "/hello", fixed(203, "hello"));
    hello.response_headers = Some(v1::HeaderChanges {
        remove: vec!["content-type".into()],
        add: vec![v1::AddedHeader { name: "x-a".into(), value: "b".into() }],
    });
    let cluster = with(vec![
        hello,
        route("old", "/old/{path*}", redirect("/new/{path}")),
        route("up", "/up/{path+}", redirect("/{path}")),
    ])
    .await;
    let begun = cluster.workers[0].begins().len();
    let answer = ask(&cluster, "GET", "/hello", &[]).await;
    assert_eq!((answer.status, answer.text().as_str(), answer.header("x-a").as_str()), (203, "hello", "b"));
    assert!(answer.header("content-type").is_empty() && !answer.header("x-request-id").is_empty(), "{answer:?}");
    let answer = ask(&cluster, "HEAD", "/hello", &[]).await;
    assert_eq!((answer.status, answer.body.len(), answer.header("content-length").as_str()), (203, 0, "5"));
    let request = Request::head("http://shop.example/hello").body(Empty::<bytes::Bytes>::new()).unwrap();
    let answer = h2(cluster.functions(), request).await;
    assert_eq!((answer.status, answer.body.len(), answer.header("content-length").as_str()), (203, 0, "5"));
    for (path, location) in [
        ("/old", "/new/"),
        ("/old/a%20b/c?d=e", "/new/a%20b/c?d=e"),
        ("/up//evil.example/x", "/evil.example/x"),
        ("/up/a", "/a"),
    ] {
        let answer = ask(&cluster, "GET", path, &[]).await;
        assert_eq!((answer.status, answer.header("location").as_str()), (308, location), "{path}");
    }
    assert_eq!(cluster.workers[0].begins().len(), begun, "no worker was asked");
}

#[tokio::test]
async fn a_method_that_no_route_takes_is_told_which_ones_are() {
    let mut users = route("users", "/users", calling(PUBLIC, ""));
    users.methods = vec!["GET".into(), "POST".into()];
    let mut closed = route("closed", "/closed", fixed(200, "route"));
    closed.methods = vec!["PUT".into()];
    let cluster = with(vec![users, closed]).await;
    assert_eq!(ask(&cluster, "HEAD", "/users", &[]).await.status, 200);
    let answer = ask(&cluster, "DELETE", "/users", &[]).await;
    assert_eq!(
        (answer.status, answer.code().as_str(), answer.header("allow").as_str()),
        (405, "method_not_allowed", "GET, HEAD, POST")
    );
    assert_eq!(get(cluster.functions(), "/shop/users/").await.status, 200);
    assert_eq!(send(cluster.functions(), "DELETE", "/shop/users", &[], "").await.header("allow"), "GET, HEAD, POST");
    // Where an automatic address has the same path, it takes what the routes do not.
    assert_eq!(send(cluster.functions(), "PUT", "/shop/closed", &[], "").await.text(), "route");
    assert_eq!(get(cluster.functions(), "/shop/closed").await.status, 401);
    let answer = ask(&cluster, "GET", "/none", &[]).await;
    assert_eq!((answer.status, answer.code().as_str()), (404, "not_found"));
}

#[tokio::test]
async fn a_route_says_who_may_call() {
    let with_auth = |name: &str, function, auth: v1::RouteAuth| v1::Route {
        auth: auth.into(),
        ..route(name, &format!("/{name}"), calling(function, ""))
    };
    // Tokens of the cluster say no scope.
    let demanding = |name: &str, scopes: &[&str], audience: &str| {
        let scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        let token = v1::TokenRule { scopes, audiences: vec![audience.to_owned()], ..v1::TokenRule::default() };
        v1::Route { token: Some(token), ..with_auth(name, PUBLIC, v1::RouteAuth::Private) }
    };
    let mut far = route("far", "/far", calling(PUBLIC, ""));
    far.allow = vec!["10.0.0.0/8".into()];
    let mut near = route("near", "/near", fixed(200, "near"));
    near.allow = vec!["127.0.0.0/8".into()];
    let mut denied = route("denied", "/denied", fixed(200, "denied"));
    denied.deny = vec!["127.0.0.1".into()];
    let cluster = with(vec![
        with_auth("function", PRIVATE, v1::RouteAuth::Unspecified),
        with_auth("public", PRIVATE, v1::RouteAuth::Public),
        with_auth("private", PUBLIC, v1::RouteAuth::Private),
        with_auth("jwt", PUBLIC, v1::RouteAuth::Jwt),
        with_auth("key", PUBLIC, v1::RouteAuth::Key),
        demanding("audience", &[], "dunlin:shop"),
        demanding("scope", &["read", "write"], "dunlin:shop"),
        demanding("elsewhere", &[], "till"),
        far,
        near,
        denied,
    ])
    .await;
    let (token, key) = (format!("Bearer {}", cluster.token("dunlin:shop")), key(KEYS[0]));
    let (token, key) = (("authorization", token.as_str()), ("x-api-key", key.as_str()));
    for (path, header, status) in [
        ("/function", None, 401),
        ("/function", Some(key), 200),
        ("/public", None, 200),
        ("/private", None, 401),
        ("/private", Some(key), 200),
        ("/private", Some(token), 200),
        ("/jwt", None, 401),
        ("/jwt", Some(key), 401),
        ("/jwt", Some(token), 200),
        ("/key", None, 401),
        ("/key", Some(key), 200),
        ("/key", Some(token), 401),
        ("/audience", Some(token), 200),
        ("/scope", None, 401),
        ("/scope", Some(key), 200),
        ("/scope", Some(token), 403),
        ("/elsewhere", Some(token), 403),
        ("/far", None, 403),
        ("/near", None, 200),
        ("/denied", None, 403),
    ] {
        let answer = ask(&cluster, "GET", path, header.as_slice()).await;
        assert_eq!(answer.status, status, "{path} {header:?}: {answer:?}");
    }
    for (path, credential, says) in [
        ("/jwt", key, "Bearer realm"),
        ("/key", token, "ApiKey realm"),
        ("/private", ("accept", "*/*"), "Bearer realm"),
    ] {
        for header in [("accept", "*/*"), credential] {
            let challenge = ask(&cluster, "GET", path, &[header]).await.header("www-authenticate");
            assert!(challenge.starts_with(says), "{path} {challenge}");
        }
    }
    let error = ask(&cluster, "GET", "/jwt", &[]).await.json()["error"].clone();
    assert!(error["message"] == "this route takes tokens, and the request has none", "{error}");
    assert!(!error["hint"].as_str().unwrap().contains("key"), "{error}");
    let challenge = ask(&cluster, "GET", "/scope", &[token]).await.header("www-authenticate");
    assert_eq!(challenge, r#"Bearer realm="dunlin", error="insufficient_scope", scope="read write""#);
    let answer = ask(&cluster, "GET", "/jwt", &[token]).await;
    assert_eq!(given(&answer, "authorization"), None, "what the gateway consumed does not reach the function");
    // A public route leaves a credential to the function.
    let answer = ask(&cluster, "GET", "/public", &[("authorization", "Bearer mine")]).await;
    assert_eq!(given(&answer, "authorization").as_deref(), Some("Bearer mine"));
}

#[tokio::test]
async fn headers_and_cors_are_the_routes_to_decide() {
    let header = |name: &str, value: &str| v1::AddedHeader { name: name.into(), value: value.into() };
    let mut api = route("api", "/api", calling(PRIVATE, ""));
    api.methods = vec!["GET".into(), "PUT".into()];
    api.request_headers =
        Some(v1::HeaderChanges { remove: vec!["cookie".into()], add: vec![header("authorization", "Basic x")] });
    api.response_headers = Some(v1::HeaderChanges {
        remove: vec![],
        add: vec![header("x-a", "b"), header("set-cookie", "dunlin-session=x")],
    });
    api.cors = Some(v1::CorsPolicy { allow_origins: vec!["https://app.example".into()], ..Default::default() });
    let cluster = with(vec![api, route("plain", "/plain", calling(PUBLIC, ""))]).await;
    let (origin, key) = (("origin", "https://app.example"), key(KEYS[0]));
    let preflight = [origin, ("access-control-request-method", "PUT")];
    let answer = ask(&cluster, "OPTIONS", "/api", &preflight).await;
    assert_eq!((answer.status, answer.header("access-control-allow-methods").as_str()), (204, "GET, PUT"));
    assert_eq!(answer.header("access-control-allow-origin"), "https://app.example");
    let evil = [("origin", "https://evil.example"), ("access-control-request-method", "PUT")];
    let answer = ask(&cluster, "OPTIONS", "/api", &evil).await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin").as_str()), (403, ""));
    // A page may read why it was refused.
    let answer = ask(&cluster, "PUT", "/api", &[origin]).await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin").as_str()), (401, "https://app.example"));
    let answer = ask(&cluster, "PUT", "/api", &[origin, ("x-api-key", &key), ("cookie", "a=b")]).await;
    assert_eq!((answer.status, answer.header("x-a").as_str(), answer.header("vary").as_str()), (200, "b", "origin"));
    assert!(answer.header("set-cookie").is_empty(), "no route signs anybody in to administration");
    assert_eq!((given(&answer, "cookie"), given(&answer, "authorization").as_deref()), (None, Some("Basic x")));
    // Without a policy, the question is the function's.
    assert_eq!(ask(&cluster, "OPTIONS", "/plain", &preflight).await.json()["method"], "OPTIONS");
    assert_eq!(ask(&cluster, "OPTIONS", "/api", &[]).await.status, 405);
}

#[tokio::test]
async fn a_page_that_may_call_a_route_may_read_every_refusal() {
    let plan = Plan { timeout: std::time::Duration::from_secs(2), ..Plan::default() };
    let cluster = Cluster::with(plan).await;
    let allowing = |origin: &str| Some(v1::CorsPolicy { allow_origins: vec![origin.into()], ..Default::default() });
    let of_app = |name: &str, path: &str, target| v1::Route {
        cors: allowing("https://app.example"),
        methods: vec!["POST".into()],
        ..route(name, path, target)
    };
    let mut denied = of_app("denied", "/denied", calling(PUBLIC, ""));
    denied.deny = vec!["127.0.0.1".into()];
    let mut read = route("read", "/open/{path*}", calling(PUBLIC, "/{path}"));
    (read.cors, read.methods) = (allowing("https://reader.example"), vec!["GET".into()]);
    let routes = vec![
        of_app("open", "/open/{path*}", calling(PUBLIC, "/{path}")),
        of_app("private", "/private", calling(PRIVATE, "")),
        denied,
        read,
    ];
    let domain = OwnedDomain { domain: "shop.example".into(), namespace: "shop".into() };
    let domains = Some(OwnedDomains { domains: vec![domain] });
    apply(&cluster, ConfigDelta { base_version: 7, version: 8, routes, domains, ..Default::default() }).await;
    let large = "x".repeat((1 << 20) + 1);
    let check = async |method: &str, path: &str, body: &str, status: u16, origins: &[(&str, &str)]| {
        for (origin, allowed) in origins {
            let headers = [("host", "shop.example"), ("origin", origin)];
            let answer = send(cluster.functions(), method, path, &headers, body).await;
            assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
            assert_eq!(answer.header("access-control-allow-origin"), *allowed, "{method} {path} {origin}");
            assert_eq!(answer.header("vary"), "origin", "{method} {path} {origin}");
        }
    };
    let (app, evil) = ("https://app.example", ("https://evil.example", ""));
    for (path, body, status) in [
        ("/private", "", 401),
        ("/denied", "", 403),
        ("/open/", large.as_str(), 413),
        ("/open/trap", "", 502),
        ("/open/hang", "", 504),
    ] {
        check("POST", path, body, status, &[(app, app), evil]).await;
    }
    // Of the routes that have the path, whichever knows the page speaks; it is not told which others there are.
    let reader = "https://reader.example";
    check("DELETE", "/open/", "", 405, &[(app, app), (reader, reader), evil]).await;
    check("GET", "/private", "", 405, &[(app, app), (reader, ""), evil]).await;
    let limit = NamespaceLimit { namespace: "shop".into(), max_concurrency: 0 };
    let limits = Some(NamespaceLimits { limits: vec![limit], ..Default::default() });
    apply(&cluster, ConfigDelta { base_version: 8, version: 9, limits, ..Default::default() }).await;
    check("POST", "/open/", "", 429, &[(app, app), evil]).await;
}

#[tokio::test]
async fn a_browser_gets_leave_for_routes_without_a_function_before_their_answer() {
    let cors = || Some(v1::CorsPolicy { allow_origins: vec!["https://app.example".into()], ..Default::default() });
    let routes = [("gone", "/gone", fixed(410, "gone")), ("moved", "/moved", redirect("https://new.example/"))];
    let routes = routes.map(|(name, path, target)| v1::Route { cors: cors(), ..route(name, path, target) });
    let cluster = with(routes.into()).await;
    let origin = ("origin", "https://app.example");
    for (path, status) in [("/gone", 410), ("/moved", 308)] {
        let preflight = [origin, ("access-control-request-method", "PUT")];
        let answer = ask(&cluster, "OPTIONS", path, &preflight).await;
        assert_eq!((answer.status, answer.header("access-control-allow-methods").as_str()), (204, "PUT"), "{path}");
        assert!(answer.header("location").is_empty(), "a browser follows no redirect that answers a preflight");
        let answer = ask(&cluster, "PUT", path, &[origin]).await;
        assert_eq!((answer.status, answer.header("access-control-allow-origin").as_str()), (status, origin.1));
        assert_eq!(ask(&cluster, "OPTIONS", path, &[]).await.status, status, "it is no preflight");
    }
}

#[tokio::test]
async fn routes_come_and_go_and_outlive_a_restart_without_the_scheduler() {
    let mut cluster = with(vec![route("a", "/a", fixed(200, "one")), route("b", "/b", fixed(200, "b"))]).await;
    assert_eq!(ask(&cluster, "GET", "/a", &[]).await.text(), "one");
    let delta = ConfigDelta {
        base_version: 8,
        version: 9,
        routes: vec![route("a", "/a", fixed(200, "two"))],
        removed_routes: vec!["namespaces/shop/routes/b".into()],
        ..Default::default()
    };
    apply(&cluster, delta).await;
    assert_eq!(
        (ask(&cluster, "GET", "/a", &[]).await.text().as_str(), ask(&cluster, "GET", "/b", &[]).await.status),
        ("two", 404)
    );
    cluster.scheduler.stop();
    cluster.stop_gateway().await;
    cluster.start_gateway().await;
    assert_eq!(ask(&cluster, "GET", "/a", &[]).await.text(), "two");
}

#[tokio::test]
async fn what_is_the_clusters_becomes_nobodys() {
    let plan = Plan {
        configure: |config| {
            (config.domain, config.path_addressing) = (Some("fn.shop.example".to_owned()), Some(true));
            config.shared_hosts = vec!["faas.shop.example".parse().unwrap()];
        },
        ..Plan::default()
    };
    let cluster = Cluster::with(plan).await;
    let domain = OwnedDomain { domain: "shop.example".into(), namespace: "bank".into() };
    let domains = Some(OwnedDomains { domains: vec![domain] });
    let mut all = route("all", "/...", fixed(200, "bank"));
    all.name = "namespaces/bank/routes/all".into();
    apply(&cluster, ConfigDelta { base_version: 7, version: 8, routes: vec![all], domains, ..Default::default() })
        .await;
    let call = async |host: &str, path: &str| send(cluster.functions(), "GET", path, &[("host", host)], "").await;
    assert_eq!(call("www.shop.example", "/shop/open").await.text(), "bank");
    for (host, path) in
        [("open--shop.fn.shop.example", "/"), ("faas.shop.example", "/shop/open"), ("fn.shop.example", "/shop/open")]
    {
        assert_eq!(call(host, path).await.json()["method"], "GET", "{host}");
    }
    assert_eq!(call("www.shop.example", "/.well-known/dunlin/health").await.json()["status"], "ok");
}

impl Cluster {
    /// A function as the scheduler told of it.
    fn snapshot_function(&self, name: &str) -> FunctionConfig {
        self.scheduler.config.functions.iter().find(|function| function.function == name).unwrap().clone()
    }
}

/// A route that takes `n` in the query and, as JSON, an object with a name.
fn checked(name: &str, path: &str, target: Option<Target>) -> v1::Route {
    let rule = |place: v1::ParameterPlace, name: &str| v1::ParameterRule {
        place: place.into(),
        name: name.into(),
        required: true,
        schema: r#"{"type":"integer"}"#.into(),
        ..Default::default()
    };
    let schema = r#"{"type":"object","required":["name"]}"#.into();
    let body = v1::BodyRule {
        required: false,
        media_types: vec![v1::MediaTypeRule { media_type: "application/json".into(), schema }],
    };
    let parameters = vec![rule(v1::ParameterPlace::Path, "Id"), rule(v1::ParameterPlace::Query, "n")];
    v1::Route { validation: Some(v1::Validation { parameters, body: Some(body) }), ..route(name, path, target) }
}

#[tokio::test]
async fn what_a_route_does_not_take_reaches_no_worker() {
    let private = v1::Route { auth: v1::RouteAuth::Private.into(), ..checked("p", "/p/{Id}", calling(PUBLIC, "")) };
    let cluster = with(vec![checked("a", "/a/{Id}", calling(PUBLIC, "")), private]).await;
    let begun = cluster.workers[0].begins().len();
    let json = ("content-type", "application/json");
    for (method, path, headers, body, status, fields) in [
        ("GET", "/a/x", &[][..], "", 400, &["path.Id", "query.n"][..]),
        ("GET", "/a/7?n=x", &[], "", 400, &["query.n"]),
        ("POST", "/a/7?n=1", &[json], "{}", 400, &["body"]),
        ("POST", "/a/7?n=x", &[json], "{", 400, &["query.n", "body"]),
        ("POST", "/a/7?n=1", &[], "{}", 415, &[]),
        ("POST", "/a/7?n=1", &[("content-type", "text/plain")], "{}", 415, &[]),
        ("GET", "/p/x", &[], "", 401, &[]),
    ] {
        let headers: Vec<_> = [("host", "shop.example")].into_iter().chain(headers.iter().copied()).collect();
        let answer = send(cluster.functions(), method, path, &headers, body).await;
        let found: Vec<_> = answer.json()["error"]["violations"].as_array().into_iter().flatten().cloned().collect();
        let found: Vec<_> = found.iter().map(|violation| violation["field"].as_str().unwrap()).collect();
        assert_eq!((answer.status, found.as_slice()), (status, fields), "{method} {path}: {}", answer.text());
        assert_eq!(answer.header("connection"), "", "the connection goes on");
    }
    let large = format!("{{\"name\":\"{}\"}}", "x".repeat(1 << 20));
    let headers = [("host", "shop.example"), json];
    let answer = send(cluster.functions(), "POST", "/a/7?n=1", &headers, &large).await;
    assert_eq!((answer.status, answer.code().as_str()), (413, "payload_too_large"));
    assert_eq!(cluster.workers[0].begins().len(), begun, "no worker was asked");
    let answer = send(cluster.functions(), "POST", "/a/%37?n=1&m=x", &headers, r#"{"name":"x"}"#).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(ask(&cluster, "GET", "/a/7?n=1", &[]).await.status, 200);
    assert_eq!(cluster.workers[0].begins().len(), begun + 2);
}
