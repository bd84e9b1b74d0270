//! `PlanService`, and what is used of quotas.

use std::time::SystemTime;

use dunlin_proto::{
    ApiError,
    ids::PlanId,
    limit::LimitId,
    metadata,
    model::{Quota, Rate, concurrency},
    names::{KeyName, NamespaceRef, PlanName},
    v1::{self, plan_service_server::PlanService},
};
use prost_types::Timestamp;
use tonic::{Request, Response, Status};

use super::{Desk, convert, name};
use crate::{
    app::App,
    error::Error,
    model::{PlanRecord, Time},
};

#[tonic::async_trait]
impl PlanService for Desk {
    async fn put_plan(&self, request: Request<v1::PutPlanRequest>) -> Result<Response<v1::PutPlanResponse>, Status> {
        let (actor, store) = (metadata::actor(&request), self.store(&request)?);
        let plan = request.into_inner().plan.ok_or_else(|| ApiError::invalid("plan", "plan is missing"))?;
        let plan = checked(&plan)?;
        let app = self.app()?;
        let (stored, keys) = store.plan_put(&plan).await?;
        app.config_changed().await;
        tracing::info!(namespace = %plan.name.namespace, plan = %plan.name.plan, rate = ?plan.rate, quota = ?plan.quota, max_concurrency = plan.max_concurrency, actor, "a plan has been put");
        Ok(Response::new(v1::PutPlanResponse { plan: Some(convert::plan(&stored, keys)) }))
    }

    async fn list_plans(
        &self,
        request: Request<v1::ListPlansRequest>,
    ) -> Result<Response<v1::ListPlansResponse>, Status> {
        let NamespaceRef { namespace } = name("parent", &request.get_ref().parent)?;
        let found = self.app()?.store.plan_list(&namespace).await?;
        let plans = found.iter().map(|(plan, keys)| convert::plan(plan, *keys)).collect();
        Ok(Response::new(v1::ListPlansResponse { plans }))
    }

    async fn delete_plan(
        &self,
        request: Request<v1::DeletePlanRequest>,
    ) -> Result<Response<v1::DeletePlanResponse>, Status> {
        let actor = metadata::actor(&request);
        let target: PlanName = name("name", &request.get_ref().name)?;
        let app = self.app()?;
        self.store(&request)?.plan_delete(&target).await?;
        app.config_changed().await;
        tracing::info!(namespace = %target.namespace, plan = %target.plan, actor, "a plan has been deleted");
        Ok(Response::new(v1::DeletePlanResponse {}))
    }
}

fn checked(wire: &v1::Plan) -> Result<PlanRecord, ApiError> {
    let plan = PlanRecord {
        name: name("plan.name", &wire.name)?,
        rate: wire.rate.map(|rate| Rate::from_wire("plan.rate", rate)).transpose()?,
        quota: wire.quota.map(|quota| Quota::from_wire("plan.quota", quota)).transpose()?,
        max_concurrency: at_once(wire.max_concurrency)?,
        create_time: Time::now(),
    };
    if plan.rate.is_none() && plan.quota.is_none() && plan.max_concurrency.is_none() {
        let message = "a plan needs a rate, a quota or max_concurrency, or it would limit nothing";
        return Err(ApiError::invalid("plan", message));
    }
    Ok(plan)
}

/// A bound of calls at once. Of none at all, nobody would have a key.
fn at_once(calls: Option<u32>) -> Result<Option<u32>, ApiError> {
    const FIELD: &str = "plan.max_concurrency";
    if calls == Some(0) {
        let message = "plan.max_concurrency is 0, which would refuse every call; it must be 1 at least";
        return Err(ApiError::invalid(FIELD, message).hint("to end a key, revoke it: dunlin key revoke"));
    }
    concurrency(FIELD, calls)
}

/// The plan that a key shall be under; nothing where the text is empty.
pub(super) fn plan_id(text: &str) -> Result<Option<PlanId>, ApiError> {
    if text.is_empty() { Ok(None) } else { name("plan", text).map(Some) }
}

/// Seconds since 1970.
pub(crate) fn seconds_now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// What a key may use and has used.
pub(super) async fn usage(app: &App, key: &KeyName) -> Result<v1::GetKeyUsageResponse, Status> {
    let Some(plan) = app.store.key_plan(key).await? else { return Ok(v1::GetKeyUsageResponse::default()) };
    let told = v1::GetKeyUsageResponse {
        plan: plan.name.plan.to_string(),
        rate: plan.rate.map(Into::into),
        quota: plan.quota.map(Into::into),
        max_concurrency: plan.max_concurrency,
        ..v1::GetKeyUsageResponse::default()
    };
    let owner = LimitId::Key(key.key.clone());
    let Some(used) = quota_usage(app, &owner, plan.quota).await? else { return Ok(told) };
    let v1::QuotaUsage { period_start, period_end, used, lent, .. } = used;
    Ok(v1::GetKeyUsageResponse { period_start, period_end, used, lent, ..told })
}

/// What is used of a quota in its period, where there is one.
pub(super) async fn quota_usage(
    app: &App,
    owner: &LimitId,
    quota: Option<Quota>,
) -> Result<Option<v1::QuotaUsage>, Error> {
    let Some(quota) = quota else { return Ok(None) };
    let Some((begins, ends)) = quota.period.around(seconds_now()) else { return Ok(None) };
    let gone = app.store.quota_gone(owner, begins).await?;
    let lent = app.lending.left(owner, begins).min(gone);
    let moment = |seconds| Some(Timestamp { seconds, nanos: 0 });
    let (period_start, period_end) = (moment(begins), moment(ends));
    Ok(Some(v1::QuotaUsage { period_start, period_end, used: gone - lent, lent, quota: Some(quota.into()) }))
}
