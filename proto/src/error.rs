//! The closed list of error codes, mapped once to gRPC and once to HTTP, and the error that carries one to a client.
//!
//! It holds what a client may read and nothing else; causes are logged where they are handled. The mapping to gRPC
//! follows google.rpc (`ErrorInfo`, `BadRequest`, `RetryInfo`), so that any client library can read the details.

use std::{collections::HashMap, fmt, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// The `domain` of our `google.rpc.ErrorInfo`.
pub const ERROR_DOMAIN: &str = "dunlin.v1";

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident $text:literal $http:literal $grpc:ident),+ $(,)?) => {
        /// What went wrong, as clients can match on it. New ones are added thoughtfully; none is ever renamed.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ErrorCode {
            $($(#[$doc])* $variant,)+
        }

        impl ErrorCode {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// Its spelling in JSON, in records and in `ErrorInfo.reason` (there in upper case).
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            /// The HTTP status (RFC 9110 15, RFC 6585) that says it.
            #[must_use]
            pub fn http_status(self) -> u16 {
                match self { $(Self::$variant => $http),+ }
            }

            /// The gRPC status that says it.
            #[must_use]
            pub fn grpc_code(self) -> Code {
                match self { $(Self::$variant => Code::$grpc),+ }
            }
        }
    };
}

codes! {
    /// The request can't be understood.
    InvalidArgument "invalid_argument" 400 InvalidArgument,
    /// No credential, or none that is valid.
    Unauthenticated "unauthenticated" 401 Unauthenticated,
    /// The credential does not allow it.
    PermissionDenied "permission_denied" 403 PermissionDenied,
    /// It is not there, or not for this caller.
    NotFound "not_found" 404 NotFound,
    /// The resource has no such method.
    MethodNotAllowed "method_not_allowed" 405 Unimplemented,
    /// The caller was too slow in sending its request.
    RequestTimeout "request_timeout" 408 DeadlineExceeded,
    /// It is there already.
    AlreadyExists "already_exists" 409 AlreadyExists,
    /// The state does not allow it now.
    FailedPrecondition "failed_precondition" 409 FailedPrecondition,
    /// It is not as the request wants it to be (RFC 9110 13), or has changed since the caller looked.
    Changed "changed" 412 Aborted,
    /// It was there, and is for nobody any more.
    Gone "gone" 410 NotFound,
    /// A body or artifact is over its limit.
    PayloadTooLarge "payload_too_large" 413 OutOfRange,
    /// The request's target is over its limit.
    UriTooLong "uri_too_long" 414 InvalidArgument,
    /// The body is of a media type or coding that is not taken.
    UnsupportedMediaType "unsupported_media_type" 415 InvalidArgument,
    /// The host is not served here.
    Misdirected "misdirected_request" 421 NotFound,
    /// An artifact that can't become a version.
    InvalidArtifact "invalid_artifact" 422 InvalidArgument,
    /// The idempotency key was used for another request.
    KeyReused "idempotency_key_reused" 422 InvalidArgument,
    /// A rate, quota or concurrency is used up.
    TooManyRequests "too_many_requests" 429 ResourceExhausted,
    /// The head of the request is over its limit.
    HeadersTooLarge "headers_too_large" 431 InvalidArgument,
    /// Our fault.
    Internal "internal" 500 Internal,
    /// It is not offered, whatever is asked.
    NotImplemented "not_implemented" 501 Unimplemented,
    /// The function trapped, exited or answered nonsense.
    FunctionFailed "function_failed" 502 Unknown,
    /// The function wanted more memory than it has.
    MemoryExceeded "memory_exceeded" 502 Unknown,
    /// The function's answer is over its limit.
    ResponseTooLarge "response_too_large" 502 Unknown,
    /// The worker went away while the function ran.
    WorkerLost "worker_lost" 502 Unavailable,
    /// Nothing can take it now; trying again may help.
    Unavailable "unavailable" 503 Unavailable,
    /// The invocation's time, or the guest's CPU time, is up.
    DeadlineExceeded "deadline_exceeded" 504 DeadlineExceeded,
    /// The caller left. No caller reads it, records do (499 is nobody's standard, but everybody's habit).
    Cancelled "cancelled" 499 Cancelled,
}

impl ErrorCode {
    /// The code with this spelling.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.as_str().eq_ignore_ascii_case(text))
    }

    /// The code that fits a gRPC status which names none, such as one made by a library.
    #[must_use]
    pub fn from_grpc(code: Code) -> Self {
        match code {
            Code::InvalidArgument => Self::InvalidArgument,
            Code::Unauthenticated => Self::Unauthenticated,
            Code::PermissionDenied => Self::PermissionDenied,
            Code::NotFound => Self::NotFound,
            Code::Unimplemented => Self::MethodNotAllowed,
            Code::AlreadyExists => Self::AlreadyExists,
            Code::FailedPrecondition | Code::Aborted => Self::FailedPrecondition,
            Code::OutOfRange => Self::PayloadTooLarge,
            Code::ResourceExhausted => Self::TooManyRequests,
            Code::Unavailable => Self::Unavailable,
            Code::DeadlineExceeded => Self::DeadlineExceeded,
            Code::Cancelled => Self::Cancelled,
            Code::Ok | Code::Unknown | Code::Internal | Code::DataLoss => Self::Internal,
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An error as a client gets it: over gRPC as a status with details, over HTTP as JSON.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// What a program matches on.
    pub code: ErrorCode,
    /// What a person reads: what was wrong and where.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The field of the request that was wrong.
    pub field: Option<String>,
    /// When trying again may help.
    pub retry_after: Option<Duration>,
    /// The limit that is used up. It does not travel between processes: who refuses says it.
    pub exceeded: Option<Box<Exceeded>>,
    /// Everything that is wrong with a caller's request. It does not travel between processes either.
    pub violations: Box<[Violation]>,
}

/// Something that is wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Where, such as `query.limit` or `body/items/0`.
    pub field: String,
    /// What a person reads.
    pub message: String,
}

/// A limit that is used up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exceeded {
    /// Whose it is, such as `function shop/pay`.
    pub whose: String,
    /// What it limits.
    pub kind: LimitKind,
    /// How much there was when it was refused, as far as whoever refuses knows.
    pub current: u64,
    /// How much there may be.
    pub allowed: u64,
}

/// What a limit limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitKind {
    /// Calls in a time.
    Rate {
        /// The time.
        period: Duration,
    },
    /// Calls in a day or month of UTC.
    Quota {
        /// How long the period is at most.
        period: Duration,
    },
    /// What a namespace may use in a day or month of UTC.
    Budget {
        /// How long the period is at most.
        period: Duration,
    },
    /// Calls at once.
    Concurrency,
}

impl LimitKind {
    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rate { .. } => "rate",
            Self::Quota { .. } => "quota",
            Self::Budget { .. } => "budget",
            Self::Concurrency => "concurrency",
        }
    }
}

impl ApiError {
    /// An error with a message for people.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            hint: None,
            field: None,
            retry_after: None,
            exceeded: None,
            violations: Box::default(),
        }
    }

    /// A field of the request is wrong.
    pub fn invalid(field: &str, message: impl fmt::Display) -> Self {
        let error = Self::new(ErrorCode::InvalidArgument, message.to_string());
        Self { field: Some(field.to_owned()), ..error }
    }

    /// Something is not there, or not for this caller.
    pub fn not_found(what: impl fmt::Display) -> Self {
        Self::new(ErrorCode::NotFound, format!("{what} was not found"))
    }

    /// Our fault: the cause belongs in the log, not here.
    #[must_use]
    pub fn internal() -> Self {
        Self::new(ErrorCode::Internal, "something went wrong on our side")
            .hint("the request id leads to the cause in the platform's log")
    }

    /// Says what to do about it.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// Says when trying again may help.
    #[must_use]
    pub fn retry_after(self, after: Duration) -> Self {
        Self { retry_after: Some(after), ..self }
    }

    /// Says which limit is used up.
    #[must_use]
    pub fn exceeded(self, limit: Exceeded) -> Self {
        Self { exceeded: Some(Box::new(limit)), ..self }
    }

    /// Says everything that is wrong with a request.
    #[must_use]
    pub fn violations(self, violations: Vec<Violation>) -> Self {
        Self { violations: violations.into(), ..self }
    }

    /// Whether somebody else may have more luck: nothing has run.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        self.code == ErrorCode::Unavailable
    }
}

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Self {
        let metadata: HashMap<_, _> = error.hint.iter().map(|hint| ("hint".to_owned(), hint.clone())).collect();
        let mut details = ErrorDetails::with_error_info(error.code.as_str().to_uppercase(), ERROR_DOMAIN, metadata);
        if let Some(field) = &error.field {
            details.add_bad_request_violation(field, &error.message);
        }
        if error.retry_after.is_some() {
            details.set_retry_info(error.retry_after);
        }
        Status::with_error_details(error.code.grpc_code(), error.message, details)
    }
}

impl From<Status> for ApiError {
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info().filter(|info| info.domain == ERROR_DOMAIN);
        Self {
            code: info
                .and_then(|info| ErrorCode::from_text(&info.reason))
                .unwrap_or(ErrorCode::from_grpc(status.code())),
            hint: info.and_then(|info| info.metadata.get("hint").cloned()),
            field: details.bad_request().and_then(|bad| bad.field_violations.first().map(|v| v.field.clone())),
            retry_after: details.retry_info().and_then(|retry| retry.retry_delay),
            exceeded: None,
            violations: Box::default(),
            message: status.message().to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_one_spelling_and_a_client_error_or_a_server_error_status() {
        for code in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_text(code.as_str()), Some(*code));
            assert!((400..600).contains(&code.http_status()), "{code}");
        }
    }

    #[test]
    fn an_error_survives_the_wire() {
        for code in ErrorCode::ALL {
            let mut error = ApiError::new(*code, "what").hint("do this").retry_after(Duration::from_secs(2));
            error.field = Some("parent".to_owned());
            let status = Status::from(error.clone());
            assert_eq!(status.code(), code.grpc_code());
            let mut sent = error.clone();
            sent.message = "what".to_owned();
            assert_eq!(ApiError::from(status), sent);
        }
    }

    #[test]
    fn a_foreign_status_gets_the_code_that_fits() {
        assert_eq!(ApiError::from(Status::unavailable("gone")).code, ErrorCode::Unavailable);
        assert_eq!(ApiError::from(Status::data_loss("?")).code, ErrorCode::Internal);
    }
}
