//! The first step of a connection: the handshake, unless its client asks for a name for which there is nothing to show. Which
//! certificate it gets is not decided here (`certificates.rs`).

use std::io;

use rustls::server::Acceptor;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{LazyConfigAcceptor, TlsAcceptor, server::TlsStream};

use super::Current;

/// The fatal alert `unrecognized_name` (RFC 8446 6.2, RFC 6066 3) as a record in the clear, in the version that every client reads.
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// Performs the handshake.
///
/// # Errors
/// As of [`super::Tls::accept`].
pub(super) async fn accept(current: &Current, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
    // The usual case needs no look at what is asked for before the handshake.
    if current.certificates.answers_all() {
        return TlsAcceptor::from(current.server.clone()).accept(stream).await;
    }
    known(current, stream).await
}

/// Goes on only with a client that can be shown something. The library would answer the others as if they were not let in.
async fn known<S: AsyncRead + AsyncWrite + Unpin>(current: &Current, stream: S) -> io::Result<TlsStream<S>> {
    let mut start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
    if current.certificates.answer(&start.client_hello()).is_some() {
        return start.into_stream(current.server.clone()).await;
    }
    start.io.write_all(&UNRECOGNIZED_NAME).await?;
    start.io.shutdown().await?;
    Err(io::Error::new(io::ErrorKind::InvalidInput, "there is no certificate for the name that is asked for"))
}
