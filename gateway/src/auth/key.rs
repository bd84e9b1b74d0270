//! Callers' keys: `dk_`, 12 characters of id, 43 of secret, 6 of checksum, with underscores between. Only a hash of the
//! whole is known here; 256 random bits need no slow one (T45).

use std::time::SystemTime;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use dunlin_proto::{ids::Digest, names::KeyId};

use crate::routes::{Key, Table};

/// How every key begins.
pub(super) const PREFIX: &str = "dk_";
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const SECRET_LEN: usize = 43;
const CHECKSUM_LEN: usize = 6;

/// Why a key is refused. An unknown key and a wrong secret look the same from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum KeyError {
    #[error("the key is mistyped: it must be dk_ with an id, a secret and a checksum that fits")]
    Form,
    #[error("the key is not known here; it may have been revoked")]
    Unknown,
    #[error("the key has expired")]
    Expired,
    #[error("the key has a new secret, and this one is not valid any more")]
    Replaced,
}

/// Checks a key; says whose it is. A wrong secret costs as much as a right one.
pub(super) fn check<'a>(text: &str, table: &'a Table, now: SystemTime) -> Result<(KeyId, &'a Key), KeyError> {
    let id = parse(text).ok_or(KeyError::Form)?;
    let hash = Digest::of(text.as_bytes());
    let known = table.key(id.as_str());
    let expected = known.map_or([0; 32], |key| key.secret_sha256);
    let (before, until) = known.and_then(|key| key.old).unwrap_or(([0; 32], SystemTime::UNIX_EPOCH));
    // Both are compared whatever the first says.
    let same = |known: &[u8; 32]| verify_slices_are_equal(hash.as_bytes(), known).is_ok();
    let (newest, old) = (same(&expected), same(&before));
    let key = known.filter(|_| newest | old).ok_or(KeyError::Unknown)?;
    if !newest && until <= now {
        return Err(KeyError::Replaced);
    }
    match key.expires {
        Some(end) if end <= now => Err(KeyError::Expired),
        _ => Ok((id, key)),
    }
}

/// The public part of a well-formed key.
fn parse(text: &str) -> Option<KeyId> {
    let (body, sum) = text.rsplit_once('_')?;
    let (id, secret) = body.strip_prefix(PREFIX)?.split_once('_')?;
    let formed = secret.len() == SECRET_LEN && secret.bytes().all(|byte| byte.is_ascii_alphanumeric());
    (formed && *sum.as_bytes() == checksum(body)).then(|| id.parse().ok()).flatten()
}

/// The CRC-32 of what precedes it, in base 62 with leading zeros.
fn checksum(body: &str) -> [u8; CHECKSUM_LEN] {
    let mut value = crc32fast::hash(body.as_bytes());
    let mut digits = [b'0'; CHECKSUM_LEN];
    for slot in digits.iter_mut().rev() {
        *slot = ALPHABET.get(value as usize % 62).copied().unwrap_or(b'0');
        value /= 62;
    }
    digits
}

#[cfg(test)]
pub(super) mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;
    use crate::routes::Keys;

    pub(in crate::auth) fn key_text(id: &str, secret: char) -> String {
        let body = format!("dk_{id}_{}", secret.to_string().repeat(SECRET_LEN));
        format!("{body}_{}", std::str::from_utf8(&checksum(&body)).unwrap())
    }

    pub(in crate::auth) fn known(text: &str, functions: &[&str]) -> Key {
        Key {
            namespace: "shop".parse().unwrap(),
            secret_sha256: *Digest::of(text.as_bytes()).as_bytes(),
            functions: functions.iter().map(|name| name.parse().unwrap()).collect(),
            expires: None,
            plan: None,
            old: None,
        }
    }

    fn table(key: &Key) -> Table {
        let by_id = [("abcdefghijkl".to_owned(), Arc::new(key.clone()))].into_iter().collect();
        Table { keys: Keys { by_id, ..Keys::default() }, ..Table::default() }
    }

    #[test]
    fn t45_only_the_whole_secret_opens() {
        let text = key_text("abcdefghijkl", 's');
        let now = SystemTime::now();
        let mut key = known(&text, &[]);
        assert_eq!(check(&text, &table(&key), now).unwrap().0.as_str(), "abcdefghijkl");
        for (other, error) in [
            (key_text("abcdefghijkl", 't'), KeyError::Unknown),
            (key_text("abcdefghijkm", 's'), KeyError::Unknown),
            (key_text("short", 's'), KeyError::Form),
            (text.replace("_s", "_t"), KeyError::Form),
            (text[..text.len() - 1].to_owned(), KeyError::Form),
            (format!("{text}x"), KeyError::Form),
            (text.to_uppercase(), KeyError::Form),
            ("dk_".to_owned(), KeyError::Form),
            (String::new(), KeyError::Form),
        ] {
            assert_eq!(check(&other, &table(&key), now).unwrap_err(), error, "{other}");
        }
        key.expires = Some(now);
        assert_eq!(check(&text, &table(&key), now).unwrap_err(), KeyError::Expired);
        key.expires = Some(now + Duration::from_secs(1));
        assert!(check(&text, &table(&key), now).is_ok());
    }

    #[test]
    fn an_old_secret_opens_until_its_end() {
        let (new, old) = (key_text("abcdefghijkl", 'n'), key_text("abcdefghijkl", 'o'));
        let now = SystemTime::now();
        let hash = *Digest::of(old.as_bytes()).as_bytes();
        let of = |until| {
            let key = Key { old: Some((hash, until)), ..known(&new, &[]) };
            let table = table(&key);
            [&new, &old, &key_text("abcdefghijkl", 'x')].map(|text| check(text, &table, now).map(|_| ()))
        };
        assert_eq!(of(now + Duration::from_secs(1)), [Ok(()), Ok(()), Err(KeyError::Unknown)]);
        assert_eq!(of(now), [Ok(()), Err(KeyError::Replaced), Err(KeyError::Unknown)]);
    }

    #[test]
    fn the_checksum_is_the_one_that_keys_are_made_with() {
        // CRC-32 of the empty text is 0, of "123456789" 0xcbf43926 (RFC 1952 8).
        assert_eq!(checksum(""), *b"000000");
        assert_eq!(checksum("123456789"), *base62(0xcbf4_3926).as_bytes());
    }

    fn base62(value: u64) -> String {
        (0..6)
            .rev()
            .map(|place| char::from(ALPHABET[usize::try_from(value / 62_u64.pow(place) % 62).unwrap()]))
            .collect()
    }
}
