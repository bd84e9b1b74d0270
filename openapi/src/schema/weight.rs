//! What checking a value against a schema costs at the most, and which schemas have no such bound. Pure.
//!
//! A value is looked at once for each way in which the schema leads to it. Alternatives that lead to the same value multiply
//! from level to level where a schema refers back to itself, so a small schema and a small body can keep a processor busy for
//! years. The estimate counts these ways; what is above the limit is not checked but refused.

use serde_json::{Map, Value};

use super::Flaw;

/// How many looks at a value a check may take: about a second of a processor at the worst.
const MOST_LOOKS: u64 = 20_000_000;
/// How many schemas a schema may be, each counted as often as it is referred to.
const MOST_SCHEMAS: u32 = 20_000;
/// How deep schemas may lie in each other.
const MAX_DEPTH: usize = 64;
/// How many patterns a schema may have.
const MOST_PATTERNS: u32 = 50;
/// Keywords that lead elsewhere, or change what references mean.
const REFUSED: [&str; 6] = ["$id", "$anchor", "$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$recursiveAnchor"];
const DRAFT: &str = "https://json-schema.org/draft/2020-12/schema";

/// The bounds of a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Weight {
    /// In how many ways it leads to one value.
    looks: u64,
    /// How often it refers back to itself in one go.
    again: u64,
}

/// How many values there are in a value, and how deep they lie.
pub(super) fn measure(value: &Value) -> (u64, u32) {
    let inner = |(count, deepest): (u64, u32), value: &Value| {
        let (more, depth) = measure(value);
        (count + more, deepest.max(depth + 1))
    };
    match value {
        Value::Array(items) => items.iter().fold((1, 0), inner),
        Value::Object(fields) => fields.values().fold((1, 0), inner),
        _ => (1, 0),
    }
}

impl Weight {
    /// The bounds of a schema.
    ///
    /// # Errors
    /// It has none, or says what is not taken here.
    pub(super) fn of(schema: &Value) -> Result<Self, Flaw> {
        let mut walk = Walk { root: schema, open: Vec::new(), depth: 0, level: 0, schemas: 0, patterns: 0 };
        walk.schema(schema, "")
    }

    /// Whether values of this number and depth may be checked.
    pub(super) fn allows(self, values: u64, depth: u32) -> bool {
        let ways = self.looks.saturating_mul(self.again.max(1).saturating_pow(depth));
        ways.saturating_mul(values) <= MOST_LOOKS
    }

    fn plus(self, other: Self) -> Self {
        Self { looks: self.looks.saturating_add(other.looks), again: self.again.saturating_add(other.again) }
    }

    fn max(self, other: Self) -> Self {
        Self { looks: self.looks.max(other.looks), again: self.again.max(other.again) }
    }
}

const NONE: Weight = Weight { looks: 0, again: 0 };

struct Walk<'s> {
    root: &'s Value,
    /// The references that are being followed, each with the level at which it was met.
    open: Vec<(&'s str, usize)>,
    depth: usize,
    /// How far in the value it is.
    level: usize,
    schemas: u32,
    patterns: u32,
}

/// A part of a pointer.
fn below(at: &str, key: &str) -> String {
    format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"))
}

impl<'s> Walk<'s> {
    fn schema(&mut self, schema: &'s Value, at: &str) -> Result<Weight, Flaw> {
        self.schemas += 1;
        self.depth += 1;
        if self.schemas > MOST_SCHEMAS {
            return Err(Flaw::new(at, "the schema is too large, with all that it refers to"));
        }
        if self.depth > MAX_DEPTH {
            return Err(Flaw::new(at, format!("schemas lie in each other more than {MAX_DEPTH} deep")));
        }
        let one = Weight { looks: 1, again: 0 };
        let weight = match schema {
            Value::Object(fields) => one.plus(self.fields(fields, at)?),
            _ => one,
        };
        self.depth -= 1;
        Ok(weight)
    }

    fn fields(&mut self, fields: &'s Map<String, Value>, at: &str) -> Result<Weight, Flaw> {
        self.permitted(fields, at)?;
        let mut sum = NONE;
        if let Some(target) = fields.get("$ref") {
            sum = sum.plus(self.reference(target, &below(at, "$ref"))?);
        }
        for key in ["allOf", "anyOf", "oneOf", "dependentSchemas", "not", "if", "then", "else"] {
            sum = sum.plus(self.all(fields, key, at, Weight::plus)?);
        }
        self.level += 1;
        let mut one_of = NONE;
        // A value within has one name or position, so that one of these takes it.
        for key in
            ["properties", "prefixItems", "additionalProperties", "items", "unevaluatedProperties", "unevaluatedItems"]
        {
            one_of = one_of.max(self.all(fields, key, at, Weight::max)?);
        }
        sum = sum.plus(one_of);
        for key in ["patternProperties", "contains", "propertyNames"] {
            sum = sum.plus(self.all(fields, key, at, Weight::plus)?);
        }
        self.level -= 1;
        // What has been looked at is found by looking again.
        let again = fields.contains_key("unevaluatedProperties") || fields.contains_key("unevaluatedItems");
        Ok(if again { sum.plus(sum) } else { sum })
    }

    /// The schemas under a keyword: one, a list, or one a name.
    fn all(
        &mut self,
        fields: &'s Map<String, Value>,
        key: &str,
        at: &str,
        join: fn(Weight, Weight) -> Weight,
    ) -> Result<Weight, Flaw> {
        let (at, named) = (below(at, key), matches!(key, "properties" | "patternProperties" | "dependentSchemas"));
        match fields.get(key) {
            Some(Value::Array(list)) => list
                .iter()
                .enumerate()
                .try_fold(NONE, |sum, (index, schema)| Ok(join(sum, self.schema(schema, &format!("{at}/{index}"))?))),
            Some(Value::Object(map)) if named => {
                map.iter().try_fold(NONE, |sum, (name, schema)| Ok(join(sum, self.schema(schema, &below(&at, name))?)))
            }
            Some(schema) => self.schema(schema, &at),
            None => Ok(NONE),
        }
    }

    fn permitted(&mut self, fields: &Map<String, Value>, at: &str) -> Result<(), Flaw> {
        if let Some(key) = REFUSED.into_iter().find(|key| fields.contains_key(*key)) {
            return Err(Flaw::new(below(at, key), format!("{key} is not taken; refer with $ref and a JSON pointer")));
        }
        if fields
            .get("$schema")
            .is_some_and(|draft| draft.as_str().map(|text| text.trim_end_matches('#')) != Some(DRAFT))
        {
            return Err(Flaw::new(below(at, "$schema"), format!("schemas are of draft 2020-12 ({DRAFT})")));
        }
        let names = fields.get("patternProperties").and_then(Value::as_object).map_or(0, Map::len);
        self.patterns += u32::from(fields.contains_key("pattern")) + u32::try_from(names).unwrap_or(u32::MAX);
        if self.patterns > MOST_PATTERNS {
            return Err(Flaw::new(at, format!("the schema has more than {MOST_PATTERNS} patterns")));
        }
        Ok(())
    }

    fn reference(&mut self, target: &'s Value, at: &str) -> Result<Weight, Flaw> {
        let target = target.as_str().ok_or_else(|| Flaw::new(at, "$ref must be text"))?;
        if let Some((_, level)) = self.open.iter().find(|(open, _)| *open == target) {
            if *level == self.level {
                return Err(Flaw::new(at, format!("{target} refers to itself without end")));
            }
            return Ok(Weight { looks: 0, again: 1 });
        }
        let schema = resolve(self.root, target).ok_or_else(|| unknown(target, at))?;
        self.open.push((target, self.level));
        let weight = self.schema(schema, at)?;
        self.open.pop();
        Ok(weight)
    }
}

fn unknown(target: &str, at: &str) -> Flaw {
    let shown: String = target.chars().take(120).collect();
    let why = if target.starts_with('#') { "leads nowhere" } else { "leads out of the schema, which is not followed" };
    Flaw::new(at, format!("$ref {shown:?} {why}"))
}

/// What a reference within a schema leads to.
pub(super) fn resolve<'s>(root: &'s Value, target: &str) -> Option<&'s Value> {
    let pointer = target.strip_prefix('#')?;
    let pointer = percent_encoding::percent_decode_str(pointer).decode_utf8().ok()?;
    root.pointer(&pointer)
}
