//! How an invocation ended and what it used. `Failure` codes are stable words for metrics, receipts and tests; the
//! messages are for the developer of the function and name the limit that was reached.

use std::time::Duration;

/// The end of one invocation.
#[derive(Debug, Clone)]
pub struct Completion {
    /// Whether the guest answered.
    pub outcome: Outcome,
    /// What it used, complete even when it failed.
    pub usage: Usage,
}

/// Whether the guest answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The guest answered and the body is complete.
    Ok,
    /// The guest failed. If `ResponseEvent::End` was delivered before, the caller has a whole response all the same;
    /// if only `Head` was, the response must be broken off, never ended as if it were whole.
    Failed(Failure),
}

/// Why a guest failed. Every variant is the guest's or its caller's doing except [`Failure::Panicked`] and [`Failure::Internal`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Guest code trapped (`unreachable`, out of bounds, a failed assertion...).
    #[error("the function trapped: {message}")]
    Trap {
        /// The engine's words and the guest's own frames, innermost first.
        message: String,
    },
    /// Recursion used up the stack.
    #[error("the function overflowed its stack of {limit_bytes} bytes{frames}")]
    StackOverflow {
        /// Bytes of WebAssembly stack.
        limit_bytes: u64,
        /// The guest's frames where it ended, innermost first, each on a line of its own; or nothing.
        frames: String,
    },
    /// Linear memory or tables could not grow, and the guest gave up.
    #[error("the function needs more than its memory limit of {limit_bytes} bytes{frames}")]
    MemoryExceeded {
        /// The version's memory limit.
        limit_bytes: u64,
        /// The guest's frames where it gave up, as those of [`Self::StackOverflow`].
        frames: String,
    },
    /// A table could not grow, and the guest gave up.
    #[error("the function needs more than {limit} table elements")]
    TableExceeded {
        /// The limit in elements.
        limit: usize,
    },
    /// Guest code used up its CPU time.
    #[error("the function used up its CPU time of {limit:?}{frames}")]
    CpuExceeded {
        /// The version's CPU limit.
        limit: Duration,
        /// The guest's frames where it was stopped, as those of [`Self::StackOverflow`].
        frames: String,
    },
    /// The deadline of the call passed.
    #[error("the function did not finish within {limit:.1?}")]
    DeadlineExceeded {
        /// The time that the sandbox was given.
        limit: Duration,
    },
    /// The response body is larger than allowed.
    #[error("the response body is larger than {limit_bytes} bytes")]
    ResponseTooLarge {
        /// The version's limit.
        limit_bytes: u64,
    },
    /// The request body is larger than allowed.
    #[error("the request body is larger than {limit_bytes} bytes")]
    RequestTooLarge {
        /// The version's limit.
        limit_bytes: u64,
    },
    /// The guest's response cannot be sent: its status, a header, its framing or its CGI head is malformed.
    #[error("the response is invalid: {0}")]
    InvalidResponse(String),
    /// The guest ended without answering.
    #[error("the function ended without a response")]
    NoResponse,
    /// The guest said that it could not answer (an `error-code` of wasi:http).
    #[error("the function answered with the error {0}")]
    GuestError(String),
    /// A command ended with a status other than 0.
    #[error("the function exited with status {0}")]
    ExitStatus(i32),
    /// The guest holds too many resources, or passed too much to the host in one call.
    #[error("the function used up a limit of the host interface: {0}")]
    HandlesExceeded(String),
    /// The caller went away, or the call was cancelled.
    #[error("the call was cancelled")]
    Cancelled,
    /// Host code panicked while serving this guest. The sandbox is gone; the process goes on.
    #[error("the sandbox failed inside: {message}")]
    Panicked {
        /// The panic's own words; for the log, not for the caller.
        message: String,
    },
    /// Host code failed in another way.
    #[error("the sandbox failed: {0}")]
    Internal(String),
}

impl Failure {
    /// The same, with the guest's frames where it is known to have been over one of its limits.
    pub(super) fn at(self, frames: impl FnOnce() -> String) -> Self {
        match self {
            Self::StackOverflow { limit_bytes, .. } => Self::StackOverflow { limit_bytes, frames: frames() },
            Self::MemoryExceeded { limit_bytes, .. } => Self::MemoryExceeded { limit_bytes, frames: frames() },
            Self::CpuExceeded { limit, .. } => Self::CpuExceeded { limit, frames: frames() },
            other => other,
        }
    }

    /// All that [`Self::code`] can say.
    pub const CODES: [&'static str; 16] = [
        "trap",
        "stack_overflow",
        "memory_exceeded",
        "table_exceeded",
        "cpu_exceeded",
        "deadline_exceeded",
        "response_too_large",
        "request_too_large",
        "invalid_response",
        "no_response",
        "guest_error",
        "exit_status",
        "handles_exceeded",
        "cancelled",
        "panicked",
        "internal",
    ];

    /// The stable word for this failure.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Trap { .. } => "trap",
            Self::StackOverflow { .. } => "stack_overflow",
            Self::MemoryExceeded { .. } => "memory_exceeded",
            Self::TableExceeded { .. } => "table_exceeded",
            Self::CpuExceeded { .. } => "cpu_exceeded",
            Self::DeadlineExceeded { .. } => "deadline_exceeded",
            Self::ResponseTooLarge { .. } => "response_too_large",
            Self::RequestTooLarge { .. } => "request_too_large",
            Self::InvalidResponse(_) => "invalid_response",
            Self::NoResponse => "no_response",
            Self::GuestError(_) => "guest_error",
            Self::ExitStatus(_) => "exit_status",
            Self::HandlesExceeded(_) => "handles_exceeded",
            Self::Cancelled => "cancelled",
            Self::Panicked { .. } => "panicked",
            Self::Internal(_) => "internal",
        }
    }
}

/// What one invocation used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Time that making the sandbox took. Whoever kept a prepared sandbox warm reports 0 instead.
    pub start: Duration,
    /// Wall-clock time from the call of the guest to its end.
    pub run: Duration,
    /// CPU time of the guest and of host code working for it, instantiation included.
    pub cpu: Duration,
    /// Largest sum of the sandbox's linear memories.
    pub peak_memory_bytes: u64,
    /// Bytes of the request body that the guest was given.
    pub bytes_in: u64,
    /// Bytes of the response body that were delivered.
    pub bytes_out: u64,
    /// Bytes of stdout and stderr that did not become log records.
    pub log_bytes_dropped: u64,
    /// Requests that the guest sent over HTTP, refused ones included.
    pub outbound_requests: u32,
    /// How often the guest called the host: functions of WASI and of the runtime, such as those that grow a memory.
    pub host_calls: u64,
    /// Whether the sandbox had served a call before.
    pub reused: bool,
}

/// Why there is no sandbox.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The engine could not be made; the configuration or the machine does not suit.
    #[error("start the WebAssembly engine")]
    Engine(#[source] anyhow::Error),
    /// The compiled file cannot be loaded: compiled by another engine, for another CPU, or damaged.
    #[error("load compiled code")]
    Load(#[source] anyhow::Error),
    /// The compiled component lacks what its kind needs, or imports what is not offered.
    #[error("link the component")]
    Link(#[source] anyhow::Error),
    /// The version asks for more memory than a pool slot has.
    #[error("memory limit of {asked} bytes is above this worker's maximum of {max} bytes")]
    MemoryAboveMaximum {
        /// The version's limit.
        asked: u64,
        /// [`SandboxConfig::max_memory_bytes`](super::SandboxConfig::max_memory_bytes).
        max: u64,
    },
    /// All sandboxes of this worker are in use. The guest never started.
    #[error("no free sandbox")]
    PoolExhausted,
    /// The guest failed while it was being instantiated.
    #[error("instantiate the guest: {0}")]
    Guest(Failure),
}
