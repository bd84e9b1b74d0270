//! The response on its way out of the guest: its head cleaned, its body counted, limited and without empty frames. Whatever
//! cannot be sent as HTTP is refused here, so that nobody downstream has to trust a guest's framing.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::{Either, select};
use http::header::{self, HeaderMap, HeaderName};
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use wasmtime_wasi_http::Error as HttpError;

use super::call::{ResponseEvent, ResponseSink};
use super::meter::Meter;
use super::outcome::Failure;

/// Most bytes of one `ResponseEvent::Data`.
const MAX_PIECE: usize = 64 << 10;
/// Most fields in a head or in trailers.
const MAX_FIELDS: usize = 512;

/// Fields that belong to one connection (RFC 9110, 7.6.1) or would make a later hop misread the message. `trailer` is neither:
/// it announces what follows the body, and HTTP/1.1 callers get no trailer that was not announced.
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("http2-settings"),
];

/// Fields that must not come as trailers (RFC 9110, 6.5.1).
const NOT_IN_TRAILERS: [HeaderName; 9] = [
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::CONTENT_RANGE,
    header::HOST,
    header::AUTHORIZATION,
    header::SET_COOKIE,
    header::CACHE_CONTROL,
    header::LOCATION,
];

/// Where one response goes, and how far it got.
pub(super) struct Delivery {
    sink: ResponseSink,
    meter: Arc<Meter>,
    method: Method,
    ended: AtomicBool,
    /// Waiting for the caller rather than for the guest.
    sending: AtomicBool,
}

impl Delivery {
    pub(super) fn new(sink: ResponseSink, meter: Arc<Meter>, method: Method) -> Self {
        Self { sink, meter, method, ended: AtomicBool::new(false), sending: AtomicBool::new(false) }
    }

    /// Waits until the caller is gone. Never, once the response is whole.
    pub(super) async fn abandoned(&self) {
        self.sink.closed().await;
        if self.ended.load(Relaxed) {
            std::future::pending::<()>().await;
        }
    }

    /// Delivers a whole response of wasi:http.
    pub(super) async fn respond(
        &self,
        response: http::Response<UnsyncBoxBody<Bytes, HttpError>>,
    ) -> Result<(), Failure> {
        let (parts, mut body) = response.into_parts();
        let mut length = self.head(parts.status, parts.headers).await?;
        let mut frames = 0_u64;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| Failure::InvalidResponse(format!("body broken off: {error}")))?;
            frames += 1;
            if frames > self.meter.limits.response_frames {
                return Err(Failure::InvalidResponse(format!(
                    "more than {} body frames",
                    self.meter.limits.response_frames
                )));
            }
            match frame.into_data() {
                Ok(data) => self.data(&mut length, data).await?,
                Err(frame) => self.trailers(frame.into_trailers().unwrap_or_default()).await?,
            }
        }
        self.end(&length).await
    }

    /// Delivers the head and returns what its body has to be.
    pub(super) async fn head(&self, status: StatusCode, headers: HeaderMap) -> Result<Length, Failure> {
        let (headers, length) = clean_head(status, headers, &self.method, self.meter.limits.response_header_bytes)?;
        self.deliver(ResponseEvent::Head(status, headers)).await?;
        Ok(length)
    }

    /// Delivers body bytes; empty ones are dropped.
    pub(super) async fn data(&self, length: &mut Length, mut data: Bytes) -> Result<(), Failure> {
        if data.is_empty() {
            return Ok(());
        }
        length.add(data.len() as u64)?;
        let limit_bytes = self.meter.limits.response_body_bytes;
        if length.sent > limit_bytes {
            return Err(Failure::ResponseTooLarge { limit_bytes });
        }
        // A response without a body (HEAD, 204, 304) may come from a handler that writes one all the same.
        if length.bodiless {
            return Ok(());
        }
        self.meter.bytes_out.fetch_add(data.len() as u64, Relaxed);
        // A body that a guest passes on from somewhere else comes in pieces of any size.
        while data.len() > MAX_PIECE {
            self.deliver(ResponseEvent::Data(data.split_to(MAX_PIECE))).await?;
        }
        self.deliver(ResponseEvent::Data(data)).await
    }

    async fn trailers(&self, mut trailers: HeaderMap) -> Result<(), Failure> {
        strip_hop_by_hop(&mut trailers);
        for name in NOT_IN_TRAILERS {
            trailers.remove(name);
        }
        check_size(&trailers, self.meter.limits.response_header_bytes, "trailers")?;
        if trailers.is_empty() { Ok(()) } else { self.deliver(ResponseEvent::Trailers(trailers)).await }
    }

    /// Ends the response, if it is as long as its head said.
    pub(super) async fn end(&self, length: &Length) -> Result<(), Failure> {
        length.check_complete()?;
        self.ended.store(true, Relaxed);
        self.deliver(ResponseEvent::End).await
    }

    async fn deliver(&self, event: ResponseEvent) -> Result<(), Failure> {
        self.sending.store(true, Relaxed);
        let delivered = self.sink.deliver(event).await;
        self.sending.store(false, Relaxed);
        if delivered { Ok(()) } else { Err(Failure::Cancelled) }
    }

    /// Runs a guest beside the delivery of its response and returns the first failure. A guest that fails may have written its
    /// whole response before: what it wrote is still delivered, but nothing that it left open passes for complete, so `guest`
    /// must not close its body when it fails.
    pub(super) async fn beside(
        &self,
        guest: impl Future<Output = Result<(), Failure>>,
        deliver: impl Future<Output = Result<(), Failure>>,
    ) -> Result<(), Failure> {
        match select(pin!(guest), pin!(deliver)).await {
            Either::Left((Ok(()), deliver)) => deliver.await,
            Either::Left((Err(failure), mut deliver)) => {
                poll_fn(|cx| self.poll_rest(cx, deliver.as_mut())).await;
                Err(failure)
            }
            Either::Right((Ok(()), guest)) => guest.await,
            Either::Right((Err(failure), _)) => Err(failure),
        }
    }

    /// Delivers what is there already, until the delivery would wait for the guest.
    fn poll_rest(&self, cx: &mut Context<'_>, deliver: Pin<&mut impl Future>) -> Poll<()> {
        match deliver.poll(cx) {
            Poll::Pending if self.sending.load(Relaxed) => Poll::Pending,
            Poll::Pending | Poll::Ready(_) => Poll::Ready(()),
        }
    }
}

/// How long a body is, against how long its head says it is.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Length {
    declared: Option<u64>,
    bodiless: bool,
    sent: u64,
}

impl Length {
    fn add(&mut self, bytes: u64) -> Result<(), Failure> {
        self.sent = self.sent.saturating_add(bytes);
        match self.declared {
            Some(declared) if self.sent > declared && !self.bodiless => Err(self.mismatch(declared)),
            _ => Ok(()),
        }
    }

    /// Whether everything that the head announced was sent.
    pub(super) fn is_satisfied(&self) -> bool {
        self.declared == Some(self.sent) || self.bodiless
    }

    fn check_complete(&self) -> Result<(), Failure> {
        match self.declared {
            Some(declared) if self.sent != declared && !self.bodiless => Err(self.mismatch(declared)),
            _ => Ok(()),
        }
    }

    fn mismatch(&self, declared: u64) -> Failure {
        Failure::InvalidResponse(format!("content-length is {declared}, but the body has {} bytes", self.sent))
    }
}

/// Checks a head and removes what belongs to a connection.
fn clean_head(
    status: StatusCode,
    mut headers: HeaderMap,
    method: &Method,
    max: usize,
) -> Result<(HeaderMap, Length), Failure> {
    if !(200..=599).contains(&status.as_u16()) {
        return Err(Failure::InvalidResponse(format!(
            "status {} cannot be sent, expected 200 to 599",
            status.as_u16()
        )));
    }
    let declared = content_length(&headers)?;
    strip_hop_by_hop(&mut headers);
    check_size(&headers, max, "headers")?;
    let no_content = matches!(status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT);
    if no_content {
        headers.remove(header::CONTENT_LENGTH);
    }
    let bodiless = no_content || status == StatusCode::NOT_MODIFIED || method == Method::HEAD;
    Ok((headers, Length { declared, bodiless, sent: 0 }))
}

/// The one content length of a head (RFC 9110, 8.6), if any.
fn content_length(headers: &HeaderMap) -> Result<Option<u64>, Failure> {
    let mut values = headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(first) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Failure::InvalidResponse("more than one content-length".to_owned()));
    }
    let digits = first.to_str().ok().filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()));
    match digits.and_then(|text| text.parse().ok()) {
        Some(length) => Ok(Some(length)),
        None => Err(Failure::InvalidResponse(format!("content-length {first:?} is not a number"))),
    }
}

/// Removes the fields of one connection, also those that `connection` names.
fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

fn check_size(headers: &HeaderMap, max: usize, what: &str) -> Result<(), Failure> {
    // Four bytes for the colon, the space and the line end.
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if headers.len() > MAX_FIELDS {
        return Err(Failure::InvalidResponse(format!("{} {what}, at most {MAX_FIELDS} are allowed", headers.len())));
    }
    if bytes > max {
        return Err(Failure::InvalidResponse(format!("{what} of {bytes} bytes, at most {max} are allowed")));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
