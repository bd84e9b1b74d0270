//! Idempotency keys: the scheduler keeps them and the answers under them. Whoever is asked for one of them has been let in already.

use dunlin_proto::{
    ApiError,
    idempotency::Hold,
    ids::Digest,
    internal::v1::{BeginKeyedRequest, EndKeyedRequest, KeptAnswer},
};

use super::{App, ask, on_behalf};
use crate::auth::Principal;

impl App {
    /// Takes a key for an attempt, or returns the answer under it.
    ///
    /// # Errors
    /// The key was used for another request, is held by another attempt, or its answer was lost.
    pub(crate) async fn idempotency_begin(
        &self,
        who: &Principal,
        hold: &Hold,
        request: &Digest,
        namespace: &str,
    ) -> Result<Option<KeptAnswer>, ApiError> {
        let message = BeginKeyedRequest {
            scope: hold.id.scope.to_string(),
            key: hold.id.key.to_string(),
            request: request.to_string(),
            namespace: namespace.to_owned(),
            attempt: hold.attempt.to_string(),
        };
        let mut client = self.context.scheduler.idempotency();
        Ok(ask(client.begin_keyed(on_behalf(who, message))).await?.answer)
    }

    /// Ends an attempt, with its answer where that is to be kept. Where the scheduler can't be told, the attempt ends by itself after
    /// a while, and what it changed is not made again.
    pub(crate) async fn idempotency_end(&self, who: &Principal, hold: &Hold, answer: Option<KeptAnswer>) {
        let message = EndKeyedRequest {
            scope: hold.id.scope.to_string(),
            key: hold.id.key.to_string(),
            attempt: hold.attempt.to_string(),
            answer,
        };
        let mut client = self.context.scheduler.idempotency();
        if let Err(error) = ask(client.end_keyed(on_behalf(who, message))).await {
            tracing::warn!(%error, "the answer under an idempotency key could not be kept");
        }
    }
}
