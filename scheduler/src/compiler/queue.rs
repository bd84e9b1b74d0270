//! Who compiles next: one artifact of a namespace at a time, few in all, and among those that wait the namespace whose last
//! turn is longest ago. The queue is bounded; who finds it full is told to come back.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use dunlin_proto::{ApiError, ErrorCode, ids::Namespace};
use tokio::sync::oneshot;

/// Waiting places in all, and for one namespace.
const WAITING: usize = 64;
const WAITING_OF_ONE: usize = 8;

#[derive(Debug, Default)]
struct State {
    running: BTreeSet<Namespace>,
    /// In the order of their arrival.
    waiting: Vec<(Namespace, oneshot::Sender<Permit>)>,
    /// When each namespace had its last turn, counted in turns.
    turns: BTreeMap<Namespace, u64>,
    turn: u64,
}

/// The queue before the compilers. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Queue {
    state: Arc<Mutex<State>>,
    compilers: usize,
}

/// The right to run a compiler, until it is dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    queue: Queue,
    namespace: Namespace,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.queue.state().running.remove(&self.namespace);
        self.queue.admit();
    }
}

impl Queue {
    /// A queue before so many compilers.
    pub(crate) fn new(compilers: usize) -> Self {
        Self { state: Arc::default(), compilers }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a turn. Dropped while it waits, it gives up its place.
    ///
    /// # Errors
    /// `TooManyRequests` where no waiting place is free.
    pub(crate) async fn enter(&self, namespace: &Namespace) -> Result<Permit, ApiError> {
        let (turn, mine) = oneshot::channel();
        {
            let mut state = self.state();
            state.waiting.retain(|(_, waiting)| !waiting.is_closed());
            let of_mine = state.waiting.iter().filter(|(other, _)| other == namespace).count();
            if state.waiting.len() >= WAITING || of_mine >= WAITING_OF_ONE {
                return Err(ApiError::new(ErrorCode::TooManyRequests, "too many deploys wait for the compiler")
                    .retry_after(Duration::from_secs(10)));
            }
            state.waiting.push((namespace.clone(), turn));
        }
        self.admit();
        mine.await.map_err(|_| ApiError::internal())
    }

    /// Whether somebody who enters now must wait.
    pub(crate) fn is_busy(&self, namespace: &Namespace) -> bool {
        let state = self.state();
        state.running.len() >= self.compilers || state.running.contains(namespace)
    }

    /// Compilers that run, and artifacts that wait for one.
    pub(crate) fn now(&self) -> (usize, usize) {
        let state = self.state();
        (state.running.len(), state.waiting.iter().filter(|(_, waiting)| !waiting.is_closed()).count())
    }

    /// Gives free compilers to those whose turn it is.
    fn admit(&self) {
        while let Some((namespace, turn)) = self.next() {
            // Who has left meanwhile gives the permit back by dropping it: outside the lock, which that takes again.
            drop(turn.send(Permit { queue: self.clone(), namespace }));
        }
    }

    fn next(&self) -> Option<(Namespace, oneshot::Sender<Permit>)> {
        let mut state = self.state();
        if state.running.len() >= self.compilers {
            return None;
        }
        let ready = state.waiting.iter().enumerate().filter(|(_, (namespace, _))| !state.running.contains(namespace));
        let last = |namespace| state.turns.get(namespace).copied().unwrap_or_default();
        let (at, _) = ready.min_by_key(|(at, (namespace, _))| (last(namespace), *at))?;
        let (namespace, turn) = state.waiting.remove(at);
        state.turn += 1;
        let now = state.turn;
        state.running.insert(namespace.clone());
        state.turns.insert(namespace.clone(), now);
        if state.turns.len() > 10_000 {
            // Turns long ago are as good as none.
            state.turns.retain(|_, turn| *turn + 1_000 > now);
        }
        Some((namespace, turn))
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn namespace(name: &str) -> Namespace {
        name.parse().unwrap()
    }

    #[tokio::test]
    async fn a_namespace_with_many_artifacts_does_not_hold_others_up() {
        let queue = Queue::new(1);
        let (busy, other) = (namespace("busy"), namespace("other"));
        let first = queue.enter(&busy).await.unwrap();
        let mut waiting: Vec<_> = (0..3).map(|_| Box::pin(queue.enter(&busy))).collect();
        waiting.iter_mut().for_each(|waits| assert!(waits.as_mut().now_or_never().is_none()));
        let mut late = Box::pin(queue.enter(&other));
        assert!(late.as_mut().now_or_never().is_none());
        drop(first);
        let permit = late.now_or_never().expect("the other namespace is next").unwrap();
        assert!(waiting[0].as_mut().now_or_never().is_none());
        drop(permit);
        assert!(waiting[0].as_mut().now_or_never().is_some());
    }

    #[tokio::test]
    async fn t20_a_namespace_compiles_one_at_a_time_even_when_compilers_are_free() {
        let queue = Queue::new(2);
        let (one, two) = (namespace("one"), namespace("two"));
        let first = queue.enter(&one).await.unwrap();
        assert!(queue.is_busy(&one) && !queue.is_busy(&two));
        let mut second = Box::pin(queue.enter(&one));
        assert!(second.as_mut().now_or_never().is_none());
        let _other = queue.enter(&two).now_or_never().expect("a free compiler").unwrap();
        drop(first);
        assert!(second.now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_full_queue_refuses_and_who_leaves_makes_room() {
        let queue = Queue::new(1);
        let shop = namespace("shop");
        let permit = queue.enter(&shop).await.unwrap();
        let mut waiting: Vec<_> = (0..WAITING_OF_ONE).map(|_| Box::pin(queue.enter(&shop))).collect();
        waiting.iter_mut().for_each(|waits| assert!(waits.as_mut().now_or_never().is_none()));
        assert_eq!(queue.enter(&shop).await.unwrap_err().code, ErrorCode::TooManyRequests);
        drop(waiting.remove(0));
        let mut again = Box::pin(queue.enter(&shop));
        assert!(again.as_mut().now_or_never().is_none());
        drop(waiting);
        drop(permit);
        assert!(again.now_or_never().is_some_and(|permit| permit.is_ok()));
    }
}
