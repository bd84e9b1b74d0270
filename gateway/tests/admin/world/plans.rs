//! The plans of the simulated scheduler: none is there, and whatever is put is answered with.

use dunlin_proto::v1::{self, plan_service_server::PlanService};
use tonic::{Request, Response, Status};

use super::scheduler::{Scheduler, missing};

#[tonic::async_trait]
impl PlanService for Scheduler {
    async fn put_plan(&self, request: Request<v1::PutPlanRequest>) -> Result<Response<v1::PutPlanResponse>, Status> {
        let v1::PutPlanRequest { plan } = self.open("PutPlan", request);
        Ok(Response::new(v1::PutPlanResponse { plan }))
    }

    async fn list_plans(
        &self,
        request: Request<v1::ListPlansRequest>,
    ) -> Result<Response<v1::ListPlansResponse>, Status> {
        let v1::ListPlansRequest { parent } = self.open("ListPlans", request);
        let plan = v1::Plan { name: format!("{parent}/plans/basic"), keys: 2, ..Default::default() };
        Ok(Response::new(v1::ListPlansResponse { plans: vec![plan] }))
    }

    async fn delete_plan(
        &self,
        request: Request<v1::DeletePlanRequest>,
    ) -> Result<Response<v1::DeletePlanResponse>, Status> {
        Err(missing(&self.open("DeletePlan", request).name))
    }
}
