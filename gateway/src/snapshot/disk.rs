//! A value that is kept on disk: whole or not at all, readable by this user only, checked when it is read back; encrypted where it
//! holds private keys. It is written beside those who use it, and no more often than the disk bears.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use dunlin_process::{data::write_private, shutdown::Shutdown};
use dunlin_proto::{
    internal::v1::{Certificates, HeldRates, Placements},
    vault::Vault,
};
use prost::Message;
use tokio::{sync::watch, time::Instant};

use crate::checked;

/// For what private keys are encrypted.
const PURPOSE: &str = "gateway certificates";
/// How long a writer rests at least, so that changes that come together are written together.
const REST: Duration = Duration::from_millis(500);
/// How many times as long as it wrote: a tenth of a processor at the most.
const RESTS: u32 = 10;

/// What can be kept.
pub(super) trait Stored: From<Self::Message> + Send + Sync + 'static {
    /// Its form on disk.
    type Message: Message + Default;

    /// Adds it, in that form, to what is written.
    fn write_to(&self, bytes: &mut Vec<u8>);
}

impl Stored for Placements {
    type Message = Self;

    fn write_to(&self, bytes: &mut Vec<u8>) {
        // A vector takes everything.
        let _ = self.encode(bytes);
    }
}

impl Stored for HeldRates {
    type Message = Self;

    fn write_to(&self, bytes: &mut Vec<u8>) {
        // A vector takes everything.
        let _ = self.encode(bytes);
    }
}

impl Stored for Certificates {
    type Message = Self;

    fn write_to(&self, bytes: &mut Vec<u8>) {
        // A vector takes everything.
        let _ = self.encode(bytes);
    }
}

/// A value whose newest state a file follows.
#[derive(Debug)]
pub(super) struct Kept<V> {
    path: PathBuf,
    /// Nothing where it is kept in the clear.
    vault: Option<Arc<Vault>>,
    newest: watch::Sender<Option<Arc<V>>>,
}

impl<V: Stored> Kept<V> {
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
        let value = std::fs::read(&path).ok().and_then(opened).and_then(|bytes| decode::<V>(&bytes));
        if value.is_none() && path.exists() {
            tracing::warn!(path = %path.display(), "ignored a damaged file; the scheduler will send what it held");
        }
        Self { path, vault, newest: watch::Sender::new(value.map(Arc::new)) }
    }

    /// The newest one; nothing where there has been none.
    pub(super) fn value(&self) -> Option<Arc<V>> {
        self.newest.borrow().clone()
    }

    pub(super) fn set(&self, value: V) {
        self.newest.send_replace(Some(Arc::new(value)));
    }

    /// When the file was written or noted.
    pub(super) fn time(&self) -> Option<SystemTime> {
        std::fs::metadata(&self.path).and_then(|known| known.modified()).ok()
    }

    /// Notes in the file that what it holds is still true.
    pub(super) fn note(&self) {
        let path = self.path.clone();
        let noted = || {
            let file = std::fs::File::options().write(true).open(path)?;
            file.set_modified(SystemTime::now())
        };
        // Where that fails, a start without the scheduler takes it for older than it is.
        drop(tokio::task::spawn_blocking(noted));
    }

    /// Whoever writes the file.
    pub(super) fn writer(&self) -> Writer<V> {
        Writer { path: self.path.clone(), vault: self.vault.clone(), newest: self.newest.subscribe() }
    }
}

/// Writes the file of a value.
#[derive(Debug)]
pub(super) struct Writer<V> {
    path: PathBuf,
    vault: Option<Arc<Vault>>,
    newest: watch::Receiver<Option<Arc<V>>>,
}

impl<V: Stored> Writer<V> {
    /// Writes each news until nobody sets the value any more. A disk that refuses is tried again until `shutdown`.
    pub(super) async fn run(mut self, shutdown: Shutdown) {
        let mut failed = false;
        while failed || self.newest.changed().await.is_ok() {
            let began = Instant::now();
            failed = !self.write().await && !shutdown.has_begun();
            tokio::select! {
                () = tokio::time::sleep(REST.max(began.elapsed() * RESTS)) => {}
                () = shutdown.begun() => {}
            }
        }
    }

    /// Writes the newest value; says whether the file has it.
    async fn write(&mut self) -> bool {
        let Some(value) = self.newest.borrow_and_update().clone() else { return true };
        let (path, vault) = (self.path.clone(), self.vault.clone());
        let written = tokio::task::spawn_blocking(move || {
            let bytes = checked::wrapped(|bytes| value.write_to(bytes));
            match vault {
                None => write_private(&path, &bytes),
                Some(vault) => write_private(&path, &vault.seal(PURPOSE, &bytes).map_err(std::io::Error::other)?),
            }
        });
        match written.await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                tracing::warn!(%error, path = %self.path.display(), "cannot write");
                false
            }
            // Only a shutdown of the runtime ends it.
            Err(_) => true,
        }
    }
}

fn decode<V: Stored>(bytes: &[u8]) -> Option<V> {
    checked::unwrapped(bytes).and_then(|body| V::Message::decode(body).ok()).map(V::from)
}

#[cfg(test)]
mod tests {
    use dunlin_proto::internal::v1::{ConfigSnapshot, KeyConfig};

    use super::{super::configuration::Configuration, *};

    fn configuration(version: u64) -> Configuration {
        let key = |id: &str| KeyConfig { id: id.to_owned(), ..KeyConfig::default() };
        let (namespaces, keys) = (vec!["shop".to_owned()], vec![key("a"), key("b")]);
        ConfigSnapshot { version, namespaces, keys, ..ConfigSnapshot::default() }.into()
    }

    async fn written(path: PathBuf, values: impl IntoIterator<Item = Configuration>) {
        let kept = Kept::open(path);
        let writer = kept.writer();
        values.into_iter().for_each(|value| kept.set(value));
        drop(kept);
        writer.run(Shutdown::default()).await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_encrypted_shows_nothing_and_opens_with_its_key_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("certificates.sealed");
        let vault = |byte| Arc::new(Vault::new(&[byte; 32]).unwrap());
        let kept = Kept::sealed(path.clone(), vault(1));
        let writer = kept.writer();
        kept.set(configuration(7));
        drop(kept);
        writer.run(Shutdown::default()).await;
        assert!(!std::fs::read(&path).unwrap().windows(4).any(|part| part == b"shop"));
        assert_eq!(Kept::sealed(path.clone(), vault(1)).value().as_deref(), Some(&configuration(7)));
        assert_eq!(Kept::<Configuration>::sealed(path, vault(2)).value(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_value_is_there_again_unless_it_is_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.snapshot");
        assert_eq!(Kept::<Configuration>::open(path.clone()).value(), None);
        written(path.clone(), [configuration(7), configuration(8)]).await;
        let read = || Kept::<Configuration>::open(path.clone()).value();
        assert_eq!(read().as_deref(), Some(&configuration(8)), "the last one is written though nobody is left");
        let mut bytes = std::fs::read(&path).unwrap();
        for damage in [bytes.len() - 1, 0] {
            bytes[damage] ^= 1;
            std::fs::write(&path, &bytes).unwrap();
            assert_eq!(read(), None);
            bytes[damage] ^= 1;
        }
        std::fs::write(&path, &bytes[..20]).unwrap();
        assert_eq!(read(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_disk_that_refuses_is_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("missing").join("config.snapshot");
        let kept = Kept::open(path.clone());
        let writer = kept.writer();
        kept.set(configuration(7));
        let mut writer = std::pin::pin!(writer.run(Shutdown::default()));
        assert!(tokio::time::timeout(REST * 3, &mut writer).await.is_err());
        std::fs::create_dir(folder.path().join("missing")).unwrap();
        assert!(tokio::time::timeout(REST * 3, &mut writer).await.is_err());
        assert_eq!(Kept::<Configuration>::open(path).value().as_deref(), Some(&configuration(7)));
    }
}
