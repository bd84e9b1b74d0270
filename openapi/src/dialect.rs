//! Schemas of OpenAPI 3.0 and 3.1 as JSON Schema of draft 2020-12 that stands alone.
//!
//! What a schema refers to comes with it under `$defs`; what says nothing about validity stays behind. Every schema here is for
//! requests, so what only answers have is not required.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::{
    at::{At, Malformed},
    schema::{Flaw, Schema},
};

/// How deep schemas may lie in each other.
const MAX_DEPTH: usize = 64;
/// How many schemas one may refer to.
const MOST_DEFINITIONS: usize = 200;
/// Keywords whose values are kept as they are.
const PLAIN: [&str; 26] = [
    "type",
    "enum",
    "const",
    "multipleOf",
    "maximum",
    "exclusiveMaximum",
    "minimum",
    "exclusiveMinimum",
    "maxLength",
    "minLength",
    "pattern",
    "maxItems",
    "minItems",
    "uniqueItems",
    "maxContains",
    "minContains",
    "maxProperties",
    "minProperties",
    "required",
    "dependentRequired",
    "format",
    "title",
    "description",
    "default",
    "deprecated",
    "$comment",
];
const ONE: [&str; 11] = [
    "additionalProperties",
    "items",
    "not",
    "if",
    "then",
    "else",
    "contains",
    "propertyNames",
    "unevaluatedItems",
    "unevaluatedProperties",
    "contentSchema",
];
const LISTS: [&str; 4] = ["allOf", "anyOf", "oneOf", "prefixItems"];
const NAMED: [&str; 3] = ["properties", "patternProperties", "dependentSchemas"];
const REFUSED: [&str; 6] = ["$id", "$anchor", "$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$recursiveAnchor"];

/// The version of a document, as far as schemas differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// OpenAPI 3.0: an own dialect of JSON Schema.
    Old,
    /// OpenAPI 3.1.
    New,
}

/// Refuses a dialect of JSON Schema, named here, that is not read.
pub(crate) fn check(named: &At<'_>) -> Result<(), Malformed> {
    let text = named.text()?;
    let read = text.contains("/2020-12/") || text.contains("/oas/3.1/");
    if read { Ok(()) } else { Err(named.wrong("schemas are of draft 2020-12")) }
}

/// A schema of a document as text that stands alone.
pub(crate) fn schema(at: &At<'_>, dialect: Dialect) -> Result<String, Malformed> {
    let mut gathering = Gathering { dialect, names: BTreeMap::new(), pending: Vec::new() };
    let mut schema = gathering.schema(at, 0)?;
    let mut definitions = Map::new();
    while let Some((name, at)) = gathering.pending.pop() {
        let translated = gathering.schema(&at, 0)?;
        definitions.insert(name, translated);
    }
    if let (Some(fields), false) = (schema.as_object_mut(), definitions.is_empty()) {
        fields.insert("$defs".to_owned(), Value::Object(definitions));
    }
    let text = schema.to_string();
    Schema::compile(&text).map_err(|flaw| gathering.malformed(at, &flaw))?;
    Ok(text)
}

struct Gathering<'d> {
    dialect: Dialect,
    /// What is referred to, by its pointer, under the name that it has here.
    names: BTreeMap<String, String>,
    pending: Vec<(String, At<'d>)>,
}

impl<'d> Gathering<'d> {
    fn schema(&mut self, at: &At<'d>, depth: usize) -> Result<Value, Malformed> {
        if depth > MAX_DEPTH {
            return Err(at.wrong(format!("schemas lie in each other more than {MAX_DEPTH} deep")));
        }
        if at.value.is_boolean() {
            return Ok(at.value.clone());
        }
        let mut out = Map::new();
        if let Some(reference) = at.get("$ref") {
            out.insert("$ref".to_owned(), self.reference(&reference)?);
            if self.dialect == Dialect::Old {
                return Ok(Value::Object(out));
            }
        }
        for (key, inner) in at.fields()? {
            if let Some(value) = self.keyword(key, &inner, depth + 1)? {
                out.insert(key.to_owned(), value);
            }
        }
        if self.dialect == Dialect::Old {
            old(at, &mut out)?;
        }
        Ok(Value::Object(out))
    }

    fn keyword(&mut self, key: &str, at: &At<'d>, depth: usize) -> Result<Option<Value>, Malformed> {
        if PLAIN.contains(&key) {
            if key == "type" && self.dialect == Dialect::Old && at.value.as_str().is_none_or(|kind| kind == "null") {
                let error = at.wrong("a type of OpenAPI 3.0 is one name, and not null");
                return Err(error.hint("write nullable: true for what may be null, or anyOf for several types"));
            }
            return Ok(Some(at.value.clone()));
        }
        if ONE.contains(&key) {
            return self.schema(at, depth).map(Some);
        }
        if LISTS.contains(&key) {
            let schemas = at.items()?.into_iter().map(|at| self.schema(&at, depth));
            return schemas.collect::<Result<_, _>>().map(Value::Array).map(Some);
        }
        if NAMED.contains(&key) {
            let schemas = at.fields()?.into_iter().map(|(name, at)| Ok((name.to_owned(), self.schema(&at, depth)?)));
            return schemas.collect::<Result<_, _>>().map(Value::Object).map(Some);
        }
        if REFUSED.contains(&key) {
            return Err(at.wrong(format!("{key} is not taken")).hint("refer with $ref and a JSON pointer"));
        }
        if key == "$schema" {
            check(at)?;
        }
        Ok(None)
    }

    /// A reference to what will lie under `$defs`.
    fn reference(&mut self, at: &At<'d>) -> Result<Value, Malformed> {
        let (pointer, target) = (at.pointer()?, at.followed()?);
        if let Some(name) = self.names.get(&pointer) {
            return Ok(json!(format!("#/$defs/{name}")));
        }
        if self.names.len() >= MOST_DEFINITIONS {
            return Err(at.wrong(format!("the schema refers to more than {MOST_DEFINITIONS} others")));
        }
        let name = self.name(&pointer);
        self.names.insert(pointer, name.clone());
        let reference = json!(format!("#/$defs/{name}"));
        self.pending.push((name, target));
        Ok(reference)
    }

    fn name(&self, pointer: &str) -> String {
        let plain = pointer.strip_prefix("/components/schemas/").unwrap_or(pointer).trim_start_matches('/');
        let fine = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
        let wanted: String = plain.chars().map(fine).collect();
        let taken: BTreeSet<_> = self.names.values().collect();
        let others = (2..).map(|number| format!("{wanted}_{number}"));
        std::iter::once(wanted.clone()).chain(others).find(|name| !taken.contains(name)).unwrap_or_default()
    }

    /// A flaw of what was translated, in the document's terms.
    fn malformed(&self, at: &At<'_>, flaw: &Flaw) -> Malformed {
        let inner = flaw.at.strip_prefix("/$defs/").map(|rest| rest.split_once('/').unwrap_or((rest, "")));
        let place = inner.and_then(|(name, rest)| {
            let (pointer, _) = self.names.iter().find(|(_, known)| *known == name)?;
            Some(if rest.is_empty() { pointer.clone() } else { format!("{pointer}/{rest}") })
        });
        Malformed::new(place.unwrap_or_else(|| format!("{}{}", at.place, flaw.at)), &flaw.why)
    }
}

/// What 3.0 says otherwise.
fn old(at: &At<'_>, out: &mut Map<String, Value>) -> Result<(), Malformed> {
    for (exclusive, limit) in [("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")] {
        if at.flag(exclusive)? {
            let number = out.remove(limit).ok_or_else(|| at.wrong(format!("{exclusive} needs {limit}")))?;
            out.insert(exclusive.to_owned(), number);
        } else {
            out.remove(exclusive);
        }
    }
    if at.flag("nullable")?
        && let Some(kind) = out.get("type").cloned()
    {
        out.insert("type".to_owned(), json!([kind, "null"]));
    }
    if let Some(Value::Array(required)) = out.get_mut("required") {
        required.retain(|name| !name.as_str().is_some_and(|name| is_read_only(at, name)));
        if required.is_empty() {
            out.remove("required");
        }
    }
    Ok(())
}

fn is_read_only(at: &At<'_>, name: &str) -> bool {
    let property = at.get("properties").and_then(|properties| properties.get(name)?.resolved().ok());
    property.is_some_and(|property| property.value.get("readOnly") == Some(&Value::Bool(true)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translated(schema: &Value, dialect: Dialect) -> Result<Value, Malformed> {
        let pet = json!({ "type": "object", "properties": { "parent": { "$ref": "#/components/schemas/Pet" } } });
        let document = json!({ "s": schema, "components": { "schemas": { "Pet": pet, "Bad": { "type": "x" } } } });
        let at = At::root(&document).get("s").unwrap();
        super::schema(&at, dialect).map(|text| serde_json::from_str(&text).unwrap())
    }

    #[test]
    fn the_older_dialect_becomes_the_newer_one() {
        for (schema, expected) in [
            (json!({ "type": "string", "nullable": true }), json!({ "type": ["string", "null"] })),
            (json!({ "minimum": 1, "exclusiveMinimum": true }), json!({ "exclusiveMinimum": 1 })),
            (json!({ "maximum": 1, "exclusiveMaximum": false }), json!({ "maximum": 1 })),
            (json!({ "type": "string", "example": "x", "xml": {}, "x-y": 1 }), json!({ "type": "string" })),
            (
                json!({ "required": ["id", "a"], "properties": { "id": { "readOnly": true }, "a": {} } }),
                json!({ "required": ["a"], "properties": { "id": {}, "a": {} } }),
            ),
        ] {
            assert_eq!(translated(&schema, Dialect::Old), Ok(expected), "{schema}");
        }
    }

    #[test]
    fn what_is_referred_to_comes_with_it() {
        let reference =
            json!({ "items": { "$ref": "#/components/schemas/Pet" }, "enum": [{ "$ref": "no reference" }] });
        let expected = json!({
            "items": { "$ref": "#/$defs/Pet" }, "enum": [{ "$ref": "no reference" }],
            "$defs": { "Pet": { "type": "object", "properties": { "parent": { "$ref": "#/$defs/Pet" } } } },
        });
        assert_eq!(translated(&reference, Dialect::New), Ok(expected));
        let inner = json!({ "$ref": "#/components/schemas/Pet/properties/parent" });
        assert_eq!(translated(&inner, Dialect::New).unwrap()["$ref"], json!("#/$defs/Pet_properties_parent"));
    }

    #[test]
    fn what_can_not_be_is_refused_with_the_place_in_the_document() {
        for (schema, place) in [
            (json!({ "properties": { "a/b": { "$ref": "other.yaml#/x" } } }), "/s/properties/a~1b/$ref"),
            (json!({ "$ref": "#/components/schemas/None" }), "/s/$ref"),
            (json!({ "$ref": "#/components/schemas/Bad" }), "/components/schemas/Bad/type"),
            (json!({ "type": "text" }), "/s/type"),
            (json!({ "$id": "https://example.com/" }), "/s/$id"),
            (json!({ "allOf": {} }), "/s/allOf"),
            (json!(7), "/s"),
        ] {
            let error = translated(&schema, Dialect::New).unwrap_err();
            assert_eq!(error.place, place, "{schema}: {error}");
        }
        assert_eq!(translated(&json!({ "exclusiveMinimum": true }), Dialect::Old).unwrap_err().place, "/s");
        for kind in [json!(["string"]), json!("null"), json!(7)] {
            assert_eq!(translated(&json!({ "type": kind }), Dialect::Old).unwrap_err().place, "/s/type");
        }
        assert!(translated(&json!({ "type": ["string", "null"] }), Dialect::New).is_ok());
    }
}
