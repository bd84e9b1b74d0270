//! A simulated administration API: remembers what it was sent and answers from memory. It checks the token and speaks the
//! real contract over a real port, so that the command cannot tell it from a cluster.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, SystemTime},
};

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
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Status, transport::Server};

mod access;
mod aliases;
mod audit;
mod functions;
mod plans;
mod releases;
mod routes;
mod usage;
mod watch;

pub(crate) use audit::Log;

/// The token of the signed-in user.
pub(crate) const TOKEN: &str = "e30.e30.c2ln";

/// What the simulated cluster knows and has been sent.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) functions: BTreeMap<String, v1::Function>,
    pub(crate) versions: BTreeMap<String, Vec<v1::Version>>,
    pub(crate) artifacts: BTreeMap<String, Vec<u8>>,
    pub(crate) largest_chunk: usize,
    pub(crate) created: Vec<v1::CreateVersionRequest>,
    /// How many of the next deploys find the cluster unavailable.
    pub(crate) unavailable: u32,
    /// What the next deploy is refused with.
    pub(crate) refusal: Option<ApiError>,
    pub(crate) rollbacks: Vec<v1::RollbackFunctionRequest>,
    pub(crate) deleted: Vec<String>,
    pub(crate) invoked: Vec<v1::InvokeRequest>,
    pub(crate) response: v1::InvokeResponse,
    pub(crate) invocations: Vec<v1::Invocation>,
    pub(crate) listed: Vec<v1::ListInvocationsRequest>,
    /// From when on a search looks, in two pages of which the first one is empty.
    pub(crate) searched_from: Option<prost_types::Timestamp>,
    pub(crate) log_requests: Vec<v1::ReadLogsRequest>,
    pub(crate) logs: Vec<v1::ReadLogsResponse>,
    pub(crate) tokens: Vec<v1::CreateTokenRequest>,
    pub(crate) keys: Vec<v1::Key>,
    pub(crate) workers: Vec<v1::Worker>,
    pub(crate) routes: BTreeMap<String, v1::Route>,
    pub(crate) domains: BTreeMap<String, v1::Domain>,
    pub(crate) rollouts: BTreeMap<String, v1::Rollout>,
    pub(crate) aliases: BTreeMap<String, v1::Alias>,
    pub(crate) purged: Vec<v1::PurgeCacheRequest>,
    pub(crate) usage: Vec<v1::ListUsageRequest>,
    pub(crate) budget: Option<v1::Budget>,
    pub(crate) webhook: Option<v1::Webhook>,
    pub(crate) imported: Vec<v1::ImportRoutesRequest>,
    pub(crate) activated: Vec<v1::ActivateAppRequest>,
    /// What a dry run says of a function, by its name; of others something that is always the same.
    pub(crate) previews: BTreeMap<String, v1::DeployPreview>,
    /// What the next activation of an app is refused with.
    pub(crate) app_refusal: Option<ApiError>,
    /// The audit log.
    pub(crate) audit: audit::Log,
    /// The gateways that know of no change.
    pub(crate) lagging: Vec<String>,
}

/// The simulated cluster.
#[derive(Clone)]
pub(crate) struct Fake {
    pub(crate) url: String,
    state: Arc<Mutex<State>>,
}

impl Fake {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let fake = Self { url, state: Arc::default() };
        let router = Server::builder()
            .add_service(FunctionServiceServer::with_interceptor(fake.clone(), check))
            .add_service(AliasServiceServer::with_interceptor(fake.clone(), check))
            .add_service(NamespaceServiceServer::with_interceptor(fake.clone(), check))
            .add_service(TokenServiceServer::with_interceptor(fake.clone(), check))
            .add_service(KeyServiceServer::with_interceptor(fake.clone(), check))
            .add_service(PlanServiceServer::with_interceptor(fake.clone(), check))
            .add_service(UsageServiceServer::with_interceptor(fake.clone(), check))
            .add_service(ReleaseServiceServer::with_interceptor(fake.clone(), check))
            .add_service(RouteServiceServer::with_interceptor(fake.clone(), check))
            .add_service(DomainServiceServer::with_interceptor(fake.clone(), check))
            .add_service(ClusterServiceServer::with_interceptor(fake.clone(), check))
            .add_service(AuditServiceServer::with_interceptor(fake.clone(), check))
            .add_service(LogServiceServer::with_interceptor(fake.clone(), check))
            .add_service(InvocationServiceServer::with_interceptor(fake.clone(), check));
        let served = router.serve_with_incoming(TcpListenerStream::new(listener));
        // It ends with the test's runtime.
        std::mem::drop(tokio_util::task::TaskTracker::new().spawn(served));
        fake
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

fn check(request: Request<()>) -> Result<Request<()>, Status> {
    let sent = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
    if sent == Some(&format!("Bearer {TOKEN}")) {
        return Ok(request);
    }
    Err(ApiError::new(ErrorCode::Unauthenticated, "the token is not valid").into())
}

/// A time so many seconds ago.
pub(crate) fn ago(seconds: u64) -> Option<prost_types::Timestamp> {
    Some((SystemTime::now() - Duration::from_secs(seconds)).into())
}

pub(crate) fn micros(micros: u64) -> Option<prost_types::Duration> {
    Duration::from_micros(micros).try_into().ok()
}
