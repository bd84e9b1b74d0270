//! A session with a worker's endpoint: many invocations on one gRPC stream, routed by their numbers.
//!
//! One task reads (`Session::run`); everybody writes through `outbound.rs`. The table of calls is locked briefly, and
//! only by the calls of this one session.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::Waker,
    thread::{self, ThreadId},
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use dunlin_proto::{
    FEATURE_PING, PROTOCOL_VERSION,
    internal::v1::{
        Begin, OpenSessionRequest, OpenSessionResponse, SessionHello, open_session_request,
        open_session_response::Frame, session_service_client::SessionServiceClient,
    },
    local::Responses,
    trust::{Expected, Role},
};
use futures::{FutureExt, StreamExt};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;
use tonic::{Status, transport::Endpoint as Address};

use super::{
    call::{Call, CallHandle},
    endpoint::{Connector, Endpoint, InFlight},
    outbound::Outbound,
    record::Ledger,
    wire,
};

/// Larger than all credit that can be outstanding, so that a slow reader holds back only itself.
const WINDOW: u32 = 1 << 30;
/// The largest frame of a worker: a whole piece of a body, and what belongs to it.
const FRAME: u32 = 128 << 10;
/// How long opening a session may take.
const OPENING: Duration = Duration::from_secs(3);
/// Silence after which a worker with calls is asked for a sign of life.
const DOUBT: Duration = Duration::from_millis(250);
/// Silence after which it gets nothing new until it is heard again: it may be frozen, or cut off. What it has already may
/// run, so that it is lost only with the connection.
const SILENCE: Duration = Duration::from_millis(750);
/// How often silence is looked for.
const LOOK: Duration = Duration::from_millis(125);
/// Messages taken in before their receivers are woken, at the most.
const BATCH: usize = 256;

/// An open session.
#[derive(Debug)]
pub(super) struct Session {
    epoch: u64,
    next: AtomicU64,
    calls: Mutex<Calls>,
    outbound: Outbound,
    /// It takes no new calls.
    draining: AtomicBool,
    /// It has calls and has been silent for too long.
    silent: AtomicBool,
    /// When the worker was last heard, in milliseconds since `opened`.
    heard: AtomicU64,
    opened: Instant,
    /// Whether the worker answers pings.
    pings: AtomicBool,
    /// The thread that opened it and reads it, where threads keep their tasks.
    home: ThreadId,
}

#[derive(Debug, Default)]
struct Calls {
    running: HashMap<u64, Entry>,
    closed: bool,
}

#[derive(Debug)]
struct Entry {
    call: Arc<Call>,
    /// Completed by the end of a call whose receiver has left.
    ledger: Option<Ledger>,
    /// The receiver has left.
    left: bool,
    _in_flight: InFlight,
}

/// Opens a session to an endpoint.
pub(super) async fn open(connector: &Connector, endpoint: &Endpoint) -> anyhow::Result<(Arc<Session>, Responses)> {
    let opening = handshake(connector, endpoint);
    tokio::time::timeout(OPENING, opening).await.context("the worker did not answer in time")?
}

async fn handshake(connector: &Connector, endpoint: &Endpoint) -> anyhow::Result<(Arc<Session>, Responses)> {
    let epoch = rand::random_range(1..u64::MAX);
    let session = Arc::new(Session {
        epoch,
        next: AtomicU64::new(1),
        calls: Mutex::default(),
        outbound: Outbound::default(),
        draining: AtomicBool::new(false),
        silent: AtomicBool::new(false),
        heard: AtomicU64::new(0),
        opened: Instant::now(),
        pings: AtomicBool::new(false),
        home: thread::current().id(),
    });
    let hello = SessionHello {
        protocol_version: PROTOCOL_VERSION,
        features: vec![FEATURE_PING.to_owned()],
        peer: connector.gateway.to_string(),
        epoch,
        endpoint: endpoint.id.clone(),
    };
    session.send(0, open_session_request::Frame::Hello(hello));
    let mut incoming = transport(connector, endpoint, session.outbound.clone()).await.context("open session")?;
    let first = incoming.next().await.context("the worker ended the session")?.context("read hello")?;
    let Some(Frame::Hello(hello)) = first.frame else { bail!("the worker's first message is not a hello") };
    ensure!(hello.protocol_version == PROTOCOL_VERSION, "the worker speaks version {}", hello.protocol_version);
    ensure!(hello.epoch == epoch && hello.endpoint == endpoint.id, "the worker answers for {}", hello.endpoint);
    session.pings.store(hello.features.iter().any(|feature| feature == FEATURE_PING), Ordering::Relaxed);
    Ok((session, incoming))
}

/// Joins both directions of a session: in memory where the worker is in this process, otherwise over the network.
async fn transport(connector: &Connector, endpoint: &Endpoint, outbound: Outbound) -> anyhow::Result<Responses> {
    let address = &endpoint.address;
    if connector.local.has(address) {
        return Ok(connector.local.open(address, outbound.map(Ok).boxed()).await?);
    }
    // Only the worker that the scheduler has named gets callers' requests, whoever answers at its address.
    let expected = Expected::named(Role::Worker, &endpoint.worker);
    let link = connector.trust.connect(&reach(address)?, expected).await;
    let link = link.map_err(anyhow::Error::from_boxed).context("connect")?;
    Ok(SessionServiceClient::new(link).open_session(outbound).await?.into_inner().boxed())
}

fn reach(address: &str) -> anyhow::Result<Address> {
    let address = Address::from_shared(format!("http://{address}"))?
        .tcp_nodelay(true)
        .connect_timeout(Duration::from_secs(1))
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_frame_size(FRAME)
        .http2_keep_alive_interval(Duration::from_secs(2))
        .keep_alive_timeout(Duration::from_secs(3))
        .keep_alive_while_idle(true);
    Ok(address)
}

impl Session {
    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it takes new calls.
    pub(super) fn is_open(&self) -> bool {
        !self.is_draining() && !self.silent.load(Ordering::Relaxed)
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Whether it is of another thread than this one, which every message would wake.
    pub(super) fn is_far(&self, here: ThreadId) -> bool {
        self.home != here
    }

    /// Invocations on it.
    pub(super) fn load(&self) -> usize {
        self.calls().running.len()
    }

    /// Begins an invocation; nothing where the session no longer takes any, which gives the beginning back.
    pub(super) fn begin(self: &Arc<Self>, begin: Begin, in_flight: InFlight) -> Result<CallHandle, Box<Begin>> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let first = begin.body.as_ref().map_or(0, |body| body.data.len());
        let call = Arc::new(Call::beginning_with(first));
        let begun = call.begun();
        let entry = Entry { call: call.clone(), ledger: None, left: false, _in_flight: in_flight };
        let mut calls = self.calls();
        if calls.closed || !self.is_open() {
            return Err(Box::new(begin));
        }
        calls.running.insert(number, entry);
        drop(calls);
        let frame = Some(open_session_request::Frame::Begin(begin));
        self.outbound.push(OpenSessionRequest { epoch: self.epoch, invocation: number, frame }, Some(begun));
        Ok(CallHandle::new(self.clone(), number, call))
    }

    /// Sends a message about a call.
    pub(super) fn send(&self, invocation: u64, frame: open_session_request::Frame) {
        self.outbound.push(OpenSessionRequest { epoch: self.epoch, invocation, frame: Some(frame) }, None);
    }

    /// Waits until body bytes may be sent.
    pub(super) async fn room(&self) {
        self.outbound.room().await;
    }

    /// A call's receiver leaves, and the call's end completes the record; where the end is here already, the record is
    /// given back.
    pub(super) fn leave(&self, number: u64, ledger: Option<Ledger>) -> Option<Ledger> {
        let mut calls = self.calls();
        let Some(entry) = calls.running.get_mut(&number) else { return ledger };
        entry.left = true;
        entry.ledger = ledger;
        None
    }

    /// Reads until the stream ends, or until `stop` and the last call's end. Every call that is left is lost.
    ///
    /// `changed` is told when the worker falls silent, and when it is heard again.
    ///
    /// # Errors
    /// The worker is gone, or broke the protocol.
    pub(super) async fn run(
        &self,
        mut incoming: Responses,
        stop: &CancellationToken,
        changed: &watch::Sender<u64>,
    ) -> anyhow::Result<()> {
        let ended = tokio::select! {
            ended = self.read(&mut incoming, changed) => ended,
            () = self.listen(changed) => Ok(()),
            () = stop.cancelled() => {
                self.draining.store(true, Ordering::Relaxed);
                if self.load() == 0 { Ok(()) } else { self.read(&mut incoming, changed).await }
            }
        };
        self.close();
        ended
    }

    /// Looks for silence for ever: where calls run and nothing is heard, it asks, and then takes no new calls.
    async fn listen(&self, changed: &watch::Sender<u64>) {
        if !self.pings.load(Ordering::Relaxed) {
            return std::future::pending().await;
        }
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut busy = Instant::now();
        loop {
            let look = looks.tick().await;
            if self.load() == 0 && !self.silent.load(Ordering::Relaxed) {
                busy = look;
                continue;
            }
            // Before its first call it had no reason to speak.
            let heard = self.opened + Duration::from_millis(self.heard.load(Ordering::Relaxed));
            let silence = look.saturating_duration_since(heard.max(busy));
            if silence >= DOUBT {
                self.send(0, open_session_request::Frame::Ping(0));
            }
            if silence >= SILENCE && !self.silent.swap(true, Ordering::Relaxed) {
                tracing::warn!(?silence, "a worker with invocations is silent; it gets no new ones for now");
                changed.send_modify(|version| *version += 1);
            }
        }
    }

    /// The worker has been heard.
    fn hear(&self, changed: &watch::Sender<u64>) {
        let now = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.heard.store(now, Ordering::Relaxed);
        if self.silent.load(Ordering::Relaxed) && self.silent.swap(false, Ordering::Relaxed) {
            changed.send_modify(|version| *version += 1);
        }
    }

    /// Reads until the session has drained. Cancel-safe.
    async fn read(&self, incoming: &mut Responses, changed: &watch::Sender<u64>) -> anyhow::Result<()> {
        let mut wake = Vec::new();
        loop {
            let first = incoming.next().await;
            self.hear(changed);
            let taken = self.take(first, incoming, &mut wake);
            wake.drain(..).for_each(Waker::wake);
            taken?;
            if self.is_draining() && self.load() == 0 {
                return Ok(());
            }
        }
    }

    /// Takes in a message and everything else that is here already, before anybody is woken: head, body and end of a
    /// short answer then reach its receiver as one.
    fn take(
        &self,
        first: Option<Result<OpenSessionResponse, Status>>,
        incoming: &mut Responses,
        wake: &mut Vec<Waker>,
    ) -> anyhow::Result<()> {
        let mut next = Some(first);
        for _ in 0..BATCH {
            let Some(message) = next else { break };
            self.route(message.context("the worker ended the stream")??, wake)?;
            next = incoming.next().now_or_never();
        }
        match next {
            Some(message) => self.route(message.context("the worker ended the stream")??, wake),
            None => Ok(()),
        }
    }

    /// Hands a message to its call.
    fn route(&self, message: OpenSessionResponse, wake: &mut Vec<Waker>) -> anyhow::Result<()> {
        ensure!(message.epoch == self.epoch, "the worker sent a message of another epoch");
        let frame = message.frame.context("the worker sent an empty message")?;
        if matches!(frame, Frame::Pong(_)) {
            return Ok(());
        }
        if let Frame::Goaway(goaway) = frame {
            tracing::info!(reason = %goaway.reason, "worker takes no more invocations");
            self.draining.store(true, Ordering::Relaxed);
            return Ok(());
        }
        let mut calls = self.calls();
        // A call that is over may still be named by what crossed its end.
        let Some(entry) = calls.running.get_mut(&message.invocation) else { return Ok(()) };
        if entry.left && !matches!(frame, Frame::End(_) | Frame::Refusal(_)) {
            return Ok(());
        }
        if let Some(ledger) = entry.ledger.take() {
            let entry = calls.running.remove(&message.invocation);
            drop(calls);
            complete(ledger, frame);
            drop(entry);
            return Ok(());
        }
        // Also where the receiver has left and its record is about to follow, which then finds the end here.
        let arrived = entry.call.arrive(frame);
        if arrived.over {
            calls.running.remove(&message.invocation);
        }
        drop(calls);
        wake.extend(arrived.wake.into_iter().flatten());
        Ok(())
    }

    fn close(&self) {
        self.draining.store(true, Ordering::Relaxed);
        let mut calls = self.calls();
        calls.closed = true;
        let lost = std::mem::take(&mut calls.running);
        drop(calls);
        lost.into_values().for_each(|entry| entry.call.lose());
        self.outbound.close();
    }
}

/// Completes the record of a call whose receiver has left.
fn complete(ledger: Ledger, last: Frame) {
    if let Frame::End(end) = last {
        ledger.finish_late(wire::receipt(end.receipt.as_ref()));
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.close();
    }
}
