//! Who holds an idempotency key while its request is made, as a gateway tells the scheduler beside each of its messages. What a
//! client sends as its key is read by the gateway (`Idempotency-Key`, draft-ietf-httpapi-idempotency-key-header); only digests
//! travel.

use std::fmt;

use prost::Message;

use crate::{
    ids::{Digest, RequestId},
    internal::v1::KeptAnswer,
    vault::{Vault, VaultError},
};

/// Where an answer is kept: whose key it is, and which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId {
    /// Of who sent it: the same key of somebody else is another one.
    pub scope: Digest,
    /// Of the key itself.
    pub key: Digest,
}

/// A key, and the attempt that makes its request. Of an attempt that has lost the key to a later one, no change is made any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hold {
    /// Which key.
    pub id: KeyId,
    /// Chosen anew by each attempt.
    pub attempt: RequestId,
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.scope.hex(), self.key.hex())
    }
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.id, self.attempt)
    }
}

impl Hold {
    /// Reads what [`fmt::Display`] writes; nothing where it is something else.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        let mut parts = text.split('/');
        let (scope, key, attempt) = (parts.next()?, parts.next()?, parts.next()?);
        let id = KeyId { scope: scope.parse().ok()?, key: key.parse().ok()? };
        let hold = Self { id, attempt: attempt.parse().ok()? };
        parts.next().is_none().then_some(hold)
    }
}

impl KeptAnswer {
    /// The answer, encrypted so that it is read under its own key alone.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn sealed(&self, vault: &Vault, id: &KeyId) -> Result<Vec<u8>, VaultError> {
        vault.seal(&purpose(id), &self.encode_to_vec())
    }

    /// The answer that was encrypted for this key; nothing where it can't be read.
    #[must_use]
    pub fn opened(vault: &Vault, id: &KeyId, sealed: &[u8]) -> Option<Self> {
        let text = vault.open_sealed(&purpose(id), sealed).ok()?;
        Self::decode(text.as_slice()).ok()
    }
}

fn purpose(id: &KeyId) -> String {
    format!("idempotency {id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_under_its_own_key_alone() {
        let vault = Vault::new(&[7; 32]).unwrap();
        let id = |key: &[u8]| KeyId { scope: Digest::of(b"me"), key: Digest::of(key) };
        let answer = KeptAnswer { status: 201, body: b"secret"[..].into(), ..Default::default() };
        let sealed = answer.sealed(&vault, &id(b"a")).unwrap();
        assert!(!sealed.windows(6).any(|bytes| bytes == b"secret"));
        assert_eq!(KeptAnswer::opened(&vault, &id(b"a"), &sealed), Some(answer));
        assert_eq!(KeptAnswer::opened(&vault, &id(b"b"), &sealed), None);
    }

    #[test]
    fn a_hold_is_read_as_it_is_written() {
        let id = KeyId { scope: Digest::of(b"me"), key: Digest::of(b"key") };
        let hold = Hold { id, attempt: RequestId::new() };
        assert_eq!(Hold::from_text(&hold.to_string()), Some(hold));
        for bad in ["", "a/b/c", &format!("{hold}/more"), &id.to_string()] {
            assert_eq!(Hold::from_text(bad), None, "{bad}");
        }
    }
}
