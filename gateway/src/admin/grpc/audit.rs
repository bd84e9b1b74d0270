//! The audit log over gRPC.

use dunlin_proto::v1::{self, audit_service_server::AuditService};
use tonic::{Request, Response, Status};

use super::Api;

#[tonic::async_trait]
impl AuditService for Api {
    async fn list_audit_entries(
        &self,
        request: Request<v1::ListAuditEntriesRequest>,
    ) -> Result<Response<v1::ListAuditEntriesResponse>, Status> {
        self.unary(request, async |app, who, message| app.audit_list(&who, message).await).await
    }

    async fn get_audit_head(
        &self,
        request: Request<v1::GetAuditHeadRequest>,
    ) -> Result<Response<v1::GetAuditHeadResponse>, Status> {
        self.unary(request, async |app, who, message| app.audit_head(&who, message).await).await
    }
}
