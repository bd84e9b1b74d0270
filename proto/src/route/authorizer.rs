//! A route's authorizer: the function that says who may call, by which credential it knows callers, and for how long a word of
//! it counts. What it is asked, and what it may answer, is the gateway's to say.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{error::ApiError, ids::FunctionName, model::to_wire_duration, v1};

const DEFAULT_TTL: Duration = Duration::from_secs(60);
const MAX_TTL: Duration = Duration::from_secs(3600);
const DEFAULT_CREDENTIAL: &str = "header:authorization";
const MAX_NAME: usize = 64;
/// Headers that gateways set or take away themselves, and the one with cookies, which have names of their own.
const NOT_CREDENTIALS: [&str; 8] =
    ["cookie", "host", "connection", "content-length", "transfer-encoding", "te", "upgrade", "forwarded"];

/// The function that says who may call through a route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authorizer {
    /// Its bare name, in the route's namespace.
    pub function: FunctionName,
    /// How long a verdict counts for the credential that it was given for; zero asks for each request.
    pub ttl: Duration,
    /// What callers are known by.
    pub credential: CredentialSource,
}

/// Where a request has its credential.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum CredentialSource {
    /// In a header; its name is in lower case.
    Header(String),
    /// In a cookie.
    Cookie(String),
    /// In a parameter of the query.
    Query(String),
}

/// A text that says no place of a credential.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no place of a credential: {reason}; write for example header:authorization, cookie:session or query:token"
)]
pub struct InvalidCredentialSource {
    text: String,
    reason: &'static str,
}

impl Authorizer {
    pub(super) fn read(wire: Option<v1::Authorizer>) -> Result<Self, ApiError> {
        let missing = || {
            ApiError::invalid("route.authorizer", "the route has the auth authorizer, but names none")
                .hint("name a function of the namespace as its authorizer")
        };
        let wire = wire.ok_or_else(missing)?;
        let wrong =
            |field: &str, error: &dyn fmt::Display| ApiError::invalid(&format!("route.authorizer.{field}"), error);
        let function = wire.function.parse::<FunctionName>().map_err(|error| wrong("function", &error))?;
        let ttl = wire.ttl.map_or(Ok(DEFAULT_TTL), Duration::try_from).ok().filter(|ttl| *ttl <= MAX_TTL);
        let ttl = ttl.ok_or_else(|| wrong("ttl", &format!("ttl must lie between 0 s and {} s", MAX_TTL.as_secs())))?;
        let text = if wire.credential.is_empty() { DEFAULT_CREDENTIAL } else { &wire.credential };
        let credential = text.parse::<CredentialSource>().map_err(|error| wrong("credential", &error))?;
        Ok(Self { function, ttl, credential })
    }
}

impl From<&Authorizer> for v1::Authorizer {
    fn from(authorizer: &Authorizer) -> Self {
        Self {
            function: authorizer.function.to_string(),
            ttl: Some(to_wire_duration(authorizer.ttl)),
            credential: authorizer.credential.to_string(),
        }
    }
}

impl FromStr for CredentialSource {
    type Err = InvalidCredentialSource;

    fn from_str(text: &str) -> Result<Self, InvalidCredentialSource> {
        // What somebody sent is quoted, but never more of it than helps.
        let wrong = |reason| InvalidCredentialSource { text: text.chars().take(80).collect(), reason };
        let (place, name) = text.split_once(':').ok_or_else(|| wrong("it has no colon"))?;
        // Whatever is allowed here means itself in a header's name, in a cookie's and in a query.
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
        if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(plain) {
            return Err(wrong("the name must have 1 to 64 letters, digits, hyphens, underscores, dots and tildes"));
        }
        let lower = name.to_ascii_lowercase();
        if lower.strip_prefix("__host-").unwrap_or(&lower).starts_with("dunlin-") {
            return Err(wrong("names that begin with dunlin- are the platform's"));
        }
        match place {
            "header" if NOT_CREDENTIALS.contains(&&*lower) || lower.starts_with("x-forwarded-") => {
                Err(wrong("this header has a meaning of its own"))
            }
            "header" => Ok(Self::Header(lower)),
            "cookie" => Ok(Self::Cookie(name.to_owned())),
            "query" => Ok(Self::Query(name.to_owned())),
            _ => Err(wrong("it must begin with header, cookie or query")),
        }
    }
}

impl TryFrom<String> for CredentialSource {
    type Error = InvalidCredentialSource;

    fn try_from(text: String) -> Result<Self, InvalidCredentialSource> {
        text.parse()
    }
}

impl From<CredentialSource> for String {
    fn from(source: CredentialSource) -> Self {
        source.to_string()
    }
}

impl fmt::Display for CredentialSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
            Self::Query(name) => write!(f, "query:{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_has_one_place() {
        for (text, read) in [
            ("header:Authorization", "header:authorization"),
            ("header:X-Token", "header:x-token"),
            ("cookie:Session", "cookie:Session"),
            ("query:access_token", "query:access_token"),
        ] {
            assert_eq!(text.parse::<CredentialSource>().unwrap().to_string(), read);
        }
        for (text, reason) in [
            ("authorization", "no colon"),
            ("body:x", "must begin with"),
            ("header:", "1 to 64"),
            ("cookie:a b", "1 to 64"),
            ("query:a=b", "1 to 64"),
            ("query:%74", "1 to 64"),
            ("header:cookie", "of its own"),
            ("header:X-Forwarded-For", "of its own"),
            ("header:dunlin-principal", "the platform's"),
            ("cookie:dunlin-session", "the platform's"),
            ("cookie:__Host-dunlin-session", "the platform's"),
        ] {
            let error = text.parse::<CredentialSource>().unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
