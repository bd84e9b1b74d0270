//! The audit log: all of it for operators, a namespace's entries for its admins.

use dunlin_proto::{ApiError, names::NamespaceRef, v1};

use super::{App, MAX_ANSWER_BYTES, look, name, on_behalf, page_size};
use crate::{admin::access::Operation, auth::Principal};

impl App {
    fn audit(&self) -> v1::audit_service_client::AuditServiceClient<crate::upstream::Secured> {
        self.context.scheduler.audit().max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    pub(crate) async fn audit_list(
        &self,
        who: &Principal,
        request: v1::ListAuditEntriesRequest,
    ) -> Result<v1::ListAuditEntriesResponse, ApiError> {
        if request.parent.is_empty() {
            let hint = "name a namespace of which your token has the role admin: --namespace";
            Operation::ListAuditEntries.allow(who).map_err(|error| error.hint(hint))?;
        } else {
            let NamespaceRef { namespace } = name("parent", &request.parent)?;
            Operation::ListAuditEntries.allow_in(who, &namespace)?;
        }
        page_size(request.page_size)?;
        look(self.audit().list_audit_entries(on_behalf(who, request))).await
    }

    pub(crate) async fn audit_head(
        &self,
        who: &Principal,
        request: v1::GetAuditHeadRequest,
    ) -> Result<v1::GetAuditHeadResponse, ApiError> {
        let hint = "the chain goes through the entries of all namespaces, so that only an operator can verify it";
        Operation::GetAuditHead.allow(who).map_err(|error| error.hint(hint))?;
        look(self.audit().get_audit_head(on_behalf(who, request))).await
    }

    /// How far the log is, for the gateway's own use: it grows with every change.
    pub(crate) async fn audit_sequence(&self, who: &Principal) -> Result<u64, ApiError> {
        let head = look(self.audit().get_audit_head(on_behalf(who, v1::GetAuditHeadRequest {}))).await?.head;
        Ok(head.map_or(0, |head| head.sequence))
    }
}
