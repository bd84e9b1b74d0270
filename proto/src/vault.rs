//! Encrypts private keys for disk and database with a key that is a file of the process: a copy of the database or of a
//! member's file alone gives nobody a private key.
//!
//! AES-256-GCM (NIST SP 800-38D), each text with a random nonce. What a text is for is bound to it, so that none can be put in
//! another's place. Whoever has the key file too has everything: it belongs where backups of the data do not go, such as a
//! credential of the service manager.

use std::{fmt, fs, io, os::unix::fs::PermissionsExt, path::Path};

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use dunlin_process::data::write_private;

/// The key's length in bytes.
const KEY_LEN: usize = 32;
/// What sealed texts begin with.
const MARK: &[u8] = b"dunlin1\0";

/// Why something can't be encrypted or read back.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The key's file can't be read or written.
    #[error("use the storage key {path}")]
    File { path: String, source: io::Error },
    /// Everybody can read the key.
    #[error(
        "the storage key {path} can be read by every user of this machine (mode {mode:04o}); run: chmod 600 {path}"
    )]
    Open { path: String, mode: u32 },
    /// The file holds no key.
    #[error(
        "the storage key {path} must be {KEY_LEN} bytes in hexadecimal; make one with: openssl rand -hex {KEY_LEN}"
    )]
    Key { path: String },
    /// It was sealed with another key or for something else, or is damaged.
    #[error("it was encrypted with another storage key, or is damaged")]
    Sealed,
    /// The cryptography refuses.
    #[error("the system's cryptography refuses")]
    Crypto,
}

/// Encrypts and decrypts.
pub struct Vault(RandomizedNonceKey);

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Vault")
    }
}

impl Vault {
    /// The vault of this key.
    ///
    /// # Errors
    /// The cryptography refuses.
    pub fn new(key: &[u8; KEY_LEN]) -> Result<Self, VaultError> {
        RandomizedNonceKey::new(&AES_256_GCM, key).map(Self).map_err(|_| VaultError::Crypto)
    }

    /// The vault whose key is in the file that an operator named, otherwise in `storage.key` of this folder, where it is made
    /// when it is missing.
    ///
    /// # Errors
    /// The file can't be read, is open to others, or holds no key.
    pub fn open(named: Option<&Path>, folder: &Path) -> Result<Self, VaultError> {
        let own = folder.join("storage.key");
        let path = named.unwrap_or(&own);
        match fs::metadata(path) {
            Ok(metadata) => Self::read(path, metadata.permissions().mode() & 0o777),
            Err(error) if error.kind() == io::ErrorKind::NotFound && named.is_none() => Self::make(path),
            Err(source) => Err(VaultError::File { path: path.display().to_string(), source }),
        }
    }

    fn read(path: &Path, mode: u32) -> Result<Self, VaultError> {
        let shown = path.display().to_string();
        if mode & 0o007 != 0 {
            return Err(VaultError::Open { path: shown, mode });
        }
        let text = fs::read(path).map_err(|source| VaultError::File { path: shown.clone(), source })?;
        let mut key = [0; KEY_LEN];
        hex::decode_to_slice(text.trim_ascii(), &mut key).map_err(|_| VaultError::Key { path: shown })?;
        Self::new(&key)
    }

    fn make(path: &Path) -> Result<Self, VaultError> {
        let mut key = [0; KEY_LEN];
        aws_lc_rs::rand::fill(&mut key).map_err(|_| VaultError::Crypto)?;
        let written = write_private(path, format!("{}\n", hex::encode(key)).as_bytes());
        written.map_err(|source| VaultError::File { path: path.display().to_string(), source })?;
        Self::new(&key)
    }

    /// Encrypts a text for a purpose.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn seal(&self, purpose: &str, text: &[u8]) -> Result<Vec<u8>, VaultError> {
        let mut body = text.to_vec();
        let nonce = self.0.seal_in_place_append_tag(Aad::from(purpose.as_bytes()), &mut body);
        let nonce = nonce.map_err(|_| VaultError::Crypto)?;
        Ok([MARK, nonce.as_ref(), &body].concat())
    }

    /// Reads what was encrypted for this purpose.
    ///
    /// # Errors
    /// It was encrypted with another key or for something else, or is damaged.
    pub fn open_sealed(&self, purpose: &str, sealed: &[u8]) -> Result<Vec<u8>, VaultError> {
        let rest = sealed.strip_prefix(MARK).ok_or(VaultError::Sealed)?;
        let (nonce, body) = rest.split_first_chunk::<NONCE_LEN>().ok_or(VaultError::Sealed)?;
        let mut body = body.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = self.0.open_in_place(nonce, Aad::from(purpose.as_bytes()), &mut body);
        opened.map(|text| text.to_vec()).map_err(|_| VaultError::Sealed)
    }

    /// Whether something looks like what a vault has encrypted.
    #[must_use]
    pub fn is_sealed(bytes: &[u8]) -> bool {
        bytes.starts_with(MARK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_with_its_key_for_its_purpose_alone() {
        let vault = Vault::new(&[1; KEY_LEN]).unwrap();
        let sealed = vault.seal("key a.example", b"private").unwrap();
        assert!(Vault::is_sealed(&sealed) && !sealed.windows(7).any(|part| part == b"private"));
        assert_ne!(sealed, vault.seal("key a.example", b"private").unwrap(), "no nonce is used twice");
        assert_eq!(vault.open_sealed("key a.example", &sealed).unwrap(), b"private");
        assert!(vault.open_sealed("key b.example", &sealed).is_err());
        assert!(Vault::new(&[2; KEY_LEN]).unwrap().open_sealed("key a.example", &sealed).is_err());
        for at in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[at] ^= 1;
            assert!(vault.open_sealed("key a.example", &damaged).is_err(), "{at}");
            assert!(vault.open_sealed("key a.example", &sealed[..at]).is_err(), "{at}");
        }
    }

    #[test]
    fn the_key_is_made_once_and_one_that_is_named_must_be_there_and_closed() {
        let folder = tempfile::tempdir().unwrap();
        let sealed = Vault::open(None, folder.path()).unwrap().seal("x", b"text").unwrap();
        assert_eq!(Vault::open(None, folder.path()).unwrap().open_sealed("x", &sealed).unwrap(), b"text");
        let path = folder.path().join("storage.key");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let named = folder.path().join("named");
        let why = |path: &Path| Vault::open(Some(path), folder.path()).unwrap_err().to_string();
        assert!(why(&named).contains("named"));
        write_private(&named, b"nonsense").unwrap();
        assert!(why(&named).contains("openssl rand -hex 32"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(why(&path).contains("chmod 600"));
    }
}
