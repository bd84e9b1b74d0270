//! The folder of the cluster's own private keys (Ed25519, PKCS#8, RFC 5958): files of mode 0600 that only the scheduler reads,
//! encrypted with the storage key. What they sign is others' business.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, bail, ensure};
use aws_lc_rs::signature::Ed25519KeyPair;
use dunlin_process::data::write_private;
use dunlin_proto::vault::Vault;

/// The folder, and how what is in it is encrypted. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Keyring {
    folder: PathBuf,
    vault: Arc<Vault>,
}

impl Keyring {
    /// A folder that is there, with the storage key that an operator named, or one of its own.
    ///
    /// # Errors
    /// The storage key can't be read or made.
    pub(crate) fn open(folder: &Path, storage_key: Option<&Path>) -> anyhow::Result<Self> {
        Ok(Self { folder: folder.to_owned(), vault: Vault::open(storage_key, folder)?.into() })
    }

    /// Where a file of the folder is.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// What else is encrypted with the storage key.
    pub(crate) fn vault(&self) -> &Arc<Vault> {
        &self.vault
    }

    /// Reads a private key that nobody else may read, or makes it where there is none. One that older software has kept in the
    /// clear is encrypted.
    pub(crate) fn key(&self, name: &str) -> anyhow::Result<Vec<u8>> {
        let path = self.file(name);
        let shown = path.display();
        match fs::metadata(&path) {
            Ok(metadata) => {
                let mode = metadata.permissions().mode() & 0o777;
                ensure!(
                    mode & 0o077 == 0,
                    "private key {shown} must have mode 0600 but has {mode:04o}; run: chmod 600 {shown}"
                );
                let kept = fs::read(&path).with_context(|| format!("read private key {shown}"))?;
                self.unseal(name, kept)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let Ok(made) = Ed25519KeyPair::generate_pkcs8(&aws_lc_rs::rand::SystemRandom::new()) else {
                    bail!("the system gives no random numbers for private key {shown}");
                };
                self.write(name, made.as_ref())?;
                Ok(made.as_ref().to_vec())
            }
            Err(error) => Err(error).with_context(|| format!("read private key {shown}")),
        }
    }

    fn unseal(&self, name: &str, kept: Vec<u8>) -> anyhow::Result<Vec<u8>> {
        if Vault::is_sealed(&kept) {
            let opened = self.vault.open_sealed(name, &kept);
            return opened.with_context(|| format!("read private key {}", self.file(name).display()));
        }
        // Nonsense stays as it is, for whoever looks into it.
        if Ed25519KeyPair::from_pkcs8(&kept).is_ok() {
            self.write(name, &kept)?;
        }
        Ok(kept)
    }

    fn write(&self, name: &str, key: &[u8]) -> anyhow::Result<()> {
        let path = self.file(name);
        let sealed = self.vault.seal(name, key)?;
        write_private(&path, &sealed).with_context(|| format!("write private key {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_lies_encrypted_and_one_in_the_clear_is_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        let keyring = Keyring::open(folder.path(), None).unwrap();
        let key = keyring.key("a.pk8").unwrap();
        let kept = || fs::read(folder.path().join("a.pk8")).unwrap();
        assert!(Vault::is_sealed(&kept()) && Ed25519KeyPair::from_pkcs8(&key).is_ok());
        assert_eq!(Keyring::open(folder.path(), None).unwrap().key("a.pk8").unwrap(), key);
        write_private(&folder.path().join("a.pk8"), &key).unwrap();
        assert_eq!(keyring.key("a.pk8").unwrap(), key);
        assert!(Vault::is_sealed(&kept()));
        fs::copy(folder.path().join("a.pk8"), folder.path().join("b.pk8")).unwrap();
        assert!(keyring.key("b.pk8").is_err(), "none can be put in another's place");
        fs::remove_file(folder.path().join("storage.key")).unwrap();
        let error = format!("{:#}", Keyring::open(folder.path(), None).unwrap().key("a.pk8").unwrap_err());
        assert!(error.contains("another storage key"), "{error}");
    }
}
