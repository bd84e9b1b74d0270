//! Aliases as JSON.

use axum::{Json, extract::State};
use dunlin_proto::{
    names::{AliasName, FunctionRef},
    v1,
};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    Answer,
    body::Body,
    doc::{Refused, Unchanged},
    fields::{maybe_uuid, maybe_whole, objects, text, there_object},
};
use crate::admin::{
    app::App,
    model::{AliasList, ChangedAlias, DeletedAlias, Sticky, TrafficTarget},
    params::{AliasIds, FunctionIds, Named},
    session::Caller,
};

/// Lists a function's aliases: `live`, which is its own traffic, then the others in the order of their names.
#[utoipa::path(
    get,
    path = "/namespaces/{namespace}/functions/{function}/aliases",
    tag = "functions",
    params(FunctionIds),
    responses((status = 200, body = AliasList, description = "All of them"), Refused),
)]
pub(super) async fn list_aliases(
    State(app): State<App>,
    Caller(who): Caller,
    Named(parent): Named<FunctionRef>,
) -> Answer<AliasList> {
    let request = v1::ListAliasesRequest { parent: parent.to_string() };
    Ok(Json(app.alias_list(&who, request).await?.into()))
}

/// How the calls of an alias shall divide.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SetAlias {
    /// The shares; their percentages sum to 100.
    #[serde(deserialize_with = "objects::<_, _, 1, 20>")]
    #[schema(min_items = 1, max_items = 20)]
    traffic: Vec<TrafficTarget>,
    /// How callers are told apart; left out, it stays.
    #[serde(default, deserialize_with = "there_object")]
    #[schema(value_type = Sticky, required = false)]
    sticky: Option<Sticky>,
    /// Guards against lost updates: the function is changed only in this state.
    #[serde(default, deserialize_with = "text::<_, 128>")]
    #[schema(max_length = 128)]
    etag: String,
}

/// Makes an alias, or divides its calls anew. Answers once all gateways serve it, or names those that do not yet.
#[utoipa::path(
    put,
    path = "/namespaces/{namespace}/functions/{function}/aliases/{alias}",
    tag = "functions",
    params(AliasIds),
    request_body = SetAlias,
    responses((status = 200, body = ChangedAlias, description = "The alias as it is now"), Refused, Unchanged),
)]
pub(super) async fn set_alias(
    State(app): State<App>,
    Caller(who): Caller,
    Named(name): Named<AliasName>,
    Body(body): Body<SetAlias>,
) -> Answer<ChangedAlias> {
    let target = |target: TrafficTarget| v1::TrafficTarget { version: target.version, percent: target.percent };
    let alias = v1::Alias {
        name: name.to_string(),
        traffic: body.traffic.into_iter().map(target).collect(),
        sticky: body.sticky.map(Into::into),
        ..Default::default()
    };
    let request = v1::SetAliasRequest { alias: Some(alias), etag: body.etag };
    Ok(Json(app.alias_set(&who, request).await?.into()))
}

/// Which version to promote.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PromoteAlias {
    /// Left out means the newest of the versions that share the calls, or where one has all of them, the function's newest.
    #[serde(default, deserialize_with = "maybe_whole::<_, 1, { u32::MAX }>")]
    #[schema(value_type = u32, minimum = 1, maximum = 4_294_967_295_u32, required = false)]
    version: Option<u32>,
    /// A UUID of the caller's; a repeated call does nothing more.
    #[serde(default, deserialize_with = "maybe_uuid")]
    #[schema(value_type = String, format = "uuid", required = false)]
    request_id: Option<String>,
}

/// Sends all calls of an alias to one version.
#[utoipa::path(
    post,
    path = "/namespaces/{namespace}/functions/{function}/aliases/{alias}/promote",
    tag = "functions",
    params(AliasIds),
    request_body = PromoteAlias,
    responses((status = 200, body = ChangedAlias, description = "The alias as it is now"), Refused, Unchanged),
)]
pub(super) async fn promote_alias(
    State(app): State<App>,
    Caller(who): Caller,
    Named(name): Named<AliasName>,
    Body(body): Body<PromoteAlias>,
) -> Answer<ChangedAlias> {
    let request = v1::PromoteAliasRequest {
        name: name.to_string(),
        version: body.version.unwrap_or_default(),
        request_id: body.request_id.unwrap_or_default(),
    };
    Ok(Json(app.alias_promote(&who, request).await?.into()))
}

/// Deletes an alias, unless a route names it. `live` stays.
#[utoipa::path(
    delete,
    path = "/namespaces/{namespace}/functions/{function}/aliases/{alias}",
    tag = "functions",
    params(AliasIds),
    responses((status = 200, body = DeletedAlias, description = "It is gone"), Refused, Unchanged),
)]
pub(super) async fn delete_alias(
    State(app): State<App>,
    Caller(who): Caller,
    Named(name): Named<AliasName>,
) -> Answer<DeletedAlias> {
    let response = app.alias_delete(&who, v1::DeleteAliasRequest { name: name.to_string() }).await?;
    Ok(Json(DeletedAlias { lagging_gateways: response.lagging_gateways }))
}
