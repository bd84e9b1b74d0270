//! Usage and budgets as JSON, and usage as CSV.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use dunlin_proto::{
    ApiError,
    names::{BudgetName, NamespaceRef},
    v1,
};
use http::header;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::{
    Answer,
    body::Body,
    doc::{Refused, Unchanged},
    fields::{maybe_whole, there},
};
use crate::admin::{
    app::App,
    fault::Fault,
    model::{Budget, BudgetLimit, Usage, UsageList, csv},
    params::{Named, NamespaceIds, Page, Query, listed},
    session::Caller,
};

/// Which hours, and what lines are told apart by.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Hours {
    /// From the hour of this moment on; 24 hours before `to` when left out.
    #[param(value_type = String, format = "date-time", required = false)]
    from: Option<String>,
    /// Up to the end of the hour of this moment; now when left out.
    #[param(value_type = String, format = "date-time", required = false)]
    to: Option<String>,
    /// `function`, `version`, `key`, `hour`, or several of them with commas between.
    #[param(pattern = "^(function|version|key|hour)(,(function|version|key|hour)){0,3}$", example = "function")]
    by: Option<String>,
    /// How many, from 1 to 1,000; default 100.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    page_size: Option<u16>,
    /// `next_page_token` of the page before.
    #[param(pattern = "^[A-Za-z0-9_-]{1,512}$")]
    page_token: Option<String>,
}

/// The same for all lines at once.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct AllHours {
    /// From the hour of this moment on; 24 hours before `to` when left out.
    #[param(value_type = String, format = "date-time", required = false)]
    from: Option<String>,
    /// Up to the end of the hour of this moment; now when left out.
    #[param(value_type = String, format = "date-time", required = false)]
    to: Option<String>,
    /// `function`, `version`, `key`, `hour`, or several of them with commas between; all four when left out.
    #[param(pattern = "^(function|version|key|hour)(,(function|version|key|hour)){0,3}$", example = "function")]
    by: Option<String>,
}

fn moment(field: &str, text: &str) -> Result<prost_types::Timestamp, ApiError> {
    let wrong = |_| ApiError::invalid(field, format!("{field} must be a time such as 2026-11-23T16:00:00Z"));
    text.parse().map_err(wrong)
}

/// What lines are told apart by.
fn groups(text: &str) -> Result<Vec<i32>, ApiError> {
    let group = |name: &str| match name {
        "function" => Ok(v1::UsageGroup::Function.into()),
        "version" => Ok(v1::UsageGroup::Version.into()),
        "key" => Ok(v1::UsageGroup::Key.into()),
        "hour" => Ok(v1::UsageGroup::Hour.into()),
        _ => Err(ApiError::invalid(
            "by",
            "by must be function, version, key, hour, or several of them with commas between",
        )),
    };
    let groups: Vec<_> = text.split(',').map(group).collect::<Result<_, _>>()?;
    if groups.len() > 4 {
        return Err(ApiError::invalid("by", "by may name 4 at the most"));
    }
    Ok(groups)
}

impl Hours {
    fn request(self, parent: &NamespaceRef) -> Result<v1::ListUsageRequest, ApiError> {
        let page = Page { page_size: self.page_size, page_token: self.page_token };
        let (page_size, page_token) = page.checked()?;
        Ok(v1::ListUsageRequest {
            parent: parent.to_string(),
            from: self.from.map(|text| moment("from", &text)).transpose()?,
            to: self.to.map(|text| moment("to", &text)).transpose()?,
            group_by: self.by.map(|by| groups(&by)).transpose()?.unwrap_or_default(),
            page_size,
            page_token,
        })
    }
}

/// Sums up what the invocations of a namespace used.
#[utoipa::path(
    get,
    path = "/namespaces/{namespace}/usage",
    tag = "usage",
    params(NamespaceIds, Hours),
    responses((status = 200, body = UsageList, description = "A page of usage"), Refused),
)]
pub(super) async fn list_usage(
    State(app): State<App>,
    Caller(who): Caller,
    Named(parent): Named<NamespaceRef>,
    Query(hours): Query<Hours>,
) -> Answer<UsageList> {
    Ok(Json(listed(app.usage_list(&who, hours.request(&parent)?).await)?.into()))
}

/// The same as comma-separated values, of 100,000 lines at the most.
#[utoipa::path(
    get,
    path = "/namespaces/{namespace}/usage.csv",
    tag = "usage",
    params(NamespaceIds, AllHours),
    responses((status = 200, description = "All lines", content_type = "text/csv", body = String), Refused),
)]
pub(super) async fn export_usage(
    State(app): State<App>,
    Caller(who): Caller,
    Named(parent): Named<NamespaceRef>,
    Query(AllHours { from, to, by }): Query<AllHours>,
) -> Result<Response, Fault> {
    let by = by.unwrap_or_else(|| "hour,function,version,key".to_owned());
    let hours = Hours { from, to, by: Some(by), ..Hours::default() };
    let lines = app.usage_export(&who, hours.request(&parent)?).await?;
    let lines: Vec<_> = lines.into_iter().map(Usage::from).collect();
    Ok(([(header::CONTENT_TYPE, "text/csv; charset=utf-8")], csv(&lines)).into_response())
}

/// What a namespace may use: CPU time, invocations or both.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SetBudget {
    /// CPU time of guests in seconds; without it, any.
    #[serde(default, deserialize_with = "there")]
    #[schema(value_type = BudgetLimit, required = false)]
    cpu_seconds: Option<BudgetLimit>,
    /// Invocations; without it, any number.
    #[serde(default, deserialize_with = "there")]
    #[schema(value_type = BudgetLimit, required = false)]
    calls: Option<BudgetLimit>,
    /// The scheduler warns when so many percent are used; 80 when left out.
    #[serde(default, deserialize_with = "maybe_whole::<_, 1, 100>")]
    #[schema(value_type = u32, required = false, minimum = 1, maximum = 100)]
    warn_percent: Option<u32>,
    /// Once all is used, calls are refused with 429 until the period ends.
    #[serde(default)]
    enforce: bool,
}

/// Returns a namespace's budget, and what is used of it.
#[utoipa::path(
    get,
    path = "/namespaces/{namespace}/budget",
    tag = "usage",
    params(NamespaceIds),
    responses((status = 200, body = Budget, description = "The budget"), Refused),
)]
pub(super) async fn get_budget(
    State(app): State<App>,
    Caller(who): Caller,
    Named(NamespaceRef { namespace }): Named<NamespaceRef>,
) -> Answer<Budget> {
    let name = BudgetName { namespace }.to_string();
    Ok(Json(app.budget_get(&who, v1::GetBudgetRequest { name }).await?.into()))
}

/// Sets a namespace's budget, or replaces it. It is in force a second later.
#[utoipa::path(
    put,
    path = "/namespaces/{namespace}/budget",
    tag = "usage",
    params(NamespaceIds),
    request_body = SetBudget,
    responses((status = 200, body = Budget, description = "The budget as it is now"), Refused, Unchanged),
)]
pub(super) async fn set_budget(
    State(app): State<App>,
    Caller(who): Caller,
    Named(NamespaceRef { namespace }): Named<NamespaceRef>,
    Body(body): Body<SetBudget>,
) -> Answer<Budget> {
    let name = BudgetName { namespace }.to_string();
    let budget = v1::Budget {
        name: name.clone(),
        cpu_seconds: body.cpu_seconds.map(Into::into),
        calls: body.calls.map(Into::into),
        warn_percent: body.warn_percent.unwrap_or_default(),
        enforce: body.enforce,
    };
    app.budget_set(&who, v1::SetBudgetRequest { budget: Some(budget) }).await?;
    Ok(Json(app.budget_get(&who, v1::GetBudgetRequest { name }).await?.into()))
}

/// Deletes a namespace's budget.
#[utoipa::path(
    delete,
    path = "/namespaces/{namespace}/budget",
    tag = "usage",
    params(NamespaceIds),
    responses((status = 204, description = "It is gone"), Refused, Unchanged),
)]
pub(super) async fn delete_budget(
    State(app): State<App>,
    Caller(who): Caller,
    Named(NamespaceRef { namespace }): Named<NamespaceRef>,
) -> Result<http::StatusCode, Fault> {
    let name = BudgetName { namespace }.to_string();
    app.budget_delete(&who, v1::DeleteBudgetRequest { name }).await?;
    Ok(http::StatusCode::NO_CONTENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_told_apart_by_one_to_four_things() {
        assert_eq!(groups("function").unwrap(), [1]);
        assert_eq!(groups("hour,key,version,function").unwrap(), [4, 3, 2, 1]);
        for bad in ["", "function,", "day", "function version", "key,key,key,key,key"] {
            assert_eq!(groups(bad).unwrap_err().field.as_deref(), Some("by"), "{bad}");
        }
    }
}
