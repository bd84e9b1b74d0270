//! The simulated PlanService: remembers nothing but what keys say.

use dunlin_proto::{
    ApiError, ErrorCode,
    v1::{self, plan_service_server::PlanService},
};
use tonic::{Request, Response, Status};

use super::{Fake, ago};

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl PlanService for Fake {
    async fn put_plan(&self, request: Request<v1::PutPlanRequest>) -> Answer<v1::PutPlanResponse> {
        let plan = request.into_inner().plan.unwrap_or_default();
        if plan.rate.is_none() && plan.quota.is_none() && plan.max_concurrency.is_none() {
            return Err(ApiError::invalid("plan", "a plan needs a rate, a quota or max_concurrency").into());
        }
        Ok(Response::new(v1::PutPlanResponse { plan: Some(v1::Plan { create_time: ago(0), ..plan }) }))
    }

    async fn list_plans(&self, request: Request<v1::ListPlansRequest>) -> Answer<v1::ListPlansResponse> {
        let quota = v1::QuotaLimit { requests: 10_000, period: v1::QuotaPeriod::Month.into(), on_unknown: 2 };
        let name = format!("{}/plans/basic", request.into_inner().parent);
        let plan = v1::Plan { name, quota: Some(quota), keys: 3, create_time: ago(300), ..Default::default() };
        Ok(Response::new(v1::ListPlansResponse { plans: vec![plan] }))
    }

    async fn delete_plan(&self, _: Request<v1::DeletePlanRequest>) -> Answer<v1::DeletePlanResponse> {
        Err(ApiError::new(ErrorCode::FailedPrecondition, "3 valid keys are under the plan basic").into())
    }
}
