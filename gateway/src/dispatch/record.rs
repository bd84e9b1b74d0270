//! The record of an invocation while it runs: begun at acceptance, finished exactly once, whatever happens.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use dunlin_proto::{ApiError, ErrorCode, ids::GatewayId};
use tokio::{sync::oneshot, time::Instant};

use super::{Invocation, endpoint::Endpoint, outcome::CalledBy};
use crate::{
    metering::Meter,
    metrics::Calls,
    quota::Taken,
    records::{Choice, Receipt, Record, Records, method_text},
    routes::Demand,
};

/// What an invocation waits for, which an error about time names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// For a placement or a session.
    Worker,
    /// For the guest.
    Function,
}

/// The record of a running invocation. Dropped unfinished, it says that the caller left.
#[derive(Debug)]
pub(super) struct Ledger(Option<Box<Open>>);

#[derive(Debug)]
struct Open {
    record: Record,
    records: Arc<Records>,
    called_by: Option<CalledBy>,
    accepted: Instant,
    stage: Stage,
    calls: Arc<Calls>,
    running: Running,
    meter: Meter,
    told: Option<oneshot::Sender<Arc<Record>>>,
    /// Whoever gets the answer gets the record with it.
    shown: bool,
    _slot: Slot,
}

impl Open {
    /// It is over. The record is returned where it is shown.
    fn close(mut self) -> Option<Arc<Record>> {
        if self.record.error.is_empty() && self.record.outcome == ErrorCode::Cancelled.as_str() {
            self.record.error = "the caller left before the whole answer".to_owned();
        }
        // Without a receipt, nothing else says how long it took.
        if self.record.has_error() {
            self.record.came.traced.lasted = self.accepted.elapsed();
        }
        self.running.0.outcomes.count(&self.record, self.called_by.as_ref());
        self.calls.ended(&self.record);
        self.meter.count(&self.record);
        self.records.trace(&mut self.record);
        self.calls.traced(&self.record);
        let shown = (self.shown || self.told.is_some()).then(|| Arc::new(self.record.clone()));
        if let (Some(told), Some(record)) = (self.told.take(), &shown) {
            // Who has left does not want it any more.
            let _ = told.send(record.clone());
        }
        self.records.add(self.record);
        shown
    }
}

/// Counts an invocation of a version for as long as it lives.
#[derive(Debug)]
struct Running(Arc<Demand>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One of the invocations that this gateway takes at once, and its place under its function's limits.
#[derive(Debug)]
pub(super) struct Slot {
    all: Arc<AtomicUsize>,
    _taken: Taken,
}

impl Slot {
    /// Takes a slot for an invocation with a place under its limits, where fewer than `most` are taken.
    pub(super) fn take(all: &Arc<AtomicUsize>, most: usize, taken: Taken) -> Option<Self> {
        let slot = Self { all: all.clone(), _taken: taken };
        (all.fetch_add(1, Ordering::Relaxed) < most).then_some(slot)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.all.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Ledger {
    /// Begins the record of an invocation.
    pub(super) fn begin(
        invocation: &mut Invocation,
        gateway: &GatewayId,
        records: &Arc<Records>,
        (slot, calls, meter): (Slot, Arc<Calls>, Meter),
    ) -> Self {
        let demand = invocation.version.demand.clone();
        demand.in_flight.fetch_add(1, Ordering::Relaxed);
        let record = Record {
            id: invocation.id,
            function: invocation.function.name.clone(),
            version: invocation.version.key.number,
            start_time: SystemTime::now().checked_sub(invocation.accepted.elapsed()).unwrap_or(SystemTime::UNIX_EPOCH),
            method: method_text(invocation.request.method()),
            path: invocation.request.uri().path().to_owned(),
            status: 0,
            gateway: gateway.clone(),
            worker: Arc::default(),
            outcome: ErrorCode::Cancelled.as_str().into(),
            error: String::new(),
            receipt: Receipt::default(),
            request_id: invocation.request_id.clone(),
            weight: 1,
            hint: String::new(),
            came: std::mem::take(&mut invocation.came),
        };
        let (records, accepted) = (records.clone(), invocation.accepted);
        let (running, called_by) = (Running(demand), invocation.called_by.take());
        let (stage, told, shown) = (Stage::Worker, invocation.told.take(), invocation.shown);
        let open =
            Open { record, records, called_by, accepted, stage, calls, running, meter, told, shown, _slot: slot };
        Self(Some(Box::new(open)))
    }

    /// The record of nothing.
    pub(super) fn none() -> Self {
        Self(None)
    }

    /// The record as it is now, where it is shown.
    pub(super) fn snapshot(&self) -> Option<Arc<Record>> {
        self.0.as_ref().filter(|open| open.shown).map(|open| Arc::new(open.record.clone()))
    }

    /// It goes to an endpoint, after this time in the gateway.
    pub(super) fn sent_to(&mut self, endpoint: &Endpoint, choice: Choice) {
        if let Some(open) = &mut self.0 {
            open.stage = Stage::Function;
            open.record.worker = endpoint.worker.clone();
            let came = &mut open.record.came;
            (came.endpoint, came.choice, came.tries) = (Some(endpoint.label.clone()), choice, came.tries + 1);
            let waited = open.accepted.elapsed();
            open.record.receipt = Receipt { queue: waited, gateway_queue: waited, ..open.record.receipt };
        }
    }

    /// What it waits for.
    pub(super) fn stage(&self) -> Stage {
        self.0.as_ref().map_or(Stage::Function, |open| open.stage)
    }

    /// The caller gets this status.
    pub(super) fn answered(&mut self, status: u16) {
        if let Some(open) = &mut self.0 {
            open.record.status = status;
        }
    }

    /// What it cost so far: the time in the gateway's queue.
    pub(super) fn queue(&self) -> Duration {
        self.0.as_ref().map(|open| open.record.receipt.queue).unwrap_or_default()
    }

    /// It failed; `status` is what the caller got.
    pub(super) fn fail(&mut self, error: &ApiError) {
        if let Some(open) = &mut self.0 {
            open.record.outcome = error.code.as_str().into();
            open.record.error.clone_from(&error.message);
            open.record.hint = error.hint.clone().unwrap_or_default();
        }
    }

    /// All went well so far.
    pub(super) fn succeed(&mut self) {
        if let Some(open) = &mut self.0 {
            open.record.outcome = "ok".into();
        }
    }

    /// Takes in what the worker measured.
    pub(super) fn cost(&mut self, receipt: Receipt) -> Receipt {
        let Some(open) = &mut self.0 else { return receipt };
        let gateway_queue = open.record.receipt.gateway_queue;
        let queue = gateway_queue + receipt.queue;
        open.record.receipt = Receipt { queue, gateway_queue, ..receipt };
        open.record.receipt
    }

    /// Completes a record whose outcome was known before its cost.
    pub(super) fn finish_late(mut self, receipt: Receipt) {
        self.cost(receipt);
    }

    /// Keeps the record, and hands it over where it is shown.
    pub(super) fn finish(&mut self) -> Option<Arc<Record>> {
        self.0.take().and_then(|open| open.close())
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        if let Some(open) = self.0.take() {
            open.close();
        }
    }
}
