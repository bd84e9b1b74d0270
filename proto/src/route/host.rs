//! The hosts of a route: one, or all below a name.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::ids::{DomainName, IdError};

/// `api.example.com`, or `*.example.com` for every host below it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum HostPattern {
    /// One host.
    Exact(DomainName),
    /// Every host below a name, but not the name itself.
    Below(DomainName),
}

impl HostPattern {
    /// The name that it is or that all its hosts lie below.
    #[must_use]
    pub fn domain(&self) -> &DomainName {
        match self {
            Self::Exact(name) | Self::Below(name) => name,
        }
    }
}

/// Whether a text is a host, perhaps with a port, as it may stand in a URL.
pub(super) fn is_authority(text: &str) -> bool {
    let parsed = text.parse::<http::uri::Authority>();
    parsed.is_ok_and(|authority| {
        let has_port = authority.host().len() < text.len();
        !authority.host().is_empty() && !text.contains(['@', '*']) && (!has_port || authority.port_u16().is_some())
    })
}

impl FromStr for HostPattern {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        // Hosts have no case (RFC 3986 3.2.2); domains are kept in one spelling.
        let text = text.to_ascii_lowercase();
        match text.strip_prefix("*.") {
            Some(name) => name.parse().map(Self::Below),
            None => text.parse().map(Self::Exact),
        }
    }
}

impl TryFrom<String> for HostPattern {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<HostPattern> for String {
    fn from(host: HostPattern) -> Self {
        host.to_string()
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => write!(f, "{name}"),
            Self::Below(name) => write!(f, "*.{name}"),
        }
    }
}
