//! Namespaces that have used up their budget, as the scheduler said last, and what their callers are told.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use dunlin_proto::{
    ApiError, ErrorCode,
    error::{Exceeded, LimitKind},
    ids::Namespace,
    internal::v1::{SpentBudget, SpentBudgets},
};

/// By namespace. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Budgets(Arc<ArcSwap<HashMap<String, SpentBudget>>>);

impl Budgets {
    /// These are used up, and no others.
    pub(super) fn set(&self, spent: SpentBudgets) {
        let by_namespace = spent.budgets.into_iter().map(|budget| (budget.namespace.clone(), budget));
        self.0.store(Arc::new(by_namespace.collect()));
    }

    /// Refuses a call of a namespace whose budget is used up, until its period ends.
    pub(super) fn check(&self, namespace: &Namespace, now: impl Fn() -> i64) -> Result<(), ApiError> {
        let spent = self.0.load();
        if spent.is_empty() {
            return Ok(());
        }
        let of = spent.get(namespace.as_str());
        of.and_then(|budget| refusal(budget, now())).map_or(Ok(()), Err)
    }
}

fn refusal(budget: &SpentBudget, now: i64) -> Option<ApiError> {
    let seconds = |from: i64, to: i64| Duration::from_secs(u64::try_from(to.saturating_sub(from)).unwrap_or_default());
    let (wait, period) = (seconds(now, budget.period_end), seconds(budget.period_start, budget.period_end));
    if wait.is_zero() {
        return None;
    }
    let SpentBudget { namespace, used, allowed, .. } = budget;
    let what = if budget.cpu { "CPU seconds" } else { "calls" };
    let each = if period > Duration::from_secs(86_400) { "month" } else { "day" };
    let end = SystemTime::UNIX_EPOCH + seconds(0, budget.period_end);
    let message = format!("namespace {namespace} has used up its budget of {allowed} {what} a {each}: {used} are used");
    let hint = format!(
        "it begins anew at {}; an admin of the namespace can raise it: dunlin budget set",
        humantime::format_rfc3339_seconds(end)
    );
    let whose = format!("namespace {namespace}");
    let exceeded = Exceeded { whose, kind: LimitKind::Budget { period }, current: *used, allowed: *allowed };
    let error = ApiError::new(ErrorCode::TooManyRequests, message).hint(hint);
    Some(error.retry_after(wait).exceeded(exceeded))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_refused_until_its_period_ends() {
        let (budgets, shop, bank) = (Budgets::default(), "shop".parse().unwrap(), "bank".parse().unwrap());
        let check = |namespace: &Namespace, now| budgets.check(namespace, || now);
        assert!(check(&shop, 0).is_ok());
        let spent = SpentBudget {
            namespace: "shop".into(),
            cpu: false,
            used: 23,
            allowed: 20,
            period_start: 86_400,
            period_end: 172_800,
        };
        budgets.set(SpentBudgets { budgets: vec![spent.clone()] });
        let error = check(&shop, 172_700).unwrap_err();
        assert_eq!(error.message, "namespace shop has used up its budget of 20 calls a day: 23 are used");
        assert_eq!((error.code, error.retry_after), (ErrorCode::TooManyRequests, Some(Duration::from_secs(100))));
        assert!(error.hint.unwrap().contains("anew at 1970-01-03T00:00:00Z"));
        let exceeded = error.exceeded.unwrap();
        assert_eq!((exceeded.whose.as_str(), exceeded.current, exceeded.allowed), ("namespace shop", 23, 20));
        assert!(check(&bank, 172_700).is_ok() && check(&shop, 172_800).is_ok());
        let month = SpentBudget { cpu: true, period_start: 0, period_end: 30 * 86_400, ..spent };
        budgets.set(SpentBudgets { budgets: vec![month] });
        assert!(check(&shop, 5).unwrap_err().message.contains("20 CPU seconds a month"));
        budgets.set(SpentBudgets::default());
        assert!(check(&shop, 5).is_ok());
    }
}
