//! The calls of a function, of a namespace or by a key in a day or month. The scheduler lends parts of what is left, and calls take
//! from them without asking anybody; a part that has not been used when the period ends, or when the gateway leaves, goes back.
//!
//! What has been lent is the scheduler's to know. Calls touch nothing but atomics until a part is used up (`quota/loan.rs`), or what
//! may be used of it without a word (`quota/window.rs`).

mod loan;
mod window;

use std::{sync::atomic::Ordering, time::Duration};

use dunlin_proto::{
    ApiError, ErrorCode,
    error::{Exceeded, LimitKind},
    internal::v1::BorrowQuotaRequest,
    limit::LimitId,
    model::{Quota, from_wire_duration},
};
use tokio::time::Instant;

use self::loan::Surrendered;
pub(crate) use self::loan::{QuotaLoan, Report};
use super::{
    begun::Begun,
    borrowing::Borrowing,
    bucket::{time, units},
};

/// The least that is asked for at once, and the most. The least makes one question in a hundred admissions of it all, with the
/// small loans at the end of a quota.
const WANTED: (u64, u64) = (200, 1_000_000);
/// A loan should last about so long: what a gateway has left when it dies counts as used, which shall be a second of its
/// admissions at most; less is many questions. Of the least loan, which may last longer, a part goes back then.
const LASTS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(1));
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

impl Default for Account {
    fn default() -> Self {
        Self { wanted: WANTED.0, borrowed: None }
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
        let rest = loan.surrender(asked);
        if !rest.exceeded {
            account.adapt(asked);
        }
        // It stays owed until the scheduler has answered: a caller who leaves meanwhile ends this here. It may be counted twice,
        // which is better than not at all.
        let owed = loan.owed.load(Ordering::Acquire);
        let answer = Box::pin(borrowing.quota(self.request(account.wanted, rest, owed))).await;
        account.borrowed = Some(asked);
        if answer.is_ok() {
            loan.owed.fetch_sub(owed, Ordering::AcqRel);
        }
        match answer {
            Ok(answer) if answer.granted > 0 => {
                loan.keep(rest.loan, &answer, asked);
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

    fn request(&self, wanted: u64, rest: Surrendered, owed: u64) -> BorrowQuotaRequest {
        let period_start = self.loan.get().period_start.load(Ordering::Acquire);
        let (key, limit) = self.named();
        let Surrendered { left, loan, window, .. } = rest;
        let by_nobody = BorrowQuotaRequest::default();
        BorrowQuotaRequest { key, limit, wanted, period_start, left, owed, loan, window, ..by_nobody }
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
        let (rest, owed) = (loan.surrender(Instant::now()), loan.owed.swap(0, Ordering::AcqRel));
        (rest.left > 0 || owed > 0).then(|| self.request(0, rest, owed))
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
pub(crate) mod tests;
