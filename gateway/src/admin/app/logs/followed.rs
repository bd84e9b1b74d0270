//! Follows lines of calls that end with a status: workers send all lines as they come, gateways say which calls have ended, and a line
//! comes out once both is known. What is held meanwhile is `held.rs`'s, the order `merge.rs`'s.

mod state;

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    time::{Duration, SystemTime},
};

use dunlin_proto::{
    ApiError,
    ids::InvocationId,
    internal::v1::{FindStatusesRequest, FindStatusesResponse},
    names::Scope,
    v1::{self, ReadLogsResponse},
};
use futures::{FutureExt, Stream, StreamExt, TryStreamExt, stream::FuturesUnordered};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, interval_at},
};

use self::state::{Following, Past};
use super::{
    super::{
        App,
        fanout::{gather, message},
        name,
    },
    Asked, Begin, LOOK_AGAIN, LogEvents, REORDER, Readers, WAITING,
    cursor::Cursor,
    expired,
    held::HOLD,
    merge::Keep,
};
use crate::{auth::Principal, records::status_range};

/// How often gateways are asked which calls have ended.
const ASK: Duration = Duration::from_millis(250);
/// Calls that are asked for at once.
const MOST_CALLS: usize = 5_000;
/// The newest records are in memory; of calls that began this long ago they may be on disk alone.
const NEW: Duration = Duration::from_secs(10);
/// Lines of calls that run when following begins, on each worker.
const RUNNING_LINES: u32 = 10_000;

/// With what calls ended, and who did not say.
type Statuses = (Vec<(InvocationId, u16)>, Vec<String>);

impl App {
    /// The log of calls that end with the status that is asked for. What there is of those that have ended comes first.
    pub(super) async fn log_followed_by_status(
        &self,
        who: &Principal,
        request: v1::ReadLogsRequest,
        begin: Begin,
    ) -> Result<LogEvents, ApiError> {
        let wanted = status_range(&request.status)?.unwrap_or(0..=u16::MAX);
        let scope: Scope = name("parent", &request.parent)?;
        let workers = self.workers_known(who).await?;
        let (past, begin, request) = match begin.resumes {
            true => (Past::default(), begin, request),
            false => self.begun_by_status(who, request, begin, &workers).await?,
        };
        let following = Following::new(wanted, begin.cursor.clone());
        let asked = Asked { request, invocations: Vec::new() };
        Ok(Box::pin(self.clone().calls_followed(who.clone(), scope, (asked, begin, workers), following, past)))
    }

    /// What there is already, and from where on it is followed: lines of calls that are running lie before.
    async fn begun_by_status(
        &self,
        who: &Principal,
        mut request: v1::ReadLogsRequest,
        begin: Begin,
        workers: &BTreeMap<String, String>,
    ) -> Result<(Past, Begin, v1::ReadLogsRequest), ApiError> {
        let since = SystemTime::now().checked_sub(HOLD).unwrap_or(SystemTime::UNIX_EPOCH);
        let (invocations, silent) = self.invocations_with_status(&request).await?;
        let mut past = Past::new(since, silent);
        if let Some(invocations) = invocations {
            let calls = invocations.iter().filter_map(|id| id.parse().ok()).collect();
            let asked = Asked { request: v1::ReadLogsRequest { follow: false, ..request.clone() }, invocations };
            let lines = self.clone().log_stream(who.clone(), asked, begin, workers.clone());
            past.read(calls, lines.try_collect().await?);
        }
        let asked_since = request.since.and_then(|since| SystemTime::try_from(since).ok());
        request.since = Some(asked_since.unwrap_or(since).max(since).into());
        request.lines = RUNNING_LINES;
        let micros = since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_micros();
        let cursor = Cursor::new(u64::try_from(micros).unwrap_or(u64::MAX));
        Ok((past, Begin { cursor, keep: Keep::All, resumes: false }, request))
    }

    /// First the past, then what comes until the token expires. Dropping the stream ends every reader.
    fn calls_followed(
        self,
        who: Principal,
        scope: Scope,
        (asked, begin, workers): (Asked, Begin, BTreeMap<String, String>),
        mut following: Following,
        past: Past,
    ) -> impl Stream<Item = Result<ReadLogsResponse, ApiError>> + Send {
        async_stream::stream! {
            let expiry = tokio::time::sleep(who.expires.duration_since(SystemTime::now()).unwrap_or_default());
            tokio::pin!(expiry);
            let (send, mut events) = mpsc::channel(WAITING);
            let mut readers = Readers::new(&self, &asked, begin, send);
            readers.open_all(workers);
            for response in following.past(past) {
                yield Ok(response);
            }
            let mut look = interval_at(Instant::now() + LOOK_AGAIN, LOOK_AGAIN);
            let (mut settle, mut ask) = (patient(REORDER), patient(ASK));
            let (mut asking, mut away) = (FuturesUnordered::new(), BTreeSet::new());
            loop {
                tokio::select! {
                    Some(event) = events.recv(), if !following.is_full() => {
                        readers.note(&event);
                        following.take(event, Instant::now());
                    }
                    _ = settle.tick() => for response in following.flush(Instant::now()) {
                        yield Ok(response);
                    },
                    _ = ask.tick(), if asking.is_empty() => {
                        let (calls, on_disk) = to_ask(&mut following, SystemTime::now());
                        if !calls.is_empty() {
                            asking.push(self.statuses_of(&scope, &asked.request.parent, calls, on_disk).boxed());
                        }
                    }
                    Some((ended, silent)) = asking.next() => {
                        following.ended(ended);
                        let silent = BTreeSet::from_iter(silent);
                        silent.difference(&away).for_each(|gateway| following.unreachable(gateway.clone()));
                        away = silent;
                    }
                    _ = look.tick() => {
                        if !std::mem::replace(&mut readers.is_late, true) {
                            readers.silent().into_iter().for_each(|worker| following.unreachable(worker));
                        }
                        if let Ok(workers) = self.workers_known(&who).await {
                            readers.open_all(workers);
                        }
                        yield Ok(following.place());
                    }
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

    /// Asks all gateways with what status these calls ended.
    async fn statuses_of(&self, scope: &Scope, parent: &str, calls: Vec<InvocationId>, on_disk: bool) -> Statuses {
        let own = self.context.config.name.as_str();
        let bytes = |id: &InvocationId| id.uuid().as_bytes().to_vec().into();
        let invocations = calls.iter().map(bytes).collect();
        let question = FindStatusesRequest { parent: parent.to_owned(), invocations, on_disk };
        let peers = self.context.dispatcher.directory().load().gateways.clone();
        let questions = peers.into_iter().filter(|peer| peer.gateway != own).map(|peer| {
            let (client, question) = (self.context.workers.records(&peer.gateway, &peer.address), question.clone());
            (peer.gateway, async move { message(client?.find_statuses(question).await) })
        });
        let here = self.context.records.statuses(scope, HashSet::from_iter(calls), on_disk);
        let (here, (answers, silent)) = futures::join!(here, gather(questions));
        (here.into_iter().chain(answers.into_iter().flat_map(known)).collect(), silent)
    }
}

/// What another gateway said; what makes no sense says nothing.
fn known(answer: FindStatusesResponse) -> impl Iterator<Item = (InvocationId, u16)> {
    answer
        .calls
        .into_iter()
        .filter_map(|call| Some((InvocationId::from_slice(&call.invocation).ok()?, u16::try_from(call.status).ok()?)))
}

/// The calls that are asked for next, and whether among all records: where following goes on after a while, calls have ended long ago.
fn to_ask(following: &mut Following, now: SystemTime) -> (Vec<InvocationId>, bool) {
    let before = InvocationId::first_at(now.checked_sub(NEW).unwrap_or(SystemTime::UNIX_EPOCH));
    let old = following.held.search_old(before, MOST_CALLS);
    let on_disk = !old.is_empty();
    (if on_disk { old } else { following.held.calls(MOST_CALLS) }, on_disk)
}

/// Ticks that are not made up for.
fn patient(period: Duration) -> tokio::time::Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
