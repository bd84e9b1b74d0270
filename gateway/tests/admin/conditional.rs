//! Requests that depend on what a client has seen: what has a tag, and where a change can name it.

use serde_json::{Value, json};

use super::{matrix::concrete, world::World};

#[tokio::test(flavor = "multi_thread")]
async fn what_a_change_can_depend_on_can_be_read_at_its_address() {
    let world = World::new().await;
    let document: Value = world.get("/api/v1/openapi.json").send().await.unwrap().json().await.unwrap();
    let (mut wrong, mut conditional) = (Vec::new(), 0);
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in ["put", "patch", "delete", "post"] {
            let named = |parameter: &Value| parameter["name"] == "If-Match" || parameter["name"] == "If-None-Match";
            let parameters = methods[method]["parameters"].as_array().into_iter().flatten();
            let depends = parameters.filter(|parameter| named(parameter)).count() > 0;
            conditional += usize::from(depends);
            if depends && methods["get"].is_null() {
                wrong.push(format!("{method} {path}"));
            }
        }
    }
    assert!(wrong.is_empty() && conditional > 20, "{conditional}: {wrong:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lists_have_is_made_once_and_changed_as_it_was_seen() {
    let world = World::new().await;
    let token = world.tokens.with(&[("shop", "admin")]);
    let plan = json!({ "quota": { "requests": 10, "period": "day" } });
    let shares = json!({ "traffic": [{ "version": 3, "percent": 100 }] });
    for (there, nowhere, body) in [
        ("/plans/basic", "/plans/none", plan),
        ("/functions/checkout/aliases/live", "/functions/checkout/aliases/none", shares),
    ] {
        let path = |path: &str| format!("/api/v1/namespaces/shop{path}");
        let put = async |at: &str, name: &str, value: &str| {
            let request = world.request("PUT", &path(at)).bearer_auth(&token).header(name, value);
            request.json(&body).send().await.unwrap().status().as_u16()
        };
        let seen = world.get(&path(there)).bearer_auth(&token).send().await.unwrap();
        assert_eq!(seen.status(), 200, "{there}");
        let tag = seen.headers()["etag"].to_str().unwrap().to_owned();
        assert_eq!(world.get(&path(nowhere)).bearer_auth(&token).send().await.unwrap().status(), 404);
        assert_eq!(put(there, "if-none-match", "*").await, 412, "{there}");
        assert_eq!(put(there, "if-match", "\"x\"").await, 412, "{there}");
        assert_eq!(put(there, "if-match", &tag).await, 200, "{there}");
        assert_eq!(put(nowhere, "if-match", "*").await, 412, "{nowhere}");
        assert_eq!(put(nowhere, "if-none-match", "*").await, 200, "{nowhere}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_says_so() {
    let world = World::new().await;
    let token = world.tokens.operator();
    let path = "/api/v1/namespaces/shop/functions/checkout/rollback";
    let request = world.request("POST", path).bearer_auth(&token).header("if-match", "*").json(&json!({}));
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 412);
    let error: Value = answer.json().await.unwrap();
    assert!(error["error"]["message"].as_str().unwrap().contains("no GET"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn head_has_what_get_has_without_the_body() {
    let world = World::new().await;
    let token = world.tokens.operator();
    for path in ["/namespaces/shop/functions", "/namespaces/shop/functions/stock"] {
        let path = format!("/api/v1{path}");
        let ask = async |method: &str, tag: &str| {
            let request = world.request(method, &path).bearer_auth(&token).header("if-none-match", tag);
            request.send().await.unwrap()
        };
        let (get, head) = (ask("GET", "\"x\"").await, ask("HEAD", "\"x\"").await);
        assert_eq!((get.status(), head.status()), (head.status(), get.status()), "{path}");
        for name in ["etag", "content-type", "content-length"] {
            assert_eq!(head.headers()[name], get.headers()[name], "{path} {name}");
        }
        let tag = head.headers()["etag"].to_str().unwrap().to_owned();
        assert_eq!(ask("HEAD", &tag).await.status(), 304, "{path}");
        assert!(head.bytes().await.unwrap().is_empty());
    }
    let missing = world.request("HEAD", "/api/v1/namespaces/shop/functions/none").bearer_auth(&token);
    assert_eq!(missing.send().await.unwrap().status(), 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_without_a_new_line_are_not_sent_again() {
    let world = World::new().await;
    let token = world.tokens.operator();
    for path in ["/namespaces/shop/logs?lines=2", "/namespaces/shop/functions/checkout/logs"] {
        let path = format!("/api/v1{path}");
        let mut statuses = Vec::new();
        // A machine that stands still for a second makes workers look as if they were away, which is news.
        while !statuses.contains(&304) {
            assert!(statuses.len() < 5, "{path}: {statuses:?}");
            let first = world.get(&path).bearer_auth(&token).send().await.unwrap();
            let tag = first.headers()["etag"].clone();
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            let again = world.get(&path).bearer_auth(&token).header("if-none-match", tag).send().await.unwrap();
            statuses.push(again.status().as_u16());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_no_object() {
    let world = World::new().await;
    let token = world.tokens.operator();
    for (method, path, body) in [
        ("POST", "/namespaces", json!(["made"])),
        ("POST", "/workers/{worker}/drain", json!([])),
        ("POST", "/namespaces/{namespace}/releases/{release}/rollback", json!([])),
        ("POST", "/namespaces/{namespace}/keys", json!([])),
        ("PUT", "/namespaces/{namespace}/apps/{app}", json!([[]])),
        ("PATCH", "/namespaces/{namespace}", json!([])),
        ("PATCH", "/namespaces/{namespace}/functions/{function}", json!([])),
        ("PUT", "/namespaces/{namespace}/plans/{plan}", json!({ "rate": [1, "second"] })),
        ("PUT", "/namespaces/{namespace}/functions/{function}/traffic", json!({ "traffic": [[1, 100]] })),
    ] {
        let path = format!("/api/v1{}", concrete(path, "shop"));
        let answer = world.request(method, &path).bearer_auth(&token).json(&body).send().await.unwrap();
        assert_eq!(answer.status(), 400, "{method} {path} {body}");
        let error: Value = answer.json().await.unwrap();
        assert!(error["error"]["message"].as_str().unwrap().contains("a JSON object"), "{error}");
    }
}
