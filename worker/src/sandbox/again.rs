//! Using a sandbox again: what a call may not leave behind, what the next one gets anew, and the one decision between them.
//!
//! Memory, globals and what a guest holds for good (its standard streams) stay; they belong to one version, which asked for
//! that. Everything of a call is its own: meter, limits, log, deadline, outbound requests. A guest that trapped, was stopped or
//! answered wrongly never comes here, since whoever runs it has no sandbox left then.

use std::sync::Arc;
use std::time::Duration;

use wasmtime::component::ResourceTable;
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, DynPollable};

use super::run::Sandbox;
use super::runtime::Guest;
use super::state::State;

/// Streams and the like that a guest may hold from call to call. The C library opens one for each standard stream.
const KEPT: usize = 16;
/// Linear memory up to which a sandbox is soon let go.
const SMALL: u64 = 16 << 20;

/// What is left of a sandbox after a call.
#[derive(Debug)]
pub enum Left {
    /// Nothing: the call failed, or was the last one of a sandbox that takes long to let go.
    Nothing,
    /// A sandbox that has served its last call. Letting it go takes half as long as a small call, which nobody has to wait for.
    Spent(Box<Sandbox>),
    /// It went well, but left something behind with which no other call may begin; says what.
    Unclean(&'static str),
    /// A sandbox that can serve another call.
    Ready(Box<Sandbox>),
}

impl Sandbox {
    /// Decides what is left of it after a call that ended well in every respect.
    pub(super) fn finish(mut self, max_calls: u32) -> Left {
        self.served += 1;
        if self.served >= max_calls {
            return self.spend();
        }
        match self.leftover() {
            Some(what) => Left::Unclean(what),
            None => Left::Ready(Box::new(self)),
        }
    }

    /// Hands out what is soon let go. Anything else goes here, where its guest has run and on its account: on the thread of
    /// its call it would keep others waiting.
    fn spend(self) -> Left {
        let small = self.meter.memory_peak() <= SMALL && !self.meter.is_heavy();
        if small { Left::Spent(Box::new(self)) } else { Left::Nothing }
    }

    /// What keeps it from serving another call, if anything does.
    fn leftover(&mut self) -> Option<&'static str> {
        if matches!(self.guest, Guest::Command(_)) {
            return Some("a command's program ends with its call");
        }
        if self.meter.halt_reason().is_some() {
            return Some("it had reached a limit");
        }
        if !self.store.concurrent_resource_table().is_none_or(|table| table.is_empty()) {
            return Some("a task, stream or future of the call had not ended");
        }
        self.store.data_mut().leftover()
    }

    /// Begins a new account, if it has served before: of the last call, nothing counts any more.
    pub(super) fn renew(&mut self) {
        if self.served == 0 {
            return;
        }
        let meter = Arc::new(self.meter.next());
        self.console.renew(meter.clone());
        self.store.data_mut().renew(&meter);
        (self.meter, self.instantiation) = (meter, Duration::ZERO);
    }
}

impl State {
    /// After the guest's last word. What it left open will not be written any more, and its ends in the delivery must see
    /// that; but a guest that serves `again` must find what it keeps for good, and keeps it if it left nothing else.
    pub(super) fn settle(&mut self, again: bool) {
        if again {
            self.unsettled = self.leftover();
        }
        if !again || self.unsettled.is_some() {
            self.table = ResourceTable::new();
        }
    }

    /// What the guest holds of the call that is over.
    fn leftover(&mut self) -> Option<&'static str> {
        let (held, foreign) = self.table.iter_mut().fold((0, false), |(held, foreign), entry| {
            let kept = entry.is::<DynOutputStream>() || entry.is::<DynInputStream>() || entry.is::<DynPollable>();
            (held + 1, foreign || !kept)
        });
        if foreign {
            return Some("a request, response, body or timer of the call was still open");
        }
        if !self.hooks.is_idle() {
            return Some("an outbound request was still under way");
        }
        self.unsettled.or((held > KEPT).then_some("too many streams were still open"))
    }
}
