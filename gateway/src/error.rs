//! The platform's errors as HTTP: JSON with code, message, request id and hint, and the headers that belong to a status.
//!
//! Codes and their statuses are the contract's (`dunlin_proto::ErrorCode`); guests' own errors never pass here.

use std::time::Duration;

use bytes::Bytes;
use dunlin_proto::{
    ApiError, ErrorCode,
    error::{Exceeded, LimitKind, Violation},
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use serde::Serialize;

/// The header with the platform's own id of a request.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The platform's id of a request, whatever the caller's own is.
pub(crate) const DUNLIN_REQUEST_ID: HeaderName = HeaderName::from_static("dunlin-request-id");

/// Which limits there are.
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
/// What is left of them.
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");

#[derive(Debug, Serialize)]
struct Envelope<'a> {
    error: Body<'a>,
}

#[derive(Debug, Serialize)]
struct Body<'a> {
    code: &'a str,
    message: &'a str,
    request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<Limit<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    violations: Vec<Wrong<'a>>,
}

/// What is wrong with a request.
#[derive(Debug, Serialize)]
struct Wrong<'a> {
    field: &'a str,
    message: &'a str,
}

/// The limit that is used up.
#[derive(Debug, Serialize)]
struct Limit<'a> {
    kind: &'a str,
    of: &'a str,
    current: u64,
    allowed: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    period_seconds: Option<u64>,
}

impl<'a> From<&'a Exceeded> for Limit<'a> {
    fn from(exceeded: &'a Exceeded) -> Self {
        let Exceeded { whose, kind, current, allowed } = exceeded;
        let period_seconds = period(*kind).map(|period| period.as_secs());
        Self { kind: kind.as_str(), of: whose, current: *current, allowed: *allowed, period_seconds }
    }
}

fn period(kind: LimitKind) -> Option<Duration> {
    match kind {
        LimitKind::Rate { period } | LimitKind::Quota { period } | LimitKind::Budget { period } => Some(period),
        LimitKind::Concurrency => None,
    }
}

/// The body of an error.
pub(crate) fn body(error: &ApiError, request_id: &str) -> Bytes {
    let body = Body {
        code: error.code.as_str(),
        message: &error.message,
        request_id,
        hint: error.hint.as_deref(),
        field: error.field.as_deref(),
        limit: error.exceeded.as_deref().map(Limit::from),
        violations: error.violations.iter().map(|Violation { field, message }| Wrong { field, message }).collect(),
    };
    serde_json::to_vec(&Envelope { error: body }).unwrap_or_default().into()
}

/// An error as an answer: status, headers, JSON.
pub(crate) fn response(error: &ApiError, request_id: &str) -> Response<Bytes> {
    let mut response = Response::new(body(error, request_id));
    *response.status_mut() =
        StatusCode::from_u16(error.code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(id) = HeaderValue::from_str(request_id) {
        headers.insert(REQUEST_ID, id);
    }
    match error.code {
        ErrorCode::Unauthenticated => {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"dunlin\""));
        }
        ErrorCode::MethodNotAllowed => {
            headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
        }
        // The rest of the request is not worth reading, or can't be told from the next one.
        ErrorCode::RequestTimeout | ErrorCode::PayloadTooLarge | ErrorCode::UriTooLong | ErrorCode::HeadersTooLarge => {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        _ => {}
    }
    let busy = matches!(error.code, ErrorCode::Unavailable | ErrorCode::TooManyRequests);
    if let Some(after) = error.retry_after.or(busy.then_some(Duration::from_secs(1))) {
        headers.insert(header::RETRY_AFTER, whole_seconds(after).into());
    }
    if let Some(scope) = needed_scope(error) {
        say_scope(headers, scope);
    }
    if let Some(exceeded) = &error.exceeded {
        say_limit(headers, exceeded, error.retry_after.unwrap_or_default());
    }
    response
}

/// The field of a violation that names the scopes which a token would need, with spaces between.
pub(crate) const SCOPE: &str = "scope";

fn needed_scope(error: &ApiError) -> Option<&str> {
    let lacks = |violation: &&Violation| error.code == ErrorCode::PermissionDenied && violation.field == SCOPE;
    error.violations.iter().find(lacks).map(|violation| violation.message.as_str())
}

/// Says which scopes a token would need (RFC 6750 3.1). They have no quotes and backslashes.
fn say_scope(headers: &mut HeaderMap, scope: &str) {
    let challenge = format!("Bearer realm=\"dunlin\", error=\"insufficient_scope\", scope=\"{scope}\"");
    if let Ok(challenge) = HeaderValue::try_from(challenge) {
        headers.insert(header::WWW_AUTHENTICATE, challenge);
    }
}

/// Says which limit there is and how much of it is left, as the IETF's draft `httpapi-ratelimit-headers` has it.
fn say_limit(headers: &mut HeaderMap, exceeded: &Exceeded, wait: Duration) {
    let Exceeded { whose, kind, allowed, .. } = exceeded;
    let owner = whose.split(' ').next().unwrap_or_default();
    let name = format!("\"{owner}-{}\"", kind.as_str());
    let measure = match period(*kind) {
        Some(period) => format!("w={}", period.as_secs()),
        None => "qu=\"concurrent-requests\"".to_owned(),
    };
    let policy = HeaderValue::try_from(format!("{name};q={allowed};{measure}"));
    let left = HeaderValue::try_from(format!("{name};r=0;t={}", whole_seconds(wait)));
    if let (Ok(policy), Ok(left)) = (policy, left) {
        headers.insert(RATE_LIMIT_POLICY, policy);
        headers.insert(RATE_LIMIT, left);
    }
}

/// Seconds, rounded up, since a caller that comes too early comes twice (RFC 9110 10.2.3).
fn whole_seconds(after: Duration) -> u64 {
    after.as_secs() + u64::from(after.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_status_and_a_body_that_says_why() {
        for code in ErrorCode::ALL {
            let response = response(&ApiError::new(*code, "what \"happened\"").hint("do this"), "id-1");
            assert_eq!(response.status().as_u16(), code.http_status());
            let json: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
            assert_eq!(json["error"]["code"], code.as_str());
            assert_eq!(json["error"]["message"], "what \"happened\"");
            assert_eq!(json["error"]["request_id"], "id-1");
            assert_eq!(json["error"]["hint"], "do this");
            assert_eq!(response.headers()[REQUEST_ID], "id-1");
        }
    }

    #[test]
    fn a_limit_that_is_used_up_is_named() {
        let limit = |kind| Exceeded { whose: "function shop/pay".to_owned(), kind, current: 130, allowed: 100 };
        let rate = limit(LimitKind::Rate { period: Duration::from_secs(60) });
        let error = ApiError::new(ErrorCode::TooManyRequests, "").retry_after(Duration::from_millis(1500));
        let answer = response(&error.clone().exceeded(rate), "");
        let json: serde_json::Value = serde_json::from_slice(answer.body()).unwrap();
        let expected = serde_json::json!({
            "kind": "rate", "of": "function shop/pay", "current": 130, "allowed": 100, "period_seconds": 60,
        });
        assert_eq!(json["error"]["limit"], expected);
        assert_eq!(answer.headers()[header::RETRY_AFTER], "2");
        assert_eq!(answer.headers()[RATE_LIMIT_POLICY], "\"function-rate\";q=100;w=60");
        assert_eq!(answer.headers()[RATE_LIMIT], "\"function-rate\";r=0;t=2");
        let answer = response(&error.exceeded(limit(LimitKind::Concurrency)), "");
        let policy = "\"function-concurrency\";q=100;qu=\"concurrent-requests\"";
        assert_eq!(answer.headers()[RATE_LIMIT_POLICY], policy);
    }

    #[test]
    fn statuses_bring_the_headers_that_belong_to_them() {
        let of = |code| response(&ApiError::new(code, ""), "");
        assert!(of(ErrorCode::Unauthenticated).headers().contains_key(header::WWW_AUTHENTICATE));
        assert!(of(ErrorCode::MethodNotAllowed).headers().contains_key(header::ALLOW));
        assert_eq!(of(ErrorCode::Unavailable).headers()[header::RETRY_AFTER], "1");
        let later = ApiError::new(ErrorCode::TooManyRequests, "").retry_after(Duration::from_millis(2100));
        assert_eq!(response(&later, "").headers()[header::RETRY_AFTER], "3");
        assert!(!of(ErrorCode::NotFound).headers().contains_key(header::RETRY_AFTER));
    }
}
