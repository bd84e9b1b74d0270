//! Who may do what by the dashboard's pages and forms (T46): every one by every role, in the own and in a foreign namespace. The rows
//! for gRPC and JSON are in `matrix`.

use super::{
    matrix::{Expected, Need, ROLES, concrete, expected, token},
    world::World,
};

/// Every page, and what it needs.
const PAGES: [(&str, Need); 20] = [
    ("/", Need::Token),
    ("/sign-in", Need::Nothing),
    ("/session", Need::Token),
    ("/audit", Need::Operator),
    ("/workers/{worker}", Need::Operator),
    ("/namespaces/{namespace}", Need::Viewer),
    ("/namespaces/{namespace}/live", Need::Viewer),
    ("/namespaces/{namespace}/invocations", Need::Viewer),
    ("/namespaces/{namespace}/invocations/{id}", Need::Viewer),
    ("/namespaces/{namespace}/logs", Need::Viewer),
    ("/namespaces/{namespace}/keys", Need::Viewer),
    ("/namespaces/{namespace}/releases", Need::Viewer),
    ("/namespaces/{namespace}/releases/{release}", Need::Viewer),
    ("/namespaces/{namespace}/usage", Need::Viewer),
    ("/namespaces/{namespace}/routes", Need::Viewer),
    ("/namespaces/{namespace}/audit", Need::Admin),
    ("/namespaces/{namespace}/functions/{function}", Need::Viewer),
    ("/namespaces/{namespace}/functions/{function}/test", Need::Viewer),
    ("/namespaces/{namespace}/functions/{function}/invocations/{id}", Need::Viewer),
    ("/namespaces/{namespace}/functions/{function}/logs", Need::Viewer),
];

/// A form's path, what it needs and the fields that are sent.
type Form = (&'static str, Need, &'static [(&'static str, &'static str)]);

/// Every form.
const FORMS: [Form; 9] = [
    ("/namespaces/{namespace}/keys", Need::Admin, &[("display_name", "x")]),
    ("/namespaces/{namespace}/keys/{key}/revoke", Need::Admin, &[]),
    ("/namespaces/{namespace}/releases/{release}/rollback", Need::Developer, &[]),
    ("/namespaces/{namespace}/cache/purge", Need::Developer, &[("what", "path"), ("value", "/")]),
    (
        "/namespaces/{namespace}/functions/{function}/traffic",
        Need::Developer,
        &[("from", "1"), ("to", "2"), ("percent", "10"), ("etag", "")],
    ),
    ("/namespaces/{namespace}/functions/{function}/test", Need::Developer, &[("method", "GET"), ("path", "/")]),
    ("/namespaces/{namespace}/functions/{function}/rollback", Need::Developer, &[("version", "1")]),
    ("/namespaces/{namespace}/functions/{function}/delete", Need::Developer, &[("etag", "")]),
    ("/workers/{worker}/drain", Need::Operator, &[("resume", "true")]),
];

/// What an answer says of who asked. Who has no session is sent to sign in.
async fn told(answer: reqwest::Response, namespace: &str) -> Expected {
    let location = answer.headers().get("location").and_then(|location| location.to_str().ok()).unwrap_or_default();
    match answer.status().as_u16() {
        300..=399 if location.starts_with("/sign-in") => Expected::Unauthenticated,
        401 => Expected::Unauthenticated,
        403 => Expected::Denied,
        404 => {
            // A sentence on a page.
            let hidden = format!("Namespaces/{namespace} was not found");
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
            for (path, need) in PAGES {
                let found = told(world.page(&concrete(path, namespace), &token).await, namespace).await;
                if found != expected(need, role, own) {
                    wrong.push(format!("GET {path} by {role} in {namespace}: {found:?}"));
                }
            }
            for (path, need, fields) in FORMS {
                let answer = world.form(&concrete(path, namespace), &token, fields).send().await.unwrap();
                let found = told(answer, namespace).await;
                if found != expected(need, role, own) {
                    wrong.push(format!("POST {path} by {role} in {namespace}: {found:?}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
