//! Signed links to versions: a token for one version in the query, which becomes a cookie of its address, so that a browser that was
//! sent a link has pictures and further pages as well.
//!
//! Whether the token is good is `crate::auth`'s to find out. The function sees neither parameter nor cookie.

use std::{borrow::Cow, time::SystemTime};

use bytes::Bytes;
use dunlin_proto::{ApiError, route::CredentialSource};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri, header, request::Parts};

use super::authorizer::credential;
use crate::auth::{Caller, CallerIdentity};

/// The name of the parameter, and of the cookie.
const NAME: &str = "dunlin-preview";

fn query() -> CredentialSource {
    CredentialSource::Query(NAME.to_owned())
}

fn cookie() -> CredentialSource {
    CredentialSource::Cookie(NAME.to_owned())
}

/// The token of a link: that of the query, or else of the cookie. Whoever sends a token of their own means that.
pub(super) fn token(parts: &Parts) -> Option<Cow<'_, str>> {
    if parts.headers.contains_key(header::AUTHORIZATION) {
        return None;
    }
    credential::find(&query(), parts).or_else(|_| credential::find(&cookie(), parts)).ok()
}

/// Takes the token away: from the headers, and from what the function sees of the query.
pub(super) fn consume(headers: &mut HeaderMap, uri: Uri) -> Result<Uri, ApiError> {
    credential::remove(&cookie(), headers);
    credential::without(&query(), uri)
}

/// What a browser gets that has followed a link: the same address without the token, and the cookie. Nothing where there is no
/// token in the query, or where the request does more than look.
pub(super) fn settled(
    parts: &Parts,
    base_path: &str,
    scheme: &str,
    caller: Option<&Caller>,
) -> Result<Option<Response<Bytes>>, ApiError> {
    let Some(CallerIdentity::Token(verified)) = caller.map(|caller| &caller.identity) else { return Ok(None) };
    let (expires, now) = (verified.principal.expires, SystemTime::now());
    let age = expires.duration_since(now).unwrap_or_default().as_secs();
    cookie_of(parts, base_path, (scheme, age))
}

fn cookie_of(parts: &Parts, base_path: &str, (scheme, age): (&str, u64)) -> Result<Option<Response<Bytes>>, ApiError> {
    let looks = matches!(parts.method, Method::GET | Method::HEAD) && token(parts).is_some();
    let Some(token) = looks.then(|| credential::find(&query(), parts).ok()).flatten() else { return Ok(None) };
    let path = if base_path.is_empty() { "/" } else { base_path };
    let secure = if scheme == "https" { "; Secure" } else { "" };
    let cookie = format!("{NAME}={token}; Path={path}; Max-Age={age}; HttpOnly; SameSite=Lax{secure}");
    let location = credential::without(&query(), parts.uri.clone())?;
    let text = location.path_and_query().map_or("/", |location| location.as_str());
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::SEE_OTHER;
    let value =
        |text: &str| HeaderValue::from_str(text).map_err(|_| super::bad_request("the address is not ASCII text"));
    let headers = response.headers_mut();
    headers.insert(header::LOCATION, value(text)?);
    headers.insert(header::SET_COOKIE, value(&cookie)?);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // The address with the token must not reach the servers of pictures and other pages.
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    Ok(Some(response))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(method: &str, uri: &str, fields: &[(&str, &str)]) -> Parts {
        let mut request = http::Request::builder().method(method).uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn a_token_is_in_the_query_or_in_the_cookie() {
        let cookie = ("cookie", "a=b; dunlin-preview=c");
        for (uri, fields, expected) in [
            ("/?dunlin-preview=q", &[cookie][..], Some("q")),
            ("/?a=b", &[cookie], Some("c")),
            ("/?a=b", &[], None),
            ("/?dunlin-preview=", &[], None),
            ("/?dunlin-preview=q&dunlin-preview=r", &[], None),
            ("/?dunlin-preview=q", &[("authorization", "Bearer x")], None),
        ] {
            assert_eq!(token(&parts("GET", uri, fields)).as_deref(), expected, "{uri} {fields:?}");
        }
        let mut seen = parts("GET", "/x?a=b&dunlin-preview=q&c", &[cookie]);
        let uri = consume(&mut seen.headers, seen.uri.clone()).unwrap();
        assert_eq!((uri.to_string(), seen.headers["cookie"].to_str().unwrap()), ("/x?a=b&c".to_owned(), "a=b"));
    }

    #[test]
    fn a_browser_gets_a_cookie_for_the_versions_address_alone() {
        let settle = |method: &str, uri: &str, base: &str, scheme: &str| {
            let answer = cookie_of(&parts(method, uri, &[]), base, (scheme, 60)).unwrap()?;
            let text = |name| answer.headers()[name].to_str().unwrap().to_owned();
            Some((answer.status().as_u16(), text("location"), text("set-cookie")))
        };
        let expected = "dunlin-preview=q; Path=/shop/pay@7; Max-Age=60; HttpOnly; SameSite=Lax";
        let uri = "/shop/pay@7/x?a=b&dunlin-preview=q";
        let to = "/shop/pay@7/x?a=b".to_owned();
        assert_eq!(settle("GET", uri, "/shop/pay@7", "http"), Some((303, to, expected.to_owned())));
        let (_, to, cookie) = settle("HEAD", "/?dunlin-preview=q", "", "https").unwrap();
        assert_eq!((to.as_str(), cookie.ends_with("Path=/; Max-Age=60; HttpOnly; SameSite=Lax; Secure")), ("/", true));
        assert_eq!(settle("POST", uri, "/shop/pay@7", "http"), None);
        assert_eq!(settle("GET", "/shop/pay@7/", "/shop/pay@7", "http"), None);
    }
}
