//! Who may do what by the dashboard's pages and forms (T46): every one of the table that the gateway's router is made of, by every
//! role, in the own and in a foreign namespace. The rows for gRPC and JSON are in `matrix`.

use dunlin_gateway::{Least, PLACES, Place};

use super::{
    matrix::{Expected, Need, ROLES, concrete, expected, token},
    world::World,
};

/// What the form at a path sends, where it has fields that are needed.
fn fields(path: &str) -> &'static [(&'static str, &'static str)] {
    match path.rsplit('/').next().unwrap() {
        "keys" => &[("display_name", "x")],
        "purge" => &[("what", "path"), ("value", "/")],
        "traffic" => &[("from", "1"), ("to", "2"), ("percent", "10"), ("etag", "")],
        "test" => &[("method", "GET"), ("path", "/")],
        "rollback" if path.contains("/functions/") => &[("version", "1")],
        "delete" => &[("etag", "")],
        "drain" => &[("resume", "true")],
        "sign-in" => &[("token", "none")],
        _ => &[],
    }
}

fn need(least: Least) -> Need {
    match least {
        Least::Anybody => Need::Nothing,
        Least::SignedIn => Need::Token,
        Least::Viewer => Need::Viewer,
        Least::Developer => Need::Developer,
        Least::Admin => Need::Admin,
        Least::Operator => Need::Operator,
    }
}

async fn asked(world: &World, place: &Place, token: &str, namespace: &str) -> reqwest::Response {
    let path = concrete(place.path, namespace);
    match place.method {
        "get" => world.page(&path, token).await,
        _ => world.form(&path, token, fields(place.path)).send().await.unwrap(),
    }
}

/// What an answer says of who asked. Who has no session is sent to sign in.
async fn told(answer: reqwest::Response, namespace: &str) -> Expected {
    let location = answer.headers().get("location").and_then(|location| location.to_str().ok()).unwrap_or_default();
    match answer.status().as_u16() {
        300..=399 if location.starts_with("/sign-in") => Expected::Unauthenticated,
        401 => Expected::Unauthenticated,
        403 => Expected::Denied,
        404 => {
            let hidden = format!("namespaces/{namespace} was not found");
            if answer.text().await.unwrap().contains(&hidden) { Expected::Hidden } else { Expected::Passes }
        }
        // Live ones have no end and are not read.
        _ => Expected::Passes,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn t46_every_page_and_form_by_every_role_in_the_own_and_in_a_foreign_namespace() {
    let world = World::new().await;
    let mut wrong = Vec::new();
    for (namespace, own) in [("shop", true), ("bank", false)] {
        for role in ROLES {
            let token = token(&world.tokens, role).unwrap_or_default();
            for place in PLACES.iter().filter(|place| place.least != Least::Anybody) {
                let found = told(asked(&world, place, &token, namespace).await, namespace).await;
                if found != expected(need(place.least), role, own) {
                    wrong.push(format!("{place:?} by {role} in {namespace}: {found:?}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn t46_what_anybody_may_is_the_same_for_everybody() {
    let world = World::new().await;
    for place in PLACES.iter().filter(|place| place.least == Least::Anybody) {
        let mut statuses = Vec::new();
        for role in ROLES {
            let token = token(&world.tokens, role).unwrap_or_default();
            statuses.push(asked(&world, place, &token, "shop").await.status().as_u16());
        }
        assert!(statuses.iter().all(|status| *status == statuses[0] && *status < 500), "{place:?}: {statuses:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn t49_a_form_from_elsewhere_is_refused_wherever_it_goes() {
    let world = World::new().await;
    let token = world.tokens.operator();
    for place in PLACES.iter().filter(|place| place.method == "post") {
        let request = world.request("POST", &concrete(place.path, "shop"));
        let request =
            request.header("cookie", format!("dunlin-session={token}")).header("origin", "https://evil.example");
        let request = request.header("sec-fetch-site", "cross-site");
        let answer = request.header("content-type", "application/x-www-form-urlencoded").body("").send().await.unwrap();
        assert_eq!(answer.status(), 403, "{place:?}");
    }
}
