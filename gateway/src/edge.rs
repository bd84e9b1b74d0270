//! Connections of callers: accepted, secured, told apart by protocol, limited, drained. What a request means is not known
//! here.
//!
//! The builders of hyper are chosen by our own look at the first bytes (`edge/sniff.rs`), because its automatic one has
//! no timer while it looks; heads that parsers could disagree on are found by `edge/framing.rs`.

mod framing;
mod linger;
mod open;
mod proxied;
mod refusal;
mod sniff;

use std::{
    future::Future,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use dunlin_process::{
    cores::Cores,
    listen::{Sockets, pause},
    shutdown::Shutdown,
};
use http::{HeaderValue, Request, Response, header};
use http_body::Body;
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::Instant,
};

use crate::{
    config::{LimitsConfig, ProxiesConfig},
    tls::{Session, Tls},
};
use framing::Guarded;
pub(crate) use framing::Verdict;
pub(crate) use linger::Lingering;
use open::Opened;
use refusal::Explained;
use sniff::Protocol;

/// The largest head that is read at all; what is above the configured limit, but not above this, gets our own error.
const MAX_HEAD: usize = 128 << 10;
/// Header fields that are read at all.
const MAX_FIELDS: usize = 256;
/// How long a client has to end a connection that it was asked to end.
const GOODBYE: Duration = Duration::from_secs(1);

/// The other side of a connection.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    /// Its address, or the one that a proxy named at the beginning of the connection.
    pub(crate) remote: SocketAddr,
    /// What is wrong with how it frames its messages, where something is.
    pub(crate) verdict: Verdict,
    /// What the connection was secured for; nothing in the clear.
    pub(crate) session: Option<Arc<Session>>,
}

impl Peer {
    /// The scheme of its requests.
    pub(crate) fn scheme(&self) -> &'static str {
        if self.session.is_some() { "https" } else { "http" }
    }
}

/// How connections of a listener are served. Clones share everything.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    pub(crate) limits: Arc<LimitsConfig>,
    /// Who alone may connect, and says first for whom; nothing where callers connect themselves.
    pub(crate) proxies: Option<Arc<ProxiesConfig>>,
    /// Nothing where the listener speaks in the clear.
    pub(crate) tls: Option<Tls>,
    /// What browsers are told about the next time (RFC 6797), by TLS alone.
    pub(crate) hsts: Option<HeaderValue>,
}

/// What a connection does, to tell an idle one.
#[derive(Debug)]
struct Activity {
    /// Requests that are being answered.
    running: AtomicUsize,
    /// Whether there has been a request.
    served: Arc<AtomicBool>,
    opened: Instant,
    /// When the last answer was begun, in milliseconds since the connection was opened.
    last: AtomicU64,
}

impl Activity {
    fn new() -> Self {
        Self { running: AtomicUsize::new(0), served: Arc::default(), opened: Instant::now(), last: AtomicU64::new(0) }
    }

    fn touch(&self) {
        let now = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(now, Ordering::Relaxed);
    }

    /// How long nothing has happened.
    fn idle(&self) -> Duration {
        if self.running.load(Ordering::Relaxed) > 0 {
            return Duration::ZERO;
        }
        self.opened.elapsed().saturating_sub(Duration::from_millis(self.last.load(Ordering::Relaxed)))
    }
}

/// Serves the connections of a listener on these threads until `shutdown` begins; each is a task of it, and ends once its
/// requests have.
pub(crate) fn serve<S, F, B>(listener: TcpListener, cores: &Cores, terms: &Terms, service: &S, shutdown: &Shutdown)
where
    S: Fn(Request<Lingering>, Peer) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let places = Arc::new(Semaphore::new(terms.limits.connections));
    for (core, sockets) in Sockets::share(listener, cores, shutdown) {
        let serving = accept(sockets, places.clone(), terms.clone(), service.clone(), shutdown.clone());
        shutdown.spawn_on(serving, &core);
    }
}

async fn accept<S, F, B>(mut sockets: Sockets, places: Arc<Semaphore>, terms: Terms, service: S, shutdown: Shutdown)
where
    S: Fn(Request<Lingering>, Peer) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    loop {
        let accepted = tokio::select! {
            accepted = sockets.accept() => accepted,
            () = shutdown.begun() => return,
        };
        let (stream, remote) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                pause(&error).await;
                continue;
            }
        };
        // A connection that can't be served is closed at once, so that its client can try another gateway.
        let Ok(place) = places.clone().try_acquire_owned() else { continue };
        let connection = connection(stream, remote, terms.clone(), service.clone(), shutdown.clone());
        shutdown.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%remote, %error, "connection ended");
            }
            drop(place);
        });
    }
}

type ConnectionError = Box<dyn std::error::Error + Send + Sync>;

async fn connection<S, F, B>(
    stream: TcpStream,
    remote: SocketAddr,
    terms: Terms,
    service: S,
    shutdown: Shutdown,
) -> Result<(), ConnectionError>
where
    S: Fn(Request<Lingering>, Peer) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    stream.set_nodelay(true)?;
    let opened = tokio::select! {
        opened = tokio::time::timeout(terms.limits.header_timeout, open::open(stream, remote, &terms)) => opened,
        () = shutdown.begun() => return Ok(()),
    };
    let Opened { protocol, stream, remote, session } = opened??;
    let Terms { limits, hsts, .. } = terms;
    let hsts = hsts.filter(|_| session.is_some());
    let peer = Peer { remote, verdict: Verdict::default(), session };
    let activity = Arc::new(Activity::new());
    let (verdict, running, tasks) = (peer.verdict.clone(), activity.clone(), shutdown.clone());
    let service = service_fn(move |request: Request<Incoming>| {
        running.running.fetch_add(1, Ordering::Relaxed);
        running.served.store(true, Ordering::Relaxed);
        let request = Lingering::request(request, &tasks);
        let (answer, running) = (service(request, peer.clone()), Answering(running.clone()));
        let hsts = hsts.clone();
        async move {
            let mut response = answer.await;
            if let Some(hsts) = hsts {
                response.headers_mut().insert(header::STRICT_TRANSPORT_SECURITY, hsts);
            }
            Ok::<_, std::convert::Infallible>(response.map(|body| Counted { body, _running: running }))
        }
    });
    match protocol {
        Protocol::Http1 => {
            let io = TokioIo::new(Guarded::new(Explained::new(stream, activity.served.clone()), verdict));
            let mut connection = http1_builder(&limits).serve_connection(io, service);
            let ended = tokio::select! {
                ended = &mut connection => ended,
                () = shutdown.begun() => {
                    Pin::new(&mut connection).graceful_shutdown();
                    (&mut connection).await
                }
            };
            let Err(error) = ended else { return Ok(()) };
            let parts = connection.into_parts();
            let (mut stream, begun) = (parts.io.into_inner(), !parts.read_buf.is_empty());
            if error.is_timeout() && begun {
                stream.write_all(&refusal::bytes(&refusal::slow_head())).await?;
            }
            // By TLS there is something to write, which a client that reads nothing keeps from ending.
            tokio::time::timeout(GOODBYE, stream.shutdown()).await??;
            Err(error.into())
        }
        Protocol::Http2 => {
            let mut connection = pin!(http2_builder(&limits).serve_connection(TokioIo::new(stream), service));
            tokio::select! {
                ended = connection.as_mut() => return Ok(ended?),
                () = shutdown.begun() => {}
                () = idle(&activity, limits.idle_timeout) => {}
            }
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = connection.as_mut() => Ok(ended?),
                // A client that does not say goodbye is not waited for.
                () = quiet(&activity) => Ok(()),
            }
        }
    }
}

/// Waits until nothing has happened for so long.
async fn idle(activity: &Activity, patience: Duration) {
    loop {
        let left = patience.saturating_sub(activity.idle());
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left).await;
    }
}

/// Waits a moment, and then until nothing is running.
async fn quiet(activity: &Activity) {
    tokio::time::sleep(GOODBYE).await;
    idle(activity, GOODBYE).await;
}

fn http1_builder(limits: &LimitsConfig) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        // It also ends connections that are idle between requests.
        .header_read_timeout(limits.header_timeout)
        .max_headers(MAX_FIELDS)
        .max_buf_size(MAX_HEAD);
    builder
}

/// The limits against floods of streams, resets and settings (T33).
fn http2_builder(limits: &LimitsConfig) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(100)
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(64)
        .max_header_list_size(u32::try_from(limits.header_bytes.saturating_mul(2)).unwrap_or(u32::MAX))
        .initial_stream_window_size(256 << 10)
        .initial_connection_window_size(1 << 20)
        .max_send_buf_size(256 << 10)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10));
    builder
}

/// Counts a request until its answer has ended.
#[derive(Debug)]
struct Answering(Arc<Activity>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
        self.0.touch();
    }
}

/// An answer's body that keeps its connection from being idle.
#[derive(Debug)]
struct Counted<B> {
    body: B,
    _running: Answering,
}

impl<B: Body + Unpin> Body for Counted<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}
