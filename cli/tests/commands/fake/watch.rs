//! The simulated LogService and InvocationService.

use std::pin::Pin;

use dunlin_proto::{
    ApiError,
    v1::{self, invocation_service_server::InvocationService, log_service_server::LogService},
};
use futures::{Stream, stream};
use tonic::{Request, Response, Status};

use super::Fake;

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl LogService for Fake {
    type ReadLogsStream = Pin<Box<dyn Stream<Item = Result<v1::ReadLogsResponse, Status>> + Send>>;

    async fn read_logs(&self, request: Request<v1::ReadLogsRequest>) -> Answer<Self::ReadLogsStream> {
        let mut state = self.state();
        let asked = state.log_requests.len();
        state.log_requests.push(request.into_inner());
        let mut events: Vec<_> = state.logs.iter().cloned().map(Ok).collect();
        if state.log_requests.iter().any(|request| request.follow) && asked == 0 {
            events.push(Err(Status::unavailable("the gateway restarts")));
        }
        Ok(Response::new(Box::pin(stream::iter(events))))
    }
}

#[tonic::async_trait]
impl InvocationService for Fake {
    async fn invoke(&self, request: Request<v1::InvokeRequest>) -> Answer<v1::InvokeResponse> {
        let request = request.into_inner();
        if request.name.ends_with("/nothing") {
            return Err(ApiError::not_found("function default/nothing").into());
        }
        let mut state = self.state();
        state.invoked.push(request);
        Ok(Response::new(state.response.clone()))
    }

    async fn list_invocations(
        &self,
        request: Request<v1::ListInvocationsRequest>,
    ) -> Answer<v1::ListInvocationsResponse> {
        let mut state = self.state();
        let is_first = request.get_ref().page_token.is_empty();
        state.listed.push(request.into_inner());
        let searched_from = state.searched_from;
        if searched_from.is_some() && is_first {
            let next_page_token = "older".to_owned();
            return Ok(Response::new(v1::ListInvocationsResponse {
                next_page_token,
                searched_from,
                ..Default::default()
            }));
        }
        let invocations = state.invocations.clone();
        let unreachable = vec!["gateways/lost".to_owned()];
        Ok(Response::new(v1::ListInvocationsResponse { invocations, unreachable, searched_from, ..Default::default() }))
    }

    async fn get_invocation(&self, _: Request<v1::GetInvocationRequest>) -> Answer<v1::GetInvocationResponse> {
        Err(Status::unimplemented("no command asks for one invocation"))
    }

    async fn explain_invocation(
        &self,
        request: Request<v1::ExplainInvocationRequest>,
    ) -> Answer<v1::ExplainInvocationResponse> {
        let wanted = request.into_inner();
        let found = self.state().invocations.iter().find(|call| call.name.ends_with(&wanted.request_id)).cloned();
        let step = |stage: &str, text: &str| v1::ExplanationStep {
            stage: stage.to_owned(),
            text: text.to_owned(),
            ..Default::default()
        };
        let group = vec![v1::OutcomeCount { function: "hello".to_owned(), outcome: "ok".to_owned(), count: 7 }];
        let explanation = match found {
            Some(call) => v1::Explanation {
                summary: format!("{} {} was explained", call.method, call.path),
                steps: vec![step("accepted", "GET /"), step("log", "\x1b[31mred")],
                invocation: Some(call),
                ..Default::default()
            },
            None => v1::Explanation { summary: "no record is kept".to_owned(), group, ..Default::default() },
        };
        let unreachable = vec!["gateways/lost".to_owned()];
        Ok(Response::new(v1::ExplainInvocationResponse { explanation: Some(explanation), unreachable }))
    }

    async fn describe_function(
        &self,
        request: Request<v1::DescribeFunctionRequest>,
    ) -> Answer<v1::DescribeFunctionResponse> {
        let name = request.into_inner().name;
        let state = self.state();
        let health = v1::FunctionHealth {
            state: v1::HealthState::Degraded.into(),
            summary: format!("degraded: {name} was judged"),
            problems: vec![v1::HealthProblem {
                grade: v1::HealthGrade::Degraded.into(),
                text: "1 of 90 calls failed: \x1b[31mred 1".to_owned(),
                command: "dunlin why 0198c5b2".to_owned(),
            }],
            window: Some(prost_types::Duration { seconds: 300, nanos: 0 }),
            activity: Some(v1::FunctionActivity { calls: 90, failures: 1, cold_starts: 3, ..Default::default() }),
            versions: vec![v1::VersionCapacity { version: 2, percent: 100, ready_workers: 1, ..Default::default() }],
            failures: state.invocations.clone(),
            webhook: state.webhook.as_ref().map(|_| v1::WebhookHealth { pending: 2, ..Default::default() }),
            ..Default::default()
        };
        let unreachable = vec!["gateways/lost".to_owned()];
        Ok(Response::new(v1::DescribeFunctionResponse { health: Some(health), unreachable }))
    }
}
