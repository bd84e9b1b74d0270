//! The request's body on its way from the session to the guest: bounded by credit, which is granted as the guest reads.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use bytes::{Bytes, BytesMut};
use dunlin_proto::{INITIAL_CREDIT_BYTES, MAX_BODY_CHUNK_BYTES, internal::v1::Body};
use http::HeaderMap;
use tokio::sync::Notify;

use super::{Fault, request};

/// Pieces below this size are put together, so that a body in single bytes takes no more memory than any other.
const SMALL: usize = 2 << 10;

/// What a guest reads next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Data(Bytes),
    /// The body ends, with these trailers.
    End(HeaderMap),
}

/// A body, as far as it has arrived and is not yet read.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    arrived: Mutex<Arrived>,
    more: Notify,
}

#[derive(Debug)]
struct Arrived {
    pieces: VecDeque<Bytes>,
    /// The small pieces after those.
    small: BytesMut,
    credit: u64,
    end: Option<HeaderMap>,
    ended: bool,
}

impl Default for Arrived {
    fn default() -> Self {
        let small = BytesMut::new();
        Self { pieces: VecDeque::new(), small, credit: INITIAL_CREDIT_BYTES, end: None, ended: false }
    }
}

impl Inbox {
    /// Takes what the gateway sent.
    ///
    /// # Errors
    /// It is more than was granted, too large at once, or comes after the end.
    pub(super) fn push(&self, body: Body) -> Result<(), Fault> {
        self.lock().push(body)?;
        self.more.notify_one();
        Ok(())
    }

    /// The next piece, as soon as there is one. Cancel-safe; for one waiter. Not to be called after the end.
    pub(super) async fn next(&self) -> Piece {
        loop {
            if let Some(piece) = self.lock().pop() {
                return piece;
            }
            self.more.notified().await;
        }
    }

    /// The whole body, where all of it has arrived already and it has no trailers.
    pub(super) fn whole(&self) -> Option<Bytes> {
        let mut arrived = self.lock();
        let whole = arrived.pieces.is_empty() || (arrived.pieces.len() == 1 && arrived.small.is_empty());
        if !whole || !arrived.end.as_ref().is_some_and(HeaderMap::is_empty) {
            return None;
        }
        arrived.end = None;
        arrived.pieces.pop_front().or_else(|| Some(arrived.small.split().freeze()))
    }

    /// Grants so many bytes more.
    pub(super) fn grant(&self, bytes: u64) {
        self.lock().credit += bytes;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Arrived> {
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Arrived {
    fn push(&mut self, body: Body) -> Result<(), Fault> {
        let bytes = body.data.len();
        if self.ended {
            return Err(Fault::new("a body goes on after its end"));
        }
        if bytes > MAX_BODY_CHUNK_BYTES {
            return Err(Fault::new(format!(
                "a piece of a body has {bytes} bytes, {MAX_BODY_CHUNK_BYTES} at most are allowed"
            )));
        }
        let left = self.credit.checked_sub(bytes as u64);
        self.credit =
            left.ok_or_else(|| Fault::new(format!("{bytes} bytes of a body with a credit of {}", self.credit)))?;
        if bytes < SMALL {
            self.small.extend_from_slice(&body.data);
        } else {
            self.flush();
            self.pieces.push_back(body.data);
        }
        if self.small.len() >= SMALL {
            self.flush();
        }
        if body.last {
            self.ended = true;
            self.end = Some(request::trailers(body.trailers)?);
        }
        Ok(())
    }

    fn flush(&mut self) {
        if !self.small.is_empty() {
            self.pieces.push_back(self.small.split().freeze());
        }
    }

    fn pop(&mut self) -> Option<Piece> {
        self.flush();
        let data = self.pieces.pop_front().map(Piece::Data);
        data.or_else(|| self.end.take().map(Piece::End))
    }
}

#[cfg(test)]
mod tests {
    use dunlin_proto::internal::v1::Header;

    use super::*;

    fn body(data: &[u8], last: bool) -> Body {
        Body { data: Bytes::copy_from_slice(data), last, trailers: Vec::new() }
    }

    #[tokio::test]
    async fn single_bytes_are_put_together_and_keep_their_order() {
        let inbox = Inbox::default();
        for byte in 0..5000_u32 {
            inbox.push(body(&[byte.to_le_bytes()[0]], false)).unwrap();
        }
        inbox.push(body(&[7; 4000], true)).unwrap();
        let mut all = Vec::new();
        let mut pieces = 0;
        while let Piece::Data(data) = inbox.next().await {
            all.extend_from_slice(&data);
            pieces += 1;
        }
        let expected: Vec<u8> = (0..5000_u32).map(|byte| byte.to_le_bytes()[0]).chain([7; 4000]).collect();
        assert!(all == expected && pieces == 4, "{pieces}");
    }

    #[test]
    fn a_sender_over_its_credit_is_at_fault() {
        let inbox = Inbox::default();
        for _ in 0..4 {
            inbox.push(body(&[0; 64 << 10], false)).unwrap();
        }
        assert!(inbox.push(body(&[0], false)).is_err());
        inbox.grant(1);
        inbox.push(body(&[0], true)).unwrap();
        assert!(inbox.push(body(&[], true)).is_err(), "after the end");
        assert!(Inbox::default().push(body(&[0; (64 << 10) + 1], false)).is_err());
    }

    #[tokio::test]
    async fn a_whole_body_is_taken_at_once_unless_it_has_trailers() {
        let inbox = Inbox::default();
        assert_eq!(inbox.whole(), None);
        inbox.push(body(b"all", true)).unwrap();
        assert_eq!(inbox.whole(), Some(Bytes::from_static(b"all")));
        let empty = Inbox::default();
        empty.push(body(b"", true)).unwrap();
        assert_eq!(empty.whole(), Some(Bytes::new()));
        let trailing = Inbox::default();
        let header = Header { name: "x-sum".into(), value: Bytes::from_static(b"1") };
        trailing.push(Body { trailers: vec![header], ..body(b"all", true) }).unwrap();
        assert_eq!(trailing.whole(), None);
        assert_eq!(trailing.next().await, Piece::Data(Bytes::from_static(b"all")));
        assert!(matches!(trailing.next().await, Piece::End(trailers) if trailers["x-sum"] == "1"));
    }
}
