//! Connections to the cluster's other processes, with the cluster secret on every call. Invocations do not pass here:
//! `dispatch/` has sessions of its own.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use dashmap::DashMap;
use dunlin_proto::{
    ApiError, ErrorCode,
    internal::v1::{
        invocation_record_service_client::InvocationRecordServiceClient, sync_service_client::SyncServiceClient,
        worker_log_service_client::WorkerLogServiceClient,
    },
    metadata::{AttachSecret, ClusterSecret},
    v1::{
        cluster_service_client::ClusterServiceClient, function_service_client::FunctionServiceClient,
        key_service_client::KeyServiceClient, namespace_service_client::NamespaceServiceClient,
        token_service_client::TokenServiceClient,
    },
};
use tonic::{
    service::interceptor::InterceptedService,
    transport::{Channel, Endpoint},
};

/// A connection that says whose it is.
pub(crate) type Secured = InterceptedService<Channel, AttachSecret>;

/// A connection to an address, made when it is first used and again whenever it is lost.
fn lazy(url: String) -> Result<Channel, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(url)?
        .tcp_nodelay(true)
        .connect_timeout(Duration::from_secs(2))
        .http2_keep_alive_interval(Duration::from_secs(5))
        .keep_alive_timeout(Duration::from_secs(5));
    Ok(endpoint.connect_lazy())
}

/// The scheduler. Clones share the connection.
#[derive(Debug, Clone)]
pub(crate) struct Scheduler(Secured);

impl Scheduler {
    /// The scheduler at a URL; nothing is connected yet.
    pub(crate) fn new(url: &str, secret: &ClusterSecret) -> anyhow::Result<Self> {
        let channel = lazy(url.to_owned()).with_context(|| format!("read scheduler URL {url:?}"))?;
        Ok(Self(InterceptedService::new(channel, secret.attach())))
    }

    /// The streams of configuration and placements.
    pub(crate) fn sync(&self) -> SyncServiceClient<Secured> {
        SyncServiceClient::new(self.0.clone()).max_decoding_message_size(256 << 20)
    }

    /// Functions and versions.
    pub(crate) fn functions(&self) -> FunctionServiceClient<Secured> {
        FunctionServiceClient::new(self.0.clone())
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

    /// Workers and gateways.
    pub(crate) fn cluster(&self) -> ClusterServiceClient<Secured> {
        ClusterServiceClient::new(self.0.clone())
    }
}

/// Processes at addresses that the scheduler names: workers for their logs, gateways for their records.
#[derive(Debug, Clone)]
pub(crate) struct Workers {
    secret: ClusterSecret,
    channels: Arc<DashMap<String, Channel>>,
}

/// Connections that are kept; beyond that, all are made anew.
const MAX_CHANNELS: usize = 1_000;

impl Workers {
    /// Knows nobody yet.
    pub(crate) fn new(secret: ClusterSecret) -> Self {
        Self { secret, channels: Arc::default() }
    }

    /// The logs of the worker with an endpoint at this address (host and port).
    ///
    /// # Errors
    /// `Unavailable` where it is no address.
    pub(crate) fn logs(&self, address: &str) -> Result<WorkerLogServiceClient<Secured>, ApiError> {
        Ok(WorkerLogServiceClient::new(self.at(address)?))
    }

    /// The records of the gateway whose internal listener has this address.
    ///
    /// # Errors
    /// `Unavailable` where it is no address.
    pub(crate) fn records(&self, address: &str) -> Result<InvocationRecordServiceClient<Secured>, ApiError> {
        Ok(InvocationRecordServiceClient::new(self.at(address)?).max_decoding_message_size(64 << 20))
    }

    fn at(&self, address: &str) -> Result<Secured, ApiError> {
        let known = self.channels.get(address).map(|channel| channel.clone());
        let channel = match known {
            Some(channel) => channel,
            None => self.connect(address)?,
        };
        Ok(InterceptedService::new(channel, self.secret.attach()))
    }

    fn connect(&self, address: &str) -> Result<Channel, ApiError> {
        let unusable = |_| ApiError::new(ErrorCode::Unavailable, format!("{address:?} is not an address"));
        let channel = lazy(format!("http://{address}")).map_err(unusable)?;
        if self.channels.len() >= MAX_CHANNELS {
            self.channels.clear();
        }
        self.channels.insert(address.to_owned(), channel.clone());
        Ok(channel)
    }
}
