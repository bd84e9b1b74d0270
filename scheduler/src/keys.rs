//! Callers' keys: `dk_`, a public id, the secret, and a checksum, so that scanners can tell a leaked one and typing errors
//! are found without asking anybody. Only a hash is kept; 256 random bits need no slow one.

use std::time::Duration;

use dunlin_proto::{ApiError, ErrorCode, ids::Digest, names::KeyId};

use crate::model::{KeyRecord, OldSecret, Time};

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
        Self::of(random_text(KeyId::LEN)?.parse().ok()?)
    }

    /// Makes a secret for a key that there is; nothing where there are no random numbers.
    pub(crate) fn of(id: KeyId) -> Option<Self> {
        let body = format!("dk_{id}_{}", random_text(SECRET_LEN)?);
        let text = format!("{body}_{}", checksum(&body));
        Some(Self { id, hash: Digest::of(text.as_bytes()), text })
    }
}

/// What becomes of a key's secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rotation {
    /// A new one takes the place of the one that there is, which stays valid for so long.
    New { secret: Digest, overlap: Duration },
    /// The old one ends.
    Finish,
}

/// The key after a rotation. At most two secrets are valid at once, and none ends that nobody wanted to end.
pub(crate) fn rotated(key: &KeyRecord, rotation: Rotation, now: Time) -> Result<KeyRecord, ApiError> {
    let refused = |message: String| ApiError::new(ErrorCode::FailedPrecondition, message);
    if key.revoke_time.is_some() || key.expire_time.is_some_and(|end| end <= now) {
        let state = if key.revoke_time.is_some() { "is revoked" } else { "has expired" };
        return Err(refused(format!("key {} {state}", key.id)).hint("make another one: dunlin key create"));
    }
    let old = key.old.filter(|old| old.expire_time > now);
    match rotation {
        Rotation::Finish => Ok(KeyRecord { old: None, ..key.clone() }),
        Rotation::New { secret, overlap } if overlap.is_zero() => Ok(KeyRecord { secret, old: None, ..key.clone() }),
        Rotation::New { .. } if old.is_some() => {
            let error = refused(format!("key {} has an old secret that is still valid", key.id));
            Err(error.hint("end it with --finish, or all that there are with --overlap 0s"))
        }
        Rotation::New { secret, overlap } => {
            let old = OldSecret { secret: key.secret, expire_time: now.after(overlap) };
            Ok(KeyRecord { secret, old: Some(old), ..key.clone() })
        }
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
    fn at_most_two_secrets_are_valid_and_none_ends_unexpectedly() {
        let (day, now) = (Duration::from_secs(86_400), Time(1_000));
        let secret = |text: &str| Digest::of(text.as_bytes());
        let new = |text: &str, overlap| Rotation::New { secret: secret(text), overlap };
        let key = KeyRecord {
            id: "abcdefghijkl".parse().unwrap(),
            namespace: "shop".parse().unwrap(),
            secret: secret("one"),
            display_name: "till".into(),
            functions: Vec::new(),
            creator: "zoe".into(),
            create_time: Time(1),
            expire_time: None,
            revoke_time: None,
            plan: Some("basic".parse().unwrap()),
            old: None,
        };
        let second = rotated(&key, new("two", day), now).unwrap();
        let old = Some(OldSecret { secret: secret("one"), expire_time: now.after(day) });
        assert_eq!(second, KeyRecord { secret: secret("two"), old, ..key.clone() });
        let refused = |key: &KeyRecord, rotation, now| rotated(key, rotation, now).unwrap_err().message;
        assert!(refused(&second, new("three", day), now).contains("still valid"));
        let third = rotated(&second, new("three", day), now.after(day)).unwrap();
        assert_eq!(third.old.unwrap().secret, secret("two"), "the one before has ended by itself");
        let at_once = rotated(&second, new("three", Duration::ZERO), now).unwrap();
        assert_eq!((at_once.secret, at_once.old), (secret("three"), None));
        let finished = rotated(&second, Rotation::Finish, now).unwrap();
        assert_eq!((finished.secret, finished.old), (secret("two"), None));
        let revoked = KeyRecord { revoke_time: Some(now), ..key.clone() };
        assert!(refused(&revoked, new("two", day), now).contains("is revoked"));
        let expired = KeyRecord { expire_time: Some(now), ..key };
        assert!(refused(&expired, Rotation::Finish, now).contains("has expired"));
    }

    #[test]
    fn the_checksum_has_leading_zeros() {
        assert_eq!(checksum(""), "000000");
        assert_eq!(checksum("dk_000000000000_x").len(), CHECKSUM_LEN);
    }
}
