//! The request body on its way into the guest: counted and limited, as a body for wasi:http and as stdin for commands.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, ReadBuf};
use wasmtime_wasi::cli::{IsTerminal, StdinStream};
use wasmtime_wasi::p2::{InputStream, Pollable, StreamError, StreamResult};
use wasmtime_wasi_http::Error as HttpError;

use super::call::RequestBody;
use super::meter::Meter;
use super::outcome::Failure;

/// A request body that is charged to a meter and stops the guest when it is too long.
pub(super) struct CountedBody {
    body: RequestBody,
    meter: Arc<Meter>,
}

impl CountedBody {
    pub(super) fn new(body: RequestBody, meter: Arc<Meter>) -> Self {
        Self { body, meter }
    }

    fn count(&self, bytes: u64) -> Result<(), HttpError> {
        let total = self.meter.bytes_in.fetch_add(bytes, Relaxed).saturating_add(bytes);
        let limit_bytes = self.meter.limits.request_body_bytes;
        if total <= limit_bytes {
            return Ok(());
        }
        self.meter.halt(Failure::RequestTooLarge { limit_bytes });
        Err(HttpError::HttpRequestBodySize(Some(limit_bytes)))
    }
}

impl Body for CountedBody {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let Some(frame) = ready!(Pin::new(&mut self.body).poll_frame(cx)) else { return Poll::Ready(None) };
        let counted = frame.map_err(|_| HttpError::ConnectionTerminated).and_then(|frame| {
            self.count(frame.data_ref().map_or(0, |data| data.len() as u64))?;
            Ok(frame)
        });
        Poll::Ready(Some(counted))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A request body as stdin. All streams that a guest opens on stdin share their position.
#[derive(Clone)]
pub(super) struct Stdin(Arc<Mutex<Reader>>);

struct Reader {
    body: CountedBody,
    chunk: Bytes,
    end: Option<End>,
}

/// How the body ended.
#[derive(Debug, Clone, Copy)]
enum End {
    Whole,
    Broken,
}

impl Stdin {
    pub(super) fn new(body: CountedBody) -> Self {
        Self(Arc::new(Mutex::new(Reader { body, chunk: Bytes::new(), end: None })))
    }

    /// Waits for bytes or the end; bytes that are there already are kept.
    fn poll_fill(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut reader = self.lock();
        while reader.chunk.is_empty() && reader.end.is_none() {
            match ready!(Pin::new(&mut reader.body).poll_frame(cx)) {
                // Trailers have no place in CGI.
                Some(Ok(frame)) => reader.chunk = frame.into_data().unwrap_or_default(),
                Some(Err(_)) => reader.end = Some(End::Broken),
                None => reader.end = Some(End::Whole),
            }
        }
        Poll::Ready(())
    }

    /// Takes what is there, without waiting.
    fn take(&self, size: usize) -> StreamResult<Bytes> {
        let mut reader = self.lock();
        if !reader.chunk.is_empty() {
            let length = size.min(reader.chunk.len());
            return Ok(reader.chunk.split_to(length));
        }
        match reader.end {
            None => Ok(Bytes::new()),
            Some(End::Whole) => Err(StreamError::Closed),
            Some(End::Broken) => {
                let broken = io::Error::new(io::ErrorKind::ConnectionAborted, "request body broken off");
                Err(StreamError::LastOperationFailed(broken.into()))
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Reader> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl IsTerminal for Stdin {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdinStream for Stdin {
    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn InputStream> {
        Box::new(self.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Stdin {
    async fn ready(&mut self) {
        poll_fn(|cx| self.poll_fill(cx)).await;
    }
}

#[wasmtime_wasi::async_trait]
impl InputStream for Stdin {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        // A poll without a waker finds what the channel holds by now.
        let _ = self.poll_fill(&mut Context::from_waker(std::task::Waker::noop()));
        self.take(size)
    }
}

impl AsyncRead for Stdin {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_fill(cx));
        match self.take(buffer.remaining()) {
            Ok(mut bytes) => {
                buffer.put_slice(&bytes);
                bytes.advance(bytes.len());
                Poll::Ready(Ok(()))
            }
            Err(StreamError::Closed) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(io::Error::other(error.to_string()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::call::RequestFrame;
    use super::super::limits::Limits;
    use super::*;
    use tokio::io::AsyncReadExt;

    fn stdin(limit: u64) -> (tokio::sync::mpsc::Sender<RequestFrame>, Stdin, Arc<Meter>) {
        let meter = Arc::new(Meter::new(Limits { request_body_bytes: limit, ..Limits::default() }));
        let (sender, body) = RequestBody::channel(4);
        (sender, Stdin::new(CountedBody::new(body, meter.clone())), meter)
    }

    #[tokio::test]
    async fn streams_on_stdin_share_their_position() {
        let (sender, stdin, meter) = stdin(100);
        sender.send(RequestFrame::Data(Bytes::from_static(b"hello world"))).await.unwrap();
        let (mut first, mut second) = (stdin.p2_stream(), stdin.p2_stream());
        assert_eq!(first.blocking_read(6).await.unwrap(), "hello ");
        assert_eq!(second.read(100).unwrap(), "world");
        assert_eq!(second.read(100).unwrap(), "", "nothing there yet");
        sender.send(RequestFrame::End).await.unwrap();
        assert!(matches!(first.blocking_read(6).await, Err(StreamError::Closed)));
        assert_eq!(meter.bytes_in.load(Relaxed), 11);
    }

    #[tokio::test]
    async fn a_body_above_the_limit_stops_the_guest() {
        let (sender, stdin, meter) = stdin(10);
        sender.send(RequestFrame::Data(Bytes::from_static(b"hello world"))).await.unwrap();
        let mut text = String::new();
        assert!(stdin.async_stream().pin().read_to_string(&mut text).await.is_err());
        assert_eq!(meter.halted().await, Failure::RequestTooLarge { limit_bytes: 10 });
    }

    trait PinIt {
        fn pin(self) -> Pin<Box<dyn AsyncRead + Send + Sync>>;
    }

    impl PinIt for Box<dyn AsyncRead + Send + Sync> {
        fn pin(self) -> Pin<Box<dyn AsyncRead + Send + Sync>> {
            Box::into_pin(self)
        }
    }
}
