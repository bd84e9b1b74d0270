//! Usage plans: authorised here, done by the scheduler.

use dunlin_proto::{
    ApiError,
    names::{NamespaceRef, PlanName},
    v1,
};

use super::{App, MAX_ANSWER_BYTES, ask, look, name, on_behalf};
use crate::{admin::access::Operation, auth::Principal};

impl App {
    fn plans(&self) -> v1::plan_service_client::PlanServiceClient<crate::upstream::Secured> {
        self.context.scheduler.plans().max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    pub(crate) async fn plan_put(
        &self,
        who: &Principal,
        request: v1::PutPlanRequest,
    ) -> Result<v1::PutPlanResponse, ApiError> {
        let plan = request.plan.as_ref().ok_or_else(|| ApiError::invalid("plan", "plan is missing"))?;
        let PlanName { namespace, .. } = name("plan.name", &plan.name)?;
        Operation::PutPlan.allow_in(who, &namespace)?;
        ask(self.plans().put_plan(on_behalf(who, request))).await
    }

    pub(crate) async fn plan_list(
        &self,
        who: &Principal,
        request: v1::ListPlansRequest,
    ) -> Result<v1::ListPlansResponse, ApiError> {
        let NamespaceRef { namespace } = name("parent", &request.parent)?;
        Operation::ListPlans.allow_in(who, &namespace)?;
        look(self.plans().list_plans(on_behalf(who, request))).await
    }

    pub(crate) async fn plan_delete(
        &self,
        who: &Principal,
        request: v1::DeletePlanRequest,
    ) -> Result<v1::DeletePlanResponse, ApiError> {
        let PlanName { namespace, .. } = name("name", &request.name)?;
        Operation::DeletePlan.allow_in(who, &namespace)?;
        ask(self.plans().delete_plan(on_behalf(who, request))).await
    }
}
