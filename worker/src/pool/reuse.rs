//! Whether a version's sandboxes are used again, and what becomes of them after a call. A sandbox that waits for its next call
//! stands ready like one that was prepared, with a share of the same capacity; it is taken first, and not for ever.
//!
//! It begins with a trial (`trial.rs`). Where used sandboxes fail later on and fresh ones do not, it ends: then every call has
//! a fresh one, and the reason is reported. Both are for good, as long as the version is held.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{Checkout, Pool, Prepared, Rest};
use crate::sandbox::{Call, Completion, Failure, Left, Outcome, Sandbox};

/// How often used sandboxes must fail where a fresh one then does not.
const ENOUGH: u32 = 3;

/// What a version asks for, and what is known of it.
#[derive(Debug)]
pub(crate) struct Reuse {
    max_calls: u32,
    pub(super) max_idle: Duration,
    /// It was tried, and nothing speaks against it.
    passed: AtomicBool,
    refusal: OnceLock<String>,
}

impl Reuse {
    /// A sandbox shall serve so many calls, and wait so long for the next one.
    pub(crate) fn new(max_calls: u32, max_idle: Duration) -> Self {
        Self { max_calls, max_idle, passed: AtomicBool::new(max_calls <= 1), refusal: OnceLock::new() }
    }

    /// It works.
    pub(crate) fn pass(&self) {
        self.passed.store(true, Ordering::Release);
    }

    /// It does not work, and why; the first reason counts. Says whether that is news.
    pub(crate) fn refuse(&self, reason: String) -> bool {
        self.refusal.set(reason).is_ok()
    }

    /// What is known: nothing yet, that it works (empty), or why not.
    pub(crate) fn verdict(&self) -> Option<&str> {
        let passed = self.passed.load(Ordering::Acquire).then_some("");
        self.refusal.get().map(String::as_str).or(passed)
    }

    /// Calls that a sandbox may serve, as things are.
    fn max_calls(&self) -> u32 {
        if self.verdict() == Some("") { self.max_calls } else { 1 }
    }
}

/// Looks for failures of sandboxes that were used before, where fresh ones do not fail.
#[derive(Debug, Default)]
pub(super) struct Suspicion {
    /// How often that was so, without a call in a used sandbox that went well.
    times: u32,
    /// How a used one failed, until a fresh one has shown whether it does so too.
    open: Option<Failure>,
}

impl Suspicion {
    /// Notes how a call ended; returns the failure that was one too many.
    fn note(&mut self, used: bool, failure: Option<&Failure>) -> Option<Failure> {
        match (used, failure) {
            (true, Some(failure)) => self.open = Some(failure.clone()),
            (true, None) | (false, Some(_)) => *self = Self::default(),
            (false, None) => {
                let failure = self.open.take()?;
                self.times += 1;
                return (self.times >= ENOUGH).then_some(failure);
            }
        }
        None
    }
}

impl Checkout {
    /// Runs a call in the sandbox, and puts back what can serve another one. Its slot is free after the rest.
    pub(crate) async fn run(self, call: Call) -> (Completion, Rest) {
        let Self { sandbox, mut slot, .. } = self;
        let max_calls = slot.pool.0.reuse.as_ref().map_or(1, |reuse| reuse.max_calls());
        let used = sandbox.is_used();
        let (completion, left) = sandbox.counted(slot.effort()).run_one_of(max_calls, call).await;
        let spent = slot.pool.end(used, &completion.outcome, left);
        (completion, Rest { spent, pool: slot.pool.clone(), slot: Some(slot) })
    }
}

impl Pool {
    /// A call has ended. Returns what is to be let go.
    fn end(&self, used: bool, outcome: &Outcome, left: Left) -> Option<Box<Sandbox>> {
        if let Some(reuse) = &self.0.reuse {
            self.suspect(reuse, used, outcome);
        }
        match (left, &self.0.reuse) {
            (Left::Ready(sandbox), Some(reuse)) => self.put_back(reuse, *sandbox),
            (Left::Ready(sandbox) | Left::Spent(sandbox), _) => return Some(sandbox),
            (Left::Unclean(what), _) => tracing::debug!(what, "a sandbox is not used again"),
            (Left::Nothing, _) => {}
        }
        None
    }

    /// Lets a sandbox wait for its next call, where there is room for one more that stands ready.
    fn put_back(&self, reuse: &Reuse, sandbox: Sandbox) {
        let Ok(share) = self.0.capacity.prepared.clone().try_acquire_owned() else { return };
        let waiting = Prepared { sandbox, until: Some(Instant::now() + reuse.max_idle), _share: share };
        let mut state = self.lock();
        if reuse.max_calls() > 1 && !state.over {
            state.prepared.push_back(waiting);
        }
    }

    /// Ends reuse where it does harm. Who cancels, or sends too much, says nothing of the guest.
    fn suspect(&self, reuse: &Reuse, used: bool, outcome: &Outcome) {
        let failure = match outcome {
            Outcome::Failed(Failure::Cancelled | Failure::RequestTooLarge { .. }) => return,
            Outcome::Failed(failure) => Some(failure),
            Outcome::Ok => None,
        };
        let last = self.lock().suspicion.note(used, failure);
        if let Some(last) = last {
            let reason =
                format!("sandboxes that had served a call failed {ENOUGH} times where fresh ones did not: {last}");
            self.refuse(reuse, &reason);
        }
    }

    /// Ends reuse for good, and says why once.
    pub(super) fn refuse(&self, reuse: &Reuse, reason: &str) {
        // What follows the first line are a guest's own frames.
        let reason = reason.lines().next().unwrap_or_default();
        if reuse.refuse(reason.to_owned()) {
            tracing::info!(reason, "sandboxes are not used again: every call gets a fresh one");
        }
        let mut state = self.lock();
        let fresh = state.prepared.partition_point(|prepared| prepared.until.is_none());
        let used = state.prepared.split_off(fresh);
        self.nudge(state);
        drop(used);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_failures_that_fresh_sandboxes_do_not_have_are_held_against_reuse() {
        const USED: (bool, bool) = (true, true);
        const USED_OK: (bool, bool) = (true, false);
        const FRESH: (bool, bool) = (false, true);
        const FRESH_OK: (bool, bool) = (false, false);
        for (name, calls, refused) in [
            ("three times", &[USED, FRESH_OK, USED, FRESH_OK, USED, FRESH_OK][..], true),
            ("all at once, then fine again", &[USED, USED, USED, USED, FRESH_OK], false),
            ("the function itself is broken", &[USED, FRESH, USED, FRESH, USED, FRESH, USED, FRESH], false),
            ("it mostly works", &[USED, FRESH_OK, USED, FRESH_OK, USED_OK, USED, FRESH_OK], false),
            ("nothing ever fails", &[FRESH_OK, USED_OK, FRESH_OK, USED_OK, FRESH_OK], false),
        ] {
            let mut suspicion = Suspicion::default();
            let failures = calls.iter().map(|(used, failed)| (*used, failed.then_some(&Failure::NoResponse)));
            let found = failures.filter_map(|(used, failure)| suspicion.note(used, failure)).next();
            assert_eq!(found.is_some(), refused, "{name}");
        }
    }

    #[test]
    fn nothing_is_used_again_before_it_was_tried_nor_after_it_failed() {
        let reuse = Reuse::new(100, Duration::from_secs(10));
        assert_eq!((reuse.verdict(), reuse.max_calls()), (None, 1));
        reuse.pass();
        assert_eq!((reuse.verdict(), reuse.max_calls()), (Some(""), 100));
        assert!(reuse.refuse("why".to_owned()) && !reuse.refuse("again".to_owned()));
        assert_eq!((reuse.verdict(), reuse.max_calls()), (Some("why"), 1));
        assert_eq!(Reuse::new(1, Duration::ZERO).verdict(), Some(""), "there is nothing to try");
    }
}
