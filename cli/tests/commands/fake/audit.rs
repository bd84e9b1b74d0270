//! The audit log of the simulated cluster: chained and signed as a real one, so that the command can check it.

use dunlin_proto::{
    ApiError, ErrorCode,
    audit::{AuditSigner, BEGINNING, Entry, Head, HeadKind},
    ids::Digest,
    v1::{self, audit_service_server::AuditService},
};
use tonic::{Request, Response, Status};

use super::Fake;

/// The log.
pub(crate) struct Log {
    signer: AuditSigner,
    pub(crate) entries: Vec<(Entry, Digest)>,
    pub(crate) head: Head,
    /// What was asked for.
    pub(crate) asked: Vec<v1::ListAuditEntriesRequest>,
    /// Whether the caller may not see the end.
    pub(crate) denied: bool,
}

impl Default for Log {
    fn default() -> Self {
        let signer = AuditSigner::generate().unwrap();
        Self { signer, entries: Vec::new(), head: Head::empty(), asked: Vec::new(), denied: false }
    }
}

impl Log {
    /// Writes so many entries.
    pub(crate) fn write(&mut self, count: u64) {
        for _ in 0..count {
            let sequence = self.entries.len() as u64 + 1;
            let entry = Entry {
                sequence,
                time: 1_700_000_000_000_000 + i64::try_from(sequence).unwrap(),
                subject: "zoe".into(),
                address: "192.0.2.7".into(),
                action: "route.put".into(),
                namespace: "shop".into(),
                resource: format!("namespaces/shop/routes/r-{sequence}"),
                after: r#"{"path":"/"}"#.into(),
                ..Entry::default()
            };
            let hash = entry.hash_after(&self.entries.last().map_or(BEGINNING, |(_, hash)| *hash));
            let head = Head { sequence, hash, time: entry.time, signature: Vec::new() };
            self.head = self.signer.sign(HeadKind::Head, &head);
            self.entries.push((entry, hash));
        }
    }
}

#[tonic::async_trait]
impl AuditService for Fake {
    async fn list_audit_entries(
        &self,
        request: Request<v1::ListAuditEntriesRequest>,
    ) -> Result<Response<v1::ListAuditEntriesResponse>, Status> {
        let request = request.into_inner();
        let mut state = self.state();
        state.audit.asked.push(request.clone());
        let mut all: Vec<_> = state.audit.entries.iter().map(|(entry, hash)| entry.to_wire(hash)).collect();
        if !request.oldest_first {
            all.reverse();
        }
        let after: usize = request.page_token.parse().unwrap_or_default();
        // Pages are shorter than asked for, which they may be.
        let end = (after + usize::try_from(request.page_size).unwrap().min(3)).min(all.len());
        let next_page_token = if end < all.len() { end.to_string() } else { String::new() };
        Ok(Response::new(v1::ListAuditEntriesResponse { entries: all[after..end].to_vec(), next_page_token }))
    }

    async fn get_audit_head(
        &self,
        _: Request<v1::GetAuditHeadRequest>,
    ) -> Result<Response<v1::GetAuditHeadResponse>, Status> {
        let state = self.state();
        if state.audit.denied {
            return Err(ApiError::new(ErrorCode::PermissionDenied, "the role operator is needed").into());
        }
        let public_key = state.audit.signer.public_key().to_vec().into();
        Ok(Response::new(v1::GetAuditHeadResponse {
            head: Some(state.audit.head.to_wire()),
            public_key,
            checkpoint: None,
        }))
    }
}
