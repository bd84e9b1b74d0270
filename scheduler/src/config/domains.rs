//! How namespaces prove that domains are theirs, as an operator sets it. How records are looked for is not known here
//! (`claims.rs`).

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// What proves that a namespace may have a domain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProofRule {
    /// A TXT record in the DNS.
    #[default]
    Dns,
    /// Nothing: whoever asks first has it, so that a tenant can take a name that is another's.
    None,
}

/// Domains of namespaces.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DomainsConfig {
    /// `dns` or `none`. Default `dns`.
    pub proof: ProofRule,
    /// The DNS servers that are asked, such as `192.0.2.53:53`. Default: the system's.
    pub dns_servers: Vec<SocketAddr>,
}
