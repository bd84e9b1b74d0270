//! Which fields pass behind a body, from callers to functions and back: those that neither frame a message, nor say who calls, for
//! whom or with what credential, which only a head may say (RFC 9110 6.5.1). What a head may have is `invoke/headers.rs`'s.

use http::{HeaderMap, HeaderName, header};

/// What stands for something in a head alone.
const HEAD_ALONE: [HeaderName; 27] = [
    header::AGE,
    header::AUTHORIZATION,
    header::CACHE_CONTROL,
    header::CONNECTION,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
    header::COOKIE,
    header::EXPECT,
    header::FORWARDED,
    header::HOST,
    header::LOCATION,
    header::MAX_FORWARDS,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::RANGE,
    header::SET_COOKIE,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::VARY,
    HeaderName::from_static("proxy"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("x-real-ip"),
];
/// How the names begin of what the platform says itself, or what proxies say.
const OURS: [&str; 3] = ["dunlin-", "x-forwarded-", "x-request-id"];

/// The fields that pass.
pub(super) fn passing(mut trailers: HeaderMap) -> HeaderMap {
    let stays =
        |name: &HeaderName| HEAD_ALONE.contains(name) || OURS.iter().any(|ours| name.as_str().starts_with(ours));
    let names: Vec<_> = trailers.keys().filter(|name| stays(name)).cloned().collect();
    for name in names {
        trailers.remove(name);
    }
    trailers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t44_what_only_a_head_may_say_does_not_pass_behind_a_body() {
        let trailers = |names: &[&str]| -> HeaderMap {
            names.iter().map(|name| (name.parse().unwrap(), "x".parse().unwrap())).collect()
        };
        let forged = ["dunlin-principal", "dunlin-claims", "x-forwarded-for", "x-api-key", "authorization", "cookie"];
        assert!(passing(trailers(&forged)).is_empty());
        assert!(passing(trailers(&["content-length", "set-cookie", "host", "x-request-id", "traceparent"])).is_empty());
        let kept = trailers(&["grpc-status", "grpc-message", "server-timing", "x-checksum", "etag"]);
        assert_eq!(passing(kept.clone()), kept);
    }
}
