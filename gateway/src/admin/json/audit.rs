//! The audit log as JSON.

use axum::{Json, extract::State};
use dunlin_proto::{ApiError, names::NamespaceRef, v1};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{Answer, doc::Refused, logs::moment};
use crate::admin::{
    app::App,
    fault::Fault,
    model::{AuditHead, AuditList},
    params::{Named, NamespaceIds, Page, Query, at_most, listed},
    session::Caller,
};

/// Which entries.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Filter {
    /// How many, from 1 to 1,000; default 100.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    page_size: Option<u16>,
    /// `next_page_token` of the page before.
    #[param(pattern = "^[A-Za-z0-9_-]{1,512}$")]
    page_token: Option<String>,
    /// Only entries from this time on (RFC 3339).
    #[param(value_type = Option<String>, format = "date-time")]
    since: Option<String>,
    /// Only those of this subject.
    #[param(max_length = 128)]
    subject: Option<String>,
    /// Only this action, or all of a kind, such as `route.put` or `route`.
    #[param(max_length = 64)]
    action: Option<String>,
    /// Only this resource, or what lies below it.
    #[param(max_length = 128)]
    resource: Option<String>,
    /// The oldest first, as the chain goes.
    #[param(default = false)]
    oldest_first: Option<bool>,
}

impl Filter {
    fn into_request(self, parent: String) -> Result<v1::ListAuditEntriesRequest, ApiError> {
        let since = self.since.map(|text| moment(&text)).transpose()?;
        let (page_size, page_token) = Page { page_size: self.page_size, page_token: self.page_token }.checked()?;
        Ok(v1::ListAuditEntriesRequest {
            parent,
            page_size,
            page_token,
            since: since.map(prost_types::Timestamp::from),
            subject: at_most("subject", self.subject, 128)?,
            action: at_most("action", self.action, 64)?,
            resource: at_most("resource", self.resource, 128)?,
            oldest_first: self.oldest_first.unwrap_or_default(),
        })
    }
}

async fn list(app: &App, who: &Caller, parent: String, filter: Filter) -> Result<AuditList, Fault> {
    let request = filter.into_request(parent)?;
    Ok(listed(app.audit_list(&who.0, request).await)?.into())
}

/// Lists the audit log of the whole cluster, the newest entry first.
#[utoipa::path(
    get,
    path = "/audit",
    tag = "audit",
    params(Filter),
    responses((status = 200, body = AuditList, description = "A page of entries"), Refused),
)]
pub(super) async fn list_audit_entries(
    State(app): State<App>,
    who: Caller,
    Query(filter): Query<Filter>,
) -> Answer<AuditList> {
    Ok(Json(list(&app, &who, String::new(), filter).await?))
}

/// Lists a namespace's entries of the audit log, the newest first. They have gaps, so that their chain can't be verified.
#[utoipa::path(
    get,
    path = "/namespaces/{namespace}/audit",
    tag = "audit",
    params(NamespaceIds, Filter),
    responses((status = 200, body = AuditList, description = "A page of entries"), Refused),
)]
pub(super) async fn list_namespace_audit_entries(
    State(app): State<App>,
    who: Caller,
    Named(parent): Named<NamespaceRef>,
    Query(filter): Query<Filter>,
) -> Answer<AuditList> {
    Ok(Json(list(&app, &who, parent.to_string(), filter).await?))
}

/// Returns the signed end of the audit log. Kept elsewhere, it shows later whether the log was changed.
#[utoipa::path(
    get,
    path = "/audit/head",
    tag = "audit",
    responses((status = 200, body = AuditHead, description = "The end of the log"), Refused),
)]
pub(super) async fn get_audit_head(State(app): State<App>, Caller(who): Caller) -> Answer<AuditHead> {
    Ok(Json(app.audit_head(&who, v1::GetAuditHeadRequest {}).await?.into()))
}
