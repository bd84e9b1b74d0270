//! The versions that this worker holds, made equal to what the scheduler assigned: fetched, checked, mapped, let go.
//!
//! An assignment is whole, so that applying it needs no history: what is new is loaded, what is not named is let go once its
//! invocations are done. A version on standby has its code on disk, checked and not loaded, until somebody calls it; ten
//! thousand of them are normal, so that they cost little memory and no report. What becomes of one version is in
//! `loading.rs`. Looking a version up takes no lock that all invocations share.

mod held;
mod loading;
mod wanted;

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use dunlin_process::{metrics::count::Histogram, shutdown::Shutdown};
use dunlin_proto::{
    ids::VersionKey,
    internal::v1::{AssignedVersion, Assignment, AssignmentDelta, AssignmentVersion, LoadState, VersionLoad},
};
use tokio::{sync::Notify, time::sleep};

use crate::{artifacts::Artifacts, logs::Logs, pool::Capacity, sandbox::Runtime};

pub(crate) use held::{Held, Loading, NotReady};
use loading::Loader;
use wanted::Wanted;

/// How often the code cache is made to fit, where it has grown.
const TIDY: Duration = Duration::from_secs(5);

type HeldVersions = HashMap<VersionKey, Arc<Held>>;

/// What is held, for the scheduler.
#[derive(Debug)]
pub(crate) struct Report {
    /// The assignment that is followed.
    pub(crate) followed: Option<AssignmentVersion>,
    /// What every version does, but for those on standby that nobody calls.
    pub(crate) versions: Vec<VersionLoad>,
    /// How many of those have their code on disk.
    pub(crate) stored: u32,
}

/// What the worker holds. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Holdings(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    logs: Arc<Logs>,
    loader: Arc<Loader>,
    shutdown: Shutdown,
    held: Arc<ArcSwap<HeldVersions>>,
    /// What was assigned and can't be understood, as the scheduler is told.
    rejected: Mutex<Vec<VersionLoad>>,
    followed: Mutex<Option<AssignmentVersion>>,
    drain: AtomicBool,
    /// Something became ready or failed.
    changed: Arc<Notify>,
}

/// What is held, in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Census {
    pub(crate) ready: u64,
    pub(crate) loading: u64,
    /// On disk and not loaded.
    pub(crate) stored: u64,
    pub(crate) failed: u64,
    /// Invocations that have a sandbox.
    pub(crate) running: u64,
    /// Sandboxes that stand ready.
    pub(crate) prepared: u64,
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
        let (held, changed) = (Arc::<ArcSwap<HeldVersions>>::default(), Arc::new(Notify::new()));
        shutdown.spawn(tidy(held.clone(), artifacts.clone(), shutdown.clone()));
        let loader = Arc::new(Loader::new(runtime, artifacts, capacity, changed.clone()));
        let (rejected, followed, drain) = (Mutex::default(), Mutex::default(), AtomicBool::new(false));
        Self(Arc::new(Inner { logs, loader, shutdown, held, rejected, followed, drain, changed }))
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
        self.0.loader.again.notify_waiters();
    }

    /// Waits until a version became ready or failed. Cancel-safe.
    pub(crate) async fn changed(&self) {
        self.0.changed.notified().await;
    }

    /// Begins to make the holdings what a change makes of them; says false, and does nothing, where it is for another
    /// assignment than the one that is followed.
    pub(crate) fn change(&self, delta: &AssignmentDelta) -> bool {
        let mut followed = self.0.followed.lock().unwrap_or_else(PoisonError::into_inner);
        if followed.is_none() || *followed != delta.base {
            return false;
        }
        *followed = delta.version;
        let before = self.0.held.load_full();
        let (mut after, mut rejected) = (HeldVersions::clone(&before), self.rejected().clone());
        let named = delta.versions.iter().filter_map(|version| version.version.as_ref()).chain(&delta.removed);
        for version in named {
            rejected.retain(|load| load.version.as_ref() != Some(version));
            VersionKey::try_from(version).map(|key| after.remove(&key)).ok();
        }
        for version in &delta.versions {
            self.take(version, &before, &mut after, &mut rejected);
        }
        self.0.drain.store(delta.drain, Ordering::Relaxed);
        self.publish(&before, after, rejected);
        true
    }

    /// The assignment that is followed, without what could not be understood.
    pub(crate) fn assignment(&self) -> Assignment {
        let version = *self.0.followed.lock().unwrap_or_else(PoisonError::into_inner);
        let versions = self.0.held.load().values().map(|held| held.assigned()).collect();
        let drain = self.0.drain.load(Ordering::Relaxed);
        Assignment { version, versions, drain, ..Assignment::default() }
    }

    /// What is held and what it does.
    pub(crate) fn report(&self) -> Report {
        let followed = *self.0.followed.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut versions, mut stored) = (Vec::new(), 0);
        for held in self.0.held.load().values() {
            match held.load() {
                Some(load) => versions.push(load),
                None => stored += u32::from(held.is_stored()),
            }
        }
        versions.extend(self.rejected().iter().cloned());
        Report { followed, versions, stored }
    }

    /// What is held, in numbers.
    pub(crate) fn census(&self) -> Census {
        let mut census = Census::default();
        self.0.held.load().values().for_each(|held| held.count(&mut census));
        census
    }

    /// How long it took to load code.
    pub(crate) fn loads(&self) -> &Histogram {
        &self.0.loader.took
    }

    fn replace(&self, assignment: &Assignment) {
        let before = self.0.held.load_full();
        let (mut after, mut rejected) = (HeldVersions::new(), Vec::new());
        for version in &assignment.versions {
            self.take(version, &before, &mut after, &mut rejected);
        }
        self.0.drain.store(assignment.drain, Ordering::Relaxed);
        self.publish(&before, after, rejected);
    }

    /// Adds what a version asks for: what is held already as it is, otherwise something new.
    fn take(
        &self,
        version: &AssignedVersion,
        before: &HeldVersions,
        after: &mut HeldVersions,
        rejected: &mut Vec<VersionLoad>,
    ) {
        let wanted = match Wanted::try_from(version) {
            Ok(wanted) => wanted,
            Err(error) => {
                tracing::error!(?version.version, error = &error as &dyn std::error::Error, "can't hold what makes no sense");
                let (version, state) = (version.version.clone(), LoadState::Failed.into());
                return rejected.push(VersionLoad {
                    version,
                    state,
                    error: error.to_string(),
                    ..VersionLoad::default()
                });
            }
        };
        let held = before.get(&wanted.key).filter(|held| held.is(&wanted)).cloned();
        if let Some(held) = &held {
            held.set_standby(version.standby);
            held.learn(wanted.reuse);
        }
        let held = held.unwrap_or_else(|| self.hold(wanted, version.standby));
        after.insert(held.key(), held);
    }

    fn publish(&self, before: &HeldVersions, after: HeldVersions, rejected: Vec<VersionLoad>) {
        let after = Arc::new(after);
        *self.rejected() = rejected;
        self.0.held.store(after.clone());
        for (key, held) in before {
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
    fn hold(&self, wanted: Wanted, standby: bool) -> Arc<Held> {
        let tenant = self.0.logs.tenant(&wanted.namespace);
        let held = Arc::new(Held::new(wanted, tenant, standby));
        self.0.shutdown.spawn(loading::keep(self.0.loader.clone(), held.clone()));
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

/// Keeps the cache within its bounds: a look at every file, so not after each that comes.
async fn tidy(held: Arc<ArcSwap<HeldVersions>>, artifacts: Arc<Artifacts>, shutdown: Shutdown) {
    while !shutdown.has_begun() {
        if artifacts.has_grown() {
            let assigned: HashSet<String> = held.load().values().map(|held| held.wanted().code.key.clone()).collect();
            let artifacts = artifacts.clone();
            let done = tokio::task::spawn_blocking(move || artifacts.evict(&assigned)).await;
            if let Err(error) = done.map_err(std::io::Error::other).flatten() {
                tracing::warn!(error = &error as &dyn std::error::Error, "could not clear the code cache");
            }
        }
        tokio::select! { () = sleep(TIDY) => {}, () = shutdown.begun() => {} }
    }
}
