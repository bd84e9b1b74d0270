//! Certificates that the cluster got for domains, and the challenges by which it gets them: what the scheduler has told of both.
//! It is replaced as a whole, so that no handshake sees half of a change. Who gets certificates, and when, is not known here.

use std::{collections::HashMap, sync::Arc};

use arc_swap::ArcSwap;
use dunlin_proto::{
    ids::Digest,
    internal::v1::{AcmeChallenge, AcmeChallengeKind, Certificates, DomainCertificate},
};
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::{
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivatePkcs8KeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

use super::{certificates::Certificate, names::Names};

/// Challenges at once, whatever the scheduler says.
const MOST: usize = 64;

/// What the scheduler has told. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Issued(Arc<ArcSwap<Held>>);

#[derive(Debug, Clone, Default)]
struct Held {
    /// By domain.
    certificates: HashMap<String, Certificate>,
    challenges: Vec<Challenge>,
}

/// What an authority shall find.
#[derive(Debug, Clone)]
struct Challenge {
    domain: String,
    token: String,
    answer: Answer,
}

#[derive(Debug, Clone)]
enum Answer {
    /// By HTTP.
    Text(String),
    /// By TLS.
    Certificate(Arc<CertifiedKey>),
}

impl Issued {
    /// Takes in what has changed. What can't be used is left out, and told.
    pub(crate) fn apply(&self, update: &Certificates) {
        let mut held = if update.whole { Held::default() } else { Held::clone(&self.0.load()) };
        let provider = aws_lc_rs::default_provider();
        for domain in &update.removed {
            held.certificates.remove(domain);
        }
        for new in &update.certificates {
            match certificate(new, &provider) {
                Ok(certificate) => drop(held.certificates.insert(new.domain.clone(), certificate)),
                Err(error) => {
                    tracing::error!(domain = new.domain, cause = format!("{error:#}"), "a certificate can't be used");
                }
            }
        }
        let usable = |wire: &AcmeChallenge| {
            challenge(wire, &provider).map_err(|error| {
                tracing::error!(domain = wire.domain, cause = format!("{error:#}"), "a challenge can't be answered");
            })
        };
        held.challenges = update.challenges.iter().take(MOST).filter_map(|wire| usable(wire).ok()).collect();
        self.0.store(Arc::new(held));
    }

    /// The certificate for a name in lower case.
    pub(super) fn certificate(&self, name: &str) -> Option<Certificate> {
        self.0.load().certificates.get(name).cloned()
    }

    /// The certificate that an authority shall find by TLS for this name (RFC 8737 3).
    pub(super) fn challenge(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        let held = self.0.load();
        held.challenges.iter().filter(|challenge| challenge.domain == name).find_map(|challenge| {
            match &challenge.answer {
                Answer::Certificate(certified) => Some(certified.clone()),
                Answer::Text(_) => None,
            }
        })
    }

    /// What an authority shall find by HTTP for this token at this host (RFC 8555 8.3).
    pub(crate) fn text(&self, host: &str, token: &str) -> Option<String> {
        let held = self.0.load();
        let asked = |challenge: &&Challenge| challenge.domain == host && challenge.token == token;
        held.challenges.iter().filter(asked).find_map(|challenge| match &challenge.answer {
            Answer::Text(text) => Some(text.clone()),
            Answer::Certificate(_) => None,
        })
    }
}

fn certificate(wire: &DomainCertificate, provider: &CryptoProvider) -> anyhow::Result<Certificate> {
    let chain = CertificateDer::pem_slice_iter(wire.chain.as_bytes()).collect::<Result<Vec<_>, _>>()?;
    let key = PrivatePkcs8KeyDer::from(wire.key.to_vec());
    let certified = CertifiedKey::from_der(chain, key.into(), provider)?;
    let own = certified.end_entity_cert()?;
    let (_, own) = X509Certificate::from_der(own.as_ref())?;
    let names = Names::of(&own);
    anyhow::ensure!(names.has(&wire.domain), "it is not for {}", wire.domain);
    Ok(Certificate::of(certified, names))
}

fn challenge(wire: &AcmeChallenge, provider: &CryptoProvider) -> anyhow::Result<Challenge> {
    let answer = match wire.kind() {
        AcmeChallengeKind::Http01 => Answer::Text(wire.key_authorization.clone()),
        AcmeChallengeKind::TlsAlpn01 => Answer::Certificate(Arc::new(proof(wire, provider)?)),
        AcmeChallengeKind::Unspecified => anyhow::bail!("its kind is not known"),
    };
    Ok(Challenge { domain: wire.domain.clone(), token: wire.token.clone(), answer })
}

/// A certificate that nobody but its own key has signed and that says what the authority wants to hear.
fn proof(wire: &AcmeChallenge, provider: &CryptoProvider) -> anyhow::Result<CertifiedKey> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new([wire.domain.clone()])?;
    let digest = Digest::of(wire.key_authorization.as_bytes());
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest.as_bytes())];
    let certificate = params.self_signed(&key)?.der().clone();
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    // Not compared: clients must know the extension, and what compares certificate and key is a client that does not.
    Ok(CertifiedKey::new(vec![certificate], provider.key_provider.load_private_key(key.into())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issued(domain: &str, for_name: &str) -> DomainCertificate {
        let key = KeyPair::generate().unwrap();
        let chain = CertificateParams::new([for_name.to_owned()]).unwrap().self_signed(&key).unwrap().pem();
        DomainCertificate { domain: domain.into(), chain, key: key.serialize_der().into() }
    }

    fn asked(kind: AcmeChallengeKind) -> AcmeChallenge {
        AcmeChallenge {
            domain: "a.example".into(),
            kind: kind.into(),
            token: "token".into(),
            key_authorization: "token.thumb".into(),
        }
    }

    #[test]
    fn certificates_come_change_and_go() {
        let known = Issued::default();
        let update = |whole, certificates, removed: &[&str]| {
            let removed = removed.iter().map(|domain| (*domain).to_owned()).collect();
            known.apply(&Certificates { whole, certificates, removed, ..Certificates::default() });
        };
        let has = |name| known.certificate(name).is_some();
        update(true, vec![issued("a.example", "a.example"), issued("b.example", "other.example")], &[]);
        assert!(
            has("a.example") && !has("b.example") && !has("other.example"),
            "what is not for its domain is left out"
        );
        update(false, vec![issued("c.example", "c.example")], &[]);
        assert!(has("a.example") && has("c.example"));
        let damaged = DomainCertificate { key: b"nonsense"[..].into(), ..issued("a.example", "a.example") };
        update(false, vec![damaged], &["c.example"]);
        assert!(has("a.example") && !has("c.example"), "what can't be used replaces nothing");
        update(true, vec![issued("d.example", "d.example")], &[]);
        assert!(!has("a.example") && has("d.example"));
    }

    #[test]
    fn a_challenge_is_answered_at_its_host_for_its_token_while_it_is_in_force() {
        let known = Issued::default();
        let say = |challenges| known.apply(&Certificates { challenges, ..Certificates::default() });
        say(vec![asked(AcmeChallengeKind::Http01)]);
        assert_eq!(known.text("a.example", "token").as_deref(), Some("token.thumb"));
        for (host, token) in [("b.example", "token"), ("a.example", "other"), ("a.example", "")] {
            assert_eq!(known.text(host, token), None, "{host} {token}");
        }
        assert!(known.challenge("a.example").is_none(), "it was not asked by TLS");
        say(vec![asked(AcmeChallengeKind::TlsAlpn01), asked(AcmeChallengeKind::Unspecified)]);
        assert!(known.challenge("a.example").is_some() && known.challenge("b.example").is_none());
        assert_eq!(known.text("a.example", "token"), None);
        say(Vec::new());
        assert!(known.challenge("a.example").is_none());
    }
}
