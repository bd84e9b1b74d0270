//! Administration itself, the same for gRPC, JSON and pages: who asks, what for, may they, then the scheduler, the
//! other gateways or the workers are asked. Credentials and transports are known above this layer only.
//!
//! Methods are named noun first. Each takes the [`Principal`], so that none can be reached without one.

mod aliases;
mod audit;
mod cluster;
mod describe;
mod fanout;
mod functions;
mod idempotency;
mod invocations;
mod invoke;
mod keys;
mod logs;
mod namespaces;
mod plans;
mod releases;
mod routes;
mod single;
mod tokens;
mod upload;
mod usage;
mod webhooks;
mod why;

use std::{fmt::Display, future::Future, str::FromStr, sync::Arc, time::Duration};

use dunlin_proto::{ApiError, ErrorCode, metadata};
use tonic::{Request, Response, Status};
use tonic_types::StatusExt;

use crate::{Context, auth::Principal};

pub(crate) use functions::sees_values;

/// How long the scheduler may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// How large an answer of the scheduler may be: a full page of versions with their environments.
const MAX_ANSWER_BYTES: usize = 80 << 20;

/// Administration. Clones share everything.
#[derive(Debug, Clone)]
pub(crate) struct App {
    context: Arc<Context>,
}

impl App {
    /// Administration of the cluster that this gateway belongs to.
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    /// The gateway that it runs in.
    pub(crate) fn context(&self) -> &Context {
        &self.context
    }
}

/// Reads a resource name of a request.
fn name<T: FromStr<Err: Display>>(field: &str, text: &str) -> Result<T, ApiError> {
    text.parse().map_err(|error| ApiError::invalid(field, error))
}

/// Checks the size of a page; 0 means the default.
fn page_size(size: i32) -> Result<usize, ApiError> {
    match size {
        0 => Ok(100),
        1..=1_000 => Ok(usize::try_from(size).unwrap_or(100)),
        _ => Err(ApiError::invalid("page_size", format!("page_size is {size} but must lie between 1 and 1000"))),
    }
}

/// A message for the scheduler, on behalf of somebody.
fn on_behalf<T>(who: &Principal, message: T) -> Request<T> {
    let mut request = Request::new(message);
    metadata::set_actor(&mut request, &who.subject);
    metadata::set_author(&mut request, &who.author());
    if let Some(sequence) = who.origin.unchanged_since {
        metadata::set_unchanged_since(&mut request, sequence);
    }
    if let Some(hold) = &who.origin.hold {
        metadata::set_hold(&mut request, hold);
    }
    request
}

/// Asks the scheduler for a change and waits a bounded time.
fn ask<A>(call: impl Future<Output = Result<Response<A>, Status>>) -> impl Future<Output = Result<A, ApiError>> {
    waited(call, from_scheduler)
}

/// The same for what only reads: where the answer is lost, nothing else is.
fn look<A>(call: impl Future<Output = Result<Response<A>, Status>>) -> impl Future<Output = Result<A, ApiError>> {
    waited(call, |status| if is_lost(status) { away(status) } else { from_scheduler(status) })
}

async fn waited<A>(
    call: impl Future<Output = Result<Response<A>, Status>>,
    refusal: impl FnOnce(&Status) -> ApiError,
) -> Result<A, ApiError> {
    match tokio::time::timeout(PATIENCE, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(refusal(&status)),
        Err(_) => {
            let message = format!("the scheduler did not answer within {} s", PATIENCE.as_secs());
            Err(ApiError::new(ErrorCode::Unavailable, message).retry_after(Duration::from_secs(2)))
        }
    }
}

/// Whether a status says no more than that the connection broke: it is made here, of an error below.
fn is_cut(status: &Status) -> bool {
    std::error::Error::source(status).is_some()
}

/// Whether the connection broke between the question and its answer.
fn is_lost(status: &Status) -> bool {
    let own = status.get_details_error_info().is_some();
    !own && is_cut(status) && ApiError::from(status.clone()).code == ErrorCode::Internal
}

fn away(status: &Status) -> ApiError {
    tracing::warn!(error = %status, "the scheduler can't be reached");
    ApiError::new(ErrorCode::Unavailable, "the scheduler can't be reached")
        .hint("functions go on serving; administration works again once it is back")
        .retry_after(Duration::from_secs(2))
}

/// What a client is told when the scheduler refuses or can't be reached. What is the platform's own business, such as
/// the cluster secret, is logged and not told.
fn from_scheduler(status: &Status) -> ApiError {
    let error = ApiError::from(status.clone());
    let said_so = status.get_details_error_info().is_some();
    match error.code {
        ErrorCode::Unavailable | ErrorCode::Cancelled if !said_so => away(status),
        _ if is_lost(status) => {
            tracing::warn!(error = %status, "the connection to the scheduler was lost before its answer came");
            ApiError::new(
                ErrorCode::Unavailable,
                "the scheduler was lost before its answer came; a change may have been made",
            )
            .hint("look whether it was; a request with an Idempotency-Key can be sent again")
            .retry_after(Duration::from_secs(2))
        }
        ErrorCode::Internal | ErrorCode::Unauthenticated => {
            tracing::error!(error = %status, "the scheduler failed");
            ApiError::internal()
        }
        _ if !said_so => {
            tracing::error!(error = %status, "the scheduler gave an answer that is no error of ours");
            ApiError::internal()
        }
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_have_a_default_and_a_bound() {
        assert_eq!((page_size(0), page_size(1), page_size(1_000)), (Ok(100), Ok(1), Ok(1_000)));
        for bad in [-1, 1_001, i32::MIN, i32::MAX] {
            assert_eq!(page_size(bad).unwrap_err().field.as_deref(), Some("page_size"));
        }
    }

    #[test]
    fn what_is_the_platforms_own_business_is_not_told() {
        let secret = Status::from(ApiError::new(ErrorCode::Unauthenticated, "no cluster secret"));
        assert_eq!(from_scheduler(&secret), ApiError::internal());
        assert_eq!(from_scheduler(&Status::internal("disk full")), ApiError::internal());
        assert_eq!(from_scheduler(&Status::invalid_argument("library")), ApiError::internal());
        let gone = from_scheduler(&Status::unavailable("tcp connect error"));
        assert!(gone.is_unavailable() && !gone.message.contains("tcp"));
        let broken = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        let cut = from_scheduler(&Status::from_error(Box::new(broken)));
        assert!(cut.is_unavailable() && cut.message.contains("may have been made"), "{cut}");
        let refusal = ApiError::not_found("namespaces/shop").hint("make it");
        assert_eq!(from_scheduler(&Status::from(refusal.clone())), refusal);
    }

    #[tokio::test]
    async fn what_only_reads_says_nothing_of_changes() {
        let broken = || Status::from_error(Box::new(std::io::Error::from(std::io::ErrorKind::ConnectionReset)));
        let lost = look::<()>(async { Err(broken()) }).await.unwrap_err();
        assert!(lost.is_unavailable() && lost.retry_after.is_some() && !lost.message.contains("change"), "{lost}");
        assert!(!lost.hint.unwrap_or_default().contains("look whether"));
        assert!(ask::<()>(async { Err(broken()) }).await.unwrap_err().message.contains("may have been made"));
        let refusal = ApiError::not_found("namespaces/shop");
        assert_eq!(look::<()>(async { Err(refusal.clone().into()) }).await, Err(refusal.clone()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_scheduler_is_not_waited_for_for_ever() {
        let error = ask::<()>(std::future::pending()).await.unwrap_err();
        assert!(error.is_unavailable(), "{error:?}");
    }
}
