//! Signatures of the Standard Webhooks specification (version 1: HMAC-SHA256 over id, timestamp and body), and the secrets for them.
//! Where secrets are kept is not known here.

use aws_lc_rs::{hmac, rand};
use base64::{Engine, prelude::BASE64_STANDARD};

/// Bytes of a secret; the specification has 24 to 64.
const LENGTH: usize = 32;
/// What a secret's text begins with.
const PREFIX: &str = "whsec_";

/// A secret with which a webhook signs. It is no text until somebody asks for one.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(Vec<u8>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    /// A new one; nothing where the system has no random numbers.
    pub(crate) fn random() -> Option<Self> {
        let mut bytes = vec![0; LENGTH];
        rand::fill(&mut bytes).ok()?;
        Some(Self(bytes))
    }

    pub(crate) fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// As receivers are given it.
    pub(crate) fn text(&self) -> String {
        format!("{PREFIX}{}", BASE64_STANDARD.encode(&self.0))
    }

    /// A signature; the timestamp is in seconds since 1970.
    fn sign(&self, id: &str, timestamp: i64, body: &str) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.0);
        let tag = hmac::sign(&key, format!("{id}.{timestamp}.{body}").as_bytes());
        format!("v1,{}", BASE64_STANDARD.encode(tag.as_ref()))
    }
}

/// The value of `webhook-signature`: a signature for each secret.
pub(super) fn signatures(secrets: &[Secret], id: &str, timestamp: i64, body: &str) -> String {
    let signatures: Vec<_> = secrets.iter().map(|secret| secret.sign(id, timestamp, body)).collect();
    signatures.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_those_of_the_specification() {
        // Computed by the specification's own reference library.
        let secret = Secret(BASE64_STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap());
        let body = r#"{"test": 2432232314}"#;
        let signature = signatures(std::slice::from_ref(&secret), "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        let two = signatures(&[secret.clone(), secret], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
        assert_eq!(two, format!("{signature} {signature}"));
    }

    #[test]
    fn secrets_are_random_and_have_the_prefix() {
        let (one, other) = (Secret::random().unwrap(), Secret::random().unwrap());
        assert_ne!(one, other);
        let text = one.text();
        assert_eq!(BASE64_STANDARD.decode(text.strip_prefix("whsec_").unwrap()).unwrap(), one.as_bytes());
        assert!(!format!("{one:?}").contains(&text[6..]));
    }
}
