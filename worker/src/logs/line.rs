//! A line as it lies in a file: one JSON object. Its tenant is the folder that it lies in.

use std::time::{Duration, SystemTime};

use dunlin_proto::{
    ids::{FunctionName, InvocationId, Namespace, VersionNumber},
    names::FunctionRef,
    v1,
};
use serde::{Deserialize, Serialize};

use crate::sandbox::{LogRecord, LogStream};

/// Who wrote lines.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) function: FunctionName,
    pub(crate) version: VersionNumber,
    pub(crate) invocation: InvocationId,
    /// The caller's own id; may be empty.
    pub(crate) request_id: String,
}

/// A line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Line {
    /// When, in microseconds since 1970; grows from line to line of a namespace, so that it also names the line.
    pub(super) time: u64,
    pub(super) function: FunctionName,
    pub(super) version: VersionNumber,
    pub(super) invocation: InvocationId,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) request_id: String,
    /// Written to standard error rather than to standard output.
    pub(super) stderr: bool,
    pub(super) text: String,
    /// Bytes that were dropped just before.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) dropped_bytes: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Line {
    pub(super) fn new(source: &Source, record: LogRecord, time: u64) -> Self {
        Self {
            time,
            function: source.function.clone(),
            version: source.version,
            invocation: source.invocation,
            request_id: source.request_id.clone(),
            stderr: record.stream == LogStream::Stderr,
            text: record.text,
            dropped_bytes: record.truncated_bytes,
        }
    }

    /// The line as the API has it.
    pub(super) fn to_wire(&self, namespace: &Namespace, worker: &str) -> v1::LogLine {
        let function = FunctionRef { namespace: namespace.clone(), function: self.function.clone() };
        let stream = if self.stderr { v1::LogStream::Stderr } else { v1::LogStream::Stdout };
        v1::LogLine {
            time: Some((SystemTime::UNIX_EPOCH + Duration::from_micros(self.time)).into()),
            function: function.to_string(),
            version: self.version.get(),
            invocation: self.invocation.to_string(),
            stream: stream.into(),
            text: self.text.clone(),
            worker: worker.to_owned(),
            dropped_bytes: self.dropped_bytes,
        }
    }
}

/// Microseconds since 1970.
pub(super) fn micros(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
