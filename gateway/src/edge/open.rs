//! What happens to a connection before its first request: a proxy's word on whose it is, the TLS handshake, each where the
//! listener has it, and the look at the first bytes. The caller limits the time of all of it.

use std::{io, net::SocketAddr, sync::Arc};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

use super::{
    GOODBYE, Terms, proxied, refusal,
    sniff::{self, Prefixed, Protocol},
};
use crate::tls::{Session, Tls};

/// A connection, in the clear or by TLS.
type Stream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// The type of a TLS record that begins a handshake (RFC 8446 5.1).
const HANDSHAKE: u8 = 22;
/// How much is read of what somebody sends who can't be understood.
const UNREAD: u64 = 64 << 10;

/// A connection whose first request can be read.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) protocol: Protocol,
    pub(super) stream: Prefixed<Stream>,
    /// Whose it is.
    pub(super) remote: SocketAddr,
    /// Nothing in the clear.
    pub(super) session: Option<Arc<Session>>,
}

/// Opens a connection from this address.
pub(super) async fn open(mut stream: TcpStream, from: SocketAddr, terms: &Terms) -> io::Result<Opened> {
    let remote = match &terms.proxies {
        None => from,
        Some(proxies) if proxies.trust(from.ip().to_canonical()) => proxied::caller(&mut stream, from).await?,
        Some(_) => {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it does not come from a trusted proxy"));
        }
    };
    let (stream, session) = match &terms.tls {
        None => (Either::Left(stream), None),
        Some(tls) => {
            // Boxed, so that connections in the clear are no larger for it.
            let (stream, session) = Box::pin(secure(stream, tls)).await?;
            (Either::Right(Box::new(stream)), Some(Arc::new(session)))
        }
    };
    let agreed = agreed(&stream);
    let (said, stream) = sniff::protocol(stream).await?;
    Ok(Opened { protocol: agreed.unwrap_or(said), stream, remote, session })
}

/// What both sides agreed on in the handshake (RFC 7301), which what is said afterwards does not change: an invalid preface of HTTP/2
/// is an error of HTTP/2 (RFC 9113 3.4). Nothing in the clear, and where the client offered nothing.
fn agreed(stream: &Stream) -> Option<Protocol> {
    let Either::Right(secure) = stream else { return None };
    match secure.get_ref().1.alpn_protocol()? {
        b"h2" => Some(Protocol::Http2),
        _ => Some(Protocol::Http1),
    }
}

/// Shakes hands, unless the client has not even begun to.
async fn secure(mut stream: TcpStream, tls: &Tls) -> io::Result<(TlsStream<TcpStream>, Session)> {
    let mut first = [0];
    let read = stream.peek(&mut first).await?;
    match first {
        _ if read == 0 => Err(io::ErrorKind::UnexpectedEof.into()),
        [HANDSHAKE] => tls.accept(stream).await,
        [first] => {
            if first.is_ascii_alphabetic() {
                refuse(&mut stream).await?;
            }
            Err(io::Error::new(io::ErrorKind::InvalidData, "it does not speak TLS"))
        }
    }
}

/// Tells somebody who speaks HTTP in the clear. What they sent is read, since a connection that is closed with input unread
/// loses its answer.
async fn refuse(stream: &mut TcpStream) -> io::Result<()> {
    let mut request = [0; 4096];
    let _some = stream.read(&mut request).await?;
    stream.write_all(&refusal::bytes(&refusal::in_the_clear())).await?;
    stream.shutdown().await?;
    let (mut rest, mut nowhere) = (stream.take(UNREAD), tokio::io::sink());
    // They have their answer; nobody waits longer for them.
    let _ = tokio::time::timeout(GOODBYE, tokio::io::copy(&mut rest, &mut nowhere)).await;
    Ok(())
}
