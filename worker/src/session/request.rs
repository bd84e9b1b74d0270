//! The beginning of an invocation, checked: what to run, how long, for which request. Pure.

use std::time::Duration;

use dunlin_proto::{
    ApiError, fields,
    ids::{InvocationId, VersionKey},
    internal::v1::{Begin, Header},
    model::from_wire_duration,
};
use http::{HeaderMap, Method, Request, Uri};

use super::Fault;
use crate::sandbox::Origin;

/// No invocation has longer, whatever a gateway says.
const LONGEST: Duration = Duration::from_secs(3600);
/// The longest id of a caller's that is kept for the logs.
const MAX_REQUEST_ID: usize = 128;

/// An invocation to run.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) id: InvocationId,
    pub(super) version: VersionKey,
    pub(super) time_left: Duration,
    pub(super) request_id: String,
    pub(super) request: Request<()>,
}

impl TryFrom<Begin> for Order {
    type Error = ApiError;

    fn try_from(begin: Begin) -> Result<Self, ApiError> {
        let id = InvocationId::from_slice(&begin.id).map_err(|error| ApiError::invalid("id", error))?;
        let version = begin.version.as_ref().ok_or_else(|| ApiError::invalid("version", "version is missing"))?;
        let mut request = Request::new(());
        *request.method_mut() =
            Method::from_bytes(begin.method.as_bytes()).map_err(|e| ApiError::invalid("method", e))?;
        let uri = Uri::builder().scheme(begin.scheme.as_str()).authority(begin.authority.as_str());
        let uri = uri.path_and_query(begin.path_and_query.as_str()).build();
        *request.uri_mut() = uri.map_err(|error| ApiError::invalid("path_and_query", error))?;
        *request.headers_mut() = headers(begin.headers).map_err(|error| ApiError::invalid("headers", error))?;
        request.extensions_mut().insert(Origin { remote_address: begin.remote_address, base_path: begin.base_path });
        Ok(Self {
            id,
            version: version.try_into()?,
            time_left: from_wire_duration(begin.time_left).min(LONGEST),
            request_id: begin.request_id.chars().filter(char::is_ascii_graphic).take(MAX_REQUEST_ID).collect(),
            request,
        })
    }
}

/// Trailers of a request's body.
pub(super) fn trailers(wire: Vec<Header>) -> Result<HeaderMap, Fault> {
    headers(wire).map_err(|error| Fault::new(format!("trailers: {error}")))
}

fn headers(wire: Vec<Header>) -> Result<HeaderMap, http::Error> {
    let mut headers = HeaderMap::with_capacity(wire.len());
    for header in wire {
        let (name, value) = fields::from_wire(header)?;
        headers.try_append(name, value).map_err(http::Error::from)?;
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use dunlin_proto::internal::v1::VersionRef;

    use super::*;

    fn begin() -> Begin {
        Begin {
            id: Bytes::copy_from_slice(InvocationId::new().uuid().as_bytes()),
            version: Some(VersionRef { function_uid: "0198c5b2-7a43-7000-8000-3f1f6d1c1a2b".into(), number: 3 }),
            time_left: Some(prost_types::Duration { seconds: 5, nanos: 0 }),
            method: "POST".into(),
            scheme: "https".into(),
            authority: "shop.example:8443".into(),
            path_and_query: "/a/b?c=d".into(),
            headers: vec![Header { name: "x-a".into(), value: Bytes::from_static(b"\xffb") }],
            base_path: "/shop/checkout".into(),
            ..Begin::default()
        }
    }

    #[test]
    fn a_request_arrives_as_the_caller_sent_it() {
        let order = Order::try_from(begin()).unwrap();
        assert_eq!(order.request.uri().to_string(), "https://shop.example:8443/a/b?c=d");
        assert_eq!((order.request.method(), order.time_left), (&Method::POST, Duration::from_secs(5)));
        assert_eq!(order.request.headers()["x-a"].as_bytes(), b"\xffb");
        assert_eq!(order.request.extensions().get::<Origin>().unwrap().base_path, "/shop/checkout");
    }

    #[test]
    fn what_is_wrong_is_named() {
        type Change = fn(&mut Begin);
        let cases: [(&str, Change); 8] = [
            ("id", |b| b.id = Bytes::from_static(b"short")),
            ("version", |b| b.version = None),
            ("version.number", |b| b.version = b.version.take().map(|v| VersionRef { number: 0, ..v })),
            ("method", |b| b.method = "P OST".into()),
            ("path_and_query", |b| b.authority = "a b".into()),
            ("path_and_query", |b| b.path_and_query = "/\0".into()),
            ("headers", |b| b.headers = vec![Header { name: "a b".into(), value: Bytes::new() }]),
            ("headers", |b| b.headers = vec![Header { name: "a".into(), value: Bytes::from_static(b"\r\n") }]),
        ];
        for (field, change) in cases {
            let mut wrong = begin();
            change(&mut wrong);
            assert_eq!(Order::try_from(wrong).unwrap_err().field.as_deref(), Some(field));
        }
    }

    #[test]
    fn what_a_caller_writes_into_the_log_is_short_and_plain() {
        let order = Order::try_from(Begin { request_id: format!("a\n{}", "b".repeat(500)), ..begin() }).unwrap();
        assert_eq!(order.request_id.len(), 128);
        assert!(!order.request_id.contains('\n'));
    }
}
