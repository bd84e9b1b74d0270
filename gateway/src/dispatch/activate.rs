//! Asks the scheduler for a placement of a version that has none: once at a time for each version, however many wait.

use std::{
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Duration,
};

use dashmap::{DashMap, Entry};
use dunlin_process::shutdown::Shutdown;
use dunlin_proto::{ApiError, ErrorCode, ids::VersionKey, internal::v1::ActivateRequest};
use tokio::{sync::watch, time::Instant};

use super::wire;
use crate::{routes::Demand, upstream::Scheduler};

/// How long one question may take, and how soon it is asked again while callers wait.
const PATIENCE: Duration = Duration::from_secs(5);
/// The pause between questions.
pub(super) const PAUSE: Duration = Duration::from_millis(500);

/// What became of a question; nothing yet while it is asked.
type Answer = Option<Result<(), ApiError>>;

/// The questions that are being asked. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Activator(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    scheduler: Scheduler,
    asking: DashMap<VersionKey, watch::Receiver<Answer>>,
    shutdown: Shutdown,
}

impl Activator {
    /// Asks this scheduler, as tasks of `shutdown`.
    pub(crate) fn new(scheduler: Scheduler, shutdown: Shutdown) -> Self {
        Self(Arc::new(Inner { scheduler, asking: DashMap::new(), shutdown }))
    }

    /// Asks for a placement, unless somebody is asking already, and waits for the answer.
    ///
    /// # Errors
    /// What the scheduler said; `Unavailable` where it can't be reached.
    pub(super) async fn ask(&self, version: VersionKey) -> Result<(), ApiError> {
        let mut answer = match self.0.asking.entry(version) {
            Entry::Occupied(asking) => asking.get().clone(),
            Entry::Vacant(vacant) => {
                let (sender, answer) = watch::channel(None);
                vacant.insert(answer.clone());
                self.0.shutdown.spawn(self.clone().question(version, sender));
                answer
            }
        };
        let lost = || Err(ApiError::new(ErrorCode::Unavailable, "the gateway is stopping"));
        answer.wait_for(Option::is_some).await.map_or_else(|_| lost(), |answer| answer.clone().unwrap_or_else(lost))
    }

    /// Asks for a placement without waiting for it: calls run on standby workers meanwhile. At most once in [`PAUSE`].
    pub(super) fn nudge(&self, version: VersionKey, demand: &Demand) {
        let mut asked = demand.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.is_some_and(|asked| asked.elapsed() < PAUSE) {
            return;
        }
        *asked = Some(Instant::now());
        drop(asked);
        let activator = self.clone();
        self.0.shutdown.spawn(async move {
            // Demand is reported anyway; this is only sooner.
            let _ = activator.ask(version).await;
        });
    }

    async fn question(self, version: VersionKey, sender: watch::Sender<Answer>) {
        let request = ActivateRequest { version: Some(wire::version_ref(version)) };
        let mut client = self.0.scheduler.sync();
        let asked = tokio::time::timeout(PATIENCE, client.activate(request)).await;
        let answer = match asked {
            Ok(answer) => answer.map(|_| ()).map_err(ApiError::from),
            Err(_) => Err(ApiError::new(ErrorCode::Unavailable, "the scheduler did not answer in time")),
        };
        self.0.asking.remove(&version);
        // Those who asked may have left.
        let _ = sender.send(Some(answer));
    }
}

/// Whether an answer of the scheduler ends the wait: it will be the same the next time.
pub(super) fn is_final(error: &ApiError) -> bool {
    !matches!(error.code, ErrorCode::Unavailable | ErrorCode::DeadlineExceeded | ErrorCode::TooManyRequests)
}

/// One of the invocations of a version that wait for a placement.
#[derive(Debug)]
pub(super) struct Waiting(Arc<Demand>);

impl Waiting {
    /// Joins those that wait, where fewer than `most` do.
    pub(super) fn join(demand: &Arc<Demand>, most: usize) -> Option<Self> {
        let waiting = Self(demand.clone());
        let before = demand.queued.fetch_add(1, Ordering::Relaxed);
        (usize::try_from(before).is_ok_and(|before| before < most)).then_some(waiting)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.queued.fetch_sub(1, Ordering::Relaxed);
    }
}
