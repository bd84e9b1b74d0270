//! The signed end of the log. Whoever has one that was kept elsewhere can tell that entries up to it were changed or lost,
//! even where the database and everything in it is somebody else's.

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

use super::field;
use crate::ids::Digest;

/// What an end is: the log's own, or the one up to which it has been deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadKind {
    /// The last entry.
    Head,
    /// The last one that was deleted because of its age.
    Checkpoint,
}

impl HeadKind {
    fn domain(self) -> &'static [u8] {
        match self {
            Self::Head => b"dunlin audit head v1",
            Self::Checkpoint => b"dunlin audit checkpoint v1",
        }
    }
}

/// An end of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The entry; 0 for none.
    pub sequence: u64,
    /// Its hash.
    pub hash: Digest,
    /// When it was written, in microseconds since 1970.
    pub time: i64,
    /// Over the others; empty for an empty log.
    pub signature: Vec<u8>,
}

impl Head {
    /// The end of an empty log.
    #[must_use]
    pub fn empty() -> Self {
        Self { sequence: 0, hash: super::BEGINNING, time: 0, signature: Vec::new() }
    }

    /// Whether it is signed by this key, or the empty one that nobody needs to sign.
    #[must_use]
    pub fn is_signed(&self, kind: HeadKind, public_key: &[u8]) -> bool {
        let text = self.signed_text(kind);
        *self == Self::empty() || UnparsedPublicKey::new(&ED25519, public_key).verify(&text, &self.signature).is_ok()
    }

    fn signed_text(&self, kind: HeadKind) -> Vec<u8> {
        let mut text = Vec::new();
        field(&mut text, kind.domain());
        field(&mut text, &self.sequence.to_be_bytes());
        field(&mut text, self.hash.as_bytes());
        field(&mut text, &self.time.to_be_bytes());
        text
    }
}

/// The key that signs ends of the log, and nothing else.
pub struct AuditSigner(Ed25519KeyPair);

impl AuditSigner {
    /// The key of a file (PKCS#8, RFC 5958); nothing where it is none.
    #[must_use]
    pub fn from_pkcs8(pkcs8: &[u8]) -> Option<Self> {
        Ed25519KeyPair::from_pkcs8(pkcs8).ok().map(Self)
    }

    /// A key that nobody keeps; nothing where the system gives no random numbers.
    #[must_use]
    pub fn generate() -> Option<Self> {
        Ed25519KeyPair::generate().ok().map(Self)
    }

    /// The public half, 32 bytes.
    #[must_use]
    pub fn public_key(&self) -> &[u8] {
        self.0.public_key().as_ref()
    }

    /// The same end, signed.
    #[must_use]
    pub fn sign(&self, kind: HeadKind, head: &Head) -> Head {
        let signature = self.0.sign(&head.signed_text(kind)).as_ref().to_vec();
        Head { signature, ..*head }
    }
}

impl std::fmt::Debug for AuditSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AuditSigner(..)")
    }
}
