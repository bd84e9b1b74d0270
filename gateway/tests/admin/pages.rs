//! The pages: signing in, what they show to whom, what they refuse, and that nothing in them is more than text.

use dunlin_proto::v1;
use serde_json::Value;

use super::world::{EVIL, World};

/// Pages with text from outside in them.
pub(super) async fn paths(world: &World) -> Vec<String> {
    let token = world.tokens.operator();
    let list = world.get("/api/v1/namespaces/shop/invocations?failed_only=true").bearer_auth(token).send().await;
    let list: Value = list.unwrap().json().await.unwrap();
    let failed = list["invocations"][0]["name"].as_str().unwrap();
    [
        "/namespaces/shop",
        "/namespaces/shop/functions/search",
        "/namespaces/shop/functions/checkout",
        "/namespaces/shop/functions/checkout/logs",
        "/namespaces/shop/functions/checkout/test",
        "/namespaces/shop/invocations?search=%3Cscript%3Ealert(1)%3C/script%3E&status=x%3Cimg%20src=x%3E",
        "/namespaces/shop/invocations",
        "/namespaces/shop/functions/price/invocations?failed_only=true",
        "/namespaces/shop/logs",
        "/namespaces/shop/keys",
        "/namespaces/shop/routes?purged=%3Cscript%3Ealert(1)%3C/script%3E&lagging=%3Cimg%20src=x%3E",
        "/namespaces/shop/releases?restored=1&now=3&lagging=%3Cimg%20src=x%3E",
        "/namespaces/shop/releases/2",
        "/namespaces/shop/audit?subject=%3Cscript%3Ealert(1)%3C/script%3E&action=route",
        "/audit",
        "/namespaces/shop/usage?days=30",
        "/session",
        "/workers/worker-1",
    ]
    .into_iter()
    .map(str::to_owned)
    .chain([format!("/{failed}")])
    .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn t49_what_came_from_outside_is_text_on_every_page() {
    let world = World::new().await;
    let token = world.tokens.sign(&serde_json::json!({ "sub": EVIL, "grants": [{ "role": "operator" }] }));
    for path in paths(&world).await {
        let page = world.page(&path, &token).await;
        assert_eq!(page.status(), 200, "{path}");
        let text = page.text().await.unwrap();
        assert!(!text.contains("<script>alert") && !text.contains("<img src=x"), "{path}");
        assert!(text.contains("&#60;script&#62;alert"), "{path}: the subject at least has it");
        assert!(!text.contains(" style=") && !text.contains(" onclick=") && !text.contains("<style"), "{path}");
        assert!(!text.contains('\u{1b}') && !text.contains('\u{202e}'), "{path}");
        assert!(text.contains("<html lang=\"en\">") && text.contains("Skip to the content"), "{path}");
        for part in text.split("src=\"").chain(text.split("href=\"")).skip(1) {
            let own = part.starts_with('/') || part.starts_with('#') || part.starts_with("<!doctype");
            assert!(own, "{path} asks for {}", part.chars().take(60).collect::<String>());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn t49_a_search_comes_back_as_text() {
    let world = World::new().await;
    let token = world.tokens.operator();
    let path = "/namespaces/shop/logs?search=%22%3E%3Cscript%3Ealert(1)%3C/script%3E";
    let text = world.page(path, &token).await.text().await.unwrap();
    assert!(!text.contains("<script>alert") && text.contains("&#34;&#62;&#60;script&#62;"));
    let missing = world.page("/%3Cscript%3Ealert(1)%3C/script%3E", &token).await;
    assert_eq!(missing.status(), 404);
    assert!(!missing.text().await.unwrap().contains("<script>alert"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_goes_on_with_what_it_is_filtered_by_and_a_search_says_how_far_it_looked() {
    let world = World::new().await;
    let token = world.tokens.operator();
    let text = world.page("/namespaces/shop/logs?status=502", &token).await.text().await.unwrap();
    let stream = text.split("data-stream=\"").nth(1).unwrap().split('"').next().unwrap();
    assert!(stream.contains("/logs/stream?") && stream.contains("status=502"), "{stream}");
    let search = async || {
        let answer = world.page("/namespaces/shop/invocations?search=paid", &token).await;
        answer.text().await.unwrap().contains("There was no time to search all lines")
    };
    assert!(!search().await);
    // One that comes no further back than that, however often it is asked.
    *world.peers.stuck_at.lock().unwrap() = Some("0198c5b2-7a43-7000-8000-3f1f6d1c1a2b".to_owned());
    assert!(search().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_has_the_headers_that_keep_it_apart() {
    let world = World::new().await;
    let token = world.tokens.operator();
    let mut paths = paths(&world).await;
    paths.extend(
        ["/sign-in", "/assets/dunlin.css", "/nothing", "/api/v1/identity", "/api/v1/nothing"].map(str::to_owned),
    );
    for path in paths {
        let answer = world.page(&path, &token).await;
        let header = |name: &str| answer.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let policy = header("content-security-policy");
        for part in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"] {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe"));
        assert_eq!(header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(header("referrer-policy"), "same-origin");
        assert_eq!(header("cross-origin-opener-policy"), "same-origin");
        let kept = if path.starts_with("/assets/") { "no-cache" } else { "no-store" };
        assert_eq!(header("cache-control"), kept, "{path}");
        assert!(!header("x-request-id").is_empty(), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_session_every_page_leads_to_signing_in() {
    let world = World::new().await;
    for path in paths(&world).await.iter().map(String::as_str).chain(["/"]) {
        let answer = world.get(path).send().await.unwrap();
        assert_eq!(answer.status(), 303, "{path}");
        assert!(answer.headers()["location"].to_str().unwrap().starts_with("/sign-in"));
    }
    let expired = world.tokens.sign(&serde_json::json!({ "exp": 1_000_000, "grants": [{ "role": "operator" }] }));
    for bad in [expired, world.tokens.caller("shop"), "x".to_owned()] {
        assert_eq!(world.page("/namespaces/shop", &bad).await.status(), 303);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_in_sets_a_strict_cookie_and_out_ends_it() {
    let world = World::new().await;
    let token = world.tokens.with(&[("shop", "viewer")]);
    let sign_in =
        |token: &str| world.form("/sign-in", "", &[("token", token), ("next", "/namespaces/shop/keys")]).send();
    let answer = sign_in(&token).await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), answer.headers()["location"].to_str().unwrap()),
        (303, "/namespaces/shop/keys")
    );
    let cookie = answer.headers()["set-cookie"].to_str().unwrap();
    assert!(cookie.starts_with(&format!("dunlin-session={token};")));
    for part in ["HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=3"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    for bad in ["nonsense", "", &world.tokens.caller("shop")] {
        let refused = sign_in(bad).await.unwrap();
        assert_eq!(refused.status(), 401);
        assert!(refused.headers().get("set-cookie").is_none());
        assert!(refused.text().await.unwrap().contains("role=\"alert\""));
    }
    let out = world.form("/sign-out", &token, &[]).send().await.unwrap();
    assert!(out.headers()["set-cookie"].to_str().unwrap().contains("Max-Age=0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_is_shown_no_button_and_no_value_and_pressing_it_anyway_does_nothing() {
    let world = World::new().await;
    let token = world.tokens.with(&[("shop", "viewer")]);
    let page = world.page("/namespaces/shop/functions/checkout", &token).await.text().await.unwrap();
    assert!(!page.contains("/rollback") && !page.contains("/delete") && !page.contains("https://bank.example/v2"));
    assert!(page.contains("BANK_URL") && page.contains("hidden from viewers"));
    assert!(!world.page("/namespaces/shop/keys", &token).await.text().await.unwrap().contains("/revoke"));
    for (path, fields) in [
        ("/namespaces/shop/functions/checkout/rollback", &[("version", "1")][..]),
        ("/namespaces/shop/functions/checkout/delete", &[("etag", "")]),
        ("/namespaces/shop/functions/checkout/traffic", &[("from", "3"), ("to", "4"), ("percent", "50"), ("etag", "")]),
        ("/namespaces/shop/cache/purge", &[("what", "all")]),
        ("/namespaces/shop/keys", &[("display_name", "x")]),
        ("/namespaces/shop/keys/aaaaBBBB1111/revoke", &[]),
        ("/workers/worker-1/drain", &[("resume", "false")]),
    ] {
        assert_eq!(world.form(path, &token, fields).send().await.unwrap().status(), 403, "{path}");
    }
    assert_eq!(world.page("/namespaces/bank", &token).await.status(), 404);
    assert_eq!(world.page("/workers/worker-1", &token).await.status(), 403);
    let calls = &world.scheduler.state().calls;
    let changes =
        ["RollbackFunction", "DeleteFunction", "SetAlias", "PurgeCache", "CreateKey", "RevokeKey", "DrainWorker"];
    assert!(!calls.iter().any(|(method, _)| changes.contains(method)));
}

#[tokio::test(flavor = "multi_thread")]
async fn buttons_do_what_they_say() {
    let world = World::new().await;
    let token = world.tokens.operator();
    let press = async |path: &str, fields: &[(&str, &str)]| world.form(path, &token, fields).send().await.unwrap();
    let id = "0198c5b2-7a43-7000-8000-3f1f6d1c1a2b";
    let rolled = press("/namespaces/shop/functions/checkout/rollback", &[("version", "2"), ("request_id", id)]).await;
    let location = rolled.headers()["location"].to_str().unwrap().to_owned();
    assert_eq!(location, "/namespaces/shop/functions/checkout?rolled_back=2");
    assert!(world.page(&location, &token).await.text().await.unwrap().contains("All traffic goes to version 2 now."));
    let made = press(
        "/namespaces/shop/keys",
        &[("display_name", "front+end"), ("functions", "price"), ("lifetime_days", "30")],
    )
    .await;
    let text = made.text().await.unwrap();
    assert!(text.contains("shown once") && text.contains("aVeryLongSecret") && text.contains("front end"));
    let listed = world.page("/namespaces/shop/keys", &token).await.text().await.unwrap();
    assert!(listed.contains("front end") && !listed.contains("aVeryLongSecret"));
    let bad = press("/namespaces/shop/keys", &[("display_name", "x"), ("functions", "../x")]).await;
    assert_eq!(bad.status(), 400);
    assert!(bad.text().await.unwrap().contains("role=\"alert\""));
    assert_eq!(press("/namespaces/shop/keys/aaaaBBBB1111/revoke", &[]).await.status(), 303);
    assert_eq!(press("/workers/worker-1/drain", &[("resume", "false")]).await.status(), 303);
    assert_eq!(press("/namespaces/shop/functions/stock/delete", &[("etag", "e1")]).await.status(), 303);
    assert_eq!(press("/namespaces/shop/functions/stock/delete", &[("etag", "e1")]).await.status(), 404);
    assert_eq!(press("/namespaces/shop/functions/price/rollback", &[("version", "x")]).await.status(), 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn traffic_is_divided_by_the_form() {
    let world = World::new().await;
    let token = world.tokens.operator();
    let page = "/namespaces/shop/functions/checkout";
    let shown = world.page(page, &token).await.text().await.unwrap();
    assert!(shown.contains("dunlin traffic set checkout v3=90,v4=10 --namespace shop"));
    let viewer = world.tokens.with(&[("shop", "viewer")]);
    assert!(!world.page(page, &viewer).await.text().await.unwrap().contains("Divide traffic"));
    let press = async |from: &str, to: &str, percent: &str| {
        let fields = [("from", from), ("to", to), ("percent", percent), ("etag", "e1")];
        world.form(&format!("{page}/traffic"), &token, &fields).send().await.unwrap()
    };
    let done = press("3", "4", "25").await;
    assert_eq!(done.status(), 303);
    let location = done.headers()["location"].to_str().unwrap().to_owned();
    let text = world.page(&location, &token).await.text().await.unwrap();
    assert!(text.contains("25 % of the traffic goes to version 4 now. Not yet on gateway-2."), "{location}");
    for (from, to, percent) in [("3", "3", "25"), ("3", "4", "101"), ("3", "x", "1"), ("3", "4", "-1")] {
        assert_eq!(press(from, to, percent).await.status(), 400, "{from} {to} {percent}");
    }
    let calls = world.scheduler.state().calls.iter().filter(|(method, _)| *method == "SetAlias").count();
    assert_eq!(calls, 1, "wrong forms change nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn routes_are_shown_and_stored_answers_forgotten() {
    let world = World::new().await;
    let token = world.tokens.operator();
    let function = v1::FunctionTarget { function: "price".into(), alias: "beta".into(), ..Default::default() };
    let route = v1::Route {
        name: "namespaces/shop/routes/prices".into(),
        path: "/prices/{id}".into(),
        methods: vec!["GET".into()],
        target: Some(v1::route::Target::Function(function)),
        cache: true,
        creator: EVIL.into(),
        ..Default::default()
    };
    world.scheduler.state().routes.insert(route.name.clone(), route);
    let page = "/namespaces/shop/routes";
    let text = world.page(page, &token).await.text().await.unwrap();
    for part in ["/prices/{id}", "price:beta", "stored", "Forget stored answers"] {
        assert!(text.contains(part), "{part}");
    }
    let press = async |fields: &[(&str, &str)]| {
        world.form("/namespaces/shop/cache/purge", &token, fields).send().await.unwrap()
    };
    let done = press(&[("what", "prefix"), ("value", "/prices/")]).await;
    let location = done.headers()["location"].to_str().unwrap().to_owned();
    let text = world.page(&location, &token).await.text().await.unwrap();
    assert!(text.contains("What was stored of /prices/… is forgotten; not yet on gateway-2."), "{location}");
    for wrong in [&[("what", "path"), ("value", "no path")][..], &[("what", "colour")], &[]] {
        assert_eq!(press(wrong).await.status(), 400, "{wrong:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_is_shown_and_so_is_what_belongs_to_it() {
    let world = World::new().await;
    let token = world.tokens.with(&[("shop", "viewer")]);
    let name = "namespaces/shop/routes/pay".to_owned();
    let route = v1::Route { name: name.clone(), path: "/pay".into(), app: "till".into(), ..Default::default() };
    world.scheduler.state().routes.insert(name, route);
    let text = world.page("/namespaces/shop/routes", &token).await.text().await.unwrap();
    for part in [
        "id=\"app-till\"",
        "pay, refund",
        "of the app <a href=\"#app-till\">",
        "/namespaces/shop/releases/2\"",
        "dunlin app show NAME --namespace shop",
        "/api/v1/namespaces/shop/apps/NAME",
    ] {
        assert!(text.contains(part), "{part}");
    }
    assert!(!text.contains("dunlin deploy"), "a viewer may not");
    let developer = world.tokens.with(&[("shop", "developer")]);
    let text = world.page("/namespaces/shop/routes", &developer).await.text().await.unwrap();
    assert!(text.contains("dunlin deploy --namespace shop"));
    let link = "/namespaces/shop/routes#app-till";
    for (function, is_its) in [("checkout", true), ("stock", false)] {
        let text = world.page(&format!("/namespaces/shop/functions/{function}"), &token).await.text().await.unwrap();
        assert_eq!(text.contains(link), is_its, "{function}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_is_shown_with_its_budget() {
    let world = World::new().await;
    let token = world.tokens.with(&[("shop", "viewer")]);
    let text = world.page("/namespaces/shop/usage", &token).await.text().await.unwrap();
    for part in [
        "checkout",
        "1234",
        "5.6 s",
        "17 of 20 calls today",
        "dunlin usage --since 24h --namespace shop",
        "role=\"img\"",
    ] {
        assert!(text.contains(part), "{part}");
    }
    let month = world.page("/namespaces/shop/usage?days=30", &token).await.text().await.unwrap();
    assert!(month.contains("Calls by day of UTC") && month.contains("usage --since 20"));
    assert_eq!(world.page("/namespaces/bank/usage", &token).await.status(), 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_is_shown_to_developers_with_its_last_events() {
    let world = World::new().await;
    let page = async |role: &str| {
        let token = world.tokens.with(&[("shop", role)]);
        world.page("/namespaces/shop", &token).await.text().await.unwrap()
    };
    let text = page("developer").await;
    for part in [
        "https://hooks.example.com/dunlin",
        "the last event was not taken",
        "500 &#60;b&#62;Internal",
        "1 event waits",
        "given up",
    ] {
        assert_eq!(text.contains(part), part != "given up", "{part}");
    }
    assert!(!page("viewer").await.contains("hooks.example.com"));
}

#[tokio::test(flavor = "multi_thread")]
async fn ones_own_session_says_who_until_when_and_what_is_allowed() {
    let world = World::new().await;
    let claims = serde_json::json!({ "sub": "zoe", "jti": "token-7", "grants": ["shop:viewer", "bank:admin"] });
    let text = world.page("/session", &world.tokens.sign(&claims)).await.text().await.unwrap();
    for part in
        ["Signed in as zoe", "With a token of this cluster", "token-7", "127.0.0.1", "in 59 min", "dunlin whoami"]
    {
        assert!(text.contains(part), "{part}");
    }
    for part in
        ["href=\"/namespaces/shop\"", "but no secret values", "href=\"/namespaces/bank\"", "manage keys, tokens"]
    {
        assert!(text.contains(part), "{part}");
    }
    assert!(!text.contains("Sign-ins of the same subject"), "the cluster's audit log is not theirs to see");
    let operator = world.page("/session", &world.tokens.operator()).await.text().await.unwrap();
    assert!(operator.contains("/audit?subject=ada&#38;action=session.begin"), "{operator}");
    let nobody = world.page("/session", &world.tokens.with(&[])).await.text().await.unwrap();
    assert!(nobody.contains("The token grants no role"));
}

#[tokio::test(flavor = "multi_thread")]
async fn releases_are_shown_with_what_they_changed_and_come_back() {
    let world = World::new().await;
    let token = world.tokens.operator();
    let text = world.page("/namespaces/shop/releases", &token).await.text().await.unwrap();
    for part in ["put route pay", "deploy checkout@3", "/namespaces/shop/releases/1\"", "dunlin release list"] {
        assert!(text.contains(part), "{part}");
    }
    let page = "/namespaces/shop/releases/2";
    let text = world.page(page, &token).await.text().await.unwrap();
    for part in ["routes/pay", "/pay", "against release 1", "dunlin release rollback 2 --namespace shop", "Go back to"]
    {
        assert!(text.contains(part), "{part}");
    }
    let reader = world.page(page, &world.tokens.with(&[("shop", "viewer")])).await.text().await.unwrap();
    assert!(!reader.contains("<form method=\"post\" action=\"/namespaces/shop/releases"));
    assert_eq!(world.page("/namespaces/shop/releases/9", &token).await.status(), 404);
    let id = "0198c5b2-7a43-7000-8000-3f1f6d1c1a2b";
    let done = world.form(&format!("{page}/rollback"), &token, &[("request_id", id)]).send().await.unwrap();
    let location = done.headers()["location"].to_str().unwrap().to_owned();
    let text = world.page(&location, &token).await.text().await.unwrap();
    assert!(text.contains("what they got in release 2: release 3; not yet on gateway-2."), "{location}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_namespace_says_what_to_do_next() {
    let world = World::new().await;
    let text = world.page("/namespaces/warehouse", &world.tokens.operator()).await.text().await.unwrap();
    assert!(text.contains("dunlin deploy --namespace warehouse"));
    let first = world.page("/", &world.tokens.operator()).await.text().await.unwrap();
    assert!(first.contains("<h1>bank</h1>") && first.contains("data-stream=\"/namespaces/bank/live\""), "{first}");
    let nowhere = world.page("/", &world.tokens.with(&[])).await.text().await.unwrap();
    assert!(nowhere.contains("Ask an operator for a role"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_keeps_the_assets() {
    let world = World::new().await;
    for file in ["dunlin.css", "dunlin.js", "mark.svg"] {
        let answer = world.get(&format!("/assets/{file}")).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let etag = answer.headers()["etag"].clone();
        let again = world.get(&format!("/assets/{file}")).header("if-none-match", etag).send().await.unwrap();
        assert_eq!(again.status(), 304);
    }
    // As pages name them, they are asked for once.
    let page = world.get("/sign-in").send().await.unwrap().text().await.unwrap();
    let (_, named) = page.split_once("/assets/dunlin.css?v=").unwrap();
    let version = named.split_once('"').unwrap().0;
    for (version, kept) in [(version, "public, max-age=31536000, immutable"), ("older", "no-cache")] {
        let answer = world.get(&format!("/assets/dunlin.css?v={version}")).send().await.unwrap();
        assert_eq!((answer.status().as_u16(), &answer.headers()["cache-control"]), (200, &kept.parse().unwrap()));
    }
    assert_eq!(world.get("/assets/..%2fCargo.toml").send().await.unwrap().status(), 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_is_called_from_its_page() {
    let world = World::new().await;
    let (developer, viewer) = (world.tokens.with(&[("shop", "developer")]), world.tokens.with(&[("shop", "viewer")]));
    let path = "/namespaces/shop/functions/checkout/test";
    let form = world.page(path, &developer).await.text().await.unwrap();
    assert!(form.contains("Call checkout") && form.contains("dunlin invoke checkout --namespace shop"), "{form}");
    let calls = [("method", "POST"), ("path", "/a?b=1"), ("headers", "x-one: 1"), ("body", "<b>"), ("version", "")];
    let shown = world.form(path, &developer, &calls).send().await.unwrap();
    assert_eq!(shown.status(), 200);
    let shown = shown.text().await.unwrap();
    assert!(shown.contains("Why, and where the time went") || shown.contains("role=\"alert\""), "{shown}");
    assert!(shown.contains("&#60;b&#62;") && !shown.contains("<b>"), "{shown}");
    let wrong = world
        .form(path, &developer, &[("method", "GET"), ("path", "/"), ("headers", "nonsense")])
        .send()
        .await
        .unwrap();
    assert!(wrong.text().await.unwrap().contains("has no colon"));
    let shown = world.page(path, &viewer).await.text().await.unwrap();
    assert!(shown.contains("needs the role developer") && !shown.contains("Call checkout"));
    assert_eq!(world.form(path, &viewer, &calls).send().await.unwrap().status(), 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_overview_goes_on_while_it_is_looked_at() {
    let world = World::new().await;
    let page = world.page("/namespaces/shop", &world.tokens.operator()).await.text().await.unwrap();
    assert!(page.contains("data-stream=\"/namespaces/shop/live\""));
    let answer = world.page("/namespaces/shop/live", &world.tokens.with(&[("shop", "viewer")])).await;
    assert_eq!(
        (answer.status().as_u16(), answer.headers()["content-type"].to_str().unwrap()),
        (200, "text/event-stream")
    );
    let refused = world.page("/namespaces/shop/live", &world.tokens.with(&[("bank", "viewer")])).await;
    assert_eq!(refused.status(), 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_is_not_there_has_no_pages() {
    let world = World::new().await;
    let token = world.tokens.operator();
    for page in ["invocations", "logs"] {
        assert_eq!(world.page(&format!("/namespaces/nons/{page}"), &token).await.status(), 404, "{page}");
        assert_eq!(world.page(&format!("/namespaces/shop/{page}"), &token).await.status(), 200, "{page}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn charts_of_less_than_they_could_show_say_so() {
    let world = World::new().await;
    let token = world.tokens.operator();
    let pages = ["/namespaces/shop", "/namespaces/shop/functions/price"];
    for page in pages {
        let text = world.page(page, &token).await.text().await.unwrap();
        assert!(!text.contains("calls on record, since"), "{page}");
    }
    // All within the last minute, the newest first.
    let now = std::time::SystemTime::now();
    let call = |number: u64| {
        let at = now - std::time::Duration::from_millis(1_000 + 50 * number);
        let millis = at.duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64;
        let id = uuid::Builder::from_unix_timestamp_millis(millis, &[number as u8; 10]).into_uuid();
        let name = format!("namespaces/shop/functions/price/invocations/{id}");
        v1::Invocation { name, start_time: Some(at.into()), version: 1, outcome: "ok".into(), ..Default::default() }
    };
    *world.peers.records.lock().unwrap() = (0..600).map(call).collect();
    for page in pages {
        let text = world.page(page, &token).await.text().await.unwrap();
        assert!(text.contains("the last 500 calls on record, since "), "{page}");
        assert!(!text.contains("The last hour"), "{page}");
    }
}
