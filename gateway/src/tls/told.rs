//! Certificates from files as people are told of them: for whom, by whom, until when. Which one a client is shown is not
//! decided here, and keys are nobody's to see.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dunlin_proto::v1;
use x509_parser::{certificate::X509Certificate, prelude::FromDer, time::ASN1Time, x509::X509Name};

use super::{Tls, certificates::Certificate, names::Names};

/// A certificate from a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileCertificate {
    /// The names that it is for, as they are written in it.
    pub(crate) names: Vec<String>,
    /// Who signed it.
    pub(crate) issuer: String,
    /// From when on it is valid.
    pub(crate) start: SystemTime,
    /// Until when.
    pub(crate) expire: SystemTime,
}

impl Tls {
    /// The certificates in force that serve a host for which `serves` is true, in the order of their files. `serves` gets what
    /// a certificate covers.
    pub(crate) fn of_files(&self, serves: impl Fn(&Names) -> bool) -> Vec<FileCertificate> {
        let current = self.0.current.load();
        let serving = current.certificates.of_files().filter(|certificate| serves(&certificate.names()));
        serving.filter_map(FileCertificate::read).collect()
    }

    /// The certificate in force that whoever asks for this name, in lower case, is shown of a file.
    pub(crate) fn of_file(&self, name: &str) -> Option<FileCertificate> {
        FileCertificate::read(self.0.current.load().certificates.of_file(name)?)
    }
}

impl FileCertificate {
    /// Nothing where it can't be read, which is found out before it comes into force.
    fn read(certificate: &Certificate) -> Option<Self> {
        let (_, own) = X509Certificate::from_der(certificate.own()?).ok()?;
        let validity = own.validity();
        Some(Self {
            names: certificate.names().written(),
            issuer: called(own.issuer()),
            start: moment(validity.not_before),
            expire: moment(validity.not_after),
        })
    }
}

/// An authority's name for people: its organisation and its own name, where it has them.
fn called(name: &X509Name<'_>) -> String {
    let parts = name.iter_organization().chain(name.iter_common_name()).filter_map(|part| part.as_str().ok());
    let parts: Vec<_> = parts.collect();
    if parts.is_empty() { name.to_string() } else { parts.join(", ") }
}

/// A moment of a certificate. Those before 1970 are none that matters.
fn moment(time: ASN1Time) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(time.timestamp()).unwrap_or_default())
}

impl From<FileCertificate> for v1::FileCertificate {
    fn from(told: FileCertificate) -> Self {
        Self {
            names: told.names,
            issuer: told.issuer,
            start_time: Some(told.start.into()),
            expire_time: Some(told.expire.into()),
        }
    }
}
