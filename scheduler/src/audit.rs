//! What the audit log says of a change: the action, the resource, and how it was before and after, as JSON in which nothing
//! secret is left. Pure; where entries are kept and chained is the store's business (`store/audit.rs`).

mod facts;
mod redaction;

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use dunlin_proto::{
    audit::{AuditSigner, Outcome},
    ids::{Digest, Namespace},
};
use serde_json::{Value, json};

pub(crate) use facts::Facts;
use redaction::redacted;

use crate::keyring::Keyring;

/// The most bytes of one state; of a larger one only size and digest are kept.
const MOST_BYTES: usize = 16 << 10;

/// How the log is kept.
#[derive(Debug, Clone)]
pub(crate) struct Ledger {
    /// Signs its end.
    pub(crate) signer: Arc<AuditSigner>,
    /// How long entries are kept.
    pub(crate) age: Duration,
}

impl Ledger {
    /// Reads the key from `keys/audit.pk8`, or makes it.
    pub(crate) fn open(keys: &Keyring, days: u32) -> anyhow::Result<Self> {
        let signer = AuditSigner::from_pkcs8(&keys.key("audit.pk8")?).context("read the key of the audit log")?;
        Ok(Self { signer: Arc::new(signer), age: Duration::from_secs(u64::from(days) * 24 * 3600) })
    }
}

/// A change, as it gets into the log.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Change {
    pub(crate) action: &'static str,
    pub(crate) namespace: String,
    pub(crate) resource: String,
    pub(crate) outcome: Outcome,
    pub(crate) before: String,
    pub(crate) after: String,
}

impl Change {
    /// A change of something that belongs to a namespace.
    pub(crate) fn new(action: &'static str, namespace: &Namespace, resource: &impl ToString) -> Self {
        Self { namespace: namespace.to_string(), ..Self::of_cluster(action, resource) }
    }

    /// A change of something that belongs to none.
    pub(crate) fn of_cluster(action: &'static str, resource: &impl ToString) -> Self {
        Self {
            action,
            namespace: String::new(),
            resource: resource.to_string(),
            outcome: Outcome::Done,
            before: String::new(),
            after: String::new(),
        }
    }

    /// How it was.
    pub(crate) fn before<F: Facts + ?Sized>(self, state: &F) -> Self {
        Self { before: text(state.facts()), ..self }
    }

    /// How it is.
    pub(crate) fn after<F: Facts + ?Sized>(self, state: &F) -> Self {
        Self { after: text(state.facts()), ..self }
    }
}

/// A state without secrets, bounded.
fn text(state: Value) -> String {
    let text = redacted(state).to_string();
    if text.len() <= MOST_BYTES {
        return text;
    }
    json!({ "too_large": { "bytes": text.len(), "digest": Digest::of(text.as_bytes()).to_string() } }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_large_leaves_its_size_and_digest() {
        let large = text(json!({ "description": "x".repeat(MOST_BYTES) }));
        assert!(large.len() < 200 && large.contains("sha256:") && large.contains("16402"), "{large}");
        assert_eq!(text(json!({ "a": 1 })), r#"{"a":1}"#);
    }

    #[test]
    fn a_change_says_where_it_belongs() {
        let shop: Namespace = "shop".parse().unwrap();
        let change = Change::new("route.put", &shop, &"namespaces/shop/routes/a").after(&json!({ "path": "/" }));
        assert_eq!((change.namespace.as_str(), change.before.as_str()), ("shop", ""));
        assert_eq!(change.after, r#"{"path":"/"}"#);
        assert_eq!(Change::of_cluster("worker.drain", &"workers/a").namespace, "");
    }
}
