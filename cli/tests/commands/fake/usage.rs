//! The simulated UsageService: two lines of usage, and a budget that is always the same.

use dunlin_proto::{
    ApiError,
    v1::{self, usage_service_server::UsageService},
};
use tonic::{Request, Response, Status};

use super::{Fake, micros};

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl UsageService for Fake {
    async fn list_usage(&self, request: Request<v1::ListUsageRequest>) -> Answer<v1::ListUsageResponse> {
        let request = request.into_inner();
        let line = |function: &str, invocations| v1::Usage {
            function: function.into(),
            invocations,
            cpu_time: micros(1_500_000),
            memory_byte_seconds: 3 << 29,
            bytes_in: 10,
            bytes_out: 2_048,
            ..Default::default()
        };
        // Two pages.
        let (usage, next) = match request.page_token.as_str() {
            "" => (vec![line("checkout", 12)], "more"),
            _ => (vec![line("pay", 3)], ""),
        };
        self.state().usage.push(request);
        Ok(Response::new(v1::ListUsageResponse { usage, next_page_token: next.into(), from: None, to: None }))
    }

    async fn set_budget(&self, request: Request<v1::SetBudgetRequest>) -> Answer<v1::SetBudgetResponse> {
        let budget = request.into_inner().budget;
        self.state().budget.clone_from(&budget);
        Ok(Response::new(v1::SetBudgetResponse { budget }))
    }

    async fn get_budget(&self, request: Request<v1::GetBudgetRequest>) -> Answer<v1::GetBudgetResponse> {
        let name = request.into_inner().name;
        let budget = self.state().budget.clone().ok_or_else(|| ApiError::not_found(format!("a budget ({name})")))?;
        let period_end = Some(prost_types::Timestamp { seconds: 86_400, nanos: 0 });
        let used =
            |state: v1::BudgetState| v1::BudgetUse { used: 17, state: state.into(), period_end, ..Default::default() };
        Ok(Response::new(v1::GetBudgetResponse {
            cpu_seconds: budget.cpu_seconds.map(|_| used(v1::BudgetState::Ok)),
            calls: budget.calls.map(|_| used(v1::BudgetState::Warning)),
            budget: Some(budget),
        }))
    }

    async fn delete_budget(&self, _: Request<v1::DeleteBudgetRequest>) -> Answer<v1::DeleteBudgetResponse> {
        self.state().budget = None;
        Ok(Response::new(v1::DeleteBudgetResponse {}))
    }
}
