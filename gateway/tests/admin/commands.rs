//! What pages offer to copy: every command that has an endpoint is there for `curl` too, every such line asks for an endpoint of the
//! OpenAPI document, and every form has one beside it.

use std::collections::BTreeSet;

use dunlin_gateway::PLACES;
use serde_json::Value;

use super::{pages::paths, world::World};

/// Commands that concern files or processes of one's own, or that have no endpoint for another reason.
const NO_ENDPOINT: [&str; 6] = [
    "dunlin new ",
    "dunlin deploy ",
    "dunlin doctor",
    // It compares with a file.
    "dunlin audit verify",
    // With all that the form says, in its own words beside it.
    "dunlin invoke ",
    // Asked for by gRPC alone.
    "dunlin invocations ",
];

/// The text of every element that holds a command.
fn commands(page: &str) -> Vec<String> {
    let parts = page.split("<pre").chain(page.split("<code")).skip(1);
    let inner = parts.filter_map(|part| part.split_once('>')?.1.split_once("</").map(|(text, _)| text));
    let decode = |text: &str| {
        [("&#34;", "\""), ("&#39;", "'"), ("&#60;", "<"), ("&#62;", ">"), ("&#38;", "&")]
            .into_iter()
            .fold(text.to_owned(), |text, (entity, character)| text.replace(entity, character))
    };
    inner.map(decode).collect()
}

/// The method and path that a line asks for, without its query.
fn asked(line: &str) -> Option<(String, String)> {
    let words = shlex::split(line).unwrap();
    let method = words.iter().skip_while(|word| *word != "-X").nth(1).map_or("get", String::as_str);
    let path = words.iter().find_map(|word| word.strip_prefix("$DUNLIN_URL"))?;
    Some((method.to_lowercase(), path.split('?').next().unwrap().to_owned()))
}

fn fits(pattern: &str, path: &str) -> bool {
    let (pattern, path): (Vec<_>, Vec<_>) = (pattern.split('/').collect(), path.split('/').collect());
    pattern.len() == path.len() && pattern.iter().zip(path).all(|(one, other)| one.starts_with('{') || *one == other)
}

/// The endpoint that does what a form does; nothing for those that begin or end a session.
fn endpoint(form: &str) -> Option<(&'static str, String)> {
    let api = format!("/api/v1{form}");
    let without = |end: &str| api.strip_suffix(end).unwrap().to_owned();
    match form.rsplit('/').next()? {
        "sign-in" | "sign-out" => None,
        "revoke" => Some(("delete", without("/revoke"))),
        "delete" => Some(("delete", without("/delete"))),
        "traffic" => Some(("put", api)),
        _ => Some(("post", api)),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_every_page_is_there_for_curl_and_asks_for_an_endpoint_that_exists() {
    let world = World::new().await;
    let token = world.tokens.operator();
    let document: Value = world.get("/api/v1/openapi.json").send().await.unwrap().json().await.unwrap();
    let operations = document["paths"].as_object().unwrap();
    // What is stored can be forgotten only where something is.
    let route =
        serde_json::json!({ "path": "/s", "cache": true, "target": { "kind": "function", "function": "price" } });
    let put = world.request("PUT", "/api/v1/namespaces/shop/routes/stored").bearer_auth(&token).json(&route);
    assert_eq!(put.send().await.unwrap().status(), 200);
    let (mut forms, mut lines) = (BTreeSet::new(), 0);
    for path in paths(&world).await {
        let page = world.page(&path, &token).await.text().await.unwrap();
        let found = commands(&page);
        let calls: Vec<_> =
            found.iter().filter(|line| line.starts_with("curl ")).filter_map(|line| asked(line)).collect();
        for (method, asked) in &calls {
            let known = operations.iter().any(|(known, item)| fits(known, asked) && item.get(method).is_some());
            assert!(known, "{path}: {method} {asked} is no endpoint");
        }
        let commands = found.iter().filter(|line| line.starts_with("dunlin "));
        let commands = commands.filter(|line| !NO_ENDPOINT.iter().any(|none| line.starts_with(none))).count();
        assert!(calls.len() >= commands, "{path}: {commands} commands, {} lines for curl: {found:#?}", calls.len());
        lines += calls.len();
        for action in page.split("<form method=\"post\" action=\"").skip(1).filter_map(|part| part.split('"').next()) {
            let place = PLACES.iter().find(|place| place.method == "post" && fits(place.path, action));
            forms.insert(place.unwrap_or_else(|| panic!("{path} sends {action}")).path);
            if let Some(wanted) = endpoint(action) {
                assert!(
                    calls.iter().any(|(method, path)| (method.as_str(), path) == (wanted.0, &wanted.1)),
                    "{path}: {wanted:?}"
                );
            }
        }
    }
    assert!(lines > 20, "{lines}");
    let all: BTreeSet<_> =
        PLACES.iter().filter(|place| place.method == "post" && place.path != "/sign-in").map(|it| it.path).collect();
    assert_eq!(forms, all, "each form is on one of the pages");
}
