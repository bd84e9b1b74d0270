//! The request's body on its way to the worker: read no faster than the worker grants, refused where it is too large or
//! too slow, and kept for a second try until guest code has started, or to its end where the function is idempotent (256 KiB
//! at most, the credit to begin with).

use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use dunlin_proto::{
    ApiError, ErrorCode, INITIAL_CREDIT_BYTES, MAX_BODY_CHUNK_BYTES, fields, internal::v1::Body as Piece,
};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use super::{call::BodySender, trailers};
use crate::{config::LimitsConfig, edge::Lingering};

/// How slow a caller may be in sending its body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// How long it may be slower than `bytes_per_second`.
    pub(crate) grace: Duration,
    /// The slowest acceptable body.
    pub(crate) bytes_per_second: u64,
}

impl From<&LimitsConfig> for Patience {
    fn from(limits: &LimitsConfig) -> Self {
        Self { grace: limits.body_patience, bytes_per_second: limits.body_bytes_per_second }
    }
}

/// The body of a request.
#[derive(Debug)]
pub(crate) struct RequestBody(Source);

#[derive(Debug)]
enum Source {
    Whole(Bytes),
    Incoming { body: Lingering, watch: Watch },
}

/// Why a body can't be read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyError {
    /// It has more than this many bytes.
    TooLarge(u64),
    /// The caller is too slow.
    TooSlow,
    /// The caller is gone.
    Gone,
    /// It is malformed.
    Malformed,
}

impl RequestBody {
    /// A body that is all here.
    pub(crate) fn whole(bytes: Bytes) -> Self {
        Self(Source::Whole(bytes))
    }

    /// A body that a caller sends.
    pub(crate) fn incoming(body: Lingering, patience: Patience) -> Self {
        if body.is_end_stream() {
            return Self::whole(Bytes::new());
        }
        Self(Source::Incoming { body, watch: Watch { patience, bytes: 0, waited: Duration::ZERO, wait: None } })
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.0 {
            Source::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Source::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Source::Incoming { body, watch } => match Pin::new(body).poll_frame(context) {
                Poll::Pending => watch.poll_late(context).map(|()| Some(Err(BodyError::TooSlow))),
                Poll::Ready(frame) => {
                    watch.arrived(&frame);
                    Poll::Ready(frame.map(|frame| frame.map_err(|error| BodyError::of(&error))))
                }
            },
        }
    }

    fn is_over(&self) -> bool {
        match &self.0 {
            Source::Whole(bytes) => bytes.is_empty(),
            Source::Incoming { body, .. } => body.is_end_stream(),
        }
    }

    /// Nobody is waiting for the body now, so the caller is not late.
    fn look_away(&mut self) {
        if let Source::Incoming { watch, .. } = &mut self.0 {
            watch.wait = None;
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = ApiError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ApiError>>> {
        self.get_mut().poll_next(context).map(|frame| frame.map(|frame| frame.map_err(ApiError::from)))
    }

    fn is_end_stream(&self) -> bool {
        self.is_over()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Source::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Source::Incoming { body, .. } => body.size_hint(),
        }
    }
}

impl BodyError {
    fn of(error: &hyper::Error) -> Self {
        let gone =
            error.is_closed() || error.is_canceled() || error.is_incomplete_message() || error.is_body_write_aborted();
        if gone { Self::Gone } else { Self::Malformed }
    }

    /// The reason in `Cancel`.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::TooSlow => "request_timeout",
            Self::TooLarge(_) | Self::Gone | Self::Malformed => "caller_gone",
        }
    }
}

impl From<BodyError> for ApiError {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge(limit) => too_large(limit),
            BodyError::TooSlow => Self::new(ErrorCode::RequestTimeout, "the request's body arrived too slowly")
                .hint("stage: receiving the request's body; send it faster"),
            BodyError::Gone => Self::new(ErrorCode::Cancelled, "the caller left while sending the request's body"),
            BodyError::Malformed => Self::new(ErrorCode::InvalidArgument, "the request's body is malformed"),
        }
    }
}

/// A request's body is over its limit.
pub(crate) fn too_large(limit: u64) -> ApiError {
    ApiError::new(ErrorCode::PayloadTooLarge, format!("the request's body has more than {limit} bytes"))
        .hint("the limit is the version's limits.request_body_bytes")
}

/// Watches how long a caller keeps us waiting. Time in which nobody waits does not count.
#[derive(Debug)]
struct Watch {
    patience: Patience,
    bytes: u64,
    waited: Duration,
    /// Since when we wait, and when it is too long.
    wait: Option<(Instant, Pin<Box<Sleep>>)>,
}

/// How long a caller may keep us waiting in all, once so many bytes have arrived.
fn allowed(patience: Patience, bytes: u64) -> Duration {
    let millis = bytes.saturating_mul(1_000) / patience.bytes_per_second.max(1);
    patience.grace + Duration::from_millis(millis)
}

impl Watch {
    fn poll_late(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let left = allowed(self.patience, self.bytes).saturating_sub(self.waited);
        let (_, sleep) = self.wait.get_or_insert_with(|| (Instant::now(), Box::pin(tokio::time::sleep(left))));
        sleep.as_mut().poll(context)
    }

    fn arrived<E>(&mut self, frame: &Option<Result<Frame<Bytes>, E>>) {
        if let Some((since, _)) = self.wait.take() {
            self.waited += since.elapsed();
        }
        let data = frame.as_ref().and_then(|frame| frame.as_ref().ok()).and_then(Frame::data_ref);
        self.bytes += data.map_or(0, |data| data.len() as u64);
    }
}

/// Sends a request's body, once or, where guest code did not start, again.
#[derive(Debug)]
pub(super) struct Pump {
    body: RequestBody,
    limit: u64,
    read: u64,
    /// Read, but not yet sent in this try.
    queue: VecDeque<Bytes>,
    /// Sent in this try; nothing once it is not kept any more.
    sent: Option<Vec<Bytes>>,
    /// Whether it is kept although guest code has started.
    keep: bool,
    /// The body's end has been read, with these trailers.
    end: Option<HeaderMap>,
    /// The body's end has been sent in this try.
    pub(super) finished: bool,
}

impl Pump {
    /// A body of so many bytes at the most. With `keep`, it can be sent again although guest code has started.
    pub(super) fn new(body: RequestBody, limit: u64, keep: bool) -> Self {
        let (queue, sent) = (VecDeque::new(), Some(Vec::new()));
        Self { body, limit, read: 0, queue, sent, keep, end: None, finished: false }
    }

    /// Whether the whole body can be sent again.
    pub(super) fn is_kept(&self) -> bool {
        self.sent.is_some()
    }

    /// Begins a try: what of the body is here goes with the invocation's beginning.
    ///
    /// # Errors
    /// The body is too large already.
    pub(super) async fn begin(&mut self) -> Result<Piece, BodyError> {
        let again = self.sent.replace(Vec::new()).unwrap_or_default();
        for bytes in again.into_iter().rev() {
            self.queue.push_front(bytes);
        }
        self.finished = false;
        // Waits for nothing.
        poll_fn(|context| Poll::Ready(self.read_ready(context))).await?;
        self.body.look_away();
        let data = self.cut(MAX_BODY_CHUNK_BYTES);
        Ok(self.piece(data))
    }

    fn read_ready(&mut self, context: &mut Context<'_>) -> Result<(), BodyError> {
        while self.end.is_none() && self.queue.iter().map(Bytes::len).sum::<usize>() < MAX_BODY_CHUNK_BYTES {
            match self.poll_read(context) {
                Poll::Ready(read) => read?,
                Poll::Pending => break,
            }
        }
        Ok(())
    }

    /// Reads one frame.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        if self.body.is_over() {
            self.end = Some(HeaderMap::new());
            return Poll::Ready(Ok(()));
        }
        let Some(frame) = std::task::ready!(self.body.poll_next(context)).transpose()? else {
            self.end = Some(HeaderMap::new());
            return Poll::Ready(Ok(()));
        };
        match frame.into_data() {
            Ok(data) => {
                self.read += data.len() as u64;
                if self.read > self.limit {
                    return Poll::Ready(Err(BodyError::TooLarge(self.limit)));
                }
                if !data.is_empty() {
                    self.queue.push_back(data);
                }
                if self.body.is_over() {
                    self.end = Some(HeaderMap::new());
                }
            }
            Err(frame) => self.end = Some(trailers::passing(frame.into_trailers().unwrap_or_default())),
        }
        Poll::Ready(Ok(()))
    }

    /// Takes at most `most` bytes off the queue.
    fn cut(&mut self, most: usize) -> Bytes {
        let Some(first) = self.queue.front_mut() else { return Bytes::new() };
        if first.len() > most { first.split_to(most) } else { self.queue.pop_front().unwrap_or_default() }
    }

    /// A piece with these bytes; the last one where nothing is left.
    fn piece(&mut self, data: Bytes) -> Piece {
        if let Some(sent) = &mut self.sent
            && !data.is_empty()
        {
            sent.push(data.clone());
        }
        let last = self.queue.is_empty().then_some(self.end.as_ref()).flatten();
        self.finished = last.is_some();
        Piece { data, last: last.is_some(), trailers: last.map(fields::to_wire).unwrap_or_default() }
    }

    /// Sends the rest of the body, or until the invocation is over. Cancel-safe.
    ///
    /// # Errors
    /// The body can't be read to its end; the invocation is to be cancelled.
    pub(super) async fn run(&mut self, sender: &BodySender) -> Result<(), BodyError> {
        while !self.finished {
            if self.queue.is_empty() && self.end.is_none() {
                poll_fn(|context| self.poll_read(context)).await?;
                continue;
            }
            let want = self.queue.front().map_or(0, Bytes::len).min(MAX_BODY_CHUNK_BYTES);
            let Some(granted) = sender.credit(want).await else { return Ok(()) };
            if sender.started() && !(self.keep && self.read <= INITIAL_CREDIT_BYTES) {
                self.sent = None;
            }
            let data = self.cut(granted);
            sender.send(self.piece(data));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_is_cut_into_pieces_and_can_be_sent_again() {
        let mut pump = Pump::new(RequestBody::whole(vec![7; MAX_BODY_CHUNK_BYTES + 1].into()), u64::MAX, false);
        for _ in 0..2 {
            let first = pump.begin().await.unwrap();
            assert_eq!((first.data.len(), first.last), (MAX_BODY_CHUNK_BYTES, false));
            let rest = pump.cut(MAX_BODY_CHUNK_BYTES);
            let rest = pump.piece(rest);
            assert_eq!((rest.data.len(), rest.last, pump.finished), (1, true, true));
        }
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_refused_and_one_at_the_limit_is_not() {
        let body = || RequestBody::whole(vec![0; 10].into());
        assert_eq!(Pump::new(body(), 9, false).begin().await, Err(BodyError::TooLarge(9)));
        assert!(Pump::new(body(), 10, false).begin().await.is_ok_and(|piece| piece.last));
        assert!(Pump::new(RequestBody::whole(Bytes::new()), 0, false).begin().await.is_ok_and(|piece| piece.last));
    }

    #[test]
    fn more_bytes_buy_more_time() {
        let patience = Patience { grace: Duration::from_secs(10), bytes_per_second: 1024 };
        assert_eq!(allowed(patience, 0), Duration::from_secs(10));
        assert_eq!(allowed(patience, 10 * 1024), Duration::from_secs(20));
    }

    #[tokio::test(start_paused = true)]
    async fn t30_only_time_in_which_we_wait_for_the_caller_counts() {
        let patience = Patience { grace: Duration::from_secs(10), bytes_per_second: 1024 };
        let mut watch = Watch { patience, bytes: 0, waited: Duration::ZERO, wait: None };
        let late = async |watch: &mut Watch, seconds| {
            let waited = poll_fn(|context| watch.poll_late(context));
            tokio::time::timeout(Duration::from_secs(seconds), waited).await.is_ok()
        };
        assert!(!late(&mut watch, 9).await);
        let frame = Some(Ok::<_, ()>(Frame::data(Bytes::from_static(&[0; 1024]))));
        watch.arrived(&frame);
        tokio::time::sleep(Duration::from_secs(100)).await;
        assert!(!late(&mut watch, 1).await);
        assert!(late(&mut watch, 2).await);
    }
}
