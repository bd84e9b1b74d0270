//! Which headers pass, and which the gateway sets itself: towards the function, and back to the caller.
//!
//! Decided here: the platform's id of a request is `X-Request-Id` towards the function, and `Dunlin-Request-Id` towards the
//! caller; `X-Request-Id` repeats the caller's own there, and is the platform's where the caller has none. The caller's own
//! is an attribute of the record. A short answer has its whole cost in the header `Server-Timing`; an answer that streams has the
//! gateway's queue time there and the rest in a trailer of that name, where the caller accepts trailers.

use std::fmt::{self, Write};

use bytes::BytesMut;
use dunlin_proto::ids::InvocationId;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Version, header};
use smallvec::SmallVec;
use uuid::fmt::Hyphenated;

use super::{origin::Origin, trace::Trace};
use crate::{
    dispatch::{
        ResponseBody,
        response::{Timing, millis, server_timing},
    },
    error::{DUNLIN_REQUEST_ID, REQUEST_ID},
};

/// Headers that concern one connection (RFC 9110 7.6.1), or would have others act on the caller's behalf.
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
];
/// Headers by which callers could pretend to be a proxy in front of the function, and `Proxy` (RFC 3875 4.1.18).
const PRETENDED: [HeaderName; 4] =
    [header::FORWARDED, HeaderName::from_static("x-real-ip"), HeaderName::from_static("proxy"), header::EXPECT];
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
/// How many headers a function gets beside its caller's, of most calls: these are not moved to a larger map for each.
const SET: usize = 10;
/// An address and an id, in bytes.
const SHORT_VALUES: usize = 96;
/// The longest id of a caller's own.
const MAX_REQUEST_ID: usize = 128;

/// The caller's own id of a request; empty where there is none that is safe to repeat.
pub(crate) fn request_id(headers: &HeaderMap) -> String {
    let text = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let safe = text.len() <= MAX_REQUEST_ID && text.bytes().all(|byte| byte.is_ascii_graphic());
    if safe { text.to_owned() } else { String::new() }
}

/// Says to a caller which request this was: by the platform's id, and by the caller's own where it has one.
pub(crate) fn name_request(headers: &mut HeaderMap, id: Option<HeaderValue>, own: &str) {
    if let Some(id) = id {
        headers.insert(DUNLIN_REQUEST_ID, id);
    }
    if !own.is_empty()
        && let Ok(own) = HeaderValue::from_str(own)
    {
        headers.insert(REQUEST_ID, own);
    }
}

/// An id as the value of a header.
pub(super) fn value(id: InvocationId) -> Option<HeaderValue> {
    HeaderValue::from_bytes(id.uuid().hyphenated().encode_lower(&mut [0; Hyphenated::LENGTH]).as_bytes()).ok()
}

/// What the function gets of a caller's headers.
pub(super) fn to_function(
    mut headers: HeaderMap,
    consumed: &[HeaderName],
    origin: Origin,
    authority: &str,
    id: InvocationId,
    trace: &Trace,
) -> HeaderMap {
    let trailers = accepts_trailers(&headers);
    headers.reserve(SET);
    remove_named(&mut headers);
    crate::admin::remove_session(&mut headers);
    remove_where(&mut headers, |name| {
        let kept_back = HOP_BY_HOP.contains(name) || PRETENDED.contains(name) || consumed.contains(name);
        let text = name.as_str();
        kept_back || *name == header::TE || text.starts_with("x-forwarded-") || text.starts_with("dunlin-")
    });
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    headers.insert(HeaderName::from_static("x-forwarded-proto"), HeaderValue::from_static(origin.scheme));
    let mut values = Values::with_capacity(authority.len() + trace.parent.len() + SHORT_VALUES);
    let mut set = |name: HeaderName, value: fmt::Arguments<'_>| {
        if let Some(value) = values.value(value) {
            headers.insert(name, value);
        }
    };
    set(HeaderName::from_static("x-forwarded-for"), format_args!("{}", origin.address));
    set(HeaderName::from_static("x-forwarded-host"), format_args!("{authority}"));
    set(REQUEST_ID, format_args!("{id}"));
    set(HeaderName::from_static("traceparent"), format_args!("{}", trace.parent));
    if !trace.inherited {
        headers.remove("tracestate");
    }
    // Every request has one; HTTP/2 has it in the target.
    if !headers.contains_key(header::HOST)
        && let Ok(host) = HeaderValue::from_str(authority)
    {
        headers.insert(header::HOST, host);
    }
    headers
}

/// Makes values of headers that share one piece of memory.
struct Values(BytesMut);

impl Values {
    fn with_capacity(bytes: usize) -> Self {
        Self(BytesMut::with_capacity(bytes))
    }

    /// A value, where a header can have it.
    fn value(&mut self, text: fmt::Arguments<'_>) -> Option<HeaderValue> {
        self.0.write_fmt(text).ok()?;
        HeaderValue::from_maybe_shared(self.0.split().freeze()).ok()
    }
}

fn accepts_trailers(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::TE).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|token| token.trim().eq_ignore_ascii_case("trailers"))
}

/// Removes the fields that `Connection` names.
fn remove_named(headers: &mut HeaderMap) {
    let named = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let named: Vec<_> = named.flat_map(|value| value.split(',')).map(|name| name.trim().to_ascii_lowercase()).collect();
    for name in named {
        headers.remove(name.as_str());
    }
}

/// One pass over the few fields that there are is cheaper than asking for each unwanted one.
fn remove_where(headers: &mut HeaderMap, unwanted: impl Fn(&HeaderName) -> bool) {
    let names: SmallVec<[_; 4]> = headers.keys().filter(|name| unwanted(name)).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// The answer as the caller gets it.
pub(super) fn to_caller(
    mut response: Response<ResponseBody>,
    method: &Method,
    version: Version,
    id: InvocationId,
) -> Response<ResponseBody> {
    let timing = response.extensions_mut().remove::<Timing>();
    let bodiless = *method == Method::HEAD || response.status() == StatusCode::NOT_MODIFIED;
    let headers = response.headers_mut();
    let length = headers.remove(header::CONTENT_LENGTH).filter(|_| bodiless);
    remove_named(headers);
    crate::admin::remove_session_setting(headers);
    remove_where(headers, |name| HOP_BY_HOP.contains(name) || name.as_str().starts_with("dunlin-"));
    // What the body has is counted anew; only where there is none does the function's word stand (RFC 9110 8.6).
    if let Some(length) = length.filter(|length| length.to_str().is_ok_and(|text| text.parse::<u64>().is_ok())) {
        headers.insert(header::CONTENT_LENGTH, length);
    }
    if let Some(id) = value(id) {
        headers.insert(REQUEST_ID, id);
    }
    if let Some(timing) = timing {
        set_timing(headers, &timing, version);
    }
    if version == Version::HTTP_11 {
        announce_trailers(&mut response);
    }
    response
}

/// HTTP/1.1 sends those trailers alone that were announced: by the function itself, or here where they have arrived.
fn announce_trailers(response: &mut Response<ResponseBody>) {
    let names: Vec<_> = response.body().trailer_names().map(HeaderValue::from).collect();
    for name in names {
        response.headers_mut().append(header::TRAILER, name);
    }
}

fn set_timing(headers: &mut HeaderMap, timing: &Timing, version: Version) {
    let text = if timing.complete {
        server_timing(&timing.receipt)
    } else {
        format!("queue;dur={}", millis(timing.receipt.queue))
    };
    if let Ok(value) = HeaderValue::from_str(&text) {
        headers.append(SERVER_TIMING, value);
    }
    if !timing.complete && version == Version::HTTP_11 {
        headers.append(header::TRAILER, HeaderValue::from_static("server-timing"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&str, &str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())).collect()
    }

    fn passed(fields: &[(&str, &str)], consumed: &[HeaderName]) -> HeaderMap {
        let trace = Trace { parent: "00-a-b-01".to_owned(), id: 1, inherited: false };
        let origin = Origin { address: "192.0.2.7".parse().unwrap(), scheme: "http" };
        to_function(map(fields), consumed, origin, "a.example", InvocationId::new(), &trace)
    }

    #[test]
    fn t35_nothing_by_which_callers_could_pretend_passes() {
        let headers = passed(
            &[
                ("x-forwarded-for", "1.2.3.4"),
                ("x-forwarded-user", "root"),
                ("forwarded", "for=1.2.3.4"),
                ("x-real-ip", "1.2.3.4"),
                ("dunlin-actor", "root"),
                ("proxy", "http://evil.example"),
                ("connection", "close, X-Private"),
                ("x-private", "1"),
                ("keep-alive", "5"),
                ("upgrade", "websocket"),
                ("transfer-encoding", "chunked"),
                ("te", "gzip, trailers"),
                ("x-request-id", "mine"),
                ("tracestate", "x=1"),
                ("x-own", "kept"),
            ],
            &[],
        );
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        let expected = [
            "host",
            "te",
            "traceparent",
            "x-forwarded-for",
            "x-forwarded-host",
            "x-forwarded-proto",
            "x-own",
            "x-request-id",
        ];
        assert_eq!(names, expected);
        assert_eq!(
            (&headers["x-forwarded-for"], &headers["te"]),
            (&"192.0.2.7".parse().unwrap(), &"trailers".parse().unwrap())
        );
        assert_ne!(headers["x-request-id"], "mine");
    }

    #[test]
    fn consumed_credentials_do_not_pass_and_others_do() {
        let fields = [("authorization", "Bearer x"), ("x-api-key", "k"), ("cookie", "a=b")];
        let headers = passed(&fields, &[header::AUTHORIZATION]);
        assert!(!headers.contains_key("authorization") && headers.contains_key("x-api-key"));
        assert_eq!(passed(&fields, &[])["authorization"], "Bearer x");
    }

    #[test]
    fn only_safe_ids_are_repeated() {
        let of = |value: &str| request_id(&map(&[("x-request-id", value)]));
        assert_eq!(of("abc-123_X.y:z"), "abc-123_X.y:z");
        assert_eq!(of(&"a".repeat(128)), "a".repeat(128));
        assert_eq!(of("<order>#7;\"x\"~"), "<order>#7;\"x\"~");
        for bad in ["a b", "a\tb", "\u{e9}", &"a".repeat(129)] {
            assert_eq!(of(bad), "", "{bad}");
        }
    }
}
