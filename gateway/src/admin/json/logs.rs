//! Logs as JSON: what there is as a list, what comes as Server-Sent Events.
//!
//! An event `line` carries a line as in the list, `gap` says that lines are missing, `unreachable` has the name of a worker that
//! did not answer, and `failed` an error after which nothing follows. The id of an event is the cursor that goes on after it.

use std::{convert::Infallible, time::Duration};

use axum::{
    extract::State,
    response::sse::{Event, KeepAlive, Sse},
};
use dunlin_proto::{
    ApiError,
    names::{FunctionRef, NamespaceRef},
    v1::{self, read_logs_response},
};
use futures::{Stream, StreamExt, TryStreamExt};
use http::HeaderMap;
use serde::Deserialize;
use utoipa::IntoParams;

use super::{conditional::Tagged, doc::Refused, invocations::version};
use crate::admin::{
    app::App,
    fault::Fault,
    model::{LogGap, LogLine, LogList, Time},
    params::{FunctionIds, Named, NamespaceIds, Query, at_most, visible},
    session::Caller,
};

/// Which lines.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Filter {
    /// The last so many, from 1 to 10,000; default 100.
    #[param(minimum = 1, maximum = 10_000, default = 100)]
    lines: Option<u16>,
    /// Only lines from this time on (RFC 3339).
    #[param(value_type = Option<String>, format = "date-time")]
    since: Option<String>,
    /// Only lines of the invocation with this id, or whose caller's `X-Request-Id` this is.
    #[param(max_length = 128, pattern = "^[!-~]*$")]
    request_id: Option<String>,
    /// Only lines that contain this text.
    #[param(max_length = 256)]
    search: Option<String>,
    /// Only lines of this version.
    #[param(minimum = 1, maximum = 4_294_967_295_u32)]
    version: Option<u32>,
    /// Only lines of calls with this status, such as `404`, or of this class, such as `5xx`, as far as they are recorded. Where that is
    /// followed, lines of a call come once it has ended.
    #[param(pattern = "^([1-5][0-9][0-9]|[1-5]xx|0)$", example = "5xx")]
    status: Option<String>,
    /// Only lines that this worker wrote.
    #[param(max_length = 128, pattern = "^[!-~]*$")]
    worker: Option<String>,
    /// Goes on after the answer that this was the `cursor` of: `lines` is then how many come at the most, the oldest first. A URL
    /// has room for those of some 200 workers; gRPC takes longer ones.
    #[param(max_length = 12_000, pattern = "^[A-Za-z0-9_-]*$")]
    cursor: Option<String>,
}

impl Filter {
    fn into_message(self, parent: String, follow: bool) -> Result<v1::ReadLogsRequest, ApiError> {
        if self.lines == Some(0) {
            return Err(ApiError::invalid("lines", "lines is 0 but must lie between 1 and 10000"));
        }
        let since = self.since.map(|text| moment(&text)).transpose()?;
        Ok(v1::ReadLogsRequest {
            parent,
            follow,
            since: since.map(prost_types::Timestamp::from),
            lines: self.lines.unwrap_or_default().into(),
            request_id: visible("request_id", self.request_id)?,
            search: at_most("search", self.search, 256)?,
            version: version(self.version)?,
            worker: visible("worker", self.worker)?,
            status: visible("status", self.status)?,
            cursor: at_most("cursor", self.cursor, 12_000)?,
        })
    }
}

/// Reads a time with any offset.
pub(super) fn moment(text: &str) -> Result<Time, ApiError> {
    let wrong = |_| ApiError::invalid("since", "since must be a time such as 2026-11-23T16:00:35Z");
    text.parse::<prost_types::Timestamp>().map(Time::from).map_err(wrong)
}

/// The lines that there are.
pub(in crate::admin) async fn collect(
    app: &App,
    who: &Caller,
    request: v1::ReadLogsRequest,
) -> Result<LogList, ApiError> {
    let mut events = app.log_read(&who.0, request).await?;
    let mut list = LogList::default();
    while let Some(response) = events.try_next().await? {
        if !response.cursor.is_empty() {
            list.cursor = response.cursor;
        }
        match response.event {
            Some(read_logs_response::Event::Line(line)) => list.lines.push(line.into()),
            Some(read_logs_response::Event::Gap(gap)) => list.gaps.push(LogGap::new(gap, list.lines.len())),
            Some(read_logs_response::Event::UnreachableWorker(worker)) => list.unreachable.push(worker),
            None => {}
        }
    }
    Ok(list)
}

/// Reads the last log lines of a namespace, the oldest first.
#[utoipa::path(
    get,
    path = "/namespaces/{namespace}/logs",
    tag = "logs",
    params(NamespaceIds, Filter),
    responses((status = 200, body = LogList, description = "Log lines"), Refused),
)]
pub(super) async fn read_namespace_logs(
    State(app): State<App>,
    who: Caller,
    Named(parent): Named<NamespaceRef>,
    Query(filter): Query<Filter>,
) -> Result<Tagged<LogList>, Fault> {
    let list = collect(&app, &who, filter.into_message(parent.to_string(), false)?).await?;
    Ok(Tagged::without(list, |list| list.cursor.clear()))
}

/// Reads the last log lines of a function, the oldest first.
#[utoipa::path(
    get,
    path = "/namespaces/{namespace}/functions/{function}/logs",
    tag = "logs",
    params(FunctionIds, Filter),
    responses((status = 200, body = LogList, description = "Log lines"), Refused),
)]
pub(super) async fn read_function_logs(
    State(app): State<App>,
    who: Caller,
    Named(parent): Named<FunctionRef>,
    Query(filter): Query<Filter>,
) -> Result<Tagged<LogList>, Fault> {
    let list = collect(&app, &who, filter.into_message(parent.to_string(), false)?).await?;
    Ok(Tagged::without(list, |list| list.cursor.clear()))
}

type Events = Sse<axum::response::sse::KeepAliveStream<futures::stream::BoxStream<'static, Result<Event, Infallible>>>>;

async fn follow(
    app: &App,
    who: &Caller,
    headers: &HeaderMap,
    mut request: v1::ReadLogsRequest,
) -> Result<Events, Fault> {
    // A browser that connects again says what it had last.
    if let Some(last) = headers.get("last-event-id").and_then(|id| id.to_str().ok()).filter(|id| !id.is_empty()) {
        last.clone_into(&mut request.cursor);
    }
    let events = app.log_read(&who.0, request).await?;
    let ended = app.context().shutdown.clone();
    let until = async move { ended.begun().await };
    let events = written(events).take_until(Box::pin(until)).boxed();
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(Duration::from_secs(15))))
}

fn written(
    events: impl Stream<Item = Result<v1::ReadLogsResponse, ApiError>>,
) -> impl Stream<Item = Result<Event, Infallible>> {
    events.filter_map(|event| async move {
        let (event, cursor) = match event {
            Ok(v1::ReadLogsResponse { event: None, .. }) => return None,
            Ok(v1::ReadLogsResponse { event: Some(event), cursor }) => (told(event)?, cursor),
            Err(error) => (Event::default().event("failed").json_data(error.message).ok()?, String::new()),
        };
        Some(Ok(if cursor.is_empty() { event } else { event.id(cursor) }))
    })
}

fn told(event: read_logs_response::Event) -> Option<Event> {
    let named = |name| Event::default().event(name);
    match event {
        read_logs_response::Event::Line(line) => named("line").json_data(LogLine::from(line)),
        read_logs_response::Event::Gap(gap) => named("gap").json_data(LogGap::new(gap, 0)),
        read_logs_response::Event::UnreachableWorker(worker) => named("unreachable").json_data(worker),
    }
    .ok()
}

/// Follows the log of a namespace, as Server-Sent Events without an end: `line`, `gap`, `unreachable` and `failed`.
#[utoipa::path(
    get,
    path = "/namespaces/{namespace}/logs/stream",
    tag = "logs",
    params(NamespaceIds, Filter),
    responses((status = 200, body = String, content_type = "text/event-stream", description = "Events"), Refused),
)]
pub(super) async fn stream_namespace_logs(
    State(app): State<App>,
    who: Caller,
    Named(parent): Named<NamespaceRef>,
    Query(filter): Query<Filter>,
    headers: HeaderMap,
) -> Result<Events, Fault> {
    follow(&app, &who, &headers, filter.into_message(parent.to_string(), true)?).await
}

/// Follows the log of a function, as Server-Sent Events without an end: `line`, `gap`, `unreachable` and `failed`.
#[utoipa::path(
    get,
    path = "/namespaces/{namespace}/functions/{function}/logs/stream",
    tag = "logs",
    params(FunctionIds, Filter),
    responses((status = 200, body = String, content_type = "text/event-stream", description = "Events"), Refused),
)]
pub(super) async fn stream_function_logs(
    State(app): State<App>,
    who: Caller,
    Named(parent): Named<FunctionRef>,
    Query(filter): Query<Filter>,
    headers: HeaderMap,
) -> Result<Events, Fault> {
    follow(&app, &who, &headers, filter.into_message(parent.to_string(), true)?).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_may_have_any_offset() {
        let plain = moment("2026-11-23T16:00:35Z").unwrap();
        assert_eq!(moment("2026-11-23T18:00:35+02:00").unwrap(), plain);
        assert!(moment("yesterday").is_err() && moment("").is_err());
    }
}
