//! Connections from processes of the cluster: what a server takes in, each with whom its certificate names.
//!
//! Who may call which method is decided later (`guard.rs`); here a connection is refused that proves nothing.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use dunlin_process::listen::{Sockets, pause};
use futures::{FutureExt, Stream, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tonic::transport::server::Connected;

use super::{Member, Peer, Trust, TrustError};

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Handshakes at once; more connections wait in the kernel.
const HANDSHAKES: usize = 256;

/// A connection that has been taken.
#[derive(Debug)]
pub struct Connection {
    stream: Secured,
    info: ConnectionInfo,
}

#[derive(Debug)]
enum Secured {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// What is known of a connection; each of its requests has it among its extensions.
#[derive(Debug, Clone)]
pub struct ConnectionInfo {
    /// Where it comes from.
    pub(super) from: SocketAddr,
    /// Whom its certificate names; nothing without one.
    pub(super) peer: Option<Arc<Peer>>,
}

type Handshakes = FuturesUnordered<BoxFuture<'static, Option<Connection>>>;

impl Trust {
    /// The connections that come. With `strangers`, also those of processes that have no certificate yet: every method
    /// behind it must then have a guard of its own.
    ///
    /// # Errors
    /// The certificate can't be used.
    pub fn incoming(
        &self,
        sockets: Sockets,
        strangers: bool,
    ) -> Result<impl Stream<Item = io::Result<Connection>> + Send + use<>, TrustError> {
        let tls = match self {
            Self::Secret(_) => None,
            Self::Certificate(member) => Some((TlsAcceptor::from(Arc::new(member.server(strangers)?)), member.clone())),
        };
        let begin = (sockets, Handshakes::new(), tls);
        Ok(futures::stream::unfold(begin, |(mut sockets, mut handshakes, tls)| async move {
            let connection = next(&mut sockets, &mut handshakes, tls.as_ref()).await;
            Some((Ok(connection), (sockets, handshakes, tls)))
        }))
    }
}

/// The next connection whose handshake has succeeded.
async fn next(sockets: &mut Sockets, handshakes: &mut Handshakes, tls: Option<&(TlsAcceptor, Member)>) -> Connection {
    loop {
        tokio::select! {
            accepted = sockets.accept(), if handshakes.len() < HANDSHAKES => match accepted {
                Ok((stream, from)) => handshakes.push(secure(stream, from, tls.cloned()).boxed()),
                Err(error) => {
                    pause(&error).await;
                }
            },
            Some(done) = handshakes.next(), if !handshakes.is_empty() => if let Some(connection) = done {
                return connection;
            },
        }
    }
}

async fn secure(stream: TcpStream, from: SocketAddr, tls: Option<(TlsAcceptor, Member)>) -> Option<Connection> {
    stream.set_nodelay(true).ok()?;
    let Some((acceptor, member)) = tls else {
        return Some(Connection { stream: Secured::Plain(stream), info: ConnectionInfo { from, peer: None } });
    };
    let refused = match timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => match peer(&stream) {
            Ok(peer) => {
                let info = ConnectionInfo { from, peer: peer.map(Arc::new) };
                return Some(Connection { stream: Secured::Tls(Box::new(stream)), info });
            }
            Err(error) => error.to_string(),
        },
        Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => error.to_string(),
        // Whoever goes without a word, such as a probe of a load balancer or a process that was killed, means no harm.
        Ok(Err(_)) => return None,
        Err(_) => format!("its handshake took longer than {HANDSHAKE:?}"),
    };
    member.refusals().note(&from.ip().to_string(), &refused);
    None
}

fn peer(stream: &TlsStream<TcpStream>) -> Result<Option<Peer>, TrustError> {
    let certificates = stream.get_ref().1.peer_certificates();
    certificates.and_then(<[_]>::first).map(Peer::read).transpose()
}

impl Connected for Connection {
    type ConnectInfo = ConnectionInfo;

    fn connect_info(&self) -> ConnectionInfo {
        self.info.clone()
    }
}

macro_rules! either {
    ($self:ident, $stream:ident => $call:expr) => {
        match &mut $self.get_mut().stream {
            Secured::Plain($stream) => {
                let $stream = Pin::new($stream);
                $call
            }
            Secured::Tls($stream) => {
                let $stream = Pin::new($stream);
                $call
            }
        }
    };
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_read(cx, buffer))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        either!(self, stream => stream.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self, stream => stream.poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Secured::Plain(stream) => stream.is_write_vectored(),
            Secured::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_shutdown(cx))
    }
}
