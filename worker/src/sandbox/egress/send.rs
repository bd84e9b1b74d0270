//! One outbound request over HTTP/1.1: rebuilt from its parts, never forwarded as the guest framed it. No redirect is followed
//! and nothing is decompressed; the guest sees what the server sent, up to the limits.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::future::{Either, select};
use http::header::{self, HeaderValue};
use http::uri::{PathAndQuery, Uri};
use http::{Method, Request, Response, Version};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;
use wasmtime_wasi_http::{DEFAULT_FORBIDDEN_HEADERS, Error, RequestOptions, WasiBody};

use super::connect::Egress;
use super::{DEPTH, Sent};

/// Most bytes of a response's head.
const MAX_HEAD_BYTES: usize = 64 << 10;
/// Most fields of a response's head.
const MAX_FIELDS: usize = 128;
/// Most frames of a response body that have nothing in them.
const MAX_EMPTY_FRAMES: u32 = 10_000;
/// Least time that a guest can ask for; zero would never connect.
const MIN_TIMEOUT: Duration = Duration::from_millis(1);

/// Where a request goes, after its URI was taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) https: bool,
    /// Lower case, without brackets and without a final dot.
    pub(super) host: String,
    pub(super) port: u16,
    /// The request target in origin form; begins with a slash.
    path: PathAndQuery,
}

impl Target {
    /// Checks the URI of a request: http or https, a host, no user, a path that cannot be read as another host.
    pub(super) fn of<B>(request: &Request<B>) -> Result<Self, Error> {
        let uri = request.uri();
        let https = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(Error::HttpProtocolError),
        };
        if request.method() == Method::CONNECT {
            return Err(Error::HttpRequestMethodInvalid);
        }
        let authority = uri
            .authority()
            .filter(|authority| !authority.as_str().contains('@'))
            .ok_or(Error::HttpRequestUriInvalid)?;
        let port = match authority.as_str().rsplit_once(']').map_or(authority.as_str(), |(_, port)| port).contains(':')
        {
            true => authority.port_u16().filter(|port| *port != 0).ok_or(Error::HttpRequestUriInvalid)?,
            false => {
                if https {
                    443
                } else {
                    80
                }
            }
        };
        let host = authority.host().trim_matches(['[', ']']).to_ascii_lowercase();
        let host = host.strip_suffix('.').unwrap_or(&host).to_owned();
        if host.is_empty() {
            return Err(Error::HttpRequestUriInvalid);
        }
        Ok(Self { https, host, port, path: origin_form(uri)? })
    }

    /// The `host` field for this target.
    fn host_field(&self) -> Result<HeaderValue, Error> {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let default = if self.https { 443 } else { 80 };
        let field = if self.port == default { host } else { format!("{host}:{}", self.port) };
        HeaderValue::from_str(&field).map_err(|_| Error::HttpRequestUriInvalid)
    }
}

fn origin_form(uri: &Uri) -> Result<PathAndQuery, Error> {
    let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let path = if path.starts_with('?') { format!("/{path}") } else { path.to_owned() };
    if !path.starts_with('/') {
        return Err(Error::HttpRequestUriInvalid);
    }
    path.parse().map_err(|_| Error::HttpRequestUriInvalid)
}

/// A request that may be sent, with all that sending it takes.
pub(super) struct Outgoing {
    pub(super) egress: Arc<Egress>,
    pub(super) gate: Arc<Semaphore>,
    pub(super) max_response_bytes: u64,
    pub(super) options: RequestOptions,
    pub(super) depth: u32,
    pub(super) target: Target,
}

impl Outgoing {
    /// Sends the request and returns the response, with the future that moves its body.
    pub(super) async fn send(self, request: Request<WasiBody>) -> Sent {
        // More than the allowed number wait for their turn; the deadline of the invocation bounds that.
        let permit = self.gate.clone().acquire_owned().await.map_err(|_| Error::ConnectionLimitReached)?;
        let config = &self.egress.config;
        let connect_timeout = clamp(self.options.connect_timeout, config.connect_timeout);
        let first_byte = clamp(self.options.first_byte_timeout, config.first_byte_timeout);
        let between = clamp(self.options.between_bytes_timeout, config.between_bytes_timeout);
        let request = self.rebuild(request).await?;
        let connection = self.egress.connect(&self.target, connect_timeout).await?;
        let (mut sender, connection) = http1::Builder::new()
            .max_headers(MAX_FIELDS)
            .max_buf_size(MAX_HEAD_BYTES)
            .handshake(TokioIo::new(connection))
            .await
            .map_err(Error::Hyper)?;
        let (answer, mut connection) = (Box::pin(sender.send_request(request)), Box::pin(connection));
        let answer = async {
            match select(answer, &mut connection).await {
                Either::Left((answer, _)) => answer.map(|response| (response, true)),
                // A server that closes at once may have answered before.
                Either::Right((_, answer)) => answer.await.map(|response| (response, false)),
            }
        };
        let timely = tokio::time::timeout(first_byte, answer).await.map_err(|_| Error::ConnectionReadTimeout)?;
        let (response, open) = timely.map_err(Error::Hyper)?;
        let limits =
            ResponseLimits { left: self.max_response_bytes, empty_left: MAX_EMPTY_FRAMES, between, _permit: permit };
        let response = clean(response).map(|body| LimitedBody { body, limits, timer: None }.boxed_unsync());
        let io = async move { if open { connection.await.map_err(Error::Hyper) } else { Ok(()) } };
        Ok((response, Box::new(io)))
    }

    /// The request as it goes on the wire. Only method, path, end-to-end fields and body are the guest's.
    async fn rebuild(&self, request: Request<WasiBody>) -> Result<Request<WasiBody>, Error> {
        let (mut parts, body) = request.into_parts();
        for name in &DEFAULT_FORBIDDEN_HEADERS {
            parts.headers.remove(name);
        }
        parts.headers.insert(header::HOST, self.target.host_field()?);
        parts.headers.insert(DEPTH, HeaderValue::from(self.depth));
        parts.version = Version::HTTP_11;
        parts.uri = self.target.path.clone().into();
        let body = match parts.method {
            Method::GET | Method::HEAD => peeked(body).await?,
            _ => without_empty_frames(body),
        };
        Ok(Request::from_parts(parts, body))
    }
}

/// Waits for the first frame, so that a request without a body is sent as one and not as a chunked body of nothing, which many
/// servers refuse for GET.
async fn peeked(mut body: WasiBody) -> Result<WasiBody, Error> {
    loop {
        let Some(frame) = body.frame().await else {
            return Ok(Empty::new().map_err(|never| match never {}).boxed_unsync());
        };
        let frame = frame?;
        if frame.data_ref().is_none_or(|data| !data.is_empty()) {
            let first = StreamBody::new(futures::stream::iter([Ok(frame)]));
            return Ok(Chained { first: Some(first.boxed_unsync()), rest: without_empty_frames(body) }.boxed_unsync());
        }
    }
}

fn without_empty_frames(body: WasiBody) -> WasiBody {
    NonEmpty(body).boxed_unsync()
}

/// A body without its empty frames, which HTTP/2 and the engine have both counted as free in the past.
struct NonEmpty(WasiBody);

impl Body for NonEmpty {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        loop {
            let frame = ready!(Pin::new(&mut self.0).poll_frame(cx));
            match &frame {
                Some(Ok(frame)) if frame.data_ref().is_some_and(Bytes::is_empty) => {}
                _ => return Poll::Ready(frame),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

/// One body after another.
struct Chained {
    first: Option<WasiBody>,
    rest: WasiBody,
}

impl Body for Chained {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Some(first) = &mut self.first {
            if let Some(frame) = ready!(Pin::new(first).poll_frame(cx)) {
                return Poll::Ready(Some(frame));
            }
            self.first = None;
        }
        Pin::new(&mut self.rest).poll_frame(cx)
    }
}

/// Removes what belonged to the connection.
fn clean<B>(mut response: Response<B>) -> Response<B> {
    for name in &DEFAULT_FORBIDDEN_HEADERS {
        response.headers_mut().remove(name);
    }
    response
}

/// A guest's timeout within the operator's.
fn clamp(wanted: Option<Duration>, most: Duration) -> Duration {
    wanted.unwrap_or(most).clamp(MIN_TIMEOUT.min(most), most)
}

/// What is left of a response body's limits. Holds the request's place among the concurrent ones until the body is gone.
struct ResponseLimits {
    left: u64,
    empty_left: u32,
    between: Duration,
    _permit: OwnedSemaphorePermit,
}

/// A response body that ends with an error when it is too long or too slow.
struct LimitedBody<B> {
    body: B,
    limits: ResponseLimits,
    timer: Option<Pin<Box<Sleep>>>,
}

impl<B> LimitedBody<B> {
    fn count(&mut self, frame: &Frame<Bytes>) -> Result<bool, Error> {
        let Some(data) = frame.data_ref() else { return Ok(true) };
        if data.is_empty() {
            self.limits.empty_left = self.limits.empty_left.checked_sub(1).ok_or(Error::HttpProtocolError)?;
            return Ok(false);
        }
        self.limits.left = self.limits.left.checked_sub(data.len() as u64).ok_or(Error::HttpResponseBodySize(None))?;
        Ok(true)
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let between = self.limits.between;
        self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(between))).as_mut().poll(cx)
    }
}

impl<B: Body<Data = Bytes, Error = hyper::Error> + Unpin> Body for LimitedBody<B> {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        loop {
            let frame = match Pin::new(&mut this.body).poll_frame(cx) {
                Poll::Ready(Some(frame)) => frame.map_err(Error::Hyper),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return this.poll_timer(cx).map(|()| Some(Err(Error::ConnectionReadTimeout))),
            };
            this.timer = None;
            match frame.and_then(|frame| Ok((this.count(&frame)?, frame))) {
                Ok((false, _)) => {}
                Ok((true, frame)) => return Poll::Ready(Some(Ok(frame))),
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
