//! Who sends a request of the web side: a bearer token, or the cookie that signing in sets; and whether a browser sends
//! it from one of our own pages.
//!
//! The cookie is the token itself, since the gateway keeps no state. It is `HttpOnly` and `SameSite=Strict`, and `Secure`
//! where browsers have the dashboard by HTTPS: then its name has the prefix `__Host-`, so that no other host can set it
//! (RFC 6265bis 4.1.3.2). Cookies know no ports, so a browser also
//! sends it to functions on the same host; the functions' listener removes it, and what changes anything or answers to
//! a cookie must come from exactly this origin, not only from this site.

mod pending;

use std::{sync::Arc, time::SystemTime};

use axum::{
    extract::{FromRef, FromRequestParts},
    response::{IntoResponse, Response},
};
use dunlin_proto::{ApiError, ErrorCode, idempotency::Hold};
use http::{Extensions, HeaderMap, HeaderValue, Method, header, request::Parts};
use uuid::Uuid;

use super::{
    app::App,
    fault::{Fault, RequestName},
    grpc::unauthenticated,
};
use crate::{
    auth::{Origin, Principal},
    edge::Peer,
};

pub(super) use pending::{begin as begin_pending, end as end_pending, kept as pending};

/// The cookie's name by HTTPS, and on loopback without.
const SECURE: &str = "__Host-dunlin-session";
const PLAIN: &str = "dunlin-session";
/// The longest token that browsers keep, in bytes: RFC 6265 6.1 has them keep 4096 for a cookie with all that it says.
const MAX_TOKEN: usize = 3_900;

/// Somebody who sends a request with a token that is valid.
#[derive(Debug, Clone)]
pub(super) struct Caller(pub(super) Arc<Principal>);

impl<S: Send + Sync> FromRequestParts<S> for Caller
where
    App: FromRef<S>,
{
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Fault> {
        let app = App::from_ref(state);
        let credential = credential(&parts.method, &parts.headers, app.context().config.admin_tls())?;
        let who = app.context().verifier.administration(&credential).await?;
        Ok(Self(Arc::new(who.at(origin(&app, &parts.extensions)))))
    }
}

/// Somebody at a page: without a valid session the answer is the sign-in page.
#[derive(Debug, Clone)]
pub(super) struct Visitor(pub(super) Arc<Principal>);

impl<S: Send + Sync> FromRequestParts<S> for Visitor
where
    App: FromRef<S>,
{
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        match Caller::from_request_parts(parts, state).await {
            Ok(Caller(who)) => Ok(Self(who)),
            Err(Fault(error)) if error.code == ErrorCode::Unauthenticated => {
                let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
                Err(super::pages::to_sign_in(&parts.method, path))
            }
            Err(fault) => Err(fault.into_response()),
        }
    }
}

/// The entry of the audit log that has to be the last one still when a change is made.
#[derive(Debug, Clone, Copy)]
pub(super) struct UnchangedSince(pub(super) u64);

/// Where a request comes from.
pub(super) fn origin(app: &App, extensions: &Extensions) -> Origin {
    let address = extensions.get::<Peer>().map(|peer| peer.remote.ip().to_canonical().to_string());
    let id = extensions.get::<RequestName>().map_or_else(|| Uuid::now_v7().to_string(), |name| name.0.clone());
    Origin {
        address: address.unwrap_or_default(),
        gateway: app.context().config.name.to_string(),
        request_id: id,
        unchanged_since: extensions.get::<UnchangedSince>().map(|seen| seen.0),
        hold: extensions.get::<Hold>().copied(),
        attempts: app.context().attempts.clone(),
    }
}

/// The token that a request carries. By TLS, a cookie that another host may have set is none.
fn credential(method: &Method, headers: &HeaderMap, tls: bool) -> Result<String, ApiError> {
    if let Some(sent) = headers.get(header::AUTHORIZATION) {
        let token = sent.to_str().ok().and_then(bearer);
        let wrong = || unauthenticated("the header Authorization must be: Bearer TOKEN");
        return token.map(str::to_owned).ok_or_else(wrong);
    }
    let plain = || cookie(headers, PLAIN).filter(|_| !tls);
    let token = cookie(headers, SECURE).or_else(plain).ok_or_else(|| unauthenticated("this request has no token"))?;
    from_here(method, headers)?;
    Ok(token)
}

/// The token of an `Authorization` (RFC 6750 2.1; the scheme's case does not matter, RFC 9110 11.1).
pub(super) fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim_matches(' ')).filter(|token| !token.is_empty())
}

/// A cookie, where there is exactly one of this name: a second one was set by somebody else.
fn cookie(headers: &HeaderMap, wanted: &str) -> Option<String> {
    let texts = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = texts.flat_map(|text| text.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let mut found = pairs.filter(|(name, _)| *name == wanted).map(|(_, value)| value);
    found.next().filter(|_| found.next().is_none()).map(str::to_owned)
}

/// Takes the session out of a request to a function: browsers send it to every port of a host.
pub(crate) fn remove_session(headers: &mut HeaderMap) {
    let ours = |text: &str| text.split(';').any(is_session);
    if !headers.get_all(header::COOKIE).iter().any(|value| ours(&String::from_utf8_lossy(value.as_bytes()))) {
        return;
    }
    let values: Vec<_> = headers.get_all(header::COOKIE).iter().cloned().collect();
    headers.remove(header::COOKIE);
    for value in values {
        let text = String::from_utf8_lossy(value.as_bytes());
        let rest: Vec<_> = text.split(';').map(str::trim).filter(|pair| !is_session(pair)).collect();
        if let Ok(value) = HeaderValue::from_str(&rest.join("; "))
            && !value.is_empty()
        {
            headers.append(header::COOKIE, value);
        }
    }
}

/// Keeps a function from setting the session: it would sign its caller in as somebody else.
pub(crate) fn remove_session_setting(headers: &mut HeaderMap) {
    let is_ours = |value: &HeaderValue| is_session(&String::from_utf8_lossy(value.as_bytes()));
    if !headers.get_all(header::SET_COOKIE).iter().any(is_ours) {
        return;
    }
    let values: Vec<_> = headers.get_all(header::SET_COOKIE).iter().filter(|value| !is_ours(value)).cloned().collect();
    headers.remove(header::SET_COOKIE);
    for value in values {
        headers.append(header::SET_COOKIE, value);
    }
}

/// Whether a pair of a cookie header has the name of one of ours; browsers ignore the space around it.
fn is_session(pair: &str) -> bool {
    let name = pair.split(['=', ';']).next().unwrap_or_default().trim();
    name == SECURE || name == PLAIN || pending::is_name(name)
}

/// Refuses what a browser sends from another origin: forged changes, and reading by a page of a function.
///
/// # Errors
/// `PermissionDenied`; also for a change of which a browser does not say where it comes from.
pub(super) fn from_here(method: &Method, headers: &HeaderMap) -> Result<(), ApiError> {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let changes = !matches!(*method, Method::GET | Method::HEAD);
    let same_origin = text(header::ORIGIN).map(|origin| {
        let host = text(header::HOST).unwrap_or_default();
        origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://")) == Some(host)
    });
    let ours = match (text(header::HeaderName::from_static("sec-fetch-site")), same_origin) {
        (_, Some(false)) => false,
        (Some("same-origin"), _) => true,
        // Somebody typed the address or followed a link: harmless, as reading is.
        (Some(_), _) => !changes && is_navigation(headers),
        (None, Some(true)) => true,
        (None, None) => !changes,
    };
    let denied = || ApiError::new(ErrorCode::PermissionDenied, "this request comes from another site than this page");
    ours.then_some(()).ok_or_else(|| denied().hint("open the page here and try again from there"))
}

/// Whether the answer becomes a page of its own, which the page that led there can't read.
fn is_navigation(headers: &HeaderMap) -> bool {
    headers.get("sec-fetch-mode").is_some_and(|mode| mode == "navigate")
}

/// Checks that browsers keep a token.
///
/// # Errors
/// `InvalidArgument` for one that is too long.
pub(super) fn fits(token: &str) -> Result<(), ApiError> {
    let message = format!("the token has {} bytes, but browsers keep {MAX_TOKEN} at most", token.len());
    let error = || {
        ApiError::new(ErrorCode::InvalidArgument, message)
            .hint("ask its issuer to put less into it, such as fewer groups")
    };
    (token.len() <= MAX_TOKEN).then_some(()).ok_or_else(error)
}

/// The header that begins a session which lasts as long as its token.
pub(super) fn begin(token: &str, who: &Principal, now: SystemTime, tls: bool) -> String {
    let seconds = who.expires.duration_since(now).unwrap_or_default().as_secs();
    set(token, seconds, tls)
}

/// The headers that end a session, whichever it is.
pub(super) fn end() -> [String; 2] {
    [set("", 0, false), set("", 0, true)]
}

fn set(token: &str, seconds: u64, secure: bool) -> String {
    let (name, more) = if secure { (SECURE, "; Secure") } else { (PLAIN, "") };
    format!("{name}={token}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}{more}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn t49_a_change_must_come_from_this_very_origin() {
        let host = ("host", "127.0.0.1:8081");
        let post = |pairs: &[_]| from_here(&Method::POST, &headers(pairs)).is_ok();
        assert!(post(&[host, ("origin", "http://127.0.0.1:8081")]));
        assert!(post(&[host, ("origin", "http://127.0.0.1:8081"), ("sec-fetch-site", "same-origin")]));
        assert!(post(&[host, ("sec-fetch-site", "same-origin")]));
        assert!(!post(&[host]), "nothing says where it comes from");
        assert!(!post(&[host, ("origin", "http://127.0.0.1:8080")]), "the functions' listener");
        assert!(!post(&[host, ("origin", "null")]));
        assert!(!post(&[host, ("origin", "http://evil.example"), ("sec-fetch-site", "same-origin")]));
        assert!(!post(&[host, ("origin", "http://127.0.0.1:8081"), ("sec-fetch-site", "same-site")]));
        for site in ["same-site", "cross-site", "none", "?"] {
            assert!(!post(&[host, ("sec-fetch-site", site)]), "{site}");
            assert!(!post(&[host, ("sec-fetch-site", site), ("sec-fetch-mode", "navigate")]), "{site}");
        }
    }

    #[test]
    fn t49_pages_of_functions_cannot_read_with_the_cookie() {
        let get = |pairs: &[_]| from_here(&Method::GET, &headers(pairs)).is_ok();
        assert!(get(&[]), "an old browser or a tool");
        assert!(get(&[("sec-fetch-site", "none"), ("sec-fetch-mode", "navigate")]));
        assert!(get(&[("sec-fetch-site", "same-site"), ("sec-fetch-mode", "navigate")]));
        assert!(!get(&[("sec-fetch-site", "same-site"), ("sec-fetch-mode", "no-cors")]));
        assert!(!get(&[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "cors")]));
    }

    #[test]
    fn the_session_reaches_no_function_and_none_can_set_it() {
        let ours = "dunlin-sign-in=x; __Host-dunlin-sign-in=x; a=b; dunlin-session=x.y.z; __Host-dunlin-session=x; c=d";
        let mut sent = headers(&[("cookie", ours), ("cookie", " dunlin-session = x")]);
        remove_session(&mut sent);
        assert_eq!(sent.get_all("cookie").iter().collect::<Vec<_>>(), ["a=b; c=d"]);
        let mut own = headers(&[("cookie", "dunlin-sessions=1;a=b")]);
        remove_session(&mut own);
        assert_eq!(own["cookie"], "dunlin-sessions=1;a=b", "others pass as they are");
        let mut answer = HeaderMap::new();
        let evil = [
            "dunlin-session=evil; Path=/",
            " dunlin-session=evil",
            "dunlin-sign-in=evil",
            "__Host-dunlin-session=evil",
        ];
        for value in evil.into_iter().chain(["a=b; Path=/"]) {
            answer.append("set-cookie", value.parse().unwrap());
        }
        remove_session_setting(&mut answer);
        assert_eq!(answer.get_all("set-cookie").iter().collect::<Vec<_>>(), ["a=b; Path=/"]);
    }

    #[test]
    fn a_bearer_token_is_read_in_its_spellings_and_nothing_else_is() {
        assert_eq!((bearer("Bearer abc"), bearer("bearer  abc")), (Some("abc"), Some("abc")));
        for bad in ["", "abc", "Bearer", "Bearer ", "Basic abc", "Bearer\tabc"] {
            assert_eq!(bearer(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_header_wins_over_a_cookie_and_two_cookies_are_none() {
        let get = |pairs: &[_]| credential(&Method::GET, &headers(pairs), false).ok();
        assert_eq!(get(&[("cookie", "a=b; dunlin-session=x.y.z")]).as_deref(), Some("x.y.z"));
        assert_eq!(get(&[("cookie", "dunlin-session=x"), ("authorization", "Bearer y")]).as_deref(), Some("y"));
        assert_eq!(get(&[("cookie", "dunlin-session=x; dunlin-session=y")]), None);
        assert_eq!(get(&[("cookie", "dunlin-session=x"), ("authorization", "Basic y")]), None);
        assert_eq!(get(&[("cookie", "xdunlin-session=x")]), None);
    }

    #[test]
    fn t49_by_https_only_a_cookie_of_this_very_host_counts() {
        let get = |cookies, tls| credential(&Method::GET, &headers(&[("cookie", cookies)]), tls).ok();
        let both = "dunlin-session=theirs; __Host-dunlin-session=ours";
        assert_eq!((get(both, true).as_deref(), get(both, false).as_deref()), (Some("ours"), Some("ours")));
        assert_eq!(get("dunlin-session=theirs", true), None);
        let secure = set("x", 60, true);
        assert_eq!(secure, "__Host-dunlin-session=x; Path=/; HttpOnly; SameSite=Strict; Max-Age=60; Secure");
        assert!(
            set("x", 60, false).starts_with("dunlin-session=x;") && end().iter().all(|it| it.contains("Max-Age=0"))
        );
    }
}
