//! Narrows questions for lines by what gateways have records of. Bounded by the newest so many, so that it costs no more than a page.

use dunlin_proto::{ApiError, v1};

use super::App;

/// Records that are looked at.
const NEWEST: u16 = 1_000;

/// Ids to look for, empty where all are; nothing where there is none to be found. And who did not answer.
type Narrowed = (Option<Vec<String>>, Vec<String>);

impl App {
    /// The calls whose lines a question about a status is about.
    pub(super) async fn invocations_with_status(&self, request: &v1::ReadLogsRequest) -> Result<Narrowed, ApiError> {
        if request.status.is_empty() {
            return Ok((Some(Vec::new()), Vec::new()));
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
}
