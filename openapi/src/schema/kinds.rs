//! What text may become for a schema: parameters are text, and schemas speak of numbers and lists. Pure.

use std::collections::BTreeMap;

use serde_json::{Number, Value};

use super::weight::resolve;

/// How many schemas are looked at, with those that they refer to.
const MOST_STEPS: u32 = 500;

/// The types that a scalar may have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Kinds {
    text: bool,
    number: bool,
    boolean: bool,
    null: bool,
}

/// How a parameter is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Shape {
    /// One value.
    Scalar(Kinds),
    /// Several.
    List(Kinds),
    /// Several with names; others than these are text.
    Fields(BTreeMap<String, Kinds>),
}

impl Kinds {
    /// What text is for a schema of these types. Where it is none of them, the schema will say so.
    pub(crate) fn value(self, text: &str) -> Value {
        let number = || text.parse::<Number>().ok().map(Value::Number);
        let typed = match text {
            _ if self.text => None,
            "true" | "false" if self.boolean => Some(Value::Bool(text == "true")),
            "" if self.null => Some(Value::Null),
            _ if self.number => number(),
            _ => None,
        };
        typed.unwrap_or_else(|| Value::String(text.to_owned()))
    }

    fn add(&mut self, kind: &str) {
        match kind {
            "string" => self.text = true,
            "number" | "integer" => self.number = true,
            "boolean" => self.boolean = true,
            "null" => self.null = true,
            _ => {}
        }
    }
}

impl Shape {
    /// Whether it is an object.
    pub(crate) fn has_fields(&self) -> bool {
        matches!(self, Self::Fields(_))
    }

    /// That of a schema.
    pub(crate) fn of(schema: &Value) -> Self {
        let mut found = Found::default();
        found.look(schema, schema, &mut 0);
        if found.list {
            let mut items = Found::default();
            found.items.into_iter().for_each(|item| items.look(schema, item, &mut 0));
            return Self::List(items.kinds);
        }
        if found.object {
            let kinds = |property: &Value| {
                let mut found = Found::default();
                found.look(schema, property, &mut 0);
                found.kinds
            };
            return Self::Fields(
                found.fields.into_iter().map(|(name, schema)| (name.to_owned(), kinds(schema))).collect(),
            );
        }
        Self::Scalar(found.kinds)
    }
}

#[derive(Debug, Default)]
struct Found<'s> {
    kinds: Kinds,
    list: bool,
    object: bool,
    items: Vec<&'s Value>,
    fields: Vec<(&'s str, &'s Value)>,
}

impl<'s> Found<'s> {
    fn look(&mut self, root: &'s Value, schema: &'s Value, steps: &mut u32) {
        *steps += 1;
        let Some(fields) = schema.as_object().filter(|_| *steps < MOST_STEPS) else { return };
        match fields.get("type") {
            Some(Value::String(kind)) => self.kind(kind),
            Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).for_each(|kind| self.kind(kind)),
            _ => self.examples(
                fields.get("enum").and_then(Value::as_array).into_iter().flatten().chain(fields.get("const")),
            ),
        }
        self.items.extend(
            fields
                .get("items")
                .into_iter()
                .chain(fields.get("prefixItems").and_then(Value::as_array).into_iter().flatten()),
        );
        let properties = fields.get("properties").and_then(Value::as_object);
        self.fields.extend(properties.into_iter().flatten().map(|(name, schema)| (name.as_str(), schema)));
        if let Some(target) = fields.get("$ref").and_then(Value::as_str).and_then(|target| resolve(root, target)) {
            self.look(root, target, steps);
        }
        let parts = ["allOf", "anyOf", "oneOf"].into_iter().filter_map(|key| fields.get(key)?.as_array());
        parts.flatten().for_each(|part| self.look(root, part, steps));
    }

    fn kind(&mut self, kind: &str) {
        self.list |= kind == "array";
        self.object |= kind == "object";
        self.kinds.add(kind);
    }

    /// Where no type is said, the values that may be there say it.
    fn examples(&mut self, values: impl Iterator<Item = &'s Value>) {
        for value in values {
            match value {
                Value::String(_) => self.kinds.text = true,
                Value::Number(_) => self.kinds.number = true,
                Value::Bool(_) => self.kinds.boolean = true,
                Value::Null => self.kinds.null = true,
                Value::Array(_) | Value::Object(_) => {}
            }
        }
    }
}
