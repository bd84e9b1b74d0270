//! What waits to be sent on a session, as the stream that the gRPC client takes.
//!
//! Pushing never waits, so that it can be done from anywhere: control messages are few for each invocation, and body
//! bytes are bounded by credit and by [`Outbound::room`].

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
};

use dunlin_proto::internal::v1::{OpenSessionRequest, open_session_request::Frame};
use futures::Stream;
use tokio::sync::Notify;

/// Body bytes that may wait in a session before senders wait too.
const ROOM: usize = 4 << 20;

/// The queue of one session. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Outbound(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    roomy: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    messages: VecDeque<Message>,
    body_bytes: usize,
    closed: bool,
    waker: Option<Waker>,
}

#[derive(Debug)]
struct Message {
    request: OpenSessionRequest,
    /// Set once the message has left the queue: from then on the worker may have begun it.
    begun: Option<Arc<AtomicBool>>,
}

impl Outbound {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // No code that can panic runs under this lock.
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a message, soon; on a closed session it is dropped.
    pub(super) fn push(&self, request: OpenSessionRequest, begun: Option<Arc<AtomicBool>>) {
        let mut queue = self.lock();
        if queue.closed {
            return;
        }
        queue.body_bytes += body_bytes(&request);
        queue.messages.push_back(Message { request, begun });
        let waker = queue.waker.take();
        drop(queue);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Waits until body bytes may be pushed.
    pub(super) async fn room(&self) {
        loop {
            let notified = self.0.roomy.notified();
            if self.is_roomy() {
                return;
            }
            notified.await;
        }
    }

    fn is_roomy(&self) -> bool {
        let queue = self.lock();
        queue.body_bytes < ROOM || queue.closed
    }

    /// Ends the stream; what waits is dropped.
    pub(super) fn close(&self) {
        let mut queue = self.lock();
        queue.closed = true;
        queue.messages.clear();
        let waker = queue.waker.take();
        drop(queue);
        self.0.roomy.notify_waiters();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

fn body_bytes(request: &OpenSessionRequest) -> usize {
    match &request.frame {
        Some(Frame::Body(body)) => body.data.len(),
        Some(Frame::Begin(begin)) => begin.body.as_ref().map_or(0, |body| body.data.len()),
        _ => 0,
    }
}

impl Stream for Outbound {
    type Item = OpenSessionRequest;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut queue = self.lock();
        let Some(message) = queue.messages.pop_front() else {
            if queue.closed {
                return Poll::Ready(None);
            }
            queue.waker = Some(context.waker().clone());
            return Poll::Pending;
        };
        let full = queue.body_bytes >= ROOM;
        queue.body_bytes -= body_bytes(&message.request);
        let roomy = full && queue.body_bytes < ROOM;
        drop(queue);
        if roomy {
            self.0.roomy.notify_waiters();
        }
        if let Some(begun) = message.begun {
            begun.store(true, Ordering::Release);
        }
        Poll::Ready(Some(message.request))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use dunlin_proto::internal::v1::Body;
    use futures::StreamExt;

    use super::*;

    fn body(bytes: usize) -> OpenSessionRequest {
        let body = Body { data: vec![0; bytes].into(), ..Body::default() };
        OpenSessionRequest { epoch: 1, invocation: 1, frame: Some(Frame::Body(body)) }
    }

    #[tokio::test(start_paused = true)]
    async fn body_bytes_wait_for_room_and_control_does_not() {
        let mut outbound = Outbound::default();
        outbound.push(body(ROOM), None);
        let wait = Duration::from_secs(1);
        assert!(tokio::time::timeout(wait, outbound.room()).await.is_err());
        outbound.push(body(0), None);
        assert!(outbound.next().await.is_some());
        assert!(tokio::time::timeout(wait, outbound.room()).await.is_ok());
    }

    #[tokio::test]
    async fn a_message_has_begun_once_it_left_the_queue() {
        let mut outbound = Outbound::default();
        let begun = Arc::new(AtomicBool::new(false));
        outbound.push(body(0), Some(begun.clone()));
        assert!(!begun.load(Ordering::Acquire));
        outbound.next().await.unwrap();
        assert!(begun.load(Ordering::Acquire));
        outbound.close();
        outbound.push(body(0), None);
        assert!(outbound.next().await.is_none());
    }
}
