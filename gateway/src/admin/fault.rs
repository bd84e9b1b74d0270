//! Errors of the web side: handlers return a [`Fault`], and the outermost layer writes it as JSON under `/api` and as a
//! page elsewhere. What axum itself refuses (no such path, no such method, a bad body) is written the same way.

use std::time::SystemTime;

use axum::{
    body::Body,
    extract::{
        Request,
        rejection::{BytesRejection, FormRejection, JsonRejection, PathRejection, QueryRejection},
    },
    middleware::Next,
    response::{IntoResponse, Response},
};
use dunlin_proto::{ApiError, ErrorCode};
use http::{HeaderValue, StatusCode, header};
use uuid::Uuid;

use super::pages;
use crate::{
    error,
    invoke::headers::{name_request, request_id},
};

/// An error on its way out.
#[derive(Debug)]
pub(super) struct Fault(pub(super) ApiError);

impl From<ApiError> for Fault {
    fn from(error: ApiError) -> Self {
        Self(error)
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = status.into_response();
        response.extensions_mut().insert(self.0);
        response
    }
}

/// The id that a request has been given.
#[derive(Debug, Clone)]
pub(super) struct RequestName(pub(super) String);

/// An answer that has its body already, whatever its status.
#[derive(Debug, Clone, Copy)]
pub(super) struct Written;

/// Gives every request an id, and every error its body.
pub(super) async fn finish(mut request: Request, next: Next) -> Response {
    let (id, own) = (Uuid::now_v7().to_string(), request_id(request.headers()));
    let api = request.uri().path().starts_with("/api/");
    let path = request.uri().path().chars().take(200).collect::<String>();
    let method = request.method().clone();
    request.extensions_mut().insert(RequestName(id.clone()));
    let response = next.run(request).await;
    if response.extensions().get::<Written>().is_some() {
        return with_id(response, &id, &own);
    }
    let status = response.status();
    let found = response.extensions().get::<ApiError>().cloned();
    let error = match (found, status) {
        (Some(error), _) => error,
        (None, StatusCode::NOT_FOUND) => no_such_path(&path),
        (None, StatusCode::METHOD_NOT_ALLOWED) => no_such_method(&method, &response),
        _ => return with_id(response, &id, &own),
    };
    if error.code == ErrorCode::Internal {
        tracing::error!(request_id = id, path, "answered with an internal error");
    }
    let kept = [header::ALLOW, header::ETAG].map(|name| (response.headers().get(&name).cloned(), name));
    let mut answer =
        if api { error::response(&error, &id).map(Body::from) } else { pages::error(&error, &id, &method, &path) };
    for (name, value) in kept.into_iter().filter_map(|(value, name)| Some((name, value?))) {
        answer.headers_mut().insert(name, value);
    }
    with_id(answer, &id, &own)
}

fn with_id(mut response: Response, id: &str, own: &str) -> Response {
    let id = HeaderValue::from_str(id).ok();
    if let Some(id) = id.clone() {
        response.headers_mut().insert(error::REQUEST_ID, id);
    }
    name_request(response.headers_mut(), id, own);
    response
}

fn no_such_path(path: &str) -> ApiError {
    ApiError::not_found(path).hint("/api/v1/openapi.json lists the endpoints; functions are served on another port")
}

fn no_such_method(method: &http::Method, response: &Response) -> ApiError {
    let allow = response.headers().get(header::ALLOW).and_then(|allow| allow.to_str().ok()).unwrap_or("none");
    ApiError::new(ErrorCode::MethodNotAllowed, format!("{method} is not possible here"))
        .hint(format!("possible is: {}", allow.replace(',', ", ")))
}

/// A panic in a handler: our fault, and no reason to drop the connection.
pub(super) fn panicked(_: Box<dyn std::any::Any + Send>) -> Response {
    tracing::error!(at = ?SystemTime::now(), "a handler panicked");
    Fault(ApiError::internal()).into_response()
}

/// A request whose body is over its limit.
fn too_large() -> ApiError {
    ApiError::new(ErrorCode::PayloadTooLarge, format!("the body may have {} bytes at most", super::MAX_BODY_BYTES))
}

/// The body's own error, where it arrived too slowly.
fn slow(rejection: &(dyn std::error::Error + 'static)) -> Option<ApiError> {
    let error = std::iter::successors(Some(rejection), |error| error.source()).find_map(|error| error.downcast_ref());
    error.cloned().filter(|error: &ApiError| error.code == ErrorCode::RequestTimeout)
}

macro_rules! from_rejection {
    ($($rejection:ty),+) => {
        $(
            impl From<$rejection> for Fault {
                fn from(rejection: $rejection) -> Self {
                    match (slow(&rejection), rejection.status()) {
                        (Some(slow), _) => Self(slow),
                        (None, StatusCode::PAYLOAD_TOO_LARGE) => Self(too_large()),
                        (None, _) => Self(ApiError::new(ErrorCode::InvalidArgument, one_line(&rejection.body_text()))),
                    }
                }
            }
        )+
    };
}

from_rejection!(BytesRejection, FormRejection, PathRejection, QueryRejection);

impl From<JsonRejection> for Fault {
    fn from(rejection: JsonRejection) -> Self {
        let invalid = |text: &str| ApiError::new(ErrorCode::InvalidArgument, text);
        Self(match rejection {
            JsonRejection::MissingJsonContentType(_) => {
                invalid("the body must be JSON").hint("send the header Content-Type: application/json")
            }
            JsonRejection::BytesRejection(bytes) => return bytes.into(),
            other => invalid(&one_line(&other.body_text())),
        })
    }
}

/// Messages are lower-case single lines of bounded length, whoever wrote them.
fn one_line(text: &str) -> String {
    let mut text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect();
    if let Some(first) = text.get_mut(..1) {
        first.make_ascii_lowercase();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_libraries_become_ours() {
        assert_eq!(one_line("Failed to\nparse"), "failed to parse");
        assert_eq!(one_line(""), "");
        assert_eq!(one_line(&"x".repeat(1_000)).len(), 300);
        assert_eq!(one_line("Ünicode"), "Ünicode");
    }
}
