//! How many invocations a function and a namespace may have at once, and how many one namespace may take of this gateway.
//!
//! The limits are the cluster's: each gateway keeps to the part of each that the scheduler lends to it (`limits/slots.rs`). Of what a
//! namespace may have, functions reserve some, and the rest is shared: three limits in whole numbers, of which a call takes one or
//! two. Counters outlive changes of the configuration. Who is over a limit is told so at once.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU32, Ordering},
};

use dunlin_proto::{
    ApiError, ErrorCode,
    error::{Exceeded, LimitKind},
    ids::{FunctionUid, Namespace},
    limit::LimitId,
    names::FunctionRef,
};
use tokio::sync::Notify;

use crate::{
    limits::{AGAIN, Borrowing, Bounded, Limits, Running, Slots},
    metrics::Calls,
};

/// How many times what is left of the gateway a namespace may have of it.
const TIMES_WHAT_IS_LEFT: usize = 4;

/// What runs or waits of a namespace in this gateway.
#[derive(Debug, Default)]
pub(crate) struct Tenant {
    all: AtomicU32,
    /// Of these, what is not reserved for a function.
    shared: Arc<Slots>,
}

impl Tenant {
    /// Nothing runs yet; `wake` wakes the stream to the scheduler.
    pub(crate) fn new(wake: &Arc<Notify>) -> Self {
        Self { all: AtomicU32::new(0), shared: Arc::new(Slots::new(wake.clone())) }
    }
}

/// What runs or waits of a function in this gateway.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    all: Arc<Slots>,
    reserved: Arc<Slots>,
    /// What its metrics are counted with, from its first call on; decides nothing.
    pub(crate) calls: OnceLock<Arc<Calls>>,
}

impl Usage {
    /// Nothing runs yet; `wake` wakes the stream to the scheduler.
    pub(crate) fn new(wake: &Arc<Notify>) -> Self {
        let slots = || Arc::new(Slots::new(wake.clone()));
        Self { all: slots(), reserved: slots(), calls: OnceLock::new() }
    }
}

/// The limits that hold for a function, and the counters that they are held against.
#[derive(Debug, Default)]
pub(crate) struct Quota {
    /// Invocations of the function at once in the cluster.
    pub(crate) max: Option<u32>,
    /// Of the namespace's, what only this function takes.
    pub(crate) reserved: u32,
    /// Invocations of the namespace at once in the cluster.
    pub(crate) namespace_max: Option<u32>,
    /// What all functions of the namespace reserve.
    pub(crate) namespace_reserved: u32,
    /// The function's counters.
    pub(crate) usage: Arc<Usage>,
    /// The namespace's.
    pub(crate) tenant: Arc<Tenant>,
    /// How many may come in a time.
    pub(crate) limits: Limits,
}

/// Counts an invocation of a namespace for as long as it lives.
#[derive(Debug)]
struct OfTenant(Arc<Tenant>);

impl OfTenant {
    fn count(tenant: &Arc<Tenant>) -> Self {
        tenant.all.fetch_add(1, Ordering::Relaxed);
        Self(tenant.clone())
    }
}

impl Drop for OfTenant {
    fn drop(&mut self) {
        self.0.all.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An invocation's place under the limits, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Taken {
    _function: Running,
    _tenant: OfTenant,
    _of_namespace: Option<Running>,
    _of_caller: Option<Running>,
}

impl Quota {
    /// The limits that there are, each with its counter; the others have none from now on.
    pub(crate) fn bounded(&self, function: FunctionUid, namespace: &Namespace) -> Vec<Bounded> {
        let shared = self.namespace_max.map(|max| max.saturating_sub(self.namespace_reserved));
        let reserved = self.namespace_max.and((self.reserved > 0).then_some(self.reserved));
        let limits = [
            (LimitId::Concurrency(function), self.max, &self.usage.all),
            (LimitId::Reserved(function), reserved, &self.usage.reserved),
            (LimitId::Shared(namespace.clone()), shared, &self.tenant.shared),
        ];
        limits.into_iter().filter_map(|(id, limit, slots)| bound(id, limit, slots)).collect()
    }

    /// Waits where this gateway has nothing of a limit and the scheduler may not know that something is wanted.
    ///
    /// # Errors
    /// `Unavailable`: it is not known how much this gateway has.
    pub(crate) async fn ready(&self, borrowing: &Borrowing, name: &FunctionRef) -> Result<(), ApiError> {
        if let Some(limit) = self.max.filter(|_| self.usage.all.is_dry()) {
            Box::pin(ask(borrowing, &self.usage.all, limit, name)).await?;
        }
        let Some(max) = self.namespace_max else { return Ok(()) };
        if self.reserved > 0 && self.usage.reserved.is_dry() {
            Box::pin(ask(borrowing, &self.usage.reserved, self.reserved, name)).await?;
        }
        if self.tenant.shared.is_dry() && !self.has_reserved() {
            let limit = max.saturating_sub(self.namespace_reserved);
            Box::pin(ask(borrowing, &self.tenant.shared, limit, name)).await?;
        }
        Ok(())
    }

    fn has_reserved(&self) -> bool {
        self.reserved > 0 && self.usage.reserved.running() < self.usage.reserved.share()
    }

    /// Takes a place of a function's for a call that has this place of its caller's.
    ///
    /// # Errors
    /// `TooManyRequests`: the function or its namespace has as many as it may have.
    pub(crate) fn take(&self, name: &FunctionRef, of_caller: Option<Running>) -> Result<Taken, ApiError> {
        let function = self.usage.all.take().ok_or_else(|| self.function_full(name))?;
        let of_namespace = match self.namespace_max {
            Some(_) => Some(self.take_of_namespace().ok_or_else(|| self.namespace_full(name))?),
            None => None,
        };
        let tenant = OfTenant::count(&self.tenant);
        Ok(Taken { _function: function, _tenant: tenant, _of_namespace: of_namespace, _of_caller: of_caller })
    }

    /// Takes what the function has reserved, else what no function has.
    fn take_of_namespace(&self) -> Option<Running> {
        let reserved = (self.reserved > 0).then(|| self.usage.reserved.take()).flatten();
        reserved.or_else(|| self.tenant.shared.take())
    }

    /// What runs or waits in this gateway: of the function, and of its namespace.
    pub(crate) fn running(&self) -> (u32, u32) {
        (self.usage.all.running(), self.tenant.all.load(Ordering::Relaxed))
    }

    /// Whether the namespace may take one more of a gateway that has taken so many of `most`: it may have four times of what
    /// is left, so that there is always room for others.
    pub(crate) fn leaves_room(&self, taken: usize, most: usize) -> bool {
        leaves_room(self.tenant.all.load(Ordering::Relaxed), taken, most)
    }

    fn function_full(&self, name: &FunctionRef) -> ApiError {
        let max = self.max.unwrap_or_default();
        let (namespace, function, here) = (&name.namespace, &name.function, self.usage.all.lent(max));
        let message = format!("function {namespace}/{function} has reached its max_concurrency of {max}{here}");
        let current = self.usage.all.running();
        too_many(message, "raise scaling.max_concurrency, or call less at once")
            .exceeded(Exceeded { whose: format!("function {namespace}/{function}"), ..at_once(current, max) })
    }

    fn namespace_full(&self, name: &FunctionRef) -> ApiError {
        let (max, namespace, reserved) =
            (self.namespace_max.unwrap_or_default(), &name.namespace, self.namespace_reserved);
        let here = self.tenant.shared.lent(max.saturating_sub(reserved));
        let whose = format!("namespace {namespace}");
        let exceeded = Exceeded { whose, ..at_once(self.tenant.all.load(Ordering::Relaxed), max) };
        let message = format!("namespace {namespace} has reached its max_concurrency of {max}");
        if reserved == 0 {
            let hint = "an operator can raise it: dunlin namespace update";
            return too_many(format!("{message}{here}"), hint).exceeded(exceeded);
        }
        let message = format!("{message} but for what functions reserve of it ({reserved}){here}");
        let hint = "reserve some for this function (scaling.reserved_concurrency), or call less at once";
        too_many(message, hint).exceeded(exceeded)
    }
}

/// A limit with its counter.
fn bound(id: LimitId, limit: Option<u32>, slots: &Arc<Slots>) -> Option<Bounded> {
    if limit.is_some() {
        slots.bound()
    } else {
        slots.unbound()
    }
    limit.map(|limit| Bounded { id, limit, slots: slots.clone() })
}

/// Waits for a part of a limit.
async fn ask(borrowing: &Borrowing, slots: &Slots, limit: u32, name: &FunctionRef) -> Result<(), ApiError> {
    // Of nothing, no part is more.
    if limit == 0 || borrowing.first_slot(slots, limit).await {
        return Ok(());
    }
    let message = format!("how many calls of {name} may run at once is not known here for now");
    Err(ApiError::new(ErrorCode::Unavailable, message)
        .hint("the scheduler does not answer; try again")
        .retry_after(AGAIN))
}

fn leaves_room(own: u32, taken: usize, most: usize) -> bool {
    let left = most.saturating_sub(taken).saturating_mul(TIMES_WHAT_IS_LEFT);
    usize::try_from(own).is_ok_and(|own| own < left)
}

/// A bound of calls at once; this gateway knows of its own alone.
fn at_once(current: u32, allowed: u32) -> Exceeded {
    let (current, allowed) = (current.into(), allowed.into());
    Exceeded { whose: String::new(), kind: LimitKind::Concurrency, current, allowed }
}

fn too_many(message: String, hint: &str) -> ApiError {
    ApiError::new(ErrorCode::TooManyRequests, message).hint(hint).retry_after(AGAIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> FunctionRef {
        FunctionRef { namespace: "shop".parse().unwrap(), function: "pay".parse().unwrap() }
    }

    /// The limits of a quota, with as much of each as the cluster has.
    fn alone(quota: Quota) -> Quota {
        lend(&quota, u32::MAX);
        quota
    }

    fn lend(quota: &Quota, most: u32) {
        for bounded in quota.bounded(FunctionUid::new(), &name().namespace) {
            bounded.slots.assume(bounded.limit.min(most));
        }
    }

    /// Takes as many places as there are.
    fn take_all(quota: &Quota) -> (Vec<Taken>, String) {
        let mut taken = Vec::new();
        loop {
            match quota.take(&name(), None) {
                Ok(one) => taken.push(one),
                Err(error) => {
                    assert_eq!((error.code, error.retry_after), (ErrorCode::TooManyRequests, Some(AGAIN)));
                    return (taken, error.message);
                }
            }
        }
    }

    #[test]
    fn a_function_has_as_many_as_it_may_have() {
        let quota = alone(Quota { max: Some(3), ..Quota::default() });
        let (taken, message) = take_all(&quota);
        assert_eq!((taken.len(), message.as_str()), (3, "function shop/pay has reached its max_concurrency of 3"));
        drop(taken);
        assert_eq!(take_all(&quota).0.len(), 3);
        lend(&quota, 1);
        let (taken, message) = take_all(&quota);
        assert!(taken.len() == 1 && message.ends_with("of which this gateway has 1 now"), "{message}");
        assert!(take_all(&alone(Quota { max: Some(0), ..Quota::default() })).0.is_empty());
    }

    #[test]
    fn what_a_function_reserves_is_there_for_it_alone() {
        let tenant = Arc::<Tenant>::default();
        let of = |reserved| {
            let tenant = tenant.clone();
            alone(Quota { reserved, namespace_max: Some(10), namespace_reserved: 4, tenant, ..Quota::default() })
        };
        let (greedy, modest) = (of(0), of(4));
        let (others, message) = take_all(&greedy);
        assert!(others.len() == 6 && message.contains("functions reserve of it (4)"), "{} {message}", others.len());
        let (own, message) = take_all(&modest);
        assert!(
            own.len() == 4 && message.contains("namespace shop has reached its max_concurrency of 10"),
            "{message}"
        );
        drop(others);
        // What it reserves is no upper bound.
        assert_eq!(take_all(&modest).0.len(), 6);
        drop(own);
        assert_eq!(take_all(&greedy).0.len(), 6);
        assert_eq!((tenant.all.load(Ordering::Relaxed), tenant.shared.running()), (0, 0));
    }

    #[test]
    fn a_limit_that_is_lifted_holds_nobody() {
        let quota = alone(Quota { max: Some(1), ..Quota::default() });
        let taken = quota.take(&name(), None).unwrap();
        let lifted = alone(Quota { max: None, usage: quota.usage.clone(), ..Quota::default() });
        assert!(lifted.take(&name(), None).is_ok());
        // What runs counts when there is one again.
        let again = alone(Quota { max: Some(1), usage: quota.usage.clone(), ..Quota::default() });
        assert!(again.take(&name(), None).is_err());
        drop(taken);
        assert!(again.take(&name(), None).is_ok());
    }

    #[test]
    fn f14_no_namespace_takes_a_gateway_whole() {
        let fill = |others: usize| (0..1000).take_while(|own| leaves_room(*own, *own as usize + others, 1000)).count();
        assert_eq!((fill(0), fill(500)), (800, 400));
        assert!(leaves_room(0, 999, 1000) && !leaves_room(0, 1000, 1000));
        assert!(leaves_room(0, 0, 1), "a gateway that takes one takes one");
    }
}
