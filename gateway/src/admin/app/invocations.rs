//! Records of invocations: each gateway keeps its own, so all of them are asked and the answers merged.

use std::{cmp::Reverse, collections::BTreeMap};

use dunlin_proto::{
    ApiError, ErrorCode,
    ids::InvocationId,
    internal::v1::{ListRecordsRequest, ListRecordsResponse},
    names::{InvocationName, Scope},
    v1,
};

use super::{
    App,
    fanout::{gather, message},
    name, page_size,
};
use crate::{admin::access::Operation, auth::Principal, records::Wanted};

impl App {
    /// The newest first. The page token is the id of the last invocation of the page before.
    pub(crate) async fn invocation_list(
        &self,
        who: &Principal,
        request: v1::ListInvocationsRequest,
    ) -> Result<v1::ListInvocationsResponse, ApiError> {
        let Scope { namespace, .. } = name("parent", &request.parent)?;
        Operation::ListInvocations.allow_in(who, &namespace)?;
        match request.search.is_empty() {
            true => self.invocations_among(request, Vec::new()).await,
            false => self.invocations_saying(who, request).await,
        }
    }

    /// Those among these ids; among all where there are none. Whoever asks may read the namespace.
    pub(super) async fn invocations_among(
        &self,
        mut request: v1::ListInvocationsRequest,
        ids: Vec<String>,
    ) -> Result<v1::ListInvocationsResponse, ApiError> {
        let scope: Scope = name("parent", &request.parent)?;
        let size = page_size(request.page_size)?;
        let among = (!ids.is_empty()).then(|| ids.iter().filter_map(|id| id.parse().ok()).collect());
        let mut wanted = Wanted::try_from(&request)?;
        wanted.ids = among;
        request.page_size = i32::try_from(size).unwrap_or(100);
        let before: Option<InvocationId> =
            (!request.page_token.is_empty()).then(|| name("page_token", &request.page_token)).transpose()?;
        let own = self.context.records.matching(&scope, &wanted, before, size).await;
        let counted = self.context.records.refusal_counts(&scope, &wanted);
        let (mut others, unreachable) =
            self.records_ask(ListRecordsRequest { query: Some(request), ids, ..Default::default() }).await;
        let refusals = summed(counted, others.iter_mut().flat_map(|answer| std::mem::take(&mut answer.refusals)));
        let (invocations, next_page_token) = merged(own, others, size);
        Ok(v1::ListInvocationsResponse { invocations, next_page_token, unreachable, refusals, searched_from: None })
    }

    pub(crate) async fn invocation_get(
        &self,
        who: &Principal,
        request: v1::GetInvocationRequest,
    ) -> Result<v1::GetInvocationResponse, ApiError> {
        let wanted: InvocationName = name("name", &request.name)?;
        Operation::GetInvocation.allow_in(who, &wanted.namespace)?;
        let parent =
            dunlin_proto::names::FunctionRef { namespace: wanted.namespace.clone(), function: wanted.function.clone() };
        let query = v1::ListInvocationsRequest {
            parent: parent.to_string(),
            request_id: wanted.id.to_string(),
            ..Default::default()
        };
        let scope: Scope = name("parent", &query.parent)?;
        let own = self.context.records.matching(&scope, &Wanted::try_from(&query)?, None, 10).await;
        if let Some(found) = own.into_iter().find(|found| found.name == request.name) {
            return Ok(v1::GetInvocationResponse { invocation: Some(found) });
        }
        let question = ListRecordsRequest { query: Some(query), id: wanted.id.to_string(), ..Default::default() };
        let (answers, unreachable) = self.records_ask(question).await;
        let mut found = answers.into_iter().flat_map(|answer| answer.invocations);
        // What another gateway says is used only where it is about what was asked.
        match found.find(|found| found.name == request.name) {
            Some(found) => Ok(v1::GetInvocationResponse { invocation: Some(found) }),
            None => Err(not_found(&wanted, &unreachable)),
        }
    }

    /// Asks all other gateways.
    pub(super) async fn records_ask(&self, question: ListRecordsRequest) -> (Vec<ListRecordsResponse>, Vec<String>) {
        let own = self.context.config.name.as_str();
        let peers = self.context.dispatcher.directory().load().others(own);
        let questions = peers.into_iter().map(|peer| {
            let (client, question) = (self.context.workers.records(&peer.gateway, &peer.address), question.clone());
            (peer.gateway, async move { message(client?.list_records(question).await) })
        });
        gather(questions).await
    }
}

/// The page that several gateways' pages make, and the token of the next one.
fn merged(own: Vec<v1::Invocation>, others: Vec<ListRecordsResponse>, size: usize) -> (Vec<v1::Invocation>, String) {
    let mut all = own;
    all.extend(others.into_iter().flat_map(|answer| answer.invocations));
    // The ids are UUIDv7, whose texts sort by time.
    let id = |invocation: &v1::Invocation| invocation.name.rsplit('/').next().unwrap_or_default().to_owned();
    all.sort_by_cached_key(|invocation| Reverse(id(invocation)));
    all.dedup_by(|a, b| a.name == b.name);
    // A full page may be the last one; the next is then empty.
    let more = all.len() >= size;
    all.truncate(size);
    let next = all.last().filter(|_| more).map(id).unwrap_or_default();
    (all, next)
}

/// What several gateways counted, together, the most frequent first.
fn summed(own: Vec<v1::RefusalCount>, others: impl Iterator<Item = v1::RefusalCount>) -> Vec<v1::RefusalCount> {
    let mut sums = BTreeMap::new();
    for counted in own.into_iter().chain(others) {
        let v1::RefusalCount { function, route, key, outcome, count } = counted;
        *sums.entry((function, route, key, outcome)).or_insert(0_u64) += count;
    }
    let sum = |((function, route, key, outcome), count)| v1::RefusalCount { function, route, key, outcome, count };
    let mut sums: Vec<_> = sums.into_iter().map(sum).collect();
    sums.sort_by_key(|sum| Reverse(sum.count));
    sums
}

pub(super) fn not_found(wanted: &InvocationName, unreachable: &[String]) -> ApiError {
    if unreachable.is_empty() {
        return ApiError::not_found(wanted).hint("gateways keep records for a while only");
    }
    let message = format!("{wanted} was not found, but these gateways did not answer: {}", unreachable.join(", "));
    ApiError::new(ErrorCode::Unavailable, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invocation(id: &str) -> v1::Invocation {
        v1::Invocation { name: format!("namespaces/a/functions/b/invocations/{id}"), ..Default::default() }
    }

    fn page(own: &[&str], other: &[&str], size: usize) -> (String, String) {
        let of = |ids: &[&str]| ids.iter().map(|id| invocation(id)).collect::<Vec<_>>();
        let (page, next) =
            merged(of(own), vec![ListRecordsResponse { invocations: of(other), refusals: Vec::new() }], size);
        let ids: Vec<_> = page.iter().map(|found| found.name.rsplit('/').next().unwrap()).collect();
        (ids.join(" "), next)
    }

    #[test]
    fn pages_of_several_gateways_make_one() {
        assert_eq!(page(&["9", "5", "1"], &["8", "5", "2"], 4), ("9 8 5 2".into(), "2".into()));
        assert_eq!(page(&["9"], &[], 4), ("9".into(), String::new()));
        assert_eq!(page(&["9"], &["8"], 2), ("9 8".into(), "8".into()));
        assert_eq!(page(&[], &[], 2), (String::new(), String::new()));
    }

    #[test]
    fn what_gateways_counted_is_summed_by_kind() {
        let count = |function: &str, outcome: &str, count| v1::RefusalCount {
            function: function.into(),
            outcome: outcome.into(),
            count,
            ..Default::default()
        };
        let own = vec![count("pay", "unauthenticated", 2), count("pay", "too_many_requests", 3)];
        let sums = summed(own, [count("pay", "unauthenticated", 5), count("", "not_found", 1)].into_iter());
        let expected =
            [count("pay", "unauthenticated", 7), count("pay", "too_many_requests", 3), count("", "not_found", 1)];
        assert_eq!(sums, expected);
    }

    #[test]
    fn an_invocation_that_a_silent_gateway_may_have_is_not_said_to_be_missing() {
        let name = "namespaces/a/functions/b/invocations/0198c5b2-7a43-7000-8000-3f1f6d1c1a2b".parse().unwrap();
        assert_eq!(not_found(&name, &[]).code, ErrorCode::NotFound);
        assert_eq!(not_found(&name, &["g2".into()]).code, ErrorCode::Unavailable);
    }
}
