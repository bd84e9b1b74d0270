//! Forms of pages that were filled in wrongly, came too late or lead nowhere: what was written stays, and what to do is said. What
//! forms change is in `pages`.

use super::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_that_is_wrong_is_shown_again_with_what_is_wrong() {
    let world = World::new().await;
    let token = world.tokens.operator();
    let long = "x".repeat(2_000);
    for (query, said) in [
        ("version=abc&worker=w1", "value=\"abc\""),
        ("status=foo&worker=w1", "value=\"foo\""),
        (&format!("search={long}&worker=w1"), "bytes at most"),
    ] {
        for path in ["/namespaces/shop/logs", "/namespaces/shop/functions/checkout/logs"] {
            let answer = world.page(&format!("{path}?{query}"), &token).await;
            assert_eq!(answer.status(), 200, "{path}?{query}");
            let text = answer.text().await.unwrap();
            for part in ["role=\"alert\"", said, "value=\"w1\""] {
                assert!(text.contains(part), "{path}?{query}: {part}");
            }
            assert!(!text.contains("data-stream"), "nothing follows");
        }
    }
    let answer = world.page("/namespaces/shop/functions/checkout?divided=%3Cb%3Ex", &token).await;
    assert_eq!(answer.status(), 400);
    let text = answer.text().await.unwrap();
    assert!(text.contains("<h1>") && text.contains("Back to the overview") && !text.contains("<b>x"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_that_never_was_has_no_pages() {
    let world = World::new().await;
    let token = world.tokens.operator();
    for page in ["logs", "invocations", "logs?version=abc"] {
        let answer = world.page(&format!("/namespaces/shop/functions/nothere/{page}"), &token).await;
        assert_eq!(answer.status(), 404, "{page}");
        let text = answer.text().await.unwrap();
        assert!(text.contains("<p>namespaces/shop/functions/nothere was not found."), "a name stays as it is: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn traffic_that_somebody_else_has_changed_meanwhile_leads_back_to_the_function() {
    let world = World::new().await;
    let token = world.tokens.operator();
    let fields = [("from", "3"), ("to", "4"), ("percent", "25"), ("etag", "stale")];
    let answer = world.form("/namespaces/shop/functions/checkout/traffic", &token, &fields).send().await.unwrap();
    assert_eq!(answer.status(), 409);
    let text = answer.text().await.unwrap();
    assert!(text.contains("<a href=\"/namespaces/shop/functions/checkout\">Back to"), "{text}");
    assert!(text.contains("divide it again there"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_that_comes_after_the_session_has_ended_says_so_and_leads_back() {
    let world = World::new().await;
    for (path, next) in [
        ("/namespaces/shop/keys", "&next=/namespaces/shop/keys"),
        ("/namespaces/shop/functions/checkout/traffic", "&next=/namespaces/shop/functions/checkout"),
    ] {
        let answer = world.form(path, "", &[("display_name", "x")]).send().await.unwrap();
        assert_eq!(answer.status(), 303, "{path}");
        let location = answer.headers()["location"].to_str().unwrap().to_owned();
        assert_eq!(location, format!("/sign-in?ended=true{next}"));
        let text = world.get(&location).send().await.unwrap().text().await.unwrap();
        assert!(text.contains("Your session has ended, and nothing was changed."), "{text}");
        assert!(text.contains(&format!("name=\"next\" value=\"{}\"", next.trim_start_matches("&next="))), "{text}");
    }
    let plain = world.get("/sign-in").send().await.unwrap().text().await.unwrap();
    assert!(!plain.contains("Your session has ended") && plain.contains("dunlin token create --role "));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_on_a_page_is_not_there() {
    let world = World::new().await;
    let viewer = world.tokens.with(&[("shop", "viewer")]);
    let refused = world.page("/audit", &viewer).await;
    assert_eq!(refused.status(), 403);
    assert!(!refused.text().await.unwrap().contains("--namespace"));
    let token = world.tokens.operator();
    let of = async |name: &str| {
        let page = world.page(&format!("/namespaces/shop/functions/{name}"), &token).await;
        page.text().await.unwrap().contains("dunlin rollback")
    };
    let only = "namespaces/shop/functions/price";
    world.scheduler.state().versions.get_mut(only).unwrap().truncate(1);
    assert!(of("checkout").await && !of("price").await);
    let usage = world.page("/namespaces/shop/usage", &token).await.text().await.unwrap();
    assert!(usage.contains("href=\"/api/v1/namespaces/shop/usage.csv\""));
    let keys = world.page("/namespaces/shop/keys", &token).await.text().await.unwrap();
    assert!(keys.contains("--lifetime 90d") && keys.contains("lifetime_seconds") && keys.contains(":7776000"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_to_copy_has_the_body_that_the_page_sends() {
    let world = World::new().await;
    let token = world.tokens.with(&[("shop", "developer")]);
    let fields = [("method", "POST"), ("path", "/a[1-3]"), ("headers", "x-one: 1"), ("body", "@a\r\nb")];
    let answer = world.form("/namespaces/shop/functions/checkout/test", &token, &fields).send().await.unwrap();
    let text = answer.text().await.unwrap();
    assert!(!text.contains('\r'), "{text}");
    for part in ["--globoff -H", "Content-Type:", "--data-raw", "printf %s", " | dunlin invoke checkout ", "@a\nb"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}
