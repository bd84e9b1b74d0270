//! Checks the syntax of `allowed_outbound_hosts` (Spin's) when a version is made, so that a mistake is an error of the
//! deploy and not of a call. What a rule then allows is decided by the worker.

use std::net::{Ipv4Addr, Ipv6Addr};

use dunlin_proto::ApiError;

const FIELD: &str = "spec.allowed_outbound_hosts";
const HINT: &str =
    "write scheme://host:port, such as https://api.example.com, https://*.example.com or http://10.0.0.7:8080";

/// Checks each entry: `scheme://host[:port]`, with `*` for any scheme, host or port, `*.` before a domain, IPv4 networks, and a
/// range of ports without its end as `low..high`. The worker's `sandbox::egress::allow` reads the same.
///
/// # Errors
/// The first entry that is not one, with what is wrong with it.
pub(crate) fn check(hosts: &[String]) -> Result<(), ApiError> {
    for entry in hosts {
        check_entry(entry).map_err(|wrong| {
            let shown: String = entry.chars().take(120).collect();
            ApiError::invalid(FIELD, format!("allowed_outbound_hosts has {shown:?}: {wrong}")).hint(HINT)
        })?;
    }
    Ok(())
}

fn check_entry(entry: &str) -> Result<(), &'static str> {
    if entry.len() > 300 {
        return Err("it is longer than 300 bytes");
    }
    let (scheme, rest) = entry.split_once("://").ok_or("it has no scheme")?;
    if !matches!(scheme, "http" | "https" | "*") {
        return Err("its scheme must be http, https or *");
    }
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.contains('@') {
        return Err("it must not have a user or password");
    }
    let (host, port) = split_port(authority)?;
    check_host(host)?;
    port.map_or(Ok(()), check_port)
}

/// Splits host and port; an IPv6 address stands in brackets (RFC 3986 3.2.2).
fn split_port(authority: &str) -> Result<(&str, Option<&str>), &'static str> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (address, after) = rest.split_once(']').ok_or("its address has no closing bracket")?;
        address.parse::<Ipv6Addr>().map_err(|_| "its address in brackets is no IPv6 address")?;
        let port = if after.is_empty() { None } else { Some(after.strip_prefix(':').ok_or("its port needs a colon")?) };
        return Ok(("*", port));
    }
    Ok(authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))))
}

fn check_host(host: &str) -> Result<(), &'static str> {
    if host == "self" {
        return Err("self is not offered; write the function's public address");
    }
    if let Some((network, bits)) = host.split_once('/') {
        let network = network.parse::<Ipv4Addr>().is_ok() && bits.parse::<u8>().is_ok_and(|bits| bits <= 32);
        return if network { Ok(()) } else { Err("it must not have a path") };
    }
    if host == "*" || host.parse::<Ipv4Addr>().is_ok() {
        return Ok(());
    }
    let name = host.strip_prefix("*.").unwrap_or(host);
    let name = name.strip_suffix('.').unwrap_or(name);
    // A name that ends in a number is another spelling of an address (WHATWG URL 3.6): refused, not guessed.
    let last = name.rsplit('.').next().unwrap_or_default();
    if last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x") || last.starts_with("0X") {
        return Err("its host is neither a name nor an address");
    }
    let label = |label: &str| {
        let inner = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        inner && (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-')
    };
    if name.len() <= 253 && name.split('.').all(label) {
        return Ok(());
    }
    Err("its host is not a name; * stands alone or before the first dot")
}

/// A port, `*`, or a range without its end.
fn check_port(port: &str) -> Result<(), &'static str> {
    if port == "*" {
        return Ok(());
    }
    let number = |text: &str| text.parse::<u32>().ok().filter(|port| (1..=65_536).contains(port));
    match port.split_once("..").map(|(low, high)| (number(low), number(high))) {
        Some((Some(low), Some(high))) if low < high => Ok(()),
        Some(_) => Err("its range of ports is empty or not within 1..65536"),
        None if number(port).is_some_and(|port| port <= 65_535) => Ok(()),
        None => Err("its port is not a number from 1 to 65535"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spins_syntax_is_read() {
        for good in [
            "https://api.example.com",
            "https://api.example.com/",
            "https://api.example.com:443",
            "http://10.0.0.7:8080",
            "http://localhost:3000",
            "https://*.example.com",
            "*://*:*",
            "*://api.example.com",
            "http://10.0.0.0/8",
            "http://10.0.0.0/8:80",
            "https://example.com.",
            "https://example.com:1..65536",
            "https://example.com:8000..9000",
            "http://[::1]:8080",
            "http://[2001:db8::1]",
        ] {
            assert_eq!(check(&[good.to_owned()]), Ok(()), "{good}");
        }
    }

    #[test]
    fn anything_else_is_refused_and_named() {
        for bad in [
            "",
            "*",
            "example.com",
            "ftp://example.com",
            "redis://db",
            "https://",
            "https://a b",
            "https://a.*.com",
            "https://a*.com",
            "http://self",
            "http://10.0.0.0/33",
            "https://example.com:1..65537",
            "https://example.com/path",
            "https://example.com?x",
            "https://u:p@example.com",
            "https://example.com:0",
            "https://example.com:70000",
            "https://example.com:x",
            "https://example.com:9..8",
            "http://[::1",
            "http://[x]",
            "http://[::1]8080",
            "http://0x7f.1.",
            "http://127.1",
            "http://2130706433",
            "https://ex\u{e4}mple.com",
            "https://-a.com",
            "https://a..com",
        ] {
            let error = check(&[bad.to_owned()]).expect_err(bad);
            assert_eq!(error.field.as_deref(), Some(FIELD));
            assert!(error.hint.is_some());
        }
    }
}
