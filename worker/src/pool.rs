//! The sandboxes of one version on this worker: who gets one now, who waits, and how many stand ready.
//!
//! Admission counts invocations against the version's `max_sandboxes` and the worker's capacity; whoever finds neither free
//! waits in line, in order, no longer than its deadline, and only while the line is short. A keeper task makes sandboxes
//! before they are asked for; how many is decided in `wanted.rs`. A sandbox is used once, whatever became of it.

mod keeper;
mod line;
mod wanted;

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};

use crate::sandbox::{Program, Sandbox, SandboxError};

pub(crate) use keeper::Over;
use line::Line;
pub(crate) use wanted::Scaling;
use wanted::{Demand, Peak};

/// Invocations that may wait for a sandbox, for each that may run.
const WAITING_PER_RUNNING: usize = 2;
/// When somebody who found the line full may try again.
pub(crate) const RETRY_AFTER: Duration = Duration::from_millis(200);

/// What all versions on this worker share: how many sandboxes it can have.
#[derive(Debug)]
pub(crate) struct Capacity {
    running: Arc<Semaphore>,
    prepared: Arc<Semaphore>,
}

impl Capacity {
    /// So many that run at once, and beside them so many that stand ready.
    pub(crate) fn new(running: u32, prepared: u32) -> Self {
        let semaphore = |count: u32| Arc::new(Semaphore::new(count as usize));
        Self { running: semaphore(running), prepared: semaphore(prepared) }
    }
}

/// Why there is no sandbox; no guest code of the invocation has run, except for [`NoSandbox::Failed`].
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoSandbox {
    /// The function has as many as it may have, and as many as may wait are waiting.
    #[error("the function has reached its limit of {max} sandboxes on a worker, and {waiting} invocations wait")]
    FunctionFull { max: u32, waiting: usize },
    /// The worker has as many as it can have, and as many as may wait are waiting.
    #[error("the worker is busy and {waiting} invocations of the function wait")]
    WorkerFull { waiting: usize },
    /// The invocation's time was up before it had a sandbox.
    #[error("the invocation's time was up while it waited for a sandbox")]
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
    /// Nothing is prepared for a version that is only here in case another worker fails.
    standby: AtomicBool,
    capacity: Arc<Capacity>,
    admission: Arc<Semaphore>,
    line: Line,
    state: Mutex<State>,
    /// Tells the keeper that what is wanted may have changed.
    changed: Notify,
}

#[derive(Debug)]
struct State {
    /// The newest last, since the newest are taken first.
    prepared: VecDeque<Prepared>,
    in_flight: u32,
    started: u64,
    longest_wait: Duration,
    peak: Peak,
    /// When somebody last wanted a sandbox; being assigned counts, since a call is often the reason.
    last_call: Option<Instant>,
}

/// A sandbox that waits for a call, and its share of the worker's capacity, which it leaves after it is gone.
#[derive(Debug)]
struct Prepared {
    sandbox: Sandbox,
    _share: OwnedSemaphorePermit,
}

/// A sandbox for one invocation.
#[derive(Debug)]
pub(crate) struct Checkout {
    pub(crate) sandbox: Sandbox,
    /// To be kept until the sandbox is gone.
    pub(crate) slot: Slot,
    /// How long it took to make; zero where it was ready.
    pub(crate) start: Duration,
}

/// A place among the invocations that run. Dropping it lets the next one in.
#[derive(Debug)]
pub(crate) struct Slot {
    pool: Pool,
    _admission: OwnedSemaphorePermit,
    _share: OwnedSemaphorePermit,
}

impl Pool {
    /// A pool with nothing prepared yet; [`Pool::keep`] has to run beside it.
    pub(crate) fn new(program: Program, scaling: Scaling, standby: bool, capacity: Arc<Capacity>) -> Self {
        let max = scaling.max.max(1) as usize;
        let state = State {
            prepared: VecDeque::new(),
            in_flight: 0,
            started: 0,
            longest_wait: Duration::ZERO,
            peak: Peak::default(),
            // Whoever loads it wants it, for a call or because it is to stand ready.
            last_call: Some(Instant::now()),
        };
        Self(Arc::new(Shared {
            program,
            scaling,
            standby: AtomicBool::new(standby),
            capacity,
            admission: Arc::new(Semaphore::new(max)),
            line: Line::new(max * WAITING_PER_RUNNING),
            state: Mutex::new(state),
            changed: Notify::new(),
        }))
    }

    /// A fresh sandbox, now or when it is this invocation's turn. Cancel-safe: who leaves loses only its place in line.
    ///
    /// # Errors
    /// The line is full, `deadline` is over, or no sandbox can be made.
    pub(crate) async fn checkout(&self, deadline: Instant) -> Result<Checkout, NoSandbox> {
        let began = Instant::now();
        let slot = match self.try_admit() {
            Some(slot) => slot,
            None => self.wait_for_turn(deadline).await?,
        };
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
        let (queued, waiting) = self.0.line.now(Instant::now());
        let mut state = self.lock();
        PoolLoad {
            in_flight: state.in_flight,
            queued: u32::try_from(queued).unwrap_or(u32::MAX),
            prepared: u32::try_from(state.prepared.len()).unwrap_or(u32::MAX),
            queue_delay: std::mem::take(&mut state.longest_wait).max(waiting),
            started_total: state.started,
        }
    }

    /// Whether its code may be unloaded: it is on standby, and nobody has called for its idle time.
    fn may_rest(&self, state: &State, demand: &Demand) -> bool {
        let idle = demand.since_call.is_none_or(|since| since >= self.0.scaling.idle_timeout);
        demand.standby && idle && state.in_flight == 0 && self.0.line.now(Instant::now()).0 == 0
    }

    fn try_admit(&self) -> Option<Slot> {
        let admission = self.0.admission.clone().try_acquire_owned().ok()?;
        let share = self.0.capacity.running.clone().try_acquire_owned().ok()?;
        Some(self.slot(admission, share))
    }

    async fn wait_for_turn(&self, deadline: Instant) -> Result<Slot, NoSandbox> {
        let _place = self.0.line.join(Instant::now()).map_err(|waiting| self.full(waiting))?;
        let turn = async {
            let admission = self.0.admission.clone().acquire_owned().await;
            (admission, self.0.capacity.running.clone().acquire_owned().await)
        };
        match timeout_at(deadline, turn).await {
            Ok((Ok(admission), Ok(share))) => Ok(self.slot(admission, share)),
            // The semaphores are never closed, so that this is the deadline.
            Ok(_) | Err(_) => Err(NoSandbox::Late),
        }
    }

    /// Why the line is full: the function is at its own limit, or others have taken the worker.
    fn full(&self, waiting: usize) -> NoSandbox {
        let max = self.0.scaling.max;
        let at_limit = self.lock().in_flight >= max;
        if at_limit { NoSandbox::FunctionFull { max, waiting } } else { NoSandbox::WorkerFull { waiting } }
    }

    fn slot(&self, admission: OwnedSemaphorePermit, share: OwnedSemaphorePermit) -> Slot {
        let mut state = self.lock();
        state.in_flight += 1;
        let in_flight = state.in_flight;
        state.peak.note(in_flight, Instant::now());
        drop(state);
        // The keeper learns of it when the call takes its sandbox.
        Slot { pool: self.clone(), _admission: admission, _share: share }
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

    /// Wakes the keeper, but only where it has something to do: a wake-up costs as much as a small call.
    fn nudge(&self, mut state: std::sync::MutexGuard<'_, State>) {
        let demand = self.demand(&mut state, Instant::now());
        let idle = state.prepared.len() == wanted::wanted(&self.0.scaling, &demand) as usize;
        drop(state);
        if !idle {
            self.0.changed.notify_one();
        }
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

impl Drop for Slot {
    fn drop(&mut self) {
        let mut state = self.pool.lock();
        state.in_flight -= 1;
        self.pool.nudge(state);
    }
}
