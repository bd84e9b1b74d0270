//! Log lines of all workers as one stream in the order of time. Lines lie on the worker that wrote them, so every known
//! worker is asked, and whoever does not answer is named.
//!
//! The order is kept by `logs/merge.rs`, the place where to go on by `logs/cursor.rs`; reading one worker is `logs/reader.rs`. Which
//! calls wrote lines with a text is found by `logs/search.rs`. Lines of calls that end with a status are followed by `logs/followed.rs`;
//! that a function is deleted meanwhile is noticed by `logs/deleted.rs`.

mod cursor;
mod deleted;
mod followed;
mod held;
mod merge;
mod reader;
mod records;
mod search;

use std::{
    collections::BTreeMap,
    pin::Pin,
    time::{Duration, SystemTime},
};

use dunlin_proto::{
    ApiError, ErrorCode,
    internal::v1::{LogPosition, ReadWorkerLogsRequest},
    names::Scope,
    v1,
};
use futures::{Stream, StreamExt};
use tokio::{sync::mpsc, task::JoinSet, time::Instant};

use self::{
    cursor::Cursor,
    merge::{Keep, Merge},
    reader::{Event, Reader},
};
use super::{App, look, name, on_behalf};
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
        let scope: Scope = name("parent", &request.parent)?;
        Operation::ReadLogs.allow_in(who, &scope.namespace)?;
        let request = checked(request)?;
        let follows = request.follow;
        let events = self.log_events(who, request).await?;
        Ok(if follows { self.log_until_deleted(&scope, events) } else { events })
    }

    async fn log_events(&self, who: &Principal, request: v1::ReadLogsRequest) -> Result<LogEvents, ApiError> {
        let begin = Begin::of(&request, SystemTime::now())?;
        if request.follow && !request.status.is_empty() {
            return self.log_followed_by_status(who, request, begin).await;
        }
        let (invocations, silent) = self.invocations_with_status(&request).await?;
        let silent = silent.into_iter().map(unreachable).map(Ok);
        let Some(invocations) = invocations else { return Ok(Box::pin(futures::stream::iter(silent))) };
        let workers = self.workers_known(who).await?;
        let lines = self.clone().log_stream(who.clone(), Asked { request, invocations }, begin, workers);
        Ok(Box::pin(futures::stream::iter(silent).chain(lines)))
    }

    /// The workers that may hold lines: name and address. Without the scheduler, those that are placed.
    async fn workers_known(&self, who: &Principal) -> Result<BTreeMap<String, String>, ApiError> {
        // The answer names machines, which is not for the caller; so the gateway asks on its own behalf.
        let request = on_behalf(who, v1::GetClusterRequest {});
        let mut client = self.context.scheduler.cluster().max_decoding_message_size(super::MAX_ANSWER_BYTES);
        let placed = || -> BTreeMap<_, _> {
            let placements = self.context.dispatcher.directory().load();
            placements.endpoints().map(|endpoint| (endpoint.worker.to_string(), endpoint.address.clone())).collect()
        };
        match look(client.get_cluster(request)).await {
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

    /// First what the workers have, then, for a follower, what comes until its token expires. Dropping the stream ends every
    /// reader.
    fn log_stream(
        self,
        who: Principal,
        asked: Asked,
        begin: Begin,
        workers: BTreeMap<String, String>,
    ) -> impl Stream<Item = Result<v1::ReadLogsResponse, ApiError>> + Send {
        async_stream::stream! {
            let expiry = tokio::time::sleep(who.expires.duration_since(SystemTime::now()).unwrap_or_default());
            tokio::pin!(expiry);
            let (send, mut events) = mpsc::channel(WAITING);
            let mut merge = Merge::new(begin.keep, begin.cursor.clone());
            let mut readers = Readers::new(&self, &asked, begin, send);
            readers.open_all(workers);
            let until = Instant::now() + HISTORY;
            while readers.are_behind() && !merge.is_full() {
                let Ok(Some(event)) = tokio::time::timeout_at(until, events.recv()).await else { break };
                readers.note(&event);
                merge.push(event);
            }
            if Instant::now() >= until {
                readers.silent().into_iter().for_each(|worker| merge.push(Event::Unreachable(worker)));
            }
            for response in merge.flush() {
                yield Ok(response);
            }
            yield Ok(merge.place());
            if !asked.request.follow {
                return;
            }
            merge.unbound();
            readers.is_late = true;
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
                        readers.open_all(workers);
                    },
                    // Whoever follows goes on at another gateway, or at the next start of this one.
                    () = self.context.shutdown.begun() => return,
                    () = &mut expiry => {
                        yield Err(expired());
                        return;
                    }
                }
            }
        }
    }
}

/// What every worker is asked.
#[derive(Debug)]
struct Asked {
    request: v1::ReadLogsRequest,
    /// Only lines of these; empty for all.
    invocations: Vec<String>,
}

/// Says who did not answer.
fn unreachable(process: String) -> v1::ReadLogsResponse {
    let event = Some(v1::read_logs_response::Event::UnreachableWorker(process));
    v1::ReadLogsResponse { event, cursor: String::new() }
}

/// What a follower hears whose token was good when it came.
fn expired() -> ApiError {
    ApiError::new(ErrorCode::Unauthenticated, "the token expired while the log was read")
        .hint("sign in again and go on with the last cursor")
}

/// Where a stream begins.
#[derive(Debug)]
struct Begin {
    cursor: Cursor,
    keep: Keep,
    /// Whether it goes on from a cursor.
    resumes: bool,
}

impl Begin {
    fn of(request: &v1::ReadLogsRequest, now: SystemTime) -> Result<Self, ApiError> {
        let lines = request.lines as usize;
        if request.cursor.is_empty() {
            let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            let cursor = Cursor::new(u64::try_from(now.as_micros()).unwrap_or(u64::MAX));
            return Ok(Self { cursor, keep: Keep::Last(lines), resumes: false });
        }
        let keep = if request.follow { Keep::All } else { Keep::First(lines) };
        Ok(Self { cursor: Cursor::parse(&request.cursor)?, keep, resumes: true })
    }
}

/// The readers of one stream.
struct Readers<'a> {
    app: &'a App,
    asked: &'a Asked,
    /// Where the stream began.
    begin: Begin,
    /// What there was has been handed out: whoever comes now is read from the stream's beginning on.
    is_late: bool,
    send: mpsc::Sender<Event>,
    tasks: JoinSet<()>,
    open: BTreeMap<String, State>,
}

/// A worker that is or was read.
#[derive(Debug, Default)]
struct State {
    reading: bool,
    /// It has brought what it had, or is not waited for.
    caught_up: bool,
    /// That it does not answer has been said, and it has not answered since.
    is_away: bool,
    place: Option<LogPosition>,
}

impl<'a> Readers<'a> {
    fn new(app: &'a App, asked: &'a Asked, begin: Begin, send: mpsc::Sender<Event>) -> Self {
        Self { app, asked, begin, is_late: false, send, tasks: JoinSet::new(), open: BTreeMap::new() }
    }

    /// Reads the workers that are asked for and not being read.
    fn open_all(&mut self, workers: BTreeMap<String, String>) {
        let wanted = &self.asked.request.worker;
        let wanted = workers.into_iter().filter(|(worker, _)| wanted.is_empty() || wanted == worker);
        wanted.for_each(|(worker, address)| self.open(worker, &address));
    }

    fn open(&mut self, worker: String, address: &str) {
        let state = self.open.entry(worker.clone()).or_default();
        if std::mem::replace(&mut state.reading, true) {
            return;
        }
        let known = state.place.or_else(|| self.begin.cursor.place(&worker));
        let mut request = self.asked.request.clone();
        request.cursor.clear();
        let after = known.or((self.begin.resumes || self.is_late).then(LogPosition::default));
        if known.is_some() {
            request.since = None;
        } else if after.is_some() {
            let since = SystemTime::UNIX_EPOCH.checked_add(Duration::from_micros(self.begin.cursor.since()));
            request.since = since.map(prost_types::Timestamp::from);
        }
        let client = self.app.context.workers.logs(&worker, address);
        let invocations = self.asked.invocations.clone();
        let question = ReadWorkerLogsRequest { query: Some(request), after, invocations };
        let reader = Reader { worker, question, report_failure: !state.is_away, send: self.send.clone() };
        self.tasks.spawn(reader.run(client));
    }

    /// Learns from what a reader sent.
    fn note(&mut self, event: &Event) {
        let mut heard = |worker: &String, boot, sequence| {
            let state = self.open.entry(worker.clone()).or_default();
            state.is_away = false;
            state.place = Some(LogPosition { boot, sequence });
        };
        match event {
            Event::Line(line) => heard(&line.worker, line.boot, line.sequence),
            Event::Gap(gap) => heard(&gap.worker, gap.boot, gap.sequence),
            Event::Position(worker, place) => {
                heard(worker, place.boot, place.sequence);
                self.open.entry(worker.clone()).or_default().caught_up = true;
            }
            Event::Unreachable(worker) | Event::Ended(worker) => {
                let state = self.open.entry(worker.clone()).or_default();
                (state.reading, state.caught_up) = (false, true);
                state.is_away |= matches!(event, Event::Unreachable(_));
            }
        }
        while self.tasks.try_join_next().is_some() {}
    }

    /// Whether some worker has not brought all that it had.
    fn are_behind(&self) -> bool {
        self.open.values().any(|state| !state.caught_up)
    }

    /// Those workers, as far as something of theirs is missing: a follower gets what they are still sending.
    fn silent(&mut self) -> Vec<String> {
        let follow = self.asked.request.follow;
        let silent = self.open.iter_mut().filter(|(_, state)| !(state.caught_up || follow && state.place.is_some()));
        silent
            .map(|(worker, state)| {
                state.is_away = true;
                worker.clone()
            })
            .collect()
    }
}

/// Fills in the default of `lines` and refuses what is out of range.
fn checked(mut request: v1::ReadLogsRequest) -> Result<v1::ReadLogsRequest, ApiError> {
    match request.lines {
        0 => request.lines = 100,
        1..=10_000 => {}
        lines => return Err(ApiError::invalid("lines", format!("lines is {lines} but may be 10000 at most"))),
    }
    check_search(&request.search)?;
    if request.worker.len() > 128 {
        return Err(ApiError::invalid("worker", "worker may have 128 bytes at most"));
    }
    if request.request_id.len() > 128 {
        return Err(ApiError::invalid("request_id", "request_id may have 128 bytes at most"));
    }
    Ok(request)
}

/// Refuses a text that is too long to be looked for.
fn check_search(text: &str) -> Result<(), ApiError> {
    let message = || ApiError::invalid("search", format!("search may have {MAX_SEARCH} bytes at most"));
    if text.len() > MAX_SEARCH { Err(message()) } else { Ok(()) }
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
    fn a_stream_begins_with_the_last_lines_or_goes_on() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_micros(7);
        let fresh = v1::ReadLogsRequest { lines: 5, ..Default::default() };
        let begin = Begin::of(&fresh, at).unwrap();
        assert!(matches!((begin.keep, begin.resumes, begin.cursor.since()), (Keep::Last(5), false, 7)));
        let page = v1::ReadLogsRequest { cursor: begin.cursor.text(), ..fresh };
        assert!(matches!(Begin::of(&page, at).unwrap(), Begin { keep: Keep::First(5), resumes: true, .. }));
        let follow = v1::ReadLogsRequest { follow: true, ..page };
        assert!(matches!(Begin::of(&follow, at).unwrap(), Begin { keep: Keep::All, resumes: true, .. }));
        let wrong = v1::ReadLogsRequest { cursor: "here".to_owned(), ..follow };
        assert_eq!(Begin::of(&wrong, at).unwrap_err().field.as_deref(), Some("cursor"));
    }
}
