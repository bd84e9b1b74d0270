//! What the operator says of webhooks: `[webhooks]`.

use serde::{Deserialize, Serialize};

/// Where namespaces may have events sent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebhooksConfig {
    /// Whether receivers may have loopback and private addresses, and plain HTTP. Default false.
    pub allow_private: bool,
}
