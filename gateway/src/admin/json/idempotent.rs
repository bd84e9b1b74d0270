//! Changes with an `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header): the same key with the same request gets the same
//! answer for a day, at any gateway, and nothing is done twice. The scheduler keeps keys and answers.
//!
//! An attempt holds its key while its request is made, which goes on although the client may leave, and says so beside each of its
//! messages to the scheduler: that notes the key in the transaction of the change. What failed before it changed anything is not
//! kept, so that it can be tried again.

use axum::{
    body::{Body, to_bytes},
    extract::{FromRequestParts, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use dunlin_proto::{
    ApiError, ErrorCode,
    idempotency::{Hold, KeyId},
    ids::{Digest, Namespace, RequestId},
    internal::v1::KeptAnswer,
    v1::HttpHeader,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, request::Parts};

use super::conditional::{Endpoints, changes, too_large};
use crate::{
    admin::{
        MAX_BODY_BYTES,
        app::App,
        fault::{Fault, RequestName, Written},
        session::Caller,
    },
    auth::Principal,
    error,
};

/// The header with the key.
const KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// The header of an answer that was given before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
/// The longest key, in bytes.
const MOST_KEY: usize = 255;
/// Bytes of an answer that is read at the most.
const MOST_ANSWER: usize = 80 << 20;
/// The headers that matter of an answer.
const KEPT: [HeaderName; 4] = [header::CONTENT_TYPE, header::ETAG, header::LOCATION, header::ALLOW];

/// Answers a request with its key in mind, where it has one and is a change.
pub(in crate::admin) async fn check(State(endpoints): State<Endpoints>, request: Request, next: Next) -> Response {
    let keyed = request.headers().contains_key(KEY) && request.uri().path().starts_with(super::BASE);
    if !(changes(request.method()) && keyed) {
        return next.run(request).await;
    }
    once(endpoints.app, request, next).await.unwrap_or_else(IntoResponse::into_response)
}

async fn once(app: App, request: Request, next: Next) -> Result<Response, Fault> {
    let key = key(request.headers())?;
    let (mut parts, body) = request.into_parts();
    let Caller(who) = Caller::from_request_parts(&mut parts, &app).await?;
    let body = to_bytes(body, MAX_BODY_BYTES).await.map_err(|_| too_large())?;
    let Some(namespace) = charged(&parts, &who) else {
        return Ok(next.run(Request::from_parts(parts, body.into())).await);
    };
    let hold = Hold { id: KeyId { scope: scope(&who), key: Digest::of(key.as_bytes()) }, attempt: RequestId::new() };
    if let Some(kept) = app.idempotency_begin(&who, &hold, &asked(&parts, &body), &namespace).await? {
        return Ok(replayed(kept));
    }
    parts.extensions.insert(hold);
    let request = Request::from_parts(parts, body.into());
    let shutdown = app.context().shutdown.clone();
    // A client that leaves must not leave a change half known.
    let made = shutdown.spawn(async move { make(&app, &who, &hold, request, next).await });
    made.await.map_err(|_| Fault(ApiError::internal()))
}

/// Makes the request, and tells the scheduler what came of it.
async fn make(app: &App, who: &Principal, hold: &Hold, request: Request, next: Next) -> Response {
    let id = request.extensions().get::<RequestName>().map(|name| name.0.clone()).unwrap_or_default();
    let answer = next.run(request).await;
    if !is_final(&answer) {
        app.idempotency_end(who, hold, None).await;
        return answer;
    }
    let answer = written(answer, &id);
    let (head, body) = answer.into_parts();
    let Ok(body) = to_bytes(body, MOST_ANSWER).await else {
        app.idempotency_end(who, hold, None).await;
        return Fault(ApiError::internal()).into_response();
    };
    let kept = KeptAnswer { status: head.status.as_u16().into(), headers: kept(&head.headers), body: body.clone() };
    app.idempotency_end(who, hold, Some(kept)).await;
    Response::from_parts(head, body.into())
}

/// Whether an answer is the end of the matter. What says that the caller may not, or not now, leaves the key as it was; so does
/// what the platform failed, and what no endpoint answered.
fn is_final(answer: &Response) -> bool {
    let error = answer.extensions().get::<ApiError>();
    let passes = |error: &ApiError| {
        matches!(error.code, ErrorCode::Unauthenticated | ErrorCode::PermissionDenied) || error.retry_after.is_some()
    };
    match (answer.status().as_u16(), error) {
        (..400, _) => true,
        (408 | 429 | 500.., _) | (_, None) => false,
        (_, Some(error)) => !passes(error),
    }
}

/// An answer with its body, also where it is an error.
fn written(answer: Response, id: &str) -> Response {
    let Some(error) = answer.extensions().get::<ApiError>() else { return answer };
    let mut written = error::response(error, id).map(Body::from);
    written.headers_mut().extend(answer.headers().get(header::ETAG).map(|tag| (header::ETAG, tag.clone())));
    written.extensions_mut().insert(Written);
    written
}

fn kept(headers: &HeaderMap) -> Vec<HttpHeader> {
    let matter = headers.iter().filter(|(name, _)| KEPT.contains(name));
    matter
        .map(|(name, value)| HttpHeader {
            name: name.as_str().to_owned(),
            value: Bytes::copy_from_slice(value.as_bytes()),
        })
        .collect()
}

/// The answer that was given before.
fn replayed(kept: KeptAnswer) -> Response {
    let mut response = Response::new(Body::from(kept.body));
    let status = u16::try_from(kept.status).ok().and_then(|status| StatusCode::from_u16(status).ok());
    *response.status_mut() = status.unwrap_or(StatusCode::OK);
    for HttpHeader { name, value } in kept.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_bytes(&value)) {
            response.headers_mut().append(name, value);
        }
    }
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    response.extensions_mut().insert(Written);
    response
}

/// The key that a request has: a String of Structured Fields (RFC 9651), or the same without quotes.
fn key(headers: &HeaderMap) -> Result<String, ApiError> {
    let mut sent = headers.get_all(KEY).iter();
    let text = sent.next().and_then(|value| value.to_str().ok()).unwrap_or_default();
    let inner = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text);
    let is_key = (1..=MOST_KEY).contains(&inner.len())
        && inner.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\' | b',' | b';'));
    if is_key && sent.next().is_none() {
        return Ok(inner.to_owned());
    }
    let message = format!(
        "Idempotency-Key must be one text of 1 to {MOST_KEY} visible ASCII characters but quotes, backslashes, commas and semicolons"
    );
    Err(ApiError::invalid("Idempotency-Key", message)
        .hint("a new UUID for each new request is best: \"8e03978e-40d5-43e8-bc93-6894a57f9324\""))
}

/// Whose a key is: the token's.
fn scope(who: &Principal) -> Digest {
    parts_digest(&[who.issuer.as_bytes(), who.subject.as_bytes(), who.token_id.as_bytes()])
}

/// What a request asks for.
fn asked(parts: &Parts, body: &Bytes) -> Digest {
    let path = parts.uri.path_and_query().map_or("", |path| path.as_str());
    let header = |name: HeaderName| parts.headers.get(name).map(HeaderValue::as_bytes).unwrap_or_default();
    let (wanted, unwanted) = (header(header::IF_MATCH), header(header::IF_NONE_MATCH));
    parts_digest(&[parts.method.as_str().as_bytes(), path.as_bytes(), wanted, unwanted, body])
}

/// A digest of several texts, none of which can pass for a part of another.
fn parts_digest(parts: &[&[u8]]) -> Digest {
    let mut text = Vec::new();
    for part in parts {
        text.extend_from_slice(&(part.len() as u64).to_be_bytes());
        text.extend_from_slice(part);
    }
    Digest::of(&text)
}

/// The namespace that a key counts for, empty for the cluster; nothing where the caller is nobody there, and will be told so.
fn charged(parts: &Parts, who: &Principal) -> Option<String> {
    let rest = parts.uri.path().strip_prefix(super::BASE).and_then(|rest| rest.strip_prefix("/namespaces/"));
    let Some(name) = rest.and_then(|rest| rest.split('/').next()) else { return Some(String::new()) };
    let namespace: Namespace = name.parse().ok()?;
    who.role_in(&namespace).map(|_| namespace.to_string())
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (KEY, value.parse().unwrap())).collect()
    }

    #[test]
    fn a_key_is_one_text_with_quotes_or_without() {
        let long = "x".repeat(MOST_KEY);
        for (sent, expected) in
            [("\"8e03-97\"", "8e03-97"), ("8e03-97", "8e03-97"), ("a/b:c=", "a/b:c="), (&long, &long)]
        {
            assert_eq!(key(&headers(&[sent])).unwrap(), expected);
        }
        for bad in
            [&[""][..], &["\"\""], &["\"a"], &["a b"], &["a,b"], &["\"a\";p=1"], &["a", "a"], &[&"x".repeat(256)]]
        {
            let refused = key(&headers(bad)).unwrap_err();
            assert_eq!((refused.code, refused.field.as_deref()), (ErrorCode::InvalidArgument, Some("Idempotency-Key")));
        }
    }

    #[test]
    fn only_the_end_of_the_matter_is_kept() {
        let failed = |error: ApiError| Fault(error).into_response();
        let plain = |status: u16| (StatusCode::from_u16(status).unwrap(), "text").into_response();
        let of = |code| failed(ApiError::new(code, "no"));
        for (answer, expected) in [
            (plain(200), true),
            (plain(204), true),
            (plain(404), false),
            (of(ErrorCode::InvalidArgument), true),
            (of(ErrorCode::NotFound), true),
            (of(ErrorCode::Changed), true),
            (of(ErrorCode::AlreadyExists), true),
            (of(ErrorCode::PermissionDenied), false),
            (of(ErrorCode::Unauthenticated), false),
            (of(ErrorCode::TooManyRequests), false),
            (of(ErrorCode::Unavailable), false),
            (of(ErrorCode::Internal), false),
            (
                failed(
                    ApiError::new(ErrorCode::FailedPrecondition, "no").retry_after(std::time::Duration::from_secs(1)),
                ),
                false,
            ),
        ] {
            assert_eq!(is_final(&answer), expected, "{answer:?}");
        }
    }

    #[test]
    fn requests_are_told_apart_by_all_that_they_ask_for() {
        let asked = |method: Method, path: &str, tag: &str, body: &'static str| {
            let request = http::Request::builder().method(method).uri(path).header("if-match", tag).body(()).unwrap();
            super::asked(&request.into_parts().0, &Bytes::from_static(body.as_bytes()))
        };
        let first = asked(Method::PUT, "/a?b", "c", "d");
        assert_eq!(first, asked(Method::PUT, "/a?b", "c", "d"));
        for other in [
            asked(Method::POST, "/a?b", "c", "d"),
            asked(Method::PUT, "/a?bc", "", "d"),
            asked(Method::PUT, "/a?b", "cd", ""),
            asked(Method::PUT, "/a?b", "c", "e"),
        ] {
            assert_ne!(first, other);
        }
    }

    #[test]
    fn an_answer_is_given_again_as_it_was() {
        let error = Fault(ApiError::new(ErrorCode::Changed, "no")).into_response();
        let answer = written(error, "id-1");
        let headers = kept(answer.headers());
        let again = replayed(KeptAnswer { status: 412, headers, body: Bytes::new() });
        assert_eq!(
            (again.status(), answer.status()),
            (StatusCode::PRECONDITION_FAILED, StatusCode::PRECONDITION_FAILED)
        );
        assert_eq!(again.headers()[header::CONTENT_TYPE], "application/json");
        assert_eq!(again.headers()[REPLAYED], "true");
    }
}
