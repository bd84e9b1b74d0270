//! Which pages of other origins may call a route from a browser (Fetch, 3.2 CORS protocol), as a policy that has been checked.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use super::{headers::header_name, host::is_authority, wire::methods};
use crate::{error::ApiError, model::to_wire_duration, v1};

/// The most entries of each list.
const MOST: usize = 50;
/// The longest that browsers may remember a preflight; most of them have smaller bounds of their own.
const MAX_AGE: Duration = Duration::from_secs(24 * 3600);

/// Which pages may call, and what they may send and read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CorsPolicy {
    /// At least one.
    pub allow_origins: Vec<OriginPattern>,
    /// Empty means those of the route.
    pub allow_methods: Vec<String>,
    /// In lower case; `*` means all that are asked for.
    pub allow_headers: Vec<String>,
    /// In lower case.
    pub expose_headers: Vec<String>,
    /// Whether cookies and other credentials may be sent.
    pub allow_credentials: bool,
    /// How long a preflight's answer may be remembered.
    pub max_age: Option<Duration>,
}

/// An origin, those of all hosts below one, or all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum OriginPattern {
    /// All.
    Any,
    /// This one.
    Exact(String),
    /// What begins and ends so, with a host's name between: `https://` and `.example.com`.
    Between(String, String),
}

impl OriginPattern {
    /// Whether it is for an origin, as a browser sends it.
    #[must_use]
    pub fn matches(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(known) => known == origin,
            Self::Between(scheme, suffix) => {
                let host = origin.strip_prefix(scheme.as_str()).and_then(|rest| rest.strip_suffix(suffix.as_str()));
                let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-.".contains(&byte);
                host.is_some_and(|host| !host.is_empty() && host.bytes().all(fine))
            }
        }
    }
}

impl FromStr for OriginPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let text = text.to_ascii_lowercase();
        let host = ["https://", "http://"].into_iter().find_map(|scheme| Some((scheme, text.strip_prefix(scheme)?)));
        let wrong =
            || format!("{text:?} is no origin; write for example https://app.example.com, https://*.example.com or *");
        let (scheme, host) = host.ok_or_else(wrong)?;
        let below = host.strip_prefix("*.");
        let fine = is_authority(below.unwrap_or(host));
        match below {
            _ if !fine || text.len() > 300 => Err(wrong()),
            Some(suffix) => Ok(Self::Between(scheme.to_owned(), format!(".{suffix}"))),
            None => Ok(Self::Exact(text)),
        }
    }
}

impl TryFrom<String> for OriginPattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<OriginPattern> for String {
    fn from(origin: OriginPattern) -> Self {
        origin.to_string()
    }
}

impl fmt::Display for OriginPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Exact(origin) => f.write_str(origin),
            Self::Between(scheme, suffix) => write!(f, "{scheme}*{suffix}"),
        }
    }
}

impl TryFrom<v1::CorsPolicy> for CorsPolicy {
    type Error = ApiError;

    fn try_from(wire: v1::CorsPolicy) -> Result<Self, ApiError> {
        let lists = [wire.allow_origins.len(), wire.allow_headers.len(), wire.expose_headers.len()];
        if wire.allow_origins.is_empty() || lists.into_iter().any(|count| count > MOST) {
            let message = format!("cors needs an origin, and may have {MOST} entries in each list at most");
            return Err(ApiError::invalid("route.cors.allow_origins", message));
        }
        let origin = |text: &String| {
            text.parse::<OriginPattern>().map_err(|error| ApiError::invalid("route.cors.allow_origins", error))
        };
        let allow_origins: Vec<_> = wire.allow_origins.iter().map(origin).collect::<Result<_, _>>()?;
        if wire.allow_credentials && allow_origins.contains(&OriginPattern::Any) {
            let message = "credentials can't be allowed to pages of every origin";
            return Err(ApiError::invalid("route.cors.allow_credentials", message).hint("name the origins"));
        }
        Ok(Self {
            allow_origins,
            allow_methods: methods("route.cors.allow_methods", &wire.allow_methods)?.into_iter().collect(),
            allow_headers: names("route.cors.allow_headers", &wire.allow_headers, true)?,
            expose_headers: names("route.cors.expose_headers", &wire.expose_headers, false)?,
            allow_credentials: wire.allow_credentials,
            max_age: wire.max_age.map(max_age).transpose()?,
        })
    }
}

fn names(field: &str, texts: &[String], all: bool) -> Result<Vec<String>, ApiError> {
    let name = |text: &String| if all && text == "*" { Ok(text.clone()) } else { header_name(field, text) };
    texts.iter().map(name).collect()
}

fn max_age(wire: prost_types::Duration) -> Result<Duration, ApiError> {
    let age: Option<Duration> = wire.try_into().ok();
    let message = || format!("max_age must lie between 0 and {} s", MAX_AGE.as_secs());
    age.filter(|age| *age <= MAX_AGE).ok_or_else(|| ApiError::invalid("route.cors.max_age", message()))
}

impl From<&CorsPolicy> for v1::CorsPolicy {
    fn from(policy: &CorsPolicy) -> Self {
        Self {
            allow_origins: policy.allow_origins.iter().map(ToString::to_string).collect(),
            allow_methods: policy.allow_methods.clone(),
            allow_headers: policy.allow_headers.clone(),
            expose_headers: policy.expose_headers.clone(),
            allow_credentials: policy.allow_credentials,
            max_age: policy.max_age.map(to_wire_duration),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_matched_whole() {
        let matches = |pattern: &str, origin: &str| pattern.parse::<OriginPattern>().unwrap().matches(origin);
        assert!(matches("*", "https://a.example") && matches("*", "null"));
        assert!(matches("https://App.example", "https://app.example"));
        assert!(matches("https://*.example.com", "https://a.b.example.com"));
        assert!(matches("http://*.example.com:8080", "http://a.example.com:8080"));
        for (pattern, origin) in [
            ("https://app.example", "http://app.example"),
            ("https://app.example", "https://app.example.evil.org"),
            ("https://app.example", "https://app.example:8443"),
            ("https://*.example.com", "https://example.com"),
            ("https://*.example.com", "https://.example.com"),
            ("https://*.example.com", "https://evil.org/.example.com"),
            ("https://*.example.com", "https://evil.org:80@x.example.com"),
            ("https://*.example.com", "null"),
        ] {
            assert!(!matches(pattern, origin), "{pattern} {origin}");
        }
        for bad in [
            "",
            "null",
            "app.example",
            "ftp://a",
            "https://",
            "https://a/b",
            "https://*",
            "https://a.*.b",
            "https://u@a",
            "https://a:x",
        ] {
            assert!(bad.parse::<OriginPattern>().is_err(), "{bad:?}");
        }
    }
}
