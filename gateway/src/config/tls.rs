//! TLS of the gateway's listeners, as an operator sets it. What the files hold is read elsewhere (`tls.rs`).

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::ensure;
use http::HeaderValue;
use serde::{Deserialize, Serialize};

use super::duration;

/// TLS towards callers and administration. It is on where there are certificates, or where `acme` says that there will be.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// Whether functions are served by TLS also without a certificate from a file, with those alone that the cluster gets for
    /// domains: who asks for another name is refused. Default false.
    pub acme: bool,
    /// Whether administration speaks TLS, too. Default: beyond loopback only.
    pub admin: Option<bool>,
    /// Where plain HTTP is answered with a redirect to HTTPS. Default none.
    pub redirect: Option<SocketAddr>,
    /// The port by which callers reach `functions`, where something in between has another. Default: that of `functions`.
    pub port: Option<u16>,
    /// For how long browsers that have been here shall use HTTPS alone (RFC 6797). Default: they are told nothing.
    #[serde(with = "duration::optional")]
    pub hsts: Option<Duration>,
    /// How often the files are looked at; SIGHUP has them looked at once. Default 10s.
    #[serde(with = "duration")]
    pub reload: Duration,
    /// Certificates. A client gets the first that has the name it asks for, to the letter before by wildcard; where none
    /// has it, the first of all. Default none.
    pub certificates: Vec<CertificateConfig>,
}

/// A certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateConfig {
    /// The file of the certificate and those of its authorities, the server's own first (PEM).
    pub certificate: PathBuf,
    /// The file of its private key (PEM), which must not be open to everybody.
    pub key: PathBuf,
    /// The file of the passphrase that opens the key, where it is encrypted. Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passphrase: Option<PathBuf>,
}

impl Default for TlsConfig {
    fn default() -> Self {
        Self {
            acme: false,
            admin: None,
            redirect: None,
            port: None,
            hsts: None,
            reload: Duration::from_secs(10),
            certificates: Vec::new(),
        }
    }
}

impl TlsConfig {
    /// Whether functions are served by TLS.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.acme || self.has_files()
    }

    /// Whether there is a certificate from a file, which anybody can be shown.
    fn has_files(&self) -> bool {
        !self.certificates.is_empty()
    }

    /// Whether an administration listener at this address speaks TLS: domains' certificates are not for it.
    #[must_use]
    pub fn is_on_for_admin(&self, admin: SocketAddr) -> bool {
        self.has_files() && self.admin.unwrap_or(!admin.ip().is_loopback())
    }

    /// What the address of a function begins with.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.is_on() { "https" } else { "http" }
    }

    /// What browsers are told about the next time.
    pub(crate) fn hsts_header(&self) -> Option<HeaderValue> {
        self.hsts.and_then(|hsts| HeaderValue::from_str(&format!("max-age={}", hsts.as_secs())).ok())
    }

    /// Checks what types can't say.
    ///
    /// # Errors
    /// Administration beyond loopback without TLS, a setting without the certificates that it needs, an interval of zero.
    pub(super) fn validate(&self, admin: SocketAddr) -> anyhow::Result<()> {
        ensure!(
            self.has_files() || self.admin != Some(true),
            "tls.admin needs a certificate from a file: --tls-cert FILE --tls-key FILE"
        );
        for (field, set) in [
            ("tls.redirect", self.redirect.is_some()),
            ("tls.port", self.port.is_some()),
            ("tls.hsts", self.hsts.is_some()),
        ] {
            ensure!(
                self.is_on() || !set,
                "{field} needs a certificate, --tls-cert FILE --tls-key FILE, or tls.acme = true"
            );
        }
        ensure!(!self.reload.is_zero(), "tls.reload must be longer than nothing, such as 10s");
        ensure!(self.port != Some(0), "tls.port must be 1 at least");
        let missing = if self.has_files() {
            "remove tls.admin = false"
        } else {
            "give it a certificate with --tls-cert FILE --tls-key FILE"
        };
        ensure!(
            admin.ip().is_loopback() || self.is_on_for_admin(admin),
            "--admin {admin} is beyond loopback, where administration needs TLS; {missing}, or use 127.0.0.1 or [::1]"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certified() -> TlsConfig {
        let pair = CertificateConfig { certificate: "c.pem".into(), key: "k.pem".into(), passphrase: None };
        TlsConfig { certificates: vec![pair], ..TlsConfig::default() }
    }

    #[test]
    fn administration_beyond_loopback_speaks_tls_or_is_refused() {
        let (near, far) = ("127.0.0.1:8081".parse().unwrap(), "10.0.0.1:8081".parse().unwrap());
        for (tls, admin, expected) in [
            (TlsConfig::default(), near, Ok(false)),
            (TlsConfig::default(), far, Err("--tls-cert")),
            (certified(), near, Ok(false)),
            (certified(), far, Ok(true)),
            (TlsConfig { admin: Some(true), ..certified() }, near, Ok(true)),
            (TlsConfig { admin: Some(false), ..certified() }, far, Err("tls.admin = false")),
            // Nobody could be shown a certificate there.
            (TlsConfig { acme: true, ..TlsConfig::default() }, near, Ok(false)),
            (TlsConfig { acme: true, ..TlsConfig::default() }, far, Err("--tls-cert")),
            (TlsConfig { acme: true, admin: Some(true), ..TlsConfig::default() }, near, Err("--tls-cert")),
            (TlsConfig { acme: true, ..certified() }, far, Ok(true)),
        ] {
            match (tls.validate(admin), expected) {
                (Ok(()), Ok(on)) => assert_eq!(tls.is_on_for_admin(admin), on, "{admin}"),
                (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
                (found, _) => panic!("{admin} {found:?}"),
            }
        }
    }

    #[test]
    fn what_needs_a_certificate_says_so() {
        type Change = fn(&mut TlsConfig);
        let changes: [(&str, Change); 4] = [
            ("tls.admin", |tls| tls.admin = Some(true)),
            ("tls.redirect", |tls| tls.redirect = Some(([127, 0, 0, 1], 80).into())),
            ("tls.port", |tls| tls.port = Some(443)),
            ("tls.hsts", |tls| tls.hsts = Some(Duration::from_secs(1))),
        ];
        for (field, change) in changes {
            let (mut bare, mut good) = (TlsConfig::default(), certified());
            change(&mut bare);
            change(&mut good);
            let admin = ([127, 0, 0, 1], 8081).into();
            let error = bare.validate(admin).unwrap_err().to_string();
            assert!(error.starts_with(field) && error.contains("--tls-cert"), "{error}");
            good.validate(admin).unwrap();
            let mut issued = TlsConfig { acme: true, ..TlsConfig::default() };
            change(&mut issued);
            assert_eq!(issued.validate(admin).is_ok(), field != "tls.admin", "{field}");
        }
    }
}
