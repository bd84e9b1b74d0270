//! Where a request of administration comes from, for the audit log: known where it arrives, and carried with whom it is from.

use dunlin_proto::{
    audit::{Author, Granted},
    idempotency::Hold,
    ids::Namespace,
    internal::v1::Attempt,
};

use super::Principal;
use crate::attempts::Attempts;

/// Where a request comes from.
#[derive(Debug, Clone, Default)]
pub(crate) struct Origin {
    /// The caller's address.
    pub(crate) address: String,
    /// This gateway.
    pub(crate) gateway: String,
    /// The request's id.
    pub(crate) request_id: String,
    /// The entry of the audit log that has to be the last one still when a change is made, where that matters.
    pub(crate) unchanged_since: Option<u64>,
    /// The idempotency key by which it changes something, where it has one.
    pub(crate) hold: Option<Hold>,
    /// Who is told of refusals.
    pub(crate) attempts: Attempts,
}

/// Who somebody is does not depend on where they are.
impl PartialEq for Origin {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Origin {}

impl Principal {
    /// The same person, from somewhere.
    pub(crate) fn at(&self, origin: Origin) -> Self {
        Self { origin, ..self.clone() }
    }

    /// What the scheduler gets to know of who asks; no credential.
    pub(crate) fn author(&self) -> Author {
        let grants = self.grants.iter().map(|grant| Granted {
            namespace: grant.namespace.as_ref().map(ToString::to_string).unwrap_or_default(),
            role: grant.role.to_string(),
        });
        Author {
            subject: self.subject.clone(),
            issuer: self.issuer.clone(),
            token_id: self.token_id.clone(),
            grants: grants.collect(),
            address: self.origin.address.clone(),
            gateway: self.origin.gateway.clone(),
            request_id: self.origin.request_id.clone(),
        }
    }

    /// Notes for the audit log what was tried, and whether it was refused.
    pub(crate) fn note(&self, action: &str, namespace: Option<&Namespace>, refused: bool) {
        let namespace = namespace.map(ToString::to_string).unwrap_or_default();
        let author = self.author();
        self.origin.attempts.note(Attempt {
            role: author.role_in(&namespace).to_owned(),
            subject: author.subject,
            issuer: author.issuer,
            token_id: author.token_id,
            address: author.address,
            request_id: author.request_id,
            action: action.to_owned(),
            namespace,
            count: 1,
            refused,
        });
    }
}
