//! Entries and ends of the log as messages.

use bytes::Bytes;
use prost_types::Timestamp;

use super::{Entry, Head, Outcome};
use crate::{error::ApiError, ids::Digest, v1};

/// Microseconds since 1970 as a message has them.
#[must_use]
fn timestamp(micros: i64) -> Timestamp {
    let nanos = i32::try_from(micros.rem_euclid(1_000_000) * 1_000).unwrap_or_default();
    Timestamp { seconds: micros.div_euclid(1_000_000), nanos }
}

fn micros(field: &str, time: Option<Timestamp>) -> Result<i64, ApiError> {
    let time = time.unwrap_or_default();
    let whole = (0..1_000_000_000).contains(&time.nanos) && time.nanos % 1_000 == 0;
    let micros = time.seconds.checked_mul(1_000_000).and_then(|it| it.checked_add(i64::from(time.nanos / 1_000)));
    let wrong = || ApiError::invalid(field, format!("{field} must be a time in whole microseconds"));
    micros.filter(|_| whole).ok_or_else(wrong)
}

fn digest(field: &str, text: &str) -> Result<Digest, ApiError> {
    text.parse().map_err(|error| ApiError::invalid(field, error))
}

impl Entry {
    /// As a message, with its hash.
    #[must_use]
    pub fn to_wire(&self, hash: &Digest) -> v1::AuditEntry {
        let outcome = match self.outcome {
            Outcome::Done => v1::AuditOutcome::Done,
            Outcome::Refused => v1::AuditOutcome::Refused,
            Outcome::Unknown => v1::AuditOutcome::Unspecified,
        };
        v1::AuditEntry {
            sequence: self.sequence,
            time: Some(timestamp(self.time)),
            subject: self.subject.clone(),
            issuer: self.issuer.clone(),
            role: self.role.clone(),
            token_id: self.token_id.clone(),
            address: self.address.clone(),
            gateway: self.gateway.clone(),
            action: self.action.clone(),
            namespace: self.namespace.clone(),
            resource: self.resource.clone(),
            outcome: outcome.into(),
            before: self.before.clone(),
            after: self.after.clone(),
            request_id: self.request_id.clone(),
            hash: hash.hex(),
        }
    }

    /// Of a message, with the hash that it says to have.
    ///
    /// # Errors
    /// It is none; the error names the field.
    pub fn from_wire(wire: v1::AuditEntry) -> Result<(Self, Digest), ApiError> {
        let outcome = match v1::AuditOutcome::try_from(wire.outcome) {
            Ok(v1::AuditOutcome::Done) => Outcome::Done,
            Ok(v1::AuditOutcome::Refused) => Outcome::Refused,
            Ok(v1::AuditOutcome::Unspecified) => Outcome::Unknown,
            Err(_) => {
                return Err(ApiError::invalid("entry.outcome", "the entry has an outcome that is not known here"));
            }
        };
        let hash = digest("entry.hash", &wire.hash)?;
        let entry = Self {
            sequence: wire.sequence,
            time: micros("entry.time", wire.time)?,
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
        };
        Ok((entry, hash))
    }
}

impl Head {
    /// As a message.
    #[must_use]
    pub fn to_wire(&self) -> v1::AuditHead {
        v1::AuditHead {
            sequence: self.sequence,
            hash: self.hash.hex(),
            time: Some(timestamp(self.time)),
            signature: Bytes::copy_from_slice(&self.signature),
        }
    }

    /// Of a message.
    ///
    /// # Errors
    /// It is none; the error names the field.
    pub fn from_wire(wire: &v1::AuditHead) -> Result<Self, ApiError> {
        Ok(Self {
            sequence: wire.sequence,
            hash: digest("head.hash", &wire.hash)?,
            time: micros("head.time", wire.time)?,
            signature: wire.signature.to_vec(),
        })
    }
}
