//! Calls that run to their end, also where whoever made them goes away: a browser that shows another page already takes back what
//! the last one asked for. Dropped between two steps, a change would leave its transaction to be rolled back after it was committed, and
//! nobody would be told of what stands in the database. Answers that are streams end with their callers; what is here is their head.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use dunlin_process::shutdown::Shutdown;
use dunlin_proto::ApiError;
use futures::future::BoxFuture;
use http::{Request, Response};
use tonic::{Status, body::Body, server::NamedService};
use tower::Service;

/// A service whose calls run to their end.
#[derive(Debug, Clone)]
pub(super) struct Whole<S> {
    service: S,
    shutdown: Shutdown,
}

impl<S> Whole<S> {
    /// The calls are tasks that this shutdown waits for.
    pub(super) fn new(service: S, shutdown: &Shutdown) -> Self {
        Self { service, shutdown: shutdown.clone() }
    }
}

impl<S: NamedService> NamedService for Whole<S> {
    const NAME: &'static str = S::NAME;
}

impl<S, B> Service<Request<B>> for Whole<S>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible, Future: Send + 'static>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let running = self.shutdown.spawn(self.service.call(request));
        let failed = |_| Ok(Status::from(ApiError::internal()).into_http());
        Box::pin(async move { running.await.unwrap_or_else(failed) })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn what_was_begun_ends_without_its_caller() {
        let (log, shutdown) = (Arc::new(Mutex::new(Vec::new())), Shutdown::default());
        let steps = |log: Arc<Mutex<Vec<&'static str>>>| async move {
            log.lock().unwrap().push("begun");
            tokio::task::yield_now().await;
            log.lock().unwrap().push("ended");
            Ok(Response::new(Body::empty()))
        };
        let noted = log.clone();
        let service = tower::service_fn(move |_: Request<()>| steps(noted.clone()));
        let mut whole = Whole::new(service, &shutdown);
        assert!(whole.call(Request::new(())).now_or_never().is_none(), "its caller goes away at once");
        assert!(shutdown.finish(std::time::Duration::from_secs(20)).await);
        assert_eq!(*log.lock().unwrap(), ["begun", "ended"]);
    }

    #[tokio::test]
    async fn a_call_that_panics_is_an_error_of_its_own() {
        let service =
            tower::service_fn(async |_: Request<()>| -> Result<Response<Body>, Infallible> { panic!("on purpose") });
        let answer = Whole::new(service, &Shutdown::default()).call(Request::new(())).await.unwrap();
        assert_eq!(answer.headers()["grpc-status"], "13");
    }
}
