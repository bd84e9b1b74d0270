//! Which credentials are taken where something is called, and what a caller is told that shows none of them.
//!
//! Whether a credential is good is `caller.rs`'s to find out.

use dunlin_proto::{ApiError, ErrorCode, route::CredentialSource};
use http::{HeaderMap, HeaderValue, header};

/// The challenge of tokens (RFC 6750 3), which keys may stand in for where both are taken.
const BEARER: &str = "Bearer realm=\"dunlin\"";

/// Which credentials are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Takes {
    /// Tokens and keys, since the function is private.
    Function,
    /// Tokens and keys, since the route is private.
    Either,
    /// Tokens alone.
    Token,
    /// Keys alone.
    Key,
    /// What another function looks at.
    Other(CredentialSource),
}

impl Takes {
    /// The refusal of a request that has no credential.
    pub(crate) fn missing(&self) -> ApiError {
        const EITHER: &str = "send Authorization: Bearer with a key or token, or X-Api-Key with a key";
        let (message, hint) = match self {
            Self::Function => ("this function is private, and the request has no credential", EITHER),
            Self::Either => ("this route is private, and the request has no credential", EITHER),
            Self::Token => ("this route takes tokens, and the request has none", Self::TOKEN),
            Self::Key => ("this route takes keys, and the request has none", Self::KEY),
            Self::Other(_) => return ApiError::new(ErrorCode::Unauthenticated, "the request has no credential"),
        };
        ApiError::new(ErrorCode::Unauthenticated, message).hint(hint)
    }

    /// Refuses a key where only tokens are taken.
    pub(crate) fn no_keys() -> ApiError {
        ApiError::new(ErrorCode::Unauthenticated, "this route takes tokens, and no keys").hint(Self::TOKEN)
    }

    /// Refuses a token where only keys are taken.
    pub(crate) fn no_tokens() -> ApiError {
        ApiError::new(ErrorCode::Unauthenticated, "this route takes keys, and no tokens").hint(Self::KEY)
    }

    const TOKEN: &str = "send Authorization: Bearer with a token of the namespace";
    const KEY: &str = "send X-Api-Key with a key of the namespace";

    /// Says in the headers of a refusal what is taken (RFC 9110 11.6.1), in the place of what they say.
    pub(crate) fn challenge(&self, headers: &mut HeaderMap) {
        headers.remove(header::WWW_AUTHENTICATE);
        for text in self.challenges() {
            if let Ok(value) = HeaderValue::try_from(text) {
                headers.append(header::WWW_AUTHENTICATE, value);
            }
        }
    }

    fn challenges(&self) -> Vec<String> {
        let key = || placed("header", "X-Api-Key");
        match self {
            Self::Function | Self::Either => vec![BEARER.to_owned(), key()],
            Self::Token => vec![BEARER.to_owned()],
            Self::Key => vec![key()],
            Self::Other(CredentialSource::Header(name)) if *name == "authorization" => vec![BEARER.to_owned()],
            Self::Other(CredentialSource::Header(name)) => vec![placed("header", name)],
            Self::Other(CredentialSource::Cookie(name)) => vec![placed("cookie", name)],
            Self::Other(CredentialSource::Query(name)) => vec![placed("query", name)],
        }
    }
}

/// The challenge of what has no scheme of its own, in the words that OpenAPI has for it.
fn placed(place: &str, name: &str) -> String {
    let name: String = name.chars().filter(|character| !matches!(character, '"' | '\\')).collect();
    format!("ApiKey realm=\"dunlin\", in=\"{place}\", name=\"{name}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_what_a_caller_is_asked_for() {
        let key = "ApiKey realm=\"dunlin\", in=\"header\", name=\"X-Api-Key\"";
        let other = |source: &str| Takes::Other(source.parse().unwrap());
        for (takes, expected) in [
            (Takes::Function, &[BEARER, key][..]),
            (Takes::Either, &[BEARER, key]),
            (Takes::Token, &[BEARER]),
            (Takes::Key, &[key]),
            (other("header:authorization"), &[BEARER]),
            (other("header:x-token"), &["ApiKey realm=\"dunlin\", in=\"header\", name=\"x-token\""]),
            (other("cookie:s"), &["ApiKey realm=\"dunlin\", in=\"cookie\", name=\"s\""]),
            (other("query:t"), &["ApiKey realm=\"dunlin\", in=\"query\", name=\"t\""]),
        ] {
            let mut headers = HeaderMap::from_iter([(header::WWW_AUTHENTICATE, HeaderValue::from_static("x"))]);
            takes.challenge(&mut headers);
            let said: Vec<_> = headers.get_all(header::WWW_AUTHENTICATE).iter().collect();
            assert_eq!(said, expected, "{takes:?}");
            assert_eq!(takes.missing().code, ErrorCode::Unauthenticated);
        }
        assert!(
            !Takes::Token.missing().hint.unwrap().contains("key") && !Takes::Key.missing().message.contains("token")
        );
    }
}
