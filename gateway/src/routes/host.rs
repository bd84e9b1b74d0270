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
    let parsed: http::uri::Authority = authority.parse().ok()?;
    let has_port = parsed.host().len() < authority.len();
    if authority.contains('@') || (has_port && parsed.port_u16().is_none()) {
        return None;
    }
    let host = parsed.host().strip_suffix('.').unwrap_or(parsed.host());
    (!host.is_empty() && !host.ends_with('.')).then(|| host.to_ascii_lowercase())
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
