//! The worker's private cache of compiled code: one file a key, fetched from the scheduler or, where that can't give it, from
//! another worker; trusted only when sealed.
//!
//! Native code runs with the worker's rights, so nothing here is believed (threat T23): the seal must be signed by the
//! cluster, the bytes must be those that were sealed, and the file must be our own plain one. Bytes are read once when they
//! enter the cache and once a process; afterwards the file only has to be the same one. Mapping it is `sandbox`'s business.

mod fetch;
mod inspect;
mod peers;
mod serve;

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use arc_swap::ArcSwap;
use dunlin_process::metrics::count::{CALLS, Counters, Histogram};
use dunlin_proto::{
    ids::{Digest, VersionKey},
    internal::v1::{CompiledCode, WorkerPeer, artifact_service_client::ArtifactServiceClient},
    metadata::AttachSecret,
    seal,
};
use tokio::time::Instant;
use tonic::{service::interceptor::InterceptedService, transport::Channel};

use inspect::{Inspection, Trusted};
pub(crate) use peers::Peers;
pub(crate) use serve::CodeService;

/// A client of the scheduler's artifacts.
pub(crate) type CodeClient = ArtifactServiceClient<InterceptedService<Channel, AttachSecret>>;

/// The largest compiled code that is fetched, in bytes: far above what 64 MiB of WebAssembly compile to.
const MAX_CODE_BYTES: u64 = 1 << 30;

/// Why compiled code can't be had. All of it is tried again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArtifactError {
    /// Compiled for other workers than this.
    #[error("the code is for engine {theirs}, but this worker has engine {ours}; the scheduler must compile it anew")]
    Fingerprint { theirs: String, ours: String },
    /// What is said about it makes no sense.
    #[error("the code's description is wrong: {0}")]
    Description(&'static str),
    /// Not sealed, or not by this cluster.
    #[error(transparent)]
    Seal(#[from] seal::SealError),
    /// The scheduler can't or won't give it.
    #[error("fetch compiled code: {}", .0.message())]
    Fetch(#[source] Box<tonic::Status>),
    /// The scheduler went silent.
    #[error("no compiled code came for {0:?}")]
    Silent(std::time::Duration),
    /// The cache's folder is in trouble.
    #[error("use the code cache")]
    Disk(#[from] io::Error),
}

/// The cache.
#[derive(Debug)]
pub(crate) struct Artifacts {
    folder: PathBuf,
    max_bytes: u64,
    fingerprint: String,
    client: CodeClient,
    peers: Peers,
    /// A file has come since the cache was last made to fit.
    grown: AtomicBool,
    /// Public keys of those who may seal code.
    keys: ArcSwap<Vec<Vec<u8>>>,
    entries: Mutex<HashMap<String, Entry>>,
    /// In the order of [`LOOKS`].
    looks: Counters<{ LOOKS.len() }>,
    fetches: Histogram,
}

/// What a look into the cache finds: code, nothing, or what must not be trusted.
const LOOKS: [&str; 3] = ["hit", "miss", "rejected"];

/// What this process knows of a file.
#[derive(Debug, Clone)]
struct Entry {
    /// Held while the file is fetched or read, so that nobody does it twice at a time; holds why the file is trusted.
    flight: Arc<tokio::sync::Mutex<Option<Trusted>>>,
    used: SystemTime,
}

impl Artifacts {
    /// Opens the cache and removes what can't be of it.
    ///
    /// # Errors
    /// The folder can't be read.
    pub(crate) fn open(
        folder: PathBuf,
        max_bytes: u64,
        fingerprint: &str,
        client: CodeClient,
        peers: Peers,
    ) -> io::Result<Self> {
        for file in fs::read_dir(&folder)? {
            let path = file?.path();
            if !path.file_name().and_then(|name| name.to_str()).is_some_and(is_key) {
                tracing::info!(path = %path.display(), "removing what is no compiled code");
                remove(&path)?;
            }
        }
        let fingerprint = fingerprint.to_owned();
        // What an earlier process left may be too much already.
        let (grown, keys, entries) = (AtomicBool::new(true), ArcSwap::default(), Mutex::default());
        let (looks, fetches) = (Counters::default(), Histogram::new(CALLS));
        Ok(Self { folder, max_bytes, fingerprint, client, peers, grown, keys, entries, looks, fetches })
    }

    /// From now on these keys, and no others, seal code.
    pub(crate) fn set_keys(&self, keys: Vec<Vec<u8>>) {
        self.keys.store(Arc::new(keys));
    }

    /// From now on these workers may have code that the scheduler can't give; nothing says that they are the same.
    pub(crate) fn set_peers(&self, peers: Option<&[WorkerPeer]>) {
        if let Some(peers) = peers {
            self.peers.replace(peers);
        }
    }

    /// The workers that may have code.
    pub(crate) fn peers(&self) -> Vec<WorkerPeer> {
        self.peers.all()
    }

    /// Whether a file has come since this was last asked.
    pub(crate) fn has_grown(&self) -> bool {
        self.grown.swap(false, Ordering::Relaxed)
    }

    /// Brings the code of a version into the cache where it is missing or wrong, and returns the file to map.
    ///
    /// # Errors
    /// The code is not for this worker, not sealed, or not to be had.
    pub(crate) async fn obtain(&self, version: &VersionKey, code: &CompiledCode) -> Result<PathBuf, ArtifactError> {
        self.check_description(code)?;
        let flight = self.entry(&code.key);
        let mut trusted = flight.lock().await;
        let path = self.folder.join(&code.key);
        *trusted = match self.inspect(&path, code, trusted.take()).await? {
            Inspection::Trusted(file) => {
                self.looks.add(0, 1);
                Some(file)
            }
            Inspection::Absent => {
                self.looks.add(1, 1);
                Some(self.fetch(&path, version, code).await?)
            }
            Inspection::Rejected(reason) => {
                self.looks.add(2, 1);
                tracing::warn!(key = %code.key, reason, "compiled code in the cache is not what it should be; fetching it again");
                remove(&path)?;
                Some(self.fetch(&path, version, code).await?)
            }
        };
        Ok(path)
    }

    /// How often code was looked for, by what was found.
    pub(crate) fn counted(&self) -> impl Iterator<Item = (&'static str, u64)> {
        LOOKS.iter().enumerate().map(|(index, name)| (*name, self.looks.get(index)))
    }

    /// How long it took to fetch code.
    pub(crate) fn fetches(&self) -> &Histogram {
        &self.fetches
    }

    /// Removes what was not used for longest until the rest fits, but nothing that is `assigned`.
    ///
    /// # Errors
    /// The folder can't be read.
    pub(crate) fn evict(&self, assigned: &HashSet<String>) -> io::Result<()> {
        let mut files = self.files()?;
        let mut total: u64 = files.iter().map(|file| file.bytes).sum();
        files.retain(|file| !assigned.contains(&file.key));
        files.sort_by_key(|file| file.used);
        for file in files {
            if total <= self.max_bytes {
                break;
            }
            remove(&self.folder.join(&file.key))?;
            self.lock().remove(&file.key);
            total -= file.bytes;
        }
        Ok(())
    }

    /// Checks what the scheduler says of the code, before any byte of it is touched.
    fn check_description(&self, code: &CompiledCode) -> Result<(), ArtifactError> {
        if code.fingerprint != self.fingerprint {
            let (theirs, ours) = (code.fingerprint.clone(), self.fingerprint.clone());
            return Err(ArtifactError::Fingerprint { theirs, ours });
        }
        let artifact: Digest =
            code.artifact.parse().map_err(|_| ArtifactError::Description("artifact is no digest"))?;
        if seal::code_key(&artifact, &code.fingerprint) != code.key {
            return Err(ArtifactError::Description("its key is not that of its artifact and engine"));
        }
        if code.size_bytes > MAX_CODE_BYTES {
            return Err(ArtifactError::Description("it is larger than any compiled code may be"));
        }
        Ok(seal::verify_signature(code, &self.keys.load())?)
    }

    async fn inspect(
        &self,
        path: &Path,
        code: &CompiledCode,
        known: Option<Trusted>,
    ) -> Result<Inspection, ArtifactError> {
        let (path, code) = (path.to_owned(), code.clone());
        let work = tokio::task::spawn_blocking(move || inspect::inspect(&path, &code, known));
        Ok(work.await.map_err(io::Error::other)??)
    }

    /// Fetches from the scheduler, and where it is away or has lost the code, from the workers that hold the version.
    async fn fetch(&self, path: &Path, version: &VersionKey, code: &CompiledCode) -> Result<Trusted, ArtifactError> {
        let began = Instant::now();
        let fetched = self.fetch_anywhere(path, version, code).await?;
        self.fetches.observe(began.elapsed());
        Ok(fetched)
    }

    async fn fetch_anywhere(
        &self,
        path: &Path,
        version: &VersionKey,
        code: &CompiledCode,
    ) -> Result<Trusted, ArtifactError> {
        self.grown.store(true, Ordering::Relaxed);
        let first = fetch::fetch(self.client.clone(), &self.folder, path, code).await;
        let Err(error) = first else { return first };
        if matches!(error, ArtifactError::Disk(_)) {
            return Err(error);
        }
        for (worker, client) in self.peers.holders(version) {
            match fetch::fetch(client, &self.folder, path, code).await {
                Ok(file) => {
                    tracing::info!(key = %code.key, worker, cause = %error, "fetched code from another worker");
                    return Ok(file);
                }
                Err(error) => tracing::debug!(key = %code.key, worker, %error, "another worker has no code either"),
            }
        }
        Err(error)
    }

    fn entry(&self, key: &str) -> Arc<tokio::sync::Mutex<Option<Trusted>>> {
        let mut entries = self.lock();
        let new = || Entry { flight: Arc::default(), used: SystemTime::UNIX_EPOCH };
        let entry = entries.entry(key.to_owned()).or_insert_with(new);
        entry.used = SystemTime::now();
        entry.flight.clone()
    }

    fn files(&self) -> io::Result<Vec<CachedFile>> {
        let entries = self.lock();
        let mut files = Vec::new();
        for file in fs::read_dir(&self.folder)? {
            let file = file?;
            let Some(key) = file.file_name().to_str().filter(|name| is_key(name)).map(str::to_owned) else { continue };
            // Somebody else may be removing it.
            let Ok(metadata) = file.metadata() else { continue };
            let used = entries.get(&key).map(|entry| entry.used);
            let used = used.unwrap_or_else(|| metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH));
            files.push(CachedFile { key, bytes: metadata.len(), used });
        }
        Ok(files)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A file of the cache.
#[derive(Debug)]
struct CachedFile {
    key: String,
    bytes: u64,
    used: SystemTime,
}

/// Whether it is a name that compiled code can have; nothing else is ever joined to the folder's path.
fn is_key(name: &str) -> bool {
    name.len() == 64 && name.parse::<Digest>().is_ok()
}

/// Removes whatever is at `path`; of a link the link.
fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    removed.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

#[cfg(test)]
mod tests;
