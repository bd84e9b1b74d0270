//! The public gRPC API on the administration listener, with health checks and server reflection.
//!
//! Here requests are unpacked and answers wrapped; what happens is in `app/`. Health and reflection need no token, so
//! that any client can look around; everything else does.

mod access;
mod aliases;
mod audit;
mod cluster;
mod functions;
mod invocations;
mod logs;
mod namespaces;
mod plans;
mod releases;
mod routes;
mod usage;

use std::{future::Future, sync::Arc};

use dunlin_proto::{
    ApiError, ErrorCode,
    v1::{
        self, alias_service_server::AliasServiceServer, audit_service_server::AuditServiceServer,
        cluster_service_server::ClusterServiceServer, domain_service_server::DomainServiceServer,
        function_service_server::FunctionServiceServer, invocation_service_server::InvocationServiceServer,
        key_service_server::KeyServiceServer, log_service_server::LogServiceServer,
        namespace_service_server::NamespaceServiceServer, plan_service_server::PlanServiceServer,
        release_service_server::ReleaseServiceServer, route_service_server::RouteServiceServer,
        token_service_server::TokenServiceServer, usage_service_server::UsageServiceServer,
    },
};
use futures::FutureExt;
use http::Extensions;
use tonic::{Request, Response, Status, metadata::MetadataMap, server::NamedService, service::Routes};
use tonic_health::pb::health_server::{Health, HealthServer};

use super::{
    app::App,
    session::{bearer, origin},
};
use crate::auth::Principal;

/// The largest message of an upload: a chunk and its frame.
const MAX_CHUNK_MESSAGE: usize = dunlin_proto::MAX_CHUNK_BYTES + (64 << 10);
/// The largest call: a body of 6 MiB and its headers.
const MAX_INVOKE_MESSAGE: usize = 7 << 20;
/// The largest import of routes: their schemas and what goes with them.
const MAX_IMPORT_MESSAGE: usize = 8 << 20;
/// The largest of all other requests.
const MAX_MESSAGE: usize = 1 << 20;

/// The services of the public API.
#[derive(Debug, Clone)]
pub(super) struct Api {
    app: App,
}

impl Api {
    /// Who calls.
    async fn principal(&self, metadata: &MetadataMap, extensions: &Extensions) -> Result<Arc<Principal>, ApiError> {
        let sent = metadata.get("authorization").ok_or_else(|| unauthenticated("this call has no token"))?;
        let token = sent.to_str().ok().and_then(bearer);
        let token = token.ok_or_else(|| unauthenticated("the metadata authorization must be: Bearer TOKEN"))?;
        let who = self.app.context().verifier.administration(token).await?;
        Ok(Arc::new(who.at(origin(&self.app, extensions))))
    }

    /// Authenticates, does, wraps.
    async fn unary<Q, A, F>(
        &self,
        request: Request<Q>,
        call: impl FnOnce(App, Arc<Principal>, Q) -> F,
    ) -> Result<Response<A>, Status>
    where
        F: Future<Output = Result<A, ApiError>>,
    {
        let (metadata, extensions, message) = request.into_parts();
        let who = self.principal(&metadata, &extensions).await?;
        Ok(Response::new(call(self.app.clone(), who, message).await?))
    }
}

/// A request without a credential.
pub(super) fn unauthenticated(message: &str) -> ApiError {
    ApiError::new(ErrorCode::Unauthenticated, message).hint("get a token with: dunlin token create")
}

/// All services that this listener offers over gRPC.
pub(super) fn routes(app: App) -> Routes {
    let api = Api { app };
    let mut routes = Routes::builder();
    routes
        .add_service(FunctionServiceServer::new(api.clone()).max_decoding_message_size(MAX_CHUNK_MESSAGE))
        .add_service(AliasServiceServer::new(api.clone()).max_decoding_message_size(MAX_MESSAGE))
        .add_service(NamespaceServiceServer::new(api.clone()).max_decoding_message_size(MAX_MESSAGE))
        .add_service(TokenServiceServer::new(api.clone()).max_decoding_message_size(MAX_MESSAGE))
        .add_service(KeyServiceServer::new(api.clone()).max_decoding_message_size(MAX_MESSAGE))
        .add_service(PlanServiceServer::new(api.clone()).max_decoding_message_size(MAX_MESSAGE))
        .add_service(UsageServiceServer::new(api.clone()).max_decoding_message_size(MAX_MESSAGE))
        .add_service(ReleaseServiceServer::new(api.clone()).max_decoding_message_size(MAX_MESSAGE))
        .add_service(RouteServiceServer::new(api.clone()).max_decoding_message_size(MAX_IMPORT_MESSAGE))
        .add_service(DomainServiceServer::new(api.clone()).max_decoding_message_size(MAX_MESSAGE))
        .add_service(ClusterServiceServer::new(api.clone()).max_decoding_message_size(MAX_MESSAGE))
        .add_service(AuditServiceServer::new(api.clone()).max_decoding_message_size(MAX_MESSAGE))
        .add_service(InvocationServiceServer::new(api.clone()).max_decoding_message_size(MAX_INVOKE_MESSAGE))
        .add_service(LogServiceServer::new(api).max_decoding_message_size(MAX_MESSAGE));
    routes.add_service(health());
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(v1::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    routes
        .add_service(reflection().build_v1().expect("the descriptors that the build made are whole"))
        .add_service(reflection().build_v1alpha().expect("the descriptors that the build made are whole"));
    routes.routes()
}

/// Health of every service and, under the empty name, of the whole: whoever can answer serves.
fn health() -> HealthServer<impl Health> {
    let (reporter, health) = tonic_health::server::health_reporter();
    for service in SERVICES {
        // Nobody else has the reporter yet, so that nothing is waited for.
        let _ = reporter.set_service_status(*service, tonic_health::ServingStatus::Serving).now_or_never();
    }
    health
}

/// The names of the public API's services.
const SERVICES: &[&str] = &[
    FunctionServiceServer::<Api>::NAME,
    AliasServiceServer::<Api>::NAME,
    NamespaceServiceServer::<Api>::NAME,
    TokenServiceServer::<Api>::NAME,
    KeyServiceServer::<Api>::NAME,
    PlanServiceServer::<Api>::NAME,
    UsageServiceServer::<Api>::NAME,
    ReleaseServiceServer::<Api>::NAME,
    RouteServiceServer::<Api>::NAME,
    DomainServiceServer::<Api>::NAME,
    ClusterServiceServer::<Api>::NAME,
    AuditServiceServer::<Api>::NAME,
    InvocationServiceServer::<Api>::NAME,
    LogServiceServer::<Api>::NAME,
];
