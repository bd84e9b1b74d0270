//! What lists have, one by one as JSON: a change at the same address can depend on what was seen there.

use axum::{Json, extract::State};
use dunlin_proto::{
    names::{AliasName, DomainRef, FunctionRef, KeyName, PlanName},
    v1,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Answer, doc::Refused};
use crate::admin::{
    app::App,
    model::{Alias, Domain, Key, Plan, TrafficTarget},
    params::{AliasIds, DomainIds, FunctionIds, KeyIds, Named, PlanIds},
    session::Caller,
};

/// Returns one plan.
#[utoipa::path(
    get,
    path = "/namespaces/{namespace}/plans/{plan}",
    tag = "keys",
    params(PlanIds),
    responses((status = 200, body = Plan, description = "The plan"), Refused),
)]
pub(super) async fn get_plan(
    State(app): State<App>,
    Caller(who): Caller,
    Named(name): Named<PlanName>,
) -> Answer<Plan> {
    Ok(Json(app.plan_get(&who, &name).await?.into()))
}

/// Returns one key, without its secret.
#[utoipa::path(
    get,
    path = "/namespaces/{namespace}/keys/{key}",
    tag = "keys",
    params(KeyIds),
    responses((status = 200, body = Key, description = "The key"), Refused),
)]
pub(super) async fn get_key(State(app): State<App>, Caller(who): Caller, Named(name): Named<KeyName>) -> Answer<Key> {
    Ok(Json(app.key_get(&who, &name).await?.into()))
}

/// Returns one domain.
#[utoipa::path(
    get,
    path = "/namespaces/{namespace}/domains/{domain}",
    tag = "routes",
    params(DomainIds),
    responses((status = 200, body = Domain, description = "The domain"), Refused),
)]
pub(super) async fn get_domain(
    State(app): State<App>,
    Caller(who): Caller,
    Named(name): Named<DomainRef>,
) -> Answer<Domain> {
    Ok(Json(app.domain_get(&who, &name).await?.into()))
}

/// Returns one alias of a function.
#[utoipa::path(
    get,
    path = "/namespaces/{namespace}/functions/{function}/aliases/{alias}",
    tag = "functions",
    params(AliasIds),
    responses((status = 200, body = Alias, description = "The alias"), Refused),
)]
pub(super) async fn get_alias(
    State(app): State<App>,
    Caller(who): Caller,
    Named(name): Named<AliasName>,
) -> Answer<Alias> {
    Ok(Json(app.alias_get(&who, &name).await?.into()))
}

/// How a function's calls divide.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Traffic {
    /// The shares; their percentages sum to 100. None before the first version is ready.
    traffic: Vec<TrafficTarget>,
}

/// Returns how a function's calls divide over its versions.
#[utoipa::path(
    get,
    path = "/namespaces/{namespace}/functions/{function}/traffic",
    tag = "functions",
    params(FunctionIds),
    responses((status = 200, body = Traffic, description = "The shares"), Refused),
)]
pub(super) async fn get_traffic(
    State(app): State<App>,
    Caller(who): Caller,
    Named(name): Named<FunctionRef>,
) -> Answer<Traffic> {
    let found = app.function_get(&who, v1::GetFunctionRequest { name: name.to_string() }).await?.function;
    let traffic = found.unwrap_or_default().traffic.into_iter().map(TrafficTarget::from).collect();
    Ok(Json(Traffic { traffic }))
}
