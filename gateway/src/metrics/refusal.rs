//! Why a request was refused before its function ran, as far as its error says. Pure; what failed later is no refusal.

use dunlin_proto::{ApiError, ErrorCode, error::LimitKind};

/// A reason to refuse a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    Unauthenticated,
    Forbidden,
    NotFound,
    Rate,
    Quota,
    Budget,
    Concurrency,
    Busy,
    Unavailable,
    Validation,
    TooLarge,
    Malformed,
    TooSlow,
}

impl Reason {
    pub(super) const ALL: [Self; 13] = [
        Self::Unauthenticated,
        Self::Forbidden,
        Self::NotFound,
        Self::Rate,
        Self::Quota,
        Self::Budget,
        Self::Concurrency,
        Self::Busy,
        Self::Unavailable,
        Self::Validation,
        Self::TooLarge,
        Self::Malformed,
        Self::TooSlow,
    ];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::Rate => "rate",
            Self::Quota => "quota",
            Self::Budget => "budget",
            Self::Concurrency => "concurrency",
            Self::Busy => "busy",
            Self::Unavailable => "unavailable",
            Self::Validation => "validation",
            Self::TooLarge => "too_large",
            Self::Malformed => "malformed",
            Self::TooSlow => "too_slow",
        }
    }

    /// Why a request was refused; nothing where its function ran, or nobody refused it.
    pub(super) fn of(error: &ApiError) -> Option<Self> {
        if let Some(exceeded) = &error.exceeded {
            return Some(match exceeded.kind {
                LimitKind::Rate { .. } => Self::Rate,
                LimitKind::Quota { .. } => Self::Quota,
                LimitKind::Budget { .. } => Self::Budget,
                LimitKind::Concurrency => Self::Concurrency,
            });
        }
        Some(match error.code {
            ErrorCode::Unauthenticated => Self::Unauthenticated,
            ErrorCode::PermissionDenied => Self::Forbidden,
            ErrorCode::NotFound | ErrorCode::Gone | ErrorCode::MethodNotAllowed | ErrorCode::Misdirected => {
                Self::NotFound
            }
            // Workers had no room.
            ErrorCode::TooManyRequests => Self::Busy,
            ErrorCode::Unavailable => Self::Unavailable,
            ErrorCode::InvalidArgument if !error.violations.is_empty() => Self::Validation,
            ErrorCode::PayloadTooLarge | ErrorCode::UriTooLong | ErrorCode::HeadersTooLarge => Self::TooLarge,
            ErrorCode::InvalidArgument | ErrorCode::UnsupportedMediaType | ErrorCode::NotImplemented => Self::Malformed,
            ErrorCode::RequestTimeout => Self::TooSlow,
            ErrorCode::AlreadyExists
            | ErrorCode::FailedPrecondition
            | ErrorCode::Changed
            | ErrorCode::InvalidArtifact
            | ErrorCode::KeyReused
            | ErrorCode::Internal
            | ErrorCode::FunctionFailed
            | ErrorCode::MemoryExceeded
            | ErrorCode::ResponseTooLarge
            | ErrorCode::WorkerLost
            | ErrorCode::DeadlineExceeded
            | ErrorCode::Cancelled => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, time::Duration};

    use dunlin_proto::error::{Exceeded, Violation};

    use super::*;

    #[test]
    fn reasons_have_names_and_places_of_their_own() {
        let names: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(names.len(), Reason::ALL.len());
        assert!(Reason::ALL.iter().enumerate().all(|(index, reason)| *reason as usize == index));
    }

    #[test]
    fn a_limit_that_is_used_up_is_named_and_what_ran_was_not_refused() {
        let over = |kind| {
            let exceeded = Exceeded { whose: "x".to_owned(), kind, current: 1, allowed: 1 };
            Reason::of(&ApiError::new(ErrorCode::TooManyRequests, "x").exceeded(exceeded))
        };
        let period = Duration::from_secs(1);
        assert_eq!(over(LimitKind::Rate { period }), Some(Reason::Rate));
        assert_eq!(over(LimitKind::Quota { period }), Some(Reason::Quota));
        assert_eq!(over(LimitKind::Concurrency), Some(Reason::Concurrency));
        let of = |code| Reason::of(&ApiError::new(code, "x"));
        assert_eq!(of(ErrorCode::TooManyRequests), Some(Reason::Busy));
        assert_eq!(of(ErrorCode::InvalidArgument), Some(Reason::Malformed));
        assert_eq!((of(ErrorCode::FunctionFailed), of(ErrorCode::WorkerLost)), (None, None));
        let violation = Violation { field: "query.limit".to_owned(), message: "x".to_owned() };
        let error = ApiError { violations: [violation].into(), ..ApiError::new(ErrorCode::InvalidArgument, "x") };
        assert_eq!(Reason::of(&error), Some(Reason::Validation));
    }
}
