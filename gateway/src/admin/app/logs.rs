//! Log lines of all workers as one stream in the order of time. Lines lie on the worker that wrote them, so every known
//! worker is asked, and whoever does not answer is named.
//!
//! The order is kept by `logs/merge.rs`; reading one worker is `logs/reader.rs`.

mod merge;
mod reader;

use std::{collections::BTreeMap, pin::Pin, time::Duration};

use dunlin_proto::{ApiError, names::Scope, v1};
use futures::Stream;
use tokio::{sync::mpsc, task::JoinSet, time::Instant};

use self::{
    merge::Merge,
    reader::{Event, Reader},
};
use super::{App, ask, name, on_behalf};
use crate::{admin::access::Operation, auth::Principal};

/// The stream of a log, as every transport gets it.
pub(crate) type LogEvents = Pin<Box<dyn Stream<Item = Result<v1::ReadLogsResponse, ApiError>> + Send>>;

/// Lines and the like that wait between the readers and the merger.
const WAITING: usize = 256;
/// How long the merger waits for an earlier line of another worker.
const REORDER: Duration = Duration::from_millis(100);
/// How long workers have to bring what they have.
const HISTORY: Duration = Duration::from_secs(2);
/// How often a follower looks for workers that are new or back.
const LOOK_AGAIN: Duration = Duration::from_secs(3);
/// The longest text to look for, in bytes.
const MAX_SEARCH: usize = 1_024;

impl App {
    /// Reads the log of a namespace or function.
    pub(crate) async fn log_read(&self, who: &Principal, request: v1::ReadLogsRequest) -> Result<LogEvents, ApiError> {
        let Scope { namespace, .. } = name("parent", &request.parent)?;
        Operation::ReadLogs.allow_in(who, &namespace)?;
        let request = checked(request)?;
        let workers = self.workers_known(who).await?;
        Ok(Box::pin(self.clone().log_stream(who.clone(), request, workers)))
    }

    /// The workers that may hold lines: name and address. Without the scheduler, those that are placed.
    async fn workers_known(&self, who: &Principal) -> Result<BTreeMap<String, String>, ApiError> {
        // The answer names machines, which is not for the caller; so the gateway asks on its own behalf.
        let request = on_behalf(who, v1::GetClusterRequest {});
        let mut client = self.context.scheduler.cluster().max_decoding_message_size(super::MAX_ANSWER_BYTES);
        let placed = || -> BTreeMap<_, _> {
            let placements = self.context.dispatcher.directory().load();
            placements.endpoints().map(|endpoint| (endpoint.worker.clone(), endpoint.address.clone())).collect()
        };
        match ask(client.get_cluster(request)).await {
            Ok(cluster) => {
                let of = |worker: v1::Worker| {
                    let id = worker.name.strip_prefix("workers/").unwrap_or(&worker.name).to_owned();
                    (id, worker.address)
                };
                Ok(cluster.workers.into_iter().map(of).filter(|(_, address)| !address.is_empty()).collect())
            }
            Err(error) if error.is_unavailable() => Some(placed()).filter(|placed| !placed.is_empty()).ok_or(error),
            Err(error) => Err(error),
        }
    }

    /// First what the workers have, then, for a follower, what comes. Dropping the stream ends every reader.
    fn log_stream(
        self,
        who: Principal,
        request: v1::ReadLogsRequest,
        workers: BTreeMap<String, String>,
    ) -> impl Stream<Item = Result<v1::ReadLogsResponse, ApiError>> + Send {
        async_stream::stream! {
            let (send, mut events) = mpsc::channel(WAITING);
            let mut readers = Readers { app: &self, request: &request, send, tasks: JoinSet::new(), open: BTreeMap::new() };
            workers.into_iter().for_each(|(worker, address)| readers.open(worker, &address));
            let mut merge = Merge::new(request.lines as usize);
            let until = Instant::now() + HISTORY;
            while readers.are_behind() {
                let Ok(Some(event)) = tokio::time::timeout_at(until, events.recv()).await else { break };
                readers.note(&event);
                merge.push(event);
            }
            readers.behind().into_iter().for_each(|worker| merge.push(Event::Unreachable(worker)));
            for response in merge.flush() {
                yield Ok(response);
            }
            if !request.follow {
                return;
            }
            merge.unbound();
            let mut look = tokio::time::interval_at(Instant::now() + LOOK_AGAIN, LOOK_AGAIN);
            let mut settle = tokio::time::interval(REORDER);
            settle.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    Some(event) = events.recv(), if !merge.is_full() => {
                        readers.note(&event);
                        merge.push(event);
                    }
                    _ = settle.tick() => for response in merge.flush() {
                        yield Ok(response);
                    },
                    _ = look.tick() => if let Ok(workers) = self.workers_known(&who).await {
                        workers.into_iter().for_each(|(worker, address)| readers.open(worker, &address));
                    },
                }
            }
        }
    }
}

/// The readers of one stream.
struct Readers<'a> {
    app: &'a App,
    request: &'a v1::ReadLogsRequest,
    send: mpsc::Sender<Event>,
    tasks: JoinSet<()>,
    /// By worker: whether it is being read and has brought what it had, and the time of its last line.
    open: BTreeMap<String, State>,
}

#[derive(Debug, Default)]
struct State {
    reading: bool,
    caught_up: bool,
    last: Option<prost_types::Timestamp>,
}

impl Readers<'_> {
    /// Reads a worker that is not being read, from after its last line on.
    fn open(&mut self, worker: String, address: &str) {
        let first_time = self.open.is_empty() || !self.open.contains_key(&worker);
        let state = self.open.entry(worker.clone()).or_default();
        if state.reading {
            return;
        }
        state.reading = true;
        let mut request = self.request.clone();
        if let Some(last) = state.last {
            request.since = Some(after(last));
        }
        let client = self.app.context.workers.logs(&worker, address);
        let reader = Reader { worker, request, report_failure: first_time, send: self.send.clone() };
        self.tasks.spawn(reader.run(client));
    }

    /// Learns from what a reader sent.
    fn note(&mut self, event: &Event) {
        match event {
            Event::Line(line) => {
                let state = self.open.entry(line.worker.clone()).or_default();
                state.last = line.time.or(state.last);
            }
            Event::CaughtUp(worker) => self.open.entry(worker.clone()).or_default().caught_up = true,
            Event::Unreachable(worker) | Event::Ended(worker) => {
                let state = self.open.entry(worker.clone()).or_default();
                (state.reading, state.caught_up) = (false, true);
            }
        }
        while self.tasks.try_join_next().is_some() {}
    }

    /// Whether some worker has not brought all that it had.
    fn are_behind(&self) -> bool {
        self.open.values().any(|state| !state.caught_up)
    }

    /// Those workers, which are not waited for any more.
    fn behind(&mut self) -> Vec<String> {
        let behind = self.open.iter_mut().filter(|(_, state)| !state.caught_up);
        behind
            .map(|(worker, state)| {
                state.caught_up = true;
                worker.clone()
            })
            .collect()
    }
}

/// The first moment after another.
fn after(time: prost_types::Timestamp) -> prost_types::Timestamp {
    let mut next = prost_types::Timestamp { seconds: time.seconds, nanos: time.nanos.saturating_add(1) };
    next.normalize();
    next
}

/// Fills in the default of `lines` and refuses what is out of range.
fn checked(mut request: v1::ReadLogsRequest) -> Result<v1::ReadLogsRequest, ApiError> {
    match request.lines {
        0 => request.lines = 100,
        1..=10_000 => {}
        lines => return Err(ApiError::invalid("lines", format!("lines is {lines} but may be 10000 at most"))),
    }
    if request.search.len() > MAX_SEARCH {
        return Err(ApiError::invalid("search", format!("search may have {MAX_SEARCH} bytes at most")));
    }
    if request.request_id.len() > 128 {
        return Err(ApiError::invalid("request_id", "request_id may have 128 bytes at most"));
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_a_default_and_a_bound() {
        let lines = |lines| checked(v1::ReadLogsRequest { lines, ..Default::default() }).map(|request| request.lines);
        assert_eq!((lines(0), lines(7), lines(10_000)), (Ok(100), Ok(7), Ok(10_000)));
        assert_eq!(lines(10_001).unwrap_err().field.as_deref(), Some("lines"));
    }

    #[test]
    fn a_reader_that_comes_back_misses_and_repeats_nothing() {
        let last = prost_types::Timestamp { seconds: 7, nanos: 999_999_999 };
        assert_eq!(after(last), prost_types::Timestamp { seconds: 8, nanos: 0 });
    }
}
