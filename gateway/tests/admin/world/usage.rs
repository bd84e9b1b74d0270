//! The usage of the simulated scheduler: one line, and a budget of which much is used.

use dunlin_proto::v1::{self, usage_service_server::UsageService};
use tonic::{Request, Response, Status};

use super::scheduler::{Scheduler, missing};

#[tonic::async_trait]
impl UsageService for Scheduler {
    async fn list_usage(
        &self,
        request: Request<v1::ListUsageRequest>,
    ) -> Result<Response<v1::ListUsageResponse>, Status> {
        let request = self.open("ListUsage", request);
        let hour = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        let by_hour = request.group_by.contains(&v1::UsageGroup::Hour.into());
        let line = v1::Usage {
            hour: by_hour.then(|| hour(1_763_910_000)).flatten(),
            function: "checkout".into(),
            function_uid: "0198c5b2-7a43-7000-8000-3f1f6d1c1a2b".into(),
            invocations: 1_234,
            cpu_time: Some(prost_types::Duration { seconds: 5, nanos: 600_000_000 }),
            memory_byte_seconds: 3 << 30,
            bytes_in: 10,
            bytes_out: 20_000,
            ..Default::default()
        };
        let (from, to) = (hour(1_763_910_000 - 82_800), hour(1_763_913_600));
        Ok(Response::new(v1::ListUsageResponse { usage: vec![line], next_page_token: String::new(), from, to }))
    }

    async fn set_budget(
        &self,
        request: Request<v1::SetBudgetRequest>,
    ) -> Result<Response<v1::SetBudgetResponse>, Status> {
        let v1::SetBudgetRequest { budget } = self.open("SetBudget", request);
        Ok(Response::new(v1::SetBudgetResponse { budget }))
    }

    async fn get_budget(
        &self,
        request: Request<v1::GetBudgetRequest>,
    ) -> Result<Response<v1::GetBudgetResponse>, Status> {
        let name = self.open("GetBudget", request).name;
        let limit = v1::BudgetLimit { amount: 20, period: v1::QuotaPeriod::Day.into() };
        let budget = v1::Budget { name, calls: Some(limit), warn_percent: 80, enforce: true, ..Default::default() };
        let used = v1::BudgetUse { used: 17, state: v1::BudgetState::Warning.into(), ..Default::default() };
        Ok(Response::new(v1::GetBudgetResponse { budget: Some(budget), cpu_seconds: None, calls: Some(used) }))
    }

    async fn delete_budget(
        &self,
        request: Request<v1::DeleteBudgetRequest>,
    ) -> Result<Response<v1::DeleteBudgetResponse>, Status> {
        Err(missing(&self.open("DeleteBudget", request).name))
    }
}
