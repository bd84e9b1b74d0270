//! A place in a document, so that whatever is wrong there can be named.

use std::fmt;

use serde_json::Value;

/// How many references may lead to each other.
const MOST_HOPS: usize = 16;

/// What is wrong with a document, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed {
    /// A JSON pointer; empty means the document.
    pub place: String,
    /// What a person reads.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Malformed {
    pub(crate) fn new(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self { place: place.into(), message: message.into(), hint: None }
    }

    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.place.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "at {}: {}", self.place, self.message)
        }
    }
}

/// A place and what is there.
#[derive(Debug, Clone)]
pub(crate) struct At<'d> {
    root: &'d Value,
    pub(crate) value: &'d Value,
    pub(crate) place: String,
}

impl<'d> At<'d> {
    pub(crate) fn root(value: &'d Value) -> Self {
        Self { root: value, value, place: String::new() }
    }

    /// A place that a pointer of the same document leads to.
    pub(crate) fn pointed(&self, pointer: &str) -> Option<Self> {
        Some(Self { root: self.root, value: self.root.pointer(pointer)?, place: pointer.to_owned() })
    }

    pub(crate) fn get(&self, key: &str) -> Option<Self> {
        self.value.get(key).map(|value| self.below(key, value))
    }

    fn below(&self, key: &str, value: &'d Value) -> Self {
        let place = format!("{}/{}", self.place, key.replace('~', "~0").replace('/', "~1"));
        Self { root: self.root, value, place }
    }

    /// The fields of an object.
    pub(crate) fn fields(&self) -> Result<Vec<(&'d str, Self)>, Malformed> {
        let fields = self.value.as_object().ok_or_else(|| self.wrong("must be an object"))?;
        Ok(fields.iter().map(|(key, value)| (key.as_str(), self.below(key, value))).collect())
    }

    /// The elements of a list.
    pub(crate) fn items(&self) -> Result<Vec<Self>, Malformed> {
        let items = self.value.as_array().ok_or_else(|| self.wrong("must be a list"))?;
        Ok(items.iter().enumerate().map(|(at, value)| self.below(&at.to_string(), value)).collect())
    }

    pub(crate) fn text(&self) -> Result<&'d str, Malformed> {
        self.value.as_str().ok_or_else(|| self.wrong("must be text"))
    }

    /// A field that must be there.
    pub(crate) fn need(&self, key: &str) -> Result<Self, Malformed> {
        self.get(key).ok_or_else(|| self.wrong(format!("{key} is missing")))
    }

    /// A flag, which is false where it is left out.
    pub(crate) fn flag(&self, key: &str) -> Result<bool, Malformed> {
        let flag = |at: Self| at.value.as_bool().ok_or_else(|| at.wrong("must be true or false"));
        self.get(key).map_or(Ok(false), flag)
    }

    pub(crate) fn wrong(&self, message: impl Into<String>) -> Malformed {
        Malformed::new(&self.place, message)
    }

    /// What a `$ref` here leads to; without one, this.
    pub(crate) fn resolved(self) -> Result<Self, Malformed> {
        let mut at = self;
        for _ in 0..MOST_HOPS {
            match at.get("$ref") {
                Some(reference) => at = reference.followed()?,
                None => return Ok(at),
            }
        }
        Err(at.wrong("references lead to each other without end"))
    }

    /// What this reference leads to.
    pub(crate) fn followed(&self) -> Result<Self, Malformed> {
        let pointer = self.pointer()?;
        self.pointed(&pointer).ok_or_else(|| self.wrong(format!("$ref \"#{pointer}\" leads nowhere")))
    }

    /// The pointer of this reference, which must stay in the document.
    pub(crate) fn pointer(&self) -> Result<String, Malformed> {
        let text = self.text()?;
        let Some(pointer) = text.strip_prefix('#') else {
            let shown: String = text.chars().take(120).collect();
            let error = self.wrong(format!("$ref {shown:?} leads out of the document, and nothing else is read"));
            return Err(error.hint("put what it names under components"));
        };
        let decoded = percent_encoding::percent_decode_str(pointer).decode_utf8();
        Ok(decoded.map_err(|_| self.wrong("$ref is not UTF-8 text"))?.into_owned())
    }
}
