//! What becomes of one held version: fetched and checked, loaded where it is wanted, kept, and unloaded when it is on standby
//! and nobody calls. Everything that fails is tried again.

use std::{convert::Infallible, sync::Arc, time::Duration};

use dunlin_process::metrics::count::{CALLS, Histogram};
use dunlin_proto::ApiError;
use tokio::{
    sync::{Notify, Semaphore},
    time::{Instant, timeout},
};

use super::held::{Held, Loading, Status};
use crate::{
    artifacts::{ArtifactError, Artifacts},
    pool::{Capacity, Over, Pool},
    sandbox::{Runtime, SandboxError},
};

/// Versions that are fetched for standby at a time; the first of those that are wanted now never wait for them.
const STORES: usize = 4;
/// Versions that are loaded at a time.
const LOADS: usize = 8;
/// Time before a version is tried again; doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Why a version can't run here; it is tried again.
#[derive(Debug, thiserror::Error)]
enum LoadError {
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    #[error(transparent)]
    Policy(#[from] ApiError),
    #[error("load compiled code")]
    Task(#[from] tokio::task::JoinError),
}

/// What loading takes.
#[derive(Debug)]
pub(super) struct Loader {
    runtime: Arc<Runtime>,
    artifacts: Arc<Artifacts>,
    capacity: Arc<Capacity>,
    stores: Semaphore,
    loads: Semaphore,
    /// Told when something became ready or failed.
    changed: Arc<Notify>,
    /// What failed may go better now.
    pub(super) again: Notify,
    /// How long it took to load code that was on disk.
    pub(super) took: Histogram,
}

/// Keeps a version until it is let go.
pub(super) async fn keep(loader: Arc<Loader>, held: Arc<Held>) {
    loop {
        let pool = tokio::select! { pool = loader.ready(&held) => pool, () = held.gone() => return };
        let trial = Box::pin(tried(&loader, &held, &pool));
        let over = tokio::select! { over = Box::pin(pool.clone().keep(held.gone_token())) => over, never = trial => match never {} };
        if over == Over::Gone {
            return;
        }
        held.rest();
        tracing::debug!(version = %held.key(), function = %held.name(), "unloaded");
        loader.changed.notify_one();
    }
}

/// Finds out beside all else whether sandboxes can be used again, and tells the scheduler.
async fn tried(loader: &Loader, held: &Held, pool: &Pool) -> Infallible {
    if pool.try_reuse().await {
        let refusal = held.reuse().and_then(|reuse| reuse.verdict().map(str::to_owned));
        tracing::info!(version = %held.key(), function = %held.name(), refusal, "tried whether its sandboxes can be used again");
        loader.changed.notify_one();
    }
    std::future::pending().await
}

impl Loader {
    pub(super) fn new(
        runtime: Arc<Runtime>,
        artifacts: Arc<Artifacts>,
        capacity: Arc<Capacity>,
        changed: Arc<Notify>,
    ) -> Self {
        let (stores, loads) = (Semaphore::new(STORES), Semaphore::new(LOADS));
        Self { runtime, artifacts, capacity, stores, loads, changed, again: Notify::new(), took: Histogram::new(CALLS) }
    }

    /// Waits until the version is wanted, with its code on disk, and loads it. What is large is on the heap only while it
    /// is needed: most versions do nothing but wait.
    async fn ready(&self, held: &Held) -> Pool {
        if !held.is_wanted() {
            tokio::select! { () = self.stored(held) => {}, () = held.wanted_now() => {} }
        }
        held.wanted_now().await;
        Box::pin(self.loaded(held)).await
    }

    /// Tries until the code is on disk, when it is its turn.
    async fn stored(&self, held: &Held) {
        let mut pause = FIRST_PAUSE;
        loop {
            let turn = self.stores.acquire().await;
            let Err(error) = Box::pin(self.store(held)).await else { return };
            drop(turn);
            Box::pin(self.failed(held, &error, &mut pause)).await;
        }
    }

    /// Tries until the version is loaded.
    async fn loaded(&self, held: &Held) -> Pool {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.load(held).await {
                Ok(pool) => return pool,
                Err(error) => self.failed(held, &error, &mut pause).await,
            }
        }
    }

    /// Brings the code to the disk.
    async fn store(&self, held: &Held) -> Result<(), LoadError> {
        self.artifacts.obtain(&held.key(), &held.wanted().code).await?;
        held.set(Status::Stored);
        Ok(())
    }

    async fn load(&self, held: &Held) -> Result<Pool, LoadError> {
        let _turn = self.loads.acquire().await;
        let wanted = held.wanted();
        let began = Instant::now();
        let path = self.artifacts.obtain(&wanted.key, &wanted.code).await?;
        let fetch = began.elapsed();
        let (runtime, kind, policy) = (self.runtime.clone(), wanted.kind, wanted.policy()?);
        let began = Instant::now();
        let program = tokio::task::spawn_blocking(move || runtime.load(&path, kind, policy)).await??;
        self.took.observe(began.elapsed());
        held.took(Loading { fetch, load: began.elapsed() });
        let pool = Pool::new(
            program,
            wanted.scaling,
            held.reuse(),
            held.is_standby(),
            &wanted.namespace,
            self.capacity.clone(),
        );
        held.set(Status::Ready(pool.clone()));
        if !held.is_standby() {
            tracing::info!(version = %held.key(), function = %held.name(), "ready");
        }
        self.changed.notify_one();
        Ok(pool)
    }

    /// Says what went wrong, here once and to the scheduler with every report, and waits before the next try.
    async fn failed(&self, held: &Held, error: &LoadError, pause: &mut Duration) {
        let reason = chain(error);
        if held.set(Status::Failed(reason.clone())) {
            tracing::warn!(version = %held.key(), function = %held.name(), reason, "can't run; trying again");
            self.changed.notify_one();
        }
        let jitter = rand::random_range(0.5..1.0);
        // Either way it is tried again.
        let _ = timeout(pause.mul_f64(jitter), self.again.notified()).await;
        *pause = (*pause * 2).min(LONGEST_PAUSE);
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
