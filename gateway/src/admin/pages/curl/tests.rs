//! Lines for `curl`: what they ask for, that every endpoint exists, and that nothing in them gets out of its quotes.

use std::collections::BTreeSet;

use super::*;

/// The words of a shell, as one would have them after the variables.
fn shell(line: &str) -> Vec<String> {
    shlex::split(line).unwrap()
}

#[test]
fn a_command_has_its_endpoint() {
    for (command, expected) in [
        ("dunlin worker list", r#"curl "$DUNLIN_URL/api/v1/workers" -H "Authorization: Bearer $DUNLIN_TOKEN""#),
        (
            "dunlin rollback pay 3 --namespace shop",
            r#"curl -X POST "$DUNLIN_URL/api/v1/namespaces/shop/functions/pay/rollback" -H "Authorization: Bearer $DUNLIN_TOKEN" -H 'Content-Type: application/json' --data '{"version":3}'"#,
        ),
        (
            "dunlin audit list --actor \"it's\"",
            r#"curl "$DUNLIN_URL/api/v1/audit?subject=it%27s" -H "Authorization: Bearer $DUNLIN_TOKEN""#,
        ),
    ] {
        assert_eq!(of(command).as_deref(), Some(expected));
    }
    for none in ["", "dunlin", "dunlin deploy --namespace shop", "curl x", "dunlin worker list x", "dunlin worker '"] {
        assert_eq!(of(none), None, "{none:?}");
    }
}

#[test]
fn bodies_have_the_types_of_their_fields() {
    let body = |command: &str| shell(&of(command).unwrap()).pop().unwrap();
    for (command, expected) in [
        (
            "traffic set pay v1=90,v2=10 --namespace s",
            r#"{"traffic":[{"percent":90,"version":1},{"percent":10,"version":2}]}"#,
        ),
        ("traffic set pay SHARES --namespace s", r#"{"traffic":"SHARES"}"#),
        ("rollback pay --namespace s", "{}"),
        ("cache purge --all --namespace s", r#"{"all":true}"#),
        ("key create \"the shop's\" --namespace s", r#"{"display_name":"the shop's"}"#),
        ("key create x --lifetime 90d --namespace s", r#"{"display_name":"x","lifetime_seconds":7776000}"#),
        (
            "plan set p --rate 10/s --quota 10000/day --namespace s",
            r#"{"quota":{"period":"day","requests":10000},"rate":{"period":"second","requests":10}}"#,
        ),
        (
            "route add r /a/{id} --function pay --replace --namespace s",
            r#"{"path":"/a/{id}","target":{"kind":"function","function":"pay"}}"#,
        ),
    ] {
        let (found, expected): (Value, Value) = (
            serde_json::from_str(&body(&format!("dunlin {command}"))).unwrap(),
            serde_json::from_str(expected).unwrap(),
        );
        assert_eq!(found, expected, "{command}");
    }
}

#[test]
fn every_endpoint_of_the_table_is_in_the_document() {
    let document = serde_json::to_value(crate::admin::json::document()).unwrap();
    for Endpoint { command, method, path, body } in ENDPOINTS {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let shape = |path: &str| {
            path.split('/').map(|it| if it.starts_with('{') { "{}" } else { it }).collect::<Vec<_>>().join("/")
        };
        let found = document["paths"].as_object().unwrap().iter().find(|(known, item)| {
            shape(known) == shape(&format!("/api/v1{}", path.replace("/live/", "/{alias}/")))
                && item.get(method.to_lowercase()).is_some()
        });
        let operation = &found.unwrap_or_else(|| panic!("{command}: {method} {path}")).1[method.to_lowercase()];
        assert_eq!(operation.get("requestBody").is_some(), body.is_some(), "{command}");
        let known: BTreeSet<_> =
            operation["parameters"].as_array().into_iter().flatten().filter_map(|it| it["name"].as_str()).collect();
        for (key, _) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            assert!(known.contains(key), "{command}: {key}");
        }
    }
}

#[test]
fn t49_nothing_gets_out_of_its_quotes() {
    for evil in [
        "$(id)",
        "`id`",
        "'; id; '",
        "\"; id; \"",
        "a b",
        "\\",
        "!x",
        "{a,b}",
        "../../x",
        "\u{202e}\u{1b}[m",
        "ключ",
        "#",
    ] {
        let word = shlex::try_quote(evil).unwrap();
        let line = of(&format!("dunlin key create {word} --namespace {word}")).unwrap();
        assert!(line.is_ascii() && !line.bytes().any(|byte| byte.is_ascii_control()), "{line}");
        let words = shell(&line);
        assert_eq!(words.len(), 10, "{line}");
        let body: Value = serde_json::from_str(&words[9]).unwrap();
        assert_eq!(body["display_name"], evil);
        let url = words[3].strip_prefix("$DUNLIN_URL/api/v1/namespaces/").unwrap().strip_suffix("/keys").unwrap();
        assert!(url.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"%-._".contains(&byte)), "{url}");
    }
}
