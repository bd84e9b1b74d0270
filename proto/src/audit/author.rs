//! On whose behalf a gateway asks the scheduler for a change. What it says is true because a gateway says it: only the
//! cluster's own gateways reach the services that read it.

use serde::{Deserialize, Serialize};

/// Grants that travel at the most.
const MOST_GRANTS: usize = 100;

/// A role in a namespace, or in the cluster where that is empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Granted {
    /// The bare name of the namespace.
    pub namespace: String,
    /// The role.
    pub role: String,
}

/// Who asks, from where, and by which request. Nothing in it is a credential.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Author {
    /// Whom the token names; empty for the platform itself.
    pub subject: String,
    /// Who issued the token.
    pub issuer: String,
    /// The token's id.
    pub token_id: String,
    /// What it grants.
    pub grants: Vec<Granted>,
    /// The caller's address.
    pub address: String,
    /// The gateway.
    pub gateway: String,
    /// The request's id.
    pub request_id: String,
}

impl Author {
    /// The role that counts in a namespace: that of the cluster, or the one there.
    #[must_use]
    pub fn role_in(&self, namespace: &str) -> &str {
        let of = |wanted: &str| self.grants.iter().find(|grant| grant.namespace == wanted);
        of("").or_else(|| of(namespace)).map_or("", |grant| &grant.role)
    }

    /// As it travels.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut short = self.clone();
        short.grants.truncate(MOST_GRANTS);
        serde_json::to_vec(&short).unwrap_or_default()
    }

    /// What has travelled; nobody where it is not to be understood.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        serde_json::from_slice(bytes).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_counts_where_it_was_granted() {
        let grant = |namespace: &str, role: &str| Granted { namespace: namespace.into(), role: role.into() };
        let author = Author { grants: vec![grant("shop", "admin"), grant("bank", "viewer")], ..Author::default() };
        assert_eq!((author.role_in("shop"), author.role_in("bank"), author.role_in("dark")), ("admin", "viewer", ""));
        let operator = Author { grants: vec![grant("shop", "viewer"), grant("", "operator")], ..Author::default() };
        assert_eq!((operator.role_in("shop"), operator.role_in("")), ("operator", "operator"));
    }

    #[test]
    fn it_travels_whole_and_nonsense_is_nobody() {
        let author = Author { subject: "Zoë".into(), address: "::1".into(), ..Author::default() };
        assert_eq!(Author::from_bytes(&author.to_bytes()), author);
        assert_eq!(Author::from_bytes(b"{"), Author::default());
    }
}
