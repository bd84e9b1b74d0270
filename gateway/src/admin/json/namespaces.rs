//! Namespaces as JSON.

use axum::{Json, extract::State};
use dunlin_proto::{names::NamespaceRef, v1};
use http::StatusCode;
use serde::{Deserialize, Deserializer};
use utoipa::ToSchema;

use super::{
    Answer,
    body::Body,
    doc::{Refused, Unchanged},
    fields::{large, maybe_text, maybe_uuid, maybe_whole, text, there, whole},
};
use crate::admin::{
    access::Operation,
    app::App,
    fault::Fault,
    model::{Namespace, NamespaceList, QuotaLimit, Rate},
    params::{Named, NamespaceIds, Page, Query, listed},
    session::Caller,
};

/// Lists the namespaces in which the token has a role, in the order of their names.
#[utoipa::path(
    get,
    path = "/namespaces",
    tag = "namespaces",
    params(Page),
    responses((status = 200, body = NamespaceList, description = "A page of namespaces"), Refused),
)]
pub(super) async fn list_namespaces(
    State(app): State<App>,
    Caller(who): Caller,
    Query(page): Query<Page>,
) -> Answer<NamespaceList> {
    let (page_size, page_token) = page.checked()?;
    let request = v1::ListNamespacesRequest { page_size, page_token };
    Ok(Json(listed(app.namespace_list(&who, request).await)?.into()))
}

/// Asks for a new namespace.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateNamespace {
    /// Lower-case letters, digits and single hyphens, from a letter to a letter or digit.
    #[schema(pattern = "^[a-z](-?[a-z0-9])*$", min_length = 1, max_length = 22, example = "shop")]
    namespace: String,
    /// For people.
    #[serde(default, deserialize_with = "text::<_, 256>")]
    #[schema(max_length = 256)]
    description: String,
    /// A UUID of the caller's; a repeated call returns the namespace that the first one made.
    #[serde(default, deserialize_with = "maybe_uuid")]
    #[schema(value_type = String, format = "uuid", required = false)]
    request_id: Option<String>,
    /// Invocations of all its functions that may run or wait at once, in the whole cluster; without it, any number.
    #[serde(default, deserialize_with = "maybe_whole::<_, 0, 1_000_000>")]
    #[schema(value_type = u32, minimum = 0, maximum = 1_000_000, required = false)]
    max_concurrency: Option<u32>,
    /// Calls of all its functions in a time, in the whole cluster; without it, any number.
    #[serde(default, deserialize_with = "there")]
    #[schema(value_type = Rate, required = false)]
    rate: Option<Rate>,
    /// Calls of all its functions in a day or month, in the whole cluster; without it, any number.
    #[serde(default, deserialize_with = "there")]
    #[schema(value_type = QuotaLimit, required = false)]
    quota: Option<QuotaLimit>,
    /// How long records of its invocations and lines of its logs are kept, in seconds; without it, as gateways and workers are set.
    #[serde(default, deserialize_with = "maybe_whole::<_, 60, { u32::MAX }>")]
    #[schema(value_type = u32, minimum = 60, maximum = 4_294_967_295_u32, required = false)]
    log_retention_seconds: Option<u32>,
    /// Bytes of its lines that each worker keeps; without it, as workers are set.
    #[serde(default, deserialize_with = "lines")]
    #[schema(value_type = u64, minimum = 65_536, maximum = 1_099_511_627_776_u64, required = false)]
    log_bytes: Option<Option<u64>>,
}

/// Makes a namespace.
#[utoipa::path(
    post,
    path = "/namespaces",
    tag = "namespaces",
    request_body = CreateNamespace,
    responses((status = 201, body = Namespace, description = "The namespace"), Refused, Unchanged),
)]
pub(super) async fn create_namespace(
    State(app): State<App>,
    Caller(who): Caller,
    Body(body): Body<CreateNamespace>,
) -> Result<(StatusCode, Json<Namespace>), Fault> {
    let request = v1::CreateNamespaceRequest {
        namespace_id: body.namespace,
        description: body.description,
        request_id: body.request_id.unwrap_or_default(),
        max_concurrency: body.max_concurrency,
        rate: body.rate.map(Into::into),
        quota: body.quota.map(Into::into),
        log_retention: body.log_retention_seconds.map(seconds),
        log_bytes: body.log_bytes.flatten(),
    };
    let made = app.namespace_create(&who, request).await?.namespace.unwrap_or_default();
    Ok((StatusCode::CREATED, Json(made.into())))
}

/// Returns one namespace.
#[utoipa::path(
    get,
    path = "/namespaces/{namespace}",
    tag = "namespaces",
    params(NamespaceIds),
    responses((status = 200, body = Namespace, description = "The namespace"), Refused),
)]
pub(super) async fn get_namespace(
    State(app): State<App>,
    Caller(who): Caller,
    Named(name): Named<NamespaceRef>,
) -> Answer<Namespace> {
    let response = app.namespace_get(&who, v1::GetNamespaceRequest { name: name.to_string() }).await?;
    Ok(Json(response.namespace.unwrap_or_default().into()))
}

/// What to change of a namespace; what is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UpdateNamespace {
    /// For people.
    #[serde(default, deserialize_with = "maybe_text::<_, 256>")]
    #[schema(value_type = String, max_length = 256, required = false)]
    description: Option<String>,
    /// Invocations of all its functions that may run or wait at once, in the whole cluster; null removes the bound.
    #[serde(default, deserialize_with = "bound")]
    #[schema(value_type = Option<u32>, minimum = 0, maximum = 1_000_000, required = false)]
    max_concurrency: Option<Option<u32>>,
    /// Calls of all its functions in a time, in the whole cluster; null removes the bound.
    #[serde(default, deserialize_with = "there")]
    #[schema(value_type = Option<Rate>, required = false)]
    rate: Option<Option<Rate>>,
    /// Calls of all its functions in a day or month, in the whole cluster; null removes the bound.
    #[serde(default, deserialize_with = "there")]
    #[schema(value_type = Option<QuotaLimit>, required = false)]
    quota: Option<Option<QuotaLimit>>,
    /// How long records of its invocations and lines of its logs are kept, in seconds; null means as gateways and workers are set.
    #[serde(default, deserialize_with = "age")]
    #[schema(value_type = Option<u32>, minimum = 60, maximum = 4_294_967_295_u32, required = false)]
    log_retention_seconds: Option<Option<u32>>,
    /// Bytes of its lines that each worker keeps; null means as workers are set.
    #[serde(default, deserialize_with = "lines")]
    #[schema(value_type = Option<u64>, minimum = 65_536, maximum = 1_099_511_627_776_u64, required = false)]
    log_bytes: Option<Option<u64>>,
}

/// So many seconds, in a message.
fn seconds(seconds: u32) -> prost_types::Duration {
    prost_types::Duration { seconds: seconds.into(), nanos: 0 }
}

/// A time that is there, perhaps as null.
fn age<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<u32>>, D::Error> {
    #[derive(Deserialize)]
    struct Age(#[serde(deserialize_with = "whole::<_, 60, { u32::MAX }>")] u32);
    Option::<Age>::deserialize(deserializer).map(|age| Some(age.map(|Age(seconds)| seconds)))
}

/// Bytes of lines that are there, perhaps as null.
fn lines<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<u64>>, D::Error> {
    #[derive(Deserialize)]
    struct Bytes(#[serde(deserialize_with = "large::<_, 65_536, 1_099_511_627_776>")] u64);
    Option::<Bytes>::deserialize(deserializer).map(|bytes| Some(bytes.map(|Bytes(most)| most)))
}

/// A bound that is there, perhaps as null.
fn bound<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<u32>>, D::Error> {
    #[derive(Deserialize)]
    struct Bound(#[serde(deserialize_with = "whole::<_, 0, 1_000_000>")] u32);
    Option::<Bound>::deserialize(deserializer).map(|bound| Some(bound.map(|Bound(most)| most)))
}

/// Changes a namespace's description, how many invocations it may have at once and in a time, or what is kept of them.
#[utoipa::path(
    patch,
    path = "/namespaces/{namespace}",
    tag = "namespaces",
    params(NamespaceIds),
    request_body = UpdateNamespace,
    responses((status = 200, body = Namespace, description = "The changed namespace"), Refused, Unchanged),
)]
pub(super) async fn update_namespace(
    State(app): State<App>,
    Caller(who): Caller,
    Named(name): Named<NamespaceRef>,
    Body(body): Body<UpdateNamespace>,
) -> Answer<Namespace> {
    Operation::UpdateNamespace.allow_in(&who, &name.namespace)?;
    let fields = [
        ("description", body.description.is_some()),
        ("max_concurrency", body.max_concurrency.is_some()),
        ("rate", body.rate.is_some()),
        ("quota", body.quota.is_some()),
        ("log_retention", body.log_retention_seconds.is_some()),
        ("log_bytes", body.log_bytes.is_some()),
    ];
    let paths: Vec<_> = fields.into_iter().filter(|(_, there)| *there).map(|(field, _)| field.to_owned()).collect();
    if paths.is_empty() {
        let response = app.namespace_get(&who, v1::GetNamespaceRequest { name: name.to_string() }).await?;
        return Ok(Json(response.namespace.unwrap_or_default().into()));
    }
    let namespace = v1::Namespace {
        name: name.to_string(),
        description: body.description.unwrap_or_default(),
        max_concurrency: body.max_concurrency.flatten(),
        rate: body.rate.flatten().map(Into::into),
        quota: body.quota.flatten().map(Into::into),
        log_retention: body.log_retention_seconds.flatten().map(seconds),
        log_bytes: body.log_bytes.flatten(),
        ..Default::default()
    };
    let update_mask = Some(prost_types::FieldMask { paths });
    let request = v1::UpdateNamespaceRequest { namespace: Some(namespace), update_mask };
    Ok(Json(app.namespace_update(&who, request).await?.namespace.unwrap_or_default().into()))
}

/// Deletes an empty namespace.
#[utoipa::path(
    delete,
    path = "/namespaces/{namespace}",
    tag = "namespaces",
    params(NamespaceIds),
    responses((status = 204, description = "It is gone"), Refused, Unchanged),
)]
pub(super) async fn delete_namespace(
    State(app): State<App>,
    Caller(who): Caller,
    Named(name): Named<NamespaceRef>,
) -> Result<StatusCode, Fault> {
    app.namespace_delete(&who, v1::DeleteNamespaceRequest { name: name.to_string() }).await?;
    Ok(StatusCode::NO_CONTENT)
}
