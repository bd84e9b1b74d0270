//! What a browser may be made to do by other sites, functions' pages above all: nothing (T49).

use super::world::World;

const ROLLBACK: &str = "/namespaces/shop/functions/checkout/rollback";

#[tokio::test(flavor = "multi_thread")]
async fn t49_a_form_of_another_origin_changes_nothing() {
    let world = World::new().await;
    let token = world.tokens.operator();
    let functions = format!("http://{}", world.functions);
    for (what, headers) in [
        ("nothing that says where from", vec![]),
        ("another site", vec![("origin", "https://evil.example")]),
        ("no origin at all", vec![("origin", "null")]),
        (
            "a function's page, which is the same site",
            vec![("origin", functions.as_str()), ("sec-fetch-site", "same-site")],
        ),
        ("the same without an origin", vec![("sec-fetch-site", "same-site")]),
        ("another site by its word", vec![("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")]),
    ] {
        for path in
            [ROLLBACK, "/sign-out", "/namespaces/shop/keys", "/api/v1/namespaces/shop/functions/checkout/rollback"]
        {
            let mut request = world.request("POST", path).header("cookie", format!("dunlin-session={token}"));
            for (name, value) in &headers {
                request = request.header(*name, *value);
            }
            let body = request.header("content-type", "application/x-www-form-urlencoded").body("version=1");
            assert_eq!(body.send().await.unwrap().status(), 403, "{what}: {path}");
        }
    }
    assert!(!world.scheduler.state().calls.iter().any(|(method, _)| *method == "RollbackFunction"));
}

#[tokio::test(flavor = "multi_thread")]
async fn t49_a_functions_page_reads_nothing_with_the_cookie() {
    let world = World::new().await;
    let token = world.tokens.operator();
    for (site, mode, status) in [
        ("same-site", "no-cors", 403),
        ("same-site", "cors", 403),
        ("cross-site", "no-cors", 403),
        ("same-origin", "cors", 200),
        ("none", "navigate", 200),
    ] {
        let request = world.get("/api/v1/identity").header("cookie", format!("dunlin-session={token}"));
        let answer = request.header("sec-fetch-site", site).header("sec-fetch-mode", mode).send().await.unwrap();
        assert_eq!(answer.status(), status, "{site} {mode}");
        assert!(answer.headers().get("access-control-allow-origin").is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn t49_signing_in_is_not_possible_from_elsewhere() {
    let world = World::new().await;
    let body = format!("token={}", world.tokens.operator());
    let request = world.request("POST", "/sign-in").header("origin", "https://evil.example").body(body);
    let answer = request.header("content-type", "application/x-www-form-urlencoded").send().await.unwrap();
    assert_eq!(answer.status(), 403);
    assert!(answer.headers().get("set-cookie").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_administration_or_calling_works_on_its_own_side_only() {
    let world = World::new().await;
    let caller = world.tokens.caller("shop");
    assert_eq!(world.get("/api/v1/identity").bearer_auth(caller).send().await.unwrap().status(), 401);
}
