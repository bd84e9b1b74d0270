//! The platform's errors as HTTP: JSON with code, message, request id and hint, and the headers that belong to a status.
//!
//! Codes and their statuses are the contract's (`dunlin_proto::ErrorCode`); guests' own errors never pass here.

use std::time::Duration;

use bytes::Bytes;
use dunlin_proto::{ApiError, ErrorCode};
use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;

/// The header with the platform's own id of a request.
pub(crate) const REQUEST_ID: &str = "x-request-id";

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
}

/// The body of an error.
pub(crate) fn body(error: &ApiError, request_id: &str) -> Bytes {
    let body = Body {
        code: error.code.as_str(),
        message: &error.message,
        request_id,
        hint: error.hint.as_deref(),
        field: error.field.as_deref(),
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
        ErrorCode::RequestTimeout | ErrorCode::PayloadTooLarge | ErrorCode::HeadersTooLarge => {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        _ => {}
    }
    let busy = matches!(error.code, ErrorCode::Unavailable | ErrorCode::TooManyRequests);
    if let Some(after) = error.retry_after.or(busy.then_some(Duration::from_secs(1))) {
        headers.insert(header::RETRY_AFTER, whole_seconds(after).into());
    }
    response
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
