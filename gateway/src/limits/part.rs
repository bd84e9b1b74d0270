//! This gateway's part of one limited rate: the bucket that calls are held against, what callers want, and the account with
//! the scheduler. It survives changes of the configuration. Calls touch nothing here but atomics.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::{sync::Notify, time::Instant};

use super::{
    account::Account,
    begun::Begins,
    bucket::{self, Asked, Bucket, Moment, Share, units},
    recent::Recent,
};

/// In so much time the pace of callers is forgotten by half.
const HALF: f64 = 0.25;

/// What the scheduler lends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Loan {
    /// Which part of this gateway's it is for; 0 for any.
    pub(crate) part: u64,
    /// Counts up within a stream.
    pub(crate) sequence: u64,
    /// This gateway's part from now on.
    pub(crate) share: Share,
    /// Admissions that came with the loans of this stream, all together.
    pub(crate) granted: f64,
}

/// What the scheduler is told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Want {
    /// Calls a second, or at once.
    pub(crate) calls: f64,
    /// The last loan that is kept to.
    pub(crate) sequence: u64,
    /// How many run at once, where that is more than the part.
    pub(crate) uses: f64,
    /// Which part of this gateway's it is about.
    pub(crate) part: u64,
}

/// A part.
#[derive(Debug)]
pub(crate) struct Part {
    base: Instant,
    bucket: ArcSwap<Bucket>,
    calls: AtomicU64,
    /// Before this moment the scheduler need not be asked for a single admission.
    pub(super) not_before: AtomicU64,
    /// Whether that is so because it did not answer.
    pub(super) unsure: AtomicBool,
    /// One question about a single admission at a time: who waits may learn from its answer.
    pub(super) asking: tokio::sync::Mutex<()>,
    /// Wakes calls that came before there was a part.
    pub(super) told: Notify,
    books: Mutex<Books>,
}

/// The account with the scheduler, and the callers' pace.
#[derive(Debug)]
struct Books {
    account: Account,
    /// Admissions that came with the loans of this stream.
    granted: f64,
    counted: u64,
    measured: Instant,
    recent: Recent,
}

impl Begins for Part {
    /// Nothing is lent yet.
    fn begin_at(now: Instant) -> Self {
        let books =
            Books { account: Account::anew(), granted: 0.0, counted: 0, measured: now, recent: Recent::default() };
        Self {
            base: now,
            bucket: ArcSwap::from_pointee(Bucket::new(Share::default(), 0.0, 0)),
            calls: AtomicU64::new(0),
            not_before: AtomicU64::new(0),
            unsure: AtomicBool::new(false),
            asking: tokio::sync::Mutex::default(),
            told: Notify::new(),
            books: Mutex::new(books),
        }
    }
}

impl Part {
    pub(super) fn moment(&self, now: Instant) -> Moment {
        units(now.saturating_duration_since(self.base))
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody calls.
    pub(super) fn count(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    /// Asks for one admission.
    pub(super) fn ask(&self, now: Moment) -> Asked {
        loop {
            match self.bucket.load().admit(now) {
                // The other one is a moment away.
                Asked::Replaced => std::hint::spin_loop(),
                asked => return asked,
            }
        }
    }

    /// Gives one admission back.
    pub(super) fn give_back(&self) {
        self.bucket.load().give_back();
    }

    /// What it may admit.
    pub(super) fn share(&self) -> Share {
        self.bucket.load().share()
    }

    /// Whether it has been told, or has taken, what its part is.
    pub(crate) fn is_known(&self) -> bool {
        self.books().account.known
    }

    /// A call waits for a part.
    pub(super) fn wait(&self) {
        self.books().account.ask();
    }

    /// Takes down how many have called so far.
    pub(crate) fn note(&self, period: Duration, now: Instant) {
        self.books().recent.note(self.calls.load(Ordering::Relaxed), period, now);
    }

    /// Calls here in the period that ends now, refused ones included.
    pub(super) fn recent(&self, period: Duration, now: Instant) -> u64 {
        self.books().recent.within(self.calls.load(Ordering::Relaxed), period, now)
    }

    /// Keeps to what the scheduler lends.
    pub(crate) fn apply(&self, loan: Loan, now: Instant) {
        let mut books = self.books();
        if !books.account.is_for(loan.part)
            || books.account.is_old(loan.sequence)
            || books.account.is_same(loan.sequence)
        {
            return;
        }
        let before = self.share();
        let fresh = (loan.granted - books.granted).max(0.0);
        self.replace(loan.share, fresh, now);
        let smaller = loan.share.per_second < before.per_second || loan.share.burst < before.burst;
        books.account.accept(loan.sequence, smaller);
        books.granted = loan.granted;
        drop(books);
        self.told.notify_waiters();
    }

    /// Takes a part without being lent one, with nothing saved up.
    pub(crate) fn take(&self, share: Share, now: Instant) {
        let mut books = self.books();
        self.replace(share, 0.0, now);
        books.account.known = true;
    }

    /// The caller has the books, so that one bucket follows another.
    fn replace(&self, share: Share, fresh: f64, now: Instant) {
        let now = self.moment(now);
        let saved = self.bucket.load().close(now);
        self.bucket.store(std::sync::Arc::new(Bucket::new(share, saved + fresh, now)));
    }

    /// A new stream begins; which part this is and what is held, where that is anything.
    pub(crate) fn begin(&self) -> Option<(u64, Share)> {
        let mut books = self.books();
        books.account.begin();
        books.granted = 0.0;
        Some((books.account.part(), self.held()?))
    }

    /// What is held, where that is anything.
    pub(crate) fn held(&self) -> Option<Share> {
        let share = self.share();
        (share != Share::default()).then_some(share)
    }

    /// What there is to tell the scheduler about a limit of so many a second; `measures` says that it is time to look at the
    /// callers' pace.
    pub(crate) fn news(&self, limit: f64, now: Instant, measures: bool) -> Option<Want> {
        let mut books = self.books();
        if measures {
            books.measure(self.calls.load(Ordering::Relaxed), now);
        }
        books.account.tells(limit, measures).then(|| books.account.want(0.0))
    }

    /// The scheduler has been told.
    pub(crate) fn sent(&self, want: Want) {
        self.books().account.sent(want);
    }
}

impl Books {
    fn measure(&mut self, calls: u64, now: Instant) {
        let time = now.saturating_duration_since(self.measured).as_secs_f64();
        if time < 0.01 {
            return;
        }
        let came = f64::from(u32::try_from(calls.wrapping_sub(self.counted)).unwrap_or(u32::MAX));
        let keeps = 0.5_f64.powf(time / HALF);
        let pace = self.account.wanted * keeps + came / time * (1.0 - keeps);
        self.account.wanted = if pace < 0.01 { 0.0 } else { pace };
        (self.counted, self.measured) = (calls, now);
    }
}

/// How long callers should wait before they ask again.
pub(super) fn wait(asked: Asked) -> Option<Duration> {
    match asked {
        Asked::Later(units) => Some(bucket::time(units)),
        Asked::Never | Asked::Replaced => Some(Duration::from_secs(1)),
        Asked::Admitted => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loan(sequence: u64, per_second: f64, burst: f64, granted: f64) -> Loan {
        Loan { part: 0, sequence, share: Share { per_second, burst }, granted }
    }

    fn admitted(part: &Part, now: Instant) -> usize {
        (0..1_000).take_while(|_| part.ask(part.moment(now)) == Asked::Admitted).count()
    }

    #[test]
    fn a_part_moves_once() {
        let now = Instant::now();
        let part = Part::begin_at(now);
        assert!(!part.is_known() && part.ask(part.moment(now)) == Asked::Never && part.begin().is_none());
        part.apply(loan(1, 100.0, 50.0, 50.0), now);
        assert_eq!(admitted(&part, now), 50);
        assert_eq!(part.news(100.0, now, false), None, "more is not confirmed");
        part.apply(loan(1, 100.0, 50.0, 50.0), now);
        assert_eq!(admitted(&part, now), 0, "what came once is not there twice");
        part.apply(loan(2, 50.0, 20.0, 55.0), now);
        assert_eq!(admitted(&part, now), 5);
        let want = part.news(100.0, now, false).unwrap();
        assert_eq!(want.sequence, 2);
        part.sent(want);
        assert_eq!(part.news(100.0, now, false), None);
        // A new stream begins with what is there, and counts anew.
        assert_eq!(part.begin().unwrap().1, Share { per_second: 50.0, burst: 20.0 });
        part.apply(loan(1, 60.0, 30.0, 3.0), now);
        assert_eq!(admitted(&part, now), 3);
        assert_eq!(admitted(&part, now + Duration::from_secs(9)), 30);
    }

    #[test]
    fn what_was_lent_to_a_part_that_is_gone_is_not_kept_to_but_answered() {
        let now = Instant::now();
        let (old, part) = (Part::begin_at(now), Part::begin_at(now));
        let number = |part: &Part| part.books().account.part();
        assert!(number(&part) != number(&old) && number(&part) > 0);
        part.apply(Loan { part: number(&old), ..loan(7, 100.0, 50.0, 50.0) }, now);
        assert!(!part.is_known() && admitted(&part, now) == 0);
        let want = part.news(100.0, now, false).unwrap();
        assert_eq!((want.part, want.sequence), (number(&part), 0));
        part.sent(want);
        assert!(part.news(100.0, now, false).is_none());
        part.apply(Loan { part: number(&part), ..loan(1, 100.0, 50.0, 9.0) }, now);
        assert_eq!(admitted(&part, now), 9);
        assert_eq!(part.begin().unwrap().0, number(&part), "it is the same one on another stream");
    }

    #[test]
    fn what_callers_want_is_told_when_it_changes() {
        let mut now = Instant::now();
        let part = Part::begin_at(now);
        let mut reports = 0;
        for (pace, seconds) in [(120, 5), (0, 5), (60, 5)] {
            for _ in 0..seconds * 4 {
                (0..pace / 4).for_each(|_| part.count());
                now += Duration::from_millis(250);
                if let Some(want) = part.news(100.0, now, true) {
                    part.sent(want);
                    reports += 1;
                }
            }
            let news = f64::from(pace) * 0.15 + 0.5;
            assert!((part.books().account.reported - f64::from(pace)).abs() <= news + 2.0, "{pace}");
        }
        assert!(reports < 30, "{reports} reports about {} calls", 5 * 180);
        part.wait();
        assert!(part.news(100.0, now, false).is_some(), "who waits for a part asks at once");
    }
}
