//! Hosts, read once and in one way (RFC 9110 7.2, RFC 3986 3.2): whose function a host names, where a domain is configured.

use dunlin_proto::ids::VersionNumber;

/// What a host names.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum HostTarget<'a> {
    /// A function, or one of its versions.
    Function {
        /// The tenant.
        namespace: &'a str,
        /// The function's name.
        function: &'a str,
        /// One version, traffic or not.
        version: Option<VersionNumber>,
    },
    /// Nobody's.
    Other,
}

/// The host of an authority in canonical form: lower case, without port and trailing dot; nothing where it is malformed.
pub(crate) fn canonical(authority: &str) -> Option<String> {
    if let Some(host) = plain(authority) {
        return in_lower_case(host);
    }
    let parsed: http::uri::Authority = authority.parse().ok()?;
    let port = authority.strip_prefix(parsed.host())?;
    let fits = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
    fits.then(|| in_lower_case(parsed.host()))?
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

fn in_lower_case(host: &str) -> Option<String> {
    let host = host.strip_suffix('.').unwrap_or(host);
    (!host.is_empty() && !host.ends_with('.')).then(|| host.to_ascii_lowercase())
}

/// The host of an authority that is written as nearly all are, which every request pays for: a name or an IPv4 address, and
/// perhaps a port.
fn plain(authority: &str) -> Option<&str> {
    let (host, port) = authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port)));
    let is_host = host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'));
    (is_host && port.is_none_or(is_port)).then_some(host)
}

/// What a canonical host names under a domain.
pub(crate) fn target<'a>(host: &'a str, domain: &str) -> HostTarget<'a> {
    let label = host.strip_suffix(domain).and_then(|rest| rest.strip_suffix('.')).filter(|label| !label.contains('.'));
    label.and_then(function_label).unwrap_or(HostTarget::Other)
}

/// Reads `{function}--{namespace}` or `v7--{function}--{namespace}`. Names never hold two hyphens in a row.
fn function_label(label: &str) -> Option<HostTarget<'_>> {
    let parts: Vec<_> = label.split("--").collect();
    let (version, function, namespace) = match *parts.as_slice() {
        [function, namespace] => (None, function, namespace),
        [version, function, namespace] => {
            (Some(version.strip_prefix('v')?.parse::<VersionNumber>().ok()?), function, namespace)
        }
        _ => return None,
    };
    Some(HostTarget::Function { namespace, function, version })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t35_a_host_has_one_form() {
        for (authority, host) in [
            ("Example.COM", Some("example.com")),
            ("example.com:8080", Some("example.com")),
            ("example.com.", Some("example.com")),
            ("EXAMPLE.com.:443", Some("example.com")),
            ("a_b.example.com:80", Some("a_b.example.com")),
            ("example.com:+80", None),
            ("example.com:65536", None),
            ("[::1]:8080", Some("[::1]")),
            ("127.0.0.1", Some("127.0.0.1")),
            ("", None),
            (":80", None),
            (".", None),
            ("a..", None),
            ("user@example.com", None),
            ("example.com:", None),
            ("example.com:x", None),
            ("a b", None),
            ("a/b", None),
            ("[::1", None),
        ] {
            assert_eq!(canonical(authority).as_deref(), host, "{authority:?}");
        }
    }

    #[test]
    fn t35_a_host_names_a_function_or_nobody() {
        let function = |namespace, function, version: Option<u32>| HostTarget::Function {
            namespace,
            function,
            version: version.map(|n| n.try_into().unwrap()),
        };
        for (host, expected) in [
            ("checkout--shop.fn.example.com", function("shop", "checkout", None)),
            ("v7--check-out--shop.fn.example.com", function("shop", "check-out", Some(7))),
            ("fn.example.com", HostTarget::Other),
            ("checkout--shop.example.com", HostTarget::Other),
            ("x.checkout--shop.fn.example.com", HostTarget::Other),
            ("checkout--shopfn.example.com", HostTarget::Other),
            ("checkout.fn.example.com", HostTarget::Other),
            ("v0--a--b.fn.example.com", HostTarget::Other),
            ("7--a--b.fn.example.com", HostTarget::Other),
            ("v1--v2--a--b.fn.example.com", HostTarget::Other),
            ("127.0.0.1", HostTarget::Other),
        ] {
            assert_eq!(target(host, "fn.example.com"), expected, "{host}");
        }
    }
}
