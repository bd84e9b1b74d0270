//! Proxies in front of the gateway, as an operator names them: whose word on a caller is taken, and how they give it.

use std::net::IpAddr;

use anyhow::ensure;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Proxies in front of the gateway.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProxiesConfig {
    /// Networks of proxies whose word on the caller is taken, such as `10.0.0.0/8`. Default none.
    pub trusted: Vec<IpNet>,
    /// The header in which they say for whom they ask; the other one is never believed, since a proxy that sets one of them
    /// passes on whatever its callers write into the other. Default `x-forwarded-for`.
    pub header: ForwardedHeader,
    /// Whether each connection for functions, and each that is sent on to HTTPS, begins with a header of the PROXY protocol,
    /// version 2. Default false.
    pub protocol: bool,
}

/// A header with the addresses that a request came by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`, and `X-Forwarded-Proto` for the scheme.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
    /// None: only the connection tells.
    None,
}

impl ProxiesConfig {
    /// Whether an address is that of such a proxy.
    #[must_use]
    pub fn trust(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(&address))
    }

    /// # Errors
    /// Everybody would be believed who connects.
    pub(super) fn validate(&self) -> anyhow::Result<()> {
        ensure!(
            !self.protocol || !self.trusted.is_empty(),
            "proxies.protocol needs the networks of the proxies that speak it: proxies.trusted = [\"10.0.0.0/8\"]"
        );
        Ok(())
    }
}
