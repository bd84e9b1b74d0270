//! Which addresses are nobody's business: a pure classifier. An address that carries another one inside (mapped, translated or
//! tunnelled) is refused as a whole, because what the network makes of it is not ours to know.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Whether guests must not reach an address: everything that is not global unicast (RFC 6890 and the IANA registries of
/// special-purpose addresses), and the clouds' own service addresses outside of them.
pub fn is_forbidden(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => is_forbidden_v4(v4),
        IpAddr::V6(v6) => is_forbidden_v6(v6),
    }
}

/// Whether a guest may connect to an address, given the networks that the operator opened.
pub(super) fn is_reachable(address: IpAddr, allow_private: &[IpNet]) -> bool {
    let address = address.to_canonical();
    !is_forbidden(address) || allow_private.iter().any(|network| network.contains(&address))
}

fn is_forbidden_v4(address: Ipv4Addr) -> bool {
    match address.octets() {
        [0 | 10 | 127, ..] => true,
        // Carrier-grade NAT, which clouds use for their metadata too.
        [100, second, ..] => second & 0xc0 == 64,
        [169, 254, ..] => true,
        // Azure's host service has a public address.
        [168, 63, 129, 16] => true,
        [172, second, ..] => second & 0xf0 == 16,
        // Protocol assignments, documentation, 6to4 relays.
        [192, 0, 0 | 2, _] | [192, 88, 99, _] | [192, 168, ..] => true,
        // Benchmarks, documentation.
        [198, 18 | 19, ..] | [198, 51, 100, _] | [203, 0, 113, _] => true,
        // Multicast, reserved, broadcast.
        [first, ..] => first >= 224,
    }
}

fn is_forbidden_v6(address: Ipv6Addr) -> bool {
    match address.segments() {
        // Teredo and the other protocol assignments of 2001::/23.
        [0x2001, second, ..] if second < 0x0200 => true,
        [0x2001, 0x0db8, ..] => true,
        // 6to4.
        [0x2002, ..] => true,
        // The former 6bone, and documentation.
        [0x3ffe, ..] => true,
        [0x3fff, second, ..] if second < 0x1000 => true,
        // Everything else that is global unicast is in 2000::/3; loopback, mapped, NAT64, local and multicast are not.
        [first, ..] => first & 0xe000 != 0x2000,
    }
}

/// A host that is meant as an IPv4 address but is not written as one: `127.1`, `0x7f.0.0.1`, `2130706433`. Resolvers disagree
/// about them, so they are refused. A name whose last label is a number can be no other name (WHATWG URL, "ends in a number").
pub(super) fn is_disguised_v4(host: &str) -> bool {
    if host.parse::<IpAddr>().is_ok() {
        return false;
    }
    let last = host.strip_suffix('.').unwrap_or(host).rsplit('.').next().unwrap_or_default();
    let decimal = !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit());
    let hex = last.strip_prefix("0x").is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    decimal || hex
}

#[cfg(test)]
mod tests;
