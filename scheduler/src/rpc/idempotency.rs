//! `IdempotencyService`: what requests with an idempotency key have done. Answers may hold secrets that are shown once, so that
//! they are encrypted before they reach the database, each for its key alone.

use base64::{Engine, prelude::BASE64_STANDARD};
use dunlin_proto::{
    ApiError,
    idempotency::{Hold, KeyId},
    ids::Digest,
    internal::v1::{
        BeginKeyedRequest, BeginKeyedResponse, EndKeyedRequest, EndKeyedResponse, KeptAnswer,
        idempotency_service_server::IdempotencyService,
    },
};
use tonic::{Request, Response, Status};

use super::{Desk, name, text};
use crate::{
    model::Time,
    store::{Begun, lost_answer},
};

/// The largest body that is kept, in bytes.
const MOST: usize = 256 << 10;
/// The longest name of a namespace, in bytes.
const MOST_NAME: usize = 63;

#[tonic::async_trait]
impl IdempotencyService for Desk {
    async fn begin_keyed(&self, request: Request<BeginKeyedRequest>) -> Result<Response<BeginKeyedResponse>, Status> {
        let BeginKeyedRequest { scope, key, request, namespace, attempt } = request.into_inner();
        let hold = hold(&scope, &key, &attempt)?;
        let request: Digest = name("request", &request)?;
        let namespace = text("namespace", namespace, MOST_NAME)?;
        let answer = match self.app()?.store.idempotency_begin(&hold, &request, &namespace, Time::now()).await? {
            Begun::Held => None,
            Begun::Answered(sealed) => Some(self.opened(&hold.id, &sealed)?),
        };
        Ok(Response::new(BeginKeyedResponse { answer }))
    }

    async fn end_keyed(&self, request: Request<EndKeyedRequest>) -> Result<Response<EndKeyedResponse>, Status> {
        let EndKeyedRequest { scope, key, attempt, answer } = request.into_inner();
        let hold = hold(&scope, &key, &attempt)?;
        let store = &self.app()?.store;
        match answer.filter(|answer| answer.body.len() <= MOST) {
            Some(answer) => store.idempotency_answer(&hold, &self.sealed(&hold.id, &answer)?).await?,
            None => store.idempotency_release(&hold).await?,
        }
        Ok(Response::new(EndKeyedResponse {}))
    }
}

impl Desk {
    fn sealed(&self, id: &KeyId, answer: &KeptAnswer) -> Result<String, ApiError> {
        let sealed = answer.sealed(&self.vault, id);
        sealed.map(|bytes| BASE64_STANDARD.encode(bytes)).map_err(|error| {
            tracing::error!(%error, "an answer can't be encrypted");
            ApiError::internal()
        })
    }

    /// An answer of before the storage key was changed can't be read any more: it is lost.
    fn opened(&self, id: &KeyId, sealed: &str) -> Result<KeptAnswer, ApiError> {
        let bytes = BASE64_STANDARD.decode(sealed).map_err(|_| lost_answer())?;
        KeptAnswer::opened(&self.vault, id, &bytes).ok_or_else(lost_answer)
    }
}

fn hold(scope: &str, key: &str, attempt: &str) -> Result<Hold, ApiError> {
    let id = KeyId { scope: name("scope", scope)?, key: name("key", key)? };
    Ok(Hold { id, attempt: name("attempt", attempt)? })
}
