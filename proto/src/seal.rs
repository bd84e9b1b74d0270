//! The seal of compiled code: the scheduler signs it when it has compiled an artifact, and a worker maps no code whose
//! seal does not hold (threat T23). Native code runs with the worker's rights, so this is the line between tenants.
//!
//! Ed25519 (RFC 8032) over every field of `CompiledCode`, each with its length before it, so that no two codes share a
//! text to sign. Workers hold public keys only: none of them can hand native code to another.

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, UnparsedPublicKey};
use bytes::Bytes;

use crate::{ids::Digest, internal::v1::CompiledCode};

/// Keeps these signatures apart from any other use of the key.
const DOMAIN: &[u8] = b"dunlin compiled code v1";

/// Why compiled code is not trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// No key of the cluster has signed it.
    #[error("compiled code is not signed by this cluster")]
    Signature,
    /// Its bytes are not those that were signed.
    #[error("compiled code is damaged")]
    Body,
}

/// The name under which compiled code is stored and cached everywhere.
#[must_use]
pub fn code_key(artifact: &Digest, fingerprint: &str) -> String {
    let mut text = Vec::new();
    field(&mut text, DOMAIN);
    field(&mut text, artifact.as_bytes());
    field(&mut text, fingerprint.as_bytes());
    Digest::of(&text).hex()
}

/// Signs what `code` says of itself.
#[must_use]
pub fn sign(code: CompiledCode, key: &Ed25519KeyPair) -> CompiledCode {
    let signature = key.sign(&signed_text(&code));
    CompiledCode { signature: Bytes::copy_from_slice(signature.as_ref()), ..code }
}

/// Checks that one of the cluster's keys signed `code`.
///
/// # Errors
/// None of them did.
pub fn verify_signature<K: AsRef<[u8]>>(code: &CompiledCode, keys: &[K]) -> Result<(), SealError> {
    let text = signed_text(code);
    let holds = |key: &K| UnparsedPublicKey::new(&ED25519, key).verify(&text, &code.signature).is_ok();
    keys.iter().any(holds).then_some(()).ok_or(SealError::Signature)
}

/// Checks that `body` is what `code` describes.
///
/// # Errors
/// It is not.
pub fn verify_body(code: &CompiledCode, body: &[u8]) -> Result<(), SealError> {
    let same = code.size_bytes == body.len() as u64 && Digest::of(body).hex() == code.body_sha256;
    same.then_some(()).ok_or(SealError::Body)
}

fn signed_text(code: &CompiledCode) -> Vec<u8> {
    let mut text = Vec::new();
    field(&mut text, DOMAIN);
    for part in [&code.key, &code.artifact, &code.fingerprint, &code.body_sha256] {
        field(&mut text, part.as_bytes());
    }
    field(&mut text, &code.size_bytes.to_be_bytes());
    text
}

fn field(text: &mut Vec<u8>, bytes: &[u8]) {
    text.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
    text.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::KeyPair;

    use super::*;

    fn sealed(body: &[u8]) -> (CompiledCode, Vec<u8>) {
        let pair = Ed25519KeyPair::generate().unwrap();
        let artifact = Digest::of(b"wasm");
        let code = CompiledCode {
            key: code_key(&artifact, "engine"),
            artifact: artifact.hex(),
            fingerprint: "engine".into(),
            body_sha256: Digest::of(body).hex(),
            size_bytes: body.len() as u64,
            signature: Bytes::new(),
        };
        (sign(code, &pair), pair.public_key().as_ref().to_vec())
    }

    #[test]
    fn t23_every_signed_field_is_bound() {
        let (code, key) = sealed(b"native");
        assert_eq!(verify_signature(&code, &[&key]), Ok(()));
        let changes: [fn(&mut CompiledCode); 6] = [
            |c| c.key.push('0'),
            |c| c.artifact.push('0'),
            |c| c.fingerprint.push('0'),
            |c| c.body_sha256.push('0'),
            |c| c.size_bytes += 1,
            |c| c.signature = Bytes::new(),
        ];
        for change in changes {
            let mut changed = code.clone();
            change(&mut changed);
            assert_eq!(verify_signature(&changed, &[&key]), Err(SealError::Signature));
        }
        let (_, stranger) = sealed(b"native");
        assert_eq!(verify_signature(&code, &[&stranger]), Err(SealError::Signature));
        assert_eq!(verify_signature(&code, &[&stranger, &key]), Ok(()));
    }

    #[test]
    fn t23_every_byte_of_the_body_is_bound() {
        let (code, _) = sealed(b"native");
        assert_eq!(verify_body(&code, b"native"), Ok(()));
        for other in [&b"natiVe"[..], b"nativ", b"native ", b""] {
            assert_eq!(verify_body(&code, other), Err(SealError::Body));
        }
    }
}
