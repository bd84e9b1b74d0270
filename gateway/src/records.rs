//! Records of invocations: the newest of each namespace in memory, all of them for a while in local files that are
//! written off the request path and searched where memory does not reach back far enough. Operational data, not platform state: a lost record loses nothing else.

mod archive;
mod came;
mod file;
mod inbox;
mod keeper;
mod minutes;
mod phases;
mod refused;
mod ring;
mod sample;
pub(crate) mod service;
mod shelves;
mod summary;
mod wanted;

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use dunlin_process::metrics::count::Counters;
use dunlin_proto::{
    ids::{GatewayId, InvocationId, VersionNumber},
    internal::v1::NamespaceRetention,
    model::Retentions,
    names::{FunctionRef, InvocationName, Scope},
    outcome, v1,
};
use http::Method;
use serde::{Deserialize, Serialize};

use crate::{config::RecordsConfig, traces::Traces};
pub(crate) use came::{Caller, Came, Choice, Traced};
#[cfg(test)]
pub(crate) use file::tests::record as a_record;
pub(crate) use keeper::Keeper;
pub(crate) use phases::{Phase, Phases};
pub(crate) use refused::Refusal;
#[cfg(test)]
pub(crate) use refused::tests::refusal as a_refusal;
pub(crate) use summary::MOST as MOST_SUMMARY;
pub(crate) use wanted::{Wanted, status_range};

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
    pub(crate) method: Cow<'static, str>,
    /// Path that the function saw, without the query.
    pub(crate) path: String,
    /// HTTP status that the caller got; 0 when it left before.
    pub(crate) status: u16,
    /// The gateway that served it.
    pub(crate) gateway: GatewayId,
    /// The worker that ran it; empty when none did.
    pub(crate) worker: Arc<str>,
    /// `ok`, or the code of what went wrong.
    pub(crate) outcome: Cow<'static, str>,
    /// What went wrong, for people.
    pub(crate) error: String,
    /// What it cost.
    pub(crate) receipt: Receipt,
    /// The caller's own `X-Request-Id`.
    pub(crate) request_id: String,
    /// For how many requests it stands: 1 where all are kept.
    #[serde(default = "one")]
    pub(crate) weight: u32,
    /// What to do about what went wrong; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) hint: String,
    /// How it came in and where it went.
    #[serde(default)]
    pub(crate) came: Came,
}

impl Record {
    /// The name in the public API.
    pub(crate) fn name(&self) -> InvocationName {
        self.function.invocation(self.id)
    }

    /// From acceptance to the end of the answer.
    pub(crate) fn took(&self) -> Duration {
        self.receipt.queue + self.receipt.start + self.receipt.run
    }

    /// As [`Self::took`], also where no worker sent a receipt.
    pub(crate) fn lasted(&self) -> Duration {
        self.took().max(self.came.traced.lasted)
    }

    /// What became of it, in a word.
    pub(crate) fn kind(&self) -> &str {
        outcome::kind(&self.outcome, self.status)
    }

    /// Whether it failed, also where only the function says so.
    pub(crate) fn failed(&self) -> bool {
        outcome::is_failure(&self.outcome, self.status)
    }

    /// Whether something other than the function's answer says what went wrong.
    pub(crate) fn has_error(&self) -> bool {
        self.outcome != "ok"
    }
}

/// A method as text; those that most calls have are not copied.
pub(crate) fn method_text(method: &Method) -> Cow<'static, str> {
    let common = [&Method::GET, &Method::POST, &Method::PUT, &Method::DELETE, &Method::HEAD, &Method::PATCH];
    match common.into_iter().find(|common| *common == method) {
        Some(common) => common.as_str().into(),
        None => method.to_string().into(),
    }
}

/// What a record stood for when all were kept.
fn one() -> u32 {
    1
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
    /// The part of `queue` in the gateway.
    #[serde(default)]
    pub(crate) gateway_queue: Duration,
    /// The part of `queue` for fetching and checking code.
    #[serde(default)]
    pub(crate) fetch: Duration,
    /// The part of `queue` for loading code.
    #[serde(default)]
    pub(crate) load: Duration,
    /// Requests that the guest sent over HTTP.
    #[serde(default)]
    pub(crate) outbound_requests: u32,
    /// How often the guest called the host.
    #[serde(default)]
    pub(crate) host_calls: u64,
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

/// The records of this gateway.
#[derive(Debug)]
pub(crate) struct Records {
    rings: Arc<ring::Rings>,
    recent: Arc<ring::Recent>,
    refused: Arc<refused::Refused>,
    traces: Traces,
    /// Whether any are kept.
    enabled: bool,
    archive: archive::Archive,
    /// For the keeper, which owns rings' writing side and the files.
    inbox: Arc<inbox::Inbox>,
    counted: Arc<Counted>,
    retentions: Retentions,
    /// How long they are kept where their namespace says nothing else.
    max_age: Duration,
}

/// How many records were added, and how many of them were dropped or not written.
#[derive(Debug, Default)]
struct Counted {
    all: Counters<2>,
    /// Those that were lost lately.
    lost: Mutex<minutes::Minutes>,
}

impl Counted {
    fn lose(&self, count: u64) {
        if count > 0 {
            self.all.add(1, count);
            self.lost.lock().unwrap_or_else(PoisonError::into_inner).add(SystemTime::now(), count);
        }
    }
}

impl Records {
    /// Reads back what the files in `folder` hold; the [`Keeper`] is to run until the end.
    pub(crate) fn open(
        folder: std::path::PathBuf,
        config: &RecordsConfig,
        traces: Traces,
    ) -> anyhow::Result<(Arc<Self>, Keeper)> {
        let retentions = Retentions::default();
        let rings = Arc::new(ring::Rings::new(config.per_namespace, config.max_age, retentions.clone()));
        let recent = Arc::<ring::Recent>::default();
        let archive = archive::Archive::new(folder.clone());
        let found = |record| rings.load(Arc::new(record));
        let files = shelves::Shelves::open(folder, config, retentions.clone(), found)?;
        let inbox = Arc::<inbox::Inbox>::default();
        let records = Self {
            rings: rings.clone(),
            recent: recent.clone(),
            refused: Arc::default(),
            traces,
            enabled: config.enabled,
            archive,
            inbox: inbox.clone(),
            counted: Arc::default(),
            retentions,
            max_age: config.max_age,
        };
        let counted = records.counted.clone();
        Ok((Arc::new(records), Keeper::new((rings, recent), inbox, files, counted)))
    }

    /// The newest records of a namespace or function, the newest first, from before an id on.
    pub(crate) async fn list(
        &self,
        scope: &Scope,
        wanted: &Wanted,
        before: Option<InvocationId>,
        limit: usize,
    ) -> Vec<Arc<Record>> {
        let mut all = self.recent.list(scope, wanted, before, limit);
        // Of two of one request, the first is the one that stands for itself alone.
        all.extend(self.rings.list(scope, wanted, before, limit));
        newest(&mut all, limit);
        if all.len() < limit {
            let (scope, wanted) = (scope.clone(), wanted.clone());
            all.extend(self.archive.list(archive::Query { scope, wanted, before, limit }).await);
            newest(&mut all, limit);
        }
        let age = self.retentions.get(&scope.namespace).age.unwrap_or(self.max_age);
        let is_old = |record: &Record| record.start_time.elapsed().is_ok_and(|passed| passed > age);
        all.retain(|record| !is_old(record));
        all
    }

    /// With what status those of these calls ended that have: by the records in memory, or by all.
    pub(crate) async fn statuses(
        &self,
        scope: &Scope,
        ids: HashSet<InvocationId>,
        on_disk: bool,
    ) -> HashMap<InvocationId, u16> {
        // What a call is numbered by may be ahead of when it was accepted, by less than a second.
        let began = ids.iter().min().and_then(|id| id.time().checked_sub(Duration::from_secs(1)));
        let (count, since) = (ids.len(), began.filter(|_| on_disk));
        let wanted = Wanted { ids: Some(ids), since, ..Wanted::default() };
        let found = match on_disk {
            true => self.list(scope, &wanted, None, count).await,
            false => {
                [self.recent.list(scope, &wanted, None, count), self.rings.list(scope, &wanted, None, count)].concat()
            }
        };
        found.iter().map(|record| (record.id, record.status)).collect()
    }

    /// Keeps records of these namespaces for a time of their own from now on, and all others for as long as the gateway is set to.
    pub(crate) fn keep(&self, retentions: &[NamespaceRetention]) {
        self.retentions.replace(retentions);
    }

    /// Counts a request that was refused before any function ran, and keeps it, for longer where there are few. Its trace goes where
    /// somebody wants it.
    pub(crate) fn refuse(&self, mut refusal: Refusal) {
        self.traces.offer_refusal(&refusal);
        // Its spans are made; an example needs no more of it.
        refusal.traced.phases = None;
        self.refused.add(refusal);
    }

    /// The refusals of a namespace that are kept, the newest first.
    pub(crate) fn refusals(&self, scope: &Scope, wanted: &Wanted) -> Vec<Arc<Refusal>> {
        self.refused.list(scope, wanted)
    }

    /// Those of no namespace that there is, for whoever operates the cluster.
    pub(crate) fn of_nobody(&self, wanted: &Wanted) -> Vec<v1::Invocation> {
        self.refused.of_nobody(wanted).iter().map(|refusal| refusal.as_ref().into()).collect()
    }

    /// How often requests were refused, where such are asked for.
    pub(crate) fn refusal_counts(&self, scope: &Scope, wanted: &Wanted) -> Vec<v1::RefusalCount> {
        if wanted.refused { self.refused.counts(scope) } else { Vec::new() }
    }

    /// Gives the record of an invocation that has ended to who takes its trace.
    pub(crate) fn trace(&self, record: &mut Record) {
        self.traces.offer(record);
    }

    /// Keeps a record, soon.
    pub(crate) fn add(&self, record: Record) {
        if !self.enabled {
            return;
        }
        self.counted.all.add(0, 1);
        if !self.inbox.leave(record) {
            self.counted.lose(1);
            tracing::debug!("dropped the record of an invocation");
        }
    }

    /// How many were added so far, and how many of them dropped.
    pub(crate) fn counted(&self) -> (u64, u64) {
        (self.counted.all.get(0), self.counted.all.get(1))
    }

    /// How many were dropped from the minute on that this time lies in.
    fn lost_since(&self, time: SystemTime) -> u64 {
        self.counted.lost.lock().unwrap_or_else(PoisonError::into_inner).since(time)
    }
}

/// Sorts records, the newest first, with one of each request and no more than so many.
fn newest(records: &mut Vec<Arc<Record>>, limit: usize) {
    records.sort_by_key(|record| std::cmp::Reverse(record.id));
    records.dedup_by_key(|record| record.id);
    records.truncate(limit);
}
