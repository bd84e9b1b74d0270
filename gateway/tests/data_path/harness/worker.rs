//! A worker whose functions do what the path says: each behaviour below is one way in which a guest or a worker can act.

mod say;

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use dunlin_process::shutdown::Shutdown;
use dunlin_proto::internal::v1::{
    Begin, Body, End, Goaway, Head, Header, OpenSessionRequest, OpenSessionResponse, Refusal, SessionHello,
    SessionReceipt,
    open_session_request::Frame as In,
    open_session_response::Frame as Out,
    session_service_server::{SessionService, SessionServiceServer},
};
use futures::{Stream, StreamExt};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

/// A simulated worker. Dropped, it is gone.
pub(crate) struct Worker {
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    pub(crate) seen: Arc<Seen>,
    shutdown: Shutdown,
}

/// What gateways sent, and how the worker is to act.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) begins: Mutex<Vec<Begin>>,
    pub(crate) cancels: Mutex<Vec<String>>,
    /// Body bytes that arrived, and that were sent.
    pub(crate) received: AtomicU64,
    pub(crate) sent: AtomicU64,
    pub(crate) sessions: AtomicU64,
    /// Refuses everything.
    pub(crate) full: watch::Sender<bool>,
    /// Has no version.
    pub(crate) lacks: watch::Sender<bool>,
    /// Something is wrong on its side.
    pub(crate) broken: watch::Sender<bool>,
    /// What is wrong takes its time.
    pub(crate) slow: watch::Sender<bool>,
    /// Takes calls, says nothing of them, and does not end them in time, although it is there.
    pub(crate) stuck: watch::Sender<bool>,
    /// What waits in the middle of an answer goes on.
    pub(crate) go: watch::Sender<bool>,
    /// Reads and says nothing, like a process that has been stopped.
    pub(crate) frozen: watch::Sender<bool>,
}

#[derive(Clone)]
struct Service {
    seen: Arc<Seen>,
    shutdown: Shutdown,
}

impl Worker {
    pub(crate) async fn start(name: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, shutdown) = (Arc::<Seen>::default(), Shutdown::default());
        let service = Service { seen: seen.clone(), shutdown: shutdown.clone() };
        let server = SessionServiceServer::with_interceptor(service, super::secret().require());
        let ended = shutdown.clone();
        shutdown.spawn(async move {
            let server = tonic::transport::Server::builder()
                .initial_stream_window_size(1 << 24)
                .initial_connection_window_size(1 << 24)
                .add_service(server);
            tokio::select! {
                served = server.serve_with_incoming(TcpListenerStream::new(listener)) => served.unwrap(),
                () = ended.begun() => {}
            }
        });
        Self { name: name.to_owned(), address, seen, shutdown }
    }

    pub(crate) fn begins(&self) -> Vec<Begin> {
        self.seen.begins.lock().unwrap().clone()
    }

    pub(crate) fn cancels(&self) -> Vec<String> {
        self.seen.cancels.lock().unwrap().clone()
    }

    pub(crate) fn stop(&self) {
        self.shutdown.begin();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop();
    }
}

type Outgoing = mpsc::Sender<Result<OpenSessionResponse, Status>>;

#[tonic::async_trait]
impl SessionService for Service {
    type OpenSessionStream = Pin<Box<dyn Stream<Item = Result<OpenSessionResponse, Status>> + Send>>;

    async fn open_session(
        &self,
        request: Request<Streaming<OpenSessionRequest>>,
    ) -> Result<Response<Self::OpenSessionStream>, Status> {
        let (outgoing, stream) = mpsc::channel(64);
        let service = self.clone();
        self.shutdown.spawn(async move {
            let ended = service.shutdown.clone();
            tokio::select! {
                _ = service.session(request.into_inner(), outgoing) => {}
                () = ended.begun() => {}
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}

impl Service {
    async fn session(self, mut incoming: Streaming<OpenSessionRequest>, outgoing: Outgoing) -> Option<()> {
        let first = incoming.next().await?.ok()?;
        let Some(In::Hello(hello)) = first.frame else { return None };
        self.seen.sessions.fetch_add(1, Ordering::SeqCst);
        let epoch = hello.epoch;
        let hello = SessionHello { peer: "worker".into(), ..hello };
        outgoing.send(Ok(OpenSessionResponse { epoch, invocation: 0, frame: Some(Out::Hello(hello)) })).await.ok()?;
        let mut calls: HashMap<u64, mpsc::Sender<In>> = HashMap::new();
        let (died, mut dies) = mpsc::channel::<()>(1);
        loop {
            let message = tokio::select! {
                message = incoming.next() => message?.ok()?,
                _ = dies.recv() => return None,
            };
            self.seen.frozen.subscribe().wait_for(|frozen| !frozen).await.ok()?;
            assert_eq!(message.epoch, epoch);
            match message.frame? {
                In::Begin(begin) => {
                    let (frames, arriving) = mpsc::channel(1024);
                    calls.insert(message.invocation, frames);
                    self.seen.begins.lock().unwrap().push(begin.clone());
                    let call = Call {
                        number: message.invocation,
                        epoch,
                        outgoing: outgoing.clone(),
                        arriving,
                        credit: 256 << 10,
                        pieces: VecDeque::new(),
                        seen: self.seen.clone(),
                        died: died.clone(),
                    };
                    self.shutdown.spawn(call.run(begin));
                }
                In::Cancel(cancel) => {
                    self.seen.cancels.lock().unwrap().push(cancel.reason.clone());
                    self.pass(&calls, message.invocation, In::Cancel(cancel)).await;
                }
                In::Ping(number) => {
                    let frame = Some(Out::Pong(number));
                    outgoing.send(Ok(OpenSessionResponse { epoch, invocation: 0, frame })).await.ok()?;
                }
                frame => self.pass(&calls, message.invocation, frame).await,
            }
        }
    }

    async fn pass(&self, calls: &HashMap<u64, mpsc::Sender<In>>, number: u64, frame: In) {
        if let In::Body(body) = &frame {
            self.seen.received.fetch_add(body.data.len() as u64, Ordering::SeqCst);
        }
        if let Some(call) = calls.get(&number) {
            // A call that is over takes nothing more.
            let _ = call.send(frame).await;
        }
    }
}

struct Call {
    number: u64,
    epoch: u64,
    outgoing: Outgoing,
    arriving: mpsc::Receiver<In>,
    credit: u64,
    /// Pieces of the body that came while waiting for credit.
    pieces: VecDeque<Body>,
    seen: Arc<Seen>,
    died: mpsc::Sender<()>,
}

fn text(body: &str) -> Body {
    Body { data: Bytes::from(body.to_owned()), last: true, trailers: Vec::new() }
}

impl Call {
    async fn send(&self, frame: Out) {
        let message = OpenSessionResponse { epoch: self.epoch, invocation: self.number, frame: Some(frame) };
        // The gateway may have left.
        let _ = self.outgoing.send(Ok(message)).await;
    }

    /// What ends this call, in a message that can be bent.
    fn message(&self) -> OpenSessionResponse {
        let frame = Some(Out::End(End::default()));
        OpenSessionResponse { epoch: self.epoch, invocation: self.number, frame }
    }

    async fn garbage(&self, message: OpenSessionResponse) {
        // The gateway may have left.
        let _ = self.outgoing.send(Ok(message)).await;
    }

    async fn head(&self, status: u32, headers: &[(&str, &str)]) {
        let header = |(name, value): &(&str, &str)| Header {
            name: (*name).to_owned().into(),
            value: Bytes::from((*value).to_owned()),
        };
        self.send(Out::Head(Head { status, headers: headers.iter().map(header).collect() })).await;
    }

    async fn end(&self, outcome: &str, reason: &str) {
        let receipt = SessionReceipt {
            queue_nanos: 1_000_000,
            start_nanos: 2_000_000,
            run_nanos: 3_000_000,
            cpu_nanos: 4_000_000,
            ..SessionReceipt::default()
        };
        let (outcome, reason) = (outcome.to_owned(), reason.to_owned());
        self.send(Out::End(End { outcome, message: String::new(), reason, receipt: Some(receipt) })).await;
    }

    async fn refuse(&self, code: &str) {
        self.send(Out::Refusal(Refusal { code: code.into(), message: "no".into(), retry_after_millis: 1500 })).await;
    }

    async fn answer(&self, body: &str) {
        self.head(200, &[("content-type", "text/plain")]).await;
        self.send(Out::Body(text(body))).await;
        self.end("ok", "").await;
    }

    async fn run(mut self, begin: Begin) {
        if *self.seen.full.borrow() {
            return self.refuse("unavailable").await;
        }
        if *self.seen.lacks.borrow() {
            let refusal = Refusal { code: "unavailable".into(), message: "not here".into(), retry_after_millis: 0 };
            return self.send(Out::Refusal(refusal)).await;
        }
        if *self.seen.broken.borrow() {
            if *self.seen.slow.borrow() {
                tokio::time::sleep(Duration::from_millis(30)).await;
            }
            return self.end("internal", "").await;
        }
        if *self.seen.stuck.borrow() {
            return self.until_cancelled().await;
        }
        let path = begin.path_and_query.split('?').next().unwrap_or_default().to_owned();
        match path.as_str() {
            "/echo" => self.echo(begin).await,
            "/stream" => self.stream().await,
            path if path.starts_with("/say") => self.say(&begin).await,
            "/swallow" => self.swallow().await,
            "/hang" => self.until_cancelled().await,
            "/silent" => std::future::pending().await,
            "/trap" => self.end("function_failed", "stack_overflow").await,
            "/slow-trap" => {
                tokio::time::sleep(Duration::from_millis(30)).await;
                self.end("function_failed", "trap").await;
            }
            "/late-trap" => {
                self.head(200, &[]).await;
                self.send(Out::Body(Body { data: vec![b'x'; 100_000 / 2].into(), ..Body::default() })).await;
                tokio::time::sleep(Duration::from_millis(50)).await;
                self.end("function_failed", "trap").await;
            }
            "/trap-after-head" => {
                self.head(200, &[]).await;
                self.end("memory_exceeded", "").await;
            }
            "/too-long" => self.end("deadline_exceeded", "").await,
            "/nothing" => self.end("ok", "").await,
            "/switching" => {
                self.head(101, &[]).await;
                self.end("ok", "").await;
            }
            "/no-content" => {
                self.head(204, &[("x-a", "b")]).await;
                self.send(Out::Body(text(""))).await;
                self.end("ok", "").await;
            }
            "/lies" => {
                let headers =
                    [("content-length", "9999"), ("transfer-encoding", "gzip"), ("connection", "x-b"), ("x-b", "1")];
                self.head(
                    200,
                    &[
                        &headers[..],
                        &[("x-request-id", "mine"), ("dunlin-x", "1"), ("set-cookie", "a=b"), ("set-cookie", "c=d")],
                    ]
                    .concat(),
                )
                .await;
                self.send(Out::Body(text("short"))).await;
                self.end("ok", "").await;
            }
            "/unread" => {
                self.head(200, &[]).await;
                tokio::time::sleep(Duration::from_millis(800)).await;
                self.send(Out::Body(text("unread"))).await;
                self.end("ok", "").await;
            }
            "/slow-stream" => self.slow_stream().await,
            "/busy" => self.refuse("too_many_requests").await,
            "/die" => drop(self.died.send(()).await),
            "/cut" => self.cut(4).await,
            "/cut-long" => self.cut(100_000).await,
            "/cut-once" if is_first(&begin) => self.cut(4).await,
            "/cut-once" => self.answer("the other answer").await,
            "/drip" => self.drip().await,
            "/die-once" if is_first(&begin) => drop(self.died.send(()).await),
            "/die-once" => self.echo(begin).await,
            "/other-epoch" => self.garbage(OpenSessionResponse { epoch: self.epoch ^ 1, ..self.message() }).await,
            "/no-frame" => self.garbage(OpenSessionResponse { frame: None, ..self.message() }).await,
            "/for-others" => {
                // Ends calls that it was never given, and then its own.
                for number in [0, self.number + 1, u64::MAX] {
                    self.garbage(OpenSessionResponse { invocation: number, ..self.message() }).await;
                }
                self.answer("mine").await;
            }
            "/leave" => {
                let goaway = OpenSessionResponse {
                    epoch: self.epoch,
                    invocation: 0,
                    frame: Some(Out::Goaway(Goaway::default())),
                };
                self.outgoing.send(Ok(goaway)).await.unwrap();
                self.answer("bye").await;
            }
            _ => self.answer(&describe(&begin)).await,
        }
    }

    /// Sends back what arrives, with trailers.
    async fn echo(&mut self, begin: Begin) {
        self.head(200, &[("trailer", "x-length")]).await;
        let mut length = 0;
        let mut next = begin.body;
        while let Some(body) = next.take() {
            length += body.data.len();
            if !body.data.is_empty() {
                self.send(Out::Credit(body.data.len() as u64)).await;
                self.data(body.data).await;
            }
            if body.last {
                let trailer = Header { name: "x-length".into(), value: length.to_string().into() };
                let trailers = [vec![trailer], body.trailers].concat();
                self.send(Out::Body(Body { data: Bytes::new(), last: true, trailers })).await;
                return self.end("ok", "").await;
            }
            next = self.pieces.pop_front();
            while next.is_none() {
                match self.arriving.recv().await {
                    Some(In::Body(body)) => next = Some(body),
                    Some(In::Credit(bytes)) => self.credit += bytes,
                    Some(_) => return self.end("cancelled", "").await,
                    None => return,
                }
            }
        }
    }

    /// Sends bytes as far as credit goes, waiting for more credit where needed.
    async fn data(&mut self, data: Bytes) {
        while self.credit < data.len() as u64 {
            match self.arriving.recv().await {
                Some(In::Credit(bytes)) => self.credit += bytes,
                Some(In::Body(body)) => self.pieces.push_back(body),
                Some(_) => {}
                None => return,
            }
        }
        self.credit -= data.len() as u64;
        self.seen.sent.fetch_add(data.len() as u64, Ordering::SeqCst);
        self.send(Out::Body(Body { data, ..Body::default() })).await;
    }

    /// Sends 16 MiB.
    async fn stream(&mut self) {
        self.head(200, &[]).await;
        for _ in 0..256 {
            self.data(vec![7; 64 << 10].into()).await;
        }
        self.send(Out::Body(Body { last: true, ..Body::default() })).await;
        self.end("ok", "").await;
    }

    /// Reads everything, and then answers.
    async fn swallow(&mut self) {
        while let Some(frame) = self.arriving.recv().await {
            match frame {
                In::Body(body) if body.last => return self.answer("swallowed").await,
                In::Body(body) => self.send(Out::Credit(body.data.len() as u64)).await,
                In::Cancel(_) => return self.end("cancelled", "").await,
                _ => {}
            }
        }
    }

    async fn slow_stream(&mut self) {
        self.head(200, &[]).await;
        for _ in 0..3 {
            self.data(Bytes::from_static(b"tick")).await;
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        self.send(Out::Body(Body { last: true, ..Body::default() })).await;
        self.end("ok", "").await;
    }

    /// Waits in the middle of an answer until the test says so.
    async fn go(&self) {
        self.seen.go.subscribe().wait_for(|go| *go).await.unwrap();
    }

    /// Sends so much of an answer, and then brings the worker's session down.
    async fn cut(&mut self, bytes: usize) {
        self.head(200, &[("x-run", "first")]).await;
        for piece in vec![b'1'; bytes].chunks(50_000) {
            self.data(Bytes::copy_from_slice(piece)).await;
        }
        self.go().await;
        // It is down already where another call was faster.
        let _ = self.died.send(()).await;
    }

    /// Sends a piece, and the other one when it may.
    async fn drip(&mut self) {
        self.head(200, &[]).await;
        self.data(Bytes::from_static(b"drip")).await;
        self.go().await;
        self.send(Out::Body(text("drop"))).await;
        self.end("ok", "").await;
    }

    async fn until_cancelled(&mut self) {
        while let Some(frame) = self.arriving.recv().await {
            if matches!(frame, In::Cancel(_)) {
                return self.end("cancelled", "").await;
            }
        }
    }
}

/// What the function was given, as JSON.
fn describe(begin: &Begin) -> String {
    let header = |header: &Header| {
        let [name, value] = [&header.name, &header.value].map(|text| String::from_utf8_lossy(text).into_owned());
        serde_json::json!([name, value])
    };
    let body = begin.body.as_ref().map(|body| String::from_utf8_lossy(&body.data).into_owned());
    serde_json::json!({
        "method": begin.method,
        "path": begin.path_and_query,
        "base": begin.base_path,
        "authority": begin.authority,
        "remote": begin.remote_address,
        "version": begin.version.as_ref().map(|version| version.number),
        "request_id": begin.request_id,
        "headers": begin.headers.iter().map(header).collect::<Vec<_>>(),
        "body": body,
    })
    .to_string()
}

/// Whether no worker has seen this invocation before.
fn is_first(begin: &Begin) -> bool {
    static SEEN: Mutex<BTreeSet<Bytes>> = Mutex::new(BTreeSet::new());
    SEEN.lock().unwrap().insert(begin.id.clone())
}
