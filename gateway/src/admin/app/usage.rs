//! What was used, and budgets: authorised here, done by the scheduler.

use dunlin_proto::{
    ApiError, ErrorCode,
    names::{BudgetName, NamespaceRef},
    v1,
};

use super::{App, MAX_ANSWER_BYTES, ask, look, name, on_behalf};
use crate::{admin::access::Operation, auth::Principal};

/// Lines of an export.
const MOST_LINES: usize = 100_000;
/// Lines of the largest page.
const PAGE: i32 = 1_000;

impl App {
    fn usage(&self) -> v1::usage_service_client::UsageServiceClient<crate::upstream::Secured> {
        self.context.scheduler.usage().max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    pub(crate) async fn usage_list(
        &self,
        who: &Principal,
        request: v1::ListUsageRequest,
    ) -> Result<v1::ListUsageResponse, ApiError> {
        let NamespaceRef { namespace } = name("parent", &request.parent)?;
        Operation::ListUsage.allow_in(who, &namespace)?;
        super::page_size(request.page_size)?;
        look(self.usage().list_usage(on_behalf(who, request))).await
    }

    /// All pages.
    pub(crate) async fn usage_export(
        &self,
        who: &Principal,
        mut request: v1::ListUsageRequest,
    ) -> Result<Vec<v1::Usage>, ApiError> {
        let mut lines = Vec::new();
        request.page_size = PAGE;
        loop {
            let page = self.usage_list(who, request.clone()).await?;
            lines.extend(page.usage);
            if page.next_page_token.is_empty() {
                return Ok(lines);
            }
            if lines.len() >= MOST_LINES {
                let message = format!("this usage has more than {MOST_LINES} lines");
                let error = ApiError::new(ErrorCode::InvalidArgument, message);
                return Err(error.hint("ask for less time, or tell lines apart by less"));
            }
            request.page_token = page.next_page_token;
        }
    }

    pub(crate) async fn budget_set(
        &self,
        who: &Principal,
        request: v1::SetBudgetRequest,
    ) -> Result<v1::SetBudgetResponse, ApiError> {
        let budget = request.budget.as_ref().ok_or_else(|| ApiError::invalid("budget", "budget is missing"))?;
        let BudgetName { namespace } = name("budget.name", &budget.name)?;
        Operation::SetBudget.allow_in(who, &namespace)?;
        ask(self.usage().set_budget(on_behalf(who, request))).await
    }

    pub(crate) async fn budget_get(
        &self,
        who: &Principal,
        request: v1::GetBudgetRequest,
    ) -> Result<v1::GetBudgetResponse, ApiError> {
        let BudgetName { namespace } = name("name", &request.name)?;
        Operation::GetBudget.allow_in(who, &namespace)?;
        look(self.usage().get_budget(on_behalf(who, request))).await
    }

    pub(crate) async fn budget_delete(
        &self,
        who: &Principal,
        request: v1::DeleteBudgetRequest,
    ) -> Result<v1::DeleteBudgetResponse, ApiError> {
        let BudgetName { namespace } = name("name", &request.name)?;
        Operation::DeleteBudget.allow_in(who, &namespace)?;
        ask(self.usage().delete_budget(on_behalf(who, request))).await
    }
}
