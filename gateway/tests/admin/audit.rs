//! The audit log at the gateway: what the scheduler learns of who asks, what is noted of refusals, and how the log is shown.

use std::collections::BTreeMap;

use dunlin_proto::{audit::Granted, v1};
use serde_json::{Value, json};

use super::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn the_scheduler_learns_who_asks_from_where_and_by_which_token() {
    let world = World::new().await;
    let token = world.tokens.sign(&json!({
        "sub": "Zoë", "jti": "t-1", "grants": [{ "namespace": "shop", "role": "admin" }],
    }));
    let path = "/api/v1/namespaces/shop/plans/basic";
    let body = json!({ "quota": { "requests": 10, "period": "day" } });
    let answer = world.request("PUT", path).bearer_auth(&token).json(&body).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let request_id = answer.headers()["x-request-id"].to_str().unwrap().to_owned();
    let (method, author) = world.scheduler.state().authors.last().unwrap().clone();
    assert_eq!((method, author.subject.as_str(), author.issuer.as_str()), ("PutPlan", "Zoë", "dunlin"));
    assert_eq!((author.token_id.as_str(), author.address.as_str()), ("t-1", "127.0.0.1"));
    assert_eq!(author.request_id, request_id);
    assert_eq!(author.grants, [Granted { namespace: "shop".into(), role: "admin".into() }]);
    assert!(!author.gateway.is_empty() && !format!("{author:?}").contains(&token));
    let mut client = v1::plan_service_client::PlanServiceClient::new(world.channel().await);
    let mut request = tonic::Request::new(v1::ListPlansRequest { parent: "namespaces/shop".into() });
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    client.list_plans(request).await.unwrap();
    let (method, author) = world.scheduler.state().authors.last().unwrap().clone();
    assert_eq!((method, author.address.as_str()), ("ListPlans", "127.0.0.1"), "the same over gRPC");
    assert!(!author.request_id.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_changes_and_sign_ins_are_noted_and_refused_reading_is_not() {
    let world = World::new().await;
    let token = world.tokens.with(&[("shop", "viewer")]);
    for _ in 0..3 {
        let answer = world.request("DELETE", "/api/v1/namespaces/shop/routes/a").bearer_auth(&token).send().await;
        assert_eq!(answer.unwrap().status(), 403);
    }
    let hidden = world.request("DELETE", "/api/v1/namespaces/bank/routes/a").bearer_auth(&token).send().await;
    assert_eq!(hidden.unwrap().status(), 404);
    assert_eq!(world.get("/api/v1/workers").bearer_auth(&token).send().await.unwrap().status(), 403);
    let signed_in = world.form("/sign-in", "", &[("token", &token)]).send().await;
    assert_eq!(signed_in.unwrap().status(), 303);
    // Those that came late on a slow machine are told half a minute after the first.
    let expected = BTreeMap::from([
        (("route.delete".to_owned(), "bank".to_owned(), String::new(), true), 1),
        (("route.delete".to_owned(), "shop".to_owned(), "viewer".to_owned(), true), 3),
        (("session.begin".to_owned(), String::new(), String::new(), false), 1),
    ]);
    let told = || {
        let mut sums = BTreeMap::new();
        for it in world.scheduler.state().attempts.clone() {
            *sums.entry((it.action, it.namespace, it.role, it.refused)).or_insert(0) += it.count;
        }
        sums
    };
    for _ in 0..3_000 {
        if told() == expected {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(told(), expected);
    let noted = world.scheduler.state().attempts.clone();
    assert!(noted.iter().all(|it| it.subject == "ada" && it.address == "127.0.0.1" && !it.token_id.is_empty()));
    assert!(!format!("{noted:?}").contains(&token));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_json_to_the_microsecond_and_its_end_is_signed() {
    let world = World::new().await;
    let get = async |path: &str| -> Value {
        world.get(path).bearer_auth(world.tokens.operator()).send().await.unwrap().json().await.unwrap()
    };
    let list = get("/api/v1/audit?subject=zoe&action=route&oldest_first=true&since=2026-01-31T12:00:00Z").await;
    let entry = &list["entries"][0];
    assert!(entry["time"].as_str().unwrap().ends_with(".123456Z"), "{entry}");
    assert_eq!((&entry["outcome"], &entry["after"]), (&json!("refused"), &json!(r#"{"attempts":3}"#)));
    let head = get("/api/v1/audit/head").await;
    assert_eq!((&head["head"]["sequence"], &head["checkpoint"]), (&json!(2), &json!(null)));
    assert!(
        head["head"]["signature"].as_str().unwrap().len() == 88 && head["public_key"].as_str().unwrap().len() == 44
    );
    for wrong in ["?since=yesterday", "?page_size=0", "?nothing=1", "?oldest_first=2"] {
        let answer = world.get(&format!("/api/v1/audit{wrong}")).bearer_auth(world.tokens.operator()).send().await;
        assert_eq!(answer.unwrap().status(), 400, "{wrong}");
    }
    let admin = world.tokens.with(&[("shop", "admin")]);
    let denied: Value = world.get("/api/v1/audit/head").bearer_auth(&admin).send().await.unwrap().json().await.unwrap();
    assert!(denied["error"]["hint"].as_str().unwrap().contains("only an operator can verify"), "{denied}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_shows_what_changed_and_only_to_admins() {
    let world = World::new().await;
    let admin = world.tokens.with(&[("shop", "admin")]);
    let page = world.page("/namespaces/shop/audit?action=route", &admin).await.text().await.unwrap();
    for part in ["<h1>Audit</h1>", "spec.cache", "<del>false</del>", "<ins>true</ins>", "refused", "192.0.2.7"] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert!(
        page.contains("dunlin audit list --namespace shop --action route")
            && page.contains("only an operator can verify")
    );
    assert!(page.contains("href=\"/namespaces/shop/audit\" aria-current=\"page\""));
    assert_eq!(world.page("/audit", &admin).await.status(), 403);
    let viewer = world.tokens.with(&[("shop", "viewer")]);
    assert_eq!(world.page("/namespaces/shop/audit", &viewer).await.status(), 403);
    let keys = world.page("/namespaces/shop/keys", &viewer).await.text().await.unwrap();
    assert!(!keys.contains("/namespaces/shop/audit"), "what is not theirs to see is not offered");
}
