//! Idempotency keys: the scheduler keeps them and the answers under them. Whoever is asked for one of them has been let in already.

use std::time::Duration;

use dunlin_proto::{
    ApiError,
    idempotency::Hold,
    ids::Digest,
    internal::v1::{BeginKeyedRequest, EndKeyedRequest, KeptAnswer},
};

use super::{App, ask, on_behalf};
use crate::auth::Principal;

/// After how long the scheduler is told again that could not be reached: it may be starting.
const AGAIN: [Duration; 4] =
    [Duration::from_millis(200), Duration::from_millis(600), Duration::from_millis(1_500), Duration::from_secs(3)];

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
        for wait in AGAIN.into_iter().map(Some).chain([None]) {
            let mut client = self.context.scheduler.idempotency();
            let Err(error) = ask(client.end_keyed(on_behalf(who, message.clone()))).await else { return };
            match wait.filter(|_| error.is_unavailable()) {
                Some(wait) => tokio::time::sleep(wait).await,
                None => {
                    tracing::warn!(%error, "the answer under an idempotency key could not be kept");
                    return;
                }
            }
        }
    }
}
