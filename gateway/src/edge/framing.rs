//! Watches how a connection frames its HTTP/1 messages (RFC 9112 6), beside the parser that reads them: heads that two
//! parsers could divide differently are noted, and whoever answers refuses them (request smuggling, T32).
//!
//! The parser itself takes `Transfer-Encoding` over `Content-Length` and a bare line feed for a line's end, silently. Here
//! both are faults. Nothing is changed on the way, and where this reading and the parser's differ, nothing but a refusal
//! can follow.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll},
};

use memchr::memchr;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is wrong with a connection's framing. Clones share it; once there is a fault, it stays.
#[derive(Debug, Clone, Default)]
pub(crate) struct Verdict(Arc<AtomicU8>);

/// A fault in how a message is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    /// Two lengths.
    #[error("the request has both Content-Length and Transfer-Encoding, or one of them twice")]
    TwoLengths,
    /// A line that ends in a way that parsers disagree on.
    #[error("each line of the request's head must end in CR LF")]
    BareLineFeed,
    /// A length that can't be read.
    #[error("the request's Content-Length or Transfer-Encoding can't be read")]
    Length,
}

impl Verdict {
    /// The fault, where there is one.
    pub(crate) fn fault(&self) -> Option<Fault> {
        match self.0.load(Ordering::Acquire) {
            0 => None,
            1 => Some(Fault::TwoLengths),
            2 => Some(Fault::BareLineFeed),
            _ => Some(Fault::Length),
        }
    }

    fn set(&self, fault: Fault) {
        let code = match fault {
            Fault::TwoLengths => 1,
            Fault::BareLineFeed => 2,
            Fault::Length => 3,
        };
        self.0.store(code, Ordering::Release);
    }
}

/// Follows the bytes of a connection from message to message.
#[derive(Debug)]
struct Follower {
    state: State,
    /// The line of a head or of a chunk's size, as far as it has arrived.
    line: Vec<u8>,
    length: Option<u64>,
    chunked: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In a head; whether its first line has been read.
    Head { begun: bool },
    /// In a body, of which this much is left.
    Body { left: u64 },
    /// In the line with a chunk's size.
    ChunkSize,
    /// In a chunk, with the line end behind it.
    Chunk { left: u64 },
    /// In the trailers.
    Trailers,
}

/// A longer line is refused by the parser itself.
const MAX_LINE: usize = super::MAX_HEAD;

impl Follower {
    fn new() -> Self {
        Self { state: State::Head { begun: false }, line: Vec::new(), length: None, chunked: false }
    }

    fn follow(&mut self, mut bytes: &[u8]) -> Result<(), Fault> {
        while !bytes.is_empty() {
            bytes = match self.state {
                State::Body { left } => {
                    self.skip(bytes, left, |left| State::Body { left }, State::Head { begun: false })
                }
                State::Chunk { left } => self.skip(bytes, left, |left| State::Chunk { left }, State::ChunkSize),
                State::Head { .. } | State::ChunkSize | State::Trailers => self.line(bytes)?,
            };
        }
        Ok(())
    }

    /// Skips what is left of a body or chunk.
    fn skip<'a>(&mut self, bytes: &'a [u8], left: u64, more: fn(u64) -> State, done: State) -> &'a [u8] {
        let here = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        let left = left - here as u64;
        self.state = if left == 0 { done } else { more(left) };
        bytes.get(here..).unwrap_or_default()
    }

    /// Takes in bytes up to a line's end.
    fn line<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Fault> {
        let Some(end) = memchr(b'\n', bytes) else {
            if self.line.len() + bytes.len() <= MAX_LINE {
                self.line.extend_from_slice(bytes);
            }
            return Ok(&[]);
        };
        let (here, rest) = bytes.split_at_checked(end + 1).unwrap_or((bytes, &[]));
        if self.line.is_empty() {
            self.whole_line(here)?;
        } else {
            let mut line = std::mem::take(&mut self.line);
            line.extend_from_slice(here);
            self.whole_line(&line)?;
        }
        Ok(rest)
    }

    fn whole_line(&mut self, line: &[u8]) -> Result<(), Fault> {
        let line = line.strip_suffix(b"\r\n").ok_or(Fault::BareLineFeed)?;
        // A carriage return elsewhere is a line's end to some.
        if memchr(b'\r', line).is_some() {
            return Err(Fault::BareLineFeed);
        }
        match self.state {
            // Empty lines before a request are skipped (RFC 9112 2.2).
            State::Head { begun: false } if line.is_empty() => {}
            State::Head { begun: false } => self.state = State::Head { begun: true },
            State::Head { begun: true } if line.is_empty() => self.end_of_head(),
            State::Head { begun: true } => self.field(line)?,
            State::ChunkSize => self.chunk_size(line)?,
            State::Trailers if line.is_empty() => self.state = State::Head { begun: false },
            State::Trailers | State::Body { .. } | State::Chunk { .. } => {}
        }
        Ok(())
    }

    fn field(&mut self, line: &[u8]) -> Result<(), Fault> {
        let colon = memchr(b':', line).unwrap_or(line.len());
        let (name, value) = line.split_at_checked(colon).unwrap_or((line, &[]));
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        if name.eq_ignore_ascii_case(b"content-length") {
            let length = number(value, 10).ok_or(Fault::Length)?;
            if self.chunked || self.length.replace(length).is_some() {
                return Err(Fault::TwoLengths);
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Fault::Length);
            }
            if self.length.is_some() || std::mem::replace(&mut self.chunked, true) {
                return Err(Fault::TwoLengths);
            }
        }
        Ok(())
    }

    fn end_of_head(&mut self) {
        let length = self.length.take().filter(|length| *length > 0);
        self.state = match (std::mem::take(&mut self.chunked), length) {
            (true, _) => State::ChunkSize,
            (false, Some(left)) => State::Body { left },
            (false, None) => State::Head { begun: false },
        };
    }

    fn chunk_size(&mut self, line: &[u8]) -> Result<(), Fault> {
        let size = line.split(|byte| *byte == b';').next().unwrap_or_default();
        let size = number(size, 16).ok_or(Fault::Length)?;
        // Behind the chunk comes a line end.
        self.state = if size == 0 { State::Trailers } else { State::Chunk { left: size.saturating_add(2) } };
        Ok(())
    }
}

/// A number of digits alone: no sign, no blank, no list.
fn number(digits: &[u8], radix: u32) -> Option<u64> {
    let text = std::str::from_utf8(digits).ok()?;
    let plain = !text.is_empty() && text.chars().all(|digit| digit.is_digit(radix));
    plain.then(|| u64::from_str_radix(text, radix).ok()).flatten()
}

/// A connection whose incoming messages are watched.
#[derive(Debug)]
pub(super) struct Guarded<T> {
    stream: T,
    follower: Follower,
    verdict: Verdict,
}

impl<T> Guarded<T> {
    pub(super) fn new(stream: T, verdict: Verdict) -> Self {
        Self { stream, follower: Follower::new(), verdict }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Guarded<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        std::task::ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let new = buffer.filled().get(before..).unwrap_or_default();
        if self.verdict.fault().is_none()
            && let Err(fault) = self.follower.follow(new)
        {
            self.verdict.set(fault);
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Guarded<T> {
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

    /// Follows whole, and byte by byte; both must see the same.
    fn follow(bytes: &[u8]) -> Result<State, Fault> {
        let (mut whole, mut pieces) = (Follower::new(), Follower::new());
        let at_once = whole.follow(bytes).map(|()| whole.state);
        let one_by_one = bytes.chunks(1).try_for_each(|byte| pieces.follow(byte)).map(|()| pieces.state);
        assert_eq!(at_once, one_by_one);
        at_once
    }

    #[test]
    fn t32_ordinary_messages_are_followed_to_the_next_head() {
        for messages in [
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhelloGET / HTTP/1.1\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
            "POST / HTTP/1.1\r\ntransfer-encoding:  CHUNKED \r\n\r\n5;x=y\r\nhe\nlo\r\nA\r\n0123456789\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\n\r\nGET / HTTP/1.1\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 28\r\n\r\nTransfer-Encoding: chunked\n\n",
        ] {
            assert_eq!(follow(messages.as_bytes()), Ok(State::Head { begun: false }), "{messages:?}");
        }
    }

    #[test]
    fn t32_messages_that_divide_in_two_ways_are_faults() {
        let two = Fault::TwoLengths;
        for (fields, fault) in [
            ("Content-Length: 6\r\nTransfer-Encoding: chunked\r\n", two),
            ("Transfer-Encoding: chunked\r\nContent-Length: 6\r\n", two),
            ("Content-Length: 6\r\nContent-Length: 5\r\n", two),
            ("Content-Length: 6\r\ncontent-length: 6\r\n", two),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", two),
            ("Content-Length: 6, 6\r\n", Fault::Length),
            ("Content-Length: +6\r\n", Fault::Length),
            ("Content-Length: -6\r\n", Fault::Length),
            ("Content-Length: 0x6\r\n", Fault::Length),
            ("Content-Length:\r\n", Fault::Length),
            ("Content-Length: 99999999999999999999999\r\n", Fault::Length),
            ("Transfer-Encoding: identity\r\n", Fault::Length),
            ("Transfer-Encoding: chunked, identity\r\n", Fault::Length),
            ("Transfer-Encoding: gzip, chunked\r\n", Fault::Length),
            ("Transfer-Encoding: xchunked\r\n", Fault::Length),
            ("Transfer-Encoding: \"chunked\"\r\n", Fault::Length),
            ("X: a\n", Fault::BareLineFeed),
            ("X: a\rContent-Length: 6\r\n", Fault::BareLineFeed),
        ] {
            let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
            assert_eq!(follow(head.as_bytes()), Err(fault), "{fields:?}");
        }
        for chunks in ["-1\r\n", " 5\r\n", "5 \r\n", "0x5\r\n", "\r\n", "5\nhello\r\n", "fffffffffffffffff\r\n"] {
            let message = format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
            assert!(follow(message.as_bytes()).is_err(), "{chunks:?}");
        }
    }

    #[test]
    fn a_fault_stays() {
        let verdict = Verdict::default();
        assert_eq!(verdict.fault(), None);
        for fault in [Fault::TwoLengths, Fault::BareLineFeed, Fault::Length] {
            verdict.set(fault);
            assert_eq!(verdict.clone().fault(), Some(fault));
        }
    }
}
