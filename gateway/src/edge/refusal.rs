//! What a connection is told before it has a request: the HTTP parser answers a malformed head with a bare status, and a
//! slow one not at all. Here both become errors like all others.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use dunlin_proto::{ApiError, ErrorCode, ids::InvocationId};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::error;

/// An error as the bytes of an HTTP/1.1 answer, after which the connection is closed.
pub(super) fn bytes(failure: &ApiError) -> Bytes {
    let id = InvocationId::new();
    let response = error::response(failure, &id.to_string());
    let mut head = format!("HTTP/1.1 {}\r\ndunlin-request-id: {id}\r\n", response.status());
    for (name, value) in response.headers().iter().filter(|(name, _)| **name != http::header::CONNECTION) {
        head.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap_or_default()));
    }
    head.push_str(&format!("connection: close\r\ncontent-length: {}\r\n\r\n", response.body().len()));
    [head.as_bytes(), response.body()].concat().into()
}

/// The head of a request did not arrive in time.
pub(super) fn slow_head() -> ApiError {
    ApiError::new(ErrorCode::RequestTimeout, "the request's head did not arrive in time")
        .hint("stage: receiving the request's head")
}

/// A request came in the clear where TLS is spoken.
pub(super) fn in_the_clear() -> ApiError {
    ApiError::new(ErrorCode::InvalidArgument, "this port speaks TLS, and the request came without").hint("use https://")
}

/// What the parser's bare answer means, where `written` is one.
fn explain(written: &[u8]) -> Option<ApiError> {
    let text = std::str::from_utf8(written).ok()?;
    let (head, rest) = text.split_once("\r\n\r\n")?;
    if !rest.is_empty() || !head.contains("content-length: 0") {
        return None;
    }
    let status = head.strip_prefix("HTTP/1.1 ").or_else(|| head.strip_prefix("HTTP/1.0 "))?.get(..3)?;
    match status {
        "400" => Some(ApiError::new(ErrorCode::InvalidArgument, "the request's head is malformed")),
        "414" => Some(ApiError::new(ErrorCode::UriTooLong, "the request's target is too long")),
        "431" => Some(ApiError::new(ErrorCode::HeadersTooLarge, "the request's head is too large")),
        _ => None,
    }
}

/// A connection on which the parser's bare answers are replaced, as long as no request has reached the service: later, a
/// function's answer could look like one.
#[derive(Debug)]
pub(super) struct Explained<T> {
    stream: T,
    /// A request has reached the service.
    served: Arc<AtomicBool>,
    /// What is written instead, and how much of the parser's own it stands for.
    instead: Option<(Bytes, usize)>,
}

impl<T> Explained<T> {
    pub(super) fn new(stream: T, served: Arc<AtomicBool>) -> Self {
        Self { stream, served, instead: None }
    }

    /// Writes what is to be written instead of the parser's own; says how much of that it stands for.
    fn poll_instead(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Option<usize>>>
    where
        T: AsyncWrite + Unpin,
    {
        while let Some((left, _)) = self.instead.as_mut().filter(|(left, _)| !left.is_empty()) {
            let some = std::task::ready!(Pin::new(&mut self.stream).poll_write(context, left))?;
            left.advance(some);
        }
        Poll::Ready(Ok(self.instead.take().map(|(_, stood_for)| stood_for)))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Explained<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Explained<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, written: &[u8]) -> Poll<io::Result<usize>> {
        if self.instead.is_none() && !self.served.load(Ordering::Relaxed) {
            self.instead = explain(written).map(|failure| (bytes(&failure), written.len()));
        }
        if let Some(stood_for) = std::task::ready!(self.poll_instead(context))? {
            return Poll::Ready(Ok(stood_for));
        }
        Pin::new(&mut self.stream).poll_write(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let first = slices.iter().find(|slice| !slice.is_empty());
        match first {
            Some(only) if !self.served.load(Ordering::Relaxed) => self.poll_write(context, only),
            _ => Pin::new(&mut self.stream).poll_write_vectored(context, slices),
        }
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
    use tokio::io::AsyncWriteExt;

    use super::*;

    const BARE: &[u8] = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\ndate: x\r\n\r\n";

    async fn written(served: bool, bytes: &[u8]) -> String {
        let mut stream = Explained::new(Vec::new(), Arc::new(AtomicBool::new(served)));
        stream.write_all(bytes).await.unwrap();
        String::from_utf8(stream.stream).unwrap()
    }

    #[tokio::test]
    async fn a_bare_status_becomes_an_error_before_the_first_request_only() {
        let text = written(false, BARE).await;
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(
            head.starts_with("HTTP/1.1 400 Bad Request\r\n")
                && head.contains(&format!("content-length: {}", body.len()))
        );
        assert!(body.contains("invalid_argument"));
        assert_eq!(written(true, BARE).await.as_bytes(), BARE);
        let ours = [BARE, b"more"].concat();
        assert_eq!(written(false, &ours).await.as_bytes(), ours);
        let large = String::from_utf8_lossy(BARE).replace("400 Bad Request", "431 Request Header Fields Too Large");
        assert!(written(false, large.as_bytes()).await.contains("headers_too_large"));
    }
}
