//! A request's JSON body: of bounded size, in bounded time, with errors of the closed list.

use std::time::Duration;

use axum::{
    Json,
    extract::{FromRequest, Request},
};
use dunlin_proto::{ApiError, ErrorCode};
use serde::de::DeserializeOwned;

use crate::admin::fault::Fault;

/// How long a body may take to arrive.
const PATIENCE: Duration = Duration::from_secs(10);

/// The body of a request.
#[derive(Debug)]
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Fault;

    async fn from_request(request: Request, state: &S) -> Result<Self, Fault> {
        match tokio::time::timeout(PATIENCE, Json::<T>::from_request(request, state)).await {
            Ok(read) => Ok(Self(read?.0)),
            Err(_) => Err(Fault(ApiError::new(ErrorCode::RequestTimeout, "the body did not arrive in time"))),
        }
    }
}
