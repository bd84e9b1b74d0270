//! The answer's body on its way to the caller: taken from the worker no faster than the caller takes it, and the place
//! where an invocation's record is completed.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use dunlin_proto::{ApiError, ErrorCode, internal::v1::End};
use http::{HeaderMap, HeaderName, Method, Response, StatusCode, Version, header, request::Parts};
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use super::{
    call::{CallHandle, Event},
    record::Ledger,
    trailers, wire,
};
use crate::records::{Receipt, Record};

/// Bytes of a short answer, which waits for its end so that its head can say what it cost.
const SHORT: usize = 64 << 10;
/// How long the head of an answer waits for the end.
const SHORT_WAIT: Duration = Duration::from_millis(2);
/// How long the end of a streamed answer waits for its receipt, where the caller accepts trailers.
const LINGER: Duration = Duration::from_millis(20);

/// What is known of an answer's cost when its head is sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timing {
    /// What it cost.
    pub(crate) receipt: Receipt,
    /// Whether that is all; otherwise only the gateway's queue time is known.
    pub(crate) complete: bool,
}

/// The body of an answer. Dropped before its end, it stops the guest.
#[derive(Debug)]
pub(crate) struct ResponseBody {
    /// Here, but not yet taken by the caller.
    ready: VecDeque<Bytes>,
    /// The body has ended, with these trailers.
    last: Option<HeaderMap>,
    /// How it went wrong before the body's end.
    error: Option<ApiError>,
    /// Where the rest comes from; nothing once no more comes.
    call: Option<CallHandle>,
    ledger: Ledger,
    /// Bytes that may still be sent.
    allowance: u64,
    /// The caller reads trailers, so that the receipt can follow the body.
    trailers: bool,
    receipt: Option<Receipt>,
    deadline: Deadline,
    record: Option<Arc<Record>>,
}

/// A timer that costs nothing until it is first needed.
#[derive(Debug)]
struct Deadline {
    at: Instant,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Deadline {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let at = self.at;
        self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at))).as_mut().poll(context)
    }

    fn sooner(&mut self, at: Instant) {
        if at < self.at {
            *self = Self { at, sleep: None };
        }
    }
}

impl ResponseBody {
    pub(super) fn new(call: CallHandle, ledger: Ledger, limit: u64, trailers: bool, deadline: Instant) -> Self {
        Self {
            ready: VecDeque::new(),
            last: None,
            error: None,
            call: Some(call),
            ledger,
            allowance: limit,
            trailers,
            receipt: None,
            deadline: Deadline { at: deadline, sleep: None },
            record: None,
        }
    }

    /// Waits a moment for the end of a short answer, so that its head can say what it cost.
    pub(super) async fn gather(&mut self) {
        let all = std::future::poll_fn(|context| self.poll_gather(context));
        // An end that is late belongs to an answer that streams.
        let _ = tokio::time::timeout(SHORT_WAIT, all).await;
    }

    fn poll_gather(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while self.ready.iter().map(Bytes::len).sum::<usize>() < SHORT {
            let Some(call) = &mut self.call else { return Poll::Ready(()) };
            let event = std::task::ready!(call.poll_event(context));
            self.take_in(event);
        }
        Poll::Ready(())
    }

    /// What is known of the cost.
    pub(super) fn timing(&self) -> Timing {
        match self.receipt {
            Some(receipt) => Timing { receipt, complete: true },
            None => Timing { receipt: Receipt { queue: self.ledger.queue(), ..Receipt::default() }, complete: false },
        }
    }

    /// The names of the function's trailers, as far as they have arrived.
    pub(crate) fn trailer_names(&self) -> impl Iterator<Item = HeaderName> {
        self.last.iter().flat_map(HeaderMap::keys).cloned()
    }

    /// Notes the status that the caller gets.
    pub(super) fn answered(&mut self, status: u16) {
        self.ledger.answered(status);
    }

    /// How it went wrong before its head was sent: then the caller gets the error, and not the beginning of an answer.
    pub(super) fn early_error(&mut self) -> Option<ApiError> {
        let error = self.error.take_if(|_| self.last.is_none());
        if error.is_some() {
            self.ready.clear();
        }
        error
    }

    /// Drops the body, which the caller will not get (RFC 9110 6.4.1), and lets the guest run to its end.
    pub(super) fn discard(&mut self) {
        self.ready.clear();
        if self.last.is_none() && self.error.take().is_none() {
            self.ledger.succeed();
        }
        self.last.get_or_insert_default();
        self.let_go();
    }

    /// The record, once the body has ended, of an invocation that shows it.
    pub(crate) fn record(&self) -> Option<&Record> {
        self.record.as_deref()
    }

    /// Notes what the worker said.
    fn take_in(&mut self, event: Event) {
        match event {
            Event::Data(data) => self.data(data),
            Event::Last(trailers) => {
                self.last = Some(trailers::passing(trailers));
                self.ledger.succeed();
            }
            Event::End(end) => self.end(&end),
            Event::Lost => self.fail(ApiError::new(ErrorCode::WorkerLost, "the worker went away while it answered")),
            Event::Head(_) | Event::Refusal(_) => {
                self.fail(ApiError::internal());
            }
        }
    }

    fn data(&mut self, data: Bytes) {
        match self.allowance.checked_sub(data.len() as u64) {
            Some(rest) => {
                self.allowance = rest;
                self.ready.push_back(data);
            }
            None => {
                let error = ApiError::new(ErrorCode::ResponseTooLarge, "the function's answer is over its limit");
                self.fail(error.hint("the limit is the version's limits.response_body_bytes"));
            }
        }
    }

    fn end(&mut self, end: &End) {
        self.receipt = Some(self.ledger.cost(wire::receipt(end.receipt.as_ref())));
        match wire::end_error(end) {
            None => {
                self.last.get_or_insert_default();
                self.ledger.succeed();
                self.finish();
            }
            Some(error) => self.fail(error),
        }
    }

    /// No more comes: the record says why, and so does the body where it was not whole.
    fn fail(&mut self, error: ApiError) {
        self.ledger.fail(&error);
        if self.last.is_none() {
            self.error = Some(error);
        }
        // Where nothing more can arrive, the record is completed with the body itself.
        if let Some(call) = self.call.take().filter(|call| !call.is_over()) {
            let ledger = std::mem::replace(&mut self.ledger, Ledger::none());
            call.cancel("caller_gone", Some(ledger));
        }
    }

    fn finish(&mut self) {
        self.call = None;
        self.record = self.ledger.finish().or(self.record.take());
    }

    /// The body is whole; the record will be, too, once the guest ends.
    fn let_go(&mut self) {
        if let Some(call) = self.call.take() {
            let ledger = std::mem::replace(&mut self.ledger, Ledger::none());
            self.record = ledger.snapshot();
            call.detach(ledger);
        }
    }

    /// Waits for more, or for the end of the invocation's time.
    fn poll_more(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(call) = &mut self.call else { return Poll::Ready(()) };
        if let Poll::Ready(event) = call.poll_event(context) {
            self.take_in(event);
            if self.last.is_some() && self.trailers {
                self.deadline.sooner(Instant::now() + LINGER);
            } else if self.last.is_some() {
                self.let_go();
            }
            return Poll::Ready(());
        }
        std::task::ready!(self.deadline.poll(context));
        if self.last.is_some() {
            self.let_go();
        } else {
            self.time_is_up();
        }
        Poll::Ready(())
    }

    fn time_is_up(&mut self) {
        let error =
            ApiError::new(ErrorCode::DeadlineExceeded, "the invocation's time is up").hint("stage: sending the answer");
        self.ledger.fail(&error);
        self.error = Some(error);
        if let Some(call) = self.call.take() {
            let ledger = std::mem::replace(&mut self.ledger, Ledger::none());
            self.record = ledger.snapshot();
            call.cancel("deadline_exceeded", Some(ledger));
        }
    }

    /// The trailers, with the receipt where the head could not have it.
    fn trailers(&mut self) -> Option<HeaderMap> {
        let mut trailers = self.last.take()?;
        if let Some(receipt) = self.receipt.filter(|_| self.trailers)
            && let Ok(value) = server_timing(&receipt).parse()
        {
            trailers.insert("server-timing", value);
        }
        (!trailers.is_empty()).then_some(trailers)
    }
}

/// The answer as a message; a body that the caller does not get is dropped.
pub(super) fn response(
    status: StatusCode,
    headers: HeaderMap,
    mut body: ResponseBody,
    request: &Parts,
) -> Response<ResponseBody> {
    let timing = body.timing();
    if timing.complete {
        body.timing_is_sent();
    }
    let bodiless = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if bodiless || request.method == Method::HEAD {
        body.discard();
    }
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response.extensions_mut().insert(timing);
    response
}

/// Whether the caller reads trailers: always with HTTP/2, when it says so with HTTP/1.1 (RFC 9110 6.5.1).
pub(super) fn accepts_trailers(request: &Parts) -> bool {
    let says_so = || {
        let te = request.headers.get_all(header::TE).iter().filter_map(|value| value.to_str().ok());
        te.flat_map(|value| value.split(',')).any(|token| token.trim().eq_ignore_ascii_case("trailers"))
    };
    request.version == Version::HTTP_2 || (request.version == Version::HTTP_11 && says_so())
}

/// A receipt as `Server-Timing` (W3C Server Timing), in milliseconds.
pub(crate) fn server_timing(receipt: &Receipt) -> String {
    let Receipt { queue, start, run, cpu, .. } = *receipt;
    let (queue, start, run, cpu) = (millis(queue), millis(start), millis(run), millis(cpu));
    format!("queue;dur={queue}, start;dur={start}, run;dur={run}, cpu;dur={cpu}")
}

/// A duration in milliseconds with three decimals. Every answer has some: floating point would take ten times as long.
pub(crate) fn millis(duration: Duration) -> impl std::fmt::Display {
    let micros =
        duration.as_secs().saturating_mul(1_000_000) + u64::from(duration.subsec_nanos().saturating_add(500) / 1_000);
    format!("{}.{:03}", micros / 1_000, micros % 1_000)
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = ApiError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ApiError>>> {
        loop {
            if let Some(data) = self.ready.pop_front() {
                if let Some(call) = &mut self.call {
                    call.taken(data.len());
                }
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            if let Some(error) = self.error.take() {
                return Poll::Ready(Some(Err(error)));
            }
            if self.call.is_none() {
                return Poll::Ready(self.trailers().map(|trailers| Ok(Frame::trailers(trailers))));
            }
            std::task::ready!(self.poll_more(context));
        }
    }

    fn is_end_stream(&self) -> bool {
        let nothing_more = self.call.is_none() && self.ready.is_empty() && self.error.is_none();
        nothing_more && self.last.as_ref().is_none_or(|last| last.is_empty() && !self.receipt_follows())
    }

    fn size_hint(&self) -> SizeHint {
        let whole = self.call.is_none() && self.error.is_none();
        let exact = whole && self.last.as_ref().is_none_or(HeaderMap::is_empty) && !self.receipt_follows();
        let bytes = self.ready.iter().map(|data| data.len() as u64).sum();
        if exact { SizeHint::with_exact(bytes) } else { SizeHint::default() }
    }
}

impl ResponseBody {
    /// Whether the receipt came too late for the head.
    fn receipt_follows(&self) -> bool {
        self.trailers && self.receipt.is_some() && self.last.is_some()
    }

    /// The head has the receipt; no trailer repeats it.
    pub(super) fn timing_is_sent(&mut self) {
        self.trailers = false;
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        let Some(call) = self.call.take() else { return };
        let ledger = std::mem::replace(&mut self.ledger, Ledger::none());
        if self.last.is_some() {
            call.detach(ledger);
        } else {
            call.cancel("caller_gone", Some(ledger));
        }
    }
}
