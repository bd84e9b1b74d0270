//! What became of a request, in words: a pure function of its record and its log lines, for the command, the page and
//! programs alike. What is known is gathered in `app/why.rs`; the steps are made in `explain/steps.rs`, advice in
//! `explain/advice.rs`.

mod advice;
mod steps;

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use dunlin_proto::{ids::InvocationId, outcome, v1};

use super::{model::id_in, pages::short};
use crate::dispatch::wire::FRAME;

/// Frames of a backtrace that are shown.
const MAX_FRAMES: usize = 32;

/// The record that is meant by an id: the one that has it, otherwise the newest whose caller gave it.
pub(super) fn of(found: Vec<v1::Invocation>, id: &str) -> Option<v1::Invocation> {
    let own = |record: &v1::Invocation| id_in(&record.name, "invocations").to_owned();
    let meant = found.into_iter().filter(|record| own(record) == id || record.request_id == id);
    meant.max_by_key(|record| (own(record) == id, own(record)))
}

/// Explains a request.
pub(super) fn explain(record: v1::Invocation, lines: &[v1::LogLine]) -> v1::Explanation {
    let (error, backtrace) = backtrace(&record.error);
    let steps = steps::of(&record, &error, lines);
    v1::Explanation {
        summary: summary(&record, &error),
        advice: advice::of(&record, !backtrace.is_empty()),
        steps,
        backtrace,
        group: Vec::new(),
        invocation: Some(record),
    }
}

/// Explains that a request is not kept, by what became of others around it.
pub(super) fn unknown(id: &str, around: &[v1::Invocation]) -> v1::Explanation {
    let mut counts = BTreeMap::<(String, String), u64>::new();
    for record in around {
        let kind = outcome::kind(&record.outcome, record.status);
        let key = (id_in(&record.name, "functions").to_owned(), kind.to_owned());
        *counts.entry(key).or_default() += u64::from(record.weight.max(1));
    }
    let count = |((function, outcome), count)| v1::OutcomeCount { function, outcome, count };
    let when = id.parse().ok().and_then(time_of);
    let advice = match when {
        None => "give the id in the answer's Dunlin-Request-Id header: that says when the request was, too",
        Some(_) if counts.is_empty() => {
            "check the namespace; records are kept for a while, of many alike only some, and none of answers from the cache or \
             of a route's own"
        }
        Some(_) => {
            "records are kept for a while, of many alike only some, and none of answers from the cache or of a route's own; the \
             group shows what became of requests around it"
        }
    };
    v1::Explanation {
        summary: format!("no record of {id} is kept in this namespace"),
        advice: advice.to_owned(),
        group: counts.into_iter().map(count).collect(),
        ..Default::default()
    }
}

/// When a request was accepted, by its id; nothing where that does not say (RFC 9562 5.7).
pub(super) fn time_of(id: InvocationId) -> Option<SystemTime> {
    let (seconds, nanos) = id.uuid().get_timestamp()?.to_unix();
    SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, nanos))
}

/// What went wrong, and the frames that stand behind it.
fn backtrace(error: &str) -> (String, Vec<String>) {
    let mut parts = error.split(FRAME);
    let words = parts.next().unwrap_or_default().to_owned();
    (words, parts.take(MAX_FRAMES).map(str::to_owned).collect())
}

fn summary(record: &v1::Invocation, error: &str) -> String {
    let v1::Invocation { method, path, status, outcome, version, .. } = record;
    // The record itself has the whole path.
    let path = short(path);
    let function = id_in(&record.name, "functions");
    if record.refused {
        let of = if function.is_empty() { String::new() } else { format!(" of {function}") };
        return format!("{method} {path}{of} was refused with {status} before any function ran: {error}");
    }
    let took = steps::words(steps::total(record));
    match (outcome.as_str(), status) {
        ("ok", 400..) => format!(
            "{method} {path} of {function} v{version} answered {status} after {took}; the function said so itself"
        ),
        ("ok", _) => format!("{method} {path} of {function} v{version} answered {status} after {took}"),
        ("cancelled", _) => format!("{method} {path} of {function} v{version}: the caller left after {took}"),
        _ => format!("{method} {path} of {function} v{version} failed after {took} ({outcome}): {error}"),
    }
}

#[cfg(test)]
mod tests;
