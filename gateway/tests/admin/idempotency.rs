//! `Idempotency-Key`: the same answer for the same request, and everything is done once.

use serde_json::{Value, json};

use super::world::World;

const KEY: &str = "idempotency-key";

fn created(world: &World) -> usize {
    world.scheduler.state().calls.iter().filter(|(method, _)| *method == "CreateKey").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_with_a_key_is_made_once_and_answered_alike() {
    let world = World::new().await;
    let token = world.tokens.with(&[("shop", "admin")]);
    let make = async |key: &str, body: Value| {
        let request = world.request("POST", "/api/v1/namespaces/shop/keys").bearer_auth(&token);
        request.header(KEY, key).json(&body).send().await.unwrap()
    };
    let body = || json!({ "display_name": "till" });
    let first = make("\"k-1\"", body()).await;
    assert!(first.status().is_success() && first.headers().get("idempotent-replayed").is_none(), "{first:?}");
    let (status, kind) = (first.status(), first.headers()["content-type"].clone());
    let first: Value = first.json().await.unwrap();
    let again = make("k-1", body()).await;
    assert_eq!((again.status(), &again.headers()["content-type"]), (status, &kind));
    assert_eq!(again.headers()["idempotent-replayed"], "true");
    assert_eq!(again.json::<Value>().await.unwrap(), first);
    assert_eq!(created(&world), 1);
    let other = make("k-1", json!({ "display_name": "shelf" })).await;
    assert_eq!(other.status(), 422);
    assert_eq!(other.json::<Value>().await.unwrap()["error"]["code"], "idempotency_key_reused");
    for bad in ["", "\"", "a b", "a,b"] {
        assert_eq!(make(bad, body()).await.status(), 400, "{bad:?}");
    }
    assert!(make("k-2", body()).await.status().is_success());
    assert_eq!(created(&world), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_is_given_again_with_its_body_and_what_may_pass_is_not_kept() {
    let world = World::new().await;
    let token = world.tokens.with(&[("shop", "admin")]);
    let make = async |path: &str, token: &str, body: Value| {
        let request = world.request("POST", path).bearer_auth(token).header(KEY, "k-1");
        let answer = request.json(&body).send().await.unwrap();
        let replayed = answer.headers().contains_key("idempotent-replayed");
        (answer.status().as_u16(), replayed, answer.text().await.unwrap())
    };
    let bad = json!({ "display_name": "till", "functions": ["../x"] });
    let (status, replayed, text) = make("/api/v1/namespaces/shop/keys", &token, bad.clone()).await;
    assert!(status == 400 && !replayed && text.contains("functions"), "{text}");
    assert_eq!(make("/api/v1/namespaces/shop/keys", &token, bad).await, (400, true, text));
    let viewer = world.tokens.with(&[("shop", "viewer")]);
    let body = json!({ "display_name": "till" });
    for _ in 0..2 {
        let (status, replayed, _) = make("/api/v1/namespaces/shop/keys", &viewer, body.clone()).await;
        assert_eq!((status, replayed), (403, false));
        assert_eq!(make("/api/v1/namespaces/bank/keys", &viewer, body.clone()).await.0, 404);
    }
    assert_eq!(world.scheduler.state().kept.len(), 1, "of a stranger nothing is kept");
    let answered = world.get("/api/v1/namespaces/shop").bearer_auth(&viewer).header(KEY, "\"").send().await.unwrap();
    assert_eq!(answered.status(), 200, "reading needs no key");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_says_so_of_each_change() {
    let world = World::new().await;
    let document: Value = world.get("/api/v1/openapi.json").send().await.unwrap().json().await.unwrap();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
            let has = parameters.iter().any(|parameter| parameter["name"] == "Idempotency-Key");
            let changes = ["post", "put", "patch", "delete"].contains(&method.as_str());
            assert_eq!(has, changes, "{method} {path}");
            assert!(!changes || ["400", "409", "422"].iter().all(|status| operation["responses"][status].is_object()));
        }
    }
}
