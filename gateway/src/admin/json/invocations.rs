//! Records of invocations as JSON.

use std::time::Duration;

use axum::{Json, extract::State};
use dunlin_proto::{
    ApiError,
    ids::InvocationId,
    model::to_wire_duration,
    names::{FunctionRef, InvocationName, KeyId, NamespaceRef},
    v1,
};
use prost_types::Timestamp;
use serde::Deserialize;
use utoipa::IntoParams;

use super::{Answer, doc::Refused};
use crate::admin::{
    app::App,
    fault::Fault,
    model::{Explanation, Invocation, InvocationList},
    params::{
        FunctionIds, InvocationIds, Named, NamespaceIds, Query, RequestIds, RequestName, at_most, page_size, visible,
    },
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
    /// Only those that failed: whose outcome is not `ok`, or which the function itself answered with a status of 500 or above.
    #[param(default = false)]
    failed_only: Option<bool>,
    /// Only the one with this id, or those whose caller's `X-Request-Id` this was.
    #[param(max_length = 128, pattern = "^[!-~]*$")]
    request_id: Option<String>,
    /// Only those of this version.
    #[param(minimum = 1, maximum = 4_294_967_295_u32)]
    version: Option<u32>,
    /// Only those with this status, such as `404`, or of this class, such as `5xx`.
    #[param(pattern = "^([1-5][0-9][0-9]|[1-5]xx|0)$", example = "5xx")]
    status: Option<String>,
    /// Only those that were accepted at this time or later (RFC 3339).
    #[param(value_type = Option<String>, format = "date-time")]
    since: Option<String>,
    /// Only those that were accepted before this time (RFC 3339).
    #[param(value_type = Option<String>, format = "date-time")]
    until: Option<String>,
    /// Only those that took as many milliseconds, from acceptance to the end of the answer.
    #[param(minimum = 0, maximum = 4_294_967_295_u32)]
    min_duration_ms: Option<u32>,
    /// Only those of callers with this key, by its id.
    #[param(pattern = "^[A-Za-z0-9]{12}$", example = "abcDEF123456")]
    key: Option<String>,
    /// Only those that were refused before any function ran, and how many there were.
    #[param(default = false)]
    refused: Option<bool>,
    /// Only those that wrote a line which contains this text, upper and lower case told apart, among all lines that workers keep.
    #[param(max_length = 256)]
    search: Option<String>,
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
        version: version(filter.version)?,
        status: visible("status", filter.status)?,
        since: filter.since.map(|text| moment("since", &text)).transpose()?,
        until: filter.until.map(|text| moment("until", &text)).transpose()?,
        min_duration: filter.min_duration_ms.map(|millis| to_wire_duration(Duration::from_millis(millis.into()))),
        key: key(filter.key)?,
        refused: filter.refused.unwrap_or_default(),
        search: at_most("search", filter.search, 256)?,
    };
    Ok(app.invocation_list(&who.0, request).await?.into())
}

/// A version's number for a message; 0 was sent and is none.
pub(super) fn version(number: Option<u32>) -> Result<u32, ApiError> {
    match number {
        Some(0) => Err(ApiError::invalid("version", "version is 0 but versions count from 1")),
        number => Ok(number.unwrap_or_default()),
    }
}

fn key(id: Option<String>) -> Result<String, ApiError> {
    let checked = id.map(|id| id.parse::<KeyId>().map_err(|error| ApiError::invalid("key", error))).transpose()?;
    Ok(checked.map(|id| id.to_string()).unwrap_or_default())
}

fn moment(field: &'static str, text: &str) -> Result<Timestamp, ApiError> {
    let wrong = |_| ApiError::invalid(field, format!("{field} must be a time such as 2026-11-23T16:00:35Z"));
    text.parse().map_err(wrong)
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

/// Says what became of a request, step by step, whether a function answered it or it was refused before.
#[utoipa::path(
    get,
    path = "/namespaces/{namespace}/requests/{id}/why",
    tag = "invocations",
    params(RequestIds),
    responses((status = 200, body = Explanation, description = "What is known of the request"), Refused),
)]
pub(super) async fn explain_invocation(
    State(app): State<App>,
    Caller(who): Caller,
    Named(RequestName { namespace, id }): Named<RequestName>,
) -> Answer<Explanation> {
    let parent = NamespaceRef { namespace }.to_string();
    let request = v1::ExplainInvocationRequest { parent, request_id: id };
    Ok(Json(app.explain(&who, request).await?.into()))
}
