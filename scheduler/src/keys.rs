//! Callers' keys: `dk_`, a public id, the secret, and a checksum, so that scanners can tell a leaked one and typing errors
//! are found without asking anybody. Only a hash is kept; 256 random bits need no slow one.

use dunlin_proto::{ids::Digest, names::KeyId};

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const SECRET_LEN: usize = 43;
const CHECKSUM_LEN: usize = 6;

/// A new key: shown once, then only its hash remains.
pub(crate) struct NewKey {
    /// The public part.
    pub(crate) id: KeyId,
    /// What callers send.
    pub(crate) text: String,
    /// What is stored.
    pub(crate) hash: Digest,
}

impl NewKey {
    /// Makes one from the system's random numbers; nothing where there are none.
    pub(crate) fn generate() -> Option<Self> {
        let id: KeyId = random_text(KeyId::LEN)?.parse().ok()?;
        let body = format!("dk_{id}_{}", random_text(SECRET_LEN)?);
        let text = format!("{body}_{}", checksum(&body));
        Some(Self { id, hash: Digest::of(text.as_bytes()), text })
    }
}

/// The beginning of a key that may be shown.
pub(crate) fn prefix(id: &KeyId) -> String {
    format!("dk_{id}")
}

/// Letters and digits, each as likely as the others.
fn random_text(len: usize) -> Option<String> {
    let mut text = String::with_capacity(len);
    while text.len() < len {
        let mut bytes = [0; 64];
        aws_lc_rs::rand::fill(&mut bytes).ok()?;
        // 248 is the largest multiple of 62 in a byte: what lies above would make the first digits likelier.
        let fair = bytes.iter().filter(|byte| **byte < 248).map(|byte| digit(u32::from(*byte)));
        text.extend(fair.take(len - text.len()));
    }
    Some(text)
}

fn digit(value: u32) -> char {
    ALPHABET.get(value as usize % 62).map_or('0', |byte| char::from(*byte))
}

/// The CRC-32 of what precedes it, in base 62 with leading zeros.
fn checksum(body: &str) -> String {
    let mut value = crc32fast::hash(body.as_bytes());
    let mut digits = [' '; CHECKSUM_LEN];
    for slot in digits.iter_mut().rev() {
        *slot = digit(value % 62);
        value /= 62;
    }
    digits.iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_the_form_that_gateways_check() {
        let key = NewKey::generate().unwrap();
        let parts: Vec<_> = key.text.split('_').collect();
        assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [2, 12, 43, 6]);
        assert_eq!((parts[0], parts[1]), ("dk", key.id.as_str()));
        let (body, sum) = key.text.rsplit_once('_').unwrap();
        assert_eq!(checksum(body), sum);
        assert_eq!(key.hash, Digest::of(key.text.as_bytes()));
        assert!(!prefix(&key.id).contains(parts[2]));
        assert_ne!(NewKey::generate().unwrap().text, key.text);
    }

    #[test]
    fn the_checksum_has_leading_zeros() {
        assert_eq!(checksum(""), "000000");
        assert_eq!(checksum("dk_000000000000_x").len(), CHECKSUM_LEN);
    }
}
