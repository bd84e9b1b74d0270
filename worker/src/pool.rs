//! The sandboxes of one version on this worker: who gets one now, who waits, and how many stand ready.
//!
//! Admission counts invocations against the version's `max_sandboxes` and the worker's capacity; whoever finds neither free
//! waits in the worker's queue (`queue.rs`), no longer than its deadline. A keeper task makes sandboxes before they are asked
//! for; how many is decided in `wanted.rs`. A sandbox is used once, whatever became of it, unless its version asked for more:
//! then it may come back after a call and stand ready again (`reuse.rs`).

mod capacity;
mod keeper;
mod line;
mod queue;
mod reuse;
mod trial;
mod turns;
mod wanted;

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use dunlin_proto::ids::Namespace;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit},
    time::{Instant, timeout_at},
};

use crate::sandbox::{Effort, Program, Sandbox, SandboxError};

pub(crate) use capacity::Capacity;
use capacity::{Permit, Place};
pub(crate) use keeper::Over;
use line::Refusal;
pub(crate) use reuse::Reuse;
use reuse::Suspicion;
pub(crate) use wanted::Scaling;
use wanted::{Demand, Peak};

/// When somebody who found the line full may try again.
pub(crate) const RETRY_AFTER: Duration = Duration::from_millis(200);

/// Why there is no sandbox; no guest code of the invocation has run, except for [`NoSandbox::Failed`].
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoSandbox {
    /// The function has as many as it may have, and too many wait.
    #[error("the function has reached its limit of {max} sandboxes on a worker, and {waiting} invocations wait")]
    FunctionFull { max: u32, waiting: usize },
    /// The worker has as many as it can have, and too many wait.
    #[error("the worker is busy and {waiting} invocations of the function wait")]
    WorkerFull { waiting: usize },
    /// The invocation's time is up, or would be before it had a sandbox.
    #[error("the invocation's time was up, or would have been, before there was a sandbox for it")]
    Late,
    /// It could not be made.
    #[error(transparent)]
    Failed(#[from] SandboxError),
}

/// What the scheduler learns of a version.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PoolLoad {
    pub(crate) in_flight: u32,
    pub(crate) queued: u32,
    pub(crate) prepared: u32,
    /// The longest that anybody has waited since the load was last asked for.
    pub(crate) queue_delay: Duration,
    pub(crate) started_total: u64,
}

/// The sandboxes of a version. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Pool(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    program: Program,
    scaling: Scaling,
    /// How sandboxes are used again, where the version asks for it.
    reuse: Option<Arc<Reuse>>,
    /// Nothing is prepared for a version that is only here in case another worker fails.
    standby: AtomicBool,
    capacity: Arc<Capacity>,
    place: Place,
    state: Mutex<State>,
    /// Tells the keeper that what is wanted may have changed.
    changed: Notify,
}

#[derive(Debug)]
struct State {
    /// Fresh ones, then those that have served a call; of each the newest last, since they are taken from there.
    prepared: VecDeque<Prepared>,
    in_flight: u32,
    started: u64,
    longest_wait: Duration,
    peak: Peak,
    /// Whether the keeper looks again by itself.
    watched: bool,
    /// When somebody last wanted a sandbox; being assigned counts, since a call is often the reason.
    last_call: Option<Instant>,
    suspicion: Suspicion,
    /// Nobody keeps the pool any more: nothing is put back.
    over: bool,
}

/// A sandbox that waits for a call, and its share of the worker's capacity, which it leaves after it is gone.
#[derive(Debug)]
struct Prepared {
    sandbox: Sandbox,
    /// How long it waits, if it has served a call.
    until: Option<Instant>,
    _share: OwnedSemaphorePermit,
}

/// A sandbox for one invocation.
#[derive(Debug)]
pub(crate) struct Checkout {
    sandbox: Sandbox,
    /// To be kept until the sandbox is gone, or back.
    slot: Slot,
    /// How long it took to make; zero where it was ready.
    pub(crate) start: Duration,
}

/// What is left to do for a call after its answer.
#[derive(Debug)]
pub(crate) struct Rest {
    /// The sandbox that has served its last call.
    spent: Option<Box<Sandbox>>,
    /// The place that the sandbox had, until it is gone.
    slot: Option<Slot>,
    pool: Pool,
}

/// A place among the invocations that run. Dropping it lets the next one in.
#[derive(Debug)]
struct Slot {
    pool: Pool,
    permit: Permit,
}

impl Pool {
    /// A pool of a namespace's version with nothing prepared yet; [`Pool::keep`] has to run beside it.
    pub(crate) fn new(
        program: Program,
        scaling: Scaling,
        reuse: Option<Arc<Reuse>>,
        standby: bool,
        namespace: &Namespace,
        capacity: Arc<Capacity>,
    ) -> Self {
        let state = State {
            prepared: VecDeque::new(),
            in_flight: 0,
            started: 0,
            longest_wait: Duration::ZERO,
            peak: Peak::default(),
            watched: false,
            // Whoever loads it wants it, for a call or because it is to stand ready.
            last_call: Some(Instant::now()),
            suspicion: Suspicion::default(),
            over: false,
        };
        Self(Arc::new(Shared {
            program,
            scaling,
            reuse,
            standby: AtomicBool::new(standby),
            place: capacity.place(namespace, scaling.max.max(1)),
            capacity,
            state: Mutex::new(state),
            changed: Notify::new(),
        }))
    }

    /// A sandbox, now or when it is this invocation's turn. Cancel-safe: who leaves loses only its place in line.
    ///
    /// # Errors
    /// Too many wait, `deadline` is over or will be before its turn, or no sandbox can be made.
    pub(crate) async fn checkout(&self, deadline: Instant) -> Result<Checkout, NoSandbox> {
        let began = Instant::now();
        let permit =
            self.0.place.permit(deadline, self.0.program.usual_cpu()).await.map_err(|refusal| self.no_turn(refusal))?;
        let slot = self.slot(permit);
        let queued = began.elapsed();
        if let Some(ready) = self.take(queued) {
            return Ok(Checkout { sandbox: ready.sandbox, slot, start: Duration::ZERO });
        }
        let made = timeout_at(deadline, self.0.program.prepare()).await.map_err(|_| NoSandbox::Late)?;
        let sandbox = made?;
        Ok(Checkout { start: sandbox.instantiation(), sandbox, slot })
    }

    /// Whether nothing is to be prepared for now.
    pub(crate) fn set_standby(&self, standby: bool) {
        if self.0.standby.swap(standby, Ordering::Relaxed) && !standby {
            self.lock().last_call = Some(Instant::now());
        }
        self.0.changed.notify_one();
    }

    /// What it does, for the scheduler; begins the measurement of waiting anew.
    pub(crate) fn load(&self) -> PoolLoad {
        let (queued, waiting) = self.0.place.waiting(Instant::now());
        let mut state = self.lock();
        PoolLoad {
            in_flight: state.in_flight,
            queued: u32::try_from(queued).unwrap_or(u32::MAX),
            prepared: u32::try_from(state.prepared.len()).unwrap_or(u32::MAX),
            queue_delay: std::mem::take(&mut state.longest_wait).max(waiting),
            started_total: state.started,
        }
    }

    /// How many invocations have a sandbox, and how many sandboxes stand ready.
    pub(crate) fn sandboxes(&self) -> (u32, usize) {
        let state = self.lock();
        (state.in_flight, state.prepared.len())
    }

    /// Whether its code may be unloaded: it is on standby, and nobody has called for its idle time.
    fn may_rest(&self, state: &State, demand: &Demand) -> bool {
        let idle = demand.since_call.is_none_or(|since| since >= self.0.scaling.idle_timeout);
        demand.standby && idle && state.in_flight == 0 && self.0.place.waiting(Instant::now()).0 == 0
    }

    /// Why it gets no turn: its time is up, the function is at its own limit, or others have taken the worker.
    fn no_turn(&self, refusal: Refusal) -> NoSandbox {
        let (max, (waiting, _)) = (self.0.scaling.max, self.0.place.waiting(Instant::now()));
        match refusal {
            Refusal::Late => NoSandbox::Late,
            Refusal::Full if self.0.place.is_at_limit() => NoSandbox::FunctionFull { max, waiting },
            Refusal::Full => NoSandbox::WorkerFull { waiting },
        }
    }

    fn slot(&self, permit: Permit) -> Slot {
        let mut state = self.lock();
        state.in_flight += 1;
        let in_flight = state.in_flight;
        state.peak.note(in_flight, Instant::now());
        drop(state);
        // The keeper learns of it when the call takes its sandbox.
        Slot { pool: self.clone(), permit }
    }

    /// Counts a call and takes a sandbox that stands ready.
    fn take(&self, queued: Duration) -> Option<Prepared> {
        let mut state = self.lock();
        state.started += 1;
        state.longest_wait = state.longest_wait.max(queued);
        state.last_call = Some(Instant::now());
        let ready = state.prepared.pop_back();
        self.nudge(state);
        ready
    }

    /// Wakes the keeper where there is much to do: calls that end make what calls take (`replenish`), on their own thread, and
    /// waking another one costs as much as a small call does.
    fn nudge(&self, mut state: std::sync::MutexGuard<'_, State>) {
        let demand = self.demand(&mut state, Instant::now());
        let few = state.prepared.len() * 2 < wanted::wanted(&self.0.scaling, &demand) as usize;
        let watched = state.watched;
        drop(state);
        if few || !watched {
            self.0.changed.notify_one();
        }
    }

    /// Makes the sandbox that a call has taken.
    async fn replenish(&self) {
        if let Some(share) = self.share() {
            self.prepare(share).await.ok();
        }
    }

    /// A share of the capacity for one more, where one more is wanted.
    fn share(&self) -> Option<OwnedSemaphorePermit> {
        let mut state = self.lock();
        let demand = self.demand(&mut state, Instant::now());
        let wants = !state.over && state.prepared.len() < wanted::wanted(&self.0.scaling, &demand) as usize;
        wants.then(|| self.0.capacity.prepared.clone().try_acquire_owned().ok()).flatten()
    }

    async fn prepare(&self, share: OwnedSemaphorePermit) -> Result<(), SandboxError> {
        let sandbox = self.0.program.prepare().await?;
        let mut state = self.lock();
        if !state.over {
            state.add_fresh(Prepared { sandbox, until: None, _share: share });
        }
        Ok(())
    }

    fn demand(&self, state: &mut State, now: Instant) -> Demand {
        Demand {
            in_flight: state.in_flight,
            peak: state.peak.over(now),
            since_call: state.last_call.map(|last| now.saturating_duration_since(last)),
            standby: self.0.standby.load(Ordering::Relaxed),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rest {
    /// Lets the sandbox go, lets the next call in, and makes the sandbox that the call has taken. All that takes as long as a
    /// small call.
    pub(crate) async fn finish(mut self) {
        self.release();
        self.pool.replenish().await;
    }

    /// Lets the sandbox go, and then the next call in.
    pub(crate) fn release(&mut self) {
        self.spent = None;
        self.slot = None;
    }
}

impl Slot {
    /// What the invocation's guest takes of the worker while it can run.
    fn effort(&mut self) -> Option<Effort> {
        self.permit.effort()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut state = self.pool.lock();
        state.in_flight -= 1;
        self.pool.nudge(state);
    }
}
