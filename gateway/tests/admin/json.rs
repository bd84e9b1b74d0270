//! The JSON endpoints: what they answer, how they refuse, and whether the OpenAPI document says so.

use serde_json::{Value, json};

use super::world::World;

async fn error(answer: reqwest::Response) -> (u16, Value) {
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    assert_eq!(headers["content-type"], "application/json");
    let body: Value = answer.json().await.unwrap();
    let error = body["error"].clone();
    assert_eq!(error["request_id"].as_str(), headers["x-request-id"].to_str().ok(), "{error}");
    assert!(!error["message"].as_str().unwrap().is_empty());
    (status, error)
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_and_details_are_snake_case_with_times_and_names() {
    let world = World::new().await;
    let token = world.tokens.operator();
    let get = async |path: &str| -> Value {
        let answer = world.get(path).bearer_auth(&token).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        answer.json().await.unwrap()
    };
    let list = get("/api/v1/namespaces/shop/functions?page_size=2").await;
    assert_eq!(list["functions"].as_array().unwrap().len(), 2);
    let next = list["next_page_token"].as_str().unwrap();
    let rest = get(&format!("/api/v1/namespaces/shop/functions?page_token={next}")).await;
    assert_eq!(rest["functions"].as_array().unwrap().len(), 3);
    let function = get("/api/v1/namespaces/shop/functions/checkout").await;
    assert_eq!(function["traffic"], json!([{ "version": 3, "percent": 90 }, { "version": 4, "percent": 10 }]));
    assert!(function["update_time"].as_str().unwrap().ends_with('Z'));
    let version = get("/api/v1/namespaces/shop/functions/checkout/versions/2").await;
    assert_eq!((&version["kind"], &version["limits"]["timeout_ms"]), (&json!("http-0.2"), &json!(10_000)));
    let cluster = get("/api/v1/cluster").await;
    assert_eq!(cluster["workers"][1]["state"], "draining");
    assert_eq!(get("/api/v1/workers/worker-3").await["state"], "lost");
    let aliases = get("/api/v1/namespaces/shop/functions/checkout/aliases").await;
    assert_eq!(
        (&aliases["aliases"][0]["alias"], &aliases["aliases"][0]["traffic"]),
        (&json!("live"), &function["traffic"])
    );
    assert_eq!(aliases["aliases"][0]["sticky"], json!({ "header": "x-user", "cookie": false }));
    let releases = get("/api/v1/namespaces/shop/releases").await;
    assert_eq!((&releases["releases"][0]["number"], &releases["next_page_token"]), (&json!(2), &json!("")));
    let release = get("/api/v1/namespaces/shop/releases/1").await;
    assert_eq!(
        (&release["release"]["cause"], &release["functions"][0]["function"]),
        (&json!("deploy checkout@3"), &json!("checkout"))
    );
    let apps = get("/api/v1/namespaces/shop/apps").await;
    assert_eq!((&apps["apps"][0]["app"], &apps["apps"][0]["release"]["number"]), (&json!("till"), &json!(2)));
    assert_eq!(get("/api/v1/namespaces/shop/apps/till").await["routes"], json!(["pay", "refund"]));
    let diff = get("/api/v1/namespaces/shop/releases/2/diff?from=1").await;
    assert_eq!((&diff["from"], &diff["differences"][0]["after"]), (&json!(1), &json!("/pay")));
    let usage = get("/api/v1/namespaces/shop/usage?by=hour,function").await;
    let line = &usage["usage"][0];
    assert_eq!((&line["hour"], &line["cpu_us"]), (&json!("2025-11-23T15:00:00.000Z"), &json!(5_600_000)));
    assert_eq!((&line["key"], &line["invocations"]), (&Value::Null, &json!(1_234)));
    let budget = get("/api/v1/namespaces/shop/budget").await;
    assert_eq!((&budget["calls"]["state"], &budget["cpu_seconds"]), (&json!("warning"), &Value::Null));
    assert!(version["preview_urls"][0].as_str().unwrap().ends_with("/shop/checkout@2/"), "{version}");
    let identity = get("/api/v1/identity").await;
    assert_eq!((&identity["grants"], &identity["address"]), (&json!([{ "role": "operator" }]), &json!("127.0.0.1")));
    assert!(identity["issue_time"].is_string() && identity["token_id"].is_string(), "{identity}");
    assert_eq!(get("/api/v1/namespaces/shop/keys").await["keys"][0]["expire_time"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_an_answer_already_is_told_so_and_changes_depend_on_what_was_seen() {
    let world = World::new().await;
    let token = world.tokens.with(&[("shop", "admin")]);
    let path = "/api/v1/namespaces/shop/functions/stock";
    let first = world.get(path).bearer_auth(&token).send().await.unwrap();
    let tag = first.headers()["etag"].to_str().unwrap().to_owned();
    assert!(tag.starts_with('"') && tag.len() > 20, "{tag}");
    for (list, status) in
        [(tag.clone(), 304), (format!("\"x\", {tag}"), 304), ("*".to_owned(), 304), ("\"x\"".to_owned(), 200)]
    {
        let answer = world.get(path).bearer_auth(&token).header("if-none-match", &list).send().await.unwrap();
        assert_eq!(answer.status(), status, "{list}");
        assert_eq!(answer.headers()["etag"], tag.as_str());
        assert_eq!(answer.bytes().await.unwrap().is_empty(), status == 304, "{list}");
    }
    let change = async |name: &str, value: &str, path: &str| {
        let request = world.request("PATCH", path).bearer_auth(&token).header(name, value);
        request.header("content-type", "application/json").body(r#"{"public":true}"#).send().await.unwrap()
    };
    let nowhere = "/api/v1/namespaces/shop/functions/nowhere";
    for (name, value, path) in [("if-match", "\"x\"", path), ("if-none-match", "*", path), ("if-match", "*", nowhere)] {
        let (status, error) = error(change(name, value, path).await).await;
        assert_eq!((status, &error["code"]), (412, &json!("changed")), "{name}: {value}");
    }
    let unchanged = world.get(path).bearer_auth(&token).send().await.unwrap();
    assert_eq!(unchanged.headers()["etag"], tag.as_str(), "nothing was changed");
    assert_eq!(change("if-match", &tag, path).await.status(), 200);
    let (status, _) = error(change("if-match", &tag, path).await).await;
    assert_eq!(status, 412, "it has been changed");
    let nobody = world.request("PATCH", path).header("if-match", "*").send().await.unwrap();
    assert_eq!(error(nobody).await.0, 401);
    let stranger = world.tokens.with(&[("bank", "admin")]);
    let answer = world.request("PATCH", path).bearer_auth(&stranger).header("if-match", "*").send().await.unwrap();
    assert!(matches!(error(answer).await.0, 403 | 404 | 412));
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_is_a_table_for_other_programs_too() {
    let world = World::new().await;
    let token = world.tokens.with(&[("shop", "viewer")]);
    let get = async |path: &str| world.get(path).bearer_auth(&token).send().await.unwrap();
    let answer = get("/api/v1/namespaces/shop/usage.csv").await;
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["content-type"]),
        (200, &"text/csv; charset=utf-8".parse().unwrap())
    );
    let text = answer.text().await.unwrap();
    let rows: Vec<_> = text.lines().collect();
    assert!(
        rows[0].starts_with("hour,function,") && rows[1].starts_with("2025-11-23T15:00:00.000Z,checkout,"),
        "{text}"
    );
    for wrong in ["by=day", "from=yesterday", "to=1", "page_size=0", "x=1"] {
        let (status, error) = error(get(&format!("/api/v1/namespaces/shop/usage?{wrong}")).await).await;
        assert_eq!((status, &error["code"]), (400, &json!("invalid_argument")), "{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_change_and_secrets_are_in_one_answer_alone() {
    let world = World::new().await;
    let token = world.tokens.with(&[("shop", "admin")]);
    let send = async |method: &str, path: &str, body: Value| {
        let request = world.request(method, &format!("/api/v1/namespaces/shop{path}")).bearer_auth(&token);
        let answer = request.header("content-type", "application/json").body(body.to_string()).send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap_or_default())
    };
    let (status, changed) = send("PATCH", "/functions/stock", json!({ "public": true })).await;
    assert_eq!((status, &changed["public"], &changed["description"]), (200, &json!(true), &json!("How many are left")));
    let shares = json!({ "traffic": [{ "version": 1, "percent": 50 }, { "version": 2, "percent": 50 }] });
    assert_eq!(send("PUT", "/functions/stock/traffic", shares).await.0, 200);
    let halves = json!({ "traffic": [{ "version": 1, "percent": 50 }, { "version": 2, "percent": 50 }] });
    let beta = "/functions/stock/aliases/beta";
    let (status, set) = send("PUT", beta, halves).await;
    assert_eq!(
        (status, &set["alias"]["alias"], &set["lagging_gateways"]),
        (200, &json!("beta"), &json!(["gateway-2"]))
    );
    for bad in [
        json!({}),
        json!({ "traffic": [] }),
        json!({ "traffic": [{ "version": 1, "percent": 100 }], "sticky": { "header": "a b" } }),
        json!({ "traffic": [{ "version": 1, "percent": 100 }], "sticky": null }),
    ] {
        assert_eq!(send("PUT", beta, bad.clone()).await.0, 400, "{bad}");
    }
    let (status, promoted) = send("POST", &format!("{beta}/promote"), json!({})).await;
    assert_eq!((status, &promoted["alias"]["traffic"][0]["percent"]), (200, &json!(100)));
    assert_eq!(send("DELETE", beta, Value::Null).await, (200, json!({ "lagging_gateways": [] })));
    let (status, rolled) = send("POST", "/functions/stock/rollback", json!({ "version": 2 })).await;
    assert_eq!((status, &rolled["version"]), (200, &json!(2)));
    let (status, back) = send("POST", "/releases/1/rollback", json!({})).await;
    assert_eq!(
        (status, &back["release"]["number"], &back["lagging_gateways"]),
        (200, &json!(3), &json!(["gateway-2"]))
    );
    let route = json!({ "route": "pay", "spec": { "path": "/pay", "target": { "kind": "response" } } });
    let app = json!({ "functions": [{ "function": "stock", "version": 2 }, { "function": "pay" }], "routes": [route] });
    let (status, app) = send("PUT", "/apps/till", app).await;
    assert_eq!(
        (status, &app["release"]["number"], &app["differences"][0]["subject"], &app["lagging_gateways"]),
        (200, &json!(3), &json!("routes/pay"), &json!(["gateway-2"]))
    );
    for bad in [json!({ "canary_percent": 100 }), json!({ "functions": [{ "function": "stock", "version": 0 }] })] {
        assert_eq!(send("PUT", "/apps/till", bad.clone()).await.0, 400, "{bad}");
    }
    assert_eq!(send("POST", "/releases/9/rollback", json!({})).await.0, 404);
    assert_eq!(send("POST", "/releases/0/rollback", json!({})).await.0, 400);
    assert_eq!(send("GET", "/releases/2/diff?from=0", Value::Null).await.0, 400);
    let spec = json!({ "path": "/x/{id}", "target": { "kind": "redirect", "location": "/{id}" }, "methods": ["GET"] });
    let (status, put) = send("PUT", "/routes/x", spec).await;
    assert_eq!(
        (status, &put["route"], &put["spec"]["auth"], &put["spec"]["target"]["location"]),
        (200, &json!("x"), &json!("function"), &json!("/{id}"))
    );
    let (status, refused) = send("PUT", "/routes/x", json!({ "path": "x", "target": { "kind": "response" } })).await;
    assert_eq!((status, &refused["error"]["field"]), (400, &json!("route.path")));
    assert_eq!(send("PUT", "/routes/x", json!({ "path": "/x" })).await.0, 400, "a route has a target");
    let (status, given) = send("POST", "/domains", json!({ "domain": "shop.example" })).await;
    assert_eq!((status, &given["domain"]), (201, &json!("shop.example")));
    assert_eq!(send("POST", "/domains", json!({ "domain": "example.com" })).await.0, 409, "it holds a shared host");
    assert_eq!(send("PATCH", "/functions/stock", json!({ "disabled": true })).await.0, 200);
    let (status, made) = send("POST", "/keys", json!({ "display_name": "x", "lifetime_seconds": 60 })).await;
    assert_eq!(status, 201);
    assert!(made["secret"].as_str().unwrap().starts_with("dk_"));
    assert!(made["key"].get("secret").is_none());
    let key = made["key"]["key"].as_str().unwrap();
    let (status, revoked) = send("DELETE", &format!("/keys/{key}"), Value::Null).await;
    assert_eq!((status, revoked["revoke_time"].is_string()), (200, true));
    assert_eq!(send("DELETE", "/functions/stock", Value::Null).await.0, 204);
    assert_eq!(send("DELETE", "/functions/stock", Value::Null).await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_sees_the_names_of_the_environment_and_no_values() {
    let world = World::new().await;
    let path = "/api/v1/namespaces/shop/functions/price/versions";
    for (role, value) in [("viewer", Value::Null), ("developer", json!("EUR"))] {
        let token = world.tokens.with(&[("shop", role)]);
        let list: Value = world.get(path).bearer_auth(token).send().await.unwrap().json().await.unwrap();
        assert_eq!(list["versions"][0]["environment"]["CURRENCY"], value, "{role}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_goes_wrong_is_json_of_one_shape() {
    let world = World::new().await;
    let token = world.tokens.operator();
    let post = |path: &str, content_type: &str, body: Vec<u8>| {
        world.request("POST", path).bearer_auth(&token).header("content-type", content_type).body(body)
    };
    let get = |path: &str| world.get(path).bearer_auth(&token);
    let (namespaces, json_type) = ("/api/v1/namespaces", "application/json");
    let deep = b"[".repeat(60_000);
    for (what, request, status, code) in [
        ("no such path", get("/api/v1/nothing"), 404, "not_found"),
        ("no such path at all", get("/api/"), 404, "not_found"),
        ("no token", world.get("/api/v1/cluster"), 401, "unauthenticated"),
        ("a scheme that is none", world.get("/api/v1/cluster").basic_auth("a", Some("b")), 401, "unauthenticated"),
        ("no JSON", post(namespaces, json_type, b"{".to_vec()), 400, "invalid_argument"),
        ("deep JSON", post(namespaces, json_type, deep), 400, "invalid_argument"),
        ("JSON of another kind", post(namespaces, json_type, b"[]".to_vec()), 400, "invalid_argument"),
        (
            "an unknown field",
            post(namespaces, json_type, br#"{"namespace":"a","x":1}"#.to_vec()),
            400,
            "invalid_argument",
        ),
        ("not UTF-8", post(namespaces, json_type, vec![0xff, 0xfe]), 400, "invalid_argument"),
        ("no content type", post(namespaces, "text/plain", b"{}".to_vec()), 400, "invalid_argument"),
        ("a large body", post(namespaces, json_type, vec![b' '; 70_000]), 413, "payload_too_large"),
        ("a taken name", post(namespaces, json_type, br#"{"namespace":"shop"}"#.to_vec()), 409, "already_exists"),
        ("a page of no size", get("/api/v1/namespaces?page_size=0"), 400, "invalid_argument"),
        ("a page that is too large", get("/api/v1/namespaces?page_size=1001"), 400, "invalid_argument"),
        ("a size that is none", get("/api/v1/namespaces?page_size=many"), 400, "invalid_argument"),
        ("a size twice", get("/api/v1/namespaces?page_size=1&page_size=2"), 400, "invalid_argument"),
        ("an unknown parameter", get("/api/v1/namespaces?pagesize=1"), 400, "invalid_argument"),
        ("a name that is none", get("/api/v1/namespaces/Shop"), 400, "invalid_argument"),
        ("a name with a slash", get("/api/v1/namespaces/shop%2Ffunctions%2Fprice"), 400, "invalid_argument"),
        ("a name that is not UTF-8", get("/api/v1/namespaces/%ff"), 400, "invalid_argument"),
        ("no lines", get("/api/v1/namespaces/shop/logs?lines=0"), 400, "invalid_argument"),
        ("a time that is none", get("/api/v1/namespaces/shop/logs?since=now"), 400, "invalid_argument"),
        ("a version that is none", get("/api/v1/namespaces/shop/functions/price/versions/0"), 400, "invalid_argument"),
    ] {
        let (found, body) = error(request.send().await.unwrap()).await;
        assert_eq!((found, body["code"].as_str().unwrap()), (status, code), "{what}: {body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wrong_method_is_told_the_right_ones() {
    let world = World::new().await;
    for (method, path, allowed) in [
        ("DELETE", "/api/v1/cluster", "GET,HEAD"),
        ("TRACE", "/api/v1/tokens", "POST"),
        ("POST", "/api/v1/namespaces/shop/functions/price", "DELETE"),
        ("PUT", "/sign-in", "GET,HEAD"),
    ] {
        let answer = world.request(method, path).send().await.unwrap();
        assert_eq!(answer.status(), 405, "{method} {path}");
        assert!(answer.headers()["allow"].to_str().unwrap().contains(allowed), "{:?}", answer.headers()["allow"]);
    }
    // What it depends on does not matter then.
    let traced = world.request("TRACE", "/api/v1/namespaces").bearer_auth(world.tokens.operator());
    let traced = traced.header("if-match", "\"x\"").header("idempotency-key", "k").send().await.unwrap();
    assert_eq!(traced.status(), 405);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scheduler_that_is_away_is_said_to_be_and_nothing_hangs() {
    let world = World::new().await;
    // Nobody knows this secret, so that the scheduler refuses; the cause is not the caller's business.
    let token = world.tokens.operator();
    world.scheduler.state().workers.clear();
    let answer = world.get("/api/v1/namespaces/shop/logs").bearer_auth(&token).send().await.unwrap();
    let mut logs = answer.json::<Value>().await.unwrap();
    assert!(logs["cursor"].take().as_str().is_some_and(|cursor| !cursor.is_empty()));
    assert_eq!(logs, json!({ "lines": [], "unreachable": [], "gaps": [], "cursor": null }));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_is_openapi_3_1_and_every_operation_says_how_it_fails() {
    let world = World::new().await;
    let document: Value = world.get("/api/v1/openapi.json").send().await.unwrap().json().await.unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(document["components"]["securitySchemes"]["token"]["scheme"], "bearer");
    let mut ids = std::collections::BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            assert!(ids.insert(operation["operationId"].to_string()), "{method} {path}");
            assert!(operation["summary"].is_string(), "{method} {path}");
            let open = operation["security"] == json!([{}]);
            assert_eq!(open, path.ends_with("openapi.json"));
            for status in ["400", "401", "403", "404", "500", "503"].iter().filter(|_| !open) {
                let schema = &operation["responses"][status]["content"]["application/json"]["schema"];
                assert_eq!(schema["$ref"], "#/components/schemas/Error", "{method} {path} {status}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_router_has_what_the_document_has() {
    let world = World::new().await;
    let document: Value = world.get("/api/v1/openapi.json").send().await.unwrap().json().await.unwrap();
    for (path, methods) in document["paths"].as_object().unwrap() {
        let known = methods.as_object().unwrap();
        let concrete = path.replace(['{', '}'], "");
        for method in ["get", "put", "post", "delete", "patch", "options", "trace"] {
            let answer = world.request(&method.to_uppercase(), &concrete).send().await.unwrap();
            let expected = if known.contains_key(method) { (401, 200) } else { (405, 405) };
            let status = answer.status().as_u16();
            assert!(status == expected.0 || status == expected.1, "{method} {path}: {status}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_is_called_by_developers_with_what_the_document_allows() {
    let world = World::new().await;
    let developer = world.tokens.with(&[("shop", "developer")]);
    let call = async |function: &str, token: &str, body: Value| {
        let path = format!("/api/v1/namespaces/shop/functions/{function}/test");
        world.request("POST", &path).bearer_auth(token).json(&body).send().await.unwrap()
    };
    let (status, missing) = error(call("none", &developer, json!({})).await).await;
    assert_eq!((status, &missing["code"]), (404, &json!("not_found")));
    for bad in [json!({ "method": "CONNECT" }), json!({ "path": "no-slash" }), json!({ "more": 1 })] {
        assert_eq!(error(call("checkout", &developer, bad).await).await.0, 400);
    }
    let viewer = world.tokens.with(&[("shop", "viewer")]);
    assert_eq!(error(call("checkout", &viewer, json!({})).await).await.0, 403);
    // This gateway serves no function: it comes as far as one is looked for.
    let full = json!({
        "method": "POST", "path": "/a?b=1", "headers": [{ "name": "x-one", "value": "1" }], "body": "x", "version": 3,
    });
    assert_eq!(error(call("checkout", &developer, full).await).await.0, 404);
}
