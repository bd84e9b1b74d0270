//! The bytes of artifacts and compiled code, named by digest, in a folder or an S3-compatible store. What is there is whole:
//! bytes are checked on the way in and again on the way out. Who may see which artifact is the database's to say.

use std::{
    io::{Seek, SeekFrom},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, bail};
use aws_lc_rs::digest::{Context as Hash, SHA256};
use bytes::Bytes;
use dunlin_process::data::DataDir;
use dunlin_proto::{ApiError, ErrorCode, MAX_ARTIFACT_BYTES, MAX_CHUNK_BYTES, ids::Digest};
use futures::{StreamExt, TryStreamExt};
use object_store::{
    ObjectMeta, ObjectStore, ObjectStoreExt, RetryConfig, WriteMultipart, aws::AmazonS3Builder, local::LocalFileSystem,
    path::Path as Key,
};
use tokio::{
    fs::File,
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{RwLock, RwLockReadGuard, RwLockWriteGuard, Semaphore, SemaphorePermit},
};

use crate::{
    error::Error,
    model::{Code, Time},
};

/// Uploads that are received at once; others wait for them.
const UPLOADS: usize = 16;

/// Size of the parts in which large objects are written.
const PART: usize = 8 << 20;

/// Where artifacts and compiled code are.
#[derive(Debug)]
pub(crate) struct Artifacts {
    objects: Arc<dyn ObjectStore>,
    prefix: Key,
    /// What is not whole yet; emptied at each start.
    unfinished: PathBuf,
    uploads: Semaphore,
    /// Keeps deletions away from what is written and not yet known to the database.
    deletions: RwLock<()>,
}

/// What an object is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Held {
    /// An artifact, by its digest.
    Artifact(Digest),
    /// Compiled code, by its key.
    Code(String),
}

/// An object as it was found.
#[derive(Debug)]
pub(crate) struct Object {
    pub(crate) what: Held,
    pub(crate) key: Key,
    /// Its size in bytes.
    pub(crate) size: u64,
    /// When it was last written.
    pub(crate) written: Time,
}

impl Artifacts {
    /// Opens the store at `place`, a folder or `s3://bucket/prefix`; a folder of the data folder where there is none.
    pub(crate) fn open(place: Option<&str>, data: &DataDir) -> anyhow::Result<Self> {
        let unfinished = data.folder("unfinished")?;
        for left in std::fs::read_dir(&unfinished).context("read what an earlier run left unfinished")? {
            let left = left.context("read what an earlier run left unfinished")?.path();
            let removed = if left.is_dir() { std::fs::remove_dir_all(&left) } else { std::fs::remove_file(&left) };
            removed.with_context(|| format!("remove {}", left.display()))?;
        }
        let (objects, prefix) = match place {
            Some(url) if url.starts_with("s3://") => open_s3(url)?,
            Some(url) if url.contains("://") => bail!("--artifacts must be a folder or s3://bucket/prefix, not {url}"),
            Some(folder) => open_folder(Path::new(folder))?,
            None => open_folder(&data.folder("objects")?)?,
        };
        Ok(Self { objects, prefix, unfinished, uploads: Semaphore::new(UPLOADS), deletions: RwLock::new(()) })
    }

    /// A folder for one piece of work, removed with the value.
    pub(crate) fn workplace(&self) -> Result<tempfile::TempDir, Error> {
        Ok(tempfile::tempdir_in(&self.unfinished)?)
    }

    /// Begins to receive an artifact.
    pub(crate) async fn upload(&self, digest: Digest, size: u64) -> Result<Upload<'_>, Error> {
        check_size(size)?;
        let Ok(permit) = self.uploads.acquire().await else { return Err(ApiError::internal().into()) };
        let path = tempfile::NamedTempFile::new_in(&self.unfinished)?.into_temp_path();
        let file = File::create(&path).await?;
        Ok(Upload { file, path, hash: Hash::new(&SHA256), received: 0, digest, size, _permit: permit })
    }

    /// As long as this is held, nothing is deleted: whoever writes an object holds it until the database knows of it.
    pub(crate) async fn hold(&self) -> RwLockReadGuard<'_, ()> {
        self.deletions.read().await
    }

    /// As long as this is held, nobody has written an object that the database does not know yet.
    pub(crate) async fn alone(&self) -> RwLockWriteGuard<'_, ()> {
        self.deletions.write().await
    }

    /// All artifacts and all compiled code. What has another name than these have is not ours.
    pub(crate) async fn list(&self) -> Result<Vec<Object>, Error> {
        let mut found = Vec::new();
        let artifact =
            |name: &str| name.parse().ok().filter(|digest: &Digest| digest.hex() == name).map(Held::Artifact);
        self.list_folder("artifacts", artifact, &mut found).await?;
        self.list_folder("code", |name| Some(Held::Code(name.to_owned())), &mut found).await?;
        Ok(found)
    }

    async fn list_folder(
        &self,
        folder: &str,
        what: impl Fn(&str) -> Option<Held>,
        found: &mut Vec<Object>,
    ) -> Result<(), Error> {
        let prefix = self.prefix.clone().join(folder);
        let mut objects = self.objects.list(Some(&prefix));
        while let Some(meta) = objects.next().await {
            let meta = meta?;
            if let Some(what) = meta.location.filename().and_then(&what) {
                found.push(Object { what, written: written(&meta), size: meta.size, key: meta.location });
            }
        }
        Ok(())
    }

    /// Deletes an object that has not been written since it was found; says whether it did.
    pub(crate) async fn delete_unchanged(&self, object: &Object) -> Result<bool, Error> {
        match self.objects.head(&object.key).await {
            Ok(meta) if written(&meta) != object.written => return Ok(false),
            Err(object_store::Error::NotFound { .. }) => return Ok(false),
            found => found.map(drop)?,
        }
        self.objects.delete(&object.key).await?;
        Ok(true)
    }

    fn artifact_key(&self, digest: &Digest) -> Key {
        self.prefix.clone().join("artifacts").join(digest.hex())
    }

    fn code_key(&self, key: &str) -> Key {
        self.prefix.clone().join("code").join(key)
    }

    /// Copies an artifact into a file, and checks that it is what its digest says.
    pub(crate) async fn artifact_copy(&self, digest: &Digest, to: &Path) -> Result<(), Error> {
        let mut file = File::create(to).await?;
        let found = self.copy(&self.artifact_key(digest), &mut file, MAX_ARTIFACT_BYTES).await?;
        if found == Some(*digest) { Ok(()) } else { Err(Error::Lost(digest.to_string())) }
    }

    /// Stores compiled code from a file.
    pub(crate) async fn code_put(&self, key: &str, file: &Path) -> Result<(), Error> {
        self.put(&self.code_key(key), file).await
    }

    /// Compiled code as a file without a name, checked against its seal's digest before the first byte leaves.
    pub(crate) async fn code_open(&self, code: &Code) -> Result<File, Error> {
        let mut file = File::from_std(tempfile::tempfile_in(&self.unfinished)?);
        let found = self.copy(&self.code_key(&code.key), &mut file, code.size).await?;
        if found != Some(code.body) {
            return Err(Error::Lost(code.key.clone()));
        }
        let mut file = file.into_std().await;
        file.seek(SeekFrom::Start(0))?;
        Ok(File::from_std(file))
    }

    /// Whether the code is there in its full size; whether it is undamaged shows when it is read.
    pub(crate) async fn code_is_there(&self, code: &Code) -> Result<bool, Error> {
        match self.objects.head(&self.code_key(&code.key)).await {
            Ok(found) => Ok(found.size == code.size),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Copies an object, and says its digest; nothing where there is none or it is larger than `most` bytes.
    async fn copy(&self, key: &Key, to: &mut File, most: u64) -> Result<Option<Digest>, Error> {
        let mut chunks = match self.objects.get(key).await {
            Ok(found) if found.meta.size <= most => found.into_stream(),
            Ok(_) | Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut hash = Hash::new(&SHA256);
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk?;
            hash.update(&chunk);
            to.write_all(&chunk).await?;
        }
        to.flush().await?;
        Ok(Some(finish_hash(hash)))
    }

    /// Stores a file whole or not at all.
    async fn put(&self, key: &Key, path: &Path) -> Result<(), Error> {
        let mut file = File::open(path).await?;
        let size = file.metadata().await?.len();
        if size <= PART as u64 {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).await?;
            self.objects.put(key, bytes.into()).await?;
            return Ok(());
        }
        let mut parts = WriteMultipart::new_with_chunk_size(self.objects.put_multipart(key).await?, PART);
        let mut chunks = tokio_util::io::ReaderStream::with_capacity(file, 1 << 20);
        while let Some(chunk) = chunks.try_next().await.transpose() {
            let written = match chunk {
                Ok(chunk) => parts.wait_for_capacity(2).await.map(|()| parts.put(chunk)).map_err(Error::from),
                Err(error) => Err(error.into()),
            };
            if let Err(error) = written {
                parts.abort().await?;
                return Err(error);
            }
        }
        parts.finish().await?;
        Ok(())
    }
}

/// An artifact that is being received. Dropped before its end, it leaves nothing.
pub(crate) struct Upload<'a> {
    file: File,
    path: tempfile::TempPath,
    hash: Hash,
    received: u64,
    digest: Digest,
    size: u64,
    _permit: SemaphorePermit<'a>,
}

impl Upload<'_> {
    /// The next bytes.
    pub(crate) async fn write(&mut self, chunk: &Bytes) -> Result<(), Error> {
        if chunk.len() > MAX_CHUNK_BYTES {
            let message = format!("a chunk has {} bytes but may have {MAX_CHUNK_BYTES} at most", chunk.len());
            return Err(ApiError::invalid("chunk", message).into());
        }
        self.received = self.received.saturating_add(chunk.len() as u64);
        if self.received > self.size {
            let message = format!("the upload has more than the {} bytes that its start announced", self.size);
            return Err(ApiError::invalid("chunk", message).into());
        }
        self.hash.update(chunk);
        Ok(self.file.write_all(chunk).await?)
    }

    /// Checks the whole, and stores it.
    pub(crate) async fn finish(mut self, artifacts: &Artifacts) -> Result<(), Error> {
        if self.received < self.size {
            let message = format!("the upload ended after {} of {} bytes", self.received, self.size);
            return Err(ApiError::invalid("chunk", message).into());
        }
        let found = finish_hash(self.hash);
        if found != self.digest {
            let message = format!("the upload has digest {found}, but its start announced {}", self.digest);
            return Err(ApiError::invalid("start.digest", message).into());
        }
        self.file.flush().await?;
        artifacts.put(&artifacts.artifact_key(&self.digest), &self.path).await
    }
}

fn written(meta: &ObjectMeta) -> Time {
    Time(meta.last_modified.timestamp_micros())
}

fn check_size(size: u64) -> Result<(), ApiError> {
    if size == 0 {
        return Err(ApiError::invalid("start.size_bytes", "an artifact can't be empty"));
    }
    if size > MAX_ARTIFACT_BYTES {
        let message = format!("the artifact has {size} bytes but may have {MAX_ARTIFACT_BYTES} (64 MiB) at most");
        let hint = "build it in release mode, and strip its debug information, as with: wasm-tools strip";
        return Err(ApiError::new(ErrorCode::PayloadTooLarge, message).hint(hint));
    }
    Ok(())
}

fn finish_hash(hash: Hash) -> Digest {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(hash.finish().as_ref());
    Digest::from_bytes(bytes)
}

fn open_folder(folder: &Path) -> anyhow::Result<(Arc<dyn ObjectStore>, Key)> {
    let name = folder.display();
    std::fs::create_dir_all(folder).with_context(|| format!("make artifact folder {name}"))?;
    let objects = LocalFileSystem::new_with_prefix(folder).with_context(|| format!("open artifact folder {name}"))?;
    // What is acknowledged must outlive the power.
    Ok((Arc::new(objects.with_fsync(true)), Key::default()))
}

fn open_s3(url: &str) -> anyhow::Result<(Arc<dyn ObjectStore>, Key)> {
    let (bucket, prefix) =
        url.trim_start_matches("s3://").split_once('/').unwrap_or((url.trim_start_matches("s3://"), ""));
    let retry = RetryConfig { retry_timeout: Duration::from_secs(20), ..RetryConfig::default() };
    let objects = AmazonS3Builder::from_env().with_bucket_name(bucket).with_retry(retry).build();
    let prefix = Key::parse(prefix.trim_matches('/')).with_context(|| format!("read the prefix of {url}"))?;
    Ok((Arc::new(objects.with_context(|| format!("open artifact store {url}"))?), prefix))
}

#[cfg(test)]
mod tests;
