//! The simulated IdempotencyService: keeps what it is told.

use dunlin_proto::{
    ApiError, ErrorCode,
    internal::v1::{
        BeginKeyedRequest, BeginKeyedResponse, EndKeyedRequest, EndKeyedResponse, KeptAnswer,
        idempotency_service_server::IdempotencyService,
    },
};
use tonic::{Request, Response, Status};

use super::Scheduler;

/// What is kept under a key.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    request: String,
    attempt: String,
    pub(crate) answer: Option<KeptAnswer>,
}

#[tonic::async_trait]
impl IdempotencyService for Scheduler {
    async fn begin_keyed(&self, request: Request<BeginKeyedRequest>) -> Result<Response<BeginKeyedResponse>, Status> {
        let BeginKeyedRequest { scope, key, request, attempt, .. } = request.into_inner();
        let mut state = self.state();
        let kept = state.kept.entry((scope, key)).or_insert_with(|| Kept {
            request: request.clone(),
            attempt: attempt.clone(),
            answer: None,
        });
        if kept.request != request {
            return Err(ApiError::new(ErrorCode::KeyReused, "this key was used for another request").into());
        }
        if kept.answer.is_none() && kept.attempt != attempt {
            let busy = ApiError::new(ErrorCode::FailedPrecondition, "it is under way");
            return Err(busy.retry_after(std::time::Duration::from_secs(1)).into());
        }
        Ok(Response::new(BeginKeyedResponse { answer: kept.answer.clone() }))
    }

    async fn end_keyed(&self, request: Request<EndKeyedRequest>) -> Result<Response<EndKeyedResponse>, Status> {
        let EndKeyedRequest { scope, key, answer, .. } = request.into_inner();
        let mut state = self.state();
        match answer {
            Some(answer) => {
                let kept = state.kept.get_mut(&(scope, key)).ok_or_else(|| Status::internal("it was not begun"))?;
                kept.answer = Some(answer);
            }
            None => drop(state.kept.remove(&(scope, key))),
        }
        Ok(Response::new(EndKeyedResponse {}))
    }
}
