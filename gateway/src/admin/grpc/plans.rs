//! Usage plans over gRPC.

use dunlin_proto::v1::{self, plan_service_server::PlanService};
use tonic::{Request, Response, Status};

use super::Api;

#[tonic::async_trait]
impl PlanService for Api {
    async fn put_plan(&self, request: Request<v1::PutPlanRequest>) -> Result<Response<v1::PutPlanResponse>, Status> {
        self.unary(request, async |app, who, message| app.plan_put(&who, message).await).await
    }

    async fn list_plans(
        &self,
        request: Request<v1::ListPlansRequest>,
    ) -> Result<Response<v1::ListPlansResponse>, Status> {
        self.unary(request, async |app, who, message| app.plan_list(&who, message).await).await
    }

    async fn delete_plan(
        &self,
        request: Request<v1::DeletePlanRequest>,
    ) -> Result<Response<v1::DeletePlanResponse>, Status> {
        self.unary(request, async |app, who, message| app.plan_delete(&who, message).await).await
    }
}
