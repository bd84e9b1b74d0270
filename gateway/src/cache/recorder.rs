//! An answer's body on its way to the caller, of which a copy is kept: it is stored once it is whole, and only then.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use dunlin_proto::ApiError;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use super::{Cache, Draft, flight::Lead, stored::MOST_BYTES};

/// A body that is recorded.
#[derive(Debug)]
pub(crate) struct Recorder<B> {
    body: B,
    tape: Option<Tape>,
}

/// What has been recorded of an answer. Dropped, nothing is stored.
#[derive(Debug)]
struct Tape {
    pieces: Vec<Bytes>,
    size: usize,
    cache: Cache,
    draft: Draft,
    lead: Option<Lead>,
}

impl<B: Body<Data = Bytes, Error = ApiError> + Unpin> Recorder<B> {
    /// Records a body for an answer that otherwise is here; whoever waits for it waits for `lead`.
    pub(crate) fn new(body: B, cache: Cache, draft: Draft, lead: Option<Lead>) -> Self {
        let tape = Tape { pieces: Vec::new(), size: 0, cache, draft, lead };
        let mut recorder = Self { body, tape: Some(tape) };
        if recorder.body.is_end_stream() {
            recorder.finish();
        }
        recorder
    }

    fn take_in(&mut self, frame: &Frame<Bytes>) {
        let Some(tape) = &mut self.tape else { return };
        let wanted = match (frame.data_ref(), frame.trailers_ref()) {
            (Some(data), _) => tape.add(data),
            (None, Some(trailers)) => is_receipt(trailers),
            (None, None) => true,
        };
        if !wanted {
            self.give_up();
        } else if self.body.is_end_stream() {
            // Nobody need ask for more.
            self.finish();
        }
    }

    fn give_up(&mut self) {
        if let Some(lead) = self.tape.take().and_then(|tape| tape.lead) {
            lead.goes_alone();
        }
    }

    fn finish(&mut self) {
        if let Some(tape) = self.tape.take() {
            tape.store();
        }
    }
}

impl Tape {
    /// Keeps a piece, unless that would be too much.
    fn add(&mut self, data: &Bytes) -> bool {
        self.size += data.len();
        if !data.is_empty() {
            self.pieces.push(data.clone());
        }
        self.size <= MOST_BYTES
    }

    fn store(self) {
        let Self { pieces, cache, draft, lead, .. } = self;
        // Copied in any case: a piece may be a small part of a large buffer, which would stay with it and count for nothing.
        cache.store(draft, Bytes::from(pieces.concat()));
        // Those that wait find it now.
        drop(lead);
    }
}

/// The gateway's own word about what a call cost is no part of the answer.
fn is_receipt(trailers: &HeaderMap) -> bool {
    trailers.keys().all(|name| name.as_str() == "server-timing")
}

impl<B: Body<Data = Bytes, Error = ApiError> + Unpin> Body for Recorder<B> {
    type Data = Bytes;
    type Error = ApiError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ApiError>>> {
        let polled = std::task::ready!(Pin::new(&mut self.body).poll_frame(context));
        match &polled {
            Some(Ok(frame)) => self.take_in(frame),
            // Not whole: another one may do better.
            Some(Err(_)) => self.tape = None,
            None => self.finish(),
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
