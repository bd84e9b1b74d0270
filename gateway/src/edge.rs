//! Connections of callers: accepted, secured, told apart by protocol, limited, drained. What a request means is not known
//! here.
//!
//! The builders of hyper are chosen by our own look at the first bytes (`edge/sniff.rs`), because its automatic one has
//! no timer while it looks; heads that parsers could disagree on are found by `edge/framing.rs`.

mod activity;
mod framing;
mod heads;
mod linger;
mod open;
mod places;
mod proxied;
mod refusal;
mod sniff;
mod stall;

use std::{future::Future, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use dunlin_process::{
    cores::Cores,
    listen::{Sockets, pause},
    seldom::seldom,
    shutdown::Shutdown,
};
use http::{HeaderValue, Method, Request, Response, header};
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
};

use crate::{
    config::{LimitsConfig, ProxiesConfig},
    tls::{Session, Tls},
};
use activity::Activity;
use framing::Guarded;
pub(crate) use framing::Verdict;
use heads::HeadTimer;
pub(crate) use linger::Lingering;
use open::Opened;
pub(crate) use places::Places;
use refusal::Explained;
use sniff::Protocol;
use stall::Impatient;

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
    /// Who connects for many people, and may have any number of connections.
    pub(crate) crowds: Arc<ProxiesConfig>,
    /// Nothing where the listener speaks in the clear.
    pub(crate) tls: Option<Tls>,
    /// What browsers are told about the next time (RFC 6797), by TLS alone.
    pub(crate) hsts: Option<HeaderValue>,
}

/// Serves the connections of a listener on these threads until `shutdown` begins; each is a task of it, and ends once its
/// requests have. Returns their places.
pub(crate) fn serve<S, F, B>(
    listener: TcpListener,
    cores: &Cores,
    terms: &Terms,
    service: &S,
    shutdown: &Shutdown,
) -> Places
where
    S: Fn(Request<Lingering>, Peer) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let places = Places::new(&terms.limits, terms.crowds.clone());
    for (core, sockets) in Sockets::share(listener, cores, shutdown) {
        let serving = accept(sockets, places.clone(), terms.clone(), service.clone(), shutdown.clone());
        shutdown.spawn_on(serving, &core);
    }
    places
}

async fn accept<S, F, B>(mut sockets: Sockets, places: Places, terms: Terms, service: S, shutdown: Shutdown)
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
        let Some(place) = places.take(remote.ip()) else { continue };
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
    let stream = Impatient::new(stream, limits.answer_patience);
    let peer = Peer { remote, verdict: Verdict::default(), session };
    let activity = Arc::new(Activity::new());
    let (verdict, running, tasks) = (peer.verdict.clone(), activity.clone(), shutdown.clone());
    let service = service_fn(move |request: Request<Incoming>| {
        let (answering, head) = (running.begin(), *request.method() == Method::HEAD);
        // On the heap at once: it is large, and would be moved from hand to hand.
        let answer = Box::pin(service(Lingering::request(request, &tasks), peer.clone()));
        let hsts = hsts.clone();
        async move {
            let mut response = answer.await;
            if let Some(hsts) = hsts {
                response.headers_mut().insert(header::STRICT_TRANSPORT_SECURITY, hsts);
            }
            Ok::<_, std::convert::Infallible>(response.map(|body| answering.with(body, head)))
        }
    });
    match protocol {
        Protocol::Http1 => {
            let io = TokioIo::new(Guarded::new(Explained::new(stream, activity.served.clone()), verdict));
            let mut connection = http1_builder(&limits).serve_connection(io, service);
            let ended = tokio::select! {
                biased;
                ended = &mut connection => ended,
                () = seldom(shutdown.begun()) => {
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
                // First what a client has sent: a gateway that stood still for a while must not take it for idle.
                biased;
                ended = connection.as_mut() => return Ok(ended?),
                () = activity.unread(limits.answer_patience) => return Err("the caller takes nothing of an answer".into()),
                () = activity.flooded() => return Err("the caller takes back what it asks for".into()),
                () = seldom(shutdown.begun()) => {}
                () = activity.idle(limits.idle_timeout) => {}
            }
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = connection.as_mut() => Ok(ended?),
                // A client that does not say goodbye is not waited for.
                () = quiet(&activity, GOODBYE.min(limits.idle_timeout)) => Ok(()),
            }
        }
    }
}

/// Waits a moment, and then until nothing has been running for another.
async fn quiet(activity: &Activity, moment: Duration) {
    tokio::time::sleep(moment).await;
    activity.idle(moment).await;
}

fn http1_builder(limits: &LimitsConfig) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(HeadTimer::new(limits.header_timeout))
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
