//! One held version: being loaded, ready with a pool, or failed for now.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use dunlin_proto::{
    ids::VersionKey,
    internal::v1::{LoadState, VersionLoad},
    model::to_wire_duration,
    names::FunctionRef,
};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::wanted::Wanted;
use crate::{
    logs::Tenant,
    pool::{Pool, PoolLoad},
};

/// How far a version is.
#[derive(Debug, Clone)]
pub(super) enum Status {
    Loading,
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

/// A version that the worker holds.
#[derive(Debug)]
pub(crate) struct Held {
    wanted: Wanted,
    tenant: Arc<Tenant>,
    standby: AtomicBool,
    status: watch::Sender<Status>,
    gone: CancellationToken,
}

impl Held {
    pub(super) fn new(wanted: Wanted, tenant: Arc<Tenant>) -> Self {
        let status = watch::Sender::new(Status::Loading);
        Self { wanted, tenant, standby: AtomicBool::new(false), status, gone: CancellationToken::new() }
    }

    /// Its pool, as soon as it is loaded.
    ///
    /// # Errors
    /// It failed, was let go, or `deadline` is over.
    pub(crate) async fn pool(&self, deadline: Instant) -> Result<Pool, NotReady> {
        if let Status::Ready(pool) = &*self.status.borrow() {
            return Ok(pool.clone());
        }
        let mut status = self.status.subscribe();
        let settled = timeout_at(deadline, status.wait_for(|status| !matches!(status, Status::Loading)));
        let settled = tokio::select! { settled = settled => settled, () = self.gone() => return Err(NotReady::Gone) };
        match settled.map(|status| status.map(|status| status.clone())) {
            Ok(Ok(Status::Ready(pool))) => Ok(pool),
            Ok(Ok(Status::Failed(_) | Status::Loading) | Err(_)) => Err(NotReady::Failed),
            Err(_) => Err(NotReady::Late),
        }
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

    /// What it does, for the scheduler.
    pub(super) fn load(&self) -> VersionLoad {
        let (state, error, load) = match &*self.status.borrow() {
            Status::Loading => (LoadState::Loading, String::new(), PoolLoad::default()),
            Status::Failed(reason) => (LoadState::Failed, reason.clone(), PoolLoad::default()),
            Status::Ready(pool) => (LoadState::Ready, String::new(), pool.load()),
        };
        VersionLoad {
            version: Some(self.wanted.key.into()),
            state: state.into(),
            error,
            in_flight: load.in_flight,
            queued: load.queued,
            prepared: load.prepared,
            queue_delay: Some(to_wire_duration(load.queue_delay)),
            started_total: load.started_total,
        }
    }
}
