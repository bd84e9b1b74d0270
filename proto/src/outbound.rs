//! The hosts that a version may reach, in the syntax of Spin's `allowed_outbound_hosts`: `scheme://host[:port]`.
//!
//! Read when a version is made, so that a mistake is an error of the deploy, and again by each worker, which decides by it.
//! Which addresses may be reached at all is the worker's own business.

use std::{net::IpAddr, str::FromStr};

use ipnet::IpNet;

use crate::error::ApiError;

/// The longest pattern, in bytes.
const MAX_PATTERN_BYTES: usize = 300;

/// The hosts that a version may reach. Empty means none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowedHosts(Vec<AllowedHost>);

/// A pattern that names no host: which one, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("allowed outbound host {pattern:?}: {reason}")]
pub struct InvalidAllowedHost {
    /// The pattern as it was written.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl From<InvalidAllowedHost> for ApiError {
    fn from(invalid: InvalidAllowedHost) -> Self {
        Self::invalid("spec.allowed_outbound_hosts", &invalid).hint(
            "write scheme://host:port, such as https://api.example.com, https://*.example.com or http://10.0.0.7:8080",
        )
    }
}

impl AllowedHosts {
    /// Reads patterns: scheme `http`, `https` or `*`; host a name, an address, a network (`10.0.0.0/8`), `*.suffix` for every
    /// name below a suffix, or `*`; port a number, a range `1024..2048` without its end, `*`, or none for the scheme's own.
    ///
    /// # Errors
    /// The first pattern that is not one.
    pub fn parse<S: AsRef<str>>(patterns: impl IntoIterator<Item = S>) -> Result<Self, InvalidAllowedHost> {
        patterns.into_iter().map(|pattern| pattern.as_ref().parse()).collect::<Result<_, _>>().map(Self)
    }

    /// Whether a request to `host` (lower case, without trailing dot or brackets) may be sent.
    #[must_use]
    pub fn allows(&self, https: bool, host: &str, port: u16) -> bool {
        self.0.iter().any(|allowed| allowed.allows(https, host, port))
    }

    /// Those of some patterns that reach further than any of these. That several of these together reach as far as one of
    /// those is not noticed.
    ///
    /// # Errors
    /// The first pattern that is not one.
    pub fn lacks(&self, patterns: &[String]) -> Result<Vec<String>, InvalidAllowedHost> {
        let mut lacking = Vec::new();
        for pattern in patterns {
            let other: AllowedHost = pattern.parse()?;
            if !lacking.contains(pattern) && !self.0.iter().any(|allowed| allowed.covers(&other)) {
                lacking.push(pattern.clone());
            }
        }
        Ok(lacking)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct AllowedHost {
    http: bool,
    https: bool,
    host: Host,
    port: Port,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    Any,
    /// With its leading dot.
    Below(String),
    Name(String),
    Network(IpNet),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Port {
    Any,
    /// 80 or 443, whichever the scheme has.
    OfScheme,
    /// From, and the first one that is not meant any more.
    Range(u16, u32),
}

impl AllowedHost {
    fn allows(&self, https: bool, host: &str, port: u16) -> bool {
        let scheme = if https { self.https } else { self.http };
        let port_matches = match self.port {
            Port::Any => true,
            Port::OfScheme => port == if https { 443 } else { 80 },
            Port::Range(from, end) => from <= port && u32::from(port) < end,
        };
        scheme && port_matches && self.host.matches(host)
    }
}

impl AllowedHost {
    /// Whether all that the other allows is allowed.
    fn covers(&self, other: &Self) -> bool {
        let scheme = (self.http || !other.http) && (self.https || !other.https);
        scheme && self.host.covers(&other.host) && self.covers_port(other)
    }

    fn covers_port(&self, other: &Self) -> bool {
        let has = |port: u16| matches!(self.port, Port::Range(from, end) if from <= port && u32::from(port) < end);
        match (&self.port, &other.port) {
            (Port::Any, _) | (Port::OfScheme, Port::OfScheme) => true,
            (Port::Range(..), Port::OfScheme) => (!other.http || has(80)) && (!other.https || has(443)),
            (Port::Range(from, end), Port::Range(low, high)) => from <= low && high <= end,
            (Port::OfScheme, Port::Range(port, end)) => {
                let one = u32::from(*port) + 1 == *end;
                one && (!other.http || *port == 80) && (!other.https || *port == 443)
            }
            (_, Port::Any) => false,
        }
    }
}

impl Host {
    fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) => true,
            (Self::Below(suffix), Self::Below(other)) => other.ends_with(suffix.as_str()),
            (_, Self::Name(name)) => self.matches(name),
            (Self::Network(network), Self::Network(other)) => network.contains(other),
            _ => false,
        }
    }

    fn matches(&self, host: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Below(suffix) => {
                host.parse::<IpAddr>().is_err() && host.len() > suffix.len() && host.ends_with(suffix)
            }
            Self::Name(name) => name == host,
            Self::Network(network) => {
                host.parse::<IpAddr>().is_ok_and(|address| network.contains(&address.to_canonical()))
            }
        }
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        let host = text.to_ascii_lowercase();
        let host = host.strip_suffix('.').unwrap_or(&host);
        if host == "*" {
            return Ok(Self::Any);
        }
        if host == "self" || host == "self.alt" {
            return Err("'self' is not offered; write the function's public address");
        }
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        if let Ok(address) = bare.parse::<IpAddr>() {
            return Ok(Self::Network(address.to_canonical().into()));
        }
        if let Ok(network) = host.parse::<IpNet>() {
            return Ok(Self::Network(network.trunc()));
        }
        let (below, name) = host.strip_prefix("*.").map_or((false, host), |name| (true, name));
        if name.len() > 253 || !name.split('.').all(is_label) {
            return Err("the host must be a name, an address, a network, '*.' and a name, or '*', without a path");
        }
        if ends_in_number(name) {
            return Err("the host ends in a number, but is no address as it is usually written");
        }
        Ok(if below { Self::Below(format!(".{name}")) } else { Self::Name(name.to_owned()) })
    }
}

/// A label of a name (RFC 1123 2.1), underscores allowed.
fn is_label(label: &str) -> bool {
    let inner = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    inner && (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-')
}

/// Such a name is another spelling of an address (WHATWG URL 3.6): refused, not guessed.
fn ends_in_number(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or_default();
    last.starts_with("0x") || last.bytes().all(|byte| byte.is_ascii_digit())
}

impl Port {
    fn parse(text: &str) -> Result<Self, &'static str> {
        if text == "*" {
            return Ok(Self::Any);
        }
        const WRONG: &str = "the port must be a number, a range like 1024..2048, or '*'";
        let Some((from, end)) = text.split_once("..") else {
            let port: u16 = text.parse().ok().filter(|port| *port > 0).ok_or(WRONG)?;
            return Ok(Self::Range(port, u32::from(port) + 1));
        };
        let (from, end) = (from.parse().map_err(|_| WRONG)?, end.parse().map_err(|_| WRONG)?);
        if u32::from(from) < end && end <= 65536 {
            Ok(Self::Range(from, end))
        } else {
            Err("the port range is empty or ends above 65536")
        }
    }
}

impl FromStr for AllowedHost {
    type Err = InvalidAllowedHost;

    fn from_str(pattern: &str) -> Result<Self, InvalidAllowedHost> {
        let shown = || pattern.chars().take(120).collect();
        parse_pattern(pattern.trim()).map_err(|reason| InvalidAllowedHost { pattern: shown(), reason })
    }
}

fn parse_pattern(pattern: &str) -> Result<AllowedHost, &'static str> {
    if pattern.len() > MAX_PATTERN_BYTES {
        return Err("it is longer than 300 bytes");
    }
    let (scheme, rest) =
        pattern.split_once("://").ok_or("expected scheme://host[:port]; '*://*:*' allows everything that is public")?;
    let (http, https) = match scheme {
        "*" => (true, true),
        "http" => (true, false),
        "https" => (false, true),
        _ => return Err("only http, https and '*' can be allowed"),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    // A colon inside brackets belongs to the address.
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Port::parse(port)?),
        _ => (rest, Port::OfScheme),
    };
    Ok(AllowedHost { http, https, host: Host::parse(host)?, port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_allow_what_they_say_and_nothing_else() {
        // Pattern, request, allowed.
        let table = [
            ("https://example.com", (true, "example.com", 443), true),
            ("https://example.com", (false, "example.com", 80), false),
            ("https://example.com", (true, "example.com", 8443), false),
            ("https://EXAMPLE.com.", (true, "example.com", 443), true),
            ("https://example.com/", (true, "sub.example.com", 443), false),
            ("http://*.example.com", (false, "a.b.example.com", 80), true),
            ("http://*.example.com", (false, "example.com", 80), false),
            ("http://*.example.com", (false, "evilexample.com", 80), false),
            ("http://*.example.com", (false, ".example.com", 80), false),
            ("*://example.com:*", (true, "example.com", 1), true),
            ("*://*:*", (false, "anything", 65535), true),
            ("*://*", (false, "anything", 8080), false),
            ("http://h:1..100", (false, "h", 99), true),
            ("http://h:1..100", (false, "h", 100), false),
            ("http://h:65535..65536", (false, "h", 65535), true),
            ("http://10.0.0.0/8:80", (false, "10.9.8.7", 80), true),
            ("http://10.0.0.0/8:80", (false, "11.0.0.1", 80), false),
            ("http://127.0.0.1:80", (false, "127.0.0.1", 80), true),
            ("http://[::1]:80", (false, "::1", 80), true),
            ("http://[::1]", (false, "::1", 80), true),
        ];
        for (pattern, (https, host, port), allowed) in table {
            let hosts = AllowedHosts::parse([pattern]).unwrap();
            assert_eq!(hosts.allows(https, host, port), allowed, "{pattern} {host}:{port}");
        }
        assert!(!AllowedHosts::default().allows(true, "example.com", 443));
    }

    #[test]
    fn a_pattern_reaches_further_unless_another_reaches_as_far() {
        // There already, new, whether the new one reaches further.
        let table = [
            ("", "https://a.example", true),
            ("https://a.example", "https://A.example.", false),
            ("https://a.example", "http://a.example", true),
            ("*://a.example", "http://a.example", false),
            ("http://a.example", "*://a.example", true),
            ("https://*.example", "https://a.example", false),
            ("https://*.example", "https://*.b.example", false),
            ("https://*.b.example", "https://*.example", true),
            ("https://*.example", "https://*.badexample", true),
            ("https://a.example", "https://*.a.example", true),
            ("https://*", "https://a.example", false),
            ("https://a.example", "https://*", true),
            ("https://a.example", "https://a.example:443", false),
            ("https://a.example:443", "https://a.example", false),
            ("*://a.example:443", "*://a.example", true),
            ("https://a.example", "https://a.example:8443", true),
            ("https://a.example:*", "https://a.example:8443", false),
            ("https://a.example:8443", "https://a.example:*", true),
            ("https://a.example:8000..9000", "https://a.example:8443..8500", false),
            ("https://a.example:8000..9000", "https://a.example:8443..9500", true),
            ("http://10.0.0.0/8", "http://10.1.0.0/16", false),
            ("http://10.1.0.0/16", "http://10.0.0.0/8", true),
            ("http://10.0.0.0/8", "http://10.1.2.3", false),
            ("http://10.0.0.0/8", "http://a.example", true),
            ("http://*", "http://10.0.0.0/8", false),
            ("*://*:*", "https://a.example:1", false),
        ];
        for (old, new, further) in table {
            let old_hosts = AllowedHosts::parse(old.split_whitespace()).unwrap();
            let lacking = old_hosts.lacks(&[new.to_owned(), new.to_owned()]).unwrap();
            assert_eq!(lacking, if further { vec![new.to_owned()] } else { vec![] }, "{old} {new}");
        }
        assert!(AllowedHosts::default().lacks(&["x".to_owned()]).is_err());
    }

    #[test]
    fn malformed_patterns_are_refused_with_a_reason() {
        let wrong = [
            "",
            "*",
            "example.com",
            "ftp://example.com",
            "redis://h",
            "https://",
            "https://*foo.com",
            "https://a.*.com",
            "https://h/path",
            "https://h:",
            "https://h:x",
            "https://h:70000",
            "https://h:9..1",
            "https://h:1..65537",
            "https://self",
            "https://u@h",
            "https://{a,b}",
            "https://a b",
            "https://h:0",
            "https://h?x",
            "http://10.0.0.0/33",
            "http://[::1",
            "http://[x]",
            "http://[::1]8080",
            "http://*.1",
            "http://0x7f.1",
            "http://127.1",
            "http://2130706433",
            "https://ex\u{e4}mple.com",
            "https://-a.com",
            "https://a..com",
        ];
        for pattern in wrong {
            assert!(AllowedHosts::parse([pattern]).is_err(), "{pattern:?}");
        }
    }
}
