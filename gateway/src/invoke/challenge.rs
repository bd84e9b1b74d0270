//! What an authority asks by HTTP before it issues a certificate (RFC 8555 8.3). Only tokens in force are answered here: everything
//! else under the path is the functions'.

use bytes::Bytes;
use http::{HeaderValue, Method, Response, header, request::Parts};

use crate::{routes::host, tls::Issued};

/// Where authorities look.
const PATH: &str = "/.well-known/acme-challenge/";

/// The answer to an authority; nothing where it is somebody else's request.
pub(super) fn answer(parts: &Parts, authority: &str, issued: &Issued) -> Option<Response<Bytes>> {
    let token = parts.uri.path().strip_prefix(PATH)?;
    if !matches!(parts.method, Method::GET | Method::HEAD) {
        return None;
    }
    let text = issued.text(&host::canonical(authority)?, token)?;
    let mut response = Response::new(Bytes::from(text));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Some(response)
}

#[cfg(test)]
mod tests {
    use dunlin_proto::internal::v1::{AcmeChallenge, AcmeChallengeKind, Certificates};
    use http::Request;

    use super::*;

    #[test]
    fn only_a_token_in_force_is_answered() {
        let issued = Issued::default();
        let challenge = AcmeChallenge {
            domain: "a.example".into(),
            kind: AcmeChallengeKind::Http01.into(),
            token: "token".into(),
            key_authorization: "token.thumb".into(),
        };
        issued.apply(&Certificates { challenges: vec![challenge], ..Certificates::default() });
        let asked = |method: Method, path: &str, authority: &str| {
            let parts = Request::builder().method(method).uri(path).body(()).unwrap().into_parts().0;
            answer(&parts, authority, &issued).map(|response| response.into_body())
        };
        let path = "/.well-known/acme-challenge/token";
        assert_eq!(asked(Method::GET, path, "A.example:80").as_deref(), Some(&b"token.thumb"[..]));
        for (method, path, authority) in [
            (Method::POST, path, "a.example"),
            (Method::GET, path, "b.example"),
            (Method::GET, "/.well-known/acme-challenge/other", "a.example"),
            (Method::GET, "/.well-known/acme-challenge/token/", "a.example"),
            (Method::GET, "/token", "a.example"),
        ] {
            assert_eq!(asked(method, path, authority), None, "{path} {authority}");
        }
    }
}
