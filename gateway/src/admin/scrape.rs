//! `GET /metrics` on the administration listener, for a Prometheus with a token: no port has to be opened for it. It is no JSON
//! and has its own format, so that it is not among the endpoints that the OpenAPI document describes.

use axum::{
    Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::get,
};
use dunlin_process::metrics::Format;
use http::{HeaderMap, header};

use super::{app::App, fault::Fault, session::Caller};

/// The endpoint.
pub(super) fn router() -> Router<App> {
    Router::new().route("/metrics", get(read_metrics))
}

/// Everything that this process measures, for whoever may see the cluster.
async fn read_metrics(State(app): State<App>, Caller(who): Caller, headers: HeaderMap) -> Result<Response, Fault> {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let format = Format::accepted(accept);
    let page = app.metrics_read(&who, format)?;
    Ok(([(header::CONTENT_TYPE, format.media_type())], page).into_response())
}
