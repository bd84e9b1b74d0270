//! What a guest writes during one call, on its way to its tenant's log. Cutting output into lines is `sandbox/console.rs`'s, keeping
//! them `logs.rs`'s.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use crate::{
    logs::{Source, Tenant},
    sandbox::{LogRecord, LogSink, LogStream},
};

/// The lines of one call.
#[derive(Debug)]
pub(super) struct Lines {
    tenant: Arc<Tenant>,
    source: Source,
    /// Bytes that lines themselves say were cut off.
    cut: AtomicU64,
}

impl Lines {
    pub(super) fn new(tenant: Arc<Tenant>, source: Source) -> Arc<Self> {
        Arc::new(Self { tenant, source, cut: AtomicU64::new(0) })
    }

    /// Where the guest's lines go: nowhere, where none are kept. Its tenant has room for them or marks that they are missing, so
    /// that the call waits for nobody, and is woken by nobody.
    pub(super) fn sink(self: &Arc<Self>) -> LogSink {
        if !self.tenant.keeps() {
            return LogSink::discard();
        }
        let lines = self.clone();
        LogSink::new(move |line| {
            lines.keep(line);
            true
        })
    }

    fn keep(&self, line: LogRecord) {
        self.cut.fetch_add(line.truncated_bytes, Relaxed);
        self.tenant.offer(&self.source, line);
    }

    /// The guest is done, and so many bytes of its output were dropped: what no line says of them is said now.
    pub(super) fn end(&self, dropped: u64) {
        let unsaid = dropped.saturating_sub(self.cut.load(Relaxed));
        if unsaid > 0 && self.tenant.keeps() {
            self.tenant.offer(&self.source, note(unsaid));
        }
    }
}

/// Says that output is missing.
fn note(dropped: u64) -> LogRecord {
    LogRecord {
        stream: LogStream::Stderr,
        text: format!("[dunlin] {dropped} bytes of output over the invocation's log limit were dropped"),
        time: std::time::SystemTime::now(),
        truncated_bytes: dropped,
    }
}
