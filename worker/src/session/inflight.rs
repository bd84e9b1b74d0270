//! What a session and one of its invocations share: the body that arrives, the credit that is granted, the wish to stop.

use std::sync::OnceLock;

use dunlin_proto::internal::v1::Body;
use tokio_util::sync::CancellationToken;

use super::{Fault, credit::Credit, inbox::Inbox};

/// Why an invocation was stopped from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stopped {
    CallerGone,
    DeadlineExceeded,
    RequestTimeout,
}

/// An invocation that has not ended.
#[derive(Debug)]
pub(super) struct Inflight {
    pub(super) inbox: Inbox,
    pub(super) credit: Credit,
    pub(super) cancel: CancellationToken,
    stopped: OnceLock<Stopped>,
}

impl Inflight {
    /// One that begins with this piece of its body; none means that there is no body.
    pub(super) fn new(first: Option<Body>) -> Result<Self, Fault> {
        let inbox = Inbox::default();
        inbox.push(first.unwrap_or(Body { last: true, ..Body::default() }))?;
        Ok(Self { inbox, credit: Credit::new(), cancel: CancellationToken::new(), stopped: OnceLock::new() })
    }

    /// Stops the invocation; the first reason counts.
    pub(super) fn cancel(&self, reason: &str) {
        let _ = self.stopped.set(match reason {
            "deadline_exceeded" => Stopped::DeadlineExceeded,
            "request_timeout" => Stopped::RequestTimeout,
            _ => Stopped::CallerGone,
        });
        self.cancel.cancel();
    }

    /// Why it was stopped, if it was.
    pub(super) fn stopped(&self) -> Option<Stopped> {
        self.stopped.get().copied()
    }
}
