//! The steps of a request in the order of time, from its record and its log lines. Pure: times are those of the record, from
//! the request's acceptance on; those of log lines come from the worker's clock.

use std::time::{Duration, SystemTime};

use dunlin_proto::{
    model::{from_wire_duration, to_wire_duration},
    v1,
};

use crate::admin::{
    model::id_in,
    pages::{bytes, micros, short},
};

/// A step that is a moment, or one that takes time.
fn step(stage: &str, at: Duration, took: Option<Duration>, text: String) -> v1::ExplanationStep {
    let (at, took) = (Some(to_wire_duration(at)), took.map(to_wire_duration));
    v1::ExplanationStep { at, took, stage: stage.to_owned(), text }
}

/// A duration for people.
pub(super) fn words(duration: Duration) -> String {
    micros(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
}

/// From acceptance to the end of the answer.
pub(super) fn total(record: &v1::Invocation) -> Duration {
    let receipt = record.receipt.unwrap_or_default();
    let accounted: Duration = [receipt.queue, receipt.start, receipt.run].into_iter().map(from_wire_duration).sum();
    accounted.max(from_wire_duration(record.lasted))
}

/// The steps of a request; `error` is what went wrong, without a backtrace.
pub(super) fn of(record: &v1::Invocation, error: &str, lines: &[v1::LogLine]) -> Vec<v1::ExplanationStep> {
    let mut steps = begun(record);
    if record.refused {
        let text = format!("with {} {}: {error}", record.status, record.outcome);
        steps.push(step("refused", total(record), None, text));
        return steps;
    }
    steps.push(step("limits", Duration::ZERO, None, "none was reached".to_owned()));
    steps.extend(placed(record));
    steps.extend(ran(record));
    steps.extend(written(record, lines));
    steps.extend(ended(record, error));
    // Sorting is stable: what is at the same time stays as it is here.
    steps.sort_by_key(|step| from_wire_duration(step.at));
    steps
}

/// What the gateway did before it looked for a worker.
fn begun(record: &v1::Invocation) -> Vec<v1::ExplanationStep> {
    let v1::Invocation { method, path, gateway, remote_address, .. } = record;
    let from = if remote_address.is_empty() { String::new() } else { format!(" from {remote_address}") };
    let accepted = format!("{method} {}{from}, by gateway {gateway}", short(path));
    let function = id_in(&record.name, "functions");
    let route = match (record.route.as_str(), function) {
        ("", "") => None,
        ("", function) => Some(format!("the automatic address of {function}")),
        (route, "") => Some(format!("route {route}")),
        (route, function) => Some(format!("route {route}, to {function}")),
    };
    let moment = |stage, text| step(stage, Duration::ZERO, None, text);
    let route = route.map(|text| moment("route", text));
    [moment("accepted", accepted)]
        .into_iter()
        .chain(route)
        .chain(caller(record).map(|text| moment("caller", text)))
        .collect()
}

/// Who called; nothing where it was refused before that was known.
fn caller(record: &v1::Invocation) -> Option<String> {
    let Some(v1::InvocationCaller { key, issuer, subject, authorizer }) = &record.caller else {
        return (!record.refused).then(|| "anybody may call it".to_owned());
    };
    Some(match (key.as_str(), authorizer.as_str()) {
        ("", "") => format!("a token of {issuer} for {subject}"),
        ("", by) if subject.is_empty() => format!("let in by the authorizer {by}"),
        ("", by) => format!("let in by the authorizer {by} as {subject}"),
        (key, _) => format!("key {key}"),
    })
}

/// How it came to a worker.
fn placed(record: &v1::Invocation) -> Vec<v1::ExplanationStep> {
    let receipt = record.receipt.unwrap_or_default();
    let waited = from_wire_duration(receipt.gateway_queue);
    if record.worker.is_empty() {
        return vec![nowhere(total(record))];
    }
    let waiting = (waited >= Duration::from_millis(1)).then(|| {
        step("waiting", Duration::ZERO, Some(waited), format!("{} in the gateway for a worker", words(waited)))
    });
    let why = match record.worker_choice() {
        v1::WorkerChoice::Unspecified => String::new(),
        v1::WorkerChoice::Ready => ": it had the version ready".to_owned(),
        v1::WorkerChoice::Standby => ": the version ran nowhere, and this worker had its code on disk".to_owned(),
    };
    let tries = match record.tries {
        0 | 1 => String::new(),
        tries => format!("; {} asked before took it not", tries - 1),
    };
    let place = if record.endpoint.is_empty() { &record.worker } else { &record.endpoint };
    waiting.into_iter().chain([step("worker", waited, None, format!("{place}{why}{tries}"))]).collect()
}

/// No worker took it within this time.
fn nowhere(waited: Duration) -> v1::ExplanationStep {
    if waited < Duration::from_millis(1) {
        return step("waiting", Duration::ZERO, None, "no worker took it".to_owned());
    }
    let text = format!("{} in the gateway, and no worker took it", words(waited));
    step("waiting", Duration::ZERO, Some(waited), text)
}

/// What the worker did for it.
fn ran(record: &v1::Invocation) -> Vec<v1::ExplanationStep> {
    let receipt = record.receipt.unwrap_or_default();
    let [queue, gateway, fetch, load, start, run, cpu] =
        [receipt.queue, receipt.gateway_queue, receipt.fetch, receipt.load, receipt.start, receipt.run, receipt.cpu]
            .map(from_wire_duration);
    if record.worker.is_empty() || run.is_zero() {
        return Vec::new();
    }
    let mut at = gateway;
    let mut steps = Vec::new();
    let mut spend = |stage, took: Duration, least: Duration, what: &str| {
        if took >= least {
            steps.push(step(stage, at, Some(took), format!("{} {what}", words(took))));
        }
        at += took;
    };
    let (some, least) = (Duration::from_nanos(1), Duration::from_micros(100));
    let waiting = queue.saturating_sub(gateway + fetch + load);
    spend("fetch", fetch, some, "to have the code on the worker, checked");
    spend("load", load, some, "to load it");
    spend("queue", waiting, least, "on the worker for its turn");
    spend("sandbox", start, some, "to make a sandbox");
    if start.is_zero() {
        let text = if receipt.reused { "one that had served a call before" } else { "one stood ready" };
        steps.push(step("sandbox", at, None, text.to_owned()));
    }
    let host_calls = some_of(receipt.host_calls, "host call");
    let outbound = some_of(receipt.outbound_requests.into(), "outbound request");
    let used = format!("{}, CPU {}, memory {}", words(run), words(cpu), bytes(receipt.peak_memory_bytes));
    steps.push(step("run", at, Some(run), format!("{used}{host_calls}{outbound}")));
    steps
}

/// So many of them, behind a comma; nothing where there were none.
fn some_of(count: u64, what: &str) -> String {
    match count {
        0 => String::new(),
        1 => format!(", 1 {what}"),
        count => format!(", {count} {what}s"),
    }
}

/// What the guest wrote.
fn written(record: &v1::Invocation, lines: &[v1::LogLine]) -> Vec<v1::ExplanationStep> {
    let began = record.start_time.and_then(|time| SystemTime::try_from(time).ok());
    let receipt = record.receipt.unwrap_or_default();
    let earliest = from_wire_duration(receipt.queue) + from_wire_duration(receipt.start);
    // Clocks differ; a line is at no other time than its guest ran.
    let at = |line: &v1::LogLine| {
        let time = line.time.and_then(|time| SystemTime::try_from(time).ok());
        let since = time.zip(began).and_then(|(time, began)| time.duration_since(began).ok()).unwrap_or_default();
        since.clamp(earliest, total(record).max(earliest))
    };
    lines.iter().map(|line| step("log", at(line), None, line.text.clone())).collect()
}

/// How it ended.
fn ended(record: &v1::Invocation, error: &str) -> Vec<v1::ExplanationStep> {
    let end = total(record);
    let failed = (record.outcome != "ok").then(|| step("failed", end, None, format!("{}: {error}", record.outcome)));
    let sent = bytes(record.receipt.unwrap_or_default().bytes_out);
    let answer = match (record.status, record.outcome.as_str()) {
        (0, _) => "the caller left before there was one".to_owned(),
        (status, "ok") => format!("{status}, {sent}"),
        (status, _) => status.to_string(),
    };
    failed.into_iter().chain([step("answer", end, None, answer)]).collect()
}
