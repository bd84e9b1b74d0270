//! Certificates of domains as the store keeps them: what there is, and when the authority is asked next.

use std::fmt;

use dunlin_proto::ids::DomainName;

use super::Time;

/// Whether the cluster gets a certificate for a domain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum DomainTls {
    /// By ACME.
    #[default]
    Acme,
    /// None.
    None,
}

impl DomainTls {
    /// Its spelling in the database.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Acme => "acme",
            Self::None => "none",
        }
    }
}

impl std::str::FromStr for DomainTls {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Acme, Self::None].into_iter().find(|tls| tls.as_str() == text).ok_or(())
    }
}

/// A certificate that an authority has issued.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Issued {
    /// The certificate and those of its authorities (PEM), its own first.
    pub(crate) chain: String,
    /// Its private key, encrypted.
    pub(crate) sealed_key: Vec<u8>,
    /// Who signed it.
    pub(crate) issuer: String,
    /// From when on it is valid.
    pub(crate) start: Time,
    /// Until when.
    pub(crate) expire: Time,
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued").field("issuer", &self.issuer).field("expire", &self.expire).finish_non_exhaustive()
    }
}

/// What has become of the certificate of a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CertificateRecord {
    pub(crate) domain: DomainName,
    /// Nothing before the first success.
    pub(crate) issued: Option<Issued>,
    /// Failures since the last success.
    pub(crate) failures: u32,
    /// Why the last attempt failed; empty where it did not.
    pub(crate) error: String,
    /// What to do about it; may be empty.
    pub(crate) hint: String,
    /// When the authority is asked next.
    pub(crate) attempt: Time,
}
