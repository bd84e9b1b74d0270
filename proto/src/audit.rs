//! The audit log as both its ends know it: entries, how they are chained, how their end is signed, and how one finds out that
//! somebody has changed them. No database and no network is in here.
//!
//! `hash(n) = SHA-256(hash(n - 1), entry n)` with every field's length before it, so that no two entries share a text; the
//! hash before the first is 32 zeros. The end is signed with Ed25519 (RFC 8032) under a text of its own.

mod actions;
mod author;
mod chain;
mod head;
mod wire;

pub use actions::{ACTIONS, DISTRUST, action_of, noted};
pub use author::{Author, Granted};
pub use chain::{Break, Chain, Why, verify};
pub use head::{AuditSigner, Head, HeadKind};

use crate::ids::Digest;

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Outcome {
    /// It was done.
    #[default]
    Done,
    /// The token's role did not suffice.
    Refused,
    /// What is in the log was never written to it.
    Unknown,
}

impl Outcome {
    /// As the log spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
        }
    }
}

impl std::str::FromStr for Outcome {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "done" => Ok(Self::Done),
            "refused" => Ok(Self::Refused),
            other => Err(format!("{other:?} is no outcome; it must be done or refused")),
        }
    }
}

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Entry {
    /// Counted from 1.
    pub sequence: u64,
    /// Microseconds since 1970.
    pub time: i64,
    /// Whom the token named; empty for the platform itself.
    pub subject: String,
    /// Who issued the token.
    pub issuer: String,
    /// What the token granted there.
    pub role: String,
    /// The token's id.
    pub token_id: String,
    /// The caller's address.
    pub address: String,
    /// The gateway.
    pub gateway: String,
    /// What was done.
    pub action: String,
    /// The bare name of the namespace; empty for none.
    pub namespace: String,
    /// The resource's name.
    pub resource: String,
    /// How it ended.
    pub outcome: Outcome,
    /// What was there before, as JSON; empty for nothing.
    pub before: String,
    /// What is there since.
    pub after: String,
    /// The id of the request.
    pub request_id: String,
}

/// Keeps these hashes apart from any other.
const DOMAIN: &[u8] = b"dunlin audit entry v1";

/// The hash before the first entry.
pub const BEGINNING: Digest = Digest::ZERO;

impl Entry {
    /// The hash of this entry after another one.
    #[must_use]
    pub fn hash_after(&self, before: &Digest) -> Digest {
        let mut text = Vec::new();
        field(&mut text, DOMAIN);
        field(&mut text, before.as_bytes());
        field(&mut text, &self.sequence.to_be_bytes());
        field(&mut text, &self.time.to_be_bytes());
        for part in self.texts() {
            field(&mut text, part.as_bytes());
        }
        Digest::of(&text)
    }

    /// Everything that is text, in the order in which it is hashed.
    fn texts(&self) -> [&str; 13] {
        [
            &self.subject,
            &self.issuer,
            &self.role,
            &self.token_id,
            &self.address,
            &self.gateway,
            &self.action,
            &self.namespace,
            &self.resource,
            self.outcome.as_str(),
            &self.before,
            &self.after,
            &self.request_id,
        ]
    }
}

/// Appends bytes with their length before them.
fn field(text: &mut Vec<u8>, bytes: &[u8]) {
    text.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
    text.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests;
