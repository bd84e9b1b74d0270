//! Compression of answers (RFC 9110 8.4) for callers that accept it, on routes that ask for it.
//!
//! What is left as it is: what is compressed already, is small, streams events, or may not be transformed. An answer without the
//! body that it is about, to HEAD or a 304, says of it what the one with the body says. Which routes ask for it is not known here.

use std::{
    convert::Infallible,
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use dunlin_proto::ApiError;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use tower::ServiceExt;
use tower_http::{
    BoxError,
    compression::{
        Compression, CompressionBody,
        predicate::{NotForContentType, Predicate, SizeAbove},
    },
};

use super::AnswerBody;
use crate::cache::{self, Unsaid};

/// Bytes of an answer that is worth it.
const WORTH_IT: u16 = 256;

/// An answer's body, compressed on its way.
pub(crate) struct Compressed(Pin<Box<CompressionBody<AnswerBody>>>);

/// What a request says of how its answer is encoded.
#[derive(Debug)]
pub(super) struct Wanted {
    head: bool,
    /// The encodings that the caller accepts, and the tags of what it has.
    headers: HeaderMap,
}

impl Wanted {
    pub(super) fn of(method: &Method, headers: &HeaderMap) -> Self {
        let named = [header::ACCEPT_ENCODING, header::IF_NONE_MATCH].into_iter();
        let values =
            named.flat_map(|name| headers.get_all(&name).iter().map(move |value| (name.clone(), value.clone())));
        Self { head: *method == Method::HEAD, headers: values.collect() }
    }
}

/// The answer, compressed where the caller allows it.
///
/// # Errors
/// None that is known.
pub(super) async fn compress(response: Response<AnswerBody>, wanted: Wanted) -> Result<Response<AnswerBody>, ApiError> {
    if response.status() == StatusCode::NOT_MODIFIED {
        return not_modified(response, wanted).await;
    }
    if wanted.head {
        return bodiless(response, wanted).await;
    }
    let response = encoded(response, wanted.headers).await?;
    Ok(response.map(|body| AnswerBody::Compressed(Compressed(Box::pin(body)))))
}

async fn encoded<B: Body>(
    response: Response<B>,
    accepted: HeaderMap,
) -> Result<Response<CompressionBody<B>>, ApiError> {
    let was_encoded = response.headers().contains_key(header::CONTENT_ENCODING);
    let mut once = Some(response);
    let service =
        tower::service_fn(move |_: Request<()>| std::future::ready(once.take().ok_or_else(ApiError::internal)));
    let mut request = Request::new(());
    *request.headers_mut() = accepted;
    let mut response = Compression::new(service).compress_when(worth_it()).oneshot(request).await?;
    if !was_encoded && response.headers().contains_key(header::CONTENT_ENCODING) {
        weaken(response.headers_mut());
    }
    Ok(response)
}

/// The answer to HEAD, with the headers that GET's would have (RFC 9110 9.3.2).
async fn bodiless(response: Response<AnswerBody>, wanted: Wanted) -> Result<Response<AnswerBody>, ApiError> {
    let (mut head, body) = response.into_parts();
    // Whoever writes the head would take the length of what the platform has here for that of the compressed answer.
    if let Some(length) = body.size_hint().exact().filter(|length| *length > 0) {
        head.headers.entry(header::CONTENT_LENGTH).or_insert(length.into());
    }
    let whole = Absent::of(head.status, std::mem::take(&mut head.headers));
    head.headers = encoded(whole, wanted.headers).await?.into_parts().0.headers;
    let body = if matches!(body, AnswerBody::Own(_)) { AnswerBody::Own(Full::default()) } else { body };
    Ok(Response::from_parts(head, body))
}

/// A 304 with the tag and the `Vary` that the whole answer to the same request would have (RFC 9110 15.4.5).
async fn not_modified(response: Response<AnswerBody>, wanted: Wanted) -> Result<Response<AnswerBody>, ApiError> {
    let (mut head, body) = response.into_parts();
    let unsaid = head.extensions.remove::<Unsaid>();
    let is_guess = unsaid.is_none();
    let mut headers = head.headers.clone();
    headers.extend(unsaid.map(|unsaid| unsaid.0).unwrap_or_default());
    // What a function itself says this of is known to its caller, who got it with a tag of either kind.
    let has_plain = is_guess && headers.get(header::ETAG).is_some_and(|own| cache::names(&wanted.headers, own));
    let whole = encoded(Absent::of(StatusCode::OK, headers), wanted.headers).await?.into_parts().0.headers;
    let told: &[_] = if has_plain { &[header::VARY] } else { &[header::VARY, header::ETAG] };
    for name in told {
        head.headers.remove(name);
        for value in whole.get_all(name) {
            head.headers.append(name, value.clone());
        }
    }
    Ok(Response::from_parts(head, body))
}

/// A body that is not there: of the length that the headers say, or of one that nobody knows.
struct Absent(Option<u64>);

impl Absent {
    fn of(status: StatusCode, headers: HeaderMap) -> Response<Self> {
        let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let mut response = Response::new(Self(length));
        (*response.status_mut(), *response.headers_mut()) = (status, headers);
        response
    }
}

impl Body for Absent {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(None)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
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
    use http_body_util::BodyExt;

    use super::*;

    /// What becomes of 1,000 times the letter `a` with these headers: its headers and its length.
    async fn sent(accept: &str, fields: &[(&'static str, &'static str)], length: usize) -> (HeaderMap, usize) {
        let mut response = Response::new(AnswerBody::Own(Full::new(Bytes::from(vec![b'a'; length]))));
        for (name, value) in fields {
            response.headers_mut().insert(*name, value.parse().unwrap());
        }
        let wanted = wanted(&Method::GET, &[("accept-encoding", accept)]);
        let (head, body) = compress(response, wanted).await.unwrap().into_parts();
        (head.headers, body.collect().await.unwrap().to_bytes().len())
    }

    fn map(fields: &[(&'static str, &str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    fn wanted(method: &Method, fields: &[(&'static str, &str)]) -> Wanted {
        Wanted::of(method, &map(fields))
    }

    /// The headers of an answer without a body.
    async fn told(mut response: Response<Bytes>, wanted: Wanted, fields: &[(&'static str, &str)]) -> HeaderMap {
        response.headers_mut().extend(map(fields));
        let response = response.map(|body| AnswerBody::Own(Full::new(body)));
        compress(response, wanted).await.unwrap().into_parts().0.headers
    }

    #[tokio::test]
    async fn head_has_the_headers_of_get() {
        let head = |accept, length| {
            let wanted = wanted(&Method::HEAD, &[("accept-encoding", accept)]);
            async move { told(Response::default(), wanted, &[("etag", "\"x\""), ("content-length", length)]).await }
        };
        for accept in ["gzip", "identity"] {
            let (get, _) = sent(accept, &[("etag", "\"x\""), ("content-length", "1000")], 1000).await;
            assert_eq!(head(accept, "1000").await, get, "{accept}");
        }
        assert_eq!(head("gzip", "255").await, map(&[("etag", "\"x\""), ("content-length", "255")]));
        let unknown = told(Response::default(), wanted(&Method::HEAD, &[("accept-encoding", "br")]), &[]).await;
        assert_eq!(unknown, map(&[("vary", "accept-encoding"), ("content-encoding", "br")]));
    }

    #[tokio::test]
    async fn a_304_has_the_tag_and_the_vary_of_the_whole_answer() {
        let whole = [("content-type", "text/plain"), ("content-length", "1000"), ("etag", "\"x\""), ("vary", "origin")];
        let image = [("content-type", "image/png"), ("content-length", "1000"), ("etag", "\"x\"")];
        let (plain, weak) = (("etag", "\"x\""), ("etag", "W/\"x\""));
        let (origin, accept) = (("vary", "origin"), ("vary", "accept-encoding"));
        for (encoding, stored, expected) in [
            ("gzip", &whole[..], &[origin, accept, weak][..]),
            ("identity", &whole, &[origin, accept, plain]),
            ("gzip", &image, &[plain]),
        ] {
            for method in [Method::GET, Method::HEAD] {
                let wanted = wanted(&method, &[("accept-encoding", encoding), ("if-none-match", "\"x\"")]);
                let known = cache::not_modified(map(stored));
                assert_eq!(told(known, wanted, &[]).await, map(expected), "{encoding} {stored:?}");
            }
        }
    }

    #[tokio::test]
    async fn a_304_of_a_function_has_the_tag_that_its_caller_knows() {
        for (encoding, known, tag) in [
            ("gzip", "W/\"x\"", "W/\"x\""),
            ("gzip", "\"a\", \"x\"", "\"x\""),
            ("gzip", "*", "W/\"x\""),
            ("identity", "W/\"x\"", "\"x\""),
        ] {
            let mut response = Response::default();
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            let wanted = wanted(&Method::GET, &[("accept-encoding", encoding), ("if-none-match", known)]);
            let headers = told(response, wanted, &[("etag", "\"x\"")]).await;
            assert_eq!(headers, map(&[("etag", tag), ("vary", "accept-encoding")]), "{encoding} {known}");
        }
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
