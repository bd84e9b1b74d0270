//! Records of invocations, which lie on every gateway: merged, paged, with those named who did not answer.

use dunlin_proto::v1;
use serde_json::Value;

use super::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn pages_follow_each_other_newest_first_and_a_gateway_that_is_away_is_named() {
    let world = World::new().await;
    let token = world.tokens.with(&[("shop", "viewer")]);
    let get = async |query: &str| world.said_by_all(&format!("/api/v1/namespaces/shop{query}"), &token).await;
    let mut seen = Vec::new();
    let mut page = String::new();
    loop {
        let list = get(&format!("/invocations?page_size=130{page}")).await;
        assert_eq!(list["unreachable"], serde_json::json!(["gateway-3"]));
        seen.extend(list["invocations"].as_array().unwrap().iter().map(|i| i["id"].as_str().unwrap().to_owned()));
        match list["next_page_token"].as_str().unwrap() {
            "" => break,
            token => page = format!("&page_token={token}"),
        }
    }
    assert_eq!(seen.len(), 300);
    assert!(seen.is_sorted_by(|a, b| a > b));
    let failed = get("/functions/checkout/invocations?failed_only=true").await;
    let failed = failed["invocations"].as_array().unwrap();
    assert!(!failed.is_empty() && failed.iter().all(|i| i["outcome"] != "ok" && i["function"] == "checkout"));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_is_found_on_another_gateway_and_under_its_own_name_only() {
    let world = World::new().await;
    let token = world.tokens.operator();
    let name = world.peers.records.lock().unwrap()[0].name.clone();
    let get = async |name: &str| world.get(&format!("/api/v1/{name}")).bearer_auth(&token).send().await.unwrap();
    let found: Value = get(&name).await.json().await.unwrap();
    assert_eq!((found["name"].as_str(), found["gateway"].as_str()), (Some(name.as_str()), Some("gateway-2")));
    assert_eq!(get(&name.replace("namespaces/shop", "namespaces/bank")).await.status(), 503, "gateway-3 may know it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_explained_by_a_gateway_that_did_not_serve_it() {
    let world = World::new().await;
    let token = world.tokens.with(&[("shop", "viewer")]);
    let path = |id: &str| format!("/api/v1/namespaces/shop/requests/{id}/why");
    let why = async |id: &str| world.said_by_all(&path(id), &token).await;
    let record = world.peers.records.lock().unwrap().iter().find(|record| record.outcome == "ok").unwrap().clone();
    let id = record.name.rsplit('/').next().unwrap();
    let told = why(id).await;
    assert_eq!(
        (told["invocation"]["id"].as_str(), told["invocation"]["gateway"].as_str()),
        (Some(id), Some("gateway-2"))
    );
    let stages: Vec<_> = told["steps"].as_array().unwrap().iter().map(|step| step["stage"].as_str().unwrap()).collect();
    assert!(stages.starts_with(&["accepted", "route"]) && stages.ends_with(&["answer"]), "{stages:?}");
    assert!(told["unreachable"].as_array().unwrap().contains(&"gateway-3".into()));
    let own = why("order-7303").await;
    assert_eq!(own["invocation"]["request_id"], "order-7303");
    let none = why("nobody-sent-this").await;
    assert!(none["invocation"].is_null() && none["summary"].as_str().unwrap().contains("nobody-sent-this"));
    let long = world.get(&path(&"x".repeat(129))).bearer_auth(&token).send().await.unwrap();
    assert_eq!(long.status(), 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn t46_a_request_for_no_namespace_is_explained_to_operators_alone() {
    let world = World::new().await;
    let id = "0198c5b2-7a43-7000-8000-3f1f6d1c1a2b";
    let refused = v1::Invocation {
        name: format!("invocations/{id}"),
        gateway: "gateway-2".into(),
        path: "/nobody/nothing".into(),
        status: 404,
        outcome: "not_found".into(),
        refused: true,
        ..v1::Invocation::default()
    };
    world.peers.records.lock().unwrap().push(refused);
    let path = format!("/api/v1/namespaces/shop/requests/{id}/why");
    let why = async |token: String| world.said_by_all(&path, &token).await;
    let told = why(world.tokens.operator()).await;
    assert_eq!(told["invocation"]["path"], "/nobody/nothing", "{told}");
    assert!(told["summary"].as_str().unwrap().contains("refused with 404"), "{told}");
    for role in ["viewer", "developer", "admin"] {
        let told = why(world.tokens.with(&[("shop", role)])).await;
        assert!(told["invocation"].is_null() && !told.to_string().contains("nothing"), "{role}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_that_makes_no_sense_is_refused_with_its_name() {
    let world = World::new().await;
    let token = world.tokens.with(&[("shop", "viewer")]);
    for (query, field) in [
        ("status=9xx", "status"),
        ("since=yesterday", "since"),
        ("until=never", "until"),
        ("version=0", "version"),
        ("key=short", "key"),
    ] {
        let path = format!("/api/v1/namespaces/shop/invocations?{query}");
        let answer = world.get(&path).bearer_auth(&token).send().await.unwrap();
        assert_eq!(answer.status(), 400, "{query}");
        let body: Value = answer.json().await.unwrap();
        assert_eq!(body["error"]["field"], field, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_is_judged_by_what_other_gateways_counted_and_who_is_silent_is_named() {
    let world = World::new().await;
    let token = world.tokens.with(&[("shop", "viewer")]);
    let path = "/api/v1/namespaces/shop/functions/checkout/describe";
    let (all, failed) = {
        let records = world.peers.records.lock().unwrap();
        let own = records.iter().filter(|record| record.name.contains("/functions/checkout/"));
        let failed = |record: &&dunlin_proto::v1::Invocation| record.outcome != "ok" && record.outcome != "cancelled";
        (own.clone().count(), own.filter(failed).count())
    };
    let health = world.said_by_all(path, &token).await;
    assert_eq!(
        (&health["activity"]["calls"], &health["activity"]["failures"]),
        (&all.into(), &failed.into()),
        "{health}"
    );
    assert!(health["unreachable"].as_array().unwrap().contains(&"gateway-3".into()), "{health}");
    let first = &health["failures"][0];
    assert_eq!((first["function"].as_str(), first["gateway"].as_str()), (Some("checkout"), Some("gateway-2")));
    let problems = health["problems"].as_array().unwrap();
    let explained = format!("dunlin why {} --namespace shop", first["id"].as_str().unwrap());
    assert!(problems.iter().any(|problem| problem["command"] == explained.as_str()), "{health}");
    assert!(problems.iter().any(|problem| problem["text"].as_str().unwrap().contains("gateway-3")), "{health}");
    assert!(problems.iter().any(|problem| problem["command"] == "dunlin webhook show --namespace shop"), "{health}");
    assert_eq!((&health["webhook"]["pending"], &health["webhook"]["last_failure"]["status"]), (&1.into(), &500.into()));
    let reason = |health: &Value| health["webhook"]["last_failure"]["error"].as_str().unwrap().to_owned();
    assert_eq!(reason(&health), "the receiver answered 500", "no more of it is for viewers");
    let token = world.tokens.with(&[("shop", "developer")]);
    let all = world.said_by_all(path, &token).await;
    assert!(reason(&all).contains("Internal Server Error"), "{all}");
    assert!(!health.to_string().contains("hooks.example.com"), "the URL is not for viewers: {health}");
    let nothing = world.get(&path.replace("checkout", "nothing")).bearer_auth(&token).send().await.unwrap();
    assert_eq!(nothing.status(), 404);
}
