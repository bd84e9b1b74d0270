//! A certificate and its key, as their files hold them, and whatever may be wrong with that.

use std::{fmt, fs, io, os::unix::fs::PermissionsExt, path::Path, sync::Arc};

use dunlin_proto::ids::Digest;
use rustls::{
    InconsistentKeys,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

use super::{encrypted, names::Names};
use crate::config::CertificateConfig;

/// Why certificates can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// A file can't be read.
    #[error("cannot read {path}")]
    File { path: String, source: io::Error },
    /// A key that everybody can read.
    #[error("the private key {path} can be read by every user of this machine (mode {mode:04o}); run: chmod o= {path}")]
    Open { path: String, mode: u32 },
    /// No certificate, or one that can't be read.
    #[error(
        "{path} holds no certificate that can be read: {cause}; it must have PEM blocks BEGIN CERTIFICATE, the server's own \
         first"
    )]
    Certificate { path: String, cause: String },
    /// No name.
    #[error("the certificate in {path} names no host; it needs a subjectAltName with DNS names or addresses")]
    Nameless { path: String },
    /// No key, or one that can't be used.
    #[error(
        "{path} holds no private key that can be used: {cause}; it must have a PEM block BEGIN PRIVATE KEY, or BEGIN ENCRYPTED \
         PRIVATE KEY with the file of its passphrase"
    )]
    Key { path: String, cause: String },
    /// An encrypted key, and no passphrase.
    #[error("the private key {path} is encrypted; name the file of its passphrase beside it: passphrase = FILE")]
    Passphrase { path: String },
    /// Another passphrase.
    #[error("the passphrase in {passphrase} does not open the private key {path}, or the key is damaged")]
    Sealed { path: String, passphrase: String },
    /// They don't belong together.
    #[error(
        "the private key in {key} is not that of the certificate in {certificate}; name files that belong together, with the \
         server's own certificate before those of its authorities"
    )]
    Mismatch { certificate: String, key: String },
    /// The cryptography refuses.
    #[error("TLS can't be set up")]
    Setup(#[from] rustls::Error),
}

/// A certificate and its key, unread.
#[derive(Debug)]
pub(super) struct Pair {
    certificate: File,
    key: File,
    /// What opens the key, where it is encrypted.
    passphrase: Option<File>,
}

struct File {
    path: String,
    bytes: Vec<u8>,
}

impl fmt::Debug for File {
    /// Without what is in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("File").field(&self.path).finish()
    }
}

impl File {
    /// One that not everybody may read.
    fn secret(path: &Path) -> Result<Self, TlsError> {
        let file = Self::read(path)?;
        let mode = fs::metadata(path).map_or(0, |metadata| metadata.permissions().mode() & 0o777);
        if mode & 0o007 != 0 { Err(TlsError::Open { path: file.path, mode }) } else { Ok(file) }
    }

    fn read(path: &Path) -> Result<Self, TlsError> {
        let shown = path.display().to_string();
        match fs::read(path) {
            Ok(bytes) => Ok(Self { path: shown, bytes }),
            Err(source) => Err(TlsError::File { path: shown, source }),
        }
    }
}

impl Pair {
    /// Reads all files, in their order.
    ///
    /// # Errors
    /// One of them can't be read, or a key is open to everybody.
    pub(super) fn read_all(files: &[CertificateConfig]) -> Result<Vec<Self>, TlsError> {
        files.iter().map(Self::read).collect()
    }

    fn read(files: &CertificateConfig) -> Result<Self, TlsError> {
        let (certificate, key) = (File::read(&files.certificate)?, File::secret(&files.key)?);
        let passphrase = files.passphrase.as_deref().map(File::secret).transpose()?;
        Ok(Self { certificate, key, passphrase })
    }

    /// What all of them hold, to tell a change.
    pub(super) fn digest(pairs: &[Self]) -> Digest {
        let files = pairs.iter().flat_map(|pair| [&pair.certificate, &pair.key].into_iter().chain(&pair.passphrase));
        let digests: Vec<u8> = files.flat_map(|file| *Digest::of(&file.bytes).as_bytes()).collect();
        Digest::of(&digests)
    }

    /// Where the certificate is.
    pub(super) fn path(&self) -> &str {
        &self.certificate.path
    }

    /// Reads both, and checks that they belong together.
    ///
    /// # Errors
    /// They don't, or one of them can't be read.
    pub(super) fn certified(&self, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
        let path = &self.key.path;
        let wrong = |cause: String| TlsError::Key { path: path.clone(), cause };
        let key = match self.decrypted()? {
            Some(key) => key,
            None => PrivateKeyDer::from_pem_slice(&self.key.bytes).map_err(|error| wrong(error.to_string()))?,
        };
        let key = provider.key_provider.load_private_key(key).map_err(|error| wrong(error.to_string()))?;
        let certified = CertifiedKey::new(self.chain()?, key);
        match certified.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(certified),
            Err(rustls::Error::InconsistentKeys(_)) => {
                Err(TlsError::Mismatch { certificate: self.certificate.path.clone(), key: path.clone() })
            }
            Err(error) => Err(self.unreadable(&error)),
        }
    }

    /// The key where it is encrypted. A line end after the passphrase is the editor's.
    fn decrypted(&self) -> Result<Option<PrivateKeyDer<'static>>, TlsError> {
        if !encrypted::is_encrypted(&self.key.bytes) {
            return Ok(None);
        }
        let path = self.key.path.clone();
        let Some(passphrase) = &self.passphrase else { return Err(TlsError::Passphrase { path }) };
        let text = passphrase.bytes.strip_suffix(b"\n").unwrap_or(&passphrase.bytes);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        let opened = encrypted::decrypt(&self.key.bytes, text).map(PrivateKeyDer::from);
        opened.map(Some).ok_or_else(|| TlsError::Sealed { path, passphrase: passphrase.path.clone() })
    }

    fn chain(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.certificate.bytes).collect();
        match read {
            Ok(chain) if chain.is_empty() => Err(self.unreadable(&"there is none")),
            read => read.map_err(|error| self.unreadable(&error)),
        }
    }

    /// The names of the server's own certificate. That it is not valid now is told, and left to its clients to judge.
    ///
    /// # Errors
    /// It can't be read, or has none.
    pub(super) fn names(&self, certified: &CertifiedKey) -> Result<Arc<Names>, TlsError> {
        let own = certified.end_entity_cert()?;
        let (_, own) = X509Certificate::from_der(own.as_ref()).map_err(|error| self.unreadable(&error))?;
        let validity = own.validity();
        if !validity.is_valid() {
            let (from, until) = (validity.not_before, validity.not_after);
            tracing::warn!(certificate = self.path(), %from, %until, "the certificate is not valid now, so clients will refuse it");
        }
        let names = Names::of(&own);
        if names.is_empty() { Err(TlsError::Nameless { path: self.path().to_owned() }) } else { Ok(Arc::new(names)) }
    }

    fn unreadable(&self, cause: &dyn std::fmt::Display) -> TlsError {
        TlsError::Certificate { path: self.certificate.path.clone(), cause: cause.to_string() }
    }
}
