//! Requests that depend on what a client has seen (RFC 9110 13): every answer to GET has an ETag, a client that has it already gets
//! 304, and a change with `If-Match` is made only if what GET answers at its address is still that.
//!
//! The tag is a digest of the answer, without what says nothing of the thing itself ([`Tagged`]). Between the look and the change others may change something, so that the scheduler is told
//! how far its audit log was before the look, and refuses if it has grown: then everything is done again.

use axum::{
    Json, Router,
    body::{Body, HttpBody, to_bytes},
    extract::{FromRequestParts, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use dunlin_proto::{ApiError, ErrorCode};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, request::Parts};
use serde::Serialize;
use sha2::{Digest, Sha256};
use tower::ServiceExt;

use crate::admin::{
    MAX_BODY_BYTES,
    app::App,
    fault::Fault,
    session::{Caller, UnchangedSince},
};

/// How often a change is tried while others change something else.
const TRIES: usize = 8;
/// Bytes of an answer that gets a tag at the most.
const MOST: usize = 80 << 20;

/// The endpoints, and what they work with. This stands before them: what has been routed can't be routed again.
#[derive(Debug, Clone)]
pub(in crate::admin) struct Endpoints {
    pub(in crate::admin) app: App,
    pub(in crate::admin) plain: Router,
}

/// An answer, and what its tag is a digest of: the answer without the addresses of the gateway that gives it, or where it was read.
#[derive(Debug)]
pub(super) struct Tagged<T> {
    answer: T,
    of: T,
}

impl<T: Clone> Tagged<T> {
    /// An answer whose tag does not depend on what is cleared here.
    pub(super) fn without(answer: T, clear: impl FnOnce(&mut T)) -> Self {
        let mut of = answer.clone();
        clear(&mut of);
        Self { answer, of }
    }
}

impl<T: Serialize> IntoResponse for Tagged<T> {
    fn into_response(self) -> Response {
        let Ok(of) = serde_json::to_vec(&self.of) else { return Fault(ApiError::internal()).into_response() };
        let mut response = Json(self.answer).into_response();
        response.extensions_mut().insert(Tag(tag(&of)));
        response
    }
}

/// The tag that an answer has already.
#[derive(Debug, Clone)]
struct Tag(HeaderValue);

/// Answers a request with what it depends on in mind. Pages have no tags, and what is endless has none either.
pub(in crate::admin) async fn check(State(endpoints): State<Endpoints>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    if !path.starts_with(super::BASE) || is_endless(path) {
        return next.run(request).await;
    }
    let conditional = [header::IF_MATCH, header::IF_NONE_MATCH].iter().any(|name| request.headers().contains_key(name));
    match *request.method() {
        Method::GET => read(request, next).await,
        Method::HEAD => head(request, next).await,
        ref method if conditional && changes(method) => {
            endpoints.change(request).await.unwrap_or_else(IntoResponse::into_response)
        }
        _ => next.run(request).await,
    }
}

/// Whether requests with a method are changes. What there is no endpoint for is nothing that could depend on anything (RFC 9110 13.2.1).
pub(super) fn changes(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH | Method::DELETE)
}

/// Whether what GET answers there has no end.
pub(super) fn is_endless(path: &str) -> bool {
    path.ends_with("/logs/stream")
}

/// What GET answers, without the body, but with its tag and length (RFC 9110 9.3.2).
async fn head(mut request: Request, next: Next) -> Response {
    *request.method_mut() = Method::GET;
    let (mut head, body) = read(request, next).await.into_parts();
    if let (Some(length), StatusCode::OK) = (body.size_hint().exact(), head.status) {
        head.headers.insert(header::CONTENT_LENGTH, length.into());
    }
    Response::from_parts(head, Body::empty())
}

async fn read(request: Request, next: Next) -> Response {
    let asked = request.headers().get_all(header::IF_NONE_MATCH).iter().cloned().collect::<Vec<_>>();
    let response = next.run(request).await;
    if response.status() != StatusCode::OK {
        return response;
    }
    let (mut head, body) = response.into_parts();
    let Ok(body) = to_bytes(body, MOST).await else { return Fault(ApiError::internal()).into_response() };
    let tag = tag_of(&head, &body);
    let known = asked.iter().any(|value| names(value, Some(&tag)));
    head.headers.insert(header::ETAG, tag);
    if known {
        head.status = StatusCode::NOT_MODIFIED;
        for name in [header::CONTENT_TYPE, header::CONTENT_LENGTH, header::CONTENT_DISPOSITION] {
            head.headers.remove(name);
        }
        return Response::from_parts(head, Body::empty());
    }
    Response::from_parts(head, body.into())
}

/// The tag of an answer.
fn tag_of(head: &http::response::Parts, body: &Bytes) -> HeaderValue {
    head.extensions.get::<Tag>().map_or_else(|| tag(body), |Tag(tag)| tag.clone())
}

fn tag(body: &[u8]) -> HeaderValue {
    let digest = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(body));
    let text = format!("\"{}\"", digest.get(..22).unwrap_or_default());
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("\"\""))
}

/// Whether a list of tags, or `*`, names the current one. A weak tag names nothing, since all of ours are strong.
fn names(list: &HeaderValue, current: Option<&HeaderValue>) -> bool {
    let (Ok(list), Some(current)) = (list.to_str(), current.and_then(|tag| tag.to_str().ok())) else { return false };
    list.trim() == "*" || list.split(',').any(|tag| tag.trim() == current)
}

/// Whether a change may be made, where this is what GET answers (RFC 9110 13.2.2).
fn holds(headers: &HeaderMap, current: Option<&HeaderValue>) -> bool {
    let any = |name: HeaderName| headers.get_all(name).iter().any(|list| names(list, current));
    let (wanted, unwanted) = (headers.contains_key(header::IF_MATCH), headers.contains_key(header::IF_NONE_MATCH));
    (!wanted || any(header::IF_MATCH)) && !(unwanted && any(header::IF_NONE_MATCH))
}

impl Endpoints {
    /// Makes a change if what it depends on holds.
    async fn change(&self, request: Request) -> Result<Response, Fault> {
        let (mut parts, body) = request.into_parts();
        let Caller(who) = Caller::from_request_parts(&mut parts, &self.app).await?;
        let body = to_bytes(body, MAX_BODY_BYTES).await.map_err(|_| too_large())?;
        for _ in 0..TRIES {
            let seen = self.app.audit_sequence(&who).await?;
            let current = match self.current(&parts).await {
                Ok(current) => current,
                Err(refused) => return Ok(refused),
            };
            if !holds(&parts.headers, current.as_ref()) {
                return Ok(refused(current));
            }
            let mut again = Request::from_parts(parts.clone(), Body::from(body.clone()));
            again.extensions_mut().insert(UnchangedSince(seen));
            let answer = self.call(again).await;
            if answer.extensions().get::<ApiError>().is_none_or(|error| error.code != ErrorCode::Changed) {
                return Ok(answer);
            }
        }
        let message = "others change the cluster all the time, so that it was never as it had been looked at";
        Err(ApiError::new(ErrorCode::Unavailable, message).hint("try again").into())
    }

    /// The tag of what GET answers at the same address; nothing where there is nothing. Whoever may not see it gets that answer.
    async fn current(&self, parts: &Parts) -> Result<Option<HeaderValue>, Response> {
        let mut look = parts.clone();
        look.method = Method::GET;
        let answer = self.call(Request::from_parts(look, Body::empty())).await;
        match answer.status() {
            StatusCode::OK => {
                let (head, body) = answer.into_parts();
                let body = to_bytes(body, MOST).await;
                body.map(|body| Some(tag_of(&head, &body))).map_err(|_| Fault(ApiError::internal()).into_response())
            }
            StatusCode::METHOD_NOT_ALLOWED if parts.headers.contains_key(header::IF_MATCH) => Err(unreadable()),
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => Ok(None),
            _ => Err(answer),
        }
    }

    async fn call(&self, request: Request) -> Response {
        match self.plain.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

pub(super) fn too_large() -> Fault {
    let message = format!("the request's body is over the limit of {MAX_BODY_BYTES} bytes, or did not arrive");
    Fault(ApiError::new(ErrorCode::PayloadTooLarge, message))
}

fn unreadable() -> Response {
    let message = "there is no GET at this address, so that nothing there has an ETag that If-Match could name";
    Fault(ApiError::new(ErrorCode::Changed, message)).into_response()
}

fn refused(current: Option<HeaderValue>) -> Response {
    let (message, hint) = match current {
        Some(_) => (
            "it is not as the request wants it (If-Match, If-None-Match)",
            "the answer's ETag says how it is now; GET it",
        ),
        None => {
            ("there is nothing at this address that the request could match (If-Match)", "GET shows what has an ETag")
        }
    };
    let mut response = Fault(ApiError::new(ErrorCode::Changed, message).hint(hint)).into_response();
    response.headers_mut().extend(current.map(|tag| (header::ETAG, tag)));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::model::Function;

    #[test]
    fn a_tag_does_not_depend_on_the_gateway_that_answers() {
        let of = |url: &str, description: &str| {
            let wire = dunlin_proto::v1::Function {
                urls: vec![url.to_owned()],
                description: description.to_owned(),
                ..Default::default()
            };
            let answer = Tagged::without(Function::from(wire), Function::forget_gateway).into_response();
            answer.extensions().get::<Tag>().unwrap().0.clone()
        };
        assert_eq!(of("http://127.0.0.1:8080/shop/pay/", "a"), of("http://127.0.0.1:9080/shop/pay/", "a"));
        assert_ne!(of("http://127.0.0.1:8080/shop/pay/", "a"), of("http://127.0.0.1:8080/shop/pay/", "b"));
    }

    #[test]
    fn a_change_is_made_where_what_it_depends_on_holds() {
        let tag = HeaderValue::from_static("\"a\"");
        for (name, value, exists, expected) in [
            ("if-match", "\"a\"", true, true),
            ("if-match", "\"b\" , \"a\"", true, true),
            ("if-match", "*", true, true),
            ("if-match", "*", false, false),
            ("if-match", "\"a\"", false, false),
            ("if-match", "\"b\"", true, false),
            ("if-match", "W/\"a\"", true, false),
            ("if-match", "a", true, false),
            ("if-match", "", true, false),
            ("if-none-match", "*", false, true),
            ("if-none-match", "*", true, false),
            ("if-none-match", "\"a\"", true, false),
            ("if-none-match", "\"b\"", true, true),
        ] {
            let headers = [(name.parse::<HeaderName>().unwrap(), value.parse().unwrap())].into_iter().collect();
            assert_eq!(holds(&headers, Some(&tag).filter(|_| exists)), expected, "{name}: {value}");
        }
    }
}
