//! One invocation, from its beginning to its last message: find the version, wait for a sandbox, run it, say how it ended.

use std::{panic::AssertUnwindSafe, pin::pin, sync::Arc, task::Poll, time::Duration};

use dunlin_proto::{
    ErrorCode,
    internal::v1::{Begin, open_session_response::Frame},
};
use futures::{
    FutureExt,
    future::{Either, select},
    poll,
};
use tokio::{sync::mpsc, time::Instant};

use super::{
    Context,
    answer::{self, EVENTS_AHEAD},
    ending::{Ending, Waited},
    inbox::Piece,
    inflight::Inflight,
    lines::Lines,
    outgoing::Outgoing,
    request::Order,
};
use crate::{
    holdings::{Held, Loading},
    logs::Source,
    pool::{Checkout, Rest},
    sandbox::{Call, Completion, RequestBody, RequestFrame, ResponseSink},
};

/// Bytes that a guest has read before the gateway is granted as many again.
const GRANT: u64 = 64 << 10;

/// An invocation that has been accepted.
#[derive(Debug)]
pub(super) struct Invocation {
    context: Arc<Context>,
    inflight: Arc<Inflight>,
    outgoing: Outgoing,
    begin: Begin,
    received: Instant,
    /// The worker takes nothing new any more.
    leaving: bool,
}

impl Invocation {
    pub(super) fn new(
        context: Arc<Context>,
        inflight: Arc<Inflight>,
        outgoing: Outgoing,
        begin: Begin,
        leaving: bool,
    ) -> Self {
        Self { context, inflight, outgoing, begin, received: Instant::now(), leaving }
    }

    /// Runs it, and says how it ended. Returns what is left to do, if it had a sandbox.
    pub(super) async fn run(self) -> Option<Rest> {
        let Self { context, inflight, outgoing, begin, received, leaving } = self;
        let running = Running { context: &context, inflight: &inflight, outgoing: &outgoing, received };
        let work = AssertUnwindSafe(Box::pin(running.run(begin, leaving))).catch_unwind();
        let (ending, rest) = work.await.unwrap_or_else(|_| {
            tracing::error!("an invocation panicked outside its sandbox");
            (Ending::internal(), None)
        });
        ending.count(&context.counted);
        // Nobody is left to be told where the session is gone.
        let _ = outgoing.send(Frame::from(ending)).await;
        rest
    }
}

/// What the parts of an invocation work with.
struct Running<'a> {
    context: &'a Context,
    inflight: &'a Inflight,
    outgoing: &'a Outgoing,
    received: Instant,
}

/// A sandbox for an invocation, and what of the waiting for it the version's code took.
struct Admitted {
    checkout: Checkout,
    code: Loading,
}

impl Running<'_> {
    async fn run(&self, begin: Begin, leaving: bool) -> (Ending, Option<Rest>) {
        match self.admitted(begin, leaving).await {
            Ok((held, order, admitted)) => {
                let (ending, rest) = self.invoke(&held, order, admitted).await;
                (ending, Some(rest))
            }
            Err(ending) => (ending, None),
        }
    }

    /// Finds its version and waits for a sandbox.
    async fn admitted(&self, begin: Begin, leaving: bool) -> Result<(Arc<Held>, Order, Admitted), Ending> {
        let refused = |why| Ending::refused(ErrorCode::Unavailable, why, Duration::ZERO);
        if leaving {
            return Err(refused("the worker is stopping"));
        }
        let order = Order::try_from(begin).map_err(|error| Ending::invalid(&error))?;
        let held = self.context.holdings.find(&order.version);
        let held = held.ok_or_else(|| refused("the function is not on this worker"))?;
        let admitted = tokio::select! {
            biased;
            () = self.inflight.cancel.cancelled() => return Err(Ending::stopped(self.inflight.stopped())),
            admitted = self.checkout(&held, self.deadline(&order)) => admitted?,
        };
        Ok((held, order, admitted))
    }

    fn deadline(&self, order: &Order) -> Instant {
        self.received + order.time_left
    }

    async fn checkout(&self, held: &Held, deadline: Instant) -> Result<Admitted, Ending> {
        let (pool, code) = held.pool(deadline).await.map_err(|reason| Ending::not_ready(&reason))?;
        let checkout = pool.checkout(deadline).await;
        let checkout = checkout.map_err(|reason| Ending::no_sandbox(reason, self.received.elapsed()))?;
        Ok(Admitted { checkout, code })
    }

    /// Runs the guest, feeds it and delivers its answer, all in this task.
    async fn invoke(&self, held: &Held, order: Order, admitted: Admitted) -> (Ending, Rest) {
        let Admitted { checkout, code } = admitted;
        let (start, deadline) = (checkout.start, self.deadline(&order));
        let waited = Waited { queued: self.received.elapsed().saturating_sub(start), start, code };
        let (response, events) = ResponseSink::channel(EVENTS_AHEAD);
        let (feeder, body) = self.body();
        let source = Source {
            function: held.wanted().function.clone(),
            version: order.version.number,
            invocation: order.id,
            request_id: order.request_id,
        };
        let lines = Lines::new(held.tenant().clone(), source);
        let logs = lines.sink();
        let request = order.request.map(|()| body);
        let cancel = self.inflight.cancel.clone();
        let call = Call { id: order.id.uuid(), deadline, request, response, logs, cancel };
        // Boxed, so that whoever waits for a sandbox does not carry the room for it.
        let running = Box::pin(checkout.run(call));
        let delivery = answer::deliver(events, self.outgoing, self.inflight, deadline);
        let ((completion, rest, delivered), ()) = tokio::join!(answered(running, delivery), self.feed(feeder));
        lines.end(completion.usage.log_bytes_dropped);
        (Ending::of(&completion, delivered, self.inflight.stopped(), waited), rest)
    }

    /// The request's body: whole where it is here, as most are, or else to be fed.
    fn body(&self) -> (Option<mpsc::Sender<RequestFrame>>, RequestBody) {
        if let Some(whole) = self.inflight.inbox.whole() {
            return (None, RequestBody::full(whole));
        }
        let (feeder, body) = RequestBody::channel(1);
        (Some(feeder), body)
    }

    /// Passes the body on as the guest reads, and grants the gateway more.
    async fn feed(&self, feeder: Option<mpsc::Sender<RequestFrame>>) {
        let Some(feeder) = feeder else { return };
        let mut read = 0;
        // Fails when the guest wants no more.
        while let Ok(room) = feeder.reserve().await {
            let piece = tokio::select! { piece = self.inflight.inbox.next() => piece, () = feeder.closed() => return };
            match piece {
                Piece::End(trailers) if trailers.is_empty() => return room.send(RequestFrame::End),
                Piece::End(trailers) => return room.send(RequestFrame::Trailers(trailers)),
                Piece::Data(data) => {
                    read += data.len() as u64;
                    room.send(RequestFrame::Data(data));
                }
            }
            if read >= GRANT {
                self.inflight.inbox.grant(read);
                if self.outgoing.send(Frame::Credit(std::mem::take(&mut read))).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Runs the guest beside the delivery of its answer. A caller who reads slowly keeps nobody else waiting: unless all is
/// delivered as soon as the guest is done, its sandbox is let go then.
async fn answered<D>(
    running: impl Future<Output = (Completion, Rest)> + Unpin,
    delivery: impl Future<Output = D>,
) -> (Completion, Rest, D) {
    let mut delivery = pin!(delivery);
    match select(running, delivery.as_mut()).await {
        Either::Right((delivered, running)) => {
            let (completion, rest) = running.await;
            (completion, rest, delivered)
        }
        Either::Left(((completion, mut rest), mut delivery)) => {
            let delivered = match poll!(delivery.as_mut()) {
                Poll::Ready(delivered) => delivered,
                Poll::Pending => {
                    rest.release();
                    delivery.await
                }
            };
            (completion, rest, delivered)
        }
    }
}
