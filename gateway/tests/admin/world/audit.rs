//! The audit log of the simulated scheduler: two entries, one of which wants to be markup; and what gateways note.

use bytes::Bytes;
use dunlin_proto::{
    internal::v1::{NoteAttemptsRequest, NoteAttemptsResponse, audit_note_service_server::AuditNoteService},
    v1::{self, audit_service_server::AuditService},
};
use tonic::{Request, Response, Status};

use super::{
    data::{EVIL, ago},
    scheduler::Scheduler,
};

/// An entry of the sample.
fn entry(sequence: u64, subject: &str) -> v1::AuditEntry {
    v1::AuditEntry {
        sequence,
        time: Some(prost_types::Timestamp { nanos: 123_456_000, ..ago(90) }),
        subject: subject.to_owned(),
        issuer: "dunlin".to_owned(),
        role: "developer".to_owned(),
        token_id: "0198c5b2-7a43-7000-8000-3f1f6d1c1a2b".to_owned(),
        address: "192.0.2.7".to_owned(),
        gateway: "gateway-1".to_owned(),
        action: "route.put".to_owned(),
        namespace: "shop".to_owned(),
        resource: "namespaces/shop/routes/pay".to_owned(),
        outcome: v1::AuditOutcome::Done.into(),
        before: r#"{"requests":"GET /pay","spec":{"cache":false,"path":"/pay"}}"#.to_owned(),
        after: format!(r#"{{"requests":"GET /pay","spec":{{"cache":true,"path":{EVIL:?}}}}}"#),
        request_id: "0198c5b2-7a43-7000-8000-3f1f6d1c1a2c".to_owned(),
        hash: "ab".repeat(32),
    }
}

#[tonic::async_trait]
impl AuditService for Scheduler {
    async fn list_audit_entries(
        &self,
        request: Request<v1::ListAuditEntriesRequest>,
    ) -> Result<Response<v1::ListAuditEntriesResponse>, Status> {
        self.open("ListAuditEntries", request);
        let refused = v1::AuditEntry {
            outcome: v1::AuditOutcome::Refused.into(),
            before: String::new(),
            after: r#"{"attempts":3}"#.to_owned(),
            ..entry(2, "eve")
        };
        let entries = vec![refused, entry(1, EVIL)];
        Ok(Response::new(v1::ListAuditEntriesResponse { entries, next_page_token: String::new() }))
    }

    async fn get_audit_head(
        &self,
        request: Request<v1::GetAuditHeadRequest>,
    ) -> Result<Response<v1::GetAuditHeadResponse>, Status> {
        self.open("GetAuditHead", request);
        let head = v1::AuditHead {
            sequence: 2,
            hash: "ab".repeat(32),
            time: Some(ago(90)),
            signature: Bytes::from_static(&[7; 64]),
        };
        let public_key = Bytes::from_static(&[9; 32]);
        Ok(Response::new(v1::GetAuditHeadResponse { head: Some(head), public_key, checkpoint: None }))
    }
}

#[tonic::async_trait]
impl AuditNoteService for Scheduler {
    async fn note_attempts(
        &self,
        request: Request<NoteAttemptsRequest>,
    ) -> Result<Response<NoteAttemptsResponse>, Status> {
        let request = self.open("NoteAttempts", request);
        self.state().attempts.extend(request.attempts);
        Ok(Response::new(NoteAttemptsResponse {}))
    }
}
