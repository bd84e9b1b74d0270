//! What became of calls, and what guests wrote meanwhile, as administration shows them.

use dunlin_proto::{log, outcome, v1};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Time, id_in, time::micros};

/// The record of one call.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Invocation {
    /// `namespaces/{namespace}/functions/{function}/invocations/{id}`.
    pub(crate) name: String,
    /// A UUIDv7.
    pub(crate) id: String,
    /// The function's bare name.
    pub(crate) function: String,
    /// The version that ran.
    pub(crate) version: u32,
    /// When the gateway accepted it.
    pub(crate) start_time: Option<Time>,
    /// HTTP method.
    pub(crate) method: String,
    /// Path that the function saw, without the query.
    pub(crate) path: String,
    /// HTTP status that the caller got; 0 when it left before.
    pub(crate) status: u32,
    /// The gateway that served it.
    pub(crate) gateway: String,
    /// The worker that ran it; empty when none did.
    pub(crate) worker: String,
    /// `ok`, or the code of what went wrong.
    pub(crate) outcome: String,
    /// What went wrong, for people.
    pub(crate) error: String,
    /// What it cost.
    pub(crate) receipt: Receipt,
    /// The caller's own `X-Request-Id`.
    pub(crate) request_id: String,
    /// The bare name of the route that led to the function; empty where its automatic address did.
    pub(crate) route: String,
    /// Who called; null where nobody had to prove anything.
    pub(crate) caller: Option<InvocationCaller>,
    /// The address that the call came from.
    pub(crate) remote_address: String,
    /// The trace that the call belongs to: 32 hexadecimal digits; empty where none is known.
    pub(crate) trace_id: String,
    /// Where on its worker it ran; empty where no worker had it.
    pub(crate) endpoint: String,
    /// Why that endpoint was asked.
    pub(crate) worker_choice: WorkerChoice,
    /// How many endpoints were asked, the last one included.
    pub(crate) tries: u32,
    /// What to do about what went wrong, or where it did; may be empty.
    pub(crate) hint: String,
    /// It was refused before any function ran; then it has no version and no receipt.
    pub(crate) refused: bool,
    /// For how many requests it stands: more than 1 where there were so many in a second that not all are kept.
    pub(crate) weight: u32,
    /// From acceptance to the end of the answer, in microseconds, also where no worker had it.
    pub(crate) lasted_us: u64,
}

/// Who called, by what it proved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct InvocationCaller {
    /// The id of a key.
    pub(crate) key: String,
    /// Who issued the token.
    pub(crate) issuer: String,
    /// Whom the token names, or the authorizer.
    pub(crate) subject: String,
    /// The bare name of the function that let the caller in.
    pub(crate) authorizer: String,
}

/// Why an endpoint was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum WorkerChoice {
    /// None was, or it is not known.
    Unknown,
    /// It had the version ready.
    Ready,
    /// The version ran nowhere, and the worker had its code on disk.
    Standby,
}

impl From<v1::WorkerChoice> for WorkerChoice {
    fn from(wire: v1::WorkerChoice) -> Self {
        match wire {
            v1::WorkerChoice::Unspecified => Self::Unknown,
            v1::WorkerChoice::Ready => Self::Ready,
            v1::WorkerChoice::Standby => Self::Standby,
        }
    }
}

impl From<v1::InvocationCaller> for InvocationCaller {
    fn from(wire: v1::InvocationCaller) -> Self {
        let v1::InvocationCaller { key, issuer, subject, authorizer } = wire;
        Self { key, issuer, subject, authorizer }
    }
}

impl Invocation {
    /// From acceptance to the end of the answer, in microseconds; zero where nobody knows.
    pub(crate) fn total_us(&self) -> u64 {
        self.receipt.total_us().max(self.lasted_us)
    }

    /// Whether it did not fail.
    pub(crate) fn is_ok(&self) -> bool {
        !outcome::is_failure(&self.outcome, self.status)
    }
}

impl From<v1::Invocation> for Invocation {
    fn from(wire: v1::Invocation) -> Self {
        let worker_choice = wire.worker_choice().into();
        Self {
            id: id_in(&wire.name, "invocations").to_owned(),
            function: id_in(&wire.name, "functions").to_owned(),
            name: wire.name,
            version: wire.version,
            start_time: wire.start_time.map(Time::from),
            method: wire.method,
            path: wire.path,
            status: wire.status,
            gateway: wire.gateway,
            worker: wire.worker,
            outcome: wire.outcome,
            error: wire.error,
            receipt: wire.receipt.unwrap_or_default().into(),
            request_id: wire.request_id,
            route: wire.route,
            caller: wire.caller.map(InvocationCaller::from),
            remote_address: wire.remote_address,
            trace_id: wire.trace_id,
            endpoint: wire.endpoint,
            worker_choice,
            tries: wire.tries,
            hint: wire.hint,
            refused: wire.refused,
            weight: wire.weight,
            lasted_us: micros(wire.lasted),
        }
    }
}

/// What an invocation cost.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub(crate) struct Receipt {
    /// Waiting in the gateway and on the worker, in microseconds.
    pub(crate) queue_us: u64,
    /// Preparing a sandbox, in microseconds; zero when one was ready.
    pub(crate) start_us: u64,
    /// From the sandbox's beginning to the end of the answer, in microseconds.
    pub(crate) run_us: u64,
    /// CPU time of the guest, in microseconds.
    pub(crate) cpu_us: u64,
    /// The most linear memory that the guest had, in bytes.
    pub(crate) peak_memory_bytes: u64,
    /// Body bytes that the guest read.
    pub(crate) bytes_in: u64,
    /// Body bytes that the guest wrote.
    pub(crate) bytes_out: u64,
    /// The sandbox had served a call before.
    pub(crate) reused: bool,
    /// The part of `queue_us` in the gateway, in microseconds.
    pub(crate) gateway_queue_us: u64,
    /// The part of `queue_us` for fetching and checking the version's code, in microseconds.
    pub(crate) fetch_us: u64,
    /// The part of `queue_us` for loading the version's code, in microseconds.
    pub(crate) load_us: u64,
    /// Requests that the guest sent over HTTP.
    pub(crate) outbound_requests: u32,
    /// How often the guest called the host: functions of WASI and of the runtime.
    pub(crate) host_calls: u64,
}

impl Receipt {
    /// From acceptance to the end of the answer, in microseconds.
    pub(crate) fn total_us(&self) -> u64 {
        self.queue_us.saturating_add(self.start_us).saturating_add(self.run_us)
    }
}

impl From<v1::Receipt> for Receipt {
    fn from(wire: v1::Receipt) -> Self {
        Self {
            queue_us: micros(wire.queue),
            start_us: micros(wire.start),
            run_us: micros(wire.run),
            cpu_us: micros(wire.cpu),
            peak_memory_bytes: wire.peak_memory_bytes,
            bytes_in: wire.bytes_in,
            bytes_out: wire.bytes_out,
            reused: wire.reused,
            gateway_queue_us: micros(wire.gateway_queue),
            fetch_us: micros(wire.fetch),
            load_us: micros(wire.load),
            outbound_requests: wire.outbound_requests,
            host_calls: wire.host_calls,
        }
    }
}

/// Recent invocations, the newest first.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct InvocationList {
    /// The page.
    pub(crate) invocations: Vec<Invocation>,
    /// Empty on the last page.
    pub(crate) next_page_token: String,
    /// Gateways that did not answer, whose records are missing here.
    pub(crate) unreachable: Vec<String>,
    /// Where requests that were refused are asked for: how many there were since each gateway started.
    pub(crate) refusals: Vec<RefusalCount>,
    /// Where a text is searched for and there was no time to look at all lines: calls that began before were not looked for. The next
    /// page goes on there, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) searched_from: Option<Time>,
}

/// How often requests were refused before any function ran.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct RefusalCount {
    /// The function's bare name; empty where none was found.
    pub(crate) function: String,
    /// The route's bare name; empty where none led there.
    pub(crate) route: String,
    /// The id of the key that called; empty where none was known by then.
    pub(crate) key: String,
    /// The code of why.
    pub(crate) outcome: String,
    /// How often.
    pub(crate) count: u64,
}

impl From<v1::RefusalCount> for RefusalCount {
    fn from(wire: v1::RefusalCount) -> Self {
        let v1::RefusalCount { function, route, key, outcome, count } = wire;
        Self { function, route, key, outcome, count }
    }
}

impl From<v1::ListInvocationsResponse> for InvocationList {
    fn from(wire: v1::ListInvocationsResponse) -> Self {
        Self {
            invocations: wire.invocations.into_iter().map(Invocation::from).collect(),
            next_page_token: wire.next_page_token,
            unreachable: wire.unreachable,
            refusals: wire.refusals.into_iter().map(RefusalCount::from).collect(),
            searched_from: wire.searched_from.map(Time::from),
        }
    }
}

/// Which stream a line was written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogStream {
    /// Not known.
    Unknown,
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl LogStream {
    /// As in JSON.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// A line that a guest wrote.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct LogLine {
    /// When.
    pub(crate) time: Option<Time>,
    /// The function's bare name.
    pub(crate) function: String,
    /// The version that wrote it.
    pub(crate) version: u32,
    /// The id of the invocation.
    pub(crate) invocation: String,
    /// Where it was written to.
    pub(crate) stream: LogStream,
    /// The text without its line end.
    pub(crate) text: String,
    /// The worker that ran the invocation.
    pub(crate) worker: String,
    /// Bytes of this invocation's output dropped before this line, over its limit.
    pub(crate) dropped_bytes: u64,
    /// The start of the worker's log in which it was written.
    pub(crate) boot: u64,
    /// Its number among the lines of its namespace on the worker since then.
    pub(crate) sequence: u64,
    /// What it says where its text is a JSON object.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>, nullable = false)]
    pub(crate) fields: Option<serde_json::Map<String, serde_json::Value>>,
    /// How serious it is, where its fields say so: `level`, `severity`, `lvl` or `levelname`, in lower case.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) level: Option<String>,
}

impl From<v1::LogLine> for LogLine {
    fn from(wire: v1::LogLine) -> Self {
        let stream = match wire.stream() {
            v1::LogStream::Unspecified => LogStream::Unknown,
            v1::LogStream::Stdout => LogStream::Stdout,
            v1::LogStream::Stderr => LogStream::Stderr,
        };
        let fields = log::fields(&wire.text);
        Self {
            boot: wire.boot,
            sequence: wire.sequence,
            level: fields.as_ref().and_then(log::level),
            fields,
            time: wire.time.map(Time::from),
            function: id_in(&wire.function, "functions").to_owned(),
            version: wire.version,
            invocation: wire.invocation,
            stream,
            text: wire.text,
            worker: wire.worker,
            dropped_bytes: wire.dropped_bytes,
        }
    }
}

/// Log lines, the oldest first.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub(crate) struct LogList {
    /// The lines.
    pub(crate) lines: Vec<LogLine>,
    /// Workers that did not answer, whose lines are missing here.
    pub(crate) unreachable: Vec<String>,
    /// Where lines are missing.
    pub(crate) gaps: Vec<LogGap>,
    /// Goes on after these lines, as `cursor` of the next question. Empty where nothing is known to go on from.
    pub(crate) cursor: String,
}

/// Lines of the namespace that are missing. They may be of any function, and need not match the filters.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct LogGap {
    /// In a list: it stands before the line with this index, counted from 0.
    pub(crate) before: usize,
    /// About when.
    pub(crate) time: Option<Time>,
    /// The worker.
    pub(crate) worker: String,
    /// How many; 0 where that is not known.
    pub(crate) lines: u64,
    /// `rate`: faster than the namespace may write; `disk`: could not be written; `restart`: the worker ended without closing
    /// its log, and its last 100 milliseconds may be missing; `removed`: to make room, before they were read; `outcome`: where a
    /// status is followed, what became of their calls was not known in time.
    pub(crate) reason: &'static str,
    /// The same for people.
    pub(crate) text: String,
    /// The start of the worker's log that the last of them belongs to.
    pub(crate) boot: u64,
    /// The number of the last of them.
    pub(crate) sequence: u64,
}

impl LogGap {
    /// A gap before the line with this index.
    pub(crate) fn new(wire: v1::LogGap, before: usize) -> Self {
        Self {
            before,
            reason: log::reason(&wire),
            text: log::missing(&wire),
            time: wire.time.map(Time::from),
            worker: wire.worker,
            lines: wire.lines,
            boot: wire.boot,
            sequence: wire.sequence,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_shows_its_receipt_in_microseconds() {
        let receipt =
            v1::Receipt { run: Some(prost_types::Duration { seconds: 1, nanos: 500_000 }), ..Default::default() };
        let wire = v1::Invocation {
            name: "namespaces/shop/functions/checkout/invocations/0198c5b2-7a43-7000-8000-3f1f6d1c1a2b".to_owned(),
            receipt: Some(receipt),
            ..Default::default()
        };
        let invocation = Invocation::from(wire);
        assert_eq!((invocation.function.as_str(), invocation.receipt.run_us), ("checkout", 1_000_500));
        assert_eq!(invocation.id, "0198c5b2-7a43-7000-8000-3f1f6d1c1a2b");
    }
}
