//! Invocations: lists of them, and one with its receipt and what it wrote.

use std::time::{Duration, SystemTime};

use askama::Template;
use axum::extract::{Query, State, rejection::QueryRejection};
use dunlin_proto::{
    ApiError, ErrorCode,
    ids::{FunctionName, Namespace},
    model::to_wire_duration,
    names::{FunctionRef, InvocationName, NamespaceRef},
    v1,
};
use serde::Deserialize;

use super::{
    Page, Problem,
    chart::{Part, timeline},
    escaped,
    format::{self, When},
    must_exist, must_have_been, render,
    shell::{Section, Shell},
    view::{Badge, InvocationRow, LineRow, short, visible},
    why,
};
use crate::{
    admin::{
        app::App,
        fault::Fault,
        model::{Explanation, ExplanationStep as Step, Invocation, InvocationList, LogLine},
        params::Named,
        session::Visitor,
    },
    dispatch::wire::FRAME,
};

/// Invocations of a list's page.
const SHOWN: i32 = 30;

/// Which invocations a list shows.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Filter {
    failed_only: bool,
    page_token: String,
    /// Text that a line of its log contains.
    search: String,
    /// Its id, or the caller's own.
    request_id: String,
    status: String,
    version: String,
    /// The time that it took at least, such as `200ms`.
    slower: String,
    /// The id of the key that called.
    key: String,
}

impl Filter {
    fn is_empty(&self) -> bool {
        [&self.search, &self.request_id, &self.status].into_iter().all(String::is_empty) && !self.has_more()
    }

    /// Whether anything is asked for that most do not ask for.
    fn has_more(&self) -> bool {
        [&self.version, &self.slower, &self.key].into_iter().any(|text| !text.is_empty())
    }

    /// What is asked for.
    fn request(&self, parent: String) -> Result<v1::ListInvocationsRequest, ApiError> {
        let Self { failed_only, page_token, search, request_id, status, version, slower, key } = self.clone();
        let number = version.trim().trim_start_matches('v');
        let version = if number.is_empty() { Ok(0) } else { number.parse() };
        let wrong = |_| ApiError::invalid("version", "version must be a number, such as 7");
        let slower = if slower.is_empty() { Ok(Duration::ZERO) } else { humantime::parse_duration(&slower) };
        let no_time = |_| ApiError::invalid("slower", "slower must be a time, such as 200ms or 1s");
        Ok(v1::ListInvocationsRequest {
            parent,
            page_size: SHOWN,
            page_token,
            failed_only,
            search,
            request_id,
            status,
            version: version.map_err(wrong)?,
            min_duration: slower.map(Some).map_err(no_time)?.filter(|time| !time.is_zero()).map(to_wire_duration),
            key,
            ..Default::default()
        })
    }

    /// The same list, by its address.
    fn query(&self, failed_only: bool, page_token: &str) -> String {
        let Self { search, request_id, status, version, slower, key, .. } = self;
        let failed = if failed_only { "true" } else { "" };
        let parts = [
            ("search", search.as_str()),
            ("request_id", request_id),
            ("status", status),
            ("version", version),
            ("slower", slower),
            ("key", key),
            ("failed_only", failed),
            ("page_token", page_token),
        ];
        let parts = parts.into_iter().filter(|(_, value)| !value.is_empty());
        parts.map(|(name, value)| format!("{name}={}", escaped(value))).collect::<Vec<_>>().join("&")
    }
}

#[derive(Debug, Template)]
#[template(path = "invocations.html")]
struct ListPage {
    shell: Shell,
    namespace: String,
    function: Option<String>,
    base: String,
    filter: Filter,
    other: String,
    error: Option<Problem>,
    unreachable: Vec<String>,
    /// From when on lines were searched, where not all were.
    searched_from: Option<String>,
    invocations: Vec<InvocationRow>,
    older: Option<String>,
}

/// Lists a namespace's.
pub(super) async fn of_namespace(
    State(app): State<App>,
    who: Visitor,
    Named(NamespaceRef { namespace }): Named<NamespaceRef>,
    filter: Result<Query<Filter>, QueryRejection>,
) -> Page {
    list(&app, who, namespace, None, filter.map_err(Fault::from)?.0).await
}

/// Lists a function's.
pub(super) async fn of_function(
    State(app): State<App>,
    who: Visitor,
    Named(FunctionRef { namespace, function }): Named<FunctionRef>,
    filter: Result<Query<Filter>, QueryRejection>,
) -> Page {
    list(&app, who, namespace, Some(function), filter.map_err(Fault::from)?.0).await
}

async fn list(
    app: &App,
    Visitor(who): Visitor,
    namespace: Namespace,
    function: Option<FunctionName>,
    filter: Filter,
) -> Page {
    must_exist(app, &who, &namespace).await?;
    let parent = match &function {
        None => format!("namespaces/{namespace}"),
        Some(function) => format!("namespaces/{namespace}/functions/{function}"),
    };
    let base = format!("/{parent}/invocations");
    let failed_only = filter.failed_only;
    // What somebody wrote into a field wrongly is said beside it.
    let (list, shell) = tokio::join!(
        async { app.invocation_list(&who, filter.request(parent)?).await },
        Shell::new(app, &who, Some(&namespace), Section::Invocations),
    );
    let (list, error) = match list {
        Err(error) if error.code == ErrorCode::InvalidArgument => (Default::default(), Some(Problem::from(&error))),
        list => (list?, None),
    };
    let list: InvocationList = list.into();
    if let Some(function) = function.as_ref().filter(|_| list.invocations.is_empty()) {
        must_have_been(app, &who, &namespace, function).await?;
    }
    let next = list.next_page_token;
    render(&ListPage {
        shell,
        namespace: namespace.to_string(),
        function: function.map(String::from),
        older: (!next.is_empty()).then(|| format!("{base}?{}", filter.query(failed_only, &next))),
        other: format!("{base}?{}", filter.query(!failed_only, "")),
        base,
        filter,
        error,
        unreachable: list.unreachable,
        searched_from: list.searched_from.map(|time| time.for_people()),
        invocations: InvocationRow::all(&list.invocations, SystemTime::now()),
    })
}

#[derive(Debug, Template)]
#[template(path = "invocation.html")]
struct InvocationPage {
    shell: Shell,
    namespace: String,
    function: String,
    id: String,
    short: String,
    version: u32,
    method: String,
    /// Its beginning.
    path: String,
    whole_path: String,
    time: Option<When>,
    status: u32,
    state: Badge,
    outcome: String,
    error: String,
    total: String,
    parts_of_time: Vec<Part>,
    facts: Vec<(&'static str, String)>,
    worker: String,
    request_id: String,
    steps: Vec<StepRow>,
    backtrace: Vec<String>,
    advice: String,
    unreachable: Vec<String>,
    lines: Vec<LineRow>,
}

/// A step of its timeline.
#[derive(Debug)]
pub(super) struct StepRow {
    pub(super) at: String,
    pub(super) stage: String,
    pub(super) text: String,
    pub(super) class: &'static str,
}

impl From<Step> for StepRow {
    fn from(step: Step) -> Self {
        let class = match step.stage.as_str() {
            "failed" | "refused" => "bad",
            "log" => "line",
            _ => "",
        };
        Self { at: format!("+{}", format::micros(step.at_us)), stage: step.stage, text: visible(&step.text), class }
    }
}

/// Shows one.
pub(super) async fn page(State(app): State<App>, Visitor(who): Visitor, Named(name): Named<InvocationName>) -> Page {
    let id = name.id.to_string();
    let (found, shell) = tokio::join!(
        app.invocation_explained(&who, &name),
        Shell::new(&app, &who, Some(&name.namespace), Section::Invocations),
    );
    let (found, lines) = found?;
    let mut explanation = Explanation::from(found);
    let call = match explanation.invocation.take() {
        Some(call) if call.name == name.to_string() => call,
        other => {
            let explanation = Explanation { invocation: other, ..explanation };
            return why::shown(shell, &name.namespace, &id, explanation);
        }
    };
    let lines = lines.into_iter().map(LogLine::from).collect();
    render(&InvocationPage {
        shell,
        namespace: name.namespace.to_string(),
        function: call.function.clone(),
        short: id.rsplit('-').next().unwrap_or_default().to_owned(),
        id,
        version: call.version,
        time: call.start_time.map(|time| When::new(time, SystemTime::now())),
        status: call.status,
        state: Badge::outcome(&call),
        total: format::micros(call.total_us()),
        parts_of_time: timeline(&call),
        facts: facts(&call),
        steps: explanation.steps.into_iter().map(StepRow::from).collect(),
        backtrace: explanation.backtrace.iter().map(|frame| visible(frame)).collect(),
        advice: explanation.advice,
        unreachable: explanation.unreachable,
        lines: LineRow::all(name.namespace.as_str(), lines),
        method: call.method,
        path: short(&call.path),
        whole_path: call.path,
        outcome: call.outcome,
        error: visible(call.error.split(FRAME).next().unwrap_or_default()),
        worker: call.worker,
        request_id: call.request_id,
    })
}

fn facts(call: &Invocation) -> Vec<(&'static str, String)> {
    let receipt = &call.receipt;
    vec![
        ("CPU time of the guest", format::micros(receipt.cpu_us)),
        ("Most memory", format::bytes(receipt.peak_memory_bytes)),
        ("Bytes in", format::bytes(receipt.bytes_in)),
        ("Bytes out", format::bytes(receipt.bytes_out)),
        ("Sandbox used before", if receipt.reused { "yes" } else { "no" }.to_owned()),
        ("Calls of the host", receipt.host_calls.to_string()),
        ("Outbound requests", receipt.outbound_requests.to_string()),
        ("Caller's address", call.remote_address.clone()),
        ("Trace", call.trace_id.clone()),
        ("Gateway", call.gateway.clone()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_asks_for_what_its_fields_say_and_names_the_field_that_is_wrong() {
        let filter =
            Filter { version: "v7".into(), slower: "200ms".into(), key: "abcDEF123456".into(), ..Filter::default() };
        let asked = filter.request("namespaces/shop".to_owned()).unwrap();
        assert_eq!(
            (asked.version, asked.min_duration.unwrap().nanos, asked.key.as_str()),
            (7, 200_000_000, "abcDEF123456")
        );
        assert_eq!(filter.query(false, ""), "version=v7&slower=200ms&key=abcDEF123456");
        assert!(filter.has_more() && !filter.is_empty() && Filter::default().is_empty());
        let asked = Filter::default().request("namespaces/shop".to_owned()).unwrap();
        assert_eq!((asked.version, asked.min_duration), (0, None));
        for (field, filter) in [
            ("version", Filter { version: "seven".into(), ..Filter::default() }),
            ("slower", Filter { slower: "slow".into(), ..Filter::default() }),
        ] {
            assert_eq!(filter.request(String::new()).unwrap_err().field.as_deref(), Some(field));
        }
    }
}
