//! Paths and locations with parameters in braces, and what becomes of them for one request.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{
    host::is_authority,
    pattern::{ParameterName, PathPattern},
};

/// The longest template, in bytes.
const MAX_BYTES: usize = 2_048;

/// A text with parameters in braces, such as `/v1/users/{id}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PathTemplate(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    Parameter(ParameterName),
}

impl PathTemplate {
    /// The text of a request whose parameters have these values, as the caller wrote them.
    ///
    /// Where a slash meets a slash, one is left: the rest of a path must not turn a path into the host of another server.
    pub fn fill<'v>(&self, value: impl Fn(&ParameterName) -> &'v str) -> String {
        let mut out = String::with_capacity(64);
        for part in &self.0 {
            let next: &str = match part {
                Part::Text(text) => text,
                Part::Parameter(name) => value(name),
            };
            out.push_str(if out.ends_with('/') { next.trim_start_matches('/') } else { next });
        }
        out
    }

    /// Whether it has a query of its own.
    #[must_use]
    pub fn has_query(&self) -> bool {
        self.0.iter().any(|part| matches!(part, Part::Text(text) if text.contains('?')))
    }

    /// Checks that it is a path, and that a pattern has its parameters.
    pub(super) fn check_path(&self, pattern: &PathPattern) -> Result<(), String> {
        if !self.begins_as_path() {
            return Err("it must begin with one slash".to_owned());
        }
        if self.has_query() {
            return Err("it must be a path alone, without ?; the query stays as it is".to_owned());
        }
        let text = self.to_string();
        if text.split('/').any(|segment| matches!(segment, "." | "..")) {
            return Err("it must not have a segment . or ..".to_owned());
        }
        self.check_parameters(pattern)
    }

    /// Checks that it is an absolute path or a URL, and that a pattern has its parameters, none of which is in the host or query.
    pub(super) fn check_location(&self, pattern: &PathPattern) -> Result<(), String> {
        if !self.begins_as_path() && !self.begins_as_url() {
            return Err(
                "it must be a path that begins with one slash, or a URL of http or https; its host must end with a \
                        slash before the first parameter"
                    .to_owned(),
            );
        }
        let query = self.0.iter().position(|part| matches!(part, Part::Text(text) if text.contains('?')));
        if query.is_some_and(|at| at + 1 < self.0.len()) {
            return Err("it must not have a parameter in its query".to_owned());
        }
        self.check_parameters(pattern)
    }

    fn first(&self) -> &str {
        match self.0.first() {
            Some(Part::Text(text)) => text,
            _ => "",
        }
    }

    fn begins_as_path(&self) -> bool {
        self.first().starts_with('/') && !self.first().starts_with("//")
    }

    fn begins_as_url(&self) -> bool {
        let rest = ["https://", "http://"].into_iter().find_map(|scheme| self.first().strip_prefix(scheme));
        let Some(rest) = rest else { return false };
        let host = rest.split(['/', '?']).next().unwrap_or_default();
        is_authority(host) && (host.len() < rest.len() || self.0.len() == 1)
    }

    fn check_parameters(&self, pattern: &PathPattern) -> Result<(), String> {
        let unknown = self.0.iter().find_map(|part| match part {
            Part::Parameter(name) if !pattern.parameters().any(|known| known == name) => Some(name),
            _ => None,
        });
        unknown.map_or(Ok(()), |name| Err(format!("the path {pattern} has no parameter {{{name}}}")))
    }
}

/// Reads the text up to the next brace, then a parameter, and so on.
fn read(mut text: &str) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    while !text.is_empty() {
        let (plain, rest) = text.split_once('{').map_or((text, None), |(plain, rest)| (plain, Some(rest)));
        if !plain.is_empty() {
            parts.push(Part::Text(checked(plain)?.into()));
        }
        let Some(rest) = rest else { break };
        let (name, after) = rest.split_once('}').ok_or("a brace is open")?;
        // As in the pattern, so that one can be copied into the other.
        parts.push(Part::Parameter(name.trim_end_matches(['+', '*']).parse()?));
        text = after;
    }
    Ok(parts)
}

fn checked(text: &str) -> Result<&str, String> {
    // RFC 3986 allows no others; what is not ASCII is written as %xx. A fragment is nothing that a server should set.
    let fine = |byte: u8| byte.is_ascii_graphic() && !b"\"<>\\^`{|}#".contains(&byte);
    let escaped = text.split('%').skip(1).all(|part| {
        let digits = part.as_bytes().get(..2);
        digits.is_some_and(|digits| {
            digits.iter().all(u8::is_ascii_hexdigit) && !matches!(digits, b"00" | b"5c" | b"5C" | b"2e" | b"2E")
        })
    });
    if text.bytes().all(fine) && escaped {
        Ok(text)
    } else {
        Err("it has characters that no path has; write them as %xx".to_owned())
    }
}

impl FromStr for PathTemplate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.len() > MAX_BYTES {
            return Err(format!("it has more than {MAX_BYTES} bytes"));
        }
        read(text).map(Self)
    }
}

impl TryFrom<String> for PathTemplate {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<PathTemplate> for String {
    fn from(template: PathTemplate) -> Self {
        template.to_string()
    }
}

impl fmt::Display for PathTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|part| match part {
            Part::Text(text) => f.write_str(text),
            Part::Parameter(name) => write!(f, "{{{name}}}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern() -> PathPattern {
        "/u/{id}/{rest*}".parse().unwrap()
    }

    fn filled(template: &str, id: &str, rest: &str) -> String {
        let template: PathTemplate = template.parse().unwrap();
        template.check_location(&pattern()).unwrap();
        template.fill(|name| if name.as_str() == "id" { id } else { rest })
    }

    #[test]
    fn parameters_are_filled_in_as_the_caller_wrote_them() {
        assert_eq!(filled("/v1/{id}", "7%2f8", ""), "/v1/7%2f8");
        assert_eq!(filled("/{rest*}", "", "a/b"), "/a/b");
        assert_eq!(filled("https://other.example/{id}/x-{rest}?a=b", "1", "2/3"), "https://other.example/1/x-2/3?a=b");
        assert_eq!(filled("https://other.example", "1", ""), "https://other.example");
    }

    #[test]
    fn no_path_of_a_caller_becomes_a_host() {
        assert_eq!(filled("/{rest}", "", "/evil.example"), "/evil.example");
        assert_eq!(filled("/{rest}", "", "///evil.example/x"), "/evil.example/x");
        assert_eq!(filled("/{rest}/evil.example", "", ""), "/evil.example");
    }

    #[test]
    fn what_is_no_path_or_location_is_refused() {
        let check = |text: &str, url: bool| -> Result<(), String> {
            let template: PathTemplate = text.parse()?;
            if url { template.check_location(&pattern()) } else { template.check_path(&pattern()) }
        };
        for bad in [
            "",
            "v1",
            "//evil.example",
            "{rest}",
            "/a?b",
            "/../a",
            "/{none}",
            "/{id",
            "/a b",
            "/a#b",
            "/%zz",
            "/%2e%2e",
            "/a\\b",
        ] {
            assert!(check(bad, false).is_err(), "{bad:?}");
        }
        for bad in [
            "",
            "//evil.example",
            "{rest}",
            "ftp://a/",
            "https://",
            "https://{id}.example/",
            "https://a{id}/",
            "https://u@a/",
            "javascript:alert(1)",
            "/a?b={id}",
            "/{none}",
            "/a\r\nb",
        ] {
            assert!(check(bad, true).is_err(), "{bad:?}");
        }
    }
}
