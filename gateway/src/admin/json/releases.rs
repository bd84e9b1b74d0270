//! Releases as JSON.

use axum::{Json, extract::State};
use dunlin_proto::{
    ApiError,
    names::{NamespaceRef, ReleaseName},
    v1,
};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::{
    Answer,
    body::Body,
    doc::{Refused, Unchanged},
    fields::maybe_uuid,
};
use crate::admin::{
    app::App,
    model::{Release, ReleaseDiff, ReleaseList, RestoredRelease},
    params::{Named, NamespaceIds, Page, Query, ReleaseIds, listed},
    session::Caller,
};

/// Lists the releases of a namespace, the newest first, without what they hold.
#[utoipa::path(
    get,
    path = "/namespaces/{namespace}/releases",
    tag = "releases",
    params(NamespaceIds, Page),
    responses((status = 200, body = ReleaseList, description = "A page of releases"), Refused),
)]
pub(super) async fn list_releases(
    State(app): State<App>,
    Caller(who): Caller,
    Named(parent): Named<NamespaceRef>,
    Query(page): Query<Page>,
) -> Answer<ReleaseList> {
    let (page_size, page_token) = page.checked()?;
    let request = v1::ListReleasesRequest { parent: parent.to_string(), page_size, page_token };
    Ok(Json(listed(app.release_list(&who, request).await)?.into()))
}

/// Returns one release with what it holds.
#[utoipa::path(
    get,
    path = "/namespaces/{namespace}/releases/{release}",
    tag = "releases",
    params(ReleaseIds),
    responses((status = 200, body = Release, description = "The release"), Refused),
)]
pub(super) async fn get_release(
    State(app): State<App>,
    Caller(who): Caller,
    Named(name): Named<ReleaseName>,
) -> Answer<Release> {
    let response = app.release_get(&who, v1::GetReleaseRequest { name: name.to_string() }).await?;
    Ok(Json(response.release.unwrap_or_default().into()))
}

/// With which release another one is compared.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Compared {
    /// A release's number; left out means the one before.
    #[param(minimum = 1, maximum = 4_294_967_295_u32, example = 1)]
    from: Option<u32>,
}

/// Shows how a release differs from another one.
#[utoipa::path(
    get,
    path = "/namespaces/{namespace}/releases/{release}/diff",
    tag = "releases",
    params(ReleaseIds, Compared),
    responses((status = 200, body = ReleaseDiff, description = "How they differ"), Refused),
)]
pub(super) async fn diff_releases(
    State(app): State<App>,
    Caller(who): Caller,
    Named(name): Named<ReleaseName>,
    Query(Compared { from }): Query<Compared>,
) -> Answer<ReleaseDiff> {
    if from == Some(0) {
        return Err(
            ApiError::invalid("from", "releases count from 1; leave from out to compare with the one before").into()
        );
    }
    let request = v1::DiffReleasesRequest { name: name.to_string(), from: from.unwrap_or_default() };
    Ok(Json(app.release_diff(&who, request).await?.into()))
}

/// How to go back to a release.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RollbackRelease {
    /// A UUID of the caller's; a repeated call does nothing more.
    #[serde(default, deserialize_with = "maybe_uuid")]
    #[schema(value_type = String, format = "uuid", required = false)]
    request_id: Option<String>,
}

/// Gives callers again what they got in a release, all of it or nothing. Answers once all gateways serve it, or names those that do
/// not yet.
#[utoipa::path(
    post,
    path = "/namespaces/{namespace}/releases/{release}/rollback",
    tag = "releases",
    params(ReleaseIds),
    request_body = RollbackRelease,
    responses((status = 200, body = RestoredRelease, description = "The release that they get now"), Refused, Unchanged),
)]
pub(super) async fn rollback_release(
    State(app): State<App>,
    Caller(who): Caller,
    Named(name): Named<ReleaseName>,
    Body(body): Body<RollbackRelease>,
) -> Answer<RestoredRelease> {
    let request =
        v1::RollbackReleaseRequest { name: name.to_string(), request_id: body.request_id.unwrap_or_default() };
    Ok(Json(app.release_rollback(&who, request).await?.into()))
}
