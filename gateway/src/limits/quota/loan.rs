//! What a gateway has borrowed of a quota. Calls touch nothing but atomics: they take what may be used. What is left beyond that is
//! the loan's floor, of which nothing is used before the scheduler has been told and has said that it knows. So it can give
//! back the floor when this process is gone, whenever that is.
//!
//! What makes the floor lower comes through `lower` alone, and what it says, through `news`. The numbers of loans tell
//! which of them a message is about: of those that have been given back, nothing is used and nothing is said.

use std::{
    sync::{
        MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use dunlin_proto::{internal::v1::BorrowQuotaResponse, model::from_wire_duration};
use tokio::{sync::Mutex, time::Instant};

use super::{
    super::{
        begun::Begins,
        bucket::{Moment, units},
    },
    Account,
    window::Window,
};

/// How often it is told what is left, for people to see, where nothing depends on it.
const TOLD: Duration = Duration::from_secs(3);
/// Never what is left: it has to be looked at.
const UNSETTLED: i64 = i64::MIN;

/// What has been borrowed. It survives changes of the configuration.
#[derive(Debug)]
pub(crate) struct QuotaLoan {
    base: Instant,
    /// Admissions that may be used; below 0 where more have asked.
    pub(super) left: AtomicI64,
    /// Until when they may be used.
    pub(super) valid: AtomicU64,
    /// Before this moment the scheduler need not be asked.
    pub(super) not_before: AtomicU64,
    /// Whether that is so because it did not answer.
    pub(super) unsure: AtomicBool,
    /// What was gone of the quota when nothing was granted.
    pub(super) gone: AtomicU64,
    /// When the period began that it is of, in seconds since 1970.
    pub(super) period_start: AtomicI64,
    /// Calls that were admitted because nobody could be asked.
    pub(super) owed: AtomicU64,
    /// While as much may be used, there is nothing to say.
    settled: AtomicI64,
    /// What is promised. Whoever holds it waits for nobody.
    promise: std::sync::Mutex<Promise>,
    /// One question at a time: who waits may learn from its answer.
    pub(super) account: Mutex<Account>,
}

/// What may be used later, and what was said of it.
#[derive(Debug)]
struct Promise {
    /// Which loan it is; counts up with each question.
    loan: u64,
    /// What is left beyond what may be used.
    floor: u64,
    window: Window,
    /// What was left when it was looked at last, and when that was.
    seen: (u64, Instant),
    /// Admissions since it was looked for news the last time.
    lately: u64,
    /// What the scheduler was told last: what is left, and the floor. Nothing where it was told nothing on this stream.
    told: Option<(u64, u64)>,
    /// Before this moment it is not told what only people look at.
    tell_at: Option<Instant>,
    /// The number of the report whose floor is lower than the one in force.
    unconfirmed: Option<u64>,
}

/// What is given back with a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Surrendered {
    pub(super) left: u64,
    /// The number of the loan that is asked for.
    pub(super) loan: u64,
    /// What of it shall be used without a word.
    pub(super) window: u64,
    /// Only what may be used was used up: there was a floor.
    pub(super) exceeded: bool,
}

/// What the scheduler is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct News {
    pub(crate) loan: u64,
    pub(crate) period_start: i64,
    pub(crate) left: u64,
    pub(crate) floor: u64,
    /// The floor is lower than the one in force: it is lowered when the scheduler knows.
    pub(crate) lowers: bool,
}

/// A report in which there may be news.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Report {
    /// Its number.
    pub(crate) sequence: u64,
    /// How long ago it was looked for news the last time.
    pub(crate) since: Duration,
    /// Whether the scheduler says what it knows: only then may the floor become higher.
    pub(crate) confirms: bool,
}

impl Begins for QuotaLoan {
    /// Nothing is borrowed yet.
    fn begin_at(base: Instant) -> Self {
        let promise = Promise {
            loan: 0,
            floor: 0,
            window: Window::default(),
            seen: (0, base),
            lately: 0,
            told: None,
            tell_at: None,
            unconfirmed: None,
        };
        Self {
            base,
            left: AtomicI64::new(0),
            valid: AtomicU64::new(0),
            not_before: AtomicU64::new(0),
            unsure: AtomicBool::new(false),
            gone: AtomicU64::new(0),
            period_start: AtomicI64::new(0),
            owed: AtomicU64::new(0),
            settled: AtomicI64::new(UNSETTLED),
            promise: std::sync::Mutex::new(promise),
            account: Mutex::default(),
        }
    }
}

impl QuotaLoan {
    pub(super) fn moment(&self, now: Instant) -> Moment {
        units(now.saturating_duration_since(self.base))
    }

    fn promise(&self) -> MutexGuard<'_, Promise> {
        self.promise.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The quota has changed: what is left is given back with the next question, which may be asked at once.
    pub(crate) fn reset(&self) {
        self.valid.store(0, Ordering::Release);
        self.not_before.store(0, Ordering::Release);
    }

    /// Whether something may be used.
    pub(super) fn has_some(&self, now: Moment) -> bool {
        now < self.valid.load(Ordering::Acquire) && self.left.load(Ordering::Acquire) > 0
    }

    /// Takes one admission of what may be used.
    pub(super) fn take(&self, now: Moment) -> bool {
        self.has_some(now) && self.left.fetch_sub(1, Ordering::AcqRel) > 0
    }

    /// Nothing is left here from now on; what was is the scheduler's.
    pub(super) fn surrender(&self, now: Instant) -> Surrendered {
        let mut promise = self.promise();
        let open = open(self.left.swap(0, Ordering::AcqRel));
        self.settled.store(UNSETTLED, Ordering::Release);
        let left = open.saturating_add(promise.floor);
        let valid = self.moment(now) < self.valid.load(Ordering::Acquire);
        let exceeded = open == 0 && promise.floor > 0 && valid;
        let (used, since) = promise.look(left, now);
        if exceeded {
            promise.window.exceeded(used, since);
        }
        promise.loan += 1;
        (promise.floor, promise.seen.0, promise.unconfirmed) = (0, 0, None);
        // Where no answer comes, it is said that nothing is left.
        (promise.told, promise.tell_at) = (Some((left, 0)), None);
        Surrendered { left, loan: promise.loan, window: promise.window.size(), exceeded }
    }

    /// Keeps what the scheduler lends, and takes one admission of it for whoever asked. Where something else has been asked for
    /// meanwhile, it is not kept: the scheduler takes it for given back.
    pub(super) fn keep(&self, loan: u64, answer: &BorrowQuotaResponse, asked: Instant) {
        let mut promise = self.promise();
        if promise.loan != loan {
            return;
        }
        let rest = answer.granted.saturating_sub(1);
        promise.floor = answer.floor.min(rest);
        promise.told = Some((answer.granted, promise.floor));
        promise.seen = (answer.granted, Instant::now());
        self.period_start.store(answer.period_start, Ordering::Release);
        // From when it was asked: so it never lasts longer than the period.
        let valid = self.moment(asked).saturating_add(units(from_wire_duration(answer.valid_for)));
        self.valid.store(valid, Ordering::Release);
        self.settled.store(UNSETTLED, Ordering::Release);
        self.left.store(signed(rest - promise.floor), Ordering::Release);
    }

    /// What there is to tell: a lower floor where what may be used becomes little, a higher one where it is more than is used
    /// without a word, and now and then what is left.
    pub(crate) fn news(&self, report: Report, now: Instant) -> Option<News> {
        let raw = self.left.load(Ordering::Acquire);
        // While a question is open, its answer says what is left.
        if self.account.try_lock().is_err() || raw == self.settled.load(Ordering::Acquire) {
            return None;
        }
        let mut promise = self.promise();
        let left = open(raw).saturating_add(promise.floor);
        promise.look(left, now);
        let lately = std::mem::take(&mut promise.lately);
        promise.window.paced(lately, report.since);
        let raised = report.confirms && promise.unconfirmed.is_none() && self.raise(&mut promise);
        // Read again: calls go on. Less than it is now is never promised.
        let open = open(self.left.load(Ordering::Acquire));
        let left = open.saturating_add(promise.floor);
        let news = promise.news(open, left, raised, now);
        let at_rest = news.is_none() && promise.is_settled(left);
        self.settled.store(if at_rest { raw } else { UNSETTLED }, Ordering::Release);
        let (floor, lowers) = news?;
        promise.say(left, floor, lowers.then_some(report.sequence), now);
        let period_start = self.period_start.load(Ordering::Acquire);
        Some(News { loan: promise.loan, period_start, left, floor, lowers })
    }

    /// Has no more used than the window without a word. Says whether that was so.
    fn raise(&self, promise: &mut Promise) -> bool {
        let size = promise.window.size();
        let (most, window) = (signed(size.saturating_add(size / 4)), signed(size));
        let lower = |left| (left > most).then_some(window);
        let Ok(before) = self.left.fetch_update(Ordering::AcqRel, Ordering::Acquire, lower) else { return false };
        promise.floor = promise.floor.saturating_add(open(before).saturating_sub(size));
        true
    }

    /// The scheduler knows of this floor, which it was told in the report of this number.
    pub(crate) fn lower(&self, loan: u64, floor: u64, sequence: u64) {
        let mut promise = self.promise();
        if promise.loan != loan {
            return;
        }
        if promise.unconfirmed.is_some_and(|unconfirmed| unconfirmed <= sequence) {
            promise.unconfirmed = None;
        }
        let more = signed(promise.floor.saturating_sub(floor));
        promise.floor = promise.floor.min(floor);
        self.settled.store(UNSETTLED, Ordering::Release);
        let add = |left: i64| Some(left.max(0).saturating_add(more));
        let _ = self.left.fetch_update(Ordering::AcqRel, Ordering::Acquire, add);
    }

    /// A new stream begins: the scheduler may know nothing of what is left, and confirms nothing that it was told before.
    pub(crate) fn begin(&self) {
        let mut promise = self.promise();
        (promise.told, promise.tell_at, promise.unconfirmed) = (None, None, None);
        self.settled.store(UNSETTLED, Ordering::Release);
    }
}

impl Promise {
    /// So much is left now. Returns what was used since the last time, and how long ago that was.
    fn look(&mut self, left: u64, now: Instant) -> (u64, Duration) {
        let (used, since) = (self.seen.0.saturating_sub(left), now.saturating_duration_since(self.seen.1));
        self.window.used(used);
        self.lately = self.lately.saturating_add(used);
        self.seen = (left, now);
        (used, since)
    }

    /// The lowest floor that has been said or is in force: while one is not confirmed, no higher one may be said.
    fn lowest(&self) -> u64 {
        let said = self.told.filter(|_| self.unconfirmed.is_some()).map(|(_, floor)| floor);
        said.unwrap_or(self.floor).min(self.floor)
    }

    /// The floor to say now, and whether it is lower than what was; nothing where nothing is to be said.
    fn news(&self, open: u64, left: u64, raised: bool, now: Instant) -> Option<(u64, bool)> {
        let (size, lowest) = (self.window.size(), self.lowest());
        let wanted = left.saturating_sub(size);
        if wanted < lowest && open < size - size / 4 {
            return Some((wanted, true));
        }
        let is_due = self.tell_at.is_none_or(|tell_at| now >= tell_at);
        let tells = match self.told {
            None => left > 0,
            Some((told, _)) => told != left && is_due,
        };
        (raised || tells).then_some((lowest, false))
    }

    /// Whether there is nothing to say before more is used.
    fn is_settled(&self, left: u64) -> bool {
        let told = self.told.map_or(0, |(told, _)| told);
        told == left && self.unconfirmed.is_none() && self.window.is_still()
    }

    fn say(&mut self, left: u64, floor: u64, lowers: Option<u64>, now: Instant) {
        self.told = Some((left, floor));
        self.tell_at = Some(now + TOLD);
        self.unconfirmed = lowers.or(self.unconfirmed);
    }
}

/// What may be used: nothing where more have asked than there was.
fn open(left: i64) -> u64 {
    u64::try_from(left).unwrap_or_default()
}

fn signed(admissions: u64) -> i64 {
    i64::try_from(admissions).unwrap_or(i64::MAX)
}
