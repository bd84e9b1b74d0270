//! Why an issuer's keys can't be fetched, in words that are safe for callers: no address, and nothing of what was answered. The whole cause
//! is in the log.

use std::time::Duration;

use dunlin_process::addresses::NotPublic;
use dunlin_proto::{ApiError, ErrorCode};

use super::fetch::MAX_BYTES;

/// What was in the way of fetching keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Trouble {
    #[error("it can't be reached")]
    Unreachable,
    #[error("it does not answer in time")]
    Slow,
    #[error("it answers with an error or a redirect")]
    Refused,
    #[error("its answer has more than {MAX_BYTES} bytes")]
    TooLarge,
    #[error("it has a private address, which the operator has not allowed")]
    Private,
    #[error("its address is not one of HTTPS")]
    Insecure,
    #[error("its answer is no set of keys (JWKS), or of another issuer")]
    NotKeys,
}

impl Trouble {
    pub(super) const ALL: [Self; 7] =
        [Self::Unreachable, Self::Slow, Self::Refused, Self::TooLarge, Self::Private, Self::Insecure, Self::NotKeys];

    /// As metrics spell it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Slow => "slow",
            Self::Refused => "refused",
            Self::TooLarge => "too_large",
            Self::Private => "private",
            Self::Insecure => "insecure",
            Self::NotKeys => "not_keys",
        }
    }

    /// What an error of fetching comes from.
    pub(super) fn of(error: &anyhow::Error) -> Self {
        error.chain().find_map(Self::of_cause).unwrap_or(Self::Unreachable)
    }

    /// The client's own error stands before the reason for it, and says less, unless time was up.
    fn of_cause(cause: &(dyn std::error::Error + 'static)) -> Option<Self> {
        if let Some(trouble) = cause.downcast_ref::<Self>() {
            return Some(*trouble);
        }
        if cause.is::<NotPublic>() {
            return Some(Self::Private);
        }
        if cause.is::<serde_json::Error>() {
            return Some(Self::NotKeys);
        }
        cause.downcast_ref::<reqwest::Error>().is_some_and(reqwest::Error::is_timeout).then_some(Self::Slow)
    }

    fn hint(self) -> &'static str {
        match self {
            Self::Private => "the operator can allow it: allow_private of this issuer in the gateway's configuration",
            _ => "try again later; the operator finds the cause in the gateway's log, by this issuer's name",
        }
    }

    /// What a caller is told whose token can't be checked for it; keys are not asked for again within `pause`.
    pub(super) fn refusal(self, issuer: &str, pause: Duration) -> ApiError {
        let message = format!("the keys of the token's issuer {issuer} can't be fetched now: {self}");
        ApiError::new(ErrorCode::Unavailable, message).hint(self.hint()).retry_after(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn troubles_have_names_and_places_of_their_own() {
        let names: std::collections::BTreeSet<_> = Trouble::ALL.iter().map(|trouble| trouble.as_str()).collect();
        assert_eq!(names.len(), Trouble::ALL.len());
        assert!(Trouble::ALL.iter().enumerate().all(|(index, trouble)| *trouble as usize == index));
    }

    #[test]
    fn a_trouble_is_told_from_what_stands_around_it() {
        let json = serde_json::from_str::<u8>("{").unwrap_err();
        let private = NotPublic { name: "id.internal".to_owned() };
        for (error, trouble) in [
            (anyhow::Error::new(Trouble::TooLarge).context("read https://id.internal/"), Trouble::TooLarge),
            (anyhow::Error::new(json).context("read JSON of https://id.internal/"), Trouble::NotKeys),
            (anyhow::Error::new(private).context("dns error").context("fetch"), Trouble::Private),
            (anyhow::anyhow!("connection refused by 10.0.0.1").context("fetch"), Trouble::Unreachable),
        ] {
            assert_eq!(Trouble::of(&error), trouble, "{error:#}");
            let refusal = trouble.refusal("https://id.example", Duration::from_secs(9));
            let told = format!("{} {}", refusal.message, refusal.hint.unwrap());
            assert!(told.contains("https://id.example") && !told.contains("internal") && !told.contains("10.0"));
        }
    }
}
