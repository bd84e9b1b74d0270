//! A stored answer: for which requests it is, what it says, and on which terms it is used.
//!
//! The terms are `rules.rs`'s, conditions `conditional.rs`'s. Where answers are kept is in `cache.rs`.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use dunlin_proto::ids::VersionKey;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use tokio::time::Instant;

use super::{conditional, rules::Terms, status::CACHE_STATUS};
use crate::{
    error::{DUNLIN_REQUEST_ID, REQUEST_ID},
    routes::router::Rule,
};

/// Bytes of an answer's body that is stored at the most.
pub(super) const MOST_BYTES: usize = 1 << 20;
/// What an answer takes in memory beside what it says.
const OVERHEAD_BYTES: usize = 512;
/// Headers by which one answer may vary.
const MOST_SELECTING: usize = 16;
/// Headers that the gateway sets itself, another value for each caller or call.
const OF_EACH_CALL: [&str; 5] = ["x-forwarded-for", "x-request-id", "traceparent", "tracestate", "te"];
/// What belongs to one call's answer, and to no later one's.
const OF_ONE_ANSWER: [HeaderName; 5] =
    [REQUEST_ID, HeaderName::from_static("server-timing"), header::TRAILER, header::AGE, header::CONTENT_LENGTH];
/// What says how a body is written stays as it was when the body came (RFC 9111 3.2).
const OF_THE_BODY: [HeaderName; 4] =
    [header::CONTENT_ENCODING, header::CONTENT_RANGE, header::CONTENT_LENGTH, HeaderName::from_static("content-md5")];
/// What an answer without a body leaves out (RFC 9110 15.4.5).
const NOT_WITHOUT_BODY: [HeaderName; 5] =
    [header::CONTENT_ENCODING, header::CONTENT_TYPE, header::CONTENT_LANGUAGE, header::CONTENT_LENGTH, header::TRAILER];

/// Whose answer it is: another version, or another route, has others.
#[derive(Debug, Clone)]
pub(crate) struct Owner {
    pub(crate) version: VersionKey,
    pub(crate) rule: Arc<Rule>,
}

impl PartialEq for Owner {
    /// A route is another one as soon as anything in it changes. Mostly it is the same value, which is quick to see.
    fn eq(&self, other: &Self) -> bool {
        let same = Arc::ptr_eq(&self.rule, &other.rule);
        self.version == other.version
            && (same || (self.rule.name == other.rule.name && self.rule.spec == other.rule.spec))
    }
}

/// The headers of a request on which an answer depends (RFC 9111 4.1).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Selecting(Vec<(HeaderName, Option<Vec<u8>>)>);

impl Selecting {
    /// Those that an answer names; nothing where it depends on more than headers say.
    pub(super) fn of(request: &HeaderMap, answer: &HeaderMap) -> Option<Self> {
        let mut selecting = Vec::new();
        for value in answer.get_all(header::VARY) {
            for name in
                value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|name| !name.is_empty())
            {
                let name = HeaderName::from_bytes(name).ok().filter(|name| name.as_str() != "*")?;
                if OF_EACH_CALL.contains(&name.as_str()) || selecting.len() >= MOST_SELECTING {
                    return None;
                }
                let value = normal(request, &name);
                selecting.push((name, value));
            }
        }
        Some(Self(selecting))
    }

    /// Whether a request has the same.
    fn fits(&self, request: &HeaderMap) -> bool {
        self.0.iter().all(|(name, value)| normal(request, name) == *value)
    }
}

/// The values of a header, with one comma between two of them.
fn normal(headers: &HeaderMap, name: &HeaderName) -> Option<Vec<u8>> {
    let values = headers.get_all(name).iter();
    let parts = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    let parts: Vec<_> = parts.collect();
    (!parts.is_empty()).then(|| parts.join(&b','))
}

/// An answer as it is stored.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(super) owner: Owner,
    pub(super) selecting: Selecting,
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) terms: Terms,
    /// When it came.
    pub(super) at: Instant,
    /// The headers of each answer, with places for those that are another's next time: a copy of these is made once, and does not
    /// grow.
    pub(super) answer: HeaderMap,
}

/// Headers that are another's with each answer.
const PLACES: [HeaderName; 4] = [header::AGE, CACHE_STATUS, REQUEST_ID, DUNLIN_REQUEST_ID];

/// The headers of answers with these.
pub(super) fn answers(headers: &HeaderMap) -> HeaderMap {
    let mut answers = in_one_piece(headers);
    for name in PLACES {
        answers.entry(name).or_insert(HeaderValue::from_static(""));
    }
    answers
}

/// What an answer says to everybody: what belonged to the call that brought it is taken away.
pub(super) fn lasting(mut headers: HeaderMap, now: std::time::SystemTime) -> HeaderMap {
    for name in OF_ONE_ANSWER {
        headers.remove(name);
    }
    // Whoever gets it later must see how old it is (RFC 9110 6.6.1).
    if !headers.contains_key(header::DATE)
        && let Ok(date) = HeaderValue::from_str(&httpdate::fmt_http_date(now))
    {
        headers.insert(header::DATE, date);
    }
    headers
}

/// The same headers with all values in one piece of memory: whoever copies them counts one reference more, and not one for each, which
/// other threads write at the same time.
fn in_one_piece(headers: &HeaderMap) -> HeaderMap {
    let mut piece = BytesMut::with_capacity(headers.values().map(HeaderValue::len).sum());
    let mut moved = HeaderMap::with_capacity(headers.len() + PLACES.len());
    for (name, value) in headers {
        piece.extend_from_slice(value.as_bytes());
        // What was a value stays one.
        let copy = HeaderValue::from_maybe_shared(piece.split().freeze()).unwrap_or_else(|_| value.clone());
        moved.append(name, copy);
    }
    moved
}

impl Stored {
    /// Whether it answers requests of this kind.
    pub(super) fn fits(&self, request: &HeaderMap) -> bool {
        self.selecting.fits(request)
    }

    /// How long it has been here.
    pub(crate) fn here(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.at)
    }

    /// Its status.
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// Its body.
    pub(crate) fn body(&self) -> Bytes {
        self.body.clone()
    }

    /// On which terms it is used.
    pub(crate) fn terms(&self) -> &Terms {
        &self.terms
    }

    /// What a request to the function asks to have it confirmed, where that is possible.
    pub(crate) fn headers(&self) -> Option<&HeaderMap> {
        conditional::is_confirmable(&self.headers).then_some(&self.headers)
    }

    /// Whether an answer without a body confirms it.
    pub(crate) fn is_confirmed_by(&self, answer: &HeaderMap) -> bool {
        conditional::confirms(answer, &self.headers)
    }

    /// What the function says of it anew: everything but what concerns the body (RFC 9111 4.3.4).
    pub(crate) fn renewed(&self, answer: &HeaderMap) -> HeaderMap {
        let mut headers = self.headers.clone();
        // It is as old as its confirmation.
        headers.remove(header::DATE);
        for name in answer.keys().filter(|name| !OF_THE_BODY.contains(name)) {
            headers.remove(name);
            for value in answer.get_all(name) {
                headers.append(name, value.clone());
            }
        }
        headers
    }

    /// The answer for a request; without a body where the caller has it, or wants none.
    pub(crate) fn response(&self, method: &Method, request: &HeaderMap, now: Instant) -> Response<Bytes> {
        let mut response = Response::new(self.body.clone());
        *response.status_mut() = self.status;
        let mut headers = self.answer.clone();
        headers.insert(header::AGE, self.terms.age(self.here(now)).as_secs().into());
        if self.status == StatusCode::OK && conditional::is_known(request, &self.headers) {
            headers.insert(header::CONTENT_LENGTH, self.body.len().into());
            return not_modified(headers);
        }
        if *method == Method::HEAD {
            headers.insert(header::CONTENT_LENGTH, self.body.len().into());
            *response.body_mut() = Bytes::new();
        }
        *response.headers_mut() = headers;
        response
    }

    /// Bytes that it takes.
    pub(super) fn weight(&self) -> usize {
        let field = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len() + 32;
        let headers: usize = self.headers.iter().chain(&self.answer).map(field).sum();
        let selecting: usize = self.selecting.0.iter().map(|(_, value)| value.as_ref().map_or(0, Vec::len) + 64).sum();
        self.body.len() + headers + selecting + OVERHEAD_BYTES
    }
}

/// Whether a caller has an answer with these headers already.
pub(crate) fn is_known(request: &HeaderMap, answer: &HeaderMap) -> bool {
    conditional::is_known(request, answer)
}

/// What a 304 does not say of the answer that its caller has: with this, whoever changes answers knows what the whole would be like.
#[derive(Debug, Clone)]
pub(crate) struct Unsaid(pub(crate) HeaderMap);

/// Tells a caller that what it has is the answer with these headers.
pub(crate) fn not_modified(mut headers: HeaderMap) -> Response<Bytes> {
    let mut unsaid = HeaderMap::new();
    for name in NOT_WITHOUT_BODY {
        if let Some(value) = headers.remove(&name) {
            unsaid.insert(name, value);
        }
    }
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    *response.headers_mut() = headers;
    response.extensions_mut().insert(Unsaid(unsaid));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&str, &str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn an_answer_is_for_requests_with_the_same_headers() {
        let request = map(&[("accept-language", "de, en;q=0.5"), ("accept", "a"), ("x-id", "1")]);
        let selecting =
            Selecting::of(&request, &map(&[("vary", "Accept-Language"), ("vary", "accept , x-none")])).unwrap();
        for (fields, expected) in [
            (&[("accept-language", "de, en;q=0.5"), ("accept", "a")][..], true),
            (&[("accept-language", "de"), ("accept-language", "en;q=0.5"), ("accept", "a"), ("x-id", "2")], true),
            (&[("accept-language", "de,en;q=0.5"), ("accept", "a"), ("x-none", "")], false),
            (&[("accept-language", "en"), ("accept", "a")], false),
            (&[("accept", "a")], false),
            (&[("accept-language", "de, en;q=0.5")], false),
        ] {
            assert_eq!(selecting.fits(&map(fields)), expected, "{fields:?}");
        }
        for vary in ["*", "accept, *", "x-forwarded-for", "X-Request-Id", "a b"] {
            assert_eq!(Selecting::of(&request, &map(&[("vary", vary)])), None, "{vary}");
        }
        assert_eq!(Selecting::of(&request, &HeaderMap::new()), Some(Selecting::default()));
    }

    #[test]
    fn a_place_for_what_changes_is_no_value_of_it() {
        let mut headers = answers(&map(&[("cache-status", "inner; hit"), ("etag", "a")]));
        assert_eq!((headers.len(), &headers[CACHE_STATUS]), (5, &"inner; hit".parse().unwrap()));
        crate::cache::CacheStatus::default().append(&mut headers);
        assert_eq!(headers.get_all(CACHE_STATUS).iter().collect::<Vec<_>>(), ["inner; hit", "dunlin; hit"]);
        let mut headers = answers(&HeaderMap::new());
        crate::cache::CacheStatus::default().append(&mut headers);
        assert_eq!(headers.get_all(CACHE_STATUS).iter().collect::<Vec<_>>(), ["dunlin; hit"]);
    }

    #[test]
    fn what_belongs_to_one_call_is_not_stored() {
        let answer = map(&[
            ("x-request-id", "1"),
            ("server-timing", "x"),
            ("age", "3"),
            ("link", "a"),
            ("link", "b"),
            ("date", "Tue, 02 Jan 2024 12:00:00 GMT"),
        ]);
        let now = std::time::SystemTime::UNIX_EPOCH;
        let expected = map(&[("link", "a"), ("link", "b"), ("date", "Tue, 02 Jan 2024 12:00:00 GMT")]);
        assert_eq!(lasting(answer, now), expected);
        assert_eq!(lasting(HeaderMap::new(), now), map(&[("date", "Thu, 01 Jan 1970 00:00:00 GMT")]));
    }
}
