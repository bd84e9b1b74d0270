//! How certificates for domains are got (RFC 8555), as an operator sets it. How an order goes is not known here (`acme.rs`).

use std::{path::PathBuf, time::Duration};

use anyhow::ensure;
use serde::{Deserialize, Serialize};

/// How an authority makes sure that the cluster serves a domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChallengeKind {
    /// It asks by HTTP, at port 80 (RFC 8555 8.3).
    #[serde(rename = "http-01")]
    Http01,
    /// It asks by TLS, at port 443 (RFC 8737).
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn01,
}

/// The authority that issues certificates. Off without a directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AcmeConfig {
    /// URL of the authority's directory, such as `https://acme-v02.api.letsencrypt.org/directory`. Default none.
    pub directory: Option<String>,
    /// Whom the authority may tell of problems, such as `mailto:ops@example.com`. Default nobody.
    pub contact: Vec<String>,
    /// That the operator has read the authority's terms of service and agrees. Default false.
    pub terms_agreed: bool,
    /// File of the authorities (PEM) by which the directory itself is trusted, where it is a private one. Default: the system's.
    pub ca_file: Option<PathBuf>,
    /// How the authority may ask, the preferred way first; after a failure, the next one is taken. Default both.
    pub challenges: Vec<ChallengeKind>,
    /// How long after a first failure it is tried again, in seconds; each further one doubles it, up to half a day. Default 60.
    pub retry_seconds: u64,
}

impl Default for AcmeConfig {
    fn default() -> Self {
        Self {
            directory: None,
            contact: Vec::new(),
            terms_agreed: false,
            ca_file: None,
            challenges: vec![ChallengeKind::Http01, ChallengeKind::TlsAlpn01],
            retry_seconds: 60,
        }
    }
}

impl AcmeConfig {
    /// How long after a first failure it is tried again.
    pub(crate) fn retry(&self) -> Duration {
        Duration::from_secs(self.retry_seconds)
    }

    /// Checks what types can't say.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let Some(directory) = &self.directory else {
            let unset = Self { directory: None, ..Self::default() };
            ensure!(
                *self == unset,
                "acme.directory is missing; it is the URL of an authority's directory, or leave out [acme]"
            );
            return Ok(());
        };
        ensure!(directory.starts_with("https://"), "acme.directory is {directory:?} but must begin with https://");
        ensure!(
            self.terms_agreed,
            "acme.terms_agreed must be true: read the terms of service of {directory}, and agree to them"
        );
        ensure!(!self.challenges.is_empty(), "acme.challenges must name http-01, tls-alpn-01 or both");
        let seconds = self.retry_seconds;
        ensure!((1..=43_200).contains(&seconds), "acme.retry_seconds is {seconds} but must lie between 1 and 43200");
        for contact in &self.contact {
            ensure!(contact.starts_with("mailto:"), "acme.contact has {contact:?}; one is mailto:ops@example.com");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        type Change = fn(&mut AcmeConfig);
        let good = AcmeConfig {
            directory: Some("https://ca.example/directory".into()),
            terms_agreed: true,
            contact: vec!["mailto:ops@example.com".into()],
            ..AcmeConfig::default()
        };
        good.check().unwrap();
        AcmeConfig::default().check().unwrap();
        let changes: [(&str, Change); 6] = [
            ("acme.directory", |acme| acme.directory = None),
            ("acme.directory", |acme| acme.directory = Some("http://ca.example".into())),
            ("acme.terms_agreed", |acme| acme.terms_agreed = false),
            ("acme.challenges", |acme| acme.challenges.clear()),
            ("acme.retry_seconds", |acme| acme.retry_seconds = 0),
            ("acme.contact", |acme| acme.contact = vec!["ops@example.com".into()]),
        ];
        for (field, change) in changes {
            let mut bad = good.clone();
            change(&mut bad);
            let error = bad.check().unwrap_err().to_string();
            assert!(error.starts_with(field), "{error}");
        }
    }
}
