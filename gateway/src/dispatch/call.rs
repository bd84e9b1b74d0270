//! One invocation on a session, seen from the gateway: what has arrived of it, and the credit of both directions.
//!
//! The session's reader fills it, one receiver empties it, and one sender of the request's body waits for its credit.

use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use dunlin_proto::{
    INITIAL_CREDIT_BYTES,
    internal::v1::{Body, Cancel, End, Head, Refusal, open_session_request::Frame, open_session_response},
};
use http::HeaderMap;

use super::{record::Ledger, session::Session, wire};

/// What the worker said.
#[derive(Debug)]
pub(super) enum Event {
    /// The answer's head.
    Head(Head),
    /// More of the answer's body.
    Data(Bytes),
    /// The answer's body has ended, perhaps with trailers.
    Last(HeaderMap),
    /// Guest code has ended; nothing follows.
    End(End),
    /// Guest code never started; nothing follows.
    Refusal(Refusal),
    /// The session ended, or the worker broke its rules; nothing follows.
    Lost,
}

/// The state of an invocation, shared by its three sides.
#[derive(Debug, Default)]
pub(super) struct Call {
    state: Mutex<State>,
    /// Whether its beginning has been handed to the connection.
    begun: Arc<AtomicBool>,
}

#[derive(Debug)]
struct State {
    events: VecDeque<Event>,
    receiver: Option<Waker>,
    /// Answer's body bytes that the worker may still send.
    receivable: u64,
    /// Request's body bytes that may still be sent.
    sendable: u64,
    sender: Option<Waker>,
    /// Something other than a refusal arrived: guest code runs, so there is no second try.
    started: bool,
    /// The end of the answer's body, or of the guest, is here.
    whole: bool,
    /// Nothing more arrives.
    over: bool,
}

impl Default for State {
    fn default() -> Self {
        Self {
            events: VecDeque::new(),
            receiver: None,
            receivable: INITIAL_CREDIT_BYTES,
            sendable: INITIAL_CREDIT_BYTES,
            sender: None,
            started: false,
            whole: false,
            over: false,
        }
    }
}

impl Call {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what arrived; says whom to wake, and whether the call is over.
    pub(super) fn arrive(&self, frame: open_session_response::Frame) -> Arrived {
        use open_session_response::Frame;
        let mut state = self.lock();
        state.started |= !matches!(frame, Frame::Refusal(_));
        match frame {
            Frame::Head(head) => state.events.push_back(Event::Head(head)),
            Frame::Body(body) => state.body(body),
            Frame::Credit(bytes) => {
                state.sendable = state.sendable.saturating_add(bytes);
                return Arrived { wake: [state.sender.take(), None], over: false };
            }
            Frame::End(end) => state.end(Event::End(end)),
            Frame::Refusal(refusal) => state.end(Event::Refusal(refusal)),
            Frame::Hello(_) | Frame::Goaway(_) | Frame::Pong(_) => state.end(Event::Lost),
        }
        let sender = if state.over { state.sender.take() } else { None };
        Arrived { wake: [state.receiver.take(), sender], over: state.over }
    }

    /// The session is gone.
    pub(super) fn lose(&self) {
        let mut state = self.lock();
        if !state.over {
            state.end(Event::Lost);
        }
        let wake = [state.receiver.take(), state.sender.take()];
        drop(state);
        wake.into_iter().flatten().for_each(Waker::wake);
    }

    fn poll_event(&self, context: &mut Context<'_>) -> Poll<Event> {
        let mut state = self.lock();
        if let Some(event) = state.events.pop_front() {
            return Poll::Ready(event);
        }
        if state.over {
            return Poll::Ready(Event::Lost);
        }
        state.receiver = Some(context.waker().clone());
        Poll::Pending
    }

    /// Ready once the answer is whole, has more than `most` bytes, or can't go on; says whether it is lost before its end.
    /// Nothing of the body may have been taken yet.
    fn poll_settled(&self, most: u64, context: &mut Context<'_>) -> Poll<bool> {
        let mut state = self.lock();
        let here = INITIAL_CREDIT_BYTES.saturating_sub(state.receivable);
        if state.over || state.whole || here > most {
            return Poll::Ready(state.over && !state.whole);
        }
        state.receiver = Some(context.waker().clone());
        Poll::Pending
    }

    fn poll_credit(&self, want: u64, context: &mut Context<'_>) -> Poll<Option<u64>> {
        let mut state = self.lock();
        if state.over {
            return Poll::Ready(None);
        }
        if state.sendable == 0 && want > 0 {
            state.sender = Some(context.waker().clone());
            return Poll::Pending;
        }
        let granted = want.min(state.sendable);
        state.sendable -= granted;
        Poll::Ready(Some(granted))
    }
}

impl State {
    fn body(&mut self, body: Body) {
        let bytes = body.data.len() as u64;
        let Some(rest) = self.receivable.checked_sub(bytes) else {
            // A worker that sends more than it was granted can't be held back in any other way.
            return self.end(Event::Lost);
        };
        self.receivable = rest;
        if bytes > 0 {
            self.events.push_back(Event::Data(body.data));
        }
        if body.last {
            self.whole = true;
            self.events.push_back(Event::Last(wire::header_map(body.trailers)));
        }
    }

    fn end(&mut self, event: Event) {
        self.whole |= matches!(event, Event::End(_));
        self.events.push_back(event);
        self.over = true;
    }
}

/// What follows from a message.
#[derive(Debug)]
pub(super) struct Arrived {
    /// Whom to wake, once everything that has arrived with it is taken in.
    pub(super) wake: [Option<Waker>; 2],
    /// Nothing more arrives of this call.
    pub(super) over: bool,
}

/// The receiver's hold on an invocation. Dropped before the end, it cancels the invocation.
#[derive(Debug)]
pub(super) struct CallHandle {
    call: Arc<Call>,
    session: Arc<Session>,
    number: u64,
    /// Bytes that have been taken but not yet granted again.
    ungranted: u64,
    over: bool,
}

/// Bytes taken before they are granted again, so that credit does not cost a message a piece.
const GRANT: u64 = INITIAL_CREDIT_BYTES / 8;

impl CallHandle {
    pub(super) fn new(session: Arc<Session>, number: u64, call: Arc<Call>) -> Self {
        Self { call, session, number, ungranted: 0, over: false }
    }

    /// The next event. Cancel-safe.
    pub(super) async fn event(&mut self) -> Event {
        poll_fn(|context| self.poll_event(context)).await
    }

    /// The next event.
    pub(super) fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Event> {
        let event = std::task::ready!(self.call.poll_event(context));
        self.over = matches!(event, Event::End(_) | Event::Refusal(_) | Event::Lost);
        Poll::Ready(event)
    }

    /// Waits until the answer is whole, has more than `most` bytes, or can't go on, and takes none of it; says whether it is
    /// lost before its end. Cancel-safe.
    pub(super) async fn settled(&self, most: u64) -> bool {
        poll_fn(|context| self.call.poll_settled(most, context)).await
    }

    /// Says that the caller has taken so many bytes of the answer.
    pub(super) fn taken(&mut self, bytes: usize) {
        self.ungranted += bytes as u64;
        if self.ungranted >= GRANT && !self.over {
            let granted = std::mem::take(&mut self.ungranted);
            self.call.lock().receivable += granted;
            self.session.send(self.number, Frame::Credit(granted));
        }
    }

    /// Whether nothing more can arrive.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// Whether guest code may have started.
    pub(super) fn started(&self) -> bool {
        self.call.lock().started || self.call.begun.load(Ordering::Acquire)
    }

    /// The sender of the request's body.
    pub(super) fn sender(&self) -> BodySender {
        BodySender { call: self.call.clone(), session: self.session.clone(), number: self.number }
    }

    /// Stops the guest, and keeps the record until it has ended.
    pub(super) fn cancel(mut self, reason: &str, ledger: Option<Ledger>) {
        self.leave(Some(reason), ledger);
    }

    /// Lets the guest run to its end, which completes the record.
    pub(super) fn detach(mut self, ledger: Ledger) {
        self.leave(None, Some(ledger));
    }

    fn leave(&mut self, reason: Option<&str>, ledger: Option<Ledger>) {
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        if let Some(ledger) = self.session.leave(self.number, ledger) {
            return self.call.complete(ledger);
        }
        match reason {
            Some(reason) => self.session.send(self.number, Frame::Cancel(Cancel { reason: reason.to_owned() })),
            // What still arrives is of no interest, but must not stop the guest.
            None => self.session.send(self.number, Frame::Credit(u64::from(u32::MAX))),
        }
    }
}

impl Drop for CallHandle {
    fn drop(&mut self) {
        self.leave(Some("caller_gone"), None);
    }
}

/// Sends the request's body of an invocation.
#[derive(Debug, Clone)]
pub(super) struct BodySender {
    call: Arc<Call>,
    session: Arc<Session>,
    number: u64,
}

impl BodySender {
    /// Waits until some of `want` bytes may be sent, and takes the right to; nothing once the call is over. Cancel-safe.
    pub(super) async fn credit(&self, want: usize) -> Option<usize> {
        self.session.room().await;
        let granted = poll_fn(|context| self.call.poll_credit(want as u64, context)).await?;
        usize::try_from(granted).ok()
    }

    /// Sends a piece for which there is credit.
    pub(super) fn send(&self, body: Body) {
        self.session.send(self.number, Frame::Body(body));
    }

    /// Stops the guest: the request's body will not be whole.
    pub(super) fn abort(&self, reason: &str) {
        self.session.send(self.number, Frame::Cancel(Cancel { reason: reason.to_owned() }));
    }

    /// Keeps the record of a call whose receiver has left until the guest has ended.
    pub(super) fn keep(&self, ledger: Ledger) {
        if let Some(ledger) = self.session.leave(self.number, Some(ledger)) {
            self.call.complete(ledger);
        }
    }

    /// Whether anything but a refusal has arrived.
    pub(super) fn started(&self) -> bool {
        self.call.lock().started
    }
}

impl Call {
    /// A call whose beginning carries so many bytes of the request's body.
    pub(super) fn beginning_with(bytes: usize) -> Self {
        let call = Self::default();
        let mut state = call.lock();
        state.sendable = state.sendable.saturating_sub(bytes as u64);
        drop(state);
        call
    }

    /// Completes a record with an end that has arrived but was not looked at.
    fn complete(&self, ledger: Ledger) {
        let events = std::mem::take(&mut self.lock().events);
        let end = events.into_iter().find_map(|event| if let Event::End(end) = event { Some(end) } else { None });
        if let Some(end) = end {
            ledger.finish_late(wire::receipt(end.receipt.as_ref()));
        }
    }

    /// What is set once its beginning has been handed to the connection.
    pub(super) fn begun(&self) -> Arc<AtomicBool> {
        self.begun.clone()
    }
}
