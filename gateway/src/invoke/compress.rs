//! Compression of answers (RFC 9110 8.4) for callers that accept it, on routes that ask for it.
//!
//! What is left as it is: what is compressed already, is small, streams events, or may not be transformed. Which routes ask
//! for it is not known here.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use dunlin_proto::ApiError;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version, header};
use http_body::{Body, Frame, SizeHint};
use tower::ServiceExt;
use tower_http::{
    BoxError,
    compression::{
        Compression, CompressionBody,
        predicate::{NotForContentType, Predicate, SizeAbove},
    },
};

use super::AnswerBody;

/// Bytes of an answer that is worth it.
const WORTH_IT: u16 = 256;

/// An answer's body, compressed on its way.
pub(crate) struct Compressed(Pin<Box<CompressionBody<AnswerBody>>>);

/// What a caller says of the encodings that it accepts.
pub(super) fn accepted(headers: &HeaderMap) -> HeaderMap {
    let values = headers.get_all(header::ACCEPT_ENCODING).iter().cloned();
    values.map(|value| (header::ACCEPT_ENCODING, value)).collect()
}

/// The answer, compressed where `accepted` allows it.
///
/// # Errors
/// None that is known.
pub(super) async fn compress(
    response: Response<AnswerBody>,
    accepted: HeaderMap,
) -> Result<Response<AnswerBody>, ApiError> {
    let was_encoded = response.headers().contains_key(header::CONTENT_ENCODING);
    let mut once = Some(response);
    let service =
        tower::service_fn(move |_: Request<()>| std::future::ready(once.take().ok_or_else(ApiError::internal)));
    let mut request = Request::new(());
    *request.headers_mut() = accepted;
    let response = Compression::new(service).compress_when(worth_it()).oneshot(request).await?;
    let mut response = response.map(|body| AnswerBody::Compressed(Compressed(Box::pin(body))));
    if !was_encoded && response.headers().contains_key(header::CONTENT_ENCODING) {
        weaken(response.headers_mut());
    }
    Ok(response)
}

fn worth_it() -> impl Predicate {
    SizeAbove::new(WORTH_IT)
        .and(NotForContentType::GRPC)
        .and(NotForContentType::IMAGES)
        .and(NotForContentType::SSE)
        .and(NotForContentType::const_new("audio/"))
        .and(NotForContentType::const_new("video/"))
        .and(NotForContentType::const_new("font/"))
        .and(may_transform)
}

/// Whether an answer has a body that may be changed on its way (RFC 9111 5.2.2.6).
fn may_transform(status: StatusCode, _: Version, headers: &HeaderMap, _: &http::Extensions) -> bool {
    let directives = headers.get_all(header::CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let forbidden = directives.flat_map(|value| value.split(',')).any(|one| one.trim() == "no-transform");
    !forbidden && status != StatusCode::NO_CONTENT && status != StatusCode::NOT_MODIFIED
}

/// The compressed answer is the same, but not byte for byte (RFC 9110 8.8.1).
fn weaken(headers: &mut HeaderMap) {
    let Some(tag) = headers.get(header::ETAG).and_then(|tag| tag.to_str().ok()) else { return };
    if !tag.starts_with("W/")
        && let Ok(weak) = HeaderValue::from_str(&format!("W/{tag}"))
    {
        headers.insert(header::ETAG, weak);
    }
}

impl fmt::Debug for Compressed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Compressed").finish_non_exhaustive()
    }
}

impl Body for Compressed {
    type Data = Bytes;
    type Error = ApiError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ApiError>>> {
        // What ends it before its end is what ended the body that is compressed.
        let cause =
            |error: BoxError| error.downcast::<ApiError>().map_or_else(|_| ApiError::internal(), |error| *error);
        self.0.as_mut().poll_frame(context).map_err(cause)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Full};

    use super::*;

    /// What becomes of 1,000 times the letter `a` with these headers: its headers and its length.
    async fn sent(accept: &str, fields: &[(&'static str, &'static str)], length: usize) -> (HeaderMap, usize) {
        let mut response = Response::new(AnswerBody::Own(Full::new(Bytes::from(vec![b'a'; length]))));
        for (name, value) in fields {
            response.headers_mut().insert(*name, value.parse().unwrap());
        }
        let mut request = HeaderMap::new();
        request.insert("accept-encoding", accept.parse().unwrap());
        let (head, body) = compress(response, accepted(&request)).await.unwrap().into_parts();
        (head.headers, body.collect().await.unwrap().to_bytes().len())
    }

    #[tokio::test]
    async fn what_the_caller_accepts_decides() {
        for (accept, encoding) in [("gzip", "gzip"), ("br, gzip;q=0.5", "br"), ("gzip, br;q=0", "gzip")] {
            let (headers, length) = sent(accept, &[("etag", "\"x\""), ("content-length", "1000")], 1000).await;
            assert!(headers["content-encoding"] == encoding && headers["vary"] == "accept-encoding", "{accept}");
            assert!(headers["etag"] == "W/\"x\"" && length < 100 && !headers.contains_key("content-length"));
        }
        for accept in ["identity", "", "zstd", "gzip;q=0"] {
            let (headers, length) = sent(accept, &[("etag", "\"x\"")], 1000).await;
            assert!(!headers.contains_key("content-encoding") && length == 1000, "{accept}");
            assert!(headers["etag"] == "\"x\"" && headers["vary"] == "accept-encoding", "caches are told all the same");
        }
    }

    #[tokio::test]
    async fn what_is_not_worth_it_or_may_not_be_changed_is_left_alone() {
        let cases: [&[_]; 7] = [
            &[("content-type", "image/png")],
            &[("content-type", "video/mp4")],
            &[("content-type", "text/event-stream")],
            &[("content-type", "application/grpc")],
            &[("content-encoding", "zstd")],
            &[("content-range", "bytes 0-999/2000")],
            &[("cache-control", "max-age=5, no-transform")],
        ];
        for fields in cases {
            let (headers, length) = sent("gzip, br", fields, 1000).await;
            assert!(length == 1000 && !headers.contains_key("vary"), "{fields:?}");
        }
        assert_eq!(sent("gzip", &[], 255).await.1, 255);
    }
}
