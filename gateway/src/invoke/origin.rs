//! Where a request comes from: the other side of its connection, or, where that is a proxy that is trusted, whom the proxy
//! names. Each hop has written down the one before it, so the list is read from its end, and only as far as whoever wrote
//! the next entry is trusted: what stands before came from the caller.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, header};

use crate::{
    config::{ForwardedHeader, ProxiesConfig},
    edge::Peer,
};

/// Who asked, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) address: IpAddr,
    pub(super) scheme: &'static str,
}

/// What a hop says of the one before it.
#[derive(Debug, Default)]
struct Hop<'a> {
    address: Option<&'a str>,
    scheme: Option<&'a str>,
}

impl Origin {
    /// That of a request with these headers.
    pub(super) fn of(headers: &HeaderMap, peer: &Peer, proxies: &ProxiesConfig) -> Self {
        let direct = Self { address: peer.remote.ip().to_canonical(), scheme: peer.scheme() };
        if !proxies.trust(direct.address) {
            return direct;
        }
        match proxies.header {
            ForwardedHeader::None => direct,
            ForwardedHeader::XForwardedFor => {
                let hops = list(headers, "x-forwarded-for").map(|address| Hop { address: Some(address), scheme: None });
                let said = list(headers, "x-forwarded-proto").last().and_then(scheme);
                Self { scheme: said.unwrap_or(direct.scheme), ..direct.before(hops.collect(), proxies) }
            }
            ForwardedHeader::Forwarded => direct.before(forwarded(headers).collect(), proxies),
        }
    }

    /// Goes back over the hops for as long as they are trusted.
    fn before(mut self, hops: Vec<Hop<'_>>, proxies: &ProxiesConfig) -> Self {
        for hop in hops.into_iter().rev() {
            let Some(address) = hop.address.and_then(address).filter(|_| proxies.trust(self.address)) else { break };
            self = Self { address, scheme: hop.scheme.and_then(scheme).unwrap_or(self.scheme) };
        }
        self
    }
}

/// Stands for what can't be read, so that nobody looks past it.
const UNREADABLE: &str = "?";

fn lines<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a str> {
    headers.get_all(name).iter().map(|line| line.to_str().unwrap_or(UNREADABLE))
}

/// The elements of a header that may come several times.
fn list<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a str> {
    lines(headers, name).flat_map(|line| line.split(',')).map(str::trim).filter(|element| !element.is_empty())
}

/// The elements of `Forwarded`. A caller who leaves a quote open would take what the proxy appends into its own element.
fn forwarded(headers: &HeaderMap) -> impl Iterator<Item = Hop<'_>> {
    let whole = |line: &&str| line.matches('"').count().is_multiple_of(2);
    let lines = lines(headers, header::FORWARDED.as_str());
    lines.map(move |line| Some(line).filter(whole).unwrap_or(UNREADABLE)).flat_map(|line| split(line, ',')).map(hop)
}

/// Splits outside of quotes.
fn split(text: &str, at: char) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.split(move |character| {
        quoted ^= character == '"';
        character == at && !quoted
    })
}

/// An element of `Forwarded`. Nothing that an address may have is escaped within quotes.
fn hop(element: &str) -> Hop<'_> {
    let mut hop = Hop::default();
    for (name, value) in split(element, ';').filter_map(|pair| pair.split_once('=')) {
        let value = value.trim().trim_matches('"');
        match name.trim() {
            name if name.eq_ignore_ascii_case("for") => hop.address = Some(value),
            name if name.eq_ignore_ascii_case("proto") => hop.scheme = Some(value),
            _ => {}
        }
    }
    hop
}

/// An address, perhaps with a port; names and pseudonyms are none.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let alone = bare.parse::<IpAddr>();
    alone.or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip())).ok().map(|address| address.to_canonical())
}

fn scheme(text: &str) -> Option<&'static str> {
    ["http", "https"].into_iter().find(|scheme| text.eq_ignore_ascii_case(scheme))
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;
    use crate::edge::Verdict;

    fn origin(peer: &str, header: ForwardedHeader, fields: &[(&str, &str)]) -> (String, &'static str) {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let peer = Peer { remote: peer.parse().unwrap(), verdict: Verdict::default(), session: None };
        let trusted = ["10.0.0.0/8", "2001:db8::/32"].map(|network| network.parse().unwrap()).into();
        let found = Origin::of(&headers, &peer, &ProxiesConfig { trusted, header, protocol: false });
        (found.address.to_string(), found.scheme)
    }

    #[test]
    fn t35_only_trusted_proxies_are_believed() {
        let of = |peer, fields: &[_]| origin(peer, ForwardedHeader::XForwardedFor, fields);
        let (near, far) = ("10.0.0.1:1", "192.0.2.9:1");
        let on = |address: &str, scheme| (address.to_owned(), scheme);
        for (peer, fields, expected) in [
            (far, &[("x-forwarded-for", "1.2.3.4"), ("x-forwarded-proto", "https")][..], on("192.0.2.9", "http")),
            (near, &[], on("10.0.0.1", "http")),
            (near, &[("x-forwarded-for", "1.2.3.4"), ("x-forwarded-proto", "https")], on("1.2.3.4", "https")),
            ("[::ffff:10.0.0.1]:1", &[("x-forwarded-for", "1.2.3.4")], on("1.2.3.4", "http")),
            // What the caller wrote stands before what the proxy wrote.
            (near, &[("x-forwarded-for", "6.6.6.6, 1.2.3.4")], on("1.2.3.4", "http")),
            (near, &[("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "1.2.3.4")], on("1.2.3.4", "http")),
            (near, &[("x-forwarded-for", "6.6.6.6, 1.2.3.4, 10.0.0.2")], on("1.2.3.4", "http")),
            (near, &[("x-forwarded-for", "10.0.0.3,10.0.0.2")], on("10.0.0.3", "http")),
            (near, &[("x-forwarded-for", "1.2.3.4:80")], on("1.2.3.4", "http")),
            (near, &[("x-forwarded-for", "[2001:db9::1]:80")], on("2001:db9::1", "http")),
            (near, &[("x-forwarded-for", "2001:db9::1")], on("2001:db9::1", "http")),
            (near, &[("x-forwarded-for", "6.6.6.6, unknown")], on("10.0.0.1", "http")),
            (near, &[("x-forwarded-for", "")], on("10.0.0.1", "http")),
            (near, &[("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "\u{ff}, 1.2.3.4")], on("10.0.0.1", "http")),
            (near, &[("x-forwarded-proto", "ftp")], on("10.0.0.1", "http")),
            (near, &[("forwarded", "for=6.6.6.6;proto=https")], on("10.0.0.1", "http")),
        ] {
            assert_eq!(of(peer, fields), expected, "{peer} {fields:?}");
        }
    }

    #[test]
    fn t35_forwarded_is_believed_where_it_is_configured() {
        let of = |header, value| origin("10.0.0.1:1", header, &[("forwarded", value), ("x-forwarded-for", "6.6.6.6")]);
        let on = |address: &str, scheme| (address.to_owned(), scheme);
        for (value, expected) in [
            ("for=192.0.2.43", on("192.0.2.43", "http")),
            ("For=\"[2001:db9::1]:4711\";Proto=https;by=10.0.0.1", on("2001:db9::1", "https")),
            ("for=6.6.6.6, for=192.0.2.43; proto=HTTPS", on("192.0.2.43", "https")),
            ("for=192.0.2.43;proto=https, for=10.0.0.2;proto=http", on("192.0.2.43", "https")),
            ("for=\"6.6.6.6, for=192.0.2.44\"", on("10.0.0.1", "http")),
            ("for=192.0.2.1, for=_hidden", on("10.0.0.1", "http")),
            ("for=192.0.2.1, for=unknown", on("10.0.0.1", "http")),
            ("proto=https", on("10.0.0.1", "http")),
            ("for=6.6.6.6;x=\", for=192.0.2.43", on("10.0.0.1", "http")),
            ("for=6.6.6.6;x=\", for=\"[2001:db9::1]\"", on("10.0.0.1", "http")),
            ("for=6.6.6.6;x=\"\\\", for=192.0.2.43", on("192.0.2.43", "http")),
            ("nonsense", on("10.0.0.1", "http")),
        ] {
            assert_eq!(of(ForwardedHeader::Forwarded, value), expected, "{value}");
        }
        assert_eq!(of(ForwardedHeader::None, "for=192.0.2.43"), on("10.0.0.1", "http"));
    }
}
