//! Calls a command (`wasi:cli/run@0.2`) by CGI: variables and the body on stdin in, a CGI response on stdout out.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicI32, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncWrite;
use tokio::sync::mpsc;
use tokio_util::sync::PollSender;
use wasmtime::Store;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::I32Exit;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::bindings::Command;
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

use super::super::body::{CountedBody, Stdin};
use super::super::cgi;
use super::super::console::Console;
use super::super::delivery::Delivery;
use super::super::meter::Meter;
use super::super::outcome::Failure;
use super::super::state::{self, State};
use super::classify;

/// Bytes that a guest may write in one call.
const WRITE_BYTES: usize = 64 << 10;
/// Writes that may wait for the caller.
const WRITES: usize = 4;

pub(super) async fn run(
    store: &mut Store<State>,
    command: &Command,
    request: http::Request<CountedBody>,
    delivery: &Delivery,
    console: &Console,
    environment: &[(String, String)],
    code: &Path,
) -> Result<(), Failure> {
    let meter = store.data().meter.clone();
    let (sender, receiver) = mpsc::channel(WRITES);
    store.data_mut().wasi = context(request, Stdout(sender), console, environment);
    let exit = AtomicI32::new(0);
    let guest = async {
        let ended = command.wasi_cli_run().call_run(&mut *store).await;
        exit.store(exit_status(ended, &meter, code)?, Relaxed);
        // Closes stdout: every stream on it lives in one of these two.
        store.data_mut().wasi = state::bare_wasi(&[]).build();
        store.data_mut().table = ResourceTable::new();
        Ok(())
    };
    delivery.beside(guest, deliver(receiver, delivery, &exit)).await
}

/// The context of one call. CGI variables come first, so that no declared variable can pass for one.
fn context(
    request: http::Request<CountedBody>,
    stdout: Stdout,
    console: &Console,
    declared: &[(String, String)],
) -> wasmtime_wasi::WasiCtx {
    let (parts, body) = request.into_parts();
    let mut variables = cgi::environment(&parts);
    let declared = declared.iter().filter(|(name, _)| !variables.iter().any(|(taken, _)| taken == name)).cloned();
    let declared: Vec<_> = declared.collect();
    variables.extend(declared);
    let mut builder = state::bare_wasi(&variables);
    builder.stdin(Stdin::new(body)).stdout(stdout).stderr(console.stderr());
    builder.build()
}

/// The exit status of a command that ended by itself.
fn exit_status(ended: wasmtime::Result<Result<(), ()>>, meter: &Meter, code: &Path) -> Result<i32, Failure> {
    match ended {
        Ok(Ok(())) => Ok(0),
        Ok(Err(())) => Ok(1),
        Err(error) => match error.downcast_ref() {
            Some(I32Exit(status)) => Ok(*status),
            None => Err(classify(&error, meter, code)),
        },
    }
}

/// Reads the CGI head, then passes the body on.
async fn deliver(mut stdout: mpsc::Receiver<Bytes>, delivery: &Delivery, exit: &AtomicI32) -> Result<(), Failure> {
    let mut buffer = BytesMut::new();
    let (status, headers) = loop {
        match cgi::take_head(&mut buffer).map_err(Failure::InvalidResponse)? {
            Some(head) => break head,
            None => match stdout.recv().await {
                Some(bytes) => buffer.extend_from_slice(&bytes),
                None => return Err(headless(&buffer, exit.load(Relaxed))),
            },
        }
    };
    let mut length = delivery.head(status, headers).await?;
    delivery.data(&mut length, buffer.freeze()).await?;
    while !length.is_satisfied() {
        match stdout.recv().await {
            Some(bytes) => delivery.data(&mut length, bytes).await?,
            // A command that failed may have stopped in the middle.
            None if exit.load(Relaxed) != 0 => return Err(Failure::ExitStatus(exit.load(Relaxed))),
            None => break,
        }
    }
    delivery.end(&length).await?;
    // Nobody waits for what a command writes beyond the length that it declared.
    while stdout.recv().await.is_some() {}
    Ok(())
}

/// Why there is no head.
fn headless(output: &[u8], exit: i32) -> Failure {
    match (exit, output) {
        (0, []) => Failure::NoResponse,
        (0, _) => Failure::InvalidResponse(format!(
            "the CGI headers must end with an empty line (RFC 3875), got {}",
            cgi::excerpt(output)
        )),
        (status, _) => Failure::ExitStatus(status),
    }
}

/// A command's stdout: bounded, so that the guest waits for its caller.
#[derive(Clone)]
struct Stdout(mpsc::Sender<Bytes>);

impl IsTerminal for Stdout {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Stdout {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(AsyncStdout(PollSender::new(self.0.clone())))
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl OutputStream for Stdout {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.0.try_send(bytes).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => StreamError::trap("write without room for it"),
            mpsc::error::TrySendError::Closed(_) => StreamError::Closed,
        })
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        match self.0.capacity() {
            _ if self.0.is_closed() => Err(StreamError::Closed),
            0 => Ok(0),
            _ => Ok(WRITE_BYTES),
        }
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Stdout {
    async fn ready(&mut self) {
        let _ = self.0.reserve().await;
    }
}

/// The same for WASI 0.3.
struct AsyncStdout(PollSender<Bytes>);

impl AsyncWrite for AsyncStdout {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if ready!(self.0.poll_reserve(cx)).is_err() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let piece = bytes.get(..WRITE_BYTES).unwrap_or(bytes);
        let sent = self.0.send_item(Bytes::copy_from_slice(piece));
        Poll::Ready(sent.map(|()| piece.len()).map_err(|_| io::ErrorKind::BrokenPipe.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
