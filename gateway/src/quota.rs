//! How many invocations a function and a namespace may have at once, and how many one namespace may take of this gateway.
//!
//! The limits are the cluster's. Gateways do not talk about every call: each keeps to its part of a limit, which follows from
//! the names of the gateways that the scheduler told last. Counters outlive changes of the configuration. Callers wait for
//! nothing here: who is over a limit is told so at once.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use dunlin_proto::{
    ApiError, ErrorCode,
    error::{Exceeded, LimitKind},
    names::FunctionRef,
};

use crate::{limits::Limits, metrics::Calls};

/// When somebody who was over a limit may try again.
const AGAIN: Duration = Duration::from_secs(1);
/// How many times what is left of the gateway a namespace may have of it.
const TIMES_WHAT_IS_LEFT: usize = 4;

/// This gateway's place among all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    /// How many there are; one at least.
    gateways: u32,
    /// How many come before this one in the order of names.
    before: u32,
}

impl Part {
    /// The place of `own` among these names, which may or may not hold it.
    pub(crate) fn of<'a>(names: impl Iterator<Item = &'a str>, own: &str) -> Self {
        let mut part = Self { gateways: 1, before: 0 };
        for name in names.filter(|name| *name != own) {
            part.gateways += 1;
            part.before += u32::from(name < own);
        }
        part
    }

    /// This gateway's part of an amount; the parts of all gateways sum up to it.
    fn exactly(self, amount: u32) -> u32 {
        let (whole, rest) = (amount.checked_div(self.gateways), amount.checked_rem(self.gateways));
        whole.unwrap_or(amount) + u32::from(self.before < rest.unwrap_or_default())
    }

    /// This gateway's part of a limit: one at least, where the limit is not 0, so that no gateway refuses every caller.
    fn of_limit(self, limit: u32) -> u32 {
        self.exactly(limit).max(limit.min(1))
    }
}

/// What runs or waits of a namespace in this gateway.
#[derive(Debug, Default)]
pub(crate) struct Tenant {
    all: AtomicU32,
    /// Of these, what is not reserved for a function.
    shared: AtomicU32,
}

/// What runs or waits of a function in this gateway.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    all: AtomicU32,
    reserved: AtomicU32,
    /// What its metrics are counted with, from its first call on; decides nothing.
    pub(crate) calls: OnceLock<Arc<Calls>>,
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

/// Counts one for as long as it lives.
#[derive(Debug)]
struct Counted<T: AsRef<AtomicU32>>(T);

impl<T: AsRef<AtomicU32>> Counted<T> {
    /// Counts one more, where fewer than `most` are counted.
    fn below(counter: T, most: u32) -> Option<Self> {
        let before = counter.as_ref().fetch_add(1, Ordering::Relaxed);
        let counted = Self(counter);
        (before < most).then_some(counted)
    }
}

impl<T: AsRef<AtomicU32>> Drop for Counted<T> {
    fn drop(&mut self) {
        self.0.as_ref().fetch_sub(1, Ordering::Relaxed);
    }
}

macro_rules! counter {
    ($name:ident, $of:ident, $field:ident) => {
        #[derive(Debug)]
        struct $name(Arc<$of>);

        impl AsRef<AtomicU32> for $name {
            fn as_ref(&self) -> &AtomicU32 {
                &self.0.$field
            }
        }
    };
}

counter!(OfTenant, Tenant, all);
counter!(Shared, Tenant, shared);
counter!(OfFunction, Usage, all);
counter!(Reserved, Usage, reserved);

/// An invocation's place under the limits, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Taken {
    _function: Counted<OfFunction>,
    _tenant: Counted<OfTenant>,
    _reserved: Option<Counted<Reserved>>,
    _shared: Option<Counted<Shared>>,
}

type OfNamespace = (Option<Counted<Reserved>>, Option<Counted<Shared>>);

impl Quota {
    /// Whether the function or its namespace has a limit.
    pub(crate) fn is_bounded(&self) -> bool {
        self.max.is_some() || self.namespace_max.is_some()
    }

    /// Takes a place of a function's, as gateway `part`.
    ///
    /// # Errors
    /// `TooManyRequests`: the function or its namespace has as many as it may have.
    pub(crate) fn take(&self, part: Part, name: &FunctionRef) -> Result<Taken, ApiError> {
        let own = self.max.map_or(u32::MAX, |max| part.of_limit(max));
        let function = Counted::below(OfFunction(self.usage.clone()), own);
        let function = function.ok_or_else(|| self.function_full(part, name))?;
        let all = self.namespace_max.map_or(u32::MAX, |max| part.of_limit(max));
        let tenant = Counted::below(OfTenant(self.tenant.clone()), all);
        let tenant = tenant.ok_or_else(|| self.namespace_full(part, name))?;
        let (reserved, shared) = match self.namespace_max {
            Some(_) => self.take_of_namespace(part, all, name)?,
            None => (None, None),
        };
        Ok(Taken { _function: function, _tenant: tenant, _reserved: reserved, _shared: shared })
    }

    /// Takes what the function has reserved, else what nobody has of the namespace's `all`.
    fn take_of_namespace(&self, part: Part, all: u32, name: &FunctionRef) -> Result<OfNamespace, ApiError> {
        let own = Counted::below(Reserved(self.usage.clone()), part.exactly(self.reserved));
        if own.is_some() {
            return Ok((own, None));
        }
        let free = all.saturating_sub(part.exactly(self.namespace_reserved));
        let shared = Counted::below(Shared(self.tenant.clone()), free);
        shared.map(|shared| (None, Some(shared))).ok_or_else(|| self.rest_is_reserved(name))
    }

    /// What runs or waits in this gateway: of the function, and of its namespace.
    pub(crate) fn running(&self) -> (u32, u32) {
        (self.usage.all.load(Ordering::Relaxed), self.tenant.all.load(Ordering::Relaxed))
    }

    /// Whether the namespace may take one more of a gateway that has taken so many of `most`: it may have four times of what
    /// is left, so that there is always room for others.
    pub(crate) fn leaves_room(&self, taken: usize, most: usize) -> bool {
        leaves_room(self.tenant.all.load(Ordering::Relaxed), taken, most)
    }

    fn function_full(&self, part: Part, name: &FunctionRef) -> ApiError {
        let max = self.max.unwrap_or_default();
        let (namespace, function, each) = (&name.namespace, &name.function, at_each(part, max));
        let message = format!("function {namespace}/{function} has reached its max_concurrency of {max}{each}");
        let current = self.usage.all.load(Ordering::Relaxed);
        too_many(message, "raise scaling.max_concurrency, or call less at once")
            .exceeded(Exceeded { whose: format!("function {namespace}/{function}"), ..at_once(current, max) })
    }

    fn namespace_full(&self, part: Part, name: &FunctionRef) -> ApiError {
        let (max, namespace) = (self.namespace_max.unwrap_or_default(), &name.namespace);
        let each = at_each(part, max);
        let message = format!("namespace {namespace} has reached its max_concurrency of {max}{each}");
        let current = self.tenant.all.load(Ordering::Relaxed);
        let whose = format!("namespace {namespace}");
        let exceeded = Exceeded { whose, ..at_once(current, max) };
        too_many(message, "an operator can raise it: dunlin namespace update").exceeded(exceeded)
    }

    fn rest_is_reserved(&self, name: &FunctionRef) -> ApiError {
        let (max, namespace) = (self.namespace_max.unwrap_or_default(), &name.namespace);
        let reserved = self.namespace_reserved;
        let message = format!(
            "namespace {namespace} has used its max_concurrency of {max} but for what functions reserve of it ({reserved})"
        );
        let whose = format!("namespace {namespace}");
        let exceeded = Exceeded { whose, ..at_once(self.tenant.all.load(Ordering::Relaxed), max) };
        too_many(message, "reserve some for this function (scaling.reserved_concurrency), or call less at once")
            .exceeded(exceeded)
    }
}

fn leaves_room(own: u32, taken: usize, most: usize) -> bool {
    let left = most.saturating_sub(taken).saturating_mul(TIMES_WHAT_IS_LEFT);
    usize::try_from(own).is_ok_and(|own| own < left)
}

fn at_each(part: Part, limit: u32) -> String {
    match part.gateways {
        1 => String::new(),
        gateways => format!(", which is {} at this one of {gateways} gateways", part.of_limit(limit)),
    }
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

    const ALONE: Part = Part { gateways: 1, before: 0 };

    fn name() -> FunctionRef {
        FunctionRef { namespace: "shop".parse().unwrap(), function: "pay".parse().unwrap() }
    }

    /// Takes as many places as there are.
    fn take_all(quota: &Quota, part: Part) -> (Vec<Taken>, String) {
        let mut taken = Vec::new();
        loop {
            match quota.take(part, &name()) {
                Ok(one) => taken.push(one),
                Err(error) => {
                    assert_eq!((error.code, error.retry_after), (ErrorCode::TooManyRequests, Some(AGAIN)));
                    return (taken, error.message);
                }
            }
        }
    }

    #[test]
    fn gateways_share_a_limit_exactly_and_none_is_left_without() {
        let names = ["a", "b", "c"];
        for limit in 0..20 {
            let parts = names.map(|own| Part::of(names.into_iter(), own).exactly(limit));
            assert_eq!(parts.iter().sum::<u32>(), limit);
            let limits = names.map(|own| Part::of(names.into_iter(), own).of_limit(limit));
            assert!(limits.iter().all(|part| (*part == 0) == (limit == 0)), "{limits:?} of {limit}");
        }
        assert_eq!(Part::of([].into_iter(), "a"), ALONE);
        assert_eq!(Part::of(["b"].into_iter(), "a"), Part { gateways: 2, before: 0 });
    }

    #[test]
    fn a_function_has_as_many_as_it_may_have() {
        let quota = Quota { max: Some(3), ..Quota::default() };
        let (taken, message) = take_all(&quota, ALONE);
        assert_eq!((taken.len(), message.as_str()), (3, "function shop/pay has reached its max_concurrency of 3"));
        drop(taken);
        assert_eq!(take_all(&quota, ALONE).0.len(), 3);
        let (taken, message) = take_all(&quota, Part { gateways: 2, before: 1 });
        assert!(taken.len() == 1 && message.ends_with("which is 1 at this one of 2 gateways"), "{message}");
        assert!(take_all(&Quota { max: Some(0), ..Quota::default() }, ALONE).0.is_empty());
    }

    #[test]
    fn what_a_function_reserves_is_there_for_it_alone() {
        let tenant = Arc::<Tenant>::default();
        let of = |reserved| Quota {
            reserved,
            namespace_max: Some(10),
            namespace_reserved: 4,
            tenant: tenant.clone(),
            ..Quota::default()
        };
        let (greedy, modest) = (of(0), of(4));
        let (others, message) = take_all(&greedy, ALONE);
        assert!(others.len() == 6 && message.contains("functions reserve"), "{} {message}", others.len());
        let (own, message) = take_all(&modest, ALONE);
        assert!(
            own.len() == 4 && message.contains("namespace shop has reached its max_concurrency of 10"),
            "{message}"
        );
        drop(others);
        // What it reserves is no upper bound.
        assert_eq!(take_all(&modest, ALONE).0.len(), 6);
        drop(own);
        assert_eq!(take_all(&greedy, ALONE).0.len(), 6);
        assert_eq!((tenant.all.load(Ordering::Relaxed), tenant.shared.load(Ordering::Relaxed)), (0, 0));
    }

    #[test]
    fn f14_no_namespace_takes_a_gateway_whole() {
        let fill = |others: usize| (0..1000).take_while(|own| leaves_room(*own, *own as usize + others, 1000)).count();
        assert_eq!((fill(0), fill(500)), (800, 400));
        assert!(leaves_room(0, 999, 1000) && !leaves_room(0, 1000, 1000));
        assert!(leaves_room(0, 0, 1), "a gateway that takes one takes one");
    }
}
