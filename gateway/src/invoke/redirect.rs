//! The listener in the clear beside one that speaks TLS: it sends everybody there but authorities of
//! certificates, and serves nothing else itself.

use bytes::Bytes;
use dunlin_proto::{ApiError, ids::InvocationId};
use http::{HeaderValue, Request, Response, StatusCode, header, request::Parts};
use http_body_util::Full;

use super::{bad_request, challenge, head};
use crate::{
    config::Config,
    edge::{Lingering, Peer},
    error,
    tls::Issued,
};

/// The port of `https://`, which an address need not name.
const HTTPS: u16 = 443;

/// Answers a request with the same address at another port, by TLS. Method and body are to stay (RFC 9110 15.4.9).
pub(crate) fn redirect(
    request: Request<Lingering>,
    peer: &Peer,
    config: &Config,
    issued: &Issued,
) -> Response<Full<Bytes>> {
    let (parts, _) = request.into_parts();
    let answered = head::check(&parts, peer, &config.limits).and_then(|named| {
        let own = challenge::answer(&parts, &named.authority, issued);
        own.map_or_else(|| location(&parts, &named.host, config.public_port()).map(moved), Ok)
    });
    answered.unwrap_or_else(|failure| refuse(&failure, peer)).map(Full::new)
}

fn moved(location: HeaderValue) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    response.headers_mut().insert(header::LOCATION, location);
    // Browsers would keep it for ever; what they are to remember is said by HSTS.
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn refuse(failure: &ApiError, peer: &Peer) -> Response<Bytes> {
    let mut response = error::response(failure, &InvocationId::new().to_string());
    if peer.verdict.fault().is_some() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

fn location(parts: &Parts, host: &str, port: u16) -> Result<HeaderValue, ApiError> {
    let port = if port == HTTPS { String::new() } else { format!(":{port}") };
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    let location = HeaderValue::from_str(&format!("https://{host}{port}{target}"));
    location.map_err(|_| bad_request("the request's target is not ASCII text"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::LimitsConfig, edge::Verdict};

    fn to(host: &str, target: &str, port: u16) -> Option<String> {
        let parts = Request::builder().uri(target).header(header::HOST, host).body(()).unwrap().into_parts().0;
        let peer = Peer { remote: ([127, 0, 0, 1], 1).into(), verdict: Verdict::default(), session: None };
        let named = head::check(&parts, &peer, &LimitsConfig::default()).ok()?;
        let location = location(&parts, &named.host, port).ok()?;
        Some(location.to_str().unwrap().to_owned())
    }

    #[test]
    fn the_same_address_by_tls() {
        let of = |host, target, port| to(host, target, port).unwrap();
        assert_eq!(of("a.example", "/x?y=z", 443), "https://a.example/x?y=z");
        assert_eq!(of("A.example.:80", "/", 8443), "https://a.example:8443/");
        assert_eq!(of("[::1]:80", "/%20", 443), "https://[::1]/%20");
        assert_eq!(of("a.example", "//evil.example", 443), "https://a.example//evil.example");
        assert_eq!(of("a.example", "http://a.example", 443), "https://a.example/");
        for (host, target) in [("", "/"), ("a@b", "/"), ("a.example", "http://b.example/"), ("a.example", "/../x")] {
            assert_eq!(to(host, target, 443), None, "{host} {target}");
        }
    }
}
