//! What can go wrong inside the scheduler, and its one way into an answer: causes are logged there, clients read the rest.

use std::{io, time::Duration};

use dunlin_proto::{ApiError, ErrorCode};

/// A failure of the scheduler's own; what a client did wrong is [`Error::Api`].
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The client gets it as it is.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The database refused or is away.
    #[error("use the database")]
    Database(#[from] sqlx::Error),
    /// The object store refused or is away.
    #[error("use the object store")]
    Objects(#[from] object_store::Error),
    /// The disk refused.
    #[error("use the disk")]
    Disk(#[from] io::Error),
    /// What was stored can't be read back.
    #[error("stored {what} can't be read: {value:?}")]
    Damaged {
        /// Which column or object.
        what: &'static str,
        /// The beginning of what was there.
        value: String,
    },
    /// An artifact or code is not, or no longer, what its name says.
    #[error("object {0} is missing or damaged")]
    Lost(String),
}

impl Error {
    /// Whether the database or object store is away, so that trying again may help.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Database(error) => database_is_away(error),
            Self::Objects(error) => {
                !matches!(error, object_store::Error::NotFound { .. } | object_store::Error::InvalidPath { .. })
            }
            Self::Api(error) => error.is_unavailable(),
            Self::Disk(_) | Self::Damaged { .. } | Self::Lost(_) => false,
        }
    }

    /// The answer to a client; logs the cause of what was not the client's doing.
    pub(crate) fn into_api(self) -> ApiError {
        if let Self::Api(error) = self {
            return error;
        }
        let transient = self.is_transient();
        let cause = format!("{:#}", anyhow::Error::new(self));
        if !transient {
            tracing::error!(cause, "a call failed");
            return ApiError::internal();
        }
        tracing::warn!(cause, "a call failed for now");
        ApiError::new(ErrorCode::Unavailable, "the platform's state can't be reached right now")
            .hint("what is deployed goes on being served; try again in a moment")
            .retry_after(Duration::from_secs(1))
    }
}

impl From<Error> for tonic::Status {
    fn from(error: Error) -> Self {
        error.into_api().into()
    }
}

/// SQLSTATE classes and SQLite codes that pass by themselves: connection lost, server stopping, too many clients,
/// timeouts, conflicts between transactions; for SQLite busy and locked.
fn database_is_away(error: &sqlx::Error) -> bool {
    use sqlx::Error as E;
    match error {
        E::Io(_) | E::PoolTimedOut | E::PoolClosed | E::WorkerCrashed | E::Protocol(_) | E::Tls(_) => true,
        E::Database(error) => error.code().is_some_and(|code| is_passing_code(&code)),
        _ => false,
    }
}

fn is_passing_code(code: &str) -> bool {
    // SQLite's extended codes have the primary one in their lowest byte.
    let sqlite = code.len() < 5 && code.parse::<u32>().is_ok_and(|code| matches!(code & 0xff, 5 | 6 | 10 | 13 | 14));
    sqlite || ["08", "53", "57", "40", "25006", "55P03", "28", "3D"].iter().any(|class| code.starts_with(class))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_by_itself_can_be_tried_again() {
        for code in ["57P01", "57P03", "08006", "53300", "40001", "40P01", "57014", "5", "261", "6"] {
            assert!(is_passing_code(code), "{code}");
        }
        for code in ["23505", "42P01", "22P02", "1", "19", "1555", "2067"] {
            assert!(!is_passing_code(code), "{code}");
        }
        let error = Error::from(sqlx::Error::PoolTimedOut).into_api();
        assert_eq!((error.code, error.retry_after.is_some()), (ErrorCode::Unavailable, true));
        let error = Error::Damaged { what: "traffic", value: "?".into() }.into_api();
        assert_eq!(error.code, ErrorCode::Internal);
    }
}
