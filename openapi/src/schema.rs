//! A JSON Schema of draft 2020-12 that is ready to check values, and can't be made to take long by them.
//!
//! Nothing outside of the schema is read, and patterns run on an engine whose time is linear. What a check costs at the most is
//! `schema/weight.rs`'s to know.

mod kinds;
mod weight;

use std::fmt;

use dunlin_proto::error::Violation;
use jsonschema::{Draft, PatternOptions, ValidationError, Validator, error::ValidationErrorKind};
use serde_json::Value;

pub(crate) use kinds::{Kinds, Shape};
use weight::Weight;

/// What a compiled pattern may take of memory, in bytes.
const PATTERN_BYTES: usize = 256 << 10;
/// Above so many values, the first violation is all that is looked for: the library lists all of them, however many.
const MANY: u64 = 10_000;

/// What is wrong with a schema, and where in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flaw {
    /// A JSON pointer; empty means all of it.
    pub at: String,
    /// What a person reads.
    pub why: String,
}

impl Flaw {
    pub(crate) fn new(at: impl Into<String>, why: impl Into<String>) -> Self {
        Self { at: at.into(), why: why.into() }
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.at.is_empty() { f.write_str(&self.why) } else { write!(f, "at {}: {}", self.at, self.why) }
    }
}

/// A schema.
#[derive(Debug)]
pub(crate) struct Schema {
    validator: Validator,
    weight: Weight,
    /// How a parameter of it is read.
    pub(crate) shape: Shape,
}

impl Schema {
    /// Reads a schema.
    pub(crate) fn compile(text: &str) -> Result<Self, Flaw> {
        let schema: Value =
            serde_json::from_str(text).map_err(|error| Flaw::new("", format!("it is not JSON: {error}")))?;
        // First: what follows may be taken for bounded.
        let weight = Weight::of(&schema)?;
        let patterns = PatternOptions::regex().size_limit(PATTERN_BYTES).dfa_size_limit(PATTERN_BYTES);
        let options = jsonschema::options().with_draft(Draft::Draft202012).with_pattern_options(patterns);
        let validator = options.should_validate_formats(true).should_ignore_unknown_formats(true).build(&schema);
        let validator = validator.map_err(|error| flaw(&error))?;
        Ok(Self { validator, weight, shape: Shape::of(&schema) })
    }

    /// Adds what is wrong with a value, up to `most` in all.
    pub(crate) fn check(&self, place: &str, value: &Value, violations: &mut Vec<Violation>, most: usize) {
        let (values, depth) = weight::measure(value);
        if !self.weight.allows(values, depth) {
            let message = "it has too many values, or too deep ones, for a schema with so many alternatives";
            violations.push(Violation { field: place.to_owned(), message: message.to_owned() });
            return;
        }
        let violation = |error: ValidationError<'_>| Violation {
            field: format!("{place}{}", shortened(&error.instance_path().to_string())),
            message: shortened(&error.masked().to_string()),
        };
        let left = most.saturating_sub(violations.len());
        if values > MANY {
            violations.extend(self.validator.validate(value).err().map(violation));
        } else {
            violations.extend(self.validator.iter_errors(value).take(left).map(violation));
        }
    }
}

/// What the library says of a schema. Of a pattern it says the place in the schema; of all else, that in the schema as a value.
fn flaw(error: &ValidationError<'_>) -> Flaw {
    let pattern = matches!(error.kind(), ValidationErrorKind::Format { .. });
    let in_value = error.instance_path();
    let place = if pattern && in_value.as_str().is_empty() { error.schema_path() } else { in_value };
    let why = if pattern {
        "the pattern is none, or can't be matched in linear time".to_owned()
    } else {
        error.masked().to_string()
    };
    Flaw::new(place.to_string(), shortened(&why))
}

/// Names in it may be the caller's.
fn shortened(text: &str) -> String {
    const MOST: usize = 200;
    let mut short: String = text.chars().take(MOST).collect();
    if short.len() < text.len() {
        short.push_str("...");
    }
    short
}

#[cfg(test)]
mod tests;
