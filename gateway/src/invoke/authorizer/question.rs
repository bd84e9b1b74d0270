//! What an authorizer is asked: `POST /` with JSON that has all of a request but its body.

use std::collections::BTreeMap;

use bytes::Bytes;
use dunlin_proto::ApiError;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, header};
use serde::Serialize;

use super::{
    super::{headers, trace},
    Asking,
};
use crate::dispatch::RequestBody;

/// Says to the function for which route it is asked. No caller can send it.
const ROUTE: HeaderName = HeaderName::from_static("dunlin-authorizer-route");

/// A request, as its authorizer sees it.
#[derive(Serialize)]
struct Question<'a> {
    /// The credential; that of a query is decoded.
    credential: &'a str,
    /// The route's bare name.
    route: &'a str,
    method: &'a str,
    scheme: &'a str,
    host: &'a str,
    /// Path and query, as the caller wrote them.
    path: &'a str,
    query: &'a str,
    /// By their names in lower case; several values of one name with commas between, cookies with semicolons.
    headers: BTreeMap<&'a str, String>,
    source_ip: String,
    request_id: String,
}

/// The request for the function.
pub(super) fn request(asking: &Asking<'_>, credential: &str) -> Result<Request<RequestBody>, ApiError> {
    let Asking { parts, origin, authority, id, .. } = asking;
    let trace = trace::parent(&parts.headers, rand::random());
    let passed = headers::to_function(parts.headers.clone(), &[], *origin, authority, *id, &trace);
    let question = Question {
        credential,
        route: asking.rule.name.route.as_str(),
        method: parts.method.as_str(),
        scheme: origin.scheme,
        host: authority,
        path: parts.uri.path(),
        query: parts.uri.query().unwrap_or_default(),
        headers: joined(&passed),
        source_ip: origin.address.to_string(),
        request_id: id.to_string(),
    };
    let body = serde_json::to_vec(&question).map_err(|_| ApiError::internal())?;
    let mut request = Request::new(RequestBody::whole(Bytes::from(body)));
    (*request.method_mut(), *request.uri_mut()) = (Method::POST, Uri::from_static("/"));
    let headers = request.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    for (name, text) in [
        (header::HOST, *authority),
        (HeaderName::from_static("traceparent"), &*trace.parent),
        (ROUTE, asking.rule.name.route.as_str()),
    ] {
        headers.insert(name, HeaderValue::from_str(text).map_err(|_| ApiError::internal())?);
    }
    Ok(request)
}

fn joined(headers: &HeaderMap) -> BTreeMap<&str, String> {
    let mut joined = BTreeMap::<&str, String>::new();
    for (name, value) in headers {
        let text = String::from_utf8_lossy(value.as_bytes());
        let between = if *name == header::COOKIE { "; " } else { ", " };
        let known = joined.entry(name.as_str()).or_default();
        if !known.is_empty() {
            known.push_str(between);
        }
        known.push_str(&text);
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_values_of_a_name_are_one_text() {
        let mut headers = HeaderMap::new();
        for (name, value) in [("a", "1"), ("a", "2"), ("cookie", "x=y"), ("cookie", "z=w")] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let expected = BTreeMap::from([("a", "1, 2".to_owned()), ("cookie", "x=y; z=w".to_owned())]);
        assert_eq!(joined(&headers), expected);
    }
}
