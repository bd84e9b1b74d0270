//! How an invocation ended, in the words of the protocol. Pure: from the sandbox's failures to the closed list of codes.

use std::time::Duration;

use dunlin_proto::{
    ApiError, ErrorCode,
    internal::v1::{End, Refusal, SessionReceipt, open_session_response::Frame},
};

use super::{answer::Broken, inflight::Stopped};
use crate::{
    holdings::{Loading, NotReady},
    metrics::Counted,
    pool::{NoSandbox, RETRY_AFTER},
    sandbox::{Completion, Failure, Outcome, SandboxError, Usage},
};

/// The last message of an invocation.
#[derive(Debug, PartialEq)]
pub(super) enum Ending {
    /// Guest code never started.
    Refused(Refusal),
    /// Guest code has run.
    Ended(End),
}

impl From<Ending> for Frame {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Refused(refusal) => Self::Refusal(refusal),
            Ending::Ended(end) => Self::End(end),
        }
    }
}

/// What an invocation waited for before its guest ran.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Waited {
    pub(super) queued: Duration,
    pub(super) start: Duration,
    /// What of `queued` went into the version's code.
    pub(super) code: Loading,
}

impl Ending {
    /// Counts it.
    pub(super) fn count(&self, counted: &Counted) {
        match self {
            Self::Refused(refusal) => counted.refused(&refusal.code),
            Self::Ended(end) => counted.ended(&end.reason, &end.receipt.unwrap_or_default()),
        }
    }

    pub(super) fn refused(code: ErrorCode, message: impl Into<String>, retry_after: Duration) -> Self {
        let retry_after_millis = u32::try_from(retry_after.as_millis()).unwrap_or(u32::MAX);
        Self::Refused(Refusal { code: code.to_string(), message: message.into(), retry_after_millis })
    }

    /// The worker itself failed, perhaps while the guest ran.
    pub(super) fn internal() -> Self {
        let message = "something went wrong on our side".to_owned();
        Self::ended(ErrorCode::Internal.as_str(), message, "panicked".to_owned(), &Usage::default(), Waited::default())
    }

    /// The gateway asked for something that makes no sense.
    pub(super) fn invalid(error: &ApiError) -> Self {
        Self::refused(error.code, error.message.clone(), Duration::ZERO)
    }

    /// The version can't run here now.
    pub(super) fn not_ready(reason: &NotReady) -> Self {
        let code = match reason {
            NotReady::Late => ErrorCode::DeadlineExceeded,
            NotReady::Failed | NotReady::Gone => ErrorCode::Unavailable,
        };
        Self::refused(code, reason.to_string(), Duration::ZERO)
    }

    /// The invocation was stopped before its guest ran.
    pub(super) fn stopped(stopped: Option<Stopped>) -> Self {
        let (code, message) = words(stopped);
        Self::refused(code, message, Duration::ZERO)
    }

    /// There is no sandbox for it.
    pub(super) fn no_sandbox(reason: NoSandbox, queued: Duration) -> Self {
        match reason {
            NoSandbox::FunctionFull { .. } => {
                Self::refused(ErrorCode::TooManyRequests, reason.to_string(), RETRY_AFTER)
            }
            NoSandbox::WorkerFull { .. } => Self::refused(ErrorCode::Unavailable, reason.to_string(), RETRY_AFTER),
            NoSandbox::Late => Self::refused(ErrorCode::DeadlineExceeded, reason.to_string(), Duration::ZERO),
            // Its start code has run, as far as it came.
            NoSandbox::Failed(SandboxError::Guest(failure)) => {
                let waited = Waited { queued, ..Waited::default() };
                Self::failed(&failure, None, &Usage::default(), waited)
            }
            NoSandbox::Failed(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "could not make a sandbox");
                Self::refused(ErrorCode::Unavailable, "the worker has no sandbox left", RETRY_AFTER)
            }
        }
    }

    /// The guest has run.
    pub(super) fn of(
        completion: &Completion,
        delivered: Result<(), Broken>,
        stopped: Option<Stopped>,
        waited: Waited,
    ) -> Self {
        match (&completion.outcome, delivered) {
            (Outcome::Ok, Ok(())) => Self::ended("ok", String::new(), String::new(), &completion.usage, waited),
            (Outcome::Ok | Outcome::Failed(Failure::Cancelled), Err(Broken::Late)) => {
                let message = "the caller did not read the answer in time".to_owned();
                let code = ErrorCode::DeadlineExceeded.as_str();
                Self::ended(code, message, "answer_not_read".to_owned(), &completion.usage, waited)
            }
            (Outcome::Ok, Err(Broken::Stopped)) => {
                Self::failed(&Failure::Cancelled, stopped, &completion.usage, waited)
            }
            (Outcome::Failed(failure), _) => Self::failed(failure, stopped, &completion.usage, waited),
        }
    }

    fn failed(failure: &Failure, stopped: Option<Stopped>, usage: &Usage, waited: Waited) -> Self {
        let (code, message) = match failure {
            Failure::Cancelled => words(stopped),
            Failure::Panicked { .. } | Failure::Internal(_) => {
                tracing::error!(%failure, "a sandbox failed");
                (ErrorCode::Internal, "something went wrong on our side".to_owned())
            }
            other => (code(other), other.to_string()),
        };
        Self::ended(code.as_str(), message, failure.code().to_owned(), usage, waited)
    }

    fn ended(outcome: &str, message: String, reason: String, usage: &Usage, waited: Waited) -> Self {
        Self::Ended(End { outcome: outcome.to_owned(), message, receipt: Some(receipt(usage, waited)), reason })
    }
}

fn words(stopped: Option<Stopped>) -> (ErrorCode, String) {
    let (code, message) = match stopped {
        Some(Stopped::CallerGone) | None => (ErrorCode::Cancelled, "the call was cancelled"),
        Some(Stopped::DeadlineExceeded) => (ErrorCode::DeadlineExceeded, "the invocation's time was up"),
        Some(Stopped::RequestTimeout) => (ErrorCode::RequestTimeout, "the caller was too slow in sending its request"),
    };
    (code, message.to_owned())
}

fn code(failure: &Failure) -> ErrorCode {
    match failure {
        Failure::MemoryExceeded { .. } => ErrorCode::MemoryExceeded,
        Failure::CpuExceeded { .. } | Failure::DeadlineExceeded { .. } => ErrorCode::DeadlineExceeded,
        Failure::ResponseTooLarge { .. } => ErrorCode::ResponseTooLarge,
        Failure::RequestTooLarge { .. } => ErrorCode::PayloadTooLarge,
        Failure::Cancelled => ErrorCode::Cancelled,
        Failure::Panicked { .. } | Failure::Internal(_) => ErrorCode::Internal,
        Failure::Trap { .. }
        | Failure::StackOverflow { .. }
        | Failure::TableExceeded { .. }
        | Failure::InvalidResponse(_)
        | Failure::NoResponse
        | Failure::GuestError(_)
        | Failure::ExitStatus(_)
        | Failure::HandlesExceeded(_) => ErrorCode::FunctionFailed,
    }
}

fn receipt(usage: &Usage, waited: Waited) -> SessionReceipt {
    SessionReceipt {
        queue_nanos: nanos(waited.queued),
        start_nanos: nanos(waited.start),
        run_nanos: nanos(usage.run),
        cpu_nanos: nanos(usage.cpu),
        peak_memory_bytes: usage.peak_memory_bytes,
        bytes_in: usage.bytes_in,
        bytes_out: usage.bytes_out,
        reused: usage.reused,
        fetch_nanos: nanos(waited.code.fetch),
        load_nanos: nanos(waited.code.load),
        outbound_requests: usage.outbound_requests,
        host_calls: usage.host_calls,
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(outcome: Outcome, delivered: Result<(), Broken>, stopped: Option<Stopped>) -> (String, String) {
        let completion = Completion { outcome, usage: Usage { cpu: Duration::from_nanos(7), ..Usage::default() } };
        let code = Loading { fetch: Duration::from_nanos(1), load: Duration::from_nanos(2) };
        let waited = Waited { queued: Duration::from_nanos(3), start: Duration::from_nanos(5), code };
        let Ending::Ended(end) = Ending::of(&completion, delivered, stopped, waited) else { panic!("refused") };
        let receipt = end.receipt.unwrap();
        assert_eq!((receipt.queue_nanos, receipt.start_nanos, receipt.cpu_nanos), (3, 5, 7));
        assert_eq!((receipt.fetch_nanos, receipt.load_nanos), (1, 2));
        (end.outcome, end.reason)
    }

    #[test]
    fn every_end_has_its_words() {
        let failed = |failure| Outcome::Failed(failure);
        let late = Duration::from_secs(1);
        let cases = [
            (Outcome::Ok, Ok(()), None, ("ok", "")),
            (Outcome::Ok, Err(Broken::Late), None, ("deadline_exceeded", "answer_not_read")),
            (failed(Failure::Cancelled), Err(Broken::Late), None, ("deadline_exceeded", "answer_not_read")),
            (Outcome::Ok, Err(Broken::Stopped), Some(Stopped::CallerGone), ("cancelled", "cancelled")),
            (failed(Failure::Cancelled), Ok(()), Some(Stopped::RequestTimeout), ("request_timeout", "cancelled")),
            (failed(Failure::Cancelled), Ok(()), Some(Stopped::DeadlineExceeded), ("deadline_exceeded", "cancelled")),
            (
                failed(Failure::DeadlineExceeded { limit: late }),
                Ok(()),
                None,
                ("deadline_exceeded", "deadline_exceeded"),
            ),
            (
                failed(Failure::CpuExceeded { limit: late, frames: String::new() }),
                Ok(()),
                None,
                ("deadline_exceeded", "cpu_exceeded"),
            ),
            (
                failed(Failure::StackOverflow { limit_bytes: 1, frames: String::new() }),
                Ok(()),
                None,
                ("function_failed", "stack_overflow"),
            ),
            (
                failed(Failure::MemoryExceeded { limit_bytes: 1, frames: String::new() }),
                Ok(()),
                None,
                ("memory_exceeded", "memory_exceeded"),
            ),
            (
                failed(Failure::RequestTooLarge { limit_bytes: 1 }),
                Ok(()),
                None,
                ("payload_too_large", "request_too_large"),
            ),
            (failed(Failure::ExitStatus(3)), Ok(()), None, ("function_failed", "exit_status")),
            (failed(Failure::Panicked { message: "x".into() }), Ok(()), None, ("internal", "panicked")),
        ];
        for (outcome, delivered, stopped, (code, reason)) in cases {
            assert!(code == "ok" || ErrorCode::from_text(code).is_some());
            assert_eq!(end(outcome, delivered, stopped), (code.to_owned(), reason.to_owned()));
        }
    }

    #[test]
    fn what_went_wrong_inside_stays_inside() {
        let completion = Completion {
            outcome: Outcome::Failed(Failure::Panicked { message: "index out of bounds at engine.rs".into() }),
            usage: Usage::default(),
        };
        let Ending::Ended(end) = Ending::of(&completion, Ok(()), None, Waited::default()) else { panic!("refused") };
        assert!(!end.message.contains("engine.rs"));
    }
}
