//! What the head of a request may be (RFC 9110, RFC 9112, RFC 9113): framed in one way, not too large, for one host.

use dunlin_proto::{ApiError, ErrorCode};
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version, header, request::Parts, uri::Authority};

use super::bad_request;
use crate::{
    config::LimitsConfig,
    edge::{Peer, Verdict},
    routes::{host, path},
};

/// The authority of a request of HTTP/1.0 that names none.
const NO_HOST: &str = "localhost";

/// Whom a caller named.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Named {
    /// As it is written.
    pub(super) authority: String,
    /// Its host in canonical form.
    pub(super) host: String,
}

/// Checks a head; gives whom the caller named.
pub(super) fn check(parts: &Parts, peer: &Peer, limits: &LimitsConfig) -> Result<Named, ApiError> {
    framing(&peer.verdict)?;
    values(&parts.headers)?;
    sizes(&parts.headers, parts.uri.path_and_query().map_or(0, |target| target.as_str().len()), limits)?;
    if matches!(parts.method, Method::TRACE | Method::CONNECT) {
        let message = format!("the method {} is not served", parts.method);
        return Err(ApiError::new(ErrorCode::MethodNotAllowed, message));
    }
    protocol(&parts.headers)?;
    path::check(parts.uri.path()).map_err(bad_request)?;
    let named = authority(&parts.uri, &parts.headers, parts.version)?;
    is_for(peer, &named.host)?;
    Ok(named)
}

/// The host that a caller may have meant with a head that is refused, for whom it is noted and for nothing else.
pub(super) fn named(parts: &Parts) -> &str {
    let host = || parts.headers.get(header::HOST).and_then(|host| host.to_str().ok());
    parts.uri.authority().map(Authority::as_str).or_else(host).unwrap_or_default()
}

/// Checks a head of administration, which is independent of functions. One of HTTP/2 gets the `Host` that pages are told
/// from each other by.
pub(super) fn check_administration<B>(
    request: &mut Request<B>,
    peer: &Peer,
    limits: &LimitsConfig,
) -> Result<(), ApiError> {
    framing(&peer.verdict)?;
    values(request.headers())?;
    sizes(request.headers(), request.uri().path_and_query().map_or(0, |target| target.as_str().len()), limits)?;
    protocol(request.headers())?;
    let Named { authority, host } = authority(request.uri(), request.headers(), request.version())?;
    if peer.session.is_none() {
        return Ok(());
    }
    is_for(peer, &host)?;
    let host = HeaderValue::from_str(&authority).map_err(|_| bad_request("the request's host is not valid"))?;
    request.headers_mut().entry(header::HOST).or_insert(host);
    Ok(())
}

/// Checks that a request is for a host that its connection was opened for (RFC 9110 15.5.20).
fn is_for(peer: &Peer, host: &str) -> Result<(), ApiError> {
    let Some(session) = &peer.session else { return Ok(()) };
    if session.is_for(host) {
        return Ok(());
    }
    let message = format!("this connection was opened for another host than {host:?}");
    Err(ApiError::new(ErrorCode::Misdirected, message).hint("send the request on a connection of its own"))
}

fn framing(verdict: &Verdict) -> Result<(), ApiError> {
    let fault = verdict.fault().map(|fault| bad_request(fault).hint("the connection is closed"));
    fault.map_or(Ok(()), Err)
}

/// No value begins or ends with a blank (RFC 9113 8.2.1); those around one of HTTP/1 are not part of it (RFC 9110 5.5).
fn values(headers: &HeaderMap) -> Result<(), ApiError> {
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let is_wrong = |value: &HeaderValue| blank(value.as_bytes().first()) || blank(value.as_bytes().last());
    match headers.iter().find(|(_, value)| is_wrong(value)) {
        Some((name, _)) => Err(bad_request(format!("the value of the header {name} begins or ends with a blank"))),
        None => Ok(()),
    }
}

fn sizes(headers: &HeaderMap, target: usize, limits: &LimitsConfig) -> Result<(), ApiError> {
    let over = |code, what: &str, limit: usize| {
        ApiError::new(code, format!("the request's {what} is over the limit of {limit}"))
    };
    let too_large = |what, limit| over(ErrorCode::HeadersTooLarge, what, limit);
    if target > limits.uri_bytes {
        return Err(over(ErrorCode::UriTooLong, "target in bytes", limits.uri_bytes));
    }
    if headers.len() > limits.header_count {
        return Err(too_large("number of headers", limits.header_count));
    }
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if bytes > limits.header_bytes {
        return Err(too_large("size of all headers in bytes", limits.header_bytes));
    }
    Ok(())
}

/// Checks that nobody waits for a WebSocket (RFC 6455 4.1). Other protocols in `Upgrade` are only offered, and can be ignored.
fn protocol(headers: &HeaderMap) -> Result<(), ApiError> {
    let offered = headers.get_all(header::UPGRADE).iter().filter_map(|value| value.to_str().ok());
    if offered.flat_map(|value| value.split(',')).any(|name| name.trim().eq_ignore_ascii_case("websocket")) {
        return Err(ApiError::new(ErrorCode::NotImplemented, "WebSockets are not offered").hint(
            "stream the answer, as server-sent events (text/event-stream) do, and send with requests of their own",
        ));
    }
    Ok(())
}

/// The one authority of a request: of its target, of `Host`, or of both where they agree.
fn authority(uri: &Uri, headers: &HeaderMap, version: Version) -> Result<Named, ApiError> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (host, second) = (hosts.next(), hosts.next());
    if second.is_some() {
        return Err(bad_request("the request has more than one Host"));
    }
    let host = host.map(|host| host.to_str()).transpose().map_err(|_| bad_request("the Host is not ASCII text"))?;
    let target = uri.authority().map(Authority::as_str);
    let port = match uri.scheme_str() {
        None | Some("http") => 80,
        Some("https") => 443,
        Some(other) => return Err(bad_request(format!("the request's scheme is {other:?}, not http or https"))),
    };
    let named = match (target, host) {
        (Some(target), Some(host)) if !same(target, host, port) => {
            return Err(bad_request("the request's target and its Host name different hosts"));
        }
        (Some(named), _) | (None, Some(named)) => named,
        (None, None) if version < Version::HTTP_11 => NO_HOST,
        (None, None) => return Err(bad_request("the request has no Host")),
    };
    let host = host::canonical(named).ok_or_else(|| bad_request("the request's host is not valid"))?;
    Ok(Named { authority: named.to_owned(), host })
}

/// Whether two authorities are the same place; `port` is that of one which names none.
fn same(one: &str, other: &str, port: u16) -> bool {
    let port = |authority: &str| {
        let named = authority.parse::<Authority>().ok().and_then(|authority| authority.port_u16());
        named.unwrap_or(port)
    };
    let host = host::canonical(one);
    host.is_some() && host == host::canonical(other) && port(one) == port(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(target: &str, version: Version, hosts: &[&str]) -> Parts {
        let mut request = Request::builder().uri(target).version(version);
        for host in hosts {
            request = request.header(header::HOST, *host);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn checked(parts: &Parts) -> Result<String, ErrorCode> {
        let peer = Peer { remote: ([127, 0, 0, 1], 1).into(), verdict: Verdict::default(), session: None };
        check(parts, &peer, &LimitsConfig::default()).map(|named| named.authority).map_err(|error| error.code)
    }

    #[test]
    fn t35_a_request_is_for_one_host() {
        let bad = Err(ErrorCode::InvalidArgument);
        for (target, version, hosts, expected) in [
            ("/", Version::HTTP_11, &["a.example"][..], Ok("a.example".to_owned())),
            ("/", Version::HTTP_11, &["A.example:8080"], Ok("A.example:8080".to_owned())),
            ("/", Version::HTTP_11, &[], bad.clone()),
            ("/", Version::HTTP_10, &[], Ok("localhost".to_owned())),
            ("/", Version::HTTP_11, &["a", "b"], bad.clone()),
            ("/", Version::HTTP_11, &["a", "a"], bad.clone()),
            ("/", Version::HTTP_11, &[""], bad.clone()),
            ("/", Version::HTTP_11, &["a b"], bad.clone()),
            ("/", Version::HTTP_11, &["a@b"], bad.clone()),
            ("http://a.example/", Version::HTTP_11, &["a.example"], Ok("a.example".to_owned())),
            ("http://a.example/", Version::HTTP_11, &["A.EXAMPLE."], Ok("a.example".to_owned())),
            ("http://a.example/", Version::HTTP_11, &["b.example"], bad.clone()),
            ("http://a.example/", Version::HTTP_11, &["a.example:81"], bad.clone()),
            ("http://a.example/", Version::HTTP_11, &["a.example:80"], Ok("a.example".to_owned())),
            ("https://a.example:443/", Version::HTTP_2, &["a.example"], Ok("a.example:443".to_owned())),
            ("https://a.example:80/", Version::HTTP_2, &["a.example"], bad.clone()),
            ("ftp://a.example/", Version::HTTP_2, &[], bad.clone()),
            ("http://a.example/", Version::HTTP_2, &[], Ok("a.example".to_owned())),
            ("http://a.example/", Version::HTTP_2, &["b.example"], bad),
        ] {
            assert_eq!(checked(&parts(target, version, hosts)), expected, "{target} {hosts:?}");
        }
    }

    #[test]
    fn t32_no_value_has_blanks_around_it() {
        for (value, fine) in [("a b", true), ("", true), (" a", false), ("a\t", false), (" ", false)] {
            let mut parts = parts("/", Version::HTTP_2, &["h"]);
            parts.headers.insert("x-a", value.parse().unwrap());
            assert_eq!(checked(&parts).is_ok(), fine, "{value:?}");
        }
    }

    #[test]
    fn t31_heads_have_sizes() {
        let with = |name: usize, value: usize, count: usize, target: usize| {
            let mut parts = parts(&format!("/{}", "a".repeat(target - 1)), Version::HTTP_11, &["h"]);
            for index in 1..count {
                let field = format!("{index:0>name$}").parse::<http::HeaderName>().unwrap();
                parts.headers.insert(field, "v".repeat(value).parse().unwrap());
            }
            checked(&parts).err()
        };
        let large = Some(ErrorCode::HeadersTooLarge);
        assert_eq!(with(3, 1, 100, 1), None);
        assert_eq!(with(3, 1, 101, 1), large);
        assert_eq!(with(3, 32 * 1024 - 8, 2, 1), None);
        assert_eq!(with(3, 32 * 1024 - 7, 2, 1), large);
        assert_eq!(with(3, 1, 1, 16 * 1024), None);
        assert_eq!(with(3, 1, 1, 16 * 1024 + 1), Some(ErrorCode::UriTooLong));
    }

    #[test]
    fn a_websocket_is_refused_and_other_offers_are_ignored() {
        for (upgrade, refused) in
            [("websocket", true), ("WebSocket", true), ("h2c, websocket", true), ("h2c", false), ("websockets", false)]
        {
            let mut parts = parts("/", Version::HTTP_11, &["h"]);
            parts.headers.insert(header::UPGRADE, upgrade.parse().unwrap());
            assert_eq!(checked(&parts).err(), refused.then_some(ErrorCode::NotImplemented), "{upgrade}");
        }
    }

    #[test]
    fn methods_that_are_about_proxies_are_not_served() {
        for (method, expected) in [("TRACE", false), ("CONNECT", false), ("OPTIONS", true), ("PROPFIND", true)] {
            let mut parts = parts("/", Version::HTTP_11, &["h"]);
            parts.method = method.parse().unwrap();
            assert_eq!(checked(&parts).is_ok(), expected, "{method}");
        }
    }
}
