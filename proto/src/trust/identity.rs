//! Who a process is: its role and its name, as the URI in its certificate says (SPIFFE ID: `spiffe://dunlin/worker/w-1`).
//!
//! Reading a certificate here proves nothing; whoever calls has verified it, or does so next.

use std::{
    fmt,
    str::FromStr,
    time::{Duration, SystemTime},
};

use rustls::pki_types::CertificateDer;
use x509_parser::{certificate::X509Certificate, extensions::GeneralName};

use super::TrustError;
use crate::ids::{Digest, WorkerId};

/// What the URIs begin with. Each cluster has an authority of its own, so that one trust domain does for all.
const PREFIX: &str = "spiffe://dunlin/";

/// What a process does in the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Owns state, and issues certificates.
    Scheduler,
    /// Serves callers.
    Gateway,
    /// Runs functions.
    Worker,
}

impl Role {
    /// Its spelling.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scheduler => "scheduler",
            Self::Gateway => "gateway",
            Self::Worker => "worker",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = [Self::Scheduler, Self::Gateway, Self::Worker].into_iter().find(|role| role.as_str() == text);
        found.ok_or_else(|| format!("{text:?} is no role of a process; there are scheduler, gateway and worker"))
    }
}

/// A process by role and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// What it does.
    pub role: Role,
    /// Its name among those of its role.
    pub id: String,
}

impl Identity {
    /// A process of this role and name.
    ///
    /// # Errors
    /// The name is not one.
    pub fn new(role: Role, id: &str) -> Result<Self, String> {
        // Names of all roles follow one rule.
        id.parse::<WorkerId>().map_err(|error| error.to_string().replacen("worker", role.as_str(), 1))?;
        Ok(Self { role, id: id.to_owned() })
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}/{}", self.role, self.id)
    }
}

impl FromStr for Identity {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let path = text.strip_prefix(PREFIX).ok_or_else(|| format!("{text:?} does not begin with {PREFIX}"))?;
        let (role, id) = path.split_once('/').ok_or_else(|| format!("{text:?} names no role and id"))?;
        Self::new(role.parse()?, id)
    }
}

/// A process as its certificate describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Who it is.
    pub identity: Identity,
    /// SHA-256 of its public key (SubjectPublicKeyInfo, RFC 5280 4.1), which stays the same for as long as it is a member.
    pub key: Digest,
    /// From when on the certificate is valid.
    pub not_before: SystemTime,
    /// Until when.
    pub not_after: SystemTime,
}

impl Peer {
    /// Reads a certificate.
    ///
    /// # Errors
    /// It is none, or does not name exactly one process.
    pub fn read(certificate: &CertificateDer<'_>) -> Result<Self, TrustError> {
        let unreadable = |_| TrustError::Certificate("it can't be read".to_owned());
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).map_err(unreadable)?;
        let validity = parsed.validity();
        Ok(Self {
            identity: identity(&parsed).map_err(TrustError::Certificate)?,
            key: Digest::of(parsed.public_key().raw),
            not_before: time(validity.not_before.timestamp()),
            not_after: time(validity.not_after.timestamp()),
        })
    }
}

fn identity(certificate: &X509Certificate<'_>) -> Result<Identity, String> {
    let names = certificate.subject_alternative_name().map_err(|_| "its names can't be read")?;
    let names = names.map(|names| names.value.general_names.as_slice()).unwrap_or_default();
    match names {
        [GeneralName::URI(uri)] => uri.parse(),
        _ => Err("it must have one name, a URI".to_owned()),
    }
}

fn time(seconds: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t47_an_identity_is_exactly_one_role_and_name() {
        let worker = Identity::new(Role::Worker, "w-1").unwrap();
        assert_eq!(worker.to_string(), "spiffe://dunlin/worker/w-1");
        assert_eq!(worker.to_string().parse(), Ok(worker));
        for bad in [
            "",
            "spiffe://dunlin/",
            "spiffe://dunlin/worker",
            "spiffe://dunlin/worker/",
            "spiffe://dunlin/worker/w-1/",
            "spiffe://dunlin/worker/w-1/x",
            "spiffe://dunlin/king/w-1",
            "spiffe://dunlin/Worker/w-1",
            "spiffe://other/worker/w-1",
            "spiffe://dunlin/worker/W",
            "spiffe://dunlin/worker/../gateway/g",
            "https://dunlin/worker/w-1",
        ] {
            assert!(bad.parse::<Identity>().is_err(), "{bad:?}");
        }
        let error = Identity::new(Role::Gateway, "G").unwrap_err();
        assert!(error.starts_with("gateway \"G\""), "{error}");
    }

    #[test]
    fn t47_nonsense_is_no_certificate() {
        for bytes in [&b""[..], b"nonsense", &[0x30, 0x82, 0xff, 0xff]] {
            assert!(Peer::read(&CertificateDer::from(bytes)).is_err());
        }
    }
}
