//! The same as a command, for `curl` and the JSON endpoints: made of the command's own words by one table (`curl/endpoints.rs`), so
//! that the two can't say different things. What has no endpoint, such as what only concerns files of one's own, has no such line.
//!
//! A line may hold what somebody else chose. Names become segments of a path, percent-encoded (RFC 3986 2.1), which nothing in a
//! shell's double quotes expands; bodies are ASCII within single quotes. The address and the token are the variables that the
//! command reads too.

mod endpoints;

use std::{collections::BTreeMap, fmt::Display};

use serde_json::Value;

use endpoints::{ENDPOINTS, Endpoint};

/// What the words of a command stand for, by the names that the table gives them.
#[derive(Debug, Default, PartialEq, Eq)]
struct Words(BTreeMap<&'static str, String>);

impl Words {
    /// A word; empty where the command has none.
    fn get(&self, name: &str) -> &str {
        self.0.get(name).map(String::as_str).unwrap_or_default()
    }

    /// A word, where the command has it.
    fn maybe(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

/// The line for `curl` that does what a command does.
pub(super) fn of<T: Display + ?Sized>(command: &T) -> Option<String> {
    let words = shlex::split(&command.to_string())?;
    let (first, words) = words.split_first()?;
    if first != "dunlin" {
        return None;
    }
    let found = ENDPOINTS.iter().find_map(|endpoint| Some((endpoint, matched(endpoint.command, words)?)));
    found.map(|(endpoint, words)| line(endpoint, &words))
}

/// What the words of a pattern stand for in a command; words in brackets may be missing, those in braces stand for any.
fn matched(pattern: &'static str, words: &[String]) -> Option<Words> {
    let mut found = Words::default();
    let (mut rest, mut left) = (pattern, words);
    while let Some((group, is_needed, after)) = next(rest) {
        rest = after;
        match taken(group, left) {
            Some((some, after)) => {
                found.0.extend(some);
                left = after;
            }
            None if is_needed => return None,
            None => {}
        }
    }
    left.is_empty().then_some(found)
}

/// The next word of a pattern or the next words in brackets, whether they are needed, and what follows.
fn next(pattern: &'static str) -> Option<(&'static str, bool, &'static str)> {
    let pattern = pattern.trim_start();
    if let Some((group, rest)) = pattern.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
        return Some((group, false, rest));
    }
    let (word, rest) = pattern.split_once(' ').unwrap_or((pattern, ""));
    (!word.is_empty()).then_some((word, true, rest))
}

type Taken<'w> = (Vec<(&'static str, String)>, &'w [String]);

/// What some words of a pattern stand for at the beginning of others, and those that follow.
fn taken<'w>(group: &'static str, words: &'w [String]) -> Option<Taken<'w>> {
    let mut found = Vec::new();
    let mut left = words;
    for expected in group.split_whitespace() {
        let (word, rest) = left.split_first()?;
        left = rest;
        match expected.split_once('/') {
            Some((before, after)) => {
                let (one, other) = word.split_once('/')?;
                found.extend([(name_in(before)?, one.to_owned()), (name_in(after)?, other.to_owned())]);
            }
            None => match name_in(expected) {
                Some(name) if !word.starts_with("--") => found.push((name, word.clone())),
                None if expected == word => {}
                _ => return None,
            },
        }
    }
    Some((found, left))
}

fn name_in(word: &'static str) -> Option<&'static str> {
    word.strip_prefix('{')?.strip_suffix('}')
}

fn line(endpoint: &Endpoint, words: &Words) -> String {
    let method = if endpoint.method == "GET" { String::new() } else { format!("-X {} ", endpoint.method) };
    let url = format!("\"$DUNLIN_URL{}{}\"", crate::admin::json::BASE, path(endpoint.path, words));
    let body =
        endpoint.body.map(|body| format!(" -H 'Content-Type: application/json' --data {}", quoted(&body(words))));
    format!("curl {method}{url} -H \"Authorization: Bearer $DUNLIN_TOKEN\"{}", body.unwrap_or_default())
}

/// A path with its parameters; those of its query that the command does not have are left out.
fn path(pattern: &str, words: &Words) -> String {
    let (path, query) = pattern.split_once('?').unwrap_or((pattern, ""));
    let segments: Vec<_> = path.split('/').map(|segment| filled(segment, words).unwrap_or_default()).collect();
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let pairs: Vec<_> = pairs.filter_map(|(key, value)| Some(format!("{key}={}", filled(value, words)?))).collect();
    let mark = if pairs.is_empty() { "" } else { "?" };
    format!("{}{mark}{}", segments.join("/"), pairs.join("&"))
}

/// A part of a path or query: as it is, or what its name stands for.
fn filled(part: &str, words: &Words) -> Option<String> {
    match part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) {
        Some(name) => words.maybe(name).map(|word| super::encoded(word, b"-._")),
        None => Some(part.to_owned()),
    }
}

/// A body as one word of a shell. It is ASCII, so that nothing in it hides, or turns what follows around (T51).
fn quoted(body: &Value) -> String {
    let mut text = String::new();
    for unit in body.to_string().encode_utf16() {
        match u8::try_from(unit) {
            Ok(byte @ b' '..=b'~') => text.push(byte.into()),
            _ => text.push_str(&format!("\\u{unit:04x}")),
        }
    }
    shlex::try_quote(&text).map(Into::into).unwrap_or_default()
}

#[cfg(test)]
mod tests;
