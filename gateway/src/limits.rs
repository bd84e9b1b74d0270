//! Limits of how many calls are admitted in a time, which all gateways keep to together: each has a part that the scheduler
//! lends (`limits/part.rs`), and decides within it by itself (`limits/bucket.rs`). What is too small to divide is granted one
//! by one, and where it is used up, nobody asks again before there can be more (`limits/borrowing.rs`).
//!
//! Calls in a day or month are lent likewise, as numbers that are used up (`limits/quota.rs`). Of limits of calls at once, the part
//! is `limits/slots.rs`; what is held against it, `crate::quota` decides for functions and namespaces, `limits/caller.rs` for keys.

mod account;
mod begun;
mod borrowing;
pub(crate) mod bucket;
mod caller;
mod part;
mod place;
mod quota;
mod recent;
mod slots;

use std::sync::Arc;

use dunlin_proto::{
    ApiError, ErrorCode,
    error::{Exceeded, LimitKind},
    limit::LimitId,
    model::Rate,
};
use tokio::time::Instant;

#[cfg(test)]
pub(crate) use self::quota::tests as quota_tests;
pub(crate) use self::{
    begun::Begun,
    borrowing::Borrowing,
    bucket::Share,
    caller::CallerSlots,
    part::{Loan, Part, Want},
    quota::{PeriodQuota, QuotaLoan, Report},
    slots::{AGAIN, Bounded, Running, Slots},
};
use bucket::Asked;

/// A limit of calls in a time.
#[derive(Debug, Clone)]
pub(crate) struct Limit {
    /// Its name.
    pub(crate) id: LimitId,
    /// What all gateways together admit.
    pub(crate) rate: Rate,
    /// Whose it is, for people.
    pub(crate) whose: String,
    /// This gateway's part.
    pub(crate) part: Arc<Begun<Part>>,
}

/// The limits that hold for calls of a function.
#[derive(Debug, Clone, Default)]
pub(crate) struct Limits {
    /// The function's own.
    pub(crate) function: Option<Arc<Limit>>,
    /// Its namespace's.
    pub(crate) namespace: Option<Arc<Limit>>,
    /// The function's calls in a day or month.
    pub(crate) function_quota: Option<Arc<PeriodQuota>>,
    /// Its namespace's.
    pub(crate) namespace_quota: Option<Arc<PeriodQuota>>,
}

/// What one key may use, by the plan that it is under.
#[derive(Debug, Clone, Default)]
pub(crate) struct Plan {
    /// Calls in a time.
    pub(crate) rate: Option<Arc<Limit>>,
    /// Calls in a day or month.
    pub(crate) quota: Option<Arc<PeriodQuota>>,
    /// Calls at once.
    pub(crate) at_once: Option<Arc<CallerSlots>>,
}

/// Admits a call under its caller's plan and under the limits of what it calls, or under none of them. What is refused does not
/// count against a quota.
///
/// # Errors
/// `TooManyRequests`: one of them is used up. `Unavailable`: it is not known how much of it there is.
pub(crate) async fn admit(plan: Option<&Plan>, limits: &Limits, borrowing: &Borrowing) -> Result<(), ApiError> {
    let of_caller = plan.map(|plan| (plan.rate.as_ref(), plan.quota.as_ref())).unwrap_or_default();
    let rates = [of_caller.0, limits.function.as_ref(), limits.namespace.as_ref()];
    let quotas = [of_caller.1, limits.function_quota.as_ref(), limits.namespace_quota.as_ref()];
    if rates.iter().all(Option::is_none) && quotas.iter().all(Option::is_none) {
        return Ok(());
    }
    // It is looked up once for all of them.
    let now = Instant::now();
    // A quota that is used up for the month refuses before the call takes anything of others.
    quotas.iter().flatten().try_for_each(|quota| quota.check(now))?;
    admit_by_rates(&rates, borrowing, now).await?;
    let admitted = admit_by_quotas(&quotas, borrowing, now).await;
    if admitted.is_err() {
        rates.iter().flatten().for_each(|rate| rate.give_back());
    }
    admitted
}

async fn admit_by_rates(rates: &[Option<&Arc<Limit>>; 3], borrowing: &Borrowing, now: Instant) -> Result<(), ApiError> {
    for (index, rate) in rates.iter().enumerate() {
        let Some(rate) = rate else { continue };
        if let Err(error) = rate.admit(borrowing, now).await {
            rates.iter().take(index).flatten().for_each(|taken| taken.give_back());
            return Err(error);
        }
    }
    Ok(())
}

async fn admit_by_quotas(
    quotas: &[Option<&Arc<PeriodQuota>>; 3],
    borrowing: &Borrowing,
    now: Instant,
) -> Result<(), ApiError> {
    let mut periods = [None; 3];
    for (quota, period) in quotas.iter().zip(&mut periods) {
        let Some(quota) = quota else { continue };
        if let Err(error) = quota.admit(borrowing, now).await {
            give_back(quotas, periods);
            return Err(error);
        }
        *period = Some(quota.period_start());
    }
    Ok(())
}

/// Gives back what was taken of quotas, each of the period that it was taken of.
fn give_back(quotas: &[Option<&Arc<PeriodQuota>>; 3], periods: [Option<i64>; 3]) {
    for (quota, period) in quotas.iter().zip(periods) {
        if let (Some(quota), Some(period)) = (quota, period) {
            quota.give_back(period);
        }
    }
}

impl Limits {
    /// Admits a call under all of them, or under none.
    ///
    /// # Errors
    /// `TooManyRequests`: one of them is used up. `Unavailable`: it is not known how much of it there is.
    pub(crate) async fn admit(&self, borrowing: &Borrowing) -> Result<(), ApiError> {
        admit(None, self, borrowing).await
    }
}

impl Limit {
    /// Whether this gateway has been told, or has taken, what its part is.
    pub(crate) fn is_known(&self) -> bool {
        self.part.seen().is_some_and(Part::is_known)
    }

    async fn admit(&self, borrowing: &Borrowing, now: Instant) -> Result<(), ApiError> {
        let part = self.part.get();
        part.count();
        if !self.rate.is_lent() {
            // What waits for the scheduler is on the heap: the others do not carry it about.
            return Box::pin(borrowing.admit_one(self)).await;
        }
        match part.ask(part.moment(now)) {
            Asked::Admitted => Ok(()),
            Asked::Never if !part.is_known() => Box::pin(borrowing.first_part(self)).await,
            refused => self.outcome(refused),
        }
    }

    /// What asking the bucket came to.
    fn outcome(&self, asked: Asked) -> Result<(), ApiError> {
        part::wait(asked).map_or(Ok(()), |wait| Err(self.refusal(wait)))
    }

    /// An admission that was granted singly is not given back: the scheduler has counted it.
    fn give_back(&self) {
        if self.rate.is_lent() {
            self.part.get().give_back();
        }
    }

    /// Says that it is used up, and for how long.
    fn refusal(&self, wait: std::time::Duration) -> ApiError {
        let (rate, whose, burst) = (self.rate, &self.whose, self.rate.burst);
        let message = format!("{whose} has reached its rate of {rate} with a burst of {burst}");
        let kind = LimitKind::Rate { period: rate.period.length() };
        let current = self.part.get().recent(rate.period.length(), Instant::now());
        let exceeded = Exceeded { whose: whose.clone(), kind, current, allowed: rate.requests.into() };
        ApiError::new(ErrorCode::TooManyRequests, message)
            .hint(
                "call less often, or have the rate raised: limits.rate of the function, dunlin namespace update --rate, dunlin plan set",
            )
            .retry_after(wait)
            .exceeded(exceeded)
    }
}
