//! Whether the other end of a connection is who was expected: its certificate comes from the cluster's authority, is valid
//! now, and names the role and, where it is known, the process. Host names mean nothing here: addresses change, and whoever
//! can lie about them must gain nothing.

use std::sync::Arc;

use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};

use super::identity::{Identity, Peer, Role};
use crate::ids::Digest;

/// Whom a connection is meant for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    role: Role,
    id: Option<String>,
}

impl Expected {
    /// Any process of this role.
    #[must_use]
    pub fn any(role: Role) -> Self {
        Self { role, id: None }
    }

    /// The process of this role and name.
    #[must_use]
    pub fn named(role: Role, id: &str) -> Self {
        Self { role, id: Some(id.to_owned()) }
    }

    fn check(&self, found: &Identity) -> Result<(), Error> {
        if found.role == self.role && self.id.as_ref().is_none_or(|id| *id == found.id) {
            return Ok(());
        }
        let id = self.id.as_deref().map(|id| format!(" {id}")).unwrap_or_default();
        Err(Error::General(format!("expected {}{id}, but {} {} answers", self.role, found.role, found.id)))
    }
}

/// Whose certificates are good.
#[derive(Debug, Clone)]
pub(super) enum Anchor {
    /// Those of this authority.
    Authority(Arc<RootCertStore>),
    /// Those of the authority whose certificate, which the server sends too, has this SHA-256.
    Fingerprint(Digest),
}

/// Verifies servers.
#[derive(Debug)]
pub(super) struct Verifier {
    anchor: Anchor,
    expected: Expected,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    pub(super) fn new(anchor: Anchor, expected: Expected, provider: &CryptoProvider) -> Self {
        Self { anchor, expected, algorithms: provider.signature_verification_algorithms }
    }

    fn roots(&self, sent: &[CertificateDer<'_>]) -> Result<Arc<RootCertStore>, Error> {
        match &self.anchor {
            Anchor::Authority(roots) => Ok(roots.clone()),
            Anchor::Fingerprint(fingerprint) => {
                let other = || Error::General("it belongs to another cluster than the join token".to_owned());
                let authority = sent.iter().find(|certificate| Digest::of(certificate) == *fingerprint);
                roots(authority.ok_or_else(other)?).map(Arc::new)
            }
        }
    }
}

/// An authority as what chains may end in.
pub(super) fn roots(authority: &CertificateDer<'_>) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone().into_owned())?;
    Ok(roots)
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        sent: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = ParsedCertificate::try_from(certificate)?;
        let roots = self.roots(sent)?;
        verify_server_cert_signed_by_trust_anchor(&parsed, &roots, &[], now, self.algorithms.all)?;
        let peer = Peer::read(certificate).map_err(|error| Error::General(error.to_string()))?;
        self.expected.check(&peer.identity)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("only TLS 1.3 is spoken between the cluster's processes".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t47_role_and_name_must_be_the_expected_ones() {
        let worker = Identity::new(Role::Worker, "w-1").unwrap();
        assert!(Expected::any(Role::Worker).check(&worker).is_ok());
        assert!(Expected::named(Role::Worker, "w-1").check(&worker).is_ok());
        for other in
            [Expected::any(Role::Gateway), Expected::named(Role::Worker, "w-2"), Expected::any(Role::Scheduler)]
        {
            assert!(other.check(&worker).unwrap_err().to_string().contains("worker w-1 answers"), "{other:?}");
        }
    }
}
