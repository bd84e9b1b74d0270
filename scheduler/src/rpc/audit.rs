//! `AuditService`: the audit log, as it is in the database; and what gateways note for it.

use dunlin_proto::{
    ApiError,
    audit::{Author, Entry, Granted, Outcome, noted},
    ids::Digest,
    internal::v1::{Attempt, NoteAttemptsRequest, NoteAttemptsResponse, audit_note_service_server::AuditNoteService},
    names::NamespaceRef,
    v1::{self, audit_service_server::AuditService},
};
use serde_json::{Value, json};
use tonic::{Request, Response, Status};

use super::{Desk, author, functions::beyond, name, page, text};
use crate::{
    audit::Change,
    store::{AuditFilter, Hashed, Store},
};

/// Attempts of one note.
const MOST: usize = 20;

#[tonic::async_trait]
impl AuditNoteService for Desk {
    async fn note_attempts(
        &self,
        request: Request<NoteAttemptsRequest>,
    ) -> Result<Response<NoteAttemptsResponse>, Status> {
        let store = self.store(&request)?;
        let said = author(&request).gateway;
        let NoteAttemptsRequest { gateway, attempts, more } = request.into_inner();
        let gateway = if said.is_empty() { gateway } else { said };
        if attempts.len() > MOST {
            return Err(ApiError::invalid("attempts", format!("a note may have {MOST} attempts at most")).into());
        }
        for attempt in attempts {
            note(&store, &gateway, attempt).await?;
        }
        if more > 0 {
            let change = refusal("audit.more", "", "", &json!({ "attempts": more }));
            store.by(Author { gateway, ..Author::default() }).audit_append(change).await?;
        }
        Ok(Response::new(NoteAttemptsResponse {}))
    }
}

async fn note(store: &Store, gateway: &str, attempt: Attempt) -> Result<(), Status> {
    let action = noted(&attempt.action);
    let action = action.ok_or_else(|| ApiError::invalid("attempts.action", "it is no action of the audit log"))?;
    let resource = match attempt.namespace.as_str() {
        "" => String::new(),
        namespace => format!("namespaces/{namespace}"),
    };
    let change = refusal(action, &attempt.namespace, &resource, &json!({ "attempts": attempt.count }));
    let outcome = if attempt.refused { Outcome::Refused } else { Outcome::Done };
    let author = Author {
        grants: vec![Granted { namespace: attempt.namespace.clone(), role: attempt.role }],
        subject: attempt.subject,
        issuer: attempt.issuer,
        token_id: attempt.token_id,
        address: attempt.address,
        gateway: gateway.to_owned(),
        request_id: attempt.request_id,
    };
    Ok(store.by(author).audit_append(Change { outcome, ..change }).await?)
}

fn refusal(action: &'static str, namespace: &str, resource: &str, facts: &Value) -> Change {
    let change = Change::of_cluster(action, &resource).after(facts);
    Change { outcome: Outcome::Refused, namespace: text_of(namespace), ..change }
}

/// Bounded, since it comes from a request that was refused.
fn text_of(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(64).collect()
}

#[tonic::async_trait]
impl AuditService for Desk {
    async fn list_audit_entries(
        &self,
        request: Request<v1::ListAuditEntriesRequest>,
    ) -> Result<Response<v1::ListAuditEntriesResponse>, Status> {
        let request = request.into_inner();
        let (size, oldest_first) = (page::size(request.page_size)?, request.oldest_first);
        let list = format!("audit/{}/{oldest_first}", request.parent);
        let place: Option<i64> = page::read(&list, &request.page_token)?;
        let place = place.unwrap_or(if oldest_first { 0 } else { i64::MAX });
        let filter = filter(request)?;
        let found = self.app()?.store.audit_list(&filter, place, oldest_first, beyond(size)).await?;
        let sequence = |(entry, _): &Hashed| i64::try_from(entry.sequence).unwrap_or(i64::MAX);
        let (found, next_page_token) = page::cut(&list, found, size, sequence);
        let entries = found.iter().map(|(entry, hash): &(Entry, Digest)| entry.to_wire(hash)).collect();
        Ok(Response::new(v1::ListAuditEntriesResponse { entries, next_page_token }))
    }

    async fn get_audit_head(
        &self,
        _: Request<v1::GetAuditHeadRequest>,
    ) -> Result<Response<v1::GetAuditHeadResponse>, Status> {
        let app = self.app()?;
        let (head, checkpoint) = app.store.audit_ends().await?;
        Ok(Response::new(v1::GetAuditHeadResponse {
            head: Some(head.to_wire()),
            public_key: app.store.audit_key().to_vec().into(),
            checkpoint: checkpoint.map(|checkpoint| checkpoint.to_wire()),
        }))
    }
}

fn filter(request: v1::ListAuditEntriesRequest) -> Result<AuditFilter, Status> {
    let namespace = match request.parent.as_str() {
        "" => String::new(),
        parent => name::<NamespaceRef>("parent", parent)?.namespace.to_string(),
    };
    let since = request.since.map_or(0, |since| {
        since.seconds.saturating_mul(1_000_000).saturating_add(i64::from(since.nanos.max(0) / 1_000))
    });
    Ok(AuditFilter {
        namespace,
        since,
        subject: text("subject", request.subject, 512)?,
        action: text("action", request.action, 64)?,
        resource: text("resource", request.resource, 512)?,
    })
}
