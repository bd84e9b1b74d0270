//! What stands in `Cache-Control` (RFC 9111 5.2), of requests and of answers: names have no case, values may be quoted.
//!
//! What follows from a directive is decided in `rules.rs`.

use std::{fmt::Write, time::Duration};

use http::{HeaderMap, header};

/// The longest time that is told apart from a longer one (RFC 9111 1.2.2): 68 years.
const FOREVER: u64 = 1 << 31;

/// The directives of a message, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Directives(Vec<(String, Option<String>)>);

impl Directives {
    /// Those of a message with these headers.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let values = headers.get_all(header::CACHE_CONTROL).iter();
        Self(values.flat_map(|value| read(&String::from_utf8_lossy(value.as_bytes()))).collect())
    }

    /// Whether a directive is there, with a value or without.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| known == name)
    }

    /// Whether a directive is there without a value.
    pub(super) fn is_bare(&self, name: &str) -> bool {
        self.0.iter().any(|(known, value)| known == name && value.is_none())
    }

    /// The value of a directive in seconds: none at all where it is not a number, and the least of several.
    pub(super) fn seconds(&self, name: &str) -> Option<Duration> {
        let of_name = self.0.iter().filter(|(known, _)| known == name);
        of_name.map(|(_, value)| value.as_deref().map_or(Duration::ZERO, seconds)).min()
    }

    /// Those of these names, as a library reads them: in lower case, once, with numbers that are numbers.
    pub(super) fn plain(&self, flags: &[&str], numbers: &[&str]) -> String {
        let mut text = flags.iter().filter(|name| self.has(name)).copied().collect::<Vec<_>>().join(",");
        for name in numbers {
            if let Some(value) = self.seconds(name) {
                // A string takes everything.
                let _ = write!(text, ",{name}={}", value.as_secs());
            }
        }
        text
    }
}

/// A number of seconds, as far as it can be one.
pub(super) fn seconds(text: &str) -> Duration {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = if digits { text.parse().unwrap_or(FOREVER).min(FOREVER) } else { 0 };
    Duration::from_secs(number)
}

fn read(text: &str) -> Vec<(String, Option<String>)> {
    let parts = split(text).into_iter().map(|part| match part.split_once('=') {
        Some((name, value)) => (name.trim().to_ascii_lowercase(), Some(value.trim().to_owned())),
        None => (part.trim().to_ascii_lowercase(), None),
    });
    parts.filter(|(name, _)| !name.is_empty()).collect()
}

/// The parts between commas outside of quotation marks, without the marks.
fn split(text: &str) -> Vec<String> {
    let (mut parts, mut part, mut quoted, mut escaped) = (Vec::new(), String::new(), false, false);
    for letter in text.chars() {
        match letter {
            _ if escaped => {
                part.push(letter);
                escaped = false;
            }
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ',' if !quoted => parts.push(std::mem::take(&mut part)),
            _ => part.push(letter),
        }
    }
    parts.push(part);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directives(values: &[&str]) -> Directives {
        Directives::of(&values.iter().map(|value| (header::CACHE_CONTROL, value.parse().unwrap())).collect())
    }

    #[test]
    fn names_have_no_case_and_values_may_be_quoted() {
        let read = directives(&["Max-Age=\"60\" ,PRIVATE=\"a, no-store\"", " , no-cache , x=\"\\\",public\""]);
        assert_eq!(read.seconds("max-age"), Some(Duration::from_secs(60)));
        assert!(read.has("private") && read.has("no-cache") && !read.has("no-store") && !read.has("public"));
        assert_eq!(read.plain(&["public", "private"], &["max-age", "s-maxage"]), "private,max-age=60");
    }

    #[test]
    fn what_is_no_number_is_no_time_and_the_least_counts() {
        for (value, expected) in [
            ("max-age=5", Some(5)),
            ("max-age=5, max-age=4", Some(4)),
            ("max-age", Some(0)),
            ("max-age=-1", Some(0)),
            ("max-age=+1", Some(0)),
            ("max-age=1.5", Some(0)),
            ("max-age=1s", Some(0)),
            ("max-age=99999999999999999999999", Some(FOREVER)),
            ("max-agee=1", None),
            ("", None),
        ] {
            assert_eq!(directives(&[value]).seconds("max-age"), expected.map(Duration::from_secs), "{value}");
        }
    }
}
