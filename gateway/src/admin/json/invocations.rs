//! Records of invocations as JSON.

use axum::{Json, extract::State};
use dunlin_proto::{
    ApiError,
    ids::InvocationId,
    names::{FunctionRef, InvocationName, NamespaceRef},
    v1,
};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{Answer, doc::Refused};
use crate::admin::{
    app::App,
    fault::Fault,
    model::{Invocation, InvocationList},
    params::{FunctionIds, InvocationIds, Named, NamespaceIds, Query, page_size, visible},
    session::Caller,
};

/// Which invocations.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Filter {
    /// How many, from 1 to 1,000; default 100.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    page_size: Option<u16>,
    /// `next_page_token` of the page before: the id of its last invocation.
    #[param(format = "uuid")]
    page_token: Option<String>,
    /// Only those that failed.
    #[param(default = false)]
    failed_only: Option<bool>,
    /// Only the one with this id, or those whose caller's `X-Request-Id` this was.
    #[param(max_length = 128, pattern = "^[!-~]*$")]
    request_id: Option<String>,
}

async fn list(app: &App, who: &Caller, parent: String, filter: Filter) -> Result<InvocationList, Fault> {
    let page_token = filter.page_token.map(|token| token.parse::<InvocationId>());
    let page_token = page_token.transpose().map_err(|error| ApiError::invalid("page_token", error))?;
    let request = v1::ListInvocationsRequest {
        parent,
        page_size: page_size(filter.page_size)?,
        page_token: page_token.map(|id| id.to_string()).unwrap_or_default(),
        failed_only: filter.failed_only.unwrap_or_default(),
        request_id: visible("request_id", filter.request_id)?,
    };
    Ok(app.invocation_list(&who.0, request).await?.into())
}

/// Lists a namespace's recent invocations, the newest first.
#[utoipa::path(
    get,
    path = "/namespaces/{namespace}/invocations",
    tag = "invocations",
    params(NamespaceIds, Filter),
    responses((status = 200, body = InvocationList, description = "A page of invocations"), Refused),
)]
pub(super) async fn list_namespace_invocations(
    State(app): State<App>,
    who: Caller,
    Named(parent): Named<NamespaceRef>,
    Query(filter): Query<Filter>,
) -> Answer<InvocationList> {
    Ok(Json(list(&app, &who, parent.to_string(), filter).await?))
}

/// Lists a function's recent invocations, the newest first.
#[utoipa::path(
    get,
    path = "/namespaces/{namespace}/functions/{function}/invocations",
    tag = "invocations",
    params(FunctionIds, Filter),
    responses((status = 200, body = InvocationList, description = "A page of invocations"), Refused),
)]
pub(super) async fn list_function_invocations(
    State(app): State<App>,
    who: Caller,
    Named(parent): Named<FunctionRef>,
    Query(filter): Query<Filter>,
) -> Answer<InvocationList> {
    Ok(Json(list(&app, &who, parent.to_string(), filter).await?))
}

/// Returns one invocation.
#[utoipa::path(
    get,
    path = "/namespaces/{namespace}/functions/{function}/invocations/{id}",
    tag = "invocations",
    params(InvocationIds),
    responses((status = 200, body = Invocation, description = "The invocation"), Refused),
)]
pub(super) async fn get_invocation(
    State(app): State<App>,
    Caller(who): Caller,
    Named(name): Named<InvocationName>,
) -> Answer<Invocation> {
    let response = app.invocation_get(&who, v1::GetInvocationRequest { name: name.to_string() }).await?;
    Ok(Json(response.invocation.unwrap_or_default().into()))
}
