//! Tells HTTP/2 with prior knowledge from HTTP/1 by the connection preface (RFC 9113 3.4), and gives back what it read.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// What the first bytes say; nothing while they could still be either.
fn tell(first: &[u8]) -> Option<Protocol> {
    let common = first.iter().zip(PREFACE).take_while(|(a, b)| a == b).count();
    if common == PREFACE.len() {
        Some(Protocol::Http2)
    } else if common < first.len() {
        Some(Protocol::Http1)
    } else {
        None
    }
}

/// Reads until the protocol is known. The caller limits the time.
pub(super) async fn protocol<T: AsyncRead + Unpin>(mut stream: T) -> io::Result<(Protocol, Prefixed<T>)> {
    let mut first = BytesMut::with_capacity(1024);
    loop {
        if stream.read_buf(&mut first).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(protocol) = tell(&first) {
            return Ok((protocol, Prefixed { first: first.freeze(), stream }));
        }
    }
}

/// A connection of which some bytes have been read already.
#[derive(Debug)]
pub(super) struct Prefixed<T> {
    first: Bytes,
    stream: T,
}

impl<T: AsyncRead + Unpin> AsyncRead for Prefixed<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let some = self.first.len().min(buffer.remaining());
        buffer.put_slice(self.first.get(..some).unwrap_or_default());
        self.first.advance(some);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Prefixed<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_different_byte_decides() {
        for length in 0..PREFACE.len() {
            assert_eq!(tell(&PREFACE[..length]), None, "{length}");
        }
        assert_eq!(tell(PREFACE), Some(Protocol::Http2));
        assert_eq!(tell(&[PREFACE, b"\0\0"].concat()), Some(Protocol::Http2));
        for first in [&b"G"[..], b"GET / HTTP/1.1\r\n", b"PUT", b"PRI * HTTP/1.1\r\n", b"\x16\x03\x01"] {
            assert_eq!(tell(first), Some(Protocol::Http1), "{first:?}");
        }
    }
}
