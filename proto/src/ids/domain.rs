//! DNS names that namespaces own, in one spelling. Who owns which is the scheduler's to know.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::IdError;

/// A DNS name in lower case with two labels at least, such as `example.com`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DomainName(Box<str>);

impl DomainName {
    /// The longest one, in characters (RFC 1035 2.3.4, without the root's dot).
    pub const MAX_LEN: usize = 253;

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a host is this name or lies below it.
    #[must_use]
    pub fn holds(&self, host: &str) -> bool {
        host.strip_suffix(self.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    }
}

/// A label of letters, digits and hyphens (RFC 1035 2.3.1, RFC 1123 2.1).
fn is_label(label: &str) -> bool {
    let fine = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&label.len()) && label.bytes().all(fine) && !label.starts_with('-') && !label.ends_with('-')
}

impl FromStr for DomainName {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        // An address has only digits in its last label, which no top-level domain has (RFC 3696 2).
        let named = text.rsplit('.').next().is_some_and(|last| last.bytes().any(|byte| byte.is_ascii_lowercase()));
        if named && text.contains('.') && text.len() <= Self::MAX_LEN && text.split('.').all(is_label) {
            return Ok(Self(text.into()));
        }
        let rule = "it must be a DNS name in lower case with two labels at least, such as example.com; a name with other \
                    letters is written in its xn-- form";
        Err(IdError::new("domain", text, rule))
    }
}

impl TryFrom<String> for DomainName {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<DomainName> for String {
    fn from(name: DomainName) -> Self {
        name.0.into()
    }
}

impl fmt::Display for DomainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_are_names_and_no_addresses() {
        for good in ["example.com", "a.b.c.example", "xn--bcher-kva.example", "1.example", "a-b.example"] {
            assert_eq!(good.parse::<DomainName>().unwrap().to_string(), good);
        }
        let long = format!("{}.example", "a".repeat(64));
        for bad in [
            "",
            "com",
            "localhost",
            ".com",
            "com.",
            "a..b",
            "Example.com",
            "*.example.com",
            "-a.com",
            "a-.com",
            "a b.com",
            "192.0.2.7",
            "[::1]",
            "example.com:80",
            "b\u{fc}cher.example",
            "a_b.example",
            &long,
        ] {
            assert!(bad.parse::<DomainName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_domain_holds_what_lies_below_it() {
        let domain: DomainName = "example.com".parse().unwrap();
        assert!(domain.holds("example.com") && domain.holds("a.b.example.com"));
        assert!(!domain.holds("badexample.com") && !domain.holds("com") && !domain.holds("example.com.evil.org"));
    }
}
