//! A guest's stdout and stderr as log lines: cut into lines, bounded in every direction, never blocking the guest. Writes go
//! through our own streams, because the engine's queues empty writes without bound.

use std::io;
use std::pin::Pin;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::SystemTime;

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use super::call::{LogRecord, LogSink, LogStream};
use super::meter::Meter;

/// Bytes that a guest may write in one call.
const WRITE_BYTES: usize = 64 << 10;
/// Bytes that a line costs besides its text, so that a flood of empty lines is bounded too.
const LINE_COST: u64 = 16;

/// Both streams of one sandbox. Lines that are written before a call is bound wait here.
#[derive(Clone)]
pub(super) struct Console(Arc<Mutex<Lines>>);

struct Lines {
    meter: Arc<Meter>,
    sink: Option<LogSink>,
    waiting: Vec<LogRecord>,
    budget: u64,
    stdout: Line,
    stderr: Line,
}

/// A line under construction.
#[derive(Default)]
struct Line {
    text: Vec<u8>,
    cut: u64,
}

impl Console {
    pub(super) fn new(meter: Arc<Meter>) -> Self {
        let budget = meter.limits.log_bytes;
        let (stdout, stderr) = (Line::default(), Line::default());
        Self(Arc::new(Mutex::new(Lines { meter, sink: None, waiting: Vec::new(), budget, stdout, stderr })))
    }

    pub(super) fn stdout(&self) -> ConsoleStream {
        ConsoleStream { console: self.clone(), stream: LogStream::Stdout }
    }

    pub(super) fn stderr(&self) -> ConsoleStream {
        ConsoleStream { console: self.clone(), stream: LogStream::Stderr }
    }

    /// Sends lines to `sink` from now on, those that waited first.
    pub(super) fn bind(&self, sink: LogSink) {
        let mut lines = self.lock();
        for record in std::mem::take(&mut lines.waiting) {
            lines.offer(&sink, record);
        }
        lines.sink = Some(sink);
    }

    /// Charges another account, for the next call of the same sandbox.
    pub(super) fn renew(&self, meter: Arc<Meter>) {
        let mut lines = self.lock();
        (lines.budget, lines.meter) = (meter.limits.log_bytes, meter);
    }

    /// Ends unfinished lines, when the guest is gone or done with its call. Nothing is sent from then on.
    pub(super) fn finish(&self) {
        let mut lines = self.lock();
        for stream in [LogStream::Stdout, LogStream::Stderr] {
            let line = lines.line(stream);
            if !line.text.is_empty() || line.cut > 0 {
                lines.end_line(stream);
            }
        }
        lines.sink = None;
    }

    fn write(&self, stream: LogStream, bytes: &[u8]) {
        let mut lines = self.lock();
        let mut pieces = bytes.split(|byte| *byte == b'\n').peekable();
        while let Some(piece) = pieces.next() {
            lines.extend(stream, piece);
            if pieces.peek().is_some() {
                lines.end_line(stream);
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Lines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lines {
    fn line(&mut self, stream: LogStream) -> &mut Line {
        match stream {
            LogStream::Stdout => &mut self.stdout,
            LogStream::Stderr => &mut self.stderr,
        }
    }

    /// Adds to the current line what the line's and the invocation's limits leave room for.
    fn extend(&mut self, stream: LogStream, piece: &[u8]) {
        let max_line = self.meter.limits.max_log_line;
        let budget = self.budget;
        let line = self.line(stream);
        let room = max_line.saturating_sub(line.text.len()).min(usize::try_from(budget).unwrap_or(usize::MAX));
        let kept = piece.get(..room.min(piece.len())).unwrap_or_default();
        let cut = (piece.len() - kept.len()) as u64;
        line.text.extend_from_slice(kept);
        line.cut += cut;
        self.budget -= kept.len() as u64;
        self.drop_bytes(cut);
    }

    fn end_line(&mut self, stream: LogStream) {
        let Line { text, cut } = std::mem::take(self.line(stream));
        if self.budget < LINE_COST {
            self.budget = 0;
            self.drop_bytes(text.len() as u64 + 1);
            return;
        }
        self.budget -= LINE_COST;
        let text = String::from_utf8(text).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned());
        let record = LogRecord { stream, text, time: SystemTime::now(), truncated_bytes: cut };
        match self.sink.clone() {
            Some(sink) => self.offer(&sink, record),
            None => self.waiting.push(record),
        }
    }

    fn offer(&mut self, sink: &LogSink, record: LogRecord) {
        let length = record.text.len() as u64 + 1;
        if !sink.offer(record) {
            self.drop_bytes(length);
        }
    }

    fn drop_bytes(&self, count: u64) {
        self.meter.log_dropped.fetch_add(count, Relaxed);
    }
}

/// One of the two streams.
#[derive(Clone)]
pub(super) struct ConsoleStream {
    console: Console,
    stream: LogStream,
}

impl IsTerminal for ConsoleStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for ConsoleStream {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl OutputStream for ConsoleStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.console.write(self.stream, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES)
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for ConsoleStream {
    async fn ready(&mut self) {}
}

impl AsyncWrite for ConsoleStream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.console.write(self.stream, bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::super::limits::Limits;
    use super::*;

    fn console(limits: Limits) -> (Console, Arc<Meter>) {
        let meter = Arc::new(Meter::new(limits));
        (Console::new(meter.clone()), meter)
    }

    fn channel(capacity: usize) -> (LogSink, mpsc::Receiver<LogRecord>) {
        let (sender, receiver) = mpsc::channel(capacity);
        (LogSink::new(move |record| sender.try_send(record).is_ok()), receiver)
    }

    #[test]
    fn lines_are_cut_at_line_feeds_and_keep_control_characters() {
        let (console, _) = console(Limits::default());
        console.write(LogStream::Stdout, b"early\nhal");
        let (sink, mut records) = channel(8);
        console.bind(sink);
        console.write(LogStream::Stderr, b"\x1b[31mred\xff\n");
        console.write(LogStream::Stdout, b"f\n");
        console.write(LogStream::Stdout, b"last");
        console.finish();
        let mut texts = Vec::new();
        while let Ok(record) = records.try_recv() {
            texts.push((record.stream, record.text));
        }
        let expected = [
            (LogStream::Stdout, "early"),
            (LogStream::Stderr, "\x1b[31mred\u{fffd}"),
            (LogStream::Stdout, "half"),
            (LogStream::Stdout, "last"),
        ];
        assert_eq!(texts, expected.map(|(stream, text)| (stream, text.to_owned())));
    }

    #[test]
    fn t09_long_lines_are_cut_and_the_invocation_has_a_budget() {
        let (console, meter) = console(Limits { log_bytes: 100, max_log_line: 30, ..Limits::default() });
        let (sink, mut records) = channel(100);
        console.bind(sink);
        console.write(LogStream::Stdout, &[b'x'; 40]);
        console.write(LogStream::Stdout, b"\n");
        let first = records.try_recv().unwrap();
        assert_eq!((first.text.len(), first.truncated_bytes), (30, 10));
        for _ in 0..1000 {
            console.write(LogStream::Stdout, b"\n");
        }
        assert_eq!(std::iter::from_fn(|| records.try_recv().ok()).count(), 3, "54 bytes left at 16 each");
        assert_eq!(meter.log_dropped.load(Relaxed), 10 + 997);
    }

    #[test]
    fn t09_empty_writes_cost_nothing_and_a_full_sink_drops() {
        let (console, meter) = console(Limits::default());
        let (sink, mut records) = channel(1);
        console.bind(sink);
        let mut stream = console.stdout();
        for _ in 0..10_000 {
            OutputStream::write(&mut stream, Bytes::new()).unwrap();
        }
        assert!(records.try_recv().is_err());
        console.write(LogStream::Stdout, b"one\ntwo\n");
        assert_eq!(records.try_recv().unwrap().text, "one");
        assert_eq!(meter.log_dropped.load(Relaxed), 4);
    }
}
