//! How many calls by one key run at once in the cluster: a part of that is lent to this gateway like of every such limit
//! (`limits/slots.rs`), and it is there once somebody calls with the key.

use std::sync::{Arc, OnceLock};

use dunlin_proto::{
    ApiError, ErrorCode,
    error::{Exceeded, LimitKind},
    limit::LimitId,
    names::KeyId,
};
use tokio::sync::Notify;

use super::{
    borrowing::Borrowing,
    slots::{AGAIN, Bounded, Running, Slots},
};

/// The limit of one key, and this gateway's part of it.
#[derive(Debug)]
pub(crate) struct CallerSlots {
    key: KeyId,
    /// What all gateways together may run at once; nothing where there is no limit for now.
    most: Option<u32>,
    /// Wakes the stream to the scheduler.
    wake: Arc<Notify>,
    /// What runs, once somebody has called. It outlives changes of the limit, also one that is lifted and comes back.
    slots: Arc<OnceLock<Arc<Slots>>>,
    bounded: OnceLock<Bounded>,
}

impl CallerSlots {
    /// A limit under which nobody has called.
    pub(crate) fn new(key: KeyId, most: Option<u32>, wake: &Arc<Notify>) -> Self {
        Self { key, most, wake: wake.clone(), slots: Arc::default(), bounded: OnceLock::new() }
    }

    /// The same with another limit, or with none for now.
    pub(crate) fn changed(&self, most: Option<u32>) -> Self {
        if let Some(slots) = self.slots.get() {
            if most.is_some() { slots.bound() } else { slots.unbound() }
        }
        Self { slots: self.slots.clone(), ..Self::new(self.key.clone(), most, &self.wake) }
    }

    /// What all gateways together may run at once.
    pub(crate) fn most(&self) -> Option<u32> {
        self.most
    }

    /// Whether somebody has called.
    pub(crate) fn has_begun(&self) -> bool {
        self.slots.get().is_some()
    }

    /// The limit with this gateway's part, where there is one and somebody has called.
    pub(crate) fn seen(&self) -> Option<&Bounded> {
        self.most.filter(|_| self.has_begun()).map(|_| self.bounded())
    }

    /// The same, from now on at the latest.
    pub(crate) fn bounded(&self) -> &Bounded {
        self.bounded.get_or_init(|| {
            let slots = self.slots.get_or_init(|| {
                let slots = Slots::new(self.wake.clone());
                slots.bound();
                Arc::new(slots)
            });
            let id = LimitId::KeyConcurrency(self.key.clone());
            Bounded { id, limit: self.most.unwrap_or_default(), slots: slots.clone() }
        })
    }

    /// Waits where this gateway has nothing of it and the scheduler may not know that something is wanted.
    ///
    /// # Errors
    /// `Unavailable`: it is not known how much this gateway has.
    pub(crate) async fn ready(&self, borrowing: &Borrowing) -> Result<(), ApiError> {
        let Bounded { limit, slots, .. } = self.bounded();
        if !slots.is_dry() || *limit == 0 || Box::pin(borrowing.first_slot(slots, *limit)).await {
            return Ok(());
        }
        let message = format!("how many calls of key {} may run at once is not known here for now", self.key);
        let error = ApiError::new(ErrorCode::Unavailable, message);
        Err(error.hint("the scheduler does not answer; try again").retry_after(AGAIN))
    }

    /// Takes a place for a call.
    ///
    /// # Errors
    /// `TooManyRequests`: the key has as many as it may have.
    pub(crate) fn take(&self) -> Result<Running, ApiError> {
        let Bounded { limit, slots, .. } = self.bounded();
        slots.take().ok_or_else(|| self.full(slots, *limit))
    }

    fn full(&self, slots: &Slots, limit: u32) -> ApiError {
        let whose = format!("key {}", self.key);
        let message = format!("{whose} has reached its max_concurrency of {limit}{}", slots.lent(limit));
        let (current, allowed) = (slots.running().into(), limit.into());
        ApiError::new(ErrorCode::TooManyRequests, message)
            .hint("call less at once, or have the key put under a larger plan: dunlin key update --plan")
            .retry_after(AGAIN)
            .exceeded(Exceeded { whose, kind: LimitKind::Concurrency, current, allowed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(most: Option<u32>) -> CallerSlots {
        CallerSlots::new("abcdefghijkl".parse().unwrap(), most, &Arc::default())
    }

    #[test]
    fn a_key_has_as_many_as_it_may_have() {
        let own = slots(Some(2));
        assert!(own.seen().is_none(), "nobody has called");
        own.bounded().slots.assume(2);
        let _two = (own.take().unwrap(), own.take().unwrap());
        let error = own.take().unwrap_err();
        assert_eq!((error.code, error.retry_after), (ErrorCode::TooManyRequests, Some(AGAIN)));
        assert_eq!(error.message, "key abcdefghijkl has reached its max_concurrency of 2");
        assert_eq!(own.seen().unwrap().id.to_string(), "key-concurrency/abcdefghijkl");
    }

    #[test]
    fn what_runs_counts_when_the_limit_changes_or_comes_back() {
        let own = slots(Some(1));
        own.bounded().slots.assume(1);
        let running = own.take().unwrap();
        let lifted = own.changed(None);
        assert!(lifted.has_begun() && lifted.seen().is_none());
        let again = lifted.changed(Some(1));
        again.bounded().slots.assume(1);
        assert!(again.take().is_err());
        drop(running);
        assert!(again.take().is_ok());
        assert!(!slots(Some(3)).changed(Some(4)).has_begun());
    }
}
