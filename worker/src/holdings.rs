//! The versions that this worker holds, made equal to what the scheduler assigned: fetched, checked, mapped, let go.
//!
//! An assignment is whole, so that applying it needs no history: what is new is loaded, what is not named is let go once its
//! invocations are done. Every held version has one task, which loads it (trying again for ever) and then keeps its pool.
//! Looking a version up takes no lock that all invocations share.

mod held;
mod wanted;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use dunlin_process::shutdown::Shutdown;
use dunlin_proto::{
    ids::VersionKey,
    internal::v1::{Assignment, AssignmentVersion, LoadState, VersionLoad},
};
use tokio::{
    sync::{Notify, Semaphore},
    time::timeout,
};

use crate::{
    artifacts::{ArtifactError, Artifacts},
    logs::Logs,
    pool::{Capacity, Pool},
    sandbox::{Runtime, SandboxError},
};

use held::Status;
pub(crate) use held::{Held, NotReady};
use wanted::Wanted;

/// Versions that are fetched and mapped at a time.
const LOADS: usize = 4;
/// Time before a version is tried again; doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

type HeldVersions = HashMap<VersionKey, Arc<Held>>;

/// Why a version can't run here; it is tried again.
#[derive(Debug, thiserror::Error)]
enum LoadError {
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    #[error("load compiled code")]
    Task(#[from] tokio::task::JoinError),
}

/// What the worker holds. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Holdings(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    runtime: Arc<Runtime>,
    artifacts: Arc<Artifacts>,
    logs: Arc<Logs>,
    capacity: Arc<Capacity>,
    shutdown: Shutdown,
    held: ArcSwap<HeldVersions>,
    /// What was assigned and can't be understood, as the scheduler is told.
    rejected: Mutex<Vec<VersionLoad>>,
    followed: Mutex<Option<AssignmentVersion>>,
    loads: Semaphore,
    /// Something became ready or failed.
    changed: Notify,
    /// What failed may go better now.
    again: Notify,
}

impl Holdings {
    /// Holds nothing yet.
    pub(crate) fn new(
        runtime: Arc<Runtime>,
        artifacts: Arc<Artifacts>,
        logs: Arc<Logs>,
        capacity: Arc<Capacity>,
        shutdown: Shutdown,
    ) -> Self {
        Self(Arc::new(Inner {
            runtime,
            artifacts,
            logs,
            capacity,
            shutdown,
            held: ArcSwap::default(),
            rejected: Mutex::default(),
            followed: Mutex::default(),
            loads: Semaphore::new(LOADS),
            changed: Notify::new(),
            again: Notify::new(),
        }))
    }

    /// A version, if it is held.
    pub(crate) fn find(&self, version: &VersionKey) -> Option<Arc<Held>> {
        self.0.held.load().get(version).cloned()
    }

    /// Begins to make the holdings equal the assignment; says false, and does nothing, where a later one was applied before.
    pub(crate) fn apply(&self, assignment: &Assignment) -> bool {
        let mut followed = self.0.followed.lock().unwrap_or_else(PoisonError::into_inner);
        let offered = assignment.version.unwrap_or_default();
        if followed.is_some_and(|followed| order(followed) >= order(offered)) {
            return false;
        }
        *followed = Some(offered);
        self.replace(assignment);
        true
    }

    /// Lets go of everything; the next assignment is followed whatever its number.
    pub(crate) fn forget(&self) {
        let mut followed = self.0.followed.lock().unwrap_or_else(PoisonError::into_inner);
        *followed = None;
        self.replace(&Assignment::default());
    }

    /// Tries what failed again at once.
    pub(crate) fn try_again(&self) {
        self.0.again.notify_waiters();
    }

    /// Waits until a version became ready or failed. Cancel-safe.
    pub(crate) async fn changed(&self) {
        self.0.changed.notified().await;
    }

    /// The assignment that is followed, and what every version does.
    pub(crate) fn report(&self) -> (Option<AssignmentVersion>, Vec<VersionLoad>) {
        let followed = *self.0.followed.lock().unwrap_or_else(PoisonError::into_inner);
        let mut loads: Vec<VersionLoad> = self.0.held.load().values().map(|held| held.load()).collect();
        loads.extend(self.rejected().iter().cloned());
        (followed, loads)
    }

    fn replace(&self, assignment: &Assignment) {
        let before = self.0.held.load_full();
        let (mut after, mut rejected) = (HeldVersions::new(), Vec::new());
        for version in &assignment.versions {
            let wanted = match Wanted::try_from(version) {
                Ok(wanted) => wanted,
                Err(error) => {
                    tracing::error!(?version.version, error = &error as &dyn std::error::Error, "can't hold what makes no sense");
                    let (version, state) = (version.version.clone(), LoadState::Failed.into());
                    rejected.push(VersionLoad { version, state, error: error.to_string(), ..VersionLoad::default() });
                    continue;
                }
            };
            let held = before.get(&wanted.key).filter(|held| held.is(&wanted)).cloned();
            let held = held.unwrap_or_else(|| self.hold(wanted));
            held.set_standby(version.standby);
            after.insert(held.key(), held);
        }
        let after = Arc::new(after);
        *self.rejected() = rejected;
        self.0.held.store(after.clone());
        for (key, held) in before.iter() {
            if !after.get(key).is_some_and(|kept| Arc::ptr_eq(kept, held)) {
                held.let_go();
            }
        }
        self.0.changed.notify_one();
    }

    fn rejected(&self) -> std::sync::MutexGuard<'_, Vec<VersionLoad>> {
        self.0.rejected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to hold a version.
    fn hold(&self, wanted: Wanted) -> Arc<Held> {
        let tenant = self.0.logs.tenant(&wanted.namespace);
        let held = Arc::new(Held::new(wanted, tenant));
        let (inner, kept) = (self.0.clone(), held.clone());
        self.0.shutdown.spawn(async move {
            let loaded = tokio::select! { pool = inner.load(&kept) => Some(pool), () = kept.gone() => None };
            if let Some(pool) = loaded {
                pool.keep(kept.gone_token()).await;
            }
        });
        held
    }

    /// Lets go of everything for good, at the end of the process.
    pub(crate) fn close(&self) {
        self.0.held.load().values().for_each(|held| held.let_go());
    }
}

/// A later epoch wins, then a later sequence.
fn order(version: AssignmentVersion) -> (u64, u64) {
    (version.epoch, version.sequence)
}

impl Inner {
    /// Loads a version, however often it has to be tried.
    async fn load(&self, held: &Held) -> Pool {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.try_load(held).await {
                Ok(pool) => {
                    tracing::info!(version = %held.key(), function = %held.name(), "ready");
                    held.set(Status::Ready(pool.clone()));
                    self.changed.notify_one();
                    self.evict().await;
                    return pool;
                }
                Err(error) => self.failed(held, &error),
            }
            let jitter = rand::random_range(0.5..1.0);
            // Either way it is tried again.
            let _ = timeout(pause.mul_f64(jitter), self.again.notified()).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn try_load(&self, held: &Held) -> Result<Pool, LoadError> {
        let _turn = self.loads.acquire().await;
        let wanted = held.wanted();
        let path = self.artifacts.obtain(&wanted.code).await?;
        let (runtime, kind, policy) = (self.runtime.clone(), wanted.kind, wanted.policy.clone());
        let program = tokio::task::spawn_blocking(move || runtime.load(&path, kind, policy)).await??;
        Ok(Pool::new(program, wanted.scaling, held.is_standby(), self.capacity.clone()))
    }

    /// Says what went wrong, here once and to the scheduler with every report.
    fn failed(&self, held: &Held, error: &LoadError) {
        let reason = chain(error);
        if held.set(Status::Failed(reason.clone())) {
            tracing::warn!(version = %held.key(), function = %held.name(), reason, "can't run; trying again");
            self.changed.notify_one();
        }
    }

    /// Keeps the cache within its bounds.
    async fn evict(&self) {
        let held = self.held.load_full();
        let assigned: HashSet<String> = held.values().map(|held| held.wanted().code.key.clone()).collect();
        let artifacts = self.artifacts.clone();
        let done = tokio::task::spawn_blocking(move || artifacts.evict(&assigned)).await;
        if let Err(error) = done.map_err(std::io::Error::other).flatten() {
            tracing::warn!(error = &error as &dyn std::error::Error, "could not clear the code cache");
        }
    }
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let words = next.to_string();
        if !text.ends_with(&words) {
            text = format!("{text}: {words}");
        }
        cause = next.source();
    }
    text
}
