//! The data path: gateways' sessions, each one stream that carries many invocations at once.
//!
//! One task reads a session and never waits for an invocation: bodies go into inboxes that credit bounds (`inbox.rs`), and
//! every invocation is a task of its own (`invocation.rs`) that answers through the session's one bounded channel. Control
//! messages need no credit, body pieces do, so that a slow reader holds back only itself. A gateway that breaks the protocol
//! loses its session and nobody else's.

mod answer;
mod credit;
mod ending;
mod hello;
mod inbox;
mod inflight;
mod invocation;
mod lines;
mod numbers;
mod outgoing;
mod request;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use dunlin_process::{seldom::seldom, shutdown::Shutdown};
use dunlin_proto::{
    internal::v1::{
        Begin, Goaway, OpenSessionRequest, OpenSessionResponse, open_session_request::Frame,
        open_session_response::Frame as Answer, session_service_server::SessionService,
    },
    local::{Opening, Requests},
};
use futures::{StreamExt, TryStreamExt};
use tokio::{
    runtime::Handle,
    sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc},
    task::yield_now,
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::{holdings::Holdings, metrics::Counted};
use hello::Greeting;
use inflight::Inflight;
use invocation::Invocation;
use numbers::{Number, Numbers};
use outgoing::{Outgoing, Outlet};

/// Sessions at a time.
const MAX_SESSIONS: usize = 256;
/// Invocations of a session at a time, waiting ones included; a gateway that wants more has lost count.
const MAX_INFLIGHT: usize = 65_536;
/// Messages that wait for the network.
const OUTGOING_MESSAGES: usize = 512;
/// Invocations of a session that are few enough for each answer to leave at once.
const FEW: usize = 3;
/// How long a gateway may take for its hello, and to take the news that its session is over.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a gateway did wrong. Its session ends, and this is what it is told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
struct Fault(String);

impl Fault {
    fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

/// Serves gateways. Clones share everything.
#[derive(Debug, Clone)]
pub(crate) struct Sessions {
    context: Arc<Context>,
    places: Arc<Semaphore>,
}

/// What sessions share.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) worker: String,
    pub(crate) endpoint: String,
    pub(crate) holdings: Holdings,
    /// What invocations count.
    pub(crate) counted: Counted,
    /// Its beginning makes sessions say goodbye; they end with their last invocation.
    pub(crate) shutdown: Shutdown,
    /// The grace period is over: what still runs is stopped.
    pub(crate) stop: CancellationToken,
}

impl Sessions {
    pub(crate) fn new(context: Context) -> Self {
        Self { context: Arc::new(context), places: Arc::new(Semaphore::new(MAX_SESSIONS)) }
    }

    /// Opens sessions for a gateway of this process until the worker leaves.
    pub(crate) async fn serve_local(self, mut openings: mpsc::Receiver<Opening>) {
        loop {
            let opening = tokio::select! {
                opening = openings.recv() => opening,
                () = self.context.shutdown.begun() => return,
            };
            let Some(Opening { requests, home, answer }) = opening else { return };
            let opened = self.open(requests, &home).await.map(|receiver| ReceiverStream::new(receiver).boxed());
            // A gateway that no longer waits for it sees its session end.
            let _ = answer.send(opened);
        }
    }

    /// Greets a gateway and begins its session on a runtime; the receiver is what the gateway hears.
    async fn open(
        &self,
        mut requests: Requests,
        home: &Handle,
    ) -> Result<mpsc::Receiver<Result<OpenSessionResponse, Status>>, Status> {
        let place = self.places.clone().try_acquire_owned();
        let place =
            place.map_err(|_| Status::resource_exhausted(format!("{MAX_SESSIONS} sessions are open already")))?;
        let first = timeout(PATIENCE, requests.try_next()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("no hello came"))??;
        let greeting = hello::answer(first, &self.context)?;
        let (outlet, receiver) = mpsc::channel(OUTGOING_MESSAGES);
        let session = Session::new(self.context.clone(), &greeting, outlet);
        self.context.shutdown.spawn_on(session.run(requests, greeting, place), home);
        Ok(receiver)
    }
}

#[tonic::async_trait]
impl SessionService for Sessions {
    type OpenSessionStream = ReceiverStream<Result<OpenSessionResponse, Status>>;

    async fn open_session(
        &self,
        request: Request<Streaming<OpenSessionRequest>>,
    ) -> Result<Response<Self::OpenSessionStream>, Status> {
        let receiver = self.open(request.into_inner().boxed(), &Handle::current()).await?;
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

/// The invocations of a session that have not ended.
type InflightMap = Arc<Mutex<HashMap<u64, Arc<Inflight>>>>;

/// One gateway's session.
#[derive(Debug)]
struct Session {
    context: Arc<Context>,
    epoch: u64,
    outlet: Outlet,
    inflight: InflightMap,
    numbers: Numbers,
    /// Rings when an invocation ends.
    ended: Arc<Notify>,
    draining: bool,
}

/// Why a session ended.
#[derive(Debug)]
enum End {
    /// The gateway closed it, or was lost.
    Gone(Option<Status>),
    /// The gateway broke the protocol.
    Fault(Fault),
    /// The worker leaves, and nothing runs any more.
    Drained,
    /// The worker leaves now.
    Stopped,
}

impl Session {
    fn new(context: Arc<Context>, greeting: &Greeting, outlet: Outlet) -> Self {
        let (inflight, ended) = (InflightMap::default(), Arc::new(Notify::new()));
        Self { context, epoch: greeting.epoch, outlet, inflight, numbers: Numbers::default(), ended, draining: false }
    }

    async fn run(mut self, incoming: Requests, greeting: Greeting, place: OwnedSemaphorePermit) {
        tracing::info!(gateway = greeting.peer, "session opened");
        self.tell(Answer::Hello(greeting.answer)).await;
        let end = self.serve(incoming).await;
        let left = self.lock().len();
        for inflight in self.lock().values() {
            inflight.cancel("caller_gone");
        }
        self.say_end(&greeting.peer, end, left).await;
        drop(place);
    }

    async fn serve(&mut self, mut incoming: Requests) -> End {
        let (context, ended) = (self.context.clone(), self.ended.clone());
        // Waited for once and not once a message.
        let (mut leaving, mut stopped) =
            (std::pin::pin!(seldom(context.shutdown.begun())), std::pin::pin!(seldom(context.stop.cancelled())));
        loop {
            tokio::select! {
                message = incoming.next() => match message {
                    Some(Ok(message)) => if let Err(fault) = self.take(message) { return End::Fault(fault) },
                    None => return End::Gone(None),
                    Some(Err(status)) => return broken(status),
                },
                () = &mut leaving, if !self.draining => {
                    self.draining = true;
                    self.tell(Answer::Goaway(Goaway { reason: "the worker is stopping".to_owned() })).await;
                }
                () = ended.notified(), if self.draining => {}
                () = &mut stopped => return End::Stopped,
            }
            if self.draining && self.lock().is_empty() {
                return End::Drained;
            }
        }
    }

    /// Takes a message. Never waits: what can't go on at once waits in its own invocation.
    fn take(&mut self, message: OpenSessionRequest) -> Result<(), Fault> {
        let OpenSessionRequest { epoch, invocation, frame } = message;
        if epoch != self.epoch {
            return Err(Fault::new(format!("a message has epoch {epoch} in a session of epoch {}", self.epoch)));
        }
        match frame {
            None => Err(Fault::new("a message says nothing that this protocol version knows")),
            Some(Frame::Hello(_)) => Err(Fault::new("a session has one hello")),
            Some(Frame::Begin(begin)) => self.begin(invocation, begin),
            Some(Frame::Body(body)) => self.find(invocation)?.map_or(Ok(()), |inflight| inflight.inbox.push(body)),
            Some(Frame::Credit(bytes)) => self.find(invocation)?.map_or(Ok(()), |inflight| inflight.credit.add(bytes)),
            Some(Frame::Ping(number)) => {
                let pong = OpenSessionResponse { epoch: self.epoch, invocation: 0, frame: Some(Answer::Pong(number)) };
                // Where messages wait already, they are the sign of life.
                let _ = self.outlet.try_send(Ok(pong));
                Ok(())
            }
            Some(Frame::Cancel(cancel)) => {
                if let Some(inflight) = self.find(invocation)? {
                    inflight.cancel(&cancel.reason);
                }
                Ok(())
            }
        }
    }

    fn begin(&mut self, number: u64, mut begin: Begin) -> Result<(), Fault> {
        self.numbers.begin(number)?;
        let inflight = Arc::new(Inflight::new(begin.body.take())?);
        let mut all = self.inflight.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MAX_INFLIGHT {
            return Err(Fault::new(format!("more than {MAX_INFLIGHT} invocations at once")));
        }
        all.insert(number, inflight.clone());
        drop(all);
        let outgoing = Outgoing::new(self.epoch, number, self.outlet.clone());
        let invocation = Invocation::new(self.context.clone(), inflight, outgoing, begin, self.draining);
        let (all, ended) = (self.inflight.clone(), self.ended.clone());
        self.context.shutdown.spawn(async move {
            let rest = invocation.run().await;
            let others = {
                let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
                all.remove(&number);
                all.len()
            };
            ended.notify_one();
            // Nobody waits for this any more, neither the caller nor a session that drains.
            if let Some(rest) = rest {
                // The answer goes to the network first. Where many come at once, it waits for the others anyway, and a sandbox is
                // let go fastest while the processor's caches still have it.
                if others < FEW {
                    yield_now().await;
                }
                rest.finish().await;
            }
        });
        Ok(())
    }

    /// The invocation that a message is about; nothing where it has just ended.
    fn find(&self, number: u64) -> Result<Option<Arc<Inflight>>, Fault> {
        match self.numbers.state(number) {
            Number::Begun => Ok(self.lock().get(&number).cloned()),
            Number::Unknown => Err(Fault::new(format!("a message is about invocation {number}, which has not begun"))),
        }
    }

    /// Says something about the session as a whole.
    async fn tell(&self, frame: Answer) {
        let message = OpenSessionResponse { epoch: self.epoch, invocation: 0, frame: Some(frame) };
        // A gateway that is gone shows in the reading.
        let _ = self.outlet.send(Ok(message)).await;
    }

    /// Logs the end once, and tells the gateway where it does not know.
    async fn say_end(&self, gateway: &str, end: End, left: usize) {
        let status = match end {
            End::Gone(None) | End::Drained => {
                tracing::info!(gateway, cancelled = left, "session closed");
                return;
            }
            End::Gone(Some(status)) => {
                tracing::info!(gateway, cancelled = left, reason = status.message(), "session lost");
                return;
            }
            End::Fault(fault) => {
                tracing::warn!(gateway, cancelled = left, %fault, "session ended: the gateway broke the protocol");
                Status::invalid_argument(fault.to_string())
            }
            End::Stopped => Status::unavailable("the worker has stopped"),
        };
        // Nothing is lost where nobody listens any more.
        let _ = timeout(PATIENCE, self.outlet.send(Err(status))).await;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Arc<Inflight>>> {
        self.inflight.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream that can't be read on: lost with its connection, or not made of messages.
fn broken(status: Status) -> End {
    let by_peer =
        matches!(status.code(), tonic::Code::Internal | tonic::Code::OutOfRange | tonic::Code::ResourceExhausted)
            && std::error::Error::source(&status).is_none();
    if by_peer {
        End::Fault(Fault::new(format!("unreadable message: {}", status.message())))
    } else {
        End::Gone(Some(status))
    }
}
