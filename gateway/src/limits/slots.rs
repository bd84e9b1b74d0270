//! This gateway's part of a limit of calls at once, and the calls that run under it. Both are one atomic number, so that a call is
//! held against the part with one operation, and what runs as a part becomes smaller is known exactly. It survives changes of the
//! configuration. What is lent to whom is decided by the scheduler.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use dunlin_proto::limit::LimitId;
use tokio::sync::Notify;

use super::{
    account::Account,
    bucket::Share,
    part::{Loan, Want},
};

/// When somebody who was over a limit of calls at once may try again.
pub(crate) const AGAIN: Duration = Duration::from_secs(1);
/// Of the number, the bits of what runs; as many above them are the part. The rest counts calls and overflows.
const BITS: u32 = 24;
const MASK: u64 = (1 << BITS) - 1;
/// The part of what has no limit.
const BOUNDLESS: u32 = (1 << BITS) - 1;
/// One more call, which runs.
const CALL: u64 = (1 << (2 * BITS)) | 1;

/// A limit of calls at once, and this gateway's part of it.
#[derive(Debug, Clone)]
pub(crate) struct Bounded {
    /// Its name.
    pub(crate) id: LimitId,
    /// What all gateways together may run at once.
    pub(crate) limit: u32,
    /// This gateway's part.
    pub(crate) slots: Arc<Slots>,
}

impl Bounded {
    /// What there is to tell the scheduler; `measures`: it is time to look at what callers want.
    pub(crate) fn news(&self, measures: bool) -> Option<Want> {
        self.slots.news(self.limit, measures)
    }
}

/// A part.
#[derive(Debug)]
pub(crate) struct Slots {
    word: AtomicU64,
    /// Calls that found no room since it was looked at last.
    refused: AtomicU32,
    /// The scheduler has said that there is nothing, and will say when there is.
    barred: AtomicBool,
    /// The scheduler waits for calls to end.
    returns: AtomicBool,
    /// Wakes calls that came before there was a part.
    pub(super) told: Notify,
    /// Wakes the stream: a call has ended that the scheduler waits for.
    wake: Arc<Notify>,
    books: Mutex<Books>,
}

#[derive(Debug, Default)]
struct Books {
    account: Account,
    /// The count of calls as it was looked at last.
    calls: u64,
    /// How many run beyond the part, as the scheduler was told.
    said: u32,
    /// The most that the scheduler may count as lent here.
    lent: u32,
}

impl Books {
    /// Of a limit that was not there before, under which so many run.
    fn anew(running: u32) -> Self {
        Self { account: Account::anew(), lent: running, ..Self::default() }
    }
}

/// What the number says.
#[derive(Debug, Clone, Copy)]
struct Word(u64);

impl Word {
    fn running(self) -> u32 {
        (self.0 & MASK) as u32
    }

    fn share(self) -> u32 {
        ((self.0 >> BITS) & MASK) as u32
    }

    fn calls(self) -> u64 {
        self.0 >> (2 * BITS)
    }

    fn with(self, share: u32) -> Self {
        Self(self.0 & !(MASK << BITS) | (u64::from(share) << BITS))
    }

    /// How many run, where that is more than the part.
    fn beyond(self) -> u32 {
        if self.running() > self.share() { self.running() } else { 0 }
    }
}

impl Default for Slots {
    fn default() -> Self {
        Self::new(Arc::default())
    }
}

impl Slots {
    /// There is no limit yet; `wake` wakes the stream.
    pub(crate) fn new(wake: Arc<Notify>) -> Self {
        Self {
            word: AtomicU64::new(Word(0).with(BOUNDLESS).0),
            refused: AtomicU32::new(0),
            barred: AtomicBool::new(false),
            returns: AtomicBool::new(false),
            told: Notify::new(),
            wake,
            books: Mutex::default(),
        }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn word(&self) -> Word {
        Word(self.word.load(Ordering::Acquire))
    }

    /// Another part; what the number said before.
    fn set(&self, share: impl Fn(Word) -> u32) -> Word {
        let next = |word| Some(Word(word).with(share(Word(word)).min(BOUNDLESS)).0);
        let (Ok(before) | Err(before)) = self.word.fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
        Word(before)
    }

    /// How many calls run.
    pub(crate) fn running(&self) -> u32 {
        self.word().running()
    }

    /// How many may, where there is a limit.
    pub(crate) fn share(&self) -> u32 {
        self.word().share()
    }

    /// How much of a limit of so many is here, for people, where that is not all of it.
    pub(crate) fn lent(&self, limit: u32) -> String {
        match self.share() {
            share if share >= limit => String::new(),
            share => format!(", of which this gateway has {share} now"),
        }
    }

    /// There is a limit from now on; nothing changes where there was one.
    pub(crate) fn bound(&self) {
        let mut books = self.books();
        if self.share() == BOUNDLESS {
            let before = self.set(|_| 0);
            *books = Books::anew(before.running());
            self.returns.store(before.running() > 0, Ordering::Release);
            self.barred.store(false, Ordering::Release);
        }
    }

    /// There is none any more.
    pub(crate) fn unbound(&self) {
        *self.books() = Books::default();
        self.set(|_| BOUNDLESS);
        self.told.notify_waiters();
    }

    /// Begins a call, where the part has room.
    pub(crate) fn take(self: &Arc<Self>) -> Option<Running> {
        let before = Word(self.word.fetch_add(CALL, Ordering::AcqRel));
        if before.running() < before.share() {
            return Some(Running(self.clone()));
        }
        self.word.fetch_sub(1, Ordering::AcqRel);
        self.refused.fetch_add(1, Ordering::Relaxed);
        None
    }

    /// Whether there is nothing, and the scheduler may not know that something is wanted.
    pub(crate) fn is_dry(&self) -> bool {
        self.share() == 0 && !self.barred.load(Ordering::Acquire)
    }

    /// Whether it has been told, or has taken, what its part is.
    pub(super) fn is_known(&self) -> bool {
        self.books().account.known || self.share() == BOUNDLESS
    }

    /// A call waits for a part.
    pub(super) fn ask(&self) {
        self.books().account.ask();
    }

    /// Takes a part without being lent one.
    pub(crate) fn assume(&self, share: u32) {
        let mut books = self.books();
        if self.share() != BOUNDLESS {
            self.set(|_| share);
            books.lent = books.lent.max(share);
            books.account.known = true;
        }
    }

    /// Takes the part that an earlier process had, unless it has one.
    pub(crate) fn restore(&self, share: Share) -> Option<()> {
        (!self.is_known()).then(|| self.assume(whole(share.burst)))
    }

    /// Keeps to what the scheduler lends.
    pub(crate) fn apply(&self, loan: Loan) {
        let mut books = self.books();
        if !books.account.is_for(loan.part) || books.account.is_old(loan.sequence) || self.share() == BOUNDLESS {
            return;
        }
        let share = whole(loan.share.burst);
        if !books.account.is_same(loan.sequence) {
            books.lent = books.lent.max(share);
            let before = self.set(|_| share);
            books.account.accept(loan.sequence, share < before.share());
            self.returns.store(before.running() > share, Ordering::Release);
        }
        self.barred.store(share == 0 && books.account.reported > 0.0, Ordering::Release);
        drop(books);
        self.told.notify_waiters();
    }

    /// A new stream begins; which part this is and what is held, where that is anything. Whatever runs has a part, and a call that is
    /// about to be refused is not taken for one that runs.
    pub(crate) fn begin(&self) -> Option<(u64, Share)> {
        let mut books = self.books();
        books.said = 0;
        self.barred.store(false, Ordering::Release);
        let lent = books.lent;
        self.set(|word| word.share().max(word.running().min(lent)));
        books.account.begin();
        Some((books.account.part(), held(self.share())?))
    }

    /// What is held, where that is anything.
    pub(crate) fn held(&self) -> Option<Share> {
        held(self.share())
    }

    /// What there is to tell the scheduler about a limit of so many; `measures`: it is time to look at what callers want.
    fn news(&self, limit: u32, measures: bool) -> Option<Want> {
        let (mut books, word) = (self.books(), self.word());
        if measures {
            books.measure(word, self.refused.swap(0, Ordering::Relaxed), limit);
        }
        let tells = books.account.tells(limit.into(), measures) || books.said != word.beyond();
        tells.then(|| books.account.want(word.beyond().into()))
    }

    /// The scheduler has been told.
    pub(crate) fn sent(&self, want: Want) {
        let mut books = self.books();
        books.account.sent(want);
        books.said = whole(want.uses);
        // What it keeps to now, and nothing that it was lent before.
        books.lent = self.share().max(books.said);
        if books.said == 0 && self.word().beyond() == 0 {
            self.returns.store(false, Ordering::Release);
        }
        if want.calls < 1.0 {
            // The next call has to ask again.
            self.barred.store(false, Ordering::Release);
        }
    }
}

fn held(share: u32) -> Option<Share> {
    (share > 0 && share < BOUNDLESS).then(|| Share { per_second: 0.0, burst: share.into() })
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is bounded to what fits")]
fn whole(calls: f64) -> u32 {
    calls.clamp(0.0, f64::from(BOUNDLESS - 1)).floor() as u32
}

impl Books {
    /// What callers want: what runs, and where some found no room, as many more; less of it with time.
    fn measure(&mut self, word: Word, refused: u32, limit: u32) {
        let called = std::mem::replace(&mut self.calls, word.calls()) != word.calls();
        let now = match refused {
            0 => word.running().max(called.into()),
            more => word.running().max(word.share()).saturating_add(more),
        };
        let before = (self.account.wanted * 0.75).floor();
        self.account.wanted = f64::from(now.min(limit)).max(before).min(limit.into());
    }
}

/// A call that runs, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Running(Arc<Slots>);

impl Drop for Running {
    fn drop(&mut self) {
        let before = Word(self.0.word.fetch_sub(1, Ordering::AcqRel));
        if before.beyond() > 0 && self.0.returns.load(Ordering::Acquire) {
            self.0.wake.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn loan(sequence: u64, calls: u32) -> Loan {
        Loan { part: 0, sequence, share: Share { per_second: 0.0, burst: calls.into() }, granted: 0.0 }
    }

    fn slots() -> Arc<Slots> {
        let slots = Arc::<Slots>::default();
        slots.bound();
        slots
    }

    fn take_all(slots: &Arc<Slots>) -> Vec<Running> {
        std::iter::from_fn(|| slots.take()).take(1_000).collect()
    }

    #[test]
    fn as_many_run_as_are_lent() {
        let slots = slots();
        assert!(slots.take().is_none() && slots.is_dry() && !slots.is_known());
        slots.apply(loan(1, 3));
        let running = take_all(&slots);
        assert_eq!((running.len(), slots.running(), slots.share()), (3, 3, 3));
        drop(running);
        assert_eq!(take_all(&slots).len(), 3);
        assert_eq!(slots.running(), 0, "who is refused leaves nothing behind");
        slots.apply(loan(2, 5));
        slots.apply(loan(1, 9));
        assert_eq!(take_all(&slots).len(), 5, "an older loan comes too late");
        slots.unbound();
        assert_eq!(take_all(&slots).len(), 1_000);
        slots.bound();
        assert_eq!((take_all(&slots).len(), slots.running()), (0, 0));
    }

    #[test]
    fn a_smaller_part_is_kept_to_once_calls_have_ended() {
        let slots = slots();
        slots.apply(loan(1, 3));
        let mut running = take_all(&slots);
        slots.apply(loan(2, 1));
        let told = |slots: &Slots| {
            let want = slots.news(3, false)?;
            slots.sent(want);
            Some((want.sequence, want.uses))
        };
        assert_eq!(told(&slots), Some((2, 3.0)));
        assert_eq!(told(&slots), None);
        running.pop();
        assert_eq!(told(&slots), Some((2, 2.0)));
        running.pop();
        assert_eq!(told(&slots), Some((2, 0.0)), "what runs is within the part");
        assert!(told(&slots).is_none() && slots.take().is_none());
        running.clear();
        assert!(told(&slots).is_none() && slots.take().is_some());
    }

    #[test]
    fn the_end_of_a_call_that_the_scheduler_waits_for_wakes_the_stream() {
        let wake = Arc::<Notify>::default();
        let slots = Arc::new(Slots::new(wake.clone()));
        slots.bound();
        slots.apply(loan(1, 2));
        let woken = || wake.notified().now_or_never().is_some();
        let mut running = take_all(&slots);
        running.pop();
        assert!(!woken());
        slots.apply(loan(2, 0));
        running.pop();
        assert!(woken());
    }

    #[test]
    fn who_is_told_that_there_is_nothing_asks_no_more() {
        let slots = slots();
        slots.ask();
        let want = slots.news(1, false).unwrap();
        assert_eq!((want.calls, want.sequence), (1.0, 0));
        slots.sent(want);
        slots.apply(loan(0, 0));
        assert!(!slots.is_dry() && slots.is_known() && slots.take().is_none());
        assert!(slots.news(1, true).is_none(), "it is said already that one is wanted");
        slots.apply(loan(1, 1));
        assert!(slots.take().is_some());
        // After a while without calls, nothing is wanted any more, and the next one asks again.
        slots.apply(loan(2, 0));
        for _ in 0..3 {
            slots.news(1, true).into_iter().for_each(|want| slots.sent(want));
        }
        assert!(slots.is_dry());
    }

    #[test]
    fn what_callers_want_grows_with_refusals_and_fades() {
        let slots = slots();
        slots.apply(loan(1, 4));
        let running = take_all(&slots);
        let wanted = || {
            slots.news(10, true);
            slots.books().account.wanted
        };
        assert_eq!(wanted(), 5.0);
        drop(running);
        assert_eq!([wanted(), wanted(), wanted(), wanted()], [3.0, 2.0, 1.0, 0.0]);
        drop(slots.take());
        assert_eq!(wanted(), 1.0, "calls that came and went want one");
        (0..100).for_each(|_| drop(take_all(&slots)));
        assert_eq!(wanted(), 10.0, "nobody is said to want more than there is");
    }

    #[test]
    fn a_new_stream_says_what_runs() {
        let slots = slots();
        assert_eq!(slots.begin(), None);
        slots.apply(loan(1, 3));
        let running = take_all(&slots);
        slots.apply(loan(2, 1));
        assert_eq!(slots.begin().unwrap().1.burst, 3.0);
        assert_eq!(slots.share(), 3);
        slots.apply(loan(1, 2));
        assert_eq!(slots.share(), 2, "loans are counted anew");
        drop(running);
        slots.assume(7);
        assert_eq!(slots.held().unwrap().burst, 7.0);
    }

    #[test]
    fn a_call_that_is_about_to_be_refused_is_no_part_of_what_a_new_stream_says() {
        let slots = slots();
        slots.apply(loan(1, 2));
        let _running = take_all(&slots);
        // As between the two operations of a refusal.
        slots.word.fetch_add(CALL, Ordering::AcqRel);
        assert_eq!(slots.begin().unwrap().1.burst, 2.0);
        slots.word.fetch_sub(1, Ordering::AcqRel);
        assert_eq!((slots.share(), slots.running()), (2, 2));
    }

    #[test]
    fn what_was_lent_of_a_limit_that_is_gone_since_is_not_there_when_there_is_one_again() {
        let slots = slots();
        let number = || slots.books().account.part();
        let first = number();
        slots.apply(Loan { part: first, ..loan(1, 3) });
        let running = take_all(&slots);
        slots.unbound();
        slots.bound();
        assert!(number() != first && slots.share() == 0);
        slots.apply(Loan { part: first, ..loan(2, 3) });
        let want = slots.news(3, false).unwrap();
        assert_eq!((slots.share(), want.part, want.sequence, want.uses), (0, number(), 0, 3.0));
        drop(running);
        slots.apply(Loan { part: number(), ..loan(1, 1) });
        assert_eq!(take_all(&slots).len(), 1);
        assert_eq!(slots.begin().unwrap().0, number());
    }

    #[test]
    fn threads_share_a_part_exactly() {
        let slots = slots();
        slots.apply(loan(1, 5));
        let (inside, most) = (AtomicU32::new(0), AtomicU32::new(0));
        let work = || {
            for _ in 0..10_000 {
                let all = take_all(&slots);
                let count = u32::try_from(all.len()).unwrap();
                most.fetch_max(inside.fetch_add(count, Ordering::SeqCst) + count, Ordering::SeqCst);
                inside.fetch_sub(count, Ordering::SeqCst);
            }
        };
        std::thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(work))));
        assert_eq!((slots.running(), most.into_inner()), (0, 5));
    }
}
