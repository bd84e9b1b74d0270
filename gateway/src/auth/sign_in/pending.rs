//! A sign-in that has been begun: what the browser keeps, encrypted, until the issuer sends it back. Pure but for random
//! numbers: time is an argument.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use dunlin_proto::vault::{Vault, VaultError};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// How long somebody may take to sign in at the issuer.
pub(crate) const LIFETIME: Duration = Duration::from_secs(600);

/// What a sign-in is begun with, and what its end is compared to.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pending {
    /// The issuer that the browser was sent to.
    pub(super) issuer: String,
    /// What the issuer has to send back (RFC 6749 10.12).
    pub(super) state: String,
    /// What the ID token has to say (OpenID Connect Core 1.0, 3.1.2.1).
    pub(super) nonce: String,
    /// What proves to the issuer who began (RFC 7636 4.1).
    pub(super) verifier: String,
    /// Where to go afterwards.
    pub(super) next: String,
    /// When it is over, in seconds since 1970.
    expires: u64,
}

/// Nothing of it is for logs.
impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

/// Why there is nothing to go on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lost {
    /// It is not ours, or damaged.
    Unreadable,
    /// It took too long.
    Expired,
}

impl Pending {
    /// Begins.
    pub(super) fn new(issuer: &str, next: &str, now: SystemTime) -> Self {
        let [state, nonce, verifier] = [(); 3].map(|()| BASE64_URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()));
        Self {
            issuer: issuer.to_owned(),
            state,
            nonce,
            verifier,
            next: next.to_owned(),
            expires: seconds(now + LIFETIME),
        }
    }

    /// The challenge of the method `S256` (RFC 7636 4.2).
    pub(super) fn challenge(&self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(self.verifier.as_bytes()))
    }

    /// Whether the issuer sent back what it was sent.
    pub(super) fn is_answered_by(&self, state: &str) -> bool {
        self.state.as_bytes().ct_eq(state.as_bytes()).into()
    }

    /// As a cookie's value.
    pub(super) fn seal(&self, vault: &Vault, purpose: &str) -> Result<String, VaultError> {
        let text = serde_json::to_vec(self).map_err(|_| VaultError::Crypto)?;
        Ok(BASE64_URL_SAFE_NO_PAD.encode(vault.seal(purpose, &text)?))
    }

    /// Of a cookie's value.
    pub(super) fn open(vault: &Vault, purpose: &str, text: &str, now: SystemTime) -> Result<Self, Lost> {
        let sealed = BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| Lost::Unreadable)?;
        let text = vault.open_sealed(purpose, &sealed).map_err(|_| Lost::Unreadable)?;
        let pending: Self = serde_json::from_slice(&text).map_err(|_| Lost::Unreadable)?;
        if seconds(now) < pending.expires { Ok(pending) } else { Err(Lost::Expired) }
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_challenge_is_that_of_the_standard() {
        // RFC 7636, appendix B.
        let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk".to_owned();
        let pending = Pending { verifier, ..Pending::new("i", "/", UNIX_EPOCH) };
        assert_eq!(pending.challenge(), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    }

    #[test]
    fn a_cookie_is_good_for_its_time_its_key_and_its_purpose() {
        let (vault, other) = (Vault::new(&[1; 32]).unwrap(), Vault::new(&[2; 32]).unwrap());
        let pending = Pending::new("https://id.example.com", "/namespaces/shop", UNIX_EPOCH);
        let text = pending.seal(&vault, "https").unwrap();
        assert!(!text.contains(&pending.verifier) && !format!("{pending:?}").contains(&pending.verifier));
        let open = |vault, purpose, text: &str, after| Pending::open(vault, purpose, text, UNIX_EPOCH + after);
        let second = Duration::from_secs(1);
        assert_eq!(open(&vault, "https", &text, LIFETIME - second), Ok(pending.clone()));
        assert_eq!(open(&vault, "https", &text, LIFETIME), Err(Lost::Expired));
        for (vault, purpose, text) in [
            (&other, "https", text.clone()),
            (&vault, "http", text.clone()),
            (&vault, "https", text.chars().skip(4).collect()),
            (&vault, "https", text.replace(|letter: char| letter.is_ascii_digit(), "x")),
            (&vault, "https", String::new()),
            (&vault, "https", "ü".to_owned()),
        ] {
            assert_eq!(open(vault, purpose, &text, second), Err(Lost::Unreadable), "{purpose} {text}");
        }
    }

    #[test]
    fn no_two_are_alike() {
        let [one, two] = [(); 2].map(|()| Pending::new("i", "/", UNIX_EPOCH));
        assert!(one.state != two.state && one.nonce != two.nonce && one.verifier != two.verifier);
        assert!(one.state != one.nonce && one.nonce != one.verifier && one.verifier.len() == 43);
        assert!(one.is_answered_by(&one.state) && !one.is_answered_by(&two.state) && !one.is_answered_by(""));
    }
}
