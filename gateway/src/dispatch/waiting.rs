//! The record of a call while its answer's head is waited for. A caller who leaves meanwhile ends the wait and not the call at
//! once: the worker is told to stop it, and what it says of its cost still completes the record. A caller who leaves during the
//! body is `response.rs`'s.

use super::{
    call::{BodySender, CallHandle},
    record::Ledger,
};

/// A wait. Dropped before it is over, it leaves the record to the call's end.
pub(super) struct Wait<'a> {
    call: BodySender,
    ledger: &'a mut Ledger,
    over: bool,
}

impl<'a> Wait<'a> {
    /// Begins to wait for what a call comes to.
    pub(super) fn begin(call: &CallHandle, ledger: &'a mut Ledger) -> Self {
        Self { call: call.sender(), ledger, over: false }
    }

    /// The record.
    pub(super) fn ledger(&mut self) -> &mut Ledger {
        self.ledger
    }

    /// It is known what became of the call.
    pub(super) fn over(mut self) {
        self.over = true;
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        // The call's own handle is dropped before this and has told the worker.
        if !self.over {
            self.call.keep(std::mem::replace(self.ledger, Ledger::none()));
        }
    }
}
