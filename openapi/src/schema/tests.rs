//! Schemas: what is refused, what is found, and that nothing takes long.

use serde_json::json;

use super::*;

fn flaw(schema: &Value) -> String {
    Schema::compile(&schema.to_string()).err().map(|flaw| flaw.to_string()).unwrap_or_default()
}

fn violations(schema: &Value, value: &Value) -> Vec<(String, String)> {
    let mut found = Vec::new();
    Schema::compile(&schema.to_string()).unwrap().check("body", value, &mut found, 20);
    found.into_iter().map(|Violation { field, message }| (field, message)).collect()
}

#[test]
fn a_schema_that_is_none_is_refused_with_the_place() {
    let deep = (0..70).fold(json!({}), |inner, _| json!({ "items": inner }));
    let patterns: Vec<_> = (0..51).map(|_| json!({ "pattern": "a" })).collect();
    for (schema, place, why) in [
        (json!({ "type": "strin" }), "/type", ""),
        (json!({ "properties": { "a": { "minimum": "x" } } }), "/properties/a/minimum", ""),
        (json!({ "items": { "$ref": "https://example.com/x" } }), "/items/$ref", "not followed"),
        (json!({ "items": { "$ref": "other.json#/x" } }), "/items/$ref", "not followed"),
        (json!({ "$ref": "#/$defs/x" }), "/$ref", "leads nowhere"),
        (json!({ "$ref": "#/$defs/a", "$defs": { "a": { "$ref": "#/$defs/a" } } }), "/$ref/$ref", "without end"),
        (json!({ "allOf": [{ "$ref": "#" }] }), "/allOf/0/$ref", "without end"),
        (json!({ "$id": "https://example.com/x" }), "/$id", "$id is not taken"),
        (json!({ "items": { "$dynamicRef": "#x" } }), "/items/$dynamicRef", "not taken"),
        (json!({ "$schema": "http://json-schema.org/draft-04/schema#" }), "/$schema", "2020-12"),
        (json!({ "pattern": "(" }), "/pattern", ""),
        (json!({ "pattern": "(a)\\1" }), "/pattern", ""),
        (json!({ "allOf": patterns }), "", "more than 50 patterns"),
        (deep, "/items", "more than 64 deep"),
    ] {
        let flaw = flaw(&schema);
        assert!(flaw.contains(place) && flaw.contains(why) && !flaw.is_empty(), "{schema}: {flaw}");
    }
    assert!(Schema::compile("{").unwrap_err().why.contains("not JSON"));
}

#[test]
fn every_violation_says_where_and_what_without_the_value() {
    let schema = json!({
        "type": "object", "required": ["name"], "additionalProperties": false,
        "properties": { "name": { "type": "string" }, "tags": { "items": { "maxLength": 3 } } },
    });
    let found = violations(&schema, &json!({ "tags": ["a", "secret"], "x": 1 }));
    let places: Vec<_> = found.iter().map(|(place, _)| place.as_str()).collect();
    assert!(places.contains(&"body/tags/1") && places.contains(&"body"), "{found:?}");
    assert!(!format!("{found:?}").contains("secret"), "{found:?}");
    assert!(violations(&schema, &json!({ "name": "x" })).is_empty());
    let many = json!({ "items": { "type": "string" } });
    assert_eq!(violations(&many, &json!(vec![1; 100])).len(), 20);
    assert_eq!(violations(&many, &json!(vec![1; 20_000])).len(), 1);
}

#[test]
fn a_schema_may_refer_to_itself_where_the_value_gets_smaller() {
    let tree = json!({
        "$ref": "#/$defs/tree",
        "$defs": { "tree": { "type": "object", "properties": {
            "left": { "$ref": "#/$defs/tree" }, "right": { "$ref": "#/$defs/tree" } } } },
    });
    let deep = (0..60).fold(json!({}), |inner, _| json!({ "left": inner }));
    assert!(violations(&tree, &deep).is_empty());
    assert_eq!(violations(&tree, &json!({ "left": { "right": 7 } }))[0].0, "body/left/right");
}

#[test]
fn what_would_take_for_ever_is_refused_at_once() {
    let alternatives = json!({
        "$ref": "#/$defs/a",
        "$defs": { "a": { "anyOf": [
            { "properties": { "x": { "$ref": "#/$defs/a" }, "y": false } },
            { "properties": { "x": { "$ref": "#/$defs/a" }, "z": false } },
        ] } },
    });
    let deep = |depth| (0..depth).fold(json!({ "y": 1, "z": 1 }), |inner, _| json!({ "x": inner }));
    assert!(violations(&alternatives, &deep(100))[0].1.contains("too deep"));
    assert!(violations(&alternatives, &json!({ "x": {} })).is_empty());
    let doubling: serde_json::Map<_, _> = (0..30)
        .map(|at| (format!("d{at}"), json!({ "allOf": vec![json!({ "$ref": format!("#/$defs/d{}", at + 1) }); 2] })))
        .chain([("d30".to_owned(), json!({}))])
        .collect();
    let doubling = json!({ "$ref": "#/$defs/d0", "$defs": doubling });
    assert!(flaw(&doubling).contains("too large"), "{}", flaw(&doubling));
    // Linear in the text, whatever the pattern.
    let pattern = json!({ "pattern": "^(a+)+$" });
    assert_eq!(violations(&pattern, &json!("a".repeat(100_000) + "b")).len(), 1);
}

#[test]
fn text_becomes_what_the_schema_wants() {
    let shape = |schema: Value| Shape::of(&schema);
    let scalar = |schema: Value, text: &str| match shape(schema) {
        Shape::Scalar(kinds) => kinds.value(text),
        other => panic!("{other:?}"),
    };
    for (schema, text, expected) in [
        (json!({ "type": "integer" }), "7", json!(7)),
        (json!({ "type": "integer" }), "07", json!("07")),
        (json!({ "type": "number" }), "-1.5", json!(-1.5)),
        (json!({ "type": "boolean" }), "true", json!(true)),
        (json!({ "type": "boolean" }), "yes", json!("yes")),
        (json!({ "type": "string" }), "7", json!("7")),
        (json!({}), "7", json!("7")),
        (json!({ "type": ["integer", "null"] }), "", json!(null)),
        (json!({ "enum": [1, 2] }), "1", json!(1)),
        (json!({ "$ref": "#/$defs/n", "$defs": { "n": { "type": "number" } } }), "1", json!(1)),
        (json!({ "anyOf": [{ "type": "boolean" }, { "type": "integer" }] }), "1", json!(1)),
    ] {
        assert_eq!(scalar(schema.clone(), text), expected, "{schema} {text}");
    }
    assert!(
        matches!(shape(json!({ "type": "array", "items": { "type": "integer" } })), Shape::List(kinds) if kinds.value("1") == json!(1))
    );
    let fields = shape(json!({ "type": "object", "properties": { "a": { "type": "integer" } } }));
    assert!(matches!(fields, Shape::Fields(fields) if fields["a"].value("1") == json!(1)));
}
