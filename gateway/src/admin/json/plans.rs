//! Usage plans as JSON, and which key is under which.

use axum::{Json, extract::State};
use dunlin_proto::{
    names::{KeyName, NamespaceRef, PlanName},
    v1,
};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    Answer,
    body::Body,
    doc::{Refused, Unchanged},
    fields::{maybe_whole, text, there_object},
};
use crate::admin::{
    app::App,
    model::{Key, KeyUsage, Plan, PlanList, QuotaLimit, Rate},
    params::{KeyIds, Named, NamespaceIds, PlanIds},
    session::Caller,
};

/// Lists the plans of a namespace in the order of their names.
#[utoipa::path(
    get,
    path = "/namespaces/{namespace}/plans",
    tag = "keys",
    params(NamespaceIds),
    responses((status = 200, body = PlanList, description = "All of them"), Refused),
)]
pub(super) async fn list_plans(
    State(app): State<App>,
    Caller(who): Caller,
    Named(parent): Named<NamespaceRef>,
) -> Answer<PlanList> {
    let request = v1::ListPlansRequest { parent: parent.to_string() };
    Ok(Json(app.plan_list(&who, request).await?.into()))
}

/// What each key under the plan may use: a rate, a quota, a bound of calls at once, or several of them.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PutPlan {
    /// Calls in a time, in the whole cluster; without it, any number.
    #[serde(default, deserialize_with = "there_object")]
    #[schema(value_type = Rate, required = false)]
    rate: Option<Rate>,
    /// Calls in a day or month, in the whole cluster; without it, any number.
    #[serde(default, deserialize_with = "there_object")]
    #[schema(value_type = QuotaLimit, required = false)]
    quota: Option<QuotaLimit>,
    /// Invocations of each key that may run or wait at once, in the whole cluster; without it, any number.
    #[serde(default, deserialize_with = "maybe_whole::<_, 1, 1_000_000>")]
    #[schema(value_type = u32, minimum = 1, maximum = 1_000_000, required = false)]
    max_concurrency: Option<u32>,
}

/// Makes a plan, or changes it for all keys that are under it.
#[utoipa::path(
    put,
    path = "/namespaces/{namespace}/plans/{plan}",
    tag = "keys",
    params(PlanIds),
    request_body = PutPlan,
    responses((status = 200, body = Plan, description = "The plan as it is now"), Refused, Unchanged),
)]
pub(super) async fn put_plan(
    State(app): State<App>,
    Caller(who): Caller,
    Named(name): Named<PlanName>,
    Body(body): Body<PutPlan>,
) -> Answer<Plan> {
    let (rate, quota) = (body.rate.map(Into::into), body.quota.map(Into::into));
    let max_concurrency = body.max_concurrency;
    let plan = v1::Plan { name: name.to_string(), rate, quota, max_concurrency, ..v1::Plan::default() };
    let response = app.plan_put(&who, v1::PutPlanRequest { plan: Some(plan) }).await?;
    Ok(Json(response.plan.unwrap_or_default().into()))
}

/// Deletes a plan that no valid key is under.
#[utoipa::path(
    delete,
    path = "/namespaces/{namespace}/plans/{plan}",
    tag = "keys",
    params(PlanIds),
    responses((status = 204, description = "It is gone"), Refused, Unchanged),
)]
pub(super) async fn delete_plan(
    State(app): State<App>,
    Caller(who): Caller,
    Named(name): Named<PlanName>,
) -> Result<http::StatusCode, crate::admin::fault::Fault> {
    app.plan_delete(&who, v1::DeletePlanRequest { name: name.to_string() }).await?;
    Ok(http::StatusCode::NO_CONTENT)
}

/// The plan that a key shall be under.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UpdateKey {
    /// The plan's bare name; null means none. What was used of a quota in this period stays used.
    #[serde(deserialize_with = "plan")]
    #[schema(value_type = Option<String>, required = true, max_length = 63)]
    plan: String,
}

/// A plan's bare name, or nothing.
fn plan<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    #[derive(Deserialize)]
    struct Plan(#[serde(deserialize_with = "text::<_, 63>")] String);
    Ok(Option::<Plan>::deserialize(deserializer)?.map(|Plan(name)| name).unwrap_or_default())
}

/// Puts a key under another plan, or under none.
#[utoipa::path(
    patch,
    path = "/namespaces/{namespace}/keys/{key}",
    tag = "keys",
    params(KeyIds),
    request_body = UpdateKey,
    responses((status = 200, body = Key, description = "The key"), Refused, Unchanged),
)]
pub(super) async fn update_key(
    State(app): State<App>,
    Caller(who): Caller,
    Named(name): Named<KeyName>,
    Body(body): Body<UpdateKey>,
) -> Answer<Key> {
    let request = v1::UpdateKeyRequest { name: name.to_string(), plan: body.plan };
    Ok(Json(app.key_update(&who, request).await?.key.unwrap_or_default().into()))
}

/// Says what a key may use and has used of its quota.
#[utoipa::path(
    get,
    path = "/namespaces/{namespace}/keys/{key}/usage",
    tag = "keys",
    params(KeyIds),
    responses((status = 200, body = KeyUsage, description = "What it has used"), Refused),
)]
pub(super) async fn get_key_usage(
    State(app): State<App>,
    Caller(who): Caller,
    Named(name): Named<KeyName>,
) -> Answer<KeyUsage> {
    Ok(Json(app.key_usage(&who, v1::GetKeyUsageRequest { name: name.to_string() }).await?.into()))
}
