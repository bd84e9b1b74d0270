//! What calls need of the scheduler now and then: a first part of a limit that nobody has called before, and single
//! admissions under limits that are too small to divide. While there is no scheduler and nothing was lent, the gateway takes the
//! part that it would have if all gateways were asked alike, and says so when the scheduler is back.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use dunlin_proto::{
    ApiError, ErrorCode,
    ids::GatewayId,
    internal::v1::{AdmitRequest, BorrowQuotaRequest, BorrowQuotaResponse},
    model::from_wire_duration,
};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout},
};

use super::{
    Limit, Share,
    bucket::{Asked, time, units},
    place::Place,
    slots::Slots,
};
use crate::{dispatch::Directory, upstream::Scheduler};

/// How long a call waits for the first part of a limit, and for a single admission.
const PATIENCE: Duration = Duration::from_millis(500);
/// After a question that nobody answered, none is asked for so long.
const PAUSE: Duration = Duration::from_secs(1);

/// Borrows for calls. Clones share everything.
#[derive(Debug, Clone)]
pub(crate) struct Borrowing(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    gateway: GatewayId,
    /// By what the scheduler tells this process from another one of the same name.
    boot: u64,
    directory: Directory,
    scheduler: Scheduler,
    link: Mutex<Link>,
    /// Whether a stream has been tried: before, nobody knows whether there is a scheduler.
    tried: watch::Sender<bool>,
    /// Wakes the stream: somebody waits for a part.
    wake: Notify,
    /// Wakes it for limits of calls at once.
    slots: Arc<Notify>,
    /// Questions to the scheduler about limits and quotas, and reports of what callers want of them.
    asked: AtomicU64,
}

/// Whether there is a stream to the scheduler, and how often something was taken without one.
#[derive(Debug, Default)]
struct Link {
    up: bool,
    taken: u64,
}

impl Borrowing {
    /// Borrows from this scheduler; the directory knows how many gateways there are.
    pub(crate) fn new(gateway: GatewayId, directory: Directory, scheduler: Scheduler) -> Self {
        let (link, tried, wake) = (Mutex::default(), watch::Sender::default(), Notify::new());
        let (slots, asked) = (Arc::default(), AtomicU64::new(0));
        let boot = rand::random_range(1..=u64::MAX);
        Self(Arc::new(Inner { gateway, boot, directory, scheduler, link, tried, wake, slots, asked }))
    }

    /// By what the scheduler tells this process from another one of the same name.
    pub(crate) fn boot(&self) -> u64 {
        self.0.boot
    }

    fn link(&self) -> MutexGuard<'_, Link> {
        self.0.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until somebody waits for a part. Cancel-safe.
    pub(crate) async fn woken(&self) {
        self.0.wake.notified().await;
    }

    /// Wakes the stream for limits of calls at once.
    pub(crate) fn slots(&self) -> Arc<Notify> {
        self.0.slots.clone()
    }

    /// How often something was taken without the scheduler.
    pub(crate) fn taken(&self) -> u64 {
        self.link().taken
    }

    /// How often the scheduler was asked or told something about limits.
    pub(crate) fn asked(&self) -> u64 {
        self.0.asked.load(Ordering::Relaxed)
    }

    /// The scheduler is asked or told once more.
    pub(crate) fn count(&self) {
        self.0.asked.fetch_add(1, Ordering::Relaxed);
    }

    /// There is a stream, at whose beginning the scheduler was told of everything that had been taken by then; whether that
    /// is still everything.
    pub(crate) fn open(&self, taken: u64) -> bool {
        let mut link = self.link();
        link.up = link.taken == taken;
        self.0.tried.send_replace(true);
        link.up
    }

    /// There is no stream.
    pub(crate) fn close(&self) {
        self.link().up = false;
        self.0.tried.send_replace(true);
    }

    /// Waits until it is known whether there is a scheduler, though not for long.
    async fn tried(&self) {
        let mut tried = self.0.tried.subscribe();
        // The sender is here: only time can run out.
        let _ = timeout(PATIENCE, tried.wait_for(|tried| *tried)).await;
    }

    /// Whether there is a stream to the scheduler.
    pub(crate) fn is_linked(&self) -> bool {
        self.link().up
    }

    /// Takes a part of a limit, unless the scheduler can be asked for one.
    fn take(&self, limit: &Limit, now: Instant) {
        let mut link = self.link();
        if link.up {
            return;
        }
        let part = self.place().part();
        let share =
            Share { per_second: limit.rate.per_second() * part, burst: (f64::from(limit.rate.burst) * part).max(1.0) };
        limit.part.get().take(share, now);
        link.taken += 1;
    }

    fn place(&self) -> Place {
        let directory = self.0.directory.load();
        Place::of(directory.gateways.iter().map(|peer| peer.gateway.as_str()), self.0.gateway.as_str())
    }

    /// Waits for a part of a limit of so many calls at once, where there is none and the scheduler may not know that one is
    /// wanted. Whether there is room in it is seen afterwards. Returns whether it is known how much this gateway has.
    pub(crate) async fn first_slot(&self, slots: &Slots, limit: u32) -> bool {
        self.tried().await;
        let told = slots.told.notified();
        tokio::pin!(told);
        // From here on no loan is missed.
        told.as_mut().enable();
        if slots.is_dry() && self.is_linked() {
            slots.ask();
            self.0.slots.notify_one();
            // Whether it came in time is seen below.
            let _ = timeout(PATIENCE, told).await;
        }
        if !slots.is_known() {
            self.assume(slots, limit);
        }
        slots.is_known()
    }

    /// Takes a part of a limit of calls at once, unless the scheduler can be asked for one.
    fn assume(&self, slots: &Slots, limit: u32) {
        let mut link = self.link();
        if !link.up {
            slots.assume(self.place().exactly(limit));
            link.taken += 1;
        }
    }

    /// Admits a call under a limit of which this gateway has never had a part.
    pub(super) async fn first_part(&self, limit: &Limit) -> Result<(), ApiError> {
        self.tried().await;
        let part = limit.part.get();
        let told = part.told.notified();
        tokio::pin!(told);
        // From here on no loan is missed.
        told.as_mut().enable();
        if !part.is_known() && self.is_linked() {
            part.wait();
            self.0.wake.notify_one();
            // Whether it came in time is seen below.
            let _ = timeout(PATIENCE, told).await;
        }
        let now = Instant::now();
        if !part.is_known() {
            self.take(limit, now);
        }
        match part.ask(part.moment(now)) {
            Asked::Never if !part.is_known() => Err(unknown(limit)),
            asked => limit.outcome(asked),
        }
    }

    /// Admits a call under a limit that is granted one by one.
    pub(super) async fn admit_one(&self, limit: &Limit) -> Result<(), ApiError> {
        check(limit)?;
        if !self.is_linked() {
            return self.alone(limit);
        }
        let _one = limit.part.get().asking.lock().await;
        // Whoever was before may have learnt when to ask again.
        check(limit)?;
        let request = AdmitRequest { limit: limit.id.to_string() };
        let mut client = self.0.scheduler.sync();
        self.count();
        match timeout(PATIENCE, client.admit(request)).await {
            Ok(Ok(answer)) if answer.get_ref().admitted => Ok(()),
            Ok(Ok(answer)) => Err(refuse(limit, from_wire_duration(answer.get_ref().retry_after), false)),
            // It is no longer limited, and this gateway is about to learn of it.
            Ok(Err(status)) if status.code() == tonic::Code::NotFound => Ok(()),
            Ok(Err(_)) | Err(_) => Err(refuse(limit, PAUSE, true)),
        }
    }

    /// Borrows a part of a quota, or gives it back.
    ///
    /// # Errors
    /// The scheduler did not answer in time, or its answer is an error.
    pub(crate) async fn quota(&self, request: BorrowQuotaRequest) -> Result<BorrowQuotaResponse, tonic::Status> {
        let request = BorrowQuotaRequest { gateway: self.0.gateway.to_string(), boot: self.0.boot, ..request };
        let mut client = self.0.scheduler.sync();
        self.count();
        let late = |_| tonic::Status::deadline_exceeded("the scheduler does not answer");
        timeout(PATIENCE, client.borrow_quota(request)).await.map_err(late)?.map(tonic::Response::into_inner)
    }

    /// Without the scheduler.
    fn alone(&self, limit: &Limit) -> Result<(), ApiError> {
        let now = Instant::now();
        let part = limit.part.get();
        let moment = part.moment(now);
        match part.ask(moment) {
            Asked::Never => {
                self.take(limit, now);
                limit.outcome(part.ask(moment))
            }
            asked => limit.outcome(asked),
        }
    }
}

/// Refuses as the scheduler did, until it is time to ask again.
fn check(limit: &Limit) -> Result<(), ApiError> {
    let part = limit.part.get();
    let left = part.not_before.load(Ordering::Acquire).saturating_sub(part.moment(Instant::now()));
    match left {
        0 => Ok(()),
        _ if part.unsure.load(Ordering::Relaxed) => Err(unknown(limit)),
        left => Err(limit.refusal(time(left))),
    }
}

/// Refuses, and remembers until when.
fn refuse(limit: &Limit, wait: Duration, unsure: bool) -> ApiError {
    let part = limit.part.get();
    part.unsure.store(unsure, Ordering::Relaxed);
    part.not_before.store(part.moment(Instant::now()).saturating_add(units(wait)), Ordering::Release);
    if unsure { unknown(limit) } else { limit.refusal(wait) }
}

fn unknown(limit: &Limit) -> ApiError {
    let message = format!("how much is left of the rate of {} is not known here for now", limit.whose);
    ApiError::new(ErrorCode::Unavailable, message).hint("the scheduler does not answer; try again").retry_after(PAUSE)
}
