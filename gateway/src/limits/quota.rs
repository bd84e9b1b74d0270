//! The calls of a function, of a namespace or by a key in a day or month. The scheduler lends parts of what is left, and calls take
//! from them without asking anybody; a part that has not been used when the period ends, or when the gateway leaves, goes back.
//!
//! What has been lent is the scheduler's to know. Calls touch nothing but atomics until a part is used up.

use std::{
    sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    time::Duration,
};

use dunlin_proto::{
    ApiError, ErrorCode,
    error::{Exceeded, LimitKind},
    internal::v1::{BorrowQuotaRequest, BorrowQuotaResponse},
    limit::LimitId,
    model::{Quota, from_wire_duration},
};
use tokio::{sync::Mutex, time::Instant};

use super::{
    begun::{Begins, Begun},
    borrowing::Borrowing,
    bucket::{Moment, time, units},
};

/// The least that is asked for at once, and the most. The least makes one question in a hundred admissions of it all, with the
/// small loans at the end of a quota.
const WANTED: (u64, u64) = (200, 1_000_000);
/// A loan should last about so long: what a gateway has left when it dies counts as used, which shall be a second of its
/// admissions at most where that is more than the least loan; less is many questions.
const LASTS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(1));
/// How often it is told what is left, for people to see: a hundred calls a second shall cost less than a message a second.
const TOLD: Duration = Duration::from_secs(3);
/// After a question that nobody answered, none is asked for so long.
const PAUSE: Duration = Duration::from_secs(1);

/// A quota.
#[derive(Debug)]
pub(crate) struct PeriodQuota {
    /// Whose: a function's, a namespace's or a key's.
    pub(crate) owner: LimitId,
    /// The same, for people.
    pub(crate) whose: String,
    /// What all gateways together admit in a period.
    pub(crate) quota: Quota,
    /// This gateway's part.
    pub(crate) loan: std::sync::Arc<Begun<QuotaLoan>>,
}

/// What has been borrowed. It survives changes of the configuration.
#[derive(Debug)]
pub(crate) struct QuotaLoan {
    base: Instant,
    /// Admissions that are left; below 0 where more have asked.
    left: AtomicI64,
    /// Until when they may be used.
    valid: AtomicU64,
    /// Before this moment the scheduler need not be asked.
    not_before: AtomicU64,
    /// Whether that is so because it did not answer.
    unsure: AtomicBool,
    /// What was gone of the quota when nothing was granted.
    gone: AtomicU64,
    /// What was told last of what is left.
    told: AtomicI64,
    /// Before this moment it is not told again.
    tell_at: AtomicU64,
    /// When the period began that it is of, in seconds since 1970.
    period_start: AtomicI64,
    /// Calls that were admitted because nobody could be asked.
    owed: AtomicU64,
    /// One question at a time: who waits may learn from its answer.
    account: Mutex<Account>,
}

/// How much to ask for.
#[derive(Debug)]
struct Account {
    wanted: u64,
    borrowed: Option<Instant>,
}

impl Account {
    /// Asks for more where the last loan was used up sooner than it should have been, and for less where it lasted long.
    fn adapt(&mut self, now: Instant) {
        let Some(borrowed) = self.borrowed else { return };
        let lasted = now.saturating_duration_since(borrowed);
        if lasted < LASTS.0 {
            self.wanted = self.wanted.saturating_mul(2).min(WANTED.1);
        } else if lasted > LASTS.1 {
            self.wanted = (self.wanted / 2).max(WANTED.0);
        }
    }
}

impl Begins for QuotaLoan {
    /// Nothing is borrowed yet.
    fn begin_at(base: Instant) -> Self {
        Self {
            base,
            left: AtomicI64::new(0),
            valid: AtomicU64::new(0),
            not_before: AtomicU64::new(0),
            unsure: AtomicBool::new(false),
            gone: AtomicU64::new(0),
            told: AtomicI64::new(0),
            tell_at: AtomicU64::new(0),
            period_start: AtomicI64::new(0),
            owed: AtomicU64::new(0),
            account: Mutex::new(Account { wanted: WANTED.0, borrowed: None }),
        }
    }
}

impl QuotaLoan {
    fn moment(&self, now: Instant) -> Moment {
        units(now.saturating_duration_since(self.base))
    }

    /// The quota has changed: what is left is given back with the next question, which may be asked at once.
    pub(crate) fn reset(&self) {
        self.valid.store(0, Ordering::Release);
        self.not_before.store(0, Ordering::Release);
    }

    /// Whether something is left.
    fn has_some(&self, now: Moment) -> bool {
        now < self.valid.load(Ordering::Acquire) && self.left.load(Ordering::Acquire) > 0
    }

    /// Takes one admission of what is left.
    fn take(&self, now: Moment) -> bool {
        self.has_some(now) && self.left.fetch_sub(1, Ordering::AcqRel) > 0
    }

    /// Nothing is left here from now on; what was is the scheduler's.
    fn surrender(&self) -> u64 {
        u64::try_from(self.left.swap(0, Ordering::AcqRel)).unwrap_or_default()
    }

    /// What is left, where that has changed since it was told last, some time ago, with the period that it is of.
    pub(crate) fn news(&self, now: Instant) -> Option<(i64, u64)> {
        let (left, now) = (self.left.load(Ordering::Acquire).max(0), self.moment(now));
        if now < self.tell_at.load(Ordering::Relaxed) || self.told.load(Ordering::Acquire) == left {
            return None;
        }
        self.tell_at.store(now.saturating_add(units(TOLD)), Ordering::Relaxed);
        let before = self.told.swap(left, Ordering::AcqRel);
        (before != left).then(|| (self.period_start.load(Ordering::Acquire), u64::try_from(left).unwrap_or_default()))
    }

    /// A new stream begins: the scheduler knows nothing of what is left.
    pub(crate) fn begin(&self) {
        self.told.store(0, Ordering::Release);
        self.tell_at.store(0, Ordering::Relaxed);
    }

    /// Keeps what the scheduler lends, and takes one admission of it for whoever asked.
    fn keep(&self, answer: &BorrowQuotaResponse, asked: Instant) {
        let left = i64::try_from(answer.granted).unwrap_or(i64::MAX) - 1;
        self.period_start.store(answer.period_start, Ordering::Release);
        // From when it was asked: so it never lasts longer than the period.
        let valid = self.moment(asked).saturating_add(units(from_wire_duration(answer.valid_for)));
        self.valid.store(valid, Ordering::Release);
        self.left.store(left, Ordering::Release);
    }
}

impl PeriodQuota {
    /// Admits one call.
    ///
    /// # Errors
    /// `TooManyRequests`: the quota is used up. `Unavailable`: it is not known whether it is.
    pub(super) async fn admit(&self, borrowing: &Borrowing, now: Instant) -> Result<(), ApiError> {
        let loan = self.loan.get();
        if loan.take(loan.moment(now)) {
            return Ok(());
        }
        if let Some(answer) = self.learnt() {
            return answer;
        }
        if !borrowing.is_linked() {
            return self.alone();
        }
        let mut account = loan.account.lock().await;
        let asked = Instant::now();
        // Whoever was before may have borrowed, or learnt when to ask again.
        if loan.take(loan.moment(asked)) {
            return Ok(());
        }
        if let Some(answer) = self.learnt() {
            return answer;
        }
        account.adapt(asked);
        // It stays owed until the scheduler has answered: a caller who leaves meanwhile ends this here. It may be counted twice,
        // which is better than not at all.
        let owed = loan.owed.load(Ordering::Acquire);
        let answer = Box::pin(borrowing.quota(self.request(account.wanted, loan.surrender(), owed))).await;
        account.borrowed = Some(asked);
        if answer.is_ok() {
            loan.owed.fetch_sub(owed, Ordering::AcqRel);
        }
        match answer {
            Ok(answer) if answer.granted > 0 => {
                loan.keep(&answer, asked);
                Ok(())
            }
            Ok(answer) => {
                loan.gone.store(answer.gone, Ordering::Relaxed);
                let wait = from_wire_duration(answer.retry_after);
                self.pause(wait, false);
                Err(self.refusal(wait))
            }
            // It is no longer limited, and this gateway is about to learn of it.
            Err(status) if status.code() == tonic::Code::NotFound => Ok(()),
            Err(_) => {
                self.pause(PAUSE, true);
                self.alone()
            }
        }
    }

    fn request(&self, wanted: u64, left: u64, owed: u64) -> BorrowQuotaRequest {
        let period_start = self.loan.get().period_start.load(Ordering::Acquire);
        let (key, limit) = self.named();
        BorrowQuotaRequest { key, limit, wanted, period_start, left, owed, gateway: String::new() }
    }

    /// How the scheduler is told whose it is: by a key's id, else by the limit's name.
    pub(crate) fn named(&self) -> (String, String) {
        match &self.owner {
            LimitId::Key(key) => (key.to_string(), String::new()),
            other => (String::new(), other.to_string()),
        }
    }

    /// Refuses where it is known to be used up, before anything else is taken for the call.
    ///
    /// # Errors
    /// `TooManyRequests`, or `Unavailable` where nobody can be asked and calls are refused then.
    pub(super) fn check(&self, now: Instant) -> Result<(), ApiError> {
        let Some(loan) = self.loan.seen() else { return Ok(()) };
        if loan.has_some(loan.moment(now)) {
            return Ok(());
        }
        match self.pause_left(loan) {
            None => Ok(()),
            // A call that is admitted so is noted later.
            Some(_) if loan.unsure.load(Ordering::Relaxed) => self.unsure(),
            Some(left) => Err(self.refusal(left)),
        }
    }

    /// Gives back an admission of a call that was refused after all. Where its loan is about to be another one, it is lost: of
    /// the two ways to be wrong, this one admits nothing beyond the quota.
    pub(super) fn give_back(&self, period_start: i64) {
        let loan = self.loan.get();
        let Ok(_account) = loan.account.try_lock() else { return };
        if loan.period_start.load(Ordering::Acquire) == period_start {
            loan.left.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// When the period began that it lends of now.
    pub(super) fn period_start(&self) -> i64 {
        self.loan.get().period_start.load(Ordering::Acquire)
    }

    /// What to give back when the gateway leaves; nothing where nothing is left or owed.
    pub(crate) fn rest(&self) -> Option<BorrowQuotaRequest> {
        let loan = self.loan.seen()?;
        let (left, owed) = (loan.surrender(), loan.owed.swap(0, Ordering::AcqRel));
        (left > 0 || owed > 0).then(|| self.request(0, left, owed))
    }

    /// The answer, where the scheduler need not be asked for now.
    fn learnt(&self) -> Option<Result<(), ApiError>> {
        let loan = self.loan.get();
        let left = self.pause_left(loan)?;
        Some(if loan.unsure.load(Ordering::Relaxed) { self.alone() } else { Err(self.refusal(left)) })
    }

    /// For how long the scheduler need not be asked.
    fn pause_left(&self, loan: &QuotaLoan) -> Option<Duration> {
        let left = loan.not_before.load(Ordering::Acquire).saturating_sub(loan.moment(Instant::now()));
        (left > 0).then(|| time(left))
    }

    fn pause(&self, wait: Duration, unsure: bool) {
        let loan = self.loan.get();
        loan.unsure.store(unsure, Ordering::Relaxed);
        loan.not_before.store(loan.moment(Instant::now()).saturating_add(units(wait)), Ordering::Release);
    }

    /// Without the scheduler.
    fn alone(&self) -> Result<(), ApiError> {
        self.unsure()?;
        self.loan.get().owed.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }

    /// Whether calls are admitted of which nobody knows whether there is room for them.
    fn unsure(&self) -> Result<(), ApiError> {
        if !self.quota.refuse_unknown {
            return Ok(());
        }
        let message = format!("how much is left of the quota of {} is not known here for now", self.whose);
        let error = ApiError::new(ErrorCode::Unavailable, message);
        Err(error.hint("the scheduler does not answer; try again").retry_after(PAUSE))
    }

    fn refusal(&self, wait: Duration) -> ApiError {
        let (whose, quota) = (self.whose.clone(), self.quota);
        let kind = LimitKind::Quota { period: quota.period.longest() };
        let current = self.loan.get().gone.load(Ordering::Relaxed);
        let message = format!("{whose} has used its quota of {quota}");
        let exceeded = Exceeded { whose, kind, current, allowed: quota.requests };
        let hint = match &self.owner {
            LimitId::Function(_) => "wait for the next period, or have limits.quota of the function raised",
            LimitId::Namespace(_) => {
                "wait for the next period, or have an operator raise it: dunlin namespace update --quota"
            }
            _ => "wait for the next period, or have the key put under a larger plan: dunlin key update --plan",
        };
        ApiError::new(ErrorCode::TooManyRequests, message).hint(hint).retry_after(wait).exceeded(exceeded)
    }
}

#[cfg(test)]
mod tests {
    use dunlin_proto::model::to_wire_duration;

    use super::*;

    fn quota(text: &str) -> PeriodQuota {
        PeriodQuota {
            owner: "key/abcdefghijkl".parse().unwrap(),
            whose: "key abcdefghijkl".to_owned(),
            quota: text.parse().unwrap(),
            loan: std::sync::Arc::default(),
        }
    }

    fn lent(granted: u64, period_start: i64, seconds: u64) -> BorrowQuotaResponse {
        let valid_for = Some(to_wire_duration(Duration::from_secs(seconds)));
        BorrowQuotaResponse { granted, period_start, valid_for, retry_after: None, gone: 0 }
    }

    #[test]
    fn a_loan_is_used_once_and_within_its_period() {
        let of_key = quota("100/day");
        let loan = of_key.loan.get();
        let now = Instant::now();
        assert!(!loan.take(loan.moment(now)) && of_key.rest().is_none());
        loan.keep(&lent(4, 86_400, 60), now);
        assert_eq!(loan.news(now), Some((86_400, 3)));
        assert_eq!(loan.news(now + TOLD), None, "it is said once");
        assert!(loan.take(loan.moment(now)) && !loan.take(loan.moment(now + Duration::from_secs(61))));
        assert_eq!(loan.news(now), None, "it is not said all the time");
        assert_eq!(loan.news(now + TOLD), Some((86_400, 2)));
        let back = of_key.rest().unwrap();
        assert_eq!((back.period_start, back.left, back.owed, back.wanted), (86_400, 2, 0, 0));
        assert!(!loan.take(loan.moment(now)), "what is given back is gone");
        loan.keep(&lent(2, 86_400, 60), now);
        let taken = (0..5).filter(|_| loan.take(loan.moment(now))).count();
        assert_eq!((taken, loan.surrender()), (1, 0));
        loan.keep(&lent(9, 86_400, 60), now);
        loan.reset();
        assert!(!loan.take(loan.moment(now)) && loan.surrender() == 8, "a changed quota is asked for anew");
    }

    #[test]
    fn threads_take_no_more_than_there_is() {
        let of_key = quota("1000/day");
        let (loan, now) = (of_key.loan.get(), Instant::now());
        loan.keep(&lent(1_001, 0, 60), now);
        let taken: usize = std::thread::scope(|scope| {
            let take = || (0..500).filter(|_| loan.take(loan.moment(now))).count();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(taken, 1_000);
    }

    #[test]
    fn without_the_scheduler_the_plan_decides() {
        let of_key = quota("100/day");
        assert!(of_key.alone().is_ok() && of_key.alone().is_ok());
        assert_eq!(of_key.rest().unwrap().owed, 2);
        let strict = PeriodQuota { quota: Quota { refuse_unknown: true, ..of_key.quota }, ..quota("1/day") };
        assert_eq!(strict.alone().unwrap_err().code, ErrorCode::Unavailable);
        assert!(strict.rest().is_none());
    }

    #[test]
    fn what_a_refused_call_took_goes_back_to_its_own_period_alone() {
        let of_key = quota("100/day");
        let (loan, now) = (of_key.loan.get(), Instant::now());
        loan.keep(&lent(3, 86_400, 60), now);
        assert!(loan.take(loan.moment(now)));
        of_key.give_back(86_400);
        assert_eq!(loan.surrender(), 2, "it is back");
        loan.keep(&lent(3, 172_800, 60), now);
        of_key.give_back(86_400);
        assert_eq!(loan.surrender(), 2, "the next period has no more than it was lent");
        loan.keep(&lent(3, 172_800, 60), now);
        let _asks = loan.account.try_lock().unwrap();
        of_key.give_back(172_800);
        assert_eq!(loan.surrender(), 2, "while a question is open, nobody knows of which loan it is");
    }

    #[tokio::test(start_paused = true)]
    async fn a_quota_that_is_used_up_refuses_before_anything_is_taken() {
        let of_key = quota("100/day");
        let now = Instant::now();
        assert!(of_key.check(now).is_ok(), "nobody knows yet");
        of_key.pause(Duration::from_secs(9), false);
        let error = of_key.check(now).unwrap_err();
        assert_eq!((error.code, error.retry_after), (ErrorCode::TooManyRequests, Some(Duration::from_secs(9))));
        of_key.loan.get().keep(&lent(3, 86_400, 60), now);
        assert!(of_key.check(now).is_ok());
        let strict = PeriodQuota { quota: Quota { refuse_unknown: true, ..of_key.quota }, ..quota("1/day") };
        for (quota, refused) in [(&quota("1/day"), false), (&strict, true)] {
            quota.pause(PAUSE, true);
            assert_eq!(quota.check(now).is_err(), refused);
        }
    }

    #[test]
    fn the_size_of_loans_follows_how_long_they_last() {
        let mut account = Account { wanted: 200, borrowed: None };
        let mut now = Instant::now();
        for (lasted, wanted) in
            [(0, 200), (100, 400), (100, 800), (700, 800), (1_500, 400), (20_000, 200), (20_000, 200)]
        {
            now += Duration::from_millis(lasted);
            account.adapt(now);
            account.borrowed = Some(now);
            assert_eq!(account.wanted, wanted);
        }
    }
}
