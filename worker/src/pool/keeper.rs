//! The task that keeps as many sandboxes ready as are wanted. It decides nothing.

use std::time::Duration;

use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{Pool, Prepared, wanted::wanted};

/// How often what is wanted is looked at again while time alone can change it.
const LOOK: Duration = Duration::from_secs(1);
/// Time before another attempt when a sandbox could not be made; doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Why a pool is kept no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    /// The version is no longer held.
    Gone,
    /// It is on standby and nobody calls it: its code need not be loaded.
    Idle,
}

/// What to do next.
enum Step {
    /// Nothing any more.
    Rest,
    /// Make one; here is its share of the capacity.
    Prepare(OwnedSemaphorePermit),
    /// Let go of these, oldest first.
    Release(Vec<Prepared>),
    /// Nothing now. Whether time alone may change that.
    Wait { watch: bool },
}

impl Pool {
    /// Keeps sandboxes ready until the version is `gone` or nobody calls it any more, then lets go of those that are left.
    pub(crate) async fn keep(self, gone: CancellationToken) -> Over {
        let keeping = async {
            let mut pause = FIRST_PAUSE;
            loop {
                match self.next_step() {
                    Step::Rest => return,
                    Step::Prepare(share) => self.prepare_or_pause(share, &mut pause).await,
                    Step::Release(sandboxes) => drop(sandboxes),
                    Step::Wait { watch: true } => {
                        // Either is only a reason to look again.
                        let _ = tokio::time::timeout(LOOK, self.0.changed.notified()).await;
                    }
                    Step::Wait { watch: false } => self.0.changed.notified().await,
                }
            }
        };
        let over = tokio::select! { () = keeping => Over::Idle, () = gone.cancelled() => Over::Gone };
        let left = std::mem::take(&mut self.lock().prepared);
        drop(left);
        over
    }

    fn next_step(&self) -> Step {
        let mut state = self.lock();
        let demand = self.demand(&mut state, Instant::now());
        if self.may_rest(&state, &demand) {
            return Step::Rest;
        }
        let (wanted, have) = (wanted(&self.0.scaling, &demand) as usize, state.prepared.len());
        if have > wanted {
            return Step::Release(state.prepared.drain(..have - wanted).collect());
        }
        let share = (have < wanted).then(|| self.0.capacity.prepared.clone().try_acquire_owned().ok());
        let watch = match share {
            Some(Some(share)) => return Step::Prepare(share),
            Some(None) => true,
            None => demand.standby || have > self.0.scaling.min as usize || demand.peak > 0,
        };
        state.watched = watch;
        Step::Wait { watch }
    }

    async fn prepare_or_pause(&self, share: OwnedSemaphorePermit, pause: &mut Duration) {
        match self.prepare(share).await {
            Ok(()) => *pause = FIRST_PAUSE,
            Err(error) => {
                // Callers are told themselves; here it is only a sandbox less in advance.
                tracing::debug!(error = &error as &dyn std::error::Error, ?pause, "could not prepare a sandbox");
                sleep(*pause).await;
                *pause = (*pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}
