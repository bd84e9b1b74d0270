//! How callers are told apart that proved nothing, where calls divide over versions.

use http::HeaderName;
use serde::{Deserialize, Serialize};

use crate::{error::ApiError, v1};

/// The longest name of a header.
const MAX_HEADER: usize = 64;

/// By what callers are told apart: first the header, then the cookie.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sticky {
    /// A header's name in lower case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// Whether gateways give cookies to those who have none.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub cookie: bool,
}

impl TryFrom<v1::Sticky> for Sticky {
    type Error = ApiError;

    fn try_from(wire: v1::Sticky) -> Result<Self, ApiError> {
        if wire.header.is_empty() {
            return Ok(Self { header: None, cookie: wire.cookie });
        }
        let header = wire.header.parse::<HeaderName>().ok().filter(|name| name.as_str().len() <= MAX_HEADER);
        let header = header.ok_or_else(|| {
            let shown: String = wire.header.chars().take(80).collect();
            let message = format!("{shown:?} is no name of a header of {MAX_HEADER} characters at most");
            ApiError::invalid("alias.sticky.header", message)
        })?;
        Ok(Self { header: Some(header.to_string()), cookie: wire.cookie })
    }
}

impl From<&Sticky> for v1::Sticky {
    fn from(sticky: &Sticky) -> Self {
        Self { header: sticky.header.clone().unwrap_or_default(), cookie: sticky.cookie }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_named_as_headers_are() {
        let read = |header: &str| Sticky::try_from(v1::Sticky { header: header.into(), cookie: true });
        assert_eq!(read("X-User").unwrap(), Sticky { header: Some("x-user".into()), cookie: true });
        assert_eq!(read("").unwrap().header, None);
        for bad in ["x user", "x:user", "\n", "ä", &"x".repeat(65)] {
            assert_eq!(read(bad).unwrap_err().field.as_deref(), Some("alias.sticky.header"), "{bad:?}");
        }
    }

    #[test]
    fn what_is_not_said_is_the_default() {
        assert_eq!(serde_json::from_str::<Sticky>("{}").unwrap(), Sticky::default());
        assert_eq!(serde_json::to_string(&Sticky::default()).unwrap(), "{}");
    }
}
