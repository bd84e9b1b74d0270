//! Joins what is known twice: gateways have records of calls, workers their lines. What is found in one narrows the question to the
//! other. Bounded by the newest so many, so that neither costs more than a page.

use std::collections::BTreeSet;

use dunlin_proto::{
    ApiError,
    v1::{self, read_logs_response::Event},
};
use futures::TryStreamExt;

use super::App;
use crate::auth::Principal;

/// Lines or records that are looked at.
const NEWEST: u16 = 1_000;

/// Ids to look for, empty where all are; nothing where there is none to be found. And who did not answer.
type Narrowed = (Option<Vec<String>>, Vec<String>);

impl App {
    /// The calls whose lines a question about a status is about.
    pub(super) async fn invocations_with_status(&self, request: &v1::ReadLogsRequest) -> Result<Narrowed, ApiError> {
        if request.status.is_empty() {
            return Ok((Some(Vec::new()), Vec::new()));
        }
        if request.follow {
            let error =
                ApiError::invalid("status", "lines of a status can't be followed: a call has one at its end only");
            return Err(error.hint("leave out status, or do not follow"));
        }
        let query = v1::ListInvocationsRequest {
            parent: request.parent.clone(),
            page_size: NEWEST.into(),
            status: request.status.clone(),
            version: request.version,
            ..Default::default()
        };
        let found = self.invocations_among(query, Vec::new()).await?;
        let id = |call: v1::Invocation| call.name.rsplit('/').next().unwrap_or_default().to_owned();
        let ids: Vec<_> = found.invocations.into_iter().map(id).collect();
        Ok((Some(ids).filter(|ids| !ids.is_empty()), found.unreachable))
    }

    /// The calls that wrote a line with the text that is searched for; that text is taken from the question.
    pub(in crate::admin::app) async fn invocations_saying(
        &self,
        who: &Principal,
        request: &mut v1::ListInvocationsRequest,
    ) -> Result<Narrowed, ApiError> {
        let search = std::mem::take(&mut request.search);
        if search.is_empty() {
            return Ok((Some(Vec::new()), Vec::new()));
        }
        let query = v1::ReadLogsRequest {
            parent: request.parent.clone(),
            since: request.since,
            version: request.version,
            request_id: request.request_id.clone(),
            lines: NEWEST.into(),
            search,
            ..Default::default()
        };
        let mut events = self.log_read(who, query).await?;
        let (mut ids, mut silent) = (BTreeSet::new(), Vec::new());
        while let Some(response) = events.try_next().await? {
            match response.event {
                Some(Event::Line(line)) => drop(ids.insert(line.invocation)),
                Some(Event::UnreachableWorker(worker)) => silent.push(worker),
                Some(Event::Gap(_)) | None => {}
            }
        }
        Ok((Some(Vec::from_iter(ids)).filter(|ids| !ids.is_empty()), silent))
    }
}
