//! A message that is kept on disk: whole or not at all, readable by this user only, checked when it is read back; encrypted where it
//! holds private keys.

use std::{path::PathBuf, sync::Arc};

use dunlin_process::data::write_private;
use dunlin_proto::{ids::Digest, vault::Vault};
use prost::Message;

/// For what private keys are encrypted.
const PURPOSE: &str = "gateway certificates";

/// A message and the file that holds it.
#[derive(Debug)]
pub(super) struct Kept<M> {
    path: PathBuf,
    /// Nothing where it is kept in the clear.
    vault: Option<Arc<Vault>>,
    /// The newest one; nothing where there has been none.
    pub(super) value: Option<M>,
    dirty: bool,
}

impl<M: Message + Default> Kept<M> {
    /// Reads the file; a damaged one counts as none, since the scheduler has the truth.
    pub(super) fn open(path: PathBuf) -> Self {
        Self::read(path, None)
    }

    /// The same for a file that is encrypted.
    pub(super) fn sealed(path: PathBuf, vault: Arc<Vault>) -> Self {
        Self::read(path, Some(vault))
    }

    fn read(path: PathBuf, vault: Option<Arc<Vault>>) -> Self {
        let opened = |bytes: Vec<u8>| match &vault {
            None => Some(bytes),
            Some(vault) => vault.open_sealed(PURPOSE, &bytes).ok(),
        };
        let value = std::fs::read(&path).ok().and_then(opened).and_then(|bytes| decode(&bytes));
        if value.is_none() && path.exists() {
            tracing::warn!(path = %path.display(), "ignored a damaged file; the scheduler will send what it held");
        }
        Self { path, vault, value, dirty: false }
    }

    pub(super) fn set(&mut self, value: M) {
        self.value = Some(value);
        self.dirty = true;
    }

    /// Writes the file where there is news. A disk that refuses is tried again with the next call.
    pub(super) async fn save(&mut self) {
        let Some(value) = self.value.as_ref().filter(|_| self.dirty) else { return };
        let (path, bytes, vault) = (self.path.clone(), encode(value), self.vault.clone());
        let written = tokio::task::spawn_blocking(move || match vault {
            None => write_private(&path, &bytes),
            Some(vault) => write_private(&path, &vault.seal(PURPOSE, &bytes).map_err(std::io::Error::other)?),
        });
        let written = written.await;
        match written {
            Ok(Ok(())) => self.dirty = false,
            Ok(Err(error)) => tracing::warn!(%error, path = %self.path.display(), "cannot write"),
            // Only a shutdown of the runtime ends it.
            Err(_) => {}
        }
    }
}

fn encode(message: &impl Message) -> Vec<u8> {
    let body = message.encode_to_vec();
    [Digest::of(&body).as_bytes().as_slice(), &body].concat()
}

fn decode<M: Message + Default>(bytes: &[u8]) -> Option<M> {
    let (digest, body) = bytes.split_at_checked(32)?;
    (Digest::of(body).as_bytes() == digest).then(|| M::decode(body).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use dunlin_proto::internal::v1::ConfigSnapshot;

    use super::*;

    #[tokio::test]
    async fn what_is_encrypted_shows_nothing_and_opens_with_its_key_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("certificates.sealed");
        let vault = |byte| Arc::new(Vault::new(&[byte; 32]).unwrap());
        let mut kept = Kept::sealed(path.clone(), vault(1));
        let config = ConfigSnapshot { namespaces: vec!["private".to_owned()], ..ConfigSnapshot::default() };
        kept.set(config.clone());
        kept.save().await;
        assert!(!std::fs::read(&path).unwrap().windows(7).any(|part| part == b"private"));
        assert_eq!(Kept::sealed(path.clone(), vault(1)).value, Some(config));
        assert_eq!(Kept::<ConfigSnapshot>::sealed(path, vault(2)).value, None);
    }

    #[tokio::test]
    async fn a_message_is_there_again_unless_it_is_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.snapshot");
        let mut kept = Kept::open(path.clone());
        assert_eq!(kept.value, None);
        let config = ConfigSnapshot { version: 7, namespaces: vec!["shop".to_owned()], ..ConfigSnapshot::default() };
        kept.set(config.clone());
        kept.save().await;
        assert_eq!(Kept::open(path.clone()).value, Some(config));
        let mut bytes = std::fs::read(&path).unwrap();
        for damage in [bytes.len() - 1, 0] {
            bytes[damage] ^= 1;
            std::fs::write(&path, &bytes).unwrap();
            assert_eq!(Kept::<ConfigSnapshot>::open(path.clone()).value, None);
            bytes[damage] ^= 1;
        }
        std::fs::write(&path, &bytes[..20]).unwrap();
        assert_eq!(Kept::<ConfigSnapshot>::open(path).value, None);
    }
}
