//! The administration listener: the gRPC API, the JSON endpoints and the pages on one port.
//!
//! Three transports over one application layer (`app/`), which asks one table (`access.rs`) who may do what. Functions
//! are never served here, and nothing of this is served where functions are.

mod access;
mod app;
mod explain;
mod fault;
mod grpc;
mod headers;
mod health;
mod json;
mod model;
mod pages;
mod params;
mod scrape;
mod session;

use std::sync::Arc;

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request, State},
    middleware::{Next, from_fn, from_fn_with_state},
    response::Response,
};
use http::header;
use tower::ServiceExt;
use tower_http::catch_panic::CatchPanicLayer;

use crate::Context;

pub use pages::{Least, PLACES, Place};

pub(crate) use session::{remove_session, remove_session_setting};

/// The largest body of a JSON request or form, in bytes.
const MAX_BODY_BYTES: usize = 64 << 10;

/// Everything that the administration listener answers. No socket is needed to call it.
pub(crate) fn router(context: Arc<Context>) -> Router {
    let app = app::App::new(context);
    let grpc = grpc::routes(app.clone()).prepare().into_axum_router();
    let web = json::router()
        .merge(pages::router())
        .merge(scrape::router())
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(CatchPanicLayer::custom(fault::panicked))
        .with_state(app.clone());
    let endpoints = json::Endpoints { app, plain: web.clone() };
    // From the outside in: gRPC leaves first, since its errors are no pages; headers are on every answer, errors
    // included; errors get their bodies. All of it is around the router, which says what it allows at its very end.
    Router::new()
        .fallback_service(web)
        .layer(from_fn_with_state(endpoints.clone(), json::conditional))
        .layer(from_fn_with_state(endpoints, json::idempotent))
        .layer(from_fn(fault::finish))
        .layer(from_fn(headers::add))
        .layer(from_fn_with_state(grpc, grpc_first))
}

/// Sends what is gRPC to the gRPC services.
async fn grpc_first(State(grpc): State<Router>, request: Request, next: Next) -> Response {
    let content_type = request.headers().get(header::CONTENT_TYPE).map(|value| value.as_bytes());
    if !content_type.is_some_and(|text| text.starts_with(b"application/grpc")) {
        return next.run(request).await;
    }
    match grpc.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}
