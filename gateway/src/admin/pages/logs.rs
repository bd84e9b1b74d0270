//! The log of a namespace or function: what there is, and with scripts what comes.

use askama::Template;
use axum::extract::{Query, State, rejection::QueryRejection};
use dunlin_proto::{
    ApiError, ErrorCode,
    ids::{FunctionName, Namespace},
    names::{FunctionRef, NamespaceRef},
    v1,
};
use serde::Deserialize;

use super::{
    Page, Problem, escaped, must_exist, must_have_been, render,
    shell::{Section, Shell},
    view::LineRow,
};
use crate::admin::{
    app::App,
    fault::Fault,
    json::collect_logs,
    model::LogList,
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

    fn trim(&mut self) {
        for field in [&mut self.request_id, &mut self.version, &mut self.worker, &mut self.status] {
            *field = field.trim().to_owned();
        }
    }

    /// What is asked for.
    fn request(&self, parent: String) -> Result<v1::ReadLogsRequest, ApiError> {
        let number = self.version.trim_start_matches('v');
        let version = if number.is_empty() { Ok(0) } else { number.parse() };
        let wrong = |_| ApiError::invalid("version", "version must be a number, such as 3");
        Ok(v1::ReadLogsRequest {
            parent,
            lines: 200,
            search: self.search.clone(),
            request_id: self.request_id.clone(),
            version: version.map_err(wrong)?,
            worker: self.worker.clone(),
            status: self.status.clone(),
            ..Default::default()
        })
    }
}

#[derive(Debug, Template)]
#[template(path = "logs.html")]
struct LogPage {
    shell: Shell,
    namespace: String,
    function: Option<String>,
    base: String,
    /// Where new lines come from, where any can.
    stream: String,
    follows: bool,
    filter: Filter,
    /// What is wrong with what was asked for.
    error: Option<Problem>,
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
    filter.trim();
    // What somebody wrote into a field wrongly is said beside it.
    let list = match filter.request(parent.clone()) {
        Ok(request) => collect_logs(app, &Caller(who.clone()), request).await,
        Err(error) => Err(error),
    };
    let (list, error) = match list {
        Err(error) if error.code == ErrorCode::InvalidArgument => (LogList::default(), Some(Problem::from(&error))),
        list => (list?, None),
    };
    if let Some(function) = function.as_ref().filter(|_| list.lines.is_empty()) {
        must_have_been(app, &who, &namespace, function).await?;
    }
    render(&LogPage {
        shell: Shell::new(app, &who, Some(&namespace), Section::Log).await,
        function: function.map(String::from),
        base: format!("/{parent}/logs"),
        stream: stream(&parent, &filter, &list.cursor),
        // Of what can't be asked for, nothing follows either.
        follows: error.is_none(),
        filter,
        error,
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
