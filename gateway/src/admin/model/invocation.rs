//! What became of calls, and what guests wrote meanwhile, as administration shows them.

use dunlin_proto::v1;
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
}

impl Invocation {
    /// Whether nothing went wrong.
    pub(crate) fn is_ok(&self) -> bool {
        self.outcome == "ok"
    }
}

impl From<v1::Invocation> for Invocation {
    fn from(wire: v1::Invocation) -> Self {
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
}

impl From<v1::ListInvocationsResponse> for InvocationList {
    fn from(wire: v1::ListInvocationsResponse) -> Self {
        Self {
            invocations: wire.invocations.into_iter().map(Invocation::from).collect(),
            next_page_token: wire.next_page_token,
            unreachable: wire.unreachable,
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
}

impl From<v1::LogLine> for LogLine {
    fn from(wire: v1::LogLine) -> Self {
        let stream = match wire.stream() {
            v1::LogStream::Unspecified => LogStream::Unknown,
            v1::LogStream::Stdout => LogStream::Stdout,
            v1::LogStream::Stderr => LogStream::Stderr,
        };
        Self {
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
