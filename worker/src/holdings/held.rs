//! One held version: being loaded, on disk until it is called, ready with a pool, or failed for now.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use dunlin_proto::{
    ids::VersionKey,
    internal::v1::{AssignedVersion, LoadState, ReuseTrial, SandboxReuse, VersionLoad},
    model::{from_wire_duration, to_wire_duration},
    names::FunctionRef,
};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{Census, wanted::Wanted};
use crate::{
    logs::Tenant,
    pool::{Pool, PoolLoad, Reuse},
};

/// How far a version is.
#[derive(Debug, Clone)]
pub(super) enum Status {
    Loading,
    /// On standby: on disk and checked, but not loaded.
    Stored,
    Ready(Pool),
    Failed(String),
}

/// Why a version that is held can't take an invocation.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotReady {
    /// The reason is in the worker's log and in its report; callers need not know it.
    #[error("the function can't be loaded on this worker")]
    Failed,
    #[error("the invocation's time was up while the function was being loaded")]
    Late,
    #[error("the function is no longer on this worker")]
    Gone,
}

/// How long a version's code took to be there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Loading {
    /// Fetching and checking it.
    pub(crate) fetch: Duration,
    /// Mapping and linking it.
    pub(crate) load: Duration,
}

impl Loading {
    /// The part of it that somebody had to wait for who came while it was under way, and waited for so long.
    fn within(self, waited: Duration) -> Self {
        let load = self.load.min(waited);
        Self { load, fetch: self.fetch.min(waited - load) }
    }
}

/// A version that the worker holds.
#[derive(Debug)]
pub(crate) struct Held {
    wanted: Wanted,
    tenant: Arc<Tenant>,
    /// How sandboxes are used again; what is known of that outlives each loading.
    reuse: Option<Arc<Reuse>>,
    standby: AtomicBool,
    /// Somebody calls it although it is on standby.
    called: AtomicBool,
    /// Rings when it may be wanted.
    wake: Notify,
    status: watch::Sender<Status>,
    gone: CancellationToken,
    /// How long it took when it was last loaded.
    loading: Mutex<Loading>,
}

impl Held {
    pub(super) fn new(wanted: Wanted, tenant: Arc<Tenant>, standby: bool) -> Self {
        Self {
            reuse: wanted.reuse.as_ref().map(reuse),
            wanted,
            tenant,
            standby: AtomicBool::new(standby),
            called: AtomicBool::new(false),
            wake: Notify::new(),
            status: watch::Sender::new(Status::Loading),
            gone: CancellationToken::new(),
            loading: Mutex::default(),
        }
    }

    /// Its pool, as soon as it is loaded, and what of the waiting that took; a version on standby is loaded for it.
    ///
    /// # Errors
    /// It failed, was let go, or `deadline` is over.
    pub(crate) async fn pool(&self, deadline: Instant) -> Result<(Pool, Loading), NotReady> {
        if let Status::Ready(pool) = &*self.status.borrow() {
            return Ok((pool.clone(), Loading::default()));
        }
        let began = Instant::now();
        self.called.store(true, Ordering::Release);
        self.wake.notify_one();
        let mut status = self.status.subscribe();
        let settled = |status: &Status| matches!(status, Status::Ready(_) | Status::Failed(_));
        let settled = timeout_at(deadline, status.wait_for(settled));
        let settled = tokio::select! { settled = settled => settled, () = self.gone() => return Err(NotReady::Gone) };
        match settled.map(|status| status.map(|status| status.clone())) {
            Ok(Ok(Status::Ready(pool))) => Ok((pool, self.loading().within(began.elapsed()))),
            Ok(Ok(_) | Err(_)) => Err(NotReady::Failed),
            Err(_) => Err(NotReady::Late),
        }
    }

    /// Notes how long loading it took.
    pub(super) fn took(&self, loading: Loading) {
        *self.loading.lock().unwrap_or_else(PoisonError::into_inner) = loading;
    }

    fn loading(&self) -> Loading {
        *self.loading.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn key(&self) -> VersionKey {
        self.wanted.key
    }

    pub(crate) fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// Where its log lines go.
    pub(crate) fn tenant(&self) -> &Arc<Tenant> {
        &self.tenant
    }

    pub(super) fn name(&self) -> FunctionRef {
        FunctionRef { namespace: self.wanted.namespace.clone(), function: self.wanted.function.clone() }
    }

    pub(super) fn is(&self, wanted: &Wanted) -> bool {
        self.wanted.is(wanted)
    }

    /// Takes over what the cluster knows of reuse: that it works, or that it is not asked for any more.
    pub(super) fn learn(&self, known: Option<SandboxReuse>) {
        match (&self.reuse, known) {
            (Some(reuse), Some(known)) if known.tried => reuse.pass(),
            (Some(reuse), None) => _ = reuse.refuse("another worker found that it does not work".to_owned()),
            _ => {}
        }
    }

    /// How its sandboxes are used again.
    pub(super) fn reuse(&self) -> Option<Arc<Reuse>> {
        self.reuse.clone()
    }

    pub(super) fn is_standby(&self) -> bool {
        self.standby.load(Ordering::Relaxed)
    }

    pub(super) fn set_standby(&self, standby: bool) {
        if self.standby.swap(standby, Ordering::Relaxed) == standby {
            return;
        }
        if let Status::Ready(pool) = &*self.status.borrow() {
            pool.set_standby(standby);
        }
        self.wake.notify_one();
    }

    /// Whether it has to be loaded.
    pub(super) fn is_wanted(&self) -> bool {
        !self.is_standby() || self.called.load(Ordering::Acquire)
    }

    /// Waits until it has to be loaded. Cancel-safe.
    pub(super) async fn wanted_now(&self) {
        while !self.is_wanted() {
            self.wake.notified().await;
        }
    }

    /// Whether it is on disk and not loaded.
    pub(super) fn is_stored(&self) -> bool {
        matches!(*self.status.borrow(), Status::Stored)
    }

    /// Unloads it; the next call loads it again. Who has its pool already may use it.
    pub(super) fn rest(&self) {
        self.called.store(false, Ordering::Release);
        self.status.send_replace(Status::Stored);
    }

    /// The message that asked for it.
    pub(super) fn assigned(&self) -> AssignedVersion {
        let tried = self.reuse.as_ref().is_some_and(|reuse| reuse.verdict() == Some(""));
        self.wanted.assigned(self.is_standby(), tried)
    }

    /// Changes the status; says whether that is news.
    pub(super) fn set(&self, status: Status) -> bool {
        if let Status::Ready(pool) = &status {
            // It may have changed while the pool was made.
            pool.set_standby(self.is_standby());
        }
        let before = self.status.send_replace(status);
        !matches!((before, &*self.status.borrow()), (Status::Failed(before), Status::Failed(now)) if before == *now)
    }

    pub(super) fn let_go(&self) {
        self.gone.cancel();
    }

    pub(super) async fn gone(&self) {
        self.gone.cancelled().await;
    }

    pub(super) fn gone_token(&self) -> CancellationToken {
        self.gone.clone()
    }

    /// Adds itself to the numbers.
    pub(super) fn count(&self, census: &mut Census) {
        match &*self.status.borrow() {
            Status::Loading => census.loading += 1,
            Status::Stored => census.stored += 1,
            Status::Failed(_) => census.failed += 1,
            Status::Ready(pool) => {
                let (running, prepared) = pool.sandboxes();
                census.ready += 1;
                census.running += u64::from(running);
                census.prepared += prepared as u64;
            }
        }
    }

    /// What it does, for the scheduler; nothing worth a word while it is on standby and nobody calls it.
    pub(super) fn load(&self) -> Option<VersionLoad> {
        let (state, error, load) = match &*self.status.borrow() {
            Status::Loading | Status::Stored if !self.is_wanted() => return None,
            Status::Stored => (LoadState::Loading, String::new(), PoolLoad::default()),
            Status::Loading => (LoadState::Loading, String::new(), PoolLoad::default()),
            Status::Failed(reason) => (LoadState::Failed, reason.clone(), PoolLoad::default()),
            Status::Ready(pool) => (LoadState::Ready, String::new(), pool.load()),
        };
        Some(VersionLoad {
            version: Some(self.wanted.key.into()),
            state: state.into(),
            error,
            in_flight: load.in_flight,
            queued: load.queued,
            prepared: load.prepared,
            queue_delay: Some(to_wire_duration(load.queue_delay)),
            started_total: load.started_total,
            reuse_trial: self.reuse.as_ref().and_then(|reuse| reuse.verdict()).map(trial),
        })
    }
}

fn reuse(wire: &SandboxReuse) -> Arc<Reuse> {
    let reuse = Reuse::new(wire.max_calls, from_wire_duration(wire.max_idle));
    if wire.tried {
        reuse.pass();
    }
    Arc::new(reuse)
}

fn trial(refusal: &str) -> ReuseTrial {
    ReuseTrial { refusal: refusal.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_late_waits_for_the_end_of_loading_alone() {
        let millis = Duration::from_millis;
        let whole = Loading { fetch: millis(30), load: millis(10) };
        for (waited, fetch, load) in [(50, 30, 10), (40, 30, 10), (25, 15, 10), (10, 0, 10), (4, 0, 4), (0, 0, 0)] {
            let expected = Loading { fetch: millis(fetch), load: millis(load) };
            assert_eq!(whole.within(millis(waited)), expected, "{waited} ms");
        }
    }
}
