//! Functions as JSON. Deploying needs the gRPC API: artifacts are uploaded as streams.

use axum::{Json, extract::State};
use dunlin_proto::{
    names::{FunctionRef, NamespaceRef},
    v1,
};
use http::StatusCode;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::{
    Answer,
    body::Body,
    conditional::Tagged,
    doc::{Refused, Unchanged},
    fields::{maybe_text, maybe_uuid, maybe_whole, objects, text, there},
};
use crate::admin::{
    access::Operation,
    app::App,
    fault::Fault,
    model::{Function, FunctionList, Rollback, TrafficTarget},
    params::{self, FunctionIds, Named, NamespaceIds, Page, Query, listed},
    session::Caller,
};

/// Lists a namespace's functions in the order of their names.
#[utoipa::path(
    get,
    path = "/namespaces/{namespace}/functions",
    tag = "functions",
    params(NamespaceIds, Page),
    responses((status = 200, body = FunctionList, description = "A page of functions"), Refused),
)]
pub(super) async fn list_functions(
    State(app): State<App>,
    Caller(who): Caller,
    Named(parent): Named<NamespaceRef>,
    Query(page): Query<Page>,
) -> Result<Tagged<FunctionList>, Fault> {
    let (page_size, page_token) = page.checked()?;
    let request = v1::ListFunctionsRequest { parent: parent.to_string(), page_size, page_token };
    let list: FunctionList = listed(app.function_list(&who, request).await)?.into();
    Ok(Tagged::without(list, |list| list.functions.iter_mut().for_each(Function::forget_gateway)))
}

/// Returns one function.
#[utoipa::path(
    get,
    path = "/namespaces/{namespace}/functions/{function}",
    tag = "functions",
    params(FunctionIds),
    responses((status = 200, body = Function, description = "The function"), Refused),
)]
pub(super) async fn get_function(
    State(app): State<App>,
    Caller(who): Caller,
    Named(name): Named<FunctionRef>,
) -> Result<Tagged<Function>, Fault> {
    let response = app.function_get(&who, v1::GetFunctionRequest { name: name.to_string() }).await?;
    Ok(Tagged::without(response.function.unwrap_or_default().into(), Function::forget_gateway))
}

/// Changes the fields that are there.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UpdateFunction {
    /// What it is for.
    #[serde(default, deserialize_with = "maybe_text::<_, 256>")]
    #[schema(value_type = String, max_length = 256, required = false)]
    description: Option<String>,
    /// Whether anybody may call it.
    #[serde(default, deserialize_with = "there")]
    #[schema(value_type = bool, required = false)]
    public: Option<bool>,
    /// Whether its automatic addresses are served although routes name it.
    #[serde(default, deserialize_with = "there")]
    #[schema(value_type = bool, required = false)]
    direct: Option<bool>,
    /// Whether every call is refused with 503.
    #[serde(default, deserialize_with = "there")]
    #[schema(value_type = bool, required = false)]
    disabled: Option<bool>,
    /// Guards against lost updates: the function is changed only in this state.
    #[serde(default, deserialize_with = "text::<_, 128>")]
    #[schema(max_length = 128)]
    etag: String,
}

impl UpdateFunction {
    /// The names of the fields that are there.
    fn paths(&self) -> Vec<String> {
        let fields = [
            ("description", self.description.is_some()),
            ("public", self.public.is_some()),
            ("direct", self.direct.is_some()),
            ("disabled", self.disabled.is_some()),
        ];
        fields.into_iter().filter(|(_, there)| *there).map(|(field, _)| field.to_owned()).collect()
    }

    fn into_message(self, name: &FunctionRef) -> v1::UpdateFunctionRequest {
        let paths = self.paths();
        let function = v1::Function {
            name: name.to_string(),
            description: self.description.unwrap_or_default(),
            public: self.public.unwrap_or_default(),
            direct: self.direct.unwrap_or_default(),
            disabled: self.disabled.unwrap_or_default(),
            etag: self.etag,
            ..Default::default()
        };
        v1::UpdateFunctionRequest { function: Some(function), update_mask: Some(prost_types::FieldMask { paths }) }
    }
}

/// Changes a function's description, who may call it, or whether it can be called at all.
#[utoipa::path(
    patch,
    path = "/namespaces/{namespace}/functions/{function}",
    tag = "functions",
    params(FunctionIds),
    request_body = UpdateFunction,
    responses((status = 200, body = Function, description = "The changed function"), Refused, Unchanged),
)]
pub(super) async fn update_function(
    State(app): State<App>,
    Caller(who): Caller,
    Named(name): Named<FunctionRef>,
    Body(body): Body<UpdateFunction>,
) -> Answer<Function> {
    Operation::UpdateFunction.allow_in(&who, &name.namespace)?;
    if body.paths().is_empty() {
        let response = app.function_get(&who, v1::GetFunctionRequest { name: name.to_string() }).await?;
        return Ok(Json(response.function.unwrap_or_default().into()));
    }
    let response = app.function_update(&who, body.into_message(&name)).await?;
    Ok(Json(response.function.unwrap_or_default().into()))
}

/// In which state to delete.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct DeleteOptions {
    /// When it is there, the function is deleted only in this state.
    #[param(max_length = 128)]
    etag: Option<String>,
}

/// Deletes a function with all its versions.
#[utoipa::path(
    delete,
    path = "/namespaces/{namespace}/functions/{function}",
    tag = "functions",
    params(FunctionIds, DeleteOptions),
    responses((status = 204, description = "It is gone"), Refused, Unchanged),
)]
pub(super) async fn delete_function(
    State(app): State<App>,
    Caller(who): Caller,
    Named(name): Named<FunctionRef>,
    Query(options): Query<DeleteOptions>,
) -> Result<StatusCode, Fault> {
    let etag = params::at_most("etag", options.etag, 128)?;
    let request = v1::DeleteFunctionRequest { name: name.to_string(), etag };
    app.function_delete(&who, request).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Asks for a rollback.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RollbackFunction {
    /// Left out means the last version before the current one that had all the traffic.
    #[serde(default, deserialize_with = "maybe_whole::<_, 1, { u32::MAX }>")]
    #[schema(value_type = u32, minimum = 1, maximum = 4_294_967_295_u32, required = false)]
    version: Option<u32>,
    /// Why.
    #[serde(default, deserialize_with = "text::<_, 256>")]
    #[schema(max_length = 256)]
    reason: String,
    /// A UUID of the caller's; a repeated call does nothing more.
    #[serde(default, deserialize_with = "maybe_uuid")]
    #[schema(value_type = String, format = "uuid", required = false)]
    request_id: Option<String>,
}

/// Sends all traffic back to an earlier version.
#[utoipa::path(
    post,
    path = "/namespaces/{namespace}/functions/{function}/rollback",
    tag = "functions",
    params(FunctionIds),
    request_body = RollbackFunction,
    responses((status = 200, body = Rollback, description = "What it did"), Refused, Unchanged),
)]
pub(super) async fn rollback_function(
    State(app): State<App>,
    Caller(who): Caller,
    Named(name): Named<FunctionRef>,
    Body(body): Body<RollbackFunction>,
) -> Answer<Rollback> {
    let request = v1::RollbackFunctionRequest {
        name: name.to_string(),
        version: body.version.unwrap_or_default(),
        reason: body.reason,
        request_id: body.request_id.unwrap_or_default(),
    };
    Ok(Json(app.function_rollback(&who, request).await?.into()))
}

/// How calls shall divide.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SetTraffic {
    /// The shares; their percentages sum to 100.
    #[serde(deserialize_with = "objects::<_, _, 1, 20>")]
    #[schema(min_items = 1, max_items = 20)]
    traffic: Vec<TrafficTarget>,
    /// Guards against lost updates: the function is changed only in this state.
    #[serde(default, deserialize_with = "text::<_, 128>")]
    #[schema(max_length = 128)]
    etag: String,
}

/// Divides a function's calls over its versions.
#[utoipa::path(
    put,
    path = "/namespaces/{namespace}/functions/{function}/traffic",
    tag = "functions",
    params(FunctionIds),
    request_body = SetTraffic,
    responses((status = 200, body = Function, description = "The changed function"), Refused, Unchanged),
)]
pub(super) async fn set_traffic(
    State(app): State<App>,
    Caller(who): Caller,
    Named(name): Named<FunctionRef>,
    Body(body): Body<SetTraffic>,
) -> Answer<Function> {
    let target = |target: TrafficTarget| v1::TrafficTarget { version: target.version, percent: target.percent };
    let function = v1::Function {
        name: name.to_string(),
        traffic: body.traffic.into_iter().map(target).collect(),
        etag: body.etag,
        ..Default::default()
    };
    let request = v1::UpdateFunctionRequest {
        function: Some(function),
        update_mask: Some(prost_types::FieldMask { paths: vec!["traffic".to_owned()] }),
    };
    Ok(Json(app.function_update(&who, request).await?.function.unwrap_or_default().into()))
}
