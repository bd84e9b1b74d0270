//! Signing in through an issuer: the authorization code flow (OpenID Connect Core 1.0, 3.1) with PKCE (RFC 7636), as RFC 9700
//! has it. Cookies and pages are not known here.
//!
//! The gateway keeps nothing of a sign-in: what its end is compared to is with the browser, encrypted. Gateways that have the
//! same secrets of clients can read it of each other; without any, a sign-in ends where it began.

mod id_token;
mod pending;
mod provider;

use std::{sync::Arc, time::SystemTime};

use anyhow::Context;
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use dunlin_proto::{ApiError, ErrorCode, vault::Vault};
use serde::Deserialize;

pub(super) use id_token::Asked;
pub(crate) use pending::LIFETIME as PENDING_LIFETIME;
use pending::{Lost, Pending};
use provider::{Provider, code_of};

use super::{Principal, Verifier};
use crate::config::Config;

/// The shortest secret that keys are made of, in bytes: a shorter one could be found out by trying (T44).
const STRONG_SECRET: usize = 32;
/// What cookies of HTTPS and of HTTP are encrypted for: one is never taken for the other.
const PURPOSES: (&str, &str) = ("sign-in by https", "sign-in by http");

/// The issuers that people sign in through. Clones share what was asked of them.
#[derive(Debug, Clone)]
pub(crate) struct SignIns(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    vault: Vault,
    providers: Vec<Provider>,
}

/// An issuer that somebody can choose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Offer {
    /// What people call it.
    pub(crate) name: String,
    /// Its address.
    pub(crate) issuer: String,
}

/// A sign-in that has begun.
#[derive(Debug)]
pub(crate) struct Begun {
    /// Where the browser is sent.
    pub(crate) address: String,
    /// What it keeps meanwhile.
    pub(crate) kept: String,
    /// Whether browsers have this dashboard by HTTPS.
    pub(crate) secure: bool,
}

/// What a browser brings back from an issuer (RFC 6749 4.1.2, RFC 9207 2).
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct Answer {
    code: Option<String>,
    state: Option<String>,
    iss: Option<String>,
    error: Option<String>,
}

/// A sign-in that is over.
#[derive(Debug)]
pub(crate) struct Finished {
    /// Where to go; nothing where that is not known.
    pub(crate) next: Option<String>,
    /// Who signed in, or what is wrong with the answer or the token, that the person declined, or that the issuer can't be asked.
    pub(crate) outcome: Result<SignedIn, ApiError>,
}

/// Somebody who has signed in.
#[derive(Debug)]
pub(crate) struct SignedIn {
    /// The session's token.
    pub(crate) token: String,
    /// Who.
    pub(crate) who: Arc<Principal>,
}

impl SignIns {
    /// Reads secrets of clients; asks nobody.
    ///
    /// # Errors
    /// A secret can't be read, or is open to others.
    pub(crate) fn open(config: &Config) -> anyhow::Result<Self> {
        let tls = config.admin_tls();
        let offering = config.oidc.iter().filter_map(|oidc| Some((oidc, oidc.sign_in.as_ref()?)));
        let providers =
            offering.map(|(oidc, sign_in)| Provider::new(oidc, sign_in, sign_in.redirect(config.admin, tls)));
        let providers: Vec<_> = providers.collect::<anyhow::Result<_>>()?;
        let vault = Vault::new(&key(&providers)?).context("prepare to encrypt cookies")?;
        Ok(Self(Arc::new(Inner { vault, providers })))
    }

    /// The issuers, in the order of the configuration.
    pub(crate) fn offers(&self) -> Vec<Offer> {
        let offer = |provider: &Provider| Offer { name: provider.name.clone(), issuer: provider.config.issuer.clone() };
        self.0.providers.iter().map(offer).collect()
    }

    /// Begins a sign-in.
    ///
    /// # Errors
    /// `InvalidArgument` where nobody signs in through this issuer, `Unavailable` where it can't be asked.
    pub(crate) async fn begin(&self, issuer: &str, next: &str, now: SystemTime) -> Result<Begun, ApiError> {
        let provider = self.provider(issuer).ok_or_else(unknown)?;
        let metadata = provider.metadata().await?;
        let (pending, secure) = (Pending::new(issuer, next, now), provider.redirect.starts_with("https://"));
        let kept = pending.seal(&self.0.vault, purpose(secure)).map_err(|_| ApiError::internal())?;
        Ok(Begun { address: provider.address(&metadata, &pending)?, kept, secure })
    }

    /// Ends a sign-in: `kept` is what the browser kept, and whether by HTTPS.
    pub(crate) async fn finish(
        &self,
        verifier: &Verifier,
        kept: Option<(&str, bool)>,
        answer: Answer,
        now: SystemTime,
    ) -> Finished {
        match self.pending(kept, now) {
            Ok(pending) => {
                let secure = kept.is_some_and(|(_, secure)| secure);
                let outcome = self.redeem(verifier, &pending, answer, secure).await;
                Finished { next: Some(pending.next), outcome }
            }
            Err(error) => Finished { next: None, outcome: Err(error) },
        }
    }

    fn pending(&self, kept: Option<(&str, bool)>, now: SystemTime) -> Result<Pending, ApiError> {
        let invalid = |why| ApiError::new(ErrorCode::InvalidArgument, why);
        let none = || invalid("no sign-in is under way in this browser").hint("begin here, and let cookies be set");
        let (text, secure) = kept.ok_or_else(none)?;
        Pending::open(&self.0.vault, purpose(secure), text, now).map_err(|lost| match lost {
            Lost::Unreadable => none(),
            Lost::Expired => invalid("signing in took longer than ten minutes").hint("begin once more"),
        })
    }

    async fn redeem(
        &self,
        verifier: &Verifier,
        pending: &Pending,
        answer: Answer,
        secure: bool,
    ) -> Result<SignedIn, ApiError> {
        if !pending.is_answered_by(answer.state.as_deref().unwrap_or_default()) {
            return Err(ApiError::new(ErrorCode::InvalidArgument, "this is the answer to another sign-in")
                .hint("begin once more, in one window at a time"));
        }
        let provider =
            self.provider(&pending.issuer).filter(|provider| provider.redirect.starts_with("https://") == secure);
        let provider = provider.ok_or_else(unknown)?;
        let metadata = provider.metadata().await?;
        // Which issuer sent the browser has to be known before anything else of its answer is used (RFC 9207 2.4).
        let stated = answer.iss.as_deref();
        if stated.map_or(metadata.authorization_response_iss_parameter_supported, |iss| iss != pending.issuer) {
            let message = "the answer is not of the issuer that was asked";
            return Err(ApiError::new(ErrorCode::InvalidArgument, message)
                .hint("begin once more; if it happens again, tell an operator"));
        }
        if let Some(error) = answer.error {
            return Err(declined(&provider.name, &error));
        }
        let none = || ApiError::new(ErrorCode::InvalidArgument, "the issuer's answer has no code");
        let code = answer.code.filter(|code| !code.is_empty()).ok_or_else(none)?;
        let token = provider.exchange(&metadata, &code, &pending.verifier).await?;
        let asked = Asked { issuer: &pending.issuer, client: &provider.client_id, nonce: &pending.nonce };
        let who = verifier.id_token(&token, &asked).await?;
        if who.grants.is_empty() {
            return Err(nobody(&who, &provider.config.grants_claim));
        }
        Ok(SignedIn { token, who })
    }

    fn provider(&self, issuer: &str) -> Option<&Provider> {
        self.0.providers.iter().find(|provider| provider.config.issuer == issuer)
    }
}

fn purpose(secure: bool) -> &'static str {
    if secure { PURPOSES.0 } else { PURPOSES.1 }
}

fn unknown() -> ApiError {
    ApiError::new(ErrorCode::InvalidArgument, "nobody signs in here through this issuer")
        .hint("choose one of those below")
}

/// What an issuer says instead of giving a code (RFC 6749 4.1.2.1).
fn declined(name: &str, error: &str) -> ApiError {
    match error {
        "access_denied" => ApiError::new(
            ErrorCode::PermissionDenied,
            format!("the issuer {name} did not sign you in: it was declined there"),
        )
        .hint("begin once more, or sign in with a token"),
        "server_error" | "temporarily_unavailable" => ApiError::new(
            ErrorCode::Unavailable,
            format!("the issuer {name} can't sign anybody in at the moment: {error}"),
        )
        .hint("try again in a minute, or sign in with a token"),
        _ => ApiError::new(
            ErrorCode::PermissionDenied,
            format!("the issuer {name} did not sign you in: {}", code_of(error)),
        )
        .hint("begin once more; if it happens again, tell an operator"),
    }
}

fn nobody(who: &Principal, claim: &str) -> ApiError {
    let message = format!("nobody gave {} a role in this cluster", who.subject);
    let hint = format!("ask an operator: roles are in the claim {claim} of the issuer's ID tokens");
    ApiError::new(ErrorCode::PermissionDenied, message).hint(hint)
}

/// The key of cookies: of the clients' secrets, where they are strong, so that every gateway that has them has it, otherwise
/// a random one.
fn key(providers: &[Provider]) -> anyhow::Result<[u8; 32]> {
    let strong =
        providers.iter().filter_map(|provider| provider.secret.as_deref()).filter(|s| s.len() >= STRONG_SECRET);
    let secrets = strong.collect::<Vec<_>>().join("\n");
    if secrets.is_empty() {
        return Ok(rand::random());
    }
    let mut key = [0; 32];
    let extracted = Salt::new(HKDF_SHA256, b"dunlin").extract(secrets.as_bytes());
    let expanded = extracted.expand(&[b"cookies of sign-ins"], Length(key.len())).and_then(|okm| okm.fill(&mut key));
    expanded.map_err(|_| anyhow::anyhow!("the system's cryptography refuses"))?;
    Ok(key)
}

/// How many bytes a key has.
struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_issuer_says_instead_of_a_code_becomes_an_error() {
        let told = |error| (declined("Example", error).code, declined("Example", error).message);
        assert_eq!(told("access_denied").0, ErrorCode::PermissionDenied);
        assert_eq!(told("server_error").0, ErrorCode::Unavailable);
        assert!(told("<b>odd</b>").1.ends_with("boddb"));
    }

    #[test]
    fn gateways_with_the_same_strong_secret_have_the_same_key() {
        let open = |secret: Option<&str>| {
            let sign_in = crate::config::SignInConfig::default();
            let oidc = crate::config::OidcConfig { issuer: "https://a".into(), ..Default::default() };
            let mut provider = Provider::new(&oidc, &sign_in, String::new()).unwrap();
            provider.secret = secret.map(str::to_owned);
            key(&[provider]).unwrap()
        };
        let (strong, other) = ("x".repeat(32), "y".repeat(32));
        assert_eq!(open(Some(&strong)), open(Some(&strong)));
        assert_ne!(open(Some(&strong)), open(Some(&other)));
        assert_ne!(open(Some("weak")), open(Some("weak")));
        assert_ne!(open(None), open(None));
    }
}
