//! Patterns of paths: their spellings, which are read into one, and their shape, by which conflicts are found.
//!
//! Which path matches is not decided here: gateways keep all patterns of a namespace in one tree.

use std::{borrow::Cow, collections::BTreeSet, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::error::ApiError;

/// The longest pattern in bytes, and the most segments; what looks for a path goes one step down for each.
const MAX_BYTES: usize = 1_024;
const MAX_SEGMENTS: usize = 32;
/// The name of what `...` and `*` stand for.
const UNNAMED: &str = "path";

/// A pattern of paths. A slash at the end has been taken off: it makes no difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PathPattern {
    segments: Vec<Segment>,
    tail: Option<Tail>,
}

/// What stands between two slashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    /// This text, decoded.
    Literal(Box<str>),
    /// Anything but nothing.
    Parameter(ParameterName),
}

/// What stands for the rest of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tail {
    /// What it is called.
    pub name: ParameterName,
    /// Whether the rest may be nothing.
    pub optional: bool,
}

/// The name of a parameter: a letter, then letters, digits, `_` and `-`; 32 at most.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ParameterName(Box<str>);

/// A text that is no pattern: which one, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("path {pattern:?}: {reason}")]
pub struct InvalidPattern {
    /// The beginning of what was written.
    pattern: String,
    /// What is wrong with it.
    reason: String,
}

impl From<InvalidPattern> for ApiError {
    fn from(invalid: InvalidPattern) -> Self {
        Self::invalid("route.path", &invalid).hint("write for example /users/{id}, /files/{path+} or /static/...")
    }
}

impl PathPattern {
    /// The segments before the rest.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The rest, where there is one.
    #[must_use]
    pub fn tail(&self) -> Option<&Tail> {
        self.tail.as_ref()
    }

    /// All parameters, in their order; the rest is the last one.
    pub fn parameters(&self) -> impl Iterator<Item = &ParameterName> {
        let of_segments = self.segments.iter().filter_map(|segment| match segment {
            Segment::Parameter(name) => Some(name),
            Segment::Literal(_) => None,
        });
        of_segments.chain(self.tail.iter().map(|tail| &tail.name))
    }

    /// The pattern without the names of its parameters: two patterns of one shape are for the same paths, but perhaps for the
    /// path where the rest is nothing.
    #[must_use]
    pub fn shape(&self) -> String {
        let segments = self.segments.iter().map(|segment| match segment {
            Segment::Literal(text) => format!("/{}", encode(text)),
            Segment::Parameter(_) => "/{}".to_owned(),
        });
        segments.chain(self.tail.iter().map(|_| "/{+}".to_owned())).collect()
    }

    fn check(&self) -> Result<(), String> {
        if self.segments.len() > MAX_SEGMENTS {
            return Err(format!("it has more than {MAX_SEGMENTS} segments"));
        }
        let mut seen = BTreeSet::new();
        for name in self.parameters() {
            // Names become headers, and headers environment variables, where case and hyphens are lost (RFC 3875 4.1.18).
            if !seen.insert(name.as_str().to_ascii_lowercase().replace('-', "_")) {
                return Err(format!("the parameter {{{name}}} is there twice"));
            }
        }
        Ok(())
    }
}

impl ParameterName {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ParameterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ParameterName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let letter = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic());
        let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
        if letter && text.len() <= 32 && text.bytes().all(fine) {
            return Ok(Self(text.into()));
        }
        Err(format!(
            "{text:?} is no name of a parameter: it must have a letter, then letters, digits, _ and -, 32 at most"
        ))
    }
}

/// What a segment of a pattern says.
enum Piece {
    Segment(Segment),
    Tail(Tail),
}

/// Reads a segment in any of its spellings.
fn piece(text: &str) -> Result<Piece, String> {
    let parameter = |name: &str| name.parse().map(Segment::Parameter).map(Piece::Segment);
    let tail = |name: &str, optional| name.parse().map(|name| Piece::Tail(Tail { name, optional }));
    if let Some(inner) = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        return match (inner.strip_prefix('*'), inner.strip_suffix('+'), inner.strip_suffix('*')) {
            (Some(name), ..) | (None, None, Some(name)) => tail(name, true),
            (None, Some(name), _) => tail(name, false),
            (None, None, None) => parameter(inner),
        };
    }
    match text {
        "..." | "*" => tail(UNNAMED, true),
        _ => match (text.strip_prefix(':'), text.strip_prefix('*')) {
            (Some(name), _) => parameter(name),
            (None, Some(name)) => tail(name, true),
            (None, None) => literal(text).map(Piece::Segment),
        },
    }
}

fn literal(text: &str) -> Result<Segment, String> {
    if text.is_empty() {
        return Err("it has two slashes in a row".to_owned());
    }
    if text.contains(['{', '}', '*']) {
        return Err(format!(
            "{text:?} is no whole parameter; one must fill the place between two slashes, such as /{{id}}/"
        ));
    }
    if text.contains(['?', '#', '\\']) {
        return Err("it must be a path alone, without ?, # and backslash".to_owned());
    }
    let decoded = decode(text).ok_or("each % must be followed by two hexadecimal digits, and bytes must be UTF-8")?;
    if decoded.contains(['/', '\\']) || decoded.chars().any(char::is_control) {
        return Err(format!("{text:?} must not have a slash, a backslash or a control character, in any spelling"));
    }
    if matches!(&*decoded, "." | "..") {
        return Err("it must not have a segment . or .., in any spelling".to_owned());
    }
    Ok(Segment::Literal(decoded.into_owned().into()))
}

/// Reads `%xx`.
fn decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let mut parts = text.as_bytes().split(|byte| *byte == b'%');
    let mut out = parts.next()?.to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        let mut byte = [0];
        hex::decode_to_slice(digits, &mut byte).ok()?;
        out.extend(byte);
        out.extend(rest);
    }
    String::from_utf8(out).ok().map(Cow::Owned)
}

/// Writes a segment's text as it may stand in a pattern and in a path (RFC 3986 3.3).
fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()+,;=:@".contains(&byte);
    let mut out = String::with_capacity(text.len());
    for (at, byte) in text.bytes().enumerate() {
        // At its beginning, a colon would make it a parameter.
        if plain(byte) && !(at == 0 && byte == b':') && !(text == "..." && at == 0) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

impl FromStr for PathPattern {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, InvalidPattern> {
        read(text).map_err(|reason| InvalidPattern { pattern: text.chars().take(120).collect(), reason })
    }
}

fn read(text: &str) -> Result<PathPattern, String> {
    let path = text.strip_prefix('/').ok_or("it must begin with a slash")?;
    if text.len() > MAX_BYTES {
        return Err(format!("it has more than {MAX_BYTES} bytes"));
    }
    let path = path.strip_suffix('/').filter(|path| !path.is_empty()).unwrap_or(path);
    let mut pattern = PathPattern { segments: Vec::new(), tail: None };
    for part in path.split('/').filter(|_| !path.is_empty()) {
        if pattern.tail.is_some() {
            return Err("nothing can follow what stands for the rest of the path".to_owned());
        }
        match piece(part)? {
            Piece::Segment(segment) => pattern.segments.push(segment),
            Piece::Tail(tail) => pattern.tail = Some(tail),
        }
    }
    pattern.check()?;
    Ok(pattern)
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for segment in &self.segments {
            match segment {
                Segment::Literal(text) => write!(f, "/{}", encode(text))?,
                Segment::Parameter(name) => write!(f, "/{{{name}}}")?,
            }
        }
        match &self.tail {
            Some(Tail { name, optional: true }) => write!(f, "/{{{name}*}}"),
            Some(Tail { name, optional: false }) => write!(f, "/{{{name}+}}"),
            None if self.segments.is_empty() => f.write_str("/"),
            None => Ok(()),
        }
    }
}

impl TryFrom<String> for PathPattern {
    type Error = InvalidPattern;

    fn try_from(text: String) -> Result<Self, InvalidPattern> {
        text.parse()
    }
}

impl From<PathPattern> for String {
    fn from(pattern: PathPattern) -> Self {
        pattern.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelled(text: &str) -> Result<String, String> {
        text.parse::<PathPattern>().map(|pattern| pattern.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn all_spellings_are_read_into_one() {
        for (text, canonical) in [
            ("/", "/"),
            ("/users", "/users"),
            ("/users/", "/users"),
            ("/users/{id}", "/users/{id}"),
            ("/users/:id", "/users/{id}"),
            ("/users/:id/posts", "/users/{id}/posts"),
            ("/files/{path+}", "/files/{path+}"),
            ("/{proxy+}", "/{proxy+}"),
            ("/files/{path*}", "/files/{path*}"),
            ("/files/...", "/files/{path*}"),
            ("/files/*", "/files/{path*}"),
            ("/files/*rest", "/files/{rest*}"),
            ("/files/{*rest}", "/files/{rest*}"),
            ("/...", "/{path*}"),
            ("/a%20b/caf\u{e9}", "/a%20b/caf%C3%A9"),
            ("/%61%2d", "/a-"),
            ("/v1:run", "/v1:run"),
            ("/%3Aid", "/%3Aid"),
            ("/%2e%2e%2e", "/%2E.."),
            ("/%7Bid%7D", "/%7Bid%7D"),
        ] {
            assert_eq!(spelled(text).as_deref(), Ok(canonical), "{text}");
            assert_eq!(spelled(canonical).as_deref(), Ok(canonical), "the one spelling stays as it is");
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused_with_the_reason() {
        for (text, reason) in [
            ("", "begin with a slash"),
            ("users", "begin with a slash"),
            ("//", "two slashes"),
            ("/a//b", "two slashes"),
            ("/a/{id", "no whole parameter"),
            ("/a/x{id}", "no whole parameter"),
            ("/a/{}", "no name of a parameter"),
            ("/a/{1}", "no name of a parameter"),
            ("/a/{a b}", "no name of a parameter"),
            ("/a/:", "no name of a parameter"),
            ("/{path+}/x", "nothing can follow"),
            ("/.../x", "nothing can follow"),
            ("/{a}/{a}", "there twice"),
            ("/{a-b}/{A_B}", "there twice"),
            ("/a?b", "a path alone"),
            ("/a\\b", "a path alone"),
            ("/a%2fb", "must not have a slash"),
            ("/a%5cb", "must not have a slash"),
            ("/a%00", "control character"),
            ("/a%zz", "hexadecimal"),
            ("/a%ff", "UTF-8"),
            ("/a/../b", "segment . or .."),
            ("/%2e%2e", "segment . or .."),
            (&"/a".repeat(33), "more than 32 segments"),
            (&format!("/{}", "a".repeat(1024)), "more than 1024 bytes"),
        ] {
            let error = spelled(text).unwrap_err();
            assert!(error.contains(reason), "{text:?}: {error}");
        }
    }

    #[test]
    fn names_of_parameters_are_no_part_of_the_shape() {
        let shape = |text: &str| text.parse::<PathPattern>().unwrap().shape();
        assert_eq!(shape("/users/{id}"), shape("/users/:name/"));
        assert_eq!(shape("/files/{path+}"), shape("/files/..."));
        assert_ne!(shape("/files/{path}"), shape("/files/{path+}"));
        assert_ne!(shape("/%7B%7D"), shape("/{id}"));
        assert_ne!(shape("/Users"), shape("/users"));
    }
}
