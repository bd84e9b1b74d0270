//! The task that keeps as many sandboxes ready as are wanted. It decides nothing.

use std::time::Duration;

use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{Pool, Prepared, State, wanted::wanted};

/// The shortest time between two looks at sandboxes that have waited too long for their next call.
const SHORTEST_LOOK: Duration = Duration::from_millis(10);
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
    /// Nothing now. When to look again, where time alone may change that.
    Wait(Option<Duration>),
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
                    Step::Wait(Some(look)) => {
                        // Either is only a reason to look again.
                        let _ = tokio::time::timeout(look, self.0.changed.notified()).await;
                    }
                    Step::Wait(None) => self.0.changed.notified().await,
                }
            }
        };
        let over = tokio::select! { () = keeping => Over::Idle, () = gone.cancelled() => Over::Gone };
        let mut state = self.lock();
        state.over = true;
        let left = std::mem::take(&mut state.prepared);
        drop(state);
        drop(left);
        over
    }

    fn next_step(&self) -> Step {
        let mut state = self.lock();
        let now = Instant::now();
        let late = state.take_late(now);
        if !late.is_empty() {
            return Step::Release(late);
        }
        let demand = self.demand(&mut state, now);
        if self.may_rest(&state, &demand) {
            return Step::Rest;
        }
        let (wanted, have) = (wanted(&self.0.scaling, &demand) as usize, state.prepared.len());
        if have > wanted {
            return Step::Release(state.prepared.drain(..have - wanted).collect());
        }
        let share = (have < wanted).then(|| self.0.capacity.prepared.clone().try_acquire_owned().ok());
        let wait = match share {
            Some(Some(share)) => return Step::Prepare(share),
            Some(None) => Some(LOOK),
            None if let Some(reuse) = &self.0.reuse => Some(state.look(reuse.max_idle, now)),
            None => {
                let watch = demand.standby || have > self.0.scaling.min as usize || demand.peak > 0;
                watch.then_some(LOOK)
            }
        };
        state.watched = wait.is_some();
        Step::Wait(wait)
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

impl State {
    /// Adds a sandbox that has served no call: those that have are taken before it.
    pub(super) fn add_fresh(&mut self, prepared: Prepared) {
        let at = self.prepared.partition_point(|other| other.until.is_none());
        self.prepared.insert(at, prepared);
    }

    /// Takes out those that have waited too long for their next call.
    fn take_late(&mut self, now: Instant) -> Vec<Prepared> {
        let is_late = |prepared: &Prepared| prepared.until.is_some_and(|until| until <= now);
        let Some(first) = self.prepared.iter().position(is_late) else { return Vec::new() };
        let count = self.prepared.iter().skip(first).take_while(|prepared| is_late(prepared)).count();
        self.prepared.drain(first..first + count).collect()
    }

    /// When to look again at those that wait for their next call; soon enough for one that begins to wait meanwhile.
    fn look(&self, max_idle: Duration, now: Instant) -> Duration {
        let next = self.prepared.iter().find_map(|prepared| prepared.until);
        let left = next.map_or(max_idle, |until| until.saturating_duration_since(now)).min(max_idle);
        left.clamp(SHORTEST_LOOK, LOOK)
    }
}
