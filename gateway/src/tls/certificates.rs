//! Which certificate a client is shown.
//!
//! One that names its host to the letter goes before one with a wildcard, and among equals the one that is configured
//! first; those that the cluster got for domains come after the files. Who asks for a name that none has, or for no name, is shown the first of all: the handshake goes on, as RFC 6066 3
//! allows, because the client then finds out, and can say, whose certificate it got. Whether a request may follow is
//! decided when it is there ([`super::Session::is_for`]). Where no file has a certificate, there is none to be shown, and the
//! handshake ends (`accept.rs`).

use std::sync::Arc;

use rustls::{
    crypto::CryptoProvider,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use super::{
    ACME, Issued,
    names::Names,
    pair::{Pair, TlsError},
};

/// A certificate that has been read.
#[derive(Debug, Clone)]
pub(super) struct Certificate {
    key: Arc<CertifiedKey>,
    names: Arc<Names>,
}

/// All certificates.
#[derive(Debug)]
pub(super) struct Certificates {
    /// Nothing where there are no files.
    first: Option<Certificate>,
    others: Vec<Certificate>,
    issued: Issued,
}

impl Certificate {
    fn new(pair: &Pair, provider: &CryptoProvider) -> Result<Self, TlsError> {
        let certified = pair.certified(provider)?;
        Ok(Self { names: pair.names(&certified)?, key: Arc::new(certified) })
    }

    /// One with these names.
    pub(super) fn of(certified: CertifiedKey, names: Names) -> Self {
        Self { key: Arc::new(certified), names: Arc::new(names) }
    }

    /// The server's own, without those of its authorities (DER).
    pub(super) fn own(&self) -> Option<&[u8]> {
        self.key.end_entity_cert().ok().map(AsRef::as_ref)
    }

    /// What it is for.
    pub(super) fn names(&self) -> Arc<Names> {
        self.names.clone()
    }
}

impl Certificates {
    /// Those of these pairs, and behind them what the cluster got.
    ///
    /// # Errors
    /// One of them can't be used.
    pub(super) fn new(pairs: &[Pair], issued: Issued, provider: &CryptoProvider) -> Result<Self, TlsError> {
        let mut read = pairs.iter().map(|pair| Certificate::new(pair, provider));
        let first = read.next().transpose()?;
        Ok(Self { first, others: read.collect::<Result<_, _>>()?, issued })
    }

    /// The one for a client that asks for this name, in lower case; nothing where nobody has it and there are no files.
    pub(super) fn choose(&self, asked: Option<&str>) -> Option<Certificate> {
        let found = asked.and_then(|name| self.of_file(name).cloned().or_else(|| self.issued.certificate(name)));
        found.or_else(|| self.first.clone())
    }

    /// The one of a file that is for this name, in lower case.
    pub(super) fn of_file(&self, name: &str) -> Option<&Certificate> {
        let exact = self.of_files().find(|certificate| certificate.names.has(name));
        exact.or_else(|| self.of_files().find(|certificate| certificate.names.has_wildcard(name)))
    }

    /// Those of files, in their order.
    pub(super) fn of_files(&self) -> impl Iterator<Item = &Certificate> {
        self.first.iter().chain(&self.others)
    }
}

impl Certificates {
    /// Whether whoever asks is shown something.
    pub(super) fn answers_all(&self) -> bool {
        self.first.is_some()
    }

    /// What a client is shown.
    pub(super) fn answer(&self, hello: &ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // An authority asks in no other protocol (RFC 8737 3), and is shown nothing else.
        if hello.alpn().is_some_and(|mut asked| asked.next() == Some(ACME) && asked.next().is_none()) {
            return self.issued.challenge(hello.server_name()?);
        }
        self.choose(hello.server_name()).map(|certificate| certificate.key)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.answer(&hello)
    }
}
