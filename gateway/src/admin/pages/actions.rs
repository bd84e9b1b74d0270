//! What the buttons of pages do: a form comes in, the change is made, the page is shown anew.

use axum::{
    Form,
    extract::{State, rejection::FormRejection},
    response::{IntoResponse, Redirect},
};
use dunlin_proto::{
    names::{FunctionRef, WorkerName},
    v1,
};
use serde::Deserialize;

use super::Page;
use crate::admin::{app::App, fault::Fault, params::Named, session::Visitor};

/// Which version to go back to.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rollback {
    version: u32,
    /// Makes a second press of the button harmless.
    #[serde(default)]
    request_id: String,
}

/// Sends all traffic to a version.
pub(super) async fn rollback(
    State(app): State<App>,
    Visitor(who): Visitor,
    Named(name): Named<FunctionRef>,
    sent: Result<Form<Rollback>, FormRejection>,
) -> Page {
    let Form(Rollback { version, request_id }) = sent.map_err(Fault::from)?;
    let reason = "from the dashboard".to_owned();
    let request = v1::RollbackFunctionRequest { name: name.to_string(), version, reason, request_id };
    let done = app.function_rollback(&who, request).await?;
    Ok(Redirect::to(&format!("/{name}?rolled_back={}", done.version)).into_response())
}

/// In which state to delete.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Delete {
    etag: String,
}

/// Deletes a function.
pub(super) async fn delete(
    State(app): State<App>,
    Visitor(who): Visitor,
    Named(name): Named<FunctionRef>,
    sent: Result<Form<Delete>, FormRejection>,
) -> Page {
    let Form(Delete { etag }) = sent.map_err(Fault::from)?;
    app.function_delete(&who, v1::DeleteFunctionRequest { name: name.to_string(), etag }).await?;
    Ok(Redirect::to(&format!("/namespaces/{}", name.namespace)).into_response())
}

/// Whether to take the worker back in.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Drain {
    resume: bool,
}

/// Drains a worker, or takes it back in.
pub(super) async fn drain(
    State(app): State<App>,
    Visitor(who): Visitor,
    Named(name): Named<WorkerName>,
    sent: Result<Form<Drain>, FormRejection>,
) -> Page {
    let Form(Drain { resume }) = sent.map_err(Fault::from)?;
    app.worker_drain(&who, v1::DrainWorkerRequest { name: name.to_string(), resume }).await?;
    Ok(Redirect::to(&format!("/{name}")).into_response())
}
