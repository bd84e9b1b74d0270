//! What became of a request: its record or refusal, wherever it is kept, and its log lines, brought together. What they mean
//! is said by `explain.rs`.

use std::time::{Duration, SystemTime};

use dunlin_proto::{
    ApiError,
    ids::InvocationId,
    internal::v1::ListRecordsRequest,
    names::{InvocationName, NamespaceRef, Scope},
    v1::{self, read_logs_response::Event},
};
use futures::TryStreamExt;

use super::{App, invocations::not_found, name};
use crate::{
    admin::{access::Operation, explain},
    auth::Principal,
    records::Wanted,
};

/// How many log lines an explanation has at the most.
const LINES: u32 = 1_000;
/// How far from a request that is not kept others are looked at, either way.
const AROUND: Duration = Duration::from_secs(30);
/// How many of those are looked at.
const OTHERS: i32 = 1_000;

impl App {
    /// Says what became of a request of a namespace.
    pub(crate) async fn explain(
        &self,
        who: &Principal,
        request: v1::ExplainInvocationRequest,
    ) -> Result<v1::ExplainInvocationResponse, ApiError> {
        Ok(self.explained(who, request).await?.0)
    }

    /// Says what became of an invocation, with what its guest wrote. That no record of it is kept is an answer as well, unless somebody
    /// may keep it who can't be asked.
    pub(crate) async fn invocation_explained(
        &self,
        who: &Principal,
        wanted: &InvocationName,
    ) -> Result<(v1::ExplainInvocationResponse, Vec<v1::LogLine>), ApiError> {
        let parent = NamespaceRef { namespace: wanted.namespace.clone() }.to_string();
        let request = v1::ExplainInvocationRequest { parent, request_id: wanted.id.to_string() };
        let (found, lines) = self.explained(who, request).await?;
        let record = found.explanation.as_ref().and_then(|explanation| explanation.invocation.as_ref());
        if record.is_some_and(|record| record.name == wanted.to_string()) || found.unreachable.is_empty() {
            return Ok((found, lines));
        }
        Err(not_found(wanted, &found.unreachable))
    }

    async fn explained(
        &self,
        who: &Principal,
        request: v1::ExplainInvocationRequest,
    ) -> Result<(v1::ExplainInvocationResponse, Vec<v1::LogLine>), ApiError> {
        let NamespaceRef { namespace } = name("parent", &request.parent)?;
        Operation::ExplainInvocation.allow_in(who, &namespace)?;
        if request.request_id.is_empty() {
            return Err(ApiError::invalid(
                "request_id",
                "request_id is missing: it is in each answer's Dunlin-Request-Id",
            ));
        }
        let id = request.request_id;
        let query = v1::ListInvocationsRequest {
            parent: request.parent.clone(),
            page_size: 10,
            request_id: id.clone(),
            ..Default::default()
        };
        let (mut found, mut unreachable) = self.known(query.clone()).await?;
        if found.is_empty() && who.require_operator().is_ok() {
            found = self.of_nobody(query).await?;
        }
        let Some(record) = explain::of(found, &id) else {
            let group = self.group(&request.parent, &id).await?;
            let explanation = Some(explain::unknown(&id, &group));
            return Ok((v1::ExplainInvocationResponse { explanation, unreachable }, Vec::new()));
        };
        let lines = match record.refused {
            true => Vec::new(),
            false => self.lines_of(who, &record, &mut unreachable).await?,
        };
        let explanation = Some(explain::explain(record, &lines));
        Ok((v1::ExplainInvocationResponse { explanation, unreachable }, lines))
    }

    /// What all gateways know of requests like this, and who did not answer.
    async fn known(&self, query: v1::ListInvocationsRequest) -> Result<(Vec<v1::Invocation>, Vec<String>), ApiError> {
        let scope: Scope = name("parent", &query.parent)?;
        let size = usize::try_from(query.page_size).unwrap_or_default();
        let mut found = self.context.records.matching(&scope, &Wanted::try_from(&query)?, None, size).await;
        let (others, unreachable) =
            self.records_ask(ListRecordsRequest { query: Some(query), ..Default::default() }).await;
        // What another gateway says is used only where it is about the namespace that was asked for.
        let here = format!("{}/", NamespaceRef { namespace: scope.namespace });
        found.extend(others.into_iter().flat_map(|answer| answer.invocations).filter(|i| i.name.starts_with(&here)));
        Ok((found, unreachable))
    }

    /// What all gateways know of requests like this that were for no namespace that there is: whoever operates the cluster may see
    /// them.
    async fn of_nobody(&self, query: v1::ListInvocationsRequest) -> Result<Vec<v1::Invocation>, ApiError> {
        let mut found = self.context.records.of_nobody(&Wanted::try_from(&query)?);
        let question = ListRecordsRequest { query: Some(query), of_nobody: true, ..Default::default() };
        let (others, _) = self.records_ask(question).await;
        found.extend(
            others.into_iter().flat_map(|answer| answer.invocations).filter(|i| i.name.starts_with("invocations/")),
        );
        Ok(found)
    }

    /// The requests around the time of one that is not kept, as far as its id says when that was.
    async fn group(&self, parent: &str, id: &str) -> Result<Vec<v1::Invocation>, ApiError> {
        let Some(time) = id.parse().ok().and_then(|id: InvocationId| explain::time_of(id)) else {
            return Ok(Vec::new());
        };
        let edge = |time: Option<SystemTime>| time.map(Into::into);
        let query = v1::ListInvocationsRequest {
            parent: parent.to_owned(),
            page_size: OTHERS,
            since: edge(time.checked_sub(AROUND)),
            until: edge(time.checked_add(AROUND)),
            ..Default::default()
        };
        let refused = v1::ListInvocationsRequest { refused: true, ..query.clone() };
        let (served, refused) = tokio::join!(self.known(query), self.known(refused));
        Ok(served?.0.into_iter().chain(refused?.0).collect())
    }

    /// What its guest wrote, as far as workers answer.
    async fn lines_of(
        &self,
        who: &Principal,
        record: &v1::Invocation,
        unreachable: &mut Vec<String>,
    ) -> Result<Vec<v1::LogLine>, ApiError> {
        let (function, id) = record.name.rsplit_once("/invocations/").unwrap_or_default();
        let request = v1::ReadLogsRequest {
            parent: function.to_owned(),
            request_id: id.to_owned(),
            lines: LINES,
            ..Default::default()
        };
        let mut lines = Vec::new();
        // Without the scheduler there may be nobody to ask, and the record says enough.
        let Ok(mut events) = self.log_read(who, request).await else { return Ok(lines) };
        while let Some(response) = events.try_next().await? {
            match response.event {
                Some(Event::Line(line)) if line.invocation == id => lines.push(line),
                Some(Event::UnreachableWorker(worker)) => unreachable.push(worker),
                Some(Event::Line(_) | Event::Gap(_)) | None => {}
            }
        }
        Ok(lines)
    }
}
