//! The schemas of a document: what several of them have under `$defs` stands once under `components`.

use serde_json::{Map, Value, json};

const DEFINITIONS: &str = "#/$defs/";
const SCHEMAS: &str = "#/components/schemas/";

/// The schemas under `components`.
#[derive(Debug, Default)]
pub(super) struct Components {
    pub(super) schemas: Map<String, Value>,
}

/// Where references of a schema lead in the document.
struct Moved<'a> {
    /// Before the names of its definitions.
    prefix: &'a str,
    /// Where the schema itself lies, for what refers to it.
    itself: &'a str,
}

impl Components {
    /// The schema of a route as it stands in the document.
    pub(super) fn place(&mut self, text: &str, route: &str) -> Value {
        let mut schema: Value = serde_json::from_str(text).unwrap_or_default();
        let definitions = schema.as_object_mut().and_then(|fields| fields.remove("$defs"));
        let definitions = match definitions {
            Some(Value::Object(definitions)) => definitions,
            _ => Map::new(),
        };
        let itself = self.free(route);
        let plain = Moved { prefix: "", itself: &itself };
        let fits = definitions.iter().all(|(name, schema)| {
            let known = self.schemas.get(name);
            known.is_none_or(|known| *known == plain.schema(schema))
        });
        let own = format!("{itself}.");
        let moved = if fits { plain } else { Moved { prefix: &own, ..plain } };
        for (name, schema) in &definitions {
            self.schemas.insert(format!("{}{name}", moved.prefix), moved.schema(schema));
        }
        let placed = moved.schema(&schema);
        let whole = format!("\"{SCHEMAS}{itself}");
        let is_referred = |value: &Value| {
            let text = value.to_string();
            text.contains(&format!("{whole}\"")) || text.contains(&format!("{whole}/"))
        };
        if !is_referred(&placed) && !definitions.values().any(|schema| is_referred(&moved.schema(schema))) {
            return placed;
        }
        self.schemas.insert(itself.clone(), placed);
        json!({ "$ref": format!("{SCHEMAS}{itself}") })
    }

    /// A name that no schema has.
    fn free(&self, route: &str) -> String {
        let name = |number: usize| format!("{route}-{number}");
        let taken =
            |name: &String| self.schemas.keys().any(|known| known == name || known.starts_with(&format!("{name}.")));
        (1..).map(name).find(|name| !taken(name)).unwrap_or_default()
    }
}

impl Moved<'_> {
    /// A schema with its references moved.
    fn schema(&self, schema: &Value) -> Value {
        match schema {
            Value::Object(fields) => fields.iter().map(|(key, value)| (key.clone(), self.field(key, value))).collect(),
            Value::Array(items) => items.iter().map(|item| self.schema(item)).collect(),
            other => other.clone(),
        }
    }

    fn field(&self, key: &str, value: &Value) -> Value {
        match (key, value) {
            ("$ref", Value::String(target)) => self.reference(target).into(),
            ("enum" | "const" | "default" | "examples", value) => value.clone(),
            (_, value) => self.schema(value),
        }
    }

    fn reference(&self, target: &str) -> String {
        match target.strip_prefix(DEFINITIONS) {
            Some(name) => format!("{SCHEMAS}{}{name}", self.prefix),
            None => format!("{SCHEMAS}{}{}", self.itself, target.trim_start_matches('#')),
        }
    }
}
