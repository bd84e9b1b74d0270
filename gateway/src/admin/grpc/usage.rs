//! Usage and budgets over gRPC.

use dunlin_proto::v1::{self, usage_service_server::UsageService};
use tonic::{Request, Response, Status};

use super::Api;

#[tonic::async_trait]
impl UsageService for Api {
    async fn list_usage(
        &self,
        request: Request<v1::ListUsageRequest>,
    ) -> Result<Response<v1::ListUsageResponse>, Status> {
        self.unary(request, async |app, who, message| app.usage_list(&who, message).await).await
    }

    async fn set_budget(
        &self,
        request: Request<v1::SetBudgetRequest>,
    ) -> Result<Response<v1::SetBudgetResponse>, Status> {
        self.unary(request, async |app, who, message| app.budget_set(&who, message).await).await
    }

    async fn get_budget(
        &self,
        request: Request<v1::GetBudgetRequest>,
    ) -> Result<Response<v1::GetBudgetResponse>, Status> {
        self.unary(request, async |app, who, message| app.budget_get(&who, message).await).await
    }

    async fn delete_budget(
        &self,
        request: Request<v1::DeleteBudgetRequest>,
    ) -> Result<Response<v1::DeleteBudgetResponse>, Status> {
        self.unary(request, async |app, who, message| app.budget_delete(&who, message).await).await
    }
}
