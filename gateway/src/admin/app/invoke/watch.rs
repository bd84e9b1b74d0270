//! A call whose caller wants to see where its time went: its trace is taken whatever else is sampled, and shown from its record.
//!
//! Which spans there are is `traces`' business, and what a call comes to `app/invoke.rs`'s.

use std::{sync::Arc, time::Duration};

use dunlin_proto::{ApiError, ids::Namespace, model::to_wire_duration, v1};
use http::HeaderMap;
use tokio::{sync::oneshot, time::timeout};

use crate::{
    invoke::traced_as,
    records::{Record, Traced},
    traces::{Branch, NotTaken, Traces, tree},
};

/// How long a call's end is waited for after its answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// Somebody who waits for the trace of a call.
#[derive(Debug)]
pub(super) struct Watch {
    trace: u128,
    /// Why it is not exported.
    lost: Option<NotTaken>,
    teller: Option<oneshot::Sender<Arc<Record>>>,
    told: oneshot::Receiver<Arc<Record>>,
}

impl Watch {
    /// Watches a call with these headers; returns the trace's id and what its spans need as well.
    pub(super) fn begin(headers: &mut HeaderMap, traces: &Traces, namespace: &Namespace) -> (Self, (u128, Traced)) {
        let lost = traces.force(namespace).err();
        let (trace, traced) = traced_as(headers, lost.is_none());
        let (teller, told) = oneshot::channel();
        (Self { trace, lost, teller: Some(teller), told }, (trace, traced))
    }

    /// What the call's record goes to, once.
    pub(super) fn teller(&mut self) -> Option<oneshot::Sender<Arc<Record>>> {
        self.teller.take()
    }

    /// What the call came to, with its trace. One that failed where it ran or on its way there is an answer, too.
    pub(super) async fn seen(
        self,
        answered: Result<v1::InvokeResponse, ApiError>,
    ) -> Result<v1::InvokeResponse, ApiError> {
        let Self { trace, lost, teller, told } = self;
        // Only the call has one by now: if it never began, nobody has.
        drop(teller);
        let record = timeout(PATIENCE, told).await.ok().and_then(Result::ok);
        let Some(record) = record else {
            return answered.map(|answer| v1::InvokeResponse { trace: Some(unfinished(trace)), ..answer });
        };
        let answer = answered.unwrap_or_else(|error| v1::InvokeResponse {
            status: error.code.http_status().into(),
            ..v1::InvokeResponse::default()
        });
        let invocation = Some(v1::Invocation::from(&*record));
        Ok(v1::InvokeResponse { invocation, trace: Some(wire(&record, lost)), ..answer })
    }
}

fn unfinished(trace: u128) -> v1::InvocationTrace {
    let note = "the call goes on after its answer; dunlin why shows it once it is over".to_owned();
    v1::InvocationTrace { trace_id: format!("{trace:032x}"), note, ..v1::InvocationTrace::default() }
}

fn wire(record: &Record, lost: Option<NotTaken>) -> v1::InvocationTrace {
    let tree = tree(record);
    let note = lost.map(|why| format!("the trace is not exported: {why}")).unwrap_or_default();
    v1::InvocationTrace {
        trace_id: tree.trace_id,
        spans: tree.branches.into_iter().map(span).collect(),
        exported: lost.is_none(),
        note,
    }
}

fn span(branch: Branch) -> v1::InvocationSpan {
    let Branch { name, depth, at, took } = branch;
    let (at, took) = (Some(to_wire_duration(at)), Some(to_wire_duration(took)));
    v1::InvocationSpan { name, depth: u32::try_from(depth).unwrap_or(u32::MAX), at, took }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch() -> Watch {
        Watch::begin(&mut HeaderMap::new(), &Traces::default(), &"shop".parse().unwrap()).0
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_never_began_fails_as_ever_and_one_that_goes_on_has_no_spans() {
        let mut watched = watch();
        drop(watched.teller());
        assert!(watched.seen(Err(ApiError::internal())).await.is_err());
        let mut watched = watch();
        let _running = watched.teller();
        let trace = watched.seen(Ok(v1::InvokeResponse::default())).await.unwrap().trace.unwrap();
        assert!(trace.spans.is_empty() && trace.note.contains("goes on"), "{trace:?}");
    }

    #[test]
    fn the_function_hears_of_the_trace_that_is_shown() {
        let mut headers = HeaderMap::new();
        let (watched, (trace, traced)) = Watch::begin(&mut headers, &Traces::default(), &"shop".parse().unwrap());
        let expected = format!("00-{trace:032x}-{:016x}-00", traced.span);
        assert_eq!(headers["traceparent"], expected.as_str());
        assert_eq!((watched.lost, traced.sampled), (Some(NotTaken::NoCollector), false));
    }
}
