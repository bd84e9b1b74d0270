//! Connections to the cluster's other processes, with the proof of being one of them. Invocations do not pass here:
//! `dispatch/` has sessions of its own.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use dashmap::DashMap;
use dunlin_proto::{
    ApiError, ErrorCode,
    internal::v1::{
        audit_note_service_client::AuditNoteServiceClient, idempotency_service_client::IdempotencyServiceClient,
        invocation_record_service_client::InvocationRecordServiceClient, sync_service_client::SyncServiceClient,
        worker_log_service_client::WorkerLogServiceClient,
    },
    trust::{Expected, Link, Role, Trust},
    v1::{
        alias_service_client::AliasServiceClient, audit_service_client::AuditServiceClient,
        cluster_service_client::ClusterServiceClient, domain_service_client::DomainServiceClient,
        function_service_client::FunctionServiceClient, key_service_client::KeyServiceClient,
        namespace_service_client::NamespaceServiceClient, plan_service_client::PlanServiceClient,
        release_service_client::ReleaseServiceClient, route_service_client::RouteServiceClient,
        token_service_client::TokenServiceClient, usage_service_client::UsageServiceClient,
    },
};
use tonic::transport::Endpoint;

/// A connection that says whose it is.
pub(crate) type Secured = Link;

/// How a connection is kept.
fn tuned(endpoint: Endpoint) -> Endpoint {
    endpoint
        .tcp_nodelay(true)
        .connect_timeout(Duration::from_secs(2))
        .http2_keep_alive_interval(Duration::from_secs(5))
        .keep_alive_timeout(Duration::from_secs(5))
}

/// The scheduler. Clones share the connection.
#[derive(Debug, Clone)]
pub(crate) struct Scheduler(Secured);

impl Scheduler {
    /// The scheduler at a URL; nothing is connected yet.
    pub(crate) fn new(url: &str, trust: &Trust) -> anyhow::Result<Self> {
        let endpoint = trust.scheduler(url).context("read --scheduler")?;
        Ok(Self(trust.link(&tuned(endpoint), Expected::any(Role::Scheduler))?))
    }

    /// The streams of configuration and placements.
    pub(crate) fn sync(&self) -> SyncServiceClient<Secured> {
        SyncServiceClient::new(self.0.clone()).max_decoding_message_size(256 << 20)
    }

    /// Functions and versions.
    pub(crate) fn functions(&self) -> FunctionServiceClient<Secured> {
        FunctionServiceClient::new(self.0.clone())
    }

    /// Aliases of functions.
    pub(crate) fn aliases(&self) -> AliasServiceClient<Secured> {
        AliasServiceClient::new(self.0.clone())
    }

    /// Releases of namespaces.
    pub(crate) fn releases(&self) -> ReleaseServiceClient<Secured> {
        ReleaseServiceClient::new(self.0.clone())
    }

    /// Usage plans.
    pub(crate) fn plans(&self) -> PlanServiceClient<Secured> {
        PlanServiceClient::new(self.0.clone())
    }

    /// Usage and budgets.
    pub(crate) fn usage(&self) -> UsageServiceClient<Secured> {
        UsageServiceClient::new(self.0.clone())
    }

    /// Namespaces.
    pub(crate) fn namespaces(&self) -> NamespaceServiceClient<Secured> {
        NamespaceServiceClient::new(self.0.clone())
    }

    /// Tokens of the cluster.
    pub(crate) fn tokens(&self) -> TokenServiceClient<Secured> {
        TokenServiceClient::new(self.0.clone())
    }

    /// Callers' keys.
    pub(crate) fn keys(&self) -> KeyServiceClient<Secured> {
        KeyServiceClient::new(self.0.clone())
    }

    /// Routes.
    pub(crate) fn routes(&self) -> RouteServiceClient<Secured> {
        RouteServiceClient::new(self.0.clone())
    }

    /// Domains of namespaces.
    pub(crate) fn domains(&self) -> DomainServiceClient<Secured> {
        DomainServiceClient::new(self.0.clone())
    }

    /// The audit log.
    pub(crate) fn audit(&self) -> AuditServiceClient<Secured> {
        AuditServiceClient::new(self.0.clone())
    }

    /// Notes for the audit log.
    pub(crate) fn audit_notes(&self) -> AuditNoteServiceClient<Secured> {
        AuditNoteServiceClient::new(self.0.clone())
    }

    /// What requests with an idempotency key have done.
    pub(crate) fn idempotency(&self) -> IdempotencyServiceClient<Secured> {
        IdempotencyServiceClient::new(self.0.clone())
    }

    /// Workers and gateways.
    pub(crate) fn cluster(&self) -> ClusterServiceClient<Secured> {
        ClusterServiceClient::new(self.0.clone())
    }
}

/// Processes at addresses that the scheduler names: workers for their logs, gateways for their records.
#[derive(Debug, Clone)]
pub(crate) struct Workers {
    trust: Trust,
    links: Arc<DashMap<(Role, String, String), Secured>>,
}

/// Connections that are kept; beyond that, all are made anew.
const MAX_LINKS: usize = 1_000;

impl Workers {
    /// Knows nobody yet.
    pub(crate) fn new(trust: Trust) -> Self {
        Self { trust, links: Arc::default() }
    }

    /// The logs of the worker with this name, which has an endpoint at this address (host and port).
    ///
    /// # Errors
    /// `Unavailable` where it is no address.
    pub(crate) fn logs(&self, worker: &str, address: &str) -> Result<WorkerLogServiceClient<Secured>, ApiError> {
        Ok(WorkerLogServiceClient::new(self.at(Role::Worker, worker, address)?))
    }

    /// The records of the gateway with this name, whose internal listener has this address.
    ///
    /// # Errors
    /// `Unavailable` where it is no address.
    pub(crate) fn records(
        &self,
        gateway: &str,
        address: &str,
    ) -> Result<InvocationRecordServiceClient<Secured>, ApiError> {
        let link = self.at(Role::Gateway, gateway, address)?;
        Ok(InvocationRecordServiceClient::new(link).max_decoding_message_size(64 << 20))
    }

    fn at(&self, role: Role, name: &str, address: &str) -> Result<Secured, ApiError> {
        let key = (role, name.to_owned(), address.to_owned());
        if let Some(known) = self.links.get(&key) {
            return Ok(known.clone());
        }
        let link = self.link(&key)?;
        if self.links.len() >= MAX_LINKS {
            self.links.clear();
        }
        self.links.insert(key, link.clone());
        Ok(link)
    }

    fn link(&self, (role, name, address): &(Role, String, String)) -> Result<Secured, ApiError> {
        let unusable = || ApiError::new(ErrorCode::Unavailable, format!("{address:?} is not an address"));
        let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|_| unusable())?;
        self.trust.link(&tuned(endpoint), Expected::named(*role, name)).map_err(|error| {
            tracing::error!(%error, "a connection can't be prepared");
            unusable()
        })
    }
}
