//! `MembershipService`: certificates for processes that show a join token, and fresh ones for those that have one.

use bytes::Bytes;
use dunlin_proto::{
    ApiError, ErrorCode,
    internal::v1::{
        JoinRequest, JoinResponse, RenewRequest, RenewResponse, membership_service_server::MembershipService,
    },
    trust::{Role, Trust, permit},
};
use tonic::{Request, Response, Status};

use super::{Desk, cluster::no_certificates};
use crate::model::Time;

#[tonic::async_trait]
impl MembershipService for Desk {
    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        if let Trust::Secret(_) = self.trust {
            return Err(no_certificates().into());
        }
        let JoinRequest { token, id, signing_request } = request.into_inner();
        let grant = self.tokens.verify_join(&token)?;
        let identity = grant.identity(&id)?;
        let app = self.app()?;
        // Before the token is used up, so that a request that makes no sense does not use it up.
        let issued = self.authority.issue(&identity, &signing_request, Time::now())?;
        app.members.admit(&grant, &identity, issued.key).await?;
        tracing::info!(%identity, token = grant.id, "a process has joined the cluster");
        Ok(Response::new(JoinResponse {
            certificate: Bytes::copy_from_slice(&issued.certificate),
            authority: Bytes::copy_from_slice(self.authority.certificate()),
        }))
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<RenewResponse>, Status> {
        let caller = permit(&request, &[Role::Gateway, Role::Worker])?;
        self.app()?.members.check(&caller)?;
        let nobody = || ApiError::new(ErrorCode::Unauthenticated, "the caller has no certificate");
        let peer = caller.peer().ok_or_else(nobody)?;
        let issued = self.authority.issue(&peer.identity, &request.into_inner().signing_request, Time::now())?;
        if issued.key != peer.key {
            return Err(ApiError::invalid("signing_request", "signing_request must be for the same key").into());
        }
        tracing::debug!(identity = %peer.identity, "a certificate has been renewed");
        Ok(Response::new(RenewResponse { certificate: Bytes::copy_from_slice(&issued.certificate) }))
    }
}
