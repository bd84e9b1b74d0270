//! Whether a function is healthy, as JSON.

use axum::{Json, extract::State};
use dunlin_proto::{names::FunctionRef, v1};

use super::{Answer, doc::Refused};
use crate::admin::{
    app::App,
    model::Health,
    params::{FunctionIds, Named},
    session::Caller,
};

/// Says whether a function is healthy by what its calls came to lately, and what to do where it is not.
#[utoipa::path(
    get,
    path = "/namespaces/{namespace}/functions/{function}/describe",
    tag = "functions",
    params(FunctionIds),
    responses((status = 200, body = Health, description = "The verdict and what it rests on"), Refused),
)]
pub(super) async fn describe_function(
    State(app): State<App>,
    Caller(who): Caller,
    Named(name): Named<FunctionRef>,
) -> Answer<Health> {
    let request = v1::DescribeFunctionRequest { name: name.to_string() };
    Ok(Json(app.function_describe(&who, request).await?.into()))
}
