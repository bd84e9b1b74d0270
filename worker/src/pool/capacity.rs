//! What the worker can run at once, given out to those who ask and those who wait. It decides nothing: `queue.rs` does, and
//! this tells the callers.
//!
//! With a slot free it costs one short lock to get it and one to give it back.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use dunlin_proto::ids::Namespace;
use tokio::{
    sync::{Semaphore, oneshot},
    time::{Instant, timeout_at},
};

use super::{
    line::Refusal,
    queue::{Queue, Told, Verdict},
    turns::LineId,
};

use crate::sandbox::{Backlog, Effort};

/// Invocations of all versions that may wait, for each that may run.
const WAITING_PER_SLOT: usize = 10;

/// What one who waits is told.
type Answer = Result<Permit, Refusal>;

/// What all versions on this worker share: how many sandboxes it can have.
#[derive(Debug)]
pub(crate) struct Capacity {
    most: u32,
    queue: Mutex<Queue<oneshot::Sender<Answer>>>,
    /// Sandboxes that may stand ready.
    pub(super) prepared: Arc<Semaphore>,
}

/// A version's line in the worker's queue, given up when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    capacity: Arc<Capacity>,
    line: LineId,
}

/// The right to run an invocation. Dropping it lets the next one in.
#[derive(Debug)]
pub(super) struct Permit {
    capacity: Arc<Capacity>,
    line: LineId,
    since: Instant,
    effort: Option<Effort>,
}

/// Somebody who waits; leaves the line when it is dropped.
struct Waiting<'a> {
    place: &'a Place,
    ticket: u64,
}

/// What one who asks gets.
enum Asked<'a> {
    Now(Permit),
    Wait(Waiting<'a>, oneshot::Receiver<Answer>),
}

impl Capacity {
    /// So many that run at once, as far as `threads` get them done, and beside them so many that stand ready.
    pub(crate) fn new(running: u32, prepared: u32, threads: u32) -> Arc<Self> {
        let longest = (running as usize).saturating_mul(WAITING_PER_SLOT);
        Arc::new_cyclic(|capacity: &Weak<Self>| {
            let capacity = capacity.clone();
            let room = move || capacity.upgrade().as_ref().map_or((), Self::hand_out);
            let backlog = Arc::new(Backlog::new(threads, room));
            let queue = Mutex::new(Queue::new(running, longest, backlog));
            Self { most: running, queue, prepared: Arc::new(Semaphore::new(prepared as usize)) }
        })
    }

    /// Invocations that may run at once.
    pub(crate) fn most(&self) -> u32 {
        self.most
    }

    /// How many wait, and how many more may run.
    pub(crate) fn now(&self) -> (usize, u32) {
        self.lock().now()
    }

    /// Lets in whoever there is room for.
    fn hand_out(self: &Arc<Self>) {
        let (now, mut told) = (Instant::now(), Vec::new());
        self.lock().hand_out(now, &mut told);
        self.tell(told, now);
    }

    /// A line for a version of a namespace, of which `max` run at once.
    pub(super) fn place(self: &Arc<Self>, namespace: &Namespace, max: u32) -> Place {
        Place { capacity: self.clone(), line: self.lock().open(namespace, max) }
    }

    fn lock(&self) -> MutexGuard<'_, Queue<oneshot::Sender<Answer>>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn permit(self: &Arc<Self>, line: LineId, since: Instant, effort: Effort) -> Permit {
        Permit { capacity: self.clone(), line, since, effort: Some(effort) }
    }

    /// Tells those who wait. A permit that nobody takes any more is dropped, and so goes to the next one.
    fn tell(self: &Arc<Self>, told: Told<oneshot::Sender<Answer>>, now: Instant) {
        for (caller, line, verdict) in told {
            let answer = match verdict {
                Verdict::Go(effort) => Ok(self.permit(line, now, effort)),
                Verdict::Refused(refusal) => Err(refusal),
            };
            drop(caller.send(answer));
        }
    }
}

impl Place {
    /// A permit at once, or when it is this one's turn; `expected` is the CPU time that it will probably need. Cancel-safe: who
    /// leaves loses only its place in line.
    ///
    /// # Errors
    /// It would wait in vain, or has.
    pub(super) async fn permit(&self, deadline: Instant, expected: Option<Duration>) -> Answer {
        let (_waiting, answer) = match self.ask(deadline, expected)? {
            Asked::Now(permit) => return Ok(permit),
            Asked::Wait(waiting, answer) => (waiting, answer),
        };
        // Nobody drops the other end without a word, so that this is the deadline.
        timeout_at(deadline, answer).await.ok().and_then(Result::ok).unwrap_or(Err(Refusal::Late))
    }

    fn ask(&self, deadline: Instant, expected: Option<Duration>) -> Result<Asked<'_>, Refusal> {
        let (now, mut told) = (Instant::now(), Vec::new());
        let mut queue = self.capacity.lock();
        if let Some(effort) = queue.enter(self.line, expected) {
            drop(queue);
            return Ok(Asked::Now(self.capacity.permit(self.line, now, effort)));
        }
        let (caller, answer) = oneshot::channel();
        let joined = queue.join(self.line, caller, (deadline, expected), now, &mut told);
        drop(queue);
        self.capacity.tell(told, now);
        Ok(Asked::Wait(Waiting { place: self, ticket: joined? }, answer))
    }

    /// How many wait, and how long the first of them has.
    pub(super) fn waiting(&self, now: Instant) -> (usize, Duration) {
        self.capacity.lock().waiting(self.line, now)
    }

    /// Whether as many run as the version may have.
    pub(super) fn is_at_limit(&self) -> bool {
        self.capacity.lock().is_at_limit(self.line)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.capacity.lock().close(self.line);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.place.capacity.lock().leave(self.place.line, self.ticket, Instant::now());
    }
}

impl Permit {
    /// What the invocation's guest takes of the worker while it can run.
    pub(super) fn effort(&mut self) -> Option<Effort> {
        self.effort.take()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        drop(self.effort.take());
        let (now, mut told) = (Instant::now(), Vec::new());
        self.capacity.lock().release(self.line, now.saturating_duration_since(self.since), now, &mut told);
        self.capacity.tell(told, now);
    }
}
