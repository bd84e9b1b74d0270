//! How a process becomes one of the cluster's: it shows a join token, by which it also knows the cluster, and gets a
//! certificate for a key that it has just made and that never leaves it.

use std::{sync::Arc, time::Duration};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use serde::Deserialize;
use tonic::{Status, transport::Endpoint};

use super::{
    Expected, Identity, Member, Role, TrustError,
    connect::eager,
    member::{client_config, new_key, provider, signing_request},
    verify::Anchor,
};
use crate::{
    ApiError,
    ids::Digest,
    internal::v1::{JoinRequest, membership_service_client::MembershipServiceClient},
};

/// The audience of join tokens, by which they are told from tokens of people and callers.
pub const JOIN_AUDIENCE: &str = "dunlin-join";

/// The longest text that is read as a join token, in bytes.
const MAX_TOKEN_BYTES: usize = 4096;
/// How long the scheduler may take to issue a certificate.
const PATIENCE: Duration = Duration::from_secs(10);

/// A join token as the one who joins sees it: for what, and with which cluster. Whether it is good is the scheduler's to
/// say.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    text: String,
    role: Role,
    name: Option<String>,
    authority: Digest,
}

impl std::fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JoinToken").field("role", &self.role).field("name", &self.name).finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Claims {
    aud: String,
    role: String,
    #[serde(default)]
    name: Option<String>,
    /// SHA-256 of the authority's certificate.
    authority: String,
}

impl JoinToken {
    /// Reads a join token (a JWT, RFC 7519).
    ///
    /// # Errors
    /// The text is none.
    pub fn read(text: &str) -> Result<Self, TrustError> {
        let text = text.trim();
        let wrong = |what: &str| TrustError::Token(what.to_owned());
        if text.len() > MAX_TOKEN_BYTES {
            return Err(wrong("the join token is too long to be one"));
        }
        let claims = claims(text).ok_or_else(|| wrong("the text is no join token"))?;
        if claims.aud != JOIN_AUDIENCE {
            return Err(wrong("the token is no join token but one for people or callers"));
        }
        let authority = claims.authority.parse().map_err(|_| wrong("the join token names no authority"))?;
        Ok(Self {
            text: text.to_owned(),
            role: claims.role.parse().map_err(TrustError::Token)?,
            name: claims.name,
            authority,
        })
    }

    /// What it lets a process become.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// The only name that it is good for; nothing where the process may choose.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }
}

fn claims(text: &str) -> Option<Claims> {
    let payload = text.split('.').nth(1)?;
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}

/// Joins the cluster of a token, as a process of the token's role with this name. Asked again with the same token after it
/// has got no answer, it makes another key, which the scheduler refuses: a token is good for one key.
///
/// # Errors
/// The scheduler can't be reached, is not that of the token's cluster, or refuses.
pub async fn join(token: &JoinToken, id: &str, scheduler: &Endpoint) -> Result<Member, TrustError> {
    Joining::new(token, id)?.ask(scheduler).await
}

/// Somebody who wants to join, with the key that a token is good for.
#[derive(Debug)]
pub(super) struct Joining<'a> {
    token: &'a JoinToken,
    id: &'a str,
    key: rcgen::KeyPair,
}

impl<'a> Joining<'a> {
    pub(super) fn new(token: &'a JoinToken, id: &'a str) -> Result<Self, TrustError> {
        Identity::new(token.role, id).map_err(TrustError::Token)?;
        Ok(Self { token, id, key: new_key()? })
    }

    /// Asks once. It may be asked again, for the same key.
    pub(super) async fn ask(&self, scheduler: &Endpoint) -> Result<Member, TrustError> {
        let anchor = Anchor::Fingerprint(self.token.authority);
        let config = client_config(anchor, Expected::any(Role::Scheduler), None, provider())?;
        let away = |cause| TrustError::Away { url: scheduler.uri().to_string(), cause };
        let channel = eager(&scheduler.clone().connect_timeout(PATIENCE), Arc::new(config)).await;
        let channel = channel.map_err(|error| {
            if is_refusal(&error) {
                return TrustError::Stranger { url: scheduler.uri().to_string(), cause: causes(&error) };
            }
            away(causes(&error))
        })?;
        let request = JoinRequest {
            token: self.token.text.clone(),
            id: self.id.to_owned(),
            signing_request: signing_request(&self.key)?.into(),
        };
        let mut client = MembershipServiceClient::new(channel);
        let answer = tokio::time::timeout(PATIENCE, client.join(request)).await;
        let answer = answer.map_err(|_| away("it does not answer".to_owned()))?.map_err(refused)?.into_inner();
        let authority = CertificateDer::from(answer.authority.to_vec());
        if Digest::of(&authority) != self.token.authority {
            return Err(TrustError::Certificate("it is from another cluster than the join token".to_owned()));
        }
        let key = PrivatePkcs8KeyDer::from(self.key.serialized_der());
        Member::new(&key, CertificateDer::from(answer.certificate.to_vec()), authority)
    }
}

pub(super) fn refused(status: Status) -> TrustError {
    TrustError::Refused(ApiError::from(status))
}

/// Whether the other end was reached, but is not who was expected.
fn is_refusal(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let io = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let tls = io.and_then(|inner| inner.downcast_ref::<rustls::Error>());
        if matches!(tls, Some(rustls::Error::General(_) | rustls::Error::InvalidCertificate(_))) {
            return true;
        }
        next = error.source();
    }
    false
}

/// An error with what led to it, without saying anything twice.
pub(super) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let more = cause.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(payload: &str) -> String {
        format!("e30.{}.c2ln", BASE64_URL_SAFE_NO_PAD.encode(payload))
    }

    #[test]
    fn t47_a_join_token_says_what_it_is_for_and_shows_itself_to_nobody() {
        let authority = Digest::of(b"authority");
        let text = token(&format!(r#"{{"aud":"dunlin-join","role":"worker","name":"w-1","authority":"{authority}"}}"#));
        let read = JoinToken::read(&format!("  {text}\n")).unwrap();
        assert_eq!((read.role(), read.name(), read.authority), (Role::Worker, Some("w-1"), authority));
        assert!(!format!("{read:?}").contains(&text));
    }

    #[test]
    fn t47_other_texts_are_no_join_tokens() {
        let authority = Digest::of(b"authority");
        let long = "x".repeat(10_000);
        let person = token(&format!(r#"{{"aud":"dunlin-admin","role":"worker","authority":"{authority}"}}"#));
        let root = token(&format!(r#"{{"aud":"dunlin-join","role":"root","authority":"{authority}"}}"#));
        let nobody = token(r#"{"aud":"dunlin-join","role":"worker","authority":"x"}"#);
        for bad in ["", "x", "a.b.c", ".", &long, &person, &root, &nobody, &token("[]"), &token("")] {
            let error = JoinToken::read(bad).unwrap_err().to_string();
            assert!(error.contains("dunlin join-token create"), "{bad:?} gave {error}");
        }
    }
}
