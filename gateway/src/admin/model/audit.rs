//! The audit log, as administration shows it. Entries are told exactly as they were hashed: times to the microsecond, states as
//! texts.

use base64::{Engine, prelude::BASE64_STANDARD};
use dunlin_proto::v1;
use serde::Serialize;
use utoipa::ToSchema;

use super::Time;

/// One change, or one attempt.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct AuditEntry {
    /// Counted from 1, without gaps.
    pub(crate) sequence: u64,
    /// When it was made, to the microsecond.
    #[schema(format = "date-time", example = "2026-11-23T16:00:35.123456Z")]
    pub(crate) time: String,
    /// The same for pages.
    #[serde(skip)]
    pub(crate) at: Option<Time>,
    /// Whom the token named; empty for what the platform did by itself.
    pub(crate) subject: String,
    /// Who issued the token.
    pub(crate) issuer: String,
    /// The role that the token granted there.
    pub(crate) role: String,
    /// The token's id; never the token.
    pub(crate) token_id: String,
    /// The caller's address.
    pub(crate) address: String,
    /// The gateway that it came through.
    pub(crate) gateway: String,
    /// What was done.
    #[schema(example = "route.put")]
    pub(crate) action: String,
    /// The bare name of the namespace; empty for what belongs to none.
    pub(crate) namespace: String,
    /// The resource's name.
    #[schema(example = "namespaces/shop/routes/users")]
    pub(crate) resource: String,
    /// How it ended.
    pub(crate) outcome: AuditOutcome,
    /// What was there before, as the text of a JSON document without secrets; empty where nothing was.
    pub(crate) before: String,
    /// What is there since, in the same way.
    pub(crate) after: String,
    /// The id of the request that did it.
    pub(crate) request_id: String,
    /// SHA-256 over the hash of the entry before and this entry.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    pub(crate) hash: String,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum AuditOutcome {
    /// It was done.
    Done,
    /// It was refused.
    Refused,
    /// This gateway does not know it.
    Unknown,
}

impl From<v1::AuditEntry> for AuditEntry {
    fn from(wire: v1::AuditEntry) -> Self {
        let outcome = match wire.outcome() {
            v1::AuditOutcome::Done => AuditOutcome::Done,
            v1::AuditOutcome::Refused => AuditOutcome::Refused,
            v1::AuditOutcome::Unspecified => AuditOutcome::Unknown,
        };
        let at = Time::from(wire.time.unwrap_or_default());
        Self {
            sequence: wire.sequence,
            time: at.rfc3339_micros(),
            at: Some(at),
            subject: wire.subject,
            issuer: wire.issuer,
            role: wire.role,
            token_id: wire.token_id,
            address: wire.address,
            gateway: wire.gateway,
            action: wire.action,
            namespace: wire.namespace,
            resource: wire.resource,
            outcome,
            before: wire.before,
            after: wire.after,
            request_id: wire.request_id,
            hash: wire.hash,
        }
    }
}

/// A page of the audit log.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct AuditList {
    /// The page.
    pub(crate) entries: Vec<AuditEntry>,
    /// Empty on the last page.
    pub(crate) next_page_token: String,
}

impl From<v1::ListAuditEntriesResponse> for AuditList {
    fn from(wire: v1::ListAuditEntriesResponse) -> Self {
        let entries = wire.entries.into_iter().map(AuditEntry::from).collect();
        Self { entries, next_page_token: wire.next_page_token }
    }
}

/// An end of the log, signed.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct AuditEnd {
    /// The entry; 0 for an empty log.
    pub(crate) sequence: u64,
    /// Its hash.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    pub(crate) hash: String,
    /// When it was written, to the microsecond.
    #[schema(format = "date-time")]
    pub(crate) time: String,
    /// Ed25519 over the others, in base64; empty for an empty log.
    pub(crate) signature: String,
}

impl From<v1::AuditHead> for AuditEnd {
    fn from(wire: v1::AuditHead) -> Self {
        Self {
            sequence: wire.sequence,
            hash: wire.hash,
            time: Time::from(wire.time.unwrap_or_default()).rfc3339_micros(),
            signature: BASE64_STANDARD.encode(&wire.signature),
        }
    }
}

/// The end of the log, to keep elsewhere.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct AuditHead {
    /// The end.
    pub(crate) head: AuditEnd,
    /// The key that signed it (Ed25519, 32 bytes), in base64.
    pub(crate) public_key: String,
    /// The last entry that was deleted because of its age; null where none was.
    pub(crate) checkpoint: Option<AuditEnd>,
}

impl From<v1::GetAuditHeadResponse> for AuditHead {
    fn from(wire: v1::GetAuditHeadResponse) -> Self {
        Self {
            head: wire.head.unwrap_or_default().into(),
            public_key: BASE64_STANDARD.encode(&wire.public_key),
            checkpoint: wire.checkpoint.map(AuditEnd::from),
        }
    }
}
