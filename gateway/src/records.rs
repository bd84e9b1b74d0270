//! Records of invocations: the newest of each namespace in memory, all of them for a while in local files that are
//! written off the request path. Operational data, not platform state: a lost record loses nothing else.

mod file;
mod ring;
pub(crate) mod service;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use dunlin_process::{metrics::count::Counters, shutdown::Shutdown};
use dunlin_proto::{
    ids::{GatewayId, InvocationId, VersionNumber},
    names::{FunctionRef, InvocationName, Scope},
    v1,
};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::config::RecordsConfig;

/// What became of one invocation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Its id.
    pub(crate) id: InvocationId,
    /// The tenant and the function.
    #[serde(with = "function_text")]
    pub(crate) function: FunctionRef,
    /// The version that ran.
    pub(crate) version: VersionNumber,
    /// When the gateway accepted it.
    pub(crate) start_time: SystemTime,
    /// HTTP method.
    pub(crate) method: String,
    /// Path that the function saw, without the query.
    pub(crate) path: String,
    /// HTTP status that the caller got; 0 when it left before.
    pub(crate) status: u16,
    /// The gateway that served it.
    pub(crate) gateway: GatewayId,
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

impl Record {
    /// The name in the public API.
    pub(crate) fn name(&self) -> InvocationName {
        self.function.invocation(self.id)
    }

    /// Whether it went wrong.
    pub(crate) fn failed(&self) -> bool {
        self.outcome != "ok"
    }
}

/// Which records somebody looks for, in a namespace or of a function.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    /// Only those that failed.
    failed_only: bool,
    /// Only the one with this id, or those with this id of the caller's own; all where it is empty.
    request_id: String,
    /// The same as an id of the platform's, where it is one.
    id: Option<InvocationId>,
}

impl Wanted {
    fn holds(&self, record: &Record) -> bool {
        let named = || record.request_id == self.request_id || self.id == Some(record.id);
        (!self.failed_only || record.failed()) && (self.request_id.is_empty() || named())
    }
}

impl From<&v1::ListInvocationsRequest> for Wanted {
    fn from(request: &v1::ListInvocationsRequest) -> Self {
        let request_id = request.request_id.clone();
        Self { failed_only: request.failed_only, id: request_id.parse().ok(), request_id }
    }
}

/// What an invocation cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Receipt {
    /// Waiting in the gateway and on the worker.
    pub(crate) queue: Duration,
    /// Preparing a sandbox; zero when one was ready.
    pub(crate) start: Duration,
    /// From the sandbox's beginning to the end of the answer.
    pub(crate) run: Duration,
    /// CPU time of the guest.
    pub(crate) cpu: Duration,
    /// The most linear memory that the guest had.
    pub(crate) peak_memory_bytes: u64,
    /// Body bytes that the guest read.
    pub(crate) bytes_in: u64,
    /// Body bytes that the guest wrote.
    pub(crate) bytes_out: u64,
    /// The sandbox had served a call before.
    #[serde(default)]
    pub(crate) reused: bool,
}

/// A function's name as text, in files.
mod function_text {
    use dunlin_proto::names::FunctionRef;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(name: &FunctionRef, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(name)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<FunctionRef, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// Records that wait to be kept; beyond that they are dropped and counted, since callers come first.
const BACKLOG: usize = 16_384;

/// The records of this gateway. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Records {
    rings: Arc<ring::Rings>,
    /// To the keeper, which owns rings' writing side and the files.
    backlog: mpsc::Sender<Arc<Record>>,
    /// Those that were added, and those of them that were dropped.
    counted: Arc<Counters<2>>,
}

impl Records {
    /// Reads back what the files in `folder` hold; the [`Keeper`] is to run until the end.
    pub(crate) fn open(folder: std::path::PathBuf, config: &RecordsConfig) -> anyhow::Result<(Self, Keeper)> {
        let rings = Arc::new(ring::Rings::new(config.per_namespace));
        let files = file::Files::open(folder, config, |record| rings.push(Arc::new(record)))?;
        let (backlog, waiting) = mpsc::channel(BACKLOG);
        Ok((Self { rings: rings.clone(), backlog, counted: Arc::default() }, Keeper { rings, waiting, files }))
    }

    /// The newest records of a namespace or function, the newest first, from before an id on.
    pub(crate) fn list(
        &self,
        scope: &Scope,
        wanted: &Wanted,
        before: Option<InvocationId>,
        limit: usize,
    ) -> Vec<Arc<Record>> {
        self.rings.list(scope, wanted, before, limit)
    }

    /// One record.
    pub(crate) fn get(&self, name: &InvocationName) -> Option<Arc<Record>> {
        self.rings.get(name)
    }

    /// Keeps a record, soon.
    pub(crate) fn add(&self, record: Record) {
        self.counted.add(0, 1);
        // A full backlog means a disk that can't keep up; the request path must not wait for it.
        if self.backlog.try_send(Arc::new(record)).is_err() {
            self.counted.add(1, 1);
            tracing::debug!("dropped the record of an invocation");
        }
    }

    /// How many were added so far, and how many of them dropped.
    pub(crate) fn counted(&self) -> (u64, u64) {
        (self.counted.get(0), self.counted.get(1))
    }
}

/// How long the keeper rests between batches. While it rests, adding a record wakes nobody: a wake-up for each call would
/// cost as much as the record itself.
const REST: Duration = Duration::from_millis(20);
/// Records that are taken at once.
const BATCH: usize = 4_096;

/// Keeps records: in memory for questions, on disk for the next start.
#[derive(Debug)]
pub(crate) struct Keeper {
    rings: Arc<ring::Rings>,
    waiting: mpsc::Receiver<Arc<Record>>,
    files: file::Files,
}

impl Keeper {
    /// Runs until `shutdown`, and keeps what has been added by then.
    pub(crate) async fn run(mut self, shutdown: Shutdown) {
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                received = self.waiting.recv_many(&mut batch, BATCH) => if received == 0 { return },
                () = shutdown.begun(), if !self.waiting.is_closed() => {
                    self.waiting.close();
                    continue;
                }
            }
            batch.iter().for_each(|record| self.rings.push(record.clone()));
            let full = std::mem::take(&mut batch);
            let mut files = self.files;
            let written = tokio::task::spawn_blocking(move || {
                files.append(&full);
                files
            });
            match written.await {
                Ok(files) => self.files = files,
                // Only a shutdown of the runtime ends it.
                Err(_) => return,
            }
            tokio::select! { () = tokio::time::sleep(REST) => {}, () = shutdown.begun() => {} }
        }
    }
}
