//! Invocations, receipts and log lines, as shown.

use dunlin_proto::{log, v1};
use serde::Serialize;

use super::{Millis, Time, age, or_dash, part};
use crate::{output::Column, units};

/// One call of a function.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct InvocationView {
    pub(crate) resource: String,
    pub(crate) id: String,
    pub(crate) namespace: String,
    pub(crate) function: String,
    pub(crate) version: u32,
    pub(crate) start_time: Option<Time>,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) status: u32,
    pub(crate) outcome: String,
    pub(crate) error: String,
    pub(crate) gateway: String,
    pub(crate) worker: String,
    pub(crate) request_id: String,
    pub(crate) route: String,
    /// Null where nobody had to prove anything.
    pub(crate) caller: Option<CallerView>,
    pub(crate) remote_address: String,
    pub(crate) trace_id: String,
    pub(crate) endpoint: String,
    pub(crate) worker_choice: &'static str,
    pub(crate) tries: u32,
    pub(crate) hint: String,
    /// It was refused before any function ran.
    pub(crate) refused: bool,
    /// For how many calls it stands.
    pub(crate) weight: u32,
    /// From acceptance to the end of the answer, also where no worker had it.
    pub(crate) lasted_ms: Millis,
    pub(crate) receipt: ReceiptView,
}

/// Who called, by what it proved.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct CallerView {
    pub(crate) key: String,
    pub(crate) issuer: String,
    pub(crate) subject: String,
    pub(crate) authorizer: String,
}

impl From<v1::InvocationCaller> for CallerView {
    fn from(wire: v1::InvocationCaller) -> Self {
        let v1::InvocationCaller { key, issuer, subject, authorizer } = wire;
        Self { key, issuer, subject, authorizer }
    }
}

/// What a call cost.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct ReceiptView {
    pub(crate) queue_ms: Millis,
    pub(crate) start_ms: Millis,
    pub(crate) run_ms: Millis,
    pub(crate) cpu_ms: Millis,
    pub(crate) peak_memory_bytes: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    /// The sandbox had served a call before.
    pub(crate) reused: bool,
    pub(crate) gateway_queue_ms: Millis,
    pub(crate) fetch_ms: Millis,
    pub(crate) load_ms: Millis,
    pub(crate) outbound_requests: u32,
    pub(crate) host_calls: u64,
}

impl From<v1::Invocation> for InvocationView {
    fn from(invocation: v1::Invocation) -> Self {
        let worker_choice = match invocation.worker_choice() {
            v1::WorkerChoice::Unspecified => "unknown",
            v1::WorkerChoice::Ready => "ready",
            v1::WorkerChoice::Standby => "standby",
        };
        Self {
            id: part(&invocation.name, "invocations"),
            namespace: part(&invocation.name, "namespaces"),
            function: part(&invocation.name, "functions"),
            resource: invocation.name,
            version: invocation.version,
            start_time: Time::from_wire(invocation.start_time),
            method: invocation.method,
            path: invocation.path,
            status: invocation.status,
            outcome: invocation.outcome,
            error: invocation.error,
            gateway: invocation.gateway,
            worker: invocation.worker,
            request_id: invocation.request_id,
            route: invocation.route,
            caller: invocation.caller.map(CallerView::from),
            remote_address: invocation.remote_address,
            trace_id: invocation.trace_id,
            endpoint: invocation.endpoint,
            worker_choice,
            tries: invocation.tries,
            hint: invocation.hint,
            refused: invocation.refused,
            weight: invocation.weight,
            lasted_ms: Millis::from_wire(invocation.lasted),
            receipt: invocation.receipt.map(Into::into).unwrap_or_default(),
        }
    }
}

impl From<v1::Receipt> for ReceiptView {
    fn from(receipt: v1::Receipt) -> Self {
        Self {
            queue_ms: Millis::from_wire(receipt.queue),
            start_ms: Millis::from_wire(receipt.start),
            run_ms: Millis::from_wire(receipt.run),
            cpu_ms: Millis::from_wire(receipt.cpu),
            peak_memory_bytes: receipt.peak_memory_bytes,
            bytes_in: receipt.bytes_in,
            bytes_out: receipt.bytes_out,
            reused: receipt.reused,
            gateway_queue_ms: Millis::from_wire(receipt.gateway_queue),
            fetch_ms: Millis::from_wire(receipt.fetch),
            load_ms: Millis::from_wire(receipt.load),
            outbound_requests: receipt.outbound_requests,
            host_calls: receipt.host_calls,
        }
    }
}

impl ReceiptView {
    /// In one line.
    pub(crate) fn text(&self) -> String {
        let sandbox = if self.reused { ", used sandbox" } else { "" };
        format!(
            "queue {}, start {}, run {}, CPU {}, memory {}, in {}, out {}, host calls {}{sandbox}",
            self.queue_ms.text(),
            self.start_ms.text(),
            self.run_ms.text(),
            self.cpu_ms.text(),
            units::size(self.peak_memory_bytes),
            units::size(self.bytes_in),
            units::size(self.bytes_out),
            self.host_calls,
        )
    }
}

/// The columns of a list of invocations.
pub(crate) const COLUMNS: &[Column<InvocationView>] = &[
    Column::new("STARTED", |call| age(call.start_time)),
    Column::new("FUNCTION", |call| match call.refused {
        true => or_dash(&call.function),
        false => format!("{}@v{}", call.function, call.version),
    }),
    Column::new("CALL", |call| format!("{} {}", call.method, units::short(&call.path))),
    Column::new("STATUS", |call| call.status.to_string()),
    Column::new("OUTCOME", |call| call.outcome.clone()),
    Column::new("RUN", |call| call.receipt.run_ms.text()),
    Column::new("CPU", |call| call.receipt.cpu_ms.text()),
    Column::new("MEMORY", |call| units::size(call.receipt.peak_memory_bytes)),
    Column::new("ID", |call| call.id.clone()),
    Column::wide("QUEUE", |call| call.receipt.queue_ms.text()),
    Column::wide("START", |call| call.receipt.start_ms.text()),
    Column::wide("REUSED", |call| if call.receipt.reused { "yes" } else { "-" }.to_owned()),
    Column::wide("HOST CALLS", |call| call.receipt.host_calls.to_string()),
    Column::wide("ROUTE", |call| or_dash(&call.route)),
    Column::wide("WORKER", |call| or_dash(&call.worker)),
    Column::wide("GATEWAY", |call| or_dash(&call.gateway)),
    Column::wide("ERROR", |call| or_dash(&call.error)),
];

/// A line that a guest wrote.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct LogLineView {
    pub(crate) time: Option<Time>,
    pub(crate) namespace: String,
    pub(crate) function: String,
    pub(crate) version: u32,
    pub(crate) invocation: String,
    pub(crate) stream: &'static str,
    pub(crate) text: String,
    pub(crate) worker: String,
    pub(crate) dropped_bytes: u64,
    pub(crate) boot: u64,
    pub(crate) sequence: u64,
    /// What it says where its text is a JSON object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) fields: Option<serde_json::Map<String, serde_json::Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) level: Option<String>,
    /// Goes on after this line.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) cursor: String,
}

/// Lines that are missing.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct LogGapView {
    pub(crate) gap: &'static str,
    pub(crate) time: Option<Time>,
    pub(crate) worker: String,
    /// How many; null where nobody knows.
    pub(crate) lines: Option<u64>,
    pub(crate) text: String,
    pub(crate) boot: u64,
    pub(crate) sequence: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) cursor: String,
}

impl LogGapView {
    /// A gap, and where to go on after it.
    pub(crate) fn new(gap: v1::LogGap, cursor: String) -> Self {
        Self {
            gap: log::reason(&gap),
            text: log::missing(&gap),
            time: Time::from_wire(gap.time),
            worker: gap.worker,
            lines: Some(gap.lines).filter(|lines| *lines > 0),
            boot: gap.boot,
            sequence: gap.sequence,
            cursor,
        }
    }
}

impl From<v1::LogLine> for LogLineView {
    fn from(line: v1::LogLine) -> Self {
        let stream = match line.stream() {
            v1::LogStream::Stdout => "stdout",
            v1::LogStream::Stderr => "stderr",
            v1::LogStream::Unspecified => "unknown",
        };
        let fields = log::fields(&line.text);
        Self {
            boot: line.boot,
            sequence: line.sequence,
            level: fields.as_ref().and_then(log::level),
            fields,
            cursor: String::new(),
            time: Time::from_wire(line.time),
            namespace: part(&line.function, "namespaces"),
            function: part(&line.function, "functions"),
            version: line.version,
            invocation: line.invocation,
            stream,
            text: line.text,
            worker: line.worker,
            dropped_bytes: line.dropped_bytes,
        }
    }
}
