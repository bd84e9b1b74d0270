//! The spans of an invocation, from its record: a pure function. Names and attributes are those of OpenTelemetry's semantic
//! conventions for HTTP servers and FaaS where there are any, otherwise they begin with `dunlin.`.
//!
//! Queries, credentials and callers' addresses are in no span. Every text is cut.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::Version;

use super::head;
use crate::{
    dispatch::wire::FRAME,
    records::{Caller, Phase, Phases, Record},
};

/// Texts in attributes and descriptions are no longer, in bytes.
const MAX_TEXT: usize = 256;

/// Whose part of the invocation it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    Gateway,
    /// The worker with this name.
    Worker(String),
}

/// What an attribute says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    Number(u64),
    Truth(bool),
}

/// A part of an invocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) trace: u128,
    pub(super) id: u64,
    /// What it is a part of; 0 where there is nothing.
    pub(super) parent: u64,
    pub(super) name: String,
    pub(super) place: Place,
    pub(super) start: SystemTime,
    pub(super) end: SystemTime,
    pub(super) attributes: Vec<(&'static str, Value)>,
    /// What went wrong.
    pub(super) error: Option<String>,
    /// When other workers had been asked in vain.
    pub(super) retried: Option<SystemTime>,
    /// It answers the caller.
    pub(super) is_root: bool,
    /// What the caller's tracing systems say of the trace.
    pub(super) state: Option<Arc<str>>,
}

/// The number of the first of the spans for what the gateway does before it looks for a worker; the others have smaller ones.
pub(super) const FIRST_PHASE: u64 = 16;

/// The spans of an invocation: the gateway's, which answers the caller, and its parts in the order of time.
pub(super) fn of(record: &Record) -> Vec<Span> {
    stated(parts(record), record.came.traced.state.as_ref())
}

/// Spans with what the caller's tracing systems say of their trace.
pub(super) fn stated(mut spans: Vec<Span>, state: Option<&Arc<str>>) -> Vec<Span> {
    if state.is_some() {
        spans.iter_mut().for_each(|span| span.state = state.cloned());
    }
    spans
}

fn parts(record: &Record) -> Vec<Span> {
    let mut spans = vec![root(record)];
    spans.extend(in_gateway(record));
    if record.receipt.gateway_queue.is_zero() {
        return spans;
    }
    let (queued, sent) = (over(record), record.receipt.gateway_queue);
    spans.push(part(record, 1, "queue", (queued, sent.saturating_sub(queued))));
    if !record.worker.is_empty() && !record.receipt.run.is_zero() {
        spans.extend(on_worker(record));
    }
    spans
}

fn root(record: &Record) -> Span {
    let traced = &record.came.traced;
    Span {
        trace: record.came.trace,
        id: traced.span,
        parent: traced.parent,
        name: name(record),
        place: Place::Gateway,
        start: record.start_time,
        end: after(record, record.lasted()),
        attributes: attributes(record),
        error: head::failed(record).then(|| description(&record.error)),
        is_root: true,
        state: None,
        retried: (record.came.tries > 1).then(|| after(record, record.receipt.gateway_queue)),
    }
}

/// When the gateway began to look for a worker.
fn over(record: &Record) -> Duration {
    record.came.traced.phases.as_ref().map(|phases| phases.over()).unwrap_or_default()
}

/// What the gateway did before that, where it is known.
fn in_gateway(record: &Record) -> Vec<Span> {
    let Some(phases) = &record.came.traced.phases else { return Vec::new() };
    let numbered = (FIRST_PHASE..).zip(phases.parts());
    let span = |(number, (phase, from, to)): (u64, (Phase, Duration, Duration))| Span {
        attributes: of_phase(record, phases, phase),
        ..part(record, number, phase.as_str(), (from, to - from))
    };
    numbered.map(span).collect()
}

fn of_phase(record: &Record, phases: &Phases, phase: Phase) -> Vec<(&'static str, Value)> {
    let said = match phase {
        Phase::Route => record.came.traced.route.as_deref().map(|path| ("http.route", cut(path))),
        Phase::Authenticate => by(&record.came.caller),
        Phase::Cache => phases.cached.map(|found| ("dunlin.cache", found.to_owned())),
        Phase::Limits | Phase::Validate | Phase::Admit => None,
    };
    said.map(|(name, text)| (name, Value::Text(text))).into_iter().collect()
}

/// By what a caller was let in, never who it is.
pub(super) fn by(caller: &Caller) -> Option<(&'static str, String)> {
    match caller {
        Caller::Anybody => None,
        Caller::Key(_) => Some(("dunlin.credential", "key".to_owned())),
        Caller::Token(_) => Some(("dunlin.credential", "token".to_owned())),
        Caller::Authorized { by, .. } => Some(("dunlin.authorizer", by.to_string())),
    }
}

/// A method of the convention's closed list, so that no caller makes new names.
pub(super) fn method(sent: &str) -> Option<&'static str> {
    let known = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "CONNECT", "TRACE", "QUERY"];
    known.into_iter().find(|known| *known == sent)
}

/// The method and whatever has few values: the route's path, otherwise the function.
fn name(record: &Record) -> String {
    let method = method(&record.method).unwrap_or("HTTP");
    match &record.came.traced.route {
        Some(path) => format!("{method} {path}"),
        None => format!("{method} {}", record.function.function.as_str()),
    }
}

fn attributes(record: &Record) -> Vec<(&'static str, Value)> {
    let text = |text: &str| Value::Text(cut(text));
    let traced = &record.came.traced;
    let mut attributes = vec![
        ("http.request.method", text(method(&record.method).unwrap_or("_OTHER"))),
        ("url.path", text(&record.path)),
        ("url.scheme", text(if traced.secure { "https" } else { "http" })),
        ("network.protocol.version", text(protocol(traced.protocol))),
        ("faas.name", Value::Text(cut(&record.function.to_string()))),
        ("faas.version", Value::Text(record.version.to_string())),
        ("faas.invocation_id", Value::Text(record.id.to_string())),
        ("faas.trigger", text("http")),
        ("faas.coldstart", Value::Truth(is_cold(record))),
        ("dunlin.gateway", text(record.gateway.as_str())),
        ("dunlin.outcome", text(&record.outcome)),
        ("dunlin.tries", Value::Number(record.came.tries.into())),
    ];
    attributes.extend(traced.route.as_deref().map(|path| ("http.route", text(path))));
    attributes.extend((record.status > 0).then(|| ("http.response.status_code", Value::Number(record.status.into()))));
    let code = if record.has_error() { record.outcome.to_string() } else { record.status.to_string() };
    attributes.extend(head::failed(record).then_some(("error.type", Value::Text(code))));
    attributes
}

/// Whether something had to be made for it.
fn is_cold(record: &Record) -> bool {
    let receipt = &record.receipt;
    [receipt.fetch, receipt.load, receipt.start].iter().any(|took| !took.is_zero())
}

pub(super) fn protocol(major: u8) -> &'static str {
    match major {
        2 => "2",
        0 => "1.0",
        _ => "1.1",
    }
}

/// A version of HTTP as records have it.
pub(crate) fn protocol_of(version: Version) -> u8 {
    match version {
        Version::HTTP_2 => 2,
        Version::HTTP_11 => 1,
        _ => 0,
    }
}

/// What the worker did, one after the other. What took no time is no span.
fn on_worker(record: &Record) -> Vec<Span> {
    let receipt = &record.receipt;
    let waiting = receipt.queue.saturating_sub(receipt.gateway_queue + receipt.fetch + receipt.load);
    let phases = [
        ("fetch", receipt.fetch),
        ("load", receipt.load),
        ("wait", waiting),
        ("sandbox", receipt.start),
        ("run", receipt.run),
    ];
    let whole = phases.iter().map(|(_, took)| *took).sum::<Duration>();
    let invoke = Span {
        place: Place::Worker(record.worker.to_string()),
        attributes: vec![("faas.coldstart", Value::Truth(is_cold(record)))],
        ..part(record, 2, "invoke", (receipt.gateway_queue, whole))
    };
    let (mut at, above) = (receipt.gateway_queue, invoke.id);
    let mut spans = vec![invoke];
    for (number, (name, took)) in (3..).zip(phases) {
        if !took.is_zero() {
            let place = Place::Worker(record.worker.to_string());
            spans.push(Span { parent: above, place, ..part(record, number, name, (at, took)) });
        }
        at += took;
    }
    if let Some(run) = spans.last_mut() {
        run.attributes = used(record);
    }
    spans
}

/// What the guest used.
fn used(record: &Record) -> Vec<(&'static str, Value)> {
    let receipt = &record.receipt;
    let cpu = u64::try_from(receipt.cpu.as_nanos()).unwrap_or(u64::MAX);
    vec![
        ("dunlin.cpu_time_ns", Value::Number(cpu)),
        ("dunlin.peak_memory_bytes", Value::Number(receipt.peak_memory_bytes)),
        ("dunlin.host_calls", Value::Number(receipt.host_calls)),
        ("dunlin.outbound_requests", Value::Number(receipt.outbound_requests.into())),
        ("dunlin.sandbox_reused", Value::Truth(receipt.reused)),
    ]
}

/// A part of the root, from a time after its beginning on.
fn part(record: &Record, number: u64, name: &str, within: (Duration, Duration)) -> Span {
    piece((record.came.trace, record.came.traced.span, record.start_time), number, name, within)
}

/// A part of a root in a trace, which began then: from a time after its beginning on, for so long.
pub(super) fn piece(
    (trace, root, began): (u128, u64, SystemTime),
    number: u64,
    name: &str,
    (at, took): (Duration, Duration),
) -> Span {
    Span {
        trace,
        id: derived(root, number),
        parent: root,
        name: name.to_owned(),
        place: Place::Gateway,
        start: began.checked_add(at).unwrap_or(began),
        end: began.checked_add(at + took).unwrap_or(began),
        attributes: Vec::new(),
        error: None,
        retried: None,
        is_root: false,
        state: None,
    }
}

/// An id that follows from the root's, so that nothing has to be remembered: the output of `SplitMix64`, a bijection.
fn derived(root: u64, number: u64) -> u64 {
    let mut mixed = root.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ (mixed >> 31)).max(1)
}

fn after(record: &Record, time: Duration) -> SystemTime {
    record.start_time.checked_add(time).unwrap_or(record.start_time)
}

/// What went wrong, without a backtrace.
pub(super) fn description(error: &str) -> String {
    cut(error.split(FRAME).next().unwrap_or_default())
}

pub(super) fn cut(text: &str) -> String {
    text.get(..text.floor_char_boundary(MAX_TEXT)).unwrap_or_default().to_owned()
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeSet;

    use dunlin_proto::ids::{InvocationId, VersionNumber};

    use super::*;
    use crate::records::{Came, Receipt, Traced};

    fn micros(count: u64) -> Duration {
        Duration::from_micros(count)
    }

    /// A cold call.
    pub(in crate::traces) fn record() -> Record {
        let traced = Traced { span: 7, parent: 9, route: Some("/users/{id}".into()), protocol: 1, ..Traced::default() };
        Record {
            id: InvocationId::new(),
            function: "namespaces/shop/functions/pay".parse().unwrap(),
            version: VersionNumber::FIRST,
            start_time: SystemTime::UNIX_EPOCH,
            method: "GET".into(),
            path: "/users/3".into(),
            status: 200,
            gateway: "gateway".parse().unwrap(),
            worker: "w".into(),
            outcome: "ok".into(),
            error: String::new(),
            receipt: Receipt {
                queue: micros(750),
                gateway_queue: micros(100),
                fetch: micros(400),
                load: micros(200),
                start: micros(30),
                run: micros(1_000),
                ..Receipt::default()
            },
            request_id: String::new(),
            weight: 1,
            hint: String::new(),
            came: Came { trace: 5, tries: 2, traced, ..Came::default() },
        }
    }

    /// Name, depth, and the microseconds from where to where.
    fn told(record: &Record) -> Vec<(String, u64, u128, u128)> {
        let spans = of(record);
        let since = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_micros();
        let name = |id: u64| spans.iter().position(|span| span.id == id).map_or(99, |place| place as u64);
        spans.iter().map(|span| (span.name.clone(), name(span.parent), since(span.start), since(span.end))).collect()
    }

    #[test]
    fn a_cold_call_is_a_tree_without_gaps() {
        let expected = [
            ("GET /users/{id}", 99, 0, 1_780),
            ("queue", 0, 0, 100),
            ("invoke", 0, 100, 1_780),
            ("fetch", 2, 100, 500),
            ("load", 2, 500, 700),
            ("wait", 2, 700, 750),
            ("sandbox", 2, 750, 780),
            ("run", 2, 780, 1_780),
        ];
        assert_eq!(told(&record()), expected.map(|(name, above, from, to)| (name.to_owned(), above, from, to)));
        let ids: BTreeSet<_> = of(&record()).iter().map(|span| span.id).collect();
        assert_eq!(ids.len(), expected.len());
    }

    #[test]
    fn a_call_that_no_worker_answered_lasts_until_its_end() {
        let mut record = record();
        record.receipt = Receipt { queue: micros(100), gateway_queue: micros(100), ..Receipt::default() };
        (record.came.traced.lasted, record.outcome) = (micros(5_000), "worker_lost".into());
        (record.status, record.error) = (502, format!("the worker is gone{FRAME}main"));
        let expected = [("GET /users/{id}", 99, 0, 5_000), ("queue", 0, 0, 100)];
        assert_eq!(told(&record), expected.map(|(name, above, from, to)| (name.to_owned(), above, from, to)));
        let spans = of(&record);
        let root = spans.first().unwrap();
        assert_eq!(root.error.as_deref(), Some("the worker is gone"));
        assert!(root.attributes.contains(&("error.type", Value::Text("worker_lost".into()))));
    }

    #[test]
    fn what_the_gateway_did_comes_before_the_queue() {
        let mut record = record();
        let mut phases = Phases::default();
        phases.cached = Some("miss");
        for (phase, at) in [(Phase::Route, 10), (Phase::Authenticate, 40), (Phase::Limits, 50), (Phase::Cache, 60)] {
            phases.end(phase, micros(at));
        }
        record.came.caller = Caller::Authorized { by: "guard".parse().unwrap(), subject: Some("zoe".to_owned()) };
        record.came.traced.phases = Some(Box::new(phases));
        let expected = [
            ("route", 0, 0, 10),
            ("authenticate", 0, 10, 40),
            ("limits", 0, 40, 50),
            ("cache", 0, 50, 60),
            ("queue", 0, 60, 100),
        ];
        assert_eq!(told(&record)[1..6], expected.map(|(name, above, from, to)| (name.to_owned(), above, from, to)));
        let spans = of(&record);
        let ids: BTreeSet<_> = spans.iter().map(|span| span.id).collect();
        assert_eq!(ids.len(), spans.len());
        let said: Vec<_> = spans[1..5].iter().flat_map(|span| span.attributes.clone()).collect();
        let text = |text: &str| Value::Text(text.to_owned());
        let expected =
            [("http.route", text("/users/{id}")), ("dunlin.authorizer", text("guard")), ("dunlin.cache", text("miss"))];
        assert_eq!(said, expected, "and nobody's name");
    }

    #[test]
    fn a_call_that_a_stored_answer_was_for_has_no_parts_beyond_its_gateway() {
        let mut record = record();
        let mut phases = Phases::default();
        phases.cached = Some("hit");
        for (phase, at) in [(Phase::Route, 10), (Phase::Limits, 20), (Phase::Cache, 30)] {
            phases.end(phase, micros(at));
        }
        (record.receipt, record.worker, record.came.tries) = (Receipt::default(), "".into(), 0);
        (record.came.traced.phases, record.came.traced.lasted) = (Some(Box::new(phases)), micros(40));
        let expected =
            [("GET /users/{id}", 99, 0, 40), ("route", 0, 0, 10), ("limits", 0, 10, 20), ("cache", 0, 20, 30)];
        assert_eq!(told(&record), expected.map(|(name, above, from, to)| (name.to_owned(), above, from, to)));
        assert_eq!(of(&record)[0].error, None);
    }

    #[test]
    fn what_callers_write_makes_no_names_and_no_long_texts() {
        let mut record = record();
        (record.method, record.path, record.came.traced.route) = ("<script>".into(), "ü".repeat(4_000), None);
        let spans = of(&record);
        let root = spans.first().unwrap();
        assert_eq!(root.name, "HTTP pay");
        for (name, value) in &root.attributes {
            assert!(!matches!(value, Value::Text(text) if text.len() > MAX_TEXT), "{name}");
        }
        assert!(root.attributes.contains(&("http.request.method", Value::Text("_OTHER".to_owned()))));
    }
}
