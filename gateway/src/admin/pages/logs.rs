//! The log of a namespace or function: what there is, and with scripts what comes.

use askama::Template;
use axum::extract::{Query, State, rejection::QueryRejection};
use dunlin_proto::{
    ApiError,
    ids::{FunctionName, Namespace},
    names::{FunctionRef, NamespaceRef},
    v1,
};
use serde::Deserialize;

use super::{
    Page, escaped, must_exist, render,
    shell::{Section, Shell},
    view::LineRow,
};
use crate::admin::{
    app::App,
    fault::Fault,
    json::collect_logs,
    params::Named,
    session::{Caller, Visitor},
};

/// Which lines.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Filter {
    search: String,
    request_id: String,
    /// A number; empty for all.
    version: String,
    worker: String,
    /// Such as `5xx`.
    status: String,
}

impl Filter {
    fn is_empty(&self) -> bool {
        [&self.search, &self.request_id, &self.version, &self.worker, &self.status].into_iter().all(String::is_empty)
    }
}

#[derive(Debug, Template)]
#[template(path = "logs.html")]
struct LogPage {
    shell: Shell,
    namespace: String,
    function: Option<String>,
    base: String,
    /// Where new lines come from.
    stream: String,
    filter: Filter,
    unreachable: Vec<String>,
    lines: Vec<LineRow>,
}

/// Shows a namespace's.
pub(super) async fn of_namespace(
    State(app): State<App>,
    who: Visitor,
    Named(NamespaceRef { namespace }): Named<NamespaceRef>,
    filter: Result<Query<Filter>, QueryRejection>,
) -> Page {
    page(&app, who, namespace, None, filter.map_err(Fault::from)?.0).await
}

/// Shows a function's.
pub(super) async fn of_function(
    State(app): State<App>,
    who: Visitor,
    Named(FunctionRef { namespace, function }): Named<FunctionRef>,
    filter: Result<Query<Filter>, QueryRejection>,
) -> Page {
    page(&app, who, namespace, Some(function), filter.map_err(Fault::from)?.0).await
}

async fn page(
    app: &App,
    Visitor(who): Visitor,
    namespace: Namespace,
    function: Option<FunctionName>,
    mut filter: Filter,
) -> Page {
    must_exist(app, &who, &namespace).await?;
    let parent = match &function {
        None => format!("namespaces/{namespace}"),
        Some(function) => format!("namespaces/{namespace}/functions/{function}"),
    };
    for field in [&mut filter.request_id, &mut filter.version, &mut filter.worker, &mut filter.status] {
        *field = field.trim().to_owned();
    }
    let version = Some(&filter.version).filter(|text| !text.is_empty()).map(|text| text.parse());
    let version =
        version.transpose().map_err(|_| ApiError::invalid("version", "version must be a number, such as 3"))?;
    let request = v1::ReadLogsRequest {
        parent: parent.clone(),
        lines: 200,
        search: filter.search.clone(),
        request_id: filter.request_id.clone(),
        version: version.unwrap_or_default(),
        worker: filter.worker.clone(),
        status: filter.status.clone(),
        ..Default::default()
    };
    let list = collect_logs(app, &Caller(who.clone()), request).await?;
    render(&LogPage {
        shell: Shell::new(app, &who, Some(&namespace), Section::Log).await,
        function: function.map(String::from),
        base: format!("/{parent}/logs"),
        stream: stream(&parent, &filter, &list.cursor),
        filter,
        unreachable: list.unreachable.clone(),
        lines: LineRow::of(namespace.as_str(), list),
        namespace: namespace.to_string(),
    })
}

/// The address of what follows the last line shown.
fn stream(parent: &str, filter: &Filter, cursor: &str) -> String {
    let mut address = format!("/api/v1/{parent}/logs/stream?lines=1000");
    let Filter { search, request_id, version, worker, status } = filter;
    let values = [
        ("cursor", cursor),
        ("search", search),
        ("request_id", request_id),
        ("version", version),
        ("worker", worker),
        ("status", status),
    ];
    for (name, value) in values {
        if !value.is_empty() {
            address.push_str(&format!("&{name}={}", escaped(value)));
        }
    }
    address
}
