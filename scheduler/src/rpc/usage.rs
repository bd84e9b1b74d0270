//! `UsageService`: sums of what was used, and budgets.

use std::time::Duration;

use dunlin_proto::{
    ApiError,
    ids::Namespace,
    metadata,
    model::{Budget, Spent, to_wire_duration},
    names::{BudgetName, NamespaceRef},
    v1::{self, usage_service_server::UsageService},
};
use prost_types::Timestamp;
use tonic::{Request, Response, Status};

use super::{Desk, functions::beyond, name, page, seconds_now};
use crate::{
    budgets::{Account, Tally},
    model::{Grouping, HOUR, UsageSum, hour_of},
};

/// The time that is shown where nothing is said.
const USUAL: i64 = 24 * HOUR;

/// The last moment that a calendar has, in seconds since 1970.
const LAST: i64 = 253_402_300_799;

#[tonic::async_trait]
impl UsageService for Desk {
    async fn list_usage(
        &self,
        request: Request<v1::ListUsageRequest>,
    ) -> Result<Response<v1::ListUsageResponse>, Status> {
        let request = request.into_inner();
        let NamespaceRef { namespace } = name("parent", &request.parent)?;
        let by = grouping(request.group_by())?;
        let span = span(request.from.as_ref(), request.to.as_ref(), seconds_now())?;
        let (size, list) = (page::size(request.page_size)?, format!("usage/{namespace}"));
        // The next page is of the same hours, whatever time it is by then.
        let (skip, span) = page::read(&list, &request.page_token)?.unwrap_or((0_i64, span));
        let found = self.app()?.store.usage_list(&namespace, span, by, (skip.max(0), beyond(size))).await?;
        let next = skip.saturating_add(i64::try_from(size).unwrap_or(i64::MAX));
        let (found, next_page_token) = page::cut(&list, found, size, |_| (next, span));
        Ok(Response::new(v1::ListUsageResponse {
            usage: found.into_iter().map(|sum| usage(sum, by)).collect(),
            next_page_token,
            from: Some(moment(span.0)),
            to: Some(moment(span.1)),
        }))
    }

    async fn set_budget(
        &self,
        request: Request<v1::SetBudgetRequest>,
    ) -> Result<Response<v1::SetBudgetResponse>, Status> {
        let (actor, store) = (metadata::actor(&request), self.store(&request)?);
        let wire = request.into_inner().budget.ok_or_else(|| ApiError::invalid("budget", "budget is missing"))?;
        let BudgetName { namespace } = name("budget.name", &wire.name)?;
        let budget = Budget::from_wire(&wire)?;
        let app = self.app()?;
        store.budget_set(&namespace, &budget).await?;
        app.budgets.changed(&namespace).await;
        tracing::info!(%namespace, ?budget, actor, "a budget has been set");
        Ok(Response::new(v1::SetBudgetResponse { budget: Some(to_wire(&namespace, &budget)) }))
    }

    async fn get_budget(
        &self,
        request: Request<v1::GetBudgetRequest>,
    ) -> Result<Response<v1::GetBudgetResponse>, Status> {
        let BudgetName { namespace } = name("name", &request.get_ref().name)?;
        let Account { budget, cpu, calls } = self.app()?.budgets.account(&namespace).await?;
        Ok(Response::new(v1::GetBudgetResponse {
            budget: Some(to_wire(&namespace, &budget)),
            cpu_seconds: cpu.map(|tally| used(&tally, budget.warn_percent)),
            calls: calls.map(|tally| used(&tally, budget.warn_percent)),
        }))
    }

    async fn delete_budget(
        &self,
        request: Request<v1::DeleteBudgetRequest>,
    ) -> Result<Response<v1::DeleteBudgetResponse>, Status> {
        let (actor, store) = (metadata::actor(&request), self.store(&request)?);
        let BudgetName { namespace } = name("name", &request.get_ref().name)?;
        let app = self.app()?;
        store.budget_delete(&namespace).await?;
        app.budgets.changed(&namespace).await;
        tracing::info!(%namespace, actor, "a budget has been deleted");
        Ok(Response::new(v1::DeleteBudgetResponse {}))
    }
}

fn moment(seconds: i64) -> Timestamp {
    Timestamp { seconds, nanos: 0 }
}

fn grouping(groups: impl Iterator<Item = v1::UsageGroup>) -> Result<Grouping, ApiError> {
    let mut by = Grouping::default();
    for group in groups {
        match group {
            v1::UsageGroup::Function => by.function = true,
            v1::UsageGroup::Version => by.version = true,
            v1::UsageGroup::Key => by.key = true,
            v1::UsageGroup::Hour => by.hour = true,
            v1::UsageGroup::Unspecified => {
                return Err(ApiError::invalid("group_by", "group_by must name function, version, key or hour"));
            }
        }
    }
    Ok(if by == Grouping::default() { Grouping { function: true, ..by } } else { by })
}

/// The whole hours that a request asks for.
fn span(from: Option<&Timestamp>, to: Option<&Timestamp>, now: i64) -> Result<(i64, i64), ApiError> {
    let seconds = |time: &Timestamp| time.seconds.clamp(0, LAST);
    // An hour that has begun belongs to it.
    let to = to.map_or(now + 1, |time| seconds(time) + i64::from(time.nanos > 0));
    let to = hour_of(to + HOUR - 1);
    let from = hour_of(from.map_or(to - USUAL, seconds));
    if from >= to {
        return Err(
            ApiError::invalid("from", "from must lie before to").hint("both are times such as 2026-01-31T12:00:00Z")
        );
    }
    Ok((from, to))
}

fn usage(sum: UsageSum, by: Grouping) -> v1::Usage {
    v1::Usage {
        hour: by.hour.then(|| moment(sum.hour)),
        function: sum.function,
        function_uid: sum.function_uid,
        version: sum.version,
        key: sum.key,
        invocations: sum.amounts.invocations,
        cpu_time: Some(to_wire_duration(Duration::from_micros(sum.amounts.cpu_micros))),
        memory_byte_seconds: sum.amounts.memory_byte_seconds,
        bytes_in: sum.amounts.bytes_in,
        bytes_out: sum.amounts.bytes_out,
    }
}

fn to_wire(namespace: &Namespace, budget: &Budget) -> v1::Budget {
    v1::Budget {
        name: BudgetName { namespace: namespace.clone() }.to_string(),
        cpu_seconds: budget.cpu.map(Into::into),
        calls: budget.calls.map(Into::into),
        warn_percent: budget.warn_percent,
        enforce: budget.enforce,
    }
}

fn used(tally: &Tally, warn_percent: u32) -> v1::BudgetUse {
    let state = match tally.spent(warn_percent) {
        Spent::Little => v1::BudgetState::Ok,
        Spent::Warning => v1::BudgetState::Warning,
        Spent::All => v1::BudgetState::UsedUp,
    };
    v1::BudgetUse {
        used: tally.used(),
        state: state.into(),
        period_start: Some(moment(tally.period.0)),
        period_end: Some(moment(tally.period.1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_hours_are_shown() {
        let time = |seconds| Some(moment(seconds));
        let of = |from: Option<i64>, to: Option<i64>, now| {
            span(from.and_then(time).as_ref(), to.and_then(time).as_ref(), now)
        };
        let now = 100 * HOUR + 5;
        assert_eq!(of(None, None, now), Ok((77 * HOUR, 101 * HOUR)));
        assert_eq!(of(None, None, 100 * HOUR), Ok((77 * HOUR, 101 * HOUR)), "an hour that has just begun");
        assert_eq!(of(Some(HOUR + 7), Some(2 * HOUR), now), Ok((HOUR, 2 * HOUR)));
        assert_eq!(of(Some(HOUR), Some(2 * HOUR + 1), now), Ok((HOUR, 3 * HOUR)));
        assert_eq!(of(Some(i64::MIN), Some(i64::MAX), now).unwrap().0, 0);
        for (from, to) in [(2 * HOUR, 2 * HOUR), (3 * HOUR, HOUR)] {
            assert_eq!(of(Some(from), Some(to), now).unwrap_err().field.as_deref(), Some("from"));
        }
    }

    #[test]
    fn usage_is_told_apart_by_function_where_nothing_is_said() {
        let none = grouping([].into_iter()).unwrap();
        assert!(none.function && !none.version && !none.key && !none.hour);
        let two = grouping([v1::UsageGroup::Key, v1::UsageGroup::Hour].into_iter()).unwrap();
        assert!(!two.function && two.key && two.hour);
        assert!(grouping([v1::UsageGroup::Unspecified].into_iter()).is_err());
    }
}
