//! Versions as JSON.

use axum::extract::State;
use dunlin_proto::{
    names::{FunctionRef, VersionName},
    v1,
};

use super::{conditional::Tagged, doc::Refused};
use crate::admin::{
    app::{App, sees_values},
    fault::Fault,
    model::{Version, VersionList},
    params::{FunctionIds, Named, Page, Query, VersionIds, listed},
    session::Caller,
};

/// Lists a function's versions, the newest first.
#[utoipa::path(
    get,
    path = "/namespaces/{namespace}/functions/{function}/versions",
    tag = "functions",
    params(FunctionIds, Page),
    responses((status = 200, body = VersionList, description = "A page of versions"), Refused),
)]
pub(super) async fn list_versions(
    State(app): State<App>,
    Caller(who): Caller,
    Named(parent): Named<FunctionRef>,
    Query(page): Query<Page>,
) -> Result<Tagged<VersionList>, Fault> {
    let (page_size, page_token) = page.checked()?;
    let request = v1::ListVersionsRequest { parent: parent.to_string(), page_size, page_token };
    let values = sees_values(&who, &parent.namespace);
    let list = VersionList::new(listed(app.version_list(&who, request).await)?, values);
    Ok(Tagged::without(list, |list| list.versions.iter_mut().for_each(Version::forget_gateway)))
}

/// Returns one version.
#[utoipa::path(
    get,
    path = "/namespaces/{namespace}/functions/{function}/versions/{number}",
    tag = "functions",
    params(VersionIds),
    responses((status = 200, body = Version, description = "The version"), Refused),
)]
pub(super) async fn get_version(
    State(app): State<App>,
    Caller(who): Caller,
    Named(name): Named<VersionName>,
) -> Result<Tagged<Version>, Fault> {
    let response = app.version_get(&who, v1::GetVersionRequest { name: name.to_string() }).await?;
    let values = sees_values(&who, &name.namespace);
    Ok(Tagged::without(Version::new(response.version.unwrap_or_default(), values), Version::forget_gateway))
}
