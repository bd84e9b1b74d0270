//! What callers are told where there is no answer from a function, with the stage that it failed at. Whether there is one is
//! decided in `run.rs`.

use std::time::Duration;

use dunlin_proto::{ApiError, ErrorCode};

use super::record::Stage;

/// The gateway has no room.
pub(super) fn saturated() -> ApiError {
    ApiError::new(ErrorCode::Unavailable, "this gateway has as many invocations as it takes at once")
        .hint("try again soon, or add gateways")
        .retry_after(Duration::from_secs(1))
}

/// Nobody takes the invocation.
pub(super) fn no_worker(message: &str) -> ApiError {
    ApiError::new(ErrorCode::Unavailable, message)
        .hint("stage: waiting for a worker; try again soon")
        .retry_after(Duration::from_secs(1))
}

/// The invocation's time is up.
pub(super) fn out_of_time(stage: Stage) -> ApiError {
    let stage = match stage {
        Stage::Worker => "waiting for a worker",
        Stage::Function => "running the function",
    };
    ApiError::new(ErrorCode::DeadlineExceeded, format!("the invocation's time was up while {stage}"))
        .hint(format!("stage: {stage}; the limit is the version's limits.timeout"))
}

/// The worker is gone, and with it what it had begun.
pub(super) fn worker_lost() -> ApiError {
    ApiError::new(ErrorCode::WorkerLost, "the worker went away while the function ran").hint(
        "whether the function did its work is not known; where that does no harm, `idempotent = true` has such calls run again",
    )
}
