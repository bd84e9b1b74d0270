//! What roles let somebody do, in words that commands and pages share. Not what is checked: what each operation needs is a table of
//! the gateway's (`gateway/src/admin/access.rs`).

use crate::v1::Role;

impl Role {
    /// Its word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unspecified => "none",
            Self::Viewer => "viewer",
            Self::Developer => "developer",
            Self::Admin => "admin",
            Self::Operator => "operator",
        }
    }

    /// What it lets somebody do, in a sentence without its end.
    #[must_use]
    pub fn allows(self) -> &'static str {
        match self {
            Self::Unspecified => "nothing",
            Self::Viewer => "see functions, calls, logs, routes, keys and usage, but no secret values",
            Self::Developer => "do what a viewer may, deploy, call, roll back and delete functions, and change routes",
            Self::Admin => {
                "do what a developer may, manage keys, tokens, plans, domains, budget and webhook, and read the audit log"
            }
            Self::Operator => "do everything in every namespace, and manage namespaces, workers and the cluster",
        }
    }
}
