//! One call as the sandbox sees it: the request and its body, where response events go, where log lines go. Bounded
//! channels, and a sink that never waits; the session (another module) holds the other ends and speaks gRPC there.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::SystemTime;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Where a request came from and which part of its path led here; an extension of the guest's request, for whoever wants
/// to tell it (`SCRIPT_NAME` and `REMOTE_ADDR` of RFC 3875).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The caller's address without its port; may be empty.
    pub remote_address: String,
    /// The part of the caller's path that led to the function; may be empty.
    pub base_path: String,
}

/// One invocation, ready to run.
#[derive(Debug)]
pub struct Call {
    /// The platform's own id of the invocation.
    pub id: uuid::Uuid,
    /// When the whole invocation must be over; the version's wall limit may end it earlier.
    pub deadline: tokio::time::Instant,
    /// The request as the guest shall see it. Needs an authority, in the URI or as `host`. Header values reach the guest as they are.
    pub request: http::Request<RequestBody>,
    /// Where the response goes. A dropped receiver cancels the guest.
    pub response: ResponseSink,
    /// Where stdout and stderr go.
    pub logs: LogSink,
    /// Ends the guest within about 10 ms.
    pub cancel: CancellationToken,
}

/// The sender was dropped before the body ended: the caller went away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("request body broken off")]
pub struct BodyBrokenOff;

/// A frame of a request body: data, or trailers as the last one.
#[derive(Debug)]
pub enum RequestFrame {
    /// Data; empty data is skipped.
    Data(Bytes),
    /// Trailers; the body ends after them.
    Trailers(HeaderMap),
    /// The body ends here. A channel that closes without it means that the caller broke off.
    End,
}

/// A request body that the session feeds.
#[derive(Debug)]
pub struct RequestBody(BodyState);

#[derive(Debug)]
enum BodyState {
    Done,
    Whole(Bytes),
    Channel(mpsc::Receiver<RequestFrame>),
}

impl RequestBody {
    /// A body with nothing in it.
    pub fn empty() -> Self {
        Self(BodyState::Done)
    }

    /// A body that is here already, as most are: no channel, no copy.
    pub fn full(bytes: Bytes) -> Self {
        if bytes.is_empty() { Self::empty() } else { Self(BodyState::Whole(bytes)) }
    }

    /// A body that comes in pieces, at most `capacity` of them waiting.
    pub fn channel(capacity: usize) -> (mpsc::Sender<RequestFrame>, Self) {
        let (sender, receiver) = mpsc::channel(capacity.max(1));
        (sender, Self(BodyState::Channel(receiver)))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyBrokenOff;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyBrokenOff>>> {
        loop {
            let receiver = match &mut self.0 {
                BodyState::Done => return Poll::Ready(None),
                BodyState::Whole(bytes) => {
                    let bytes = std::mem::take(bytes);
                    self.0 = BodyState::Done;
                    return Poll::Ready(Some(Ok(Frame::data(bytes))));
                }
                BodyState::Channel(receiver) => receiver,
            };
            let frame = std::task::ready!(receiver.poll_recv(cx));
            match frame {
                // An empty frame would count as "ready but nothing to read" in the guest's stream.
                Some(RequestFrame::Data(bytes)) if bytes.is_empty() => {}
                Some(RequestFrame::Data(bytes)) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
                Some(RequestFrame::Trailers(trailers)) => {
                    self.0 = BodyState::Done;
                    return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                }
                Some(RequestFrame::End) => self.0 = BodyState::Done,
                None => {
                    self.0 = BodyState::Done;
                    return Poll::Ready(Some(Err(BodyBrokenOff)));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.0, BodyState::Done)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            BodyState::Done => SizeHint::with_exact(0),
            BodyState::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            BodyState::Channel(_) => SizeHint::default(),
        }
    }
}

/// What the guest answers, in order: `Head`, any number of `Data`, at most one `Trailers`, `End`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResponseEvent {
    /// Status (200-599) and headers, cleaned: no framing, no hop-by-hop field. `content-length` is there when it is known to be true.
    Head(http::StatusCode, HeaderMap),
    /// Body bytes: never empty, at most 64 KiB.
    Data(Bytes),
    /// Trailers, cleaned like headers.
    Trailers(HeaderMap),
    /// The response is whole. The guest may still be working; its completion follows.
    End,
}

/// The sandbox's end of a response. The receiver's pace is the guest's pace.
#[derive(Debug, Clone)]
pub struct ResponseSink(mpsc::Sender<ResponseEvent>);

impl ResponseSink {
    /// A sink that lets `capacity` events wait before the guest has to.
    pub fn channel(capacity: usize) -> (Self, mpsc::Receiver<ResponseEvent>) {
        let (sender, receiver) = mpsc::channel(capacity.max(1));
        (Self(sender), receiver)
    }

    /// Delivers an event, waiting for room; false when the receiver is gone.
    pub(super) async fn deliver(&self, event: ResponseEvent) -> bool {
        self.0.send(event).await.is_ok()
    }

    /// Waits until the receiver is gone.
    pub(super) async fn closed(&self) {
        self.0.closed().await;
    }
}

/// Which stream a log line was written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LogStream {
    /// Standard output (never of a command, whose stdout is its response).
    Stdout,
    /// Standard error.
    Stderr,
}

/// One line that the guest wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRecord {
    /// The stream it was written to.
    pub stream: LogStream,
    /// The line without its line feed: valid UTF-8 (what was not is replaced), control characters as the guest wrote them.
    pub text: String,
    /// When its line feed was written.
    pub time: SystemTime,
    /// Bytes of this line that were cut off because the line was too long or the invocation's log limit was reached.
    pub truncated_bytes: u64,
}

/// The sandbox's end of the log. Never blocks the guest: what is not taken is dropped and counted in the completion.
#[derive(Clone)]
pub struct LogSink(Option<Arc<Take>>);

/// Takes a record, or says that there is no room.
type Take = dyn Fn(LogRecord) -> bool + Send + Sync;

impl LogSink {
    /// A sink of which `take` gets each record as the guest writes it; it is not to wait, and returns whether there was room.
    pub fn new(take: impl Fn(LogRecord) -> bool + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(take)))
    }

    /// A sink that drops everything.
    pub fn discard() -> Self {
        Self(None)
    }

    /// Hands a record over; false if there was no room.
    pub(super) fn offer(&self, record: LogRecord) -> bool {
        self.0.as_ref().is_some_and(|take| take(record))
    }
}

impl fmt::Debug for LogSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "LogSink" } else { "LogSink(discard)" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    #[tokio::test]
    async fn bodies_skip_empty_frames_and_end_only_when_told() {
        let (sender, body) = RequestBody::channel(4);
        for frame in [RequestFrame::Data(Bytes::new()), RequestFrame::Data(Bytes::from_static(b"a")), RequestFrame::End]
        {
            sender.send(frame).await.unwrap();
        }
        assert_eq!(body.collect().await.unwrap().to_bytes(), "a");

        let (sender, body) = RequestBody::channel(4);
        sender.send(RequestFrame::Data(Bytes::from_static(b"a"))).await.unwrap();
        drop(sender);
        assert_eq!(body.collect().await.unwrap_err(), BodyBrokenOff);
    }
}
