//! Finds calls by what they wrote: workers say which calls wrote lines with a text, gateways have the records of these. Both are asked
//! for the newest first, in rounds, until a page is full, all is looked at or the time is up; then it is said from when on it was.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use dunlin_proto::{
    ApiError,
    ids::InvocationId,
    internal::v1::{SearchWorkerLogsRequest, SearchWorkerLogsResponse},
    model::to_wire_duration,
    names::Scope,
    v1,
};
use tokio::time::Instant;

use super::{
    super::{
        App,
        fanout::{PATIENCE, gather_within, message},
        name, page_size,
    },
    check_search,
};
use crate::{admin::access::Operation, auth::Principal, records::Wanted};

/// How long the lines may be searched for one page.
const TIME: Duration = Duration::from_secs(4);
/// Calls that are found in a round at the most.
const MOST: usize = 10_000;
/// The clocks of gateways and what they number calls by differ by less than this.
const CLOCKS: Duration = Duration::from_secs(2);

/// What workers found in a round.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    ids: BTreeSet<InvocationId>,
    /// All with this id or a greater one are there; nothing where all are.
    complete_from: Option<InvocationId>,
}

impl Found {
    /// What several workers found, as far as it is complete: what lies before is for the next round.
    fn merged(answers: Vec<SearchWorkerLogsResponse>, most: usize) -> Result<Self, ApiError> {
        let id = |bytes: &[u8]| InvocationId::from_slice(bytes).map_err(|_| ApiError::internal());
        let mut found = Self::default();
        for answer in answers {
            for bytes in &answer.invocations {
                found.ids.insert(id(bytes)?);
            }
            let from = (!answer.complete_from.is_empty()).then(|| id(&answer.complete_from)).transpose()?;
            found.complete_from = found.complete_from.max(from);
        }
        if found.ids.len() > most {
            let last = found.ids.iter().rev().nth(most.saturating_sub(1)).copied();
            found.complete_from = found.complete_from.max(last);
        }
        if let Some(from) = found.complete_from {
            found.ids = found.ids.split_off(&from);
        }
        Ok(found)
    }
}

/// A page under way.
#[derive(Debug)]
struct Search {
    request: v1::ListInvocationsRequest,
    size: usize,
    /// Only calls with a smaller id are still looked for.
    before: Option<InvocationId>,
    page: v1::ListInvocationsResponse,
}

impl Search {
    /// A page that begins where the request says.
    fn new(mut request: v1::ListInvocationsRequest) -> Result<(Self, String), ApiError> {
        let size = page_size(request.page_size)?;
        let token = (!request.page_token.is_empty()).then(|| name("page_token", &request.page_token)).transpose()?;
        let until = Wanted::try_from(&request)?.until().and_then(|until| until.checked_add(CLOCKS));
        let text = std::mem::take(&mut request.search);
        let before = [token, until.map(InvocationId::first_at)].into_iter().flatten().min();
        Ok((Self { request, size, before, page: v1::ListInvocationsResponse::default() }, text))
    }

    /// What gateways are asked for in this round.
    fn question(&self) -> v1::ListInvocationsRequest {
        let left = self.size.saturating_sub(self.page.invocations.len());
        v1::ListInvocationsRequest {
            page_size: i32::try_from(left).unwrap_or(i32::MAX),
            page_token: self.before.map(|id| id.to_string()).unwrap_or_default(),
            ..self.request.clone()
        }
    }

    /// Takes in what gateways answered.
    fn take(&mut self, answer: v1::ListInvocationsResponse) {
        let first = self.page.invocations.is_empty();
        self.page.invocations.extend(answer.invocations);
        self.page.next_page_token = answer.next_page_token;
        if first {
            self.page.refusals = answer.refusals;
        }
        self.silent(answer.unreachable);
    }

    fn silent(&mut self, processes: Vec<String>) {
        self.page.unreachable.extend(processes);
        self.page.unreachable.sort_unstable();
        self.page.unreachable.dedup();
    }

    /// Whether there is another round, where this one was complete from that id on.
    fn goes_on(&mut self, complete_from: Option<InvocationId>, time_is_up: bool) -> bool {
        if self.page.invocations.len() >= self.size {
            return false;
        }
        self.page.next_page_token.clear();
        let Some(from) = complete_from else { return false };
        let advances = self.before.is_none_or(|before| from < before);
        if advances {
            self.before = Some(from);
        }
        if time_is_up || !advances {
            self.page.searched_from = Some(from.time().into());
            self.page.next_page_token = if advances { from.to_string() } else { String::new() };
        }
        advances && !time_is_up
    }
}

impl App {
    /// The newest calls that wrote a line with the text that is searched for.
    pub(in crate::admin::app) async fn invocations_saying(
        &self,
        who: &Principal,
        request: v1::ListInvocationsRequest,
    ) -> Result<v1::ListInvocationsResponse, ApiError> {
        let Scope { namespace, .. } = name("parent", &request.parent)?;
        Operation::ReadLogs.allow_in(who, &namespace)?;
        let (mut search, text) = Search::new(request)?;
        check_search(&text)?;
        let mut workers = self.workers_known(who).await?;
        let until = Instant::now() + TIME;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let (answers, silent) = self.calls_saying(&workers, &search, &text, left).await;
            workers.retain(|worker, _| !silent.contains(worker));
            search.silent(silent);
            let found = Found::merged(answers, MOST)?;
            if !found.ids.is_empty() {
                let ids = found.ids.iter().map(ToString::to_string).collect();
                search.take(self.invocations_among(search.question(), ids).await?);
            }
            if !search.goes_on(found.complete_from, Instant::now() >= until) {
                return Ok(search.page);
            }
        }
    }

    /// Asks all workers for this long.
    async fn calls_saying(
        &self,
        workers: &BTreeMap<String, String>,
        Search { request, before, .. }: &Search,
        text: &str,
        patience: Duration,
    ) -> (Vec<SearchWorkerLogsResponse>, Vec<String>) {
        let query = v1::ReadLogsRequest {
            parent: request.parent.clone(),
            since: request.since,
            version: request.version,
            request_id: request.request_id.clone(),
            search: text.to_owned(),
            ..Default::default()
        };
        let question = SearchWorkerLogsRequest {
            query: Some(query),
            before: before.map(|id| id.to_string()).unwrap_or_default(),
            most: u32::try_from(MOST).unwrap_or(u32::MAX),
            patience: Some(to_wire_duration(patience)),
        };
        let questions = workers.iter().map(|(worker, address)| {
            let (client, question) = (self.context.workers.logs(worker, address), question.clone());
            (worker.clone(), async move { message(client?.search_worker_logs(question).await) })
        });
        gather_within(patience + PATIENCE, questions).await
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn id(second: u64) -> InvocationId {
        InvocationId::first_at(SystemTime::UNIX_EPOCH + Duration::from_secs(second))
    }

    fn answer(seconds: &[u64], complete_from: Option<u64>) -> SearchWorkerLogsResponse {
        let bytes = |second: u64| id(second).uuid().as_bytes().to_vec().into();
        let invocations = seconds.iter().map(|second| bytes(*second)).collect();
        SearchWorkerLogsResponse { invocations, complete_from: complete_from.map(bytes).unwrap_or_default() }
    }

    #[test]
    fn what_several_workers_found_is_complete_from_where_all_are() {
        for (answers, most, ids, complete_from) in [
            (vec![], 9, &[][..], None),
            (vec![answer(&[5, 3], None), answer(&[4], None)], 9, &[3, 4, 5], None),
            (vec![answer(&[5, 3], None), answer(&[9, 4], Some(4))], 9, &[4, 5, 9], Some(4)),
            (vec![answer(&[5], Some(5)), answer(&[9, 4], Some(2))], 9, &[5, 9], Some(5)),
            (vec![answer(&[], Some(7)), answer(&[9, 4], None)], 9, &[9], Some(7)),
            (vec![answer(&[5, 3], None), answer(&[9, 4], None)], 2, &[5, 9], Some(5)),
        ] {
            let expected =
                Found { ids: ids.iter().map(|second| id(*second)).collect(), complete_from: complete_from.map(id) };
            assert_eq!(Found::merged(answers.clone(), most), Ok(expected), "{answers:?}");
        }
        let wrong = SearchWorkerLogsResponse { invocations: vec!["short".into()], ..Default::default() };
        assert!(Found::merged(vec![wrong], 9).is_err());
    }

    fn search(before: Option<u64>, calls: usize) -> Search {
        let request = v1::ListInvocationsRequest { page_size: 3, ..Default::default() };
        let (mut search, _) = Search::new(request).unwrap();
        search.before = before.map(id);
        let page = v1::ListInvocationsResponse {
            invocations: vec![v1::Invocation::default(); calls],
            next_page_token: "token".to_owned(),
            ..Default::default()
        };
        search.take(page);
        search
    }

    #[test]
    fn it_goes_on_until_the_page_is_full_or_all_is_looked_at_and_says_where_it_stopped() {
        let next = || id(50).to_string();
        for (before, calls, complete_from, time_is_up, goes_on, token, searched_from) in [
            (None, 3, Some(50), false, false, "token".to_owned(), None),
            (None, 2, None, false, false, String::new(), None),
            (None, 2, Some(50), false, true, String::new(), None),
            (Some(60), 0, Some(50), false, true, String::new(), None),
            (Some(60), 2, Some(50), true, false, next(), Some(50)),
            (None, 0, Some(50), true, false, next(), Some(50)),
            // As far back as it came before, and no further.
            (Some(50), 0, Some(50), false, false, String::new(), Some(50)),
            (Some(40), 1, Some(50), true, false, String::new(), Some(50)),
        ] {
            let mut search = search(before, calls);
            assert_eq!(
                search.goes_on(complete_from.map(id), time_is_up),
                goes_on,
                "{before:?} {calls} {complete_from:?}"
            );
            let said = search.page.searched_from.map(|time| time.seconds);
            assert_eq!(
                (search.page.next_page_token, said),
                (token, searched_from),
                "{before:?} {calls} {complete_from:?}"
            );
        }
    }

    #[test]
    fn a_page_begins_where_its_token_or_its_end_says() {
        let until = Some(prost_types::Timestamp { seconds: 100, nanos: 0 });
        let token = id(90).to_string();
        let request = v1::ListInvocationsRequest { until, search: "no".to_owned(), ..Default::default() };
        let (search, text) = Search::new(request.clone()).unwrap();
        assert_eq!((search.before, text.as_str(), search.request.search.as_str()), (Some(id(102)), "no", ""));
        let (search, _) = Search::new(v1::ListInvocationsRequest { page_token: token.clone(), ..request }).unwrap();
        assert_eq!((search.before, search.question().page_token), (Some(id(90)), token));
    }
}
