//! `PlanService`, and what keys have used of their plans.

use std::time::SystemTime;

use dunlin_proto::{
    ApiError,
    ids::PlanId,
    metadata,
    model::{Quota, Rate},
    names::{KeyName, NamespaceRef, PlanName},
    v1::{self, plan_service_server::PlanService},
};
use prost_types::Timestamp;
use tonic::{Request, Response, Status};

use super::{Desk, convert, name};
use crate::{
    app::App,
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
        tracing::info!(namespace = %plan.name.namespace, plan = %plan.name.plan, rate = ?plan.rate, quota = ?plan.quota, actor, "a plan has been put");
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
        create_time: Time::now(),
    };
    if plan.rate.is_none() && plan.quota.is_none() {
        return Err(ApiError::invalid("plan", "a plan needs a rate, a quota or both, or it would limit nothing"));
    }
    Ok(plan)
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
        ..v1::GetKeyUsageResponse::default()
    };
    let period = plan.quota.and_then(|quota| quota.period.around(seconds_now()));
    let Some((begins, ends)) = period else { return Ok(told) };
    let gone = app.store.quota_gone(&key.key, begins).await?;
    let lent = app.lending.left(&key.key, begins).min(gone);
    let moment = |seconds| Some(Timestamp { seconds, nanos: 0 });
    Ok(v1::GetKeyUsageResponse {
        period_start: moment(begins),
        period_end: moment(ends),
        used: gone - lent,
        lent,
        ..told
    })
}
