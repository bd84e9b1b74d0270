//! The log of a namespace or function: what there is, and with scripts what comes.

use askama::Template;
use axum::extract::{Query, State, rejection::QueryRejection};
use dunlin_proto::{
    ids::{FunctionName, Namespace},
    names::{FunctionRef, NamespaceRef},
    v1,
};
use serde::Deserialize;

use super::{
    Page, escaped, render,
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
    search: String,
    request_id: String,
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
    Filter { search, request_id }: Filter,
) -> Page {
    let parent = match &function {
        None => format!("namespaces/{namespace}"),
        Some(function) => format!("namespaces/{namespace}/functions/{function}"),
    };
    let (base, request_id) = (format!("/{parent}/logs"), request_id.trim().to_owned());
    let request = v1::ReadLogsRequest {
        parent: parent.clone(),
        lines: 200,
        search: search.clone(),
        request_id: request_id.clone(),
        ..Default::default()
    };
    let list = collect_logs(app, &Caller(who.clone()), request).await?;
    let last = list.lines.last().and_then(|line| line.time);
    render(&LogPage {
        shell: Shell::new(app, &who, Some(&namespace), Section::Log).await,
        function: function.map(String::from),
        base,
        stream: stream(&parent, &search, &request_id, last),
        search,
        request_id,
        unreachable: list.unreachable,
        lines: LineRow::all(namespace.as_str(), list.lines),
        namespace: namespace.to_string(),
    })
}

/// The address of the lines that follow the last one shown.
fn stream(parent: &str, search: &str, request_id: &str, last: Option<crate::admin::model::Time>) -> String {
    let mut address = format!("/api/v1/{parent}/logs/stream?lines=1000");
    if let Some(last) = last {
        address.push_str(&format!("&since={}", escaped(&last.after().rfc3339_nanos())));
    }
    for (name, value) in [("search", search), ("request_id", request_id)] {
        if !value.is_empty() {
            address.push_str(&format!("&{name}={}", escaped(value)));
        }
    }
    address
}
