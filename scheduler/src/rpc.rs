//! The services of the scheduler's internal listener. Each method unpacks its message, calls what decides, and wraps the
//! answer; generated types end here. Every service requires the cluster secret; health alone, which tells nothing but yes
//! or no, does not.

mod access;
mod cluster;
mod code;
mod convert;
mod functions;
mod namespaces;
mod page;
mod snapshot;
mod sync;
mod upload;

use std::{sync::Arc, time::Duration};

use dunlin_process::shutdown::Shutdown;
use dunlin_proto::{
    ApiError, ErrorCode,
    internal::v1::{artifact_service_server::ArtifactServiceServer, sync_service_server::SyncServiceServer},
    metadata::ClusterSecret,
    v1::{
        cluster_service_server::ClusterServiceServer, function_service_server::FunctionServiceServer,
        key_service_server::KeyServiceServer, namespace_service_server::NamespaceServiceServer,
        token_service_server::TokenServiceServer,
    },
};
use tokio::sync::watch;
use tonic::{
    service::interceptor::InterceptedService,
    transport::{Server, server::Router},
};

use crate::{app::App, tokens::TokenSigner};

/// The largest message that is read: a chunk of an upload, or a version's environment.
const MAX_MESSAGE: usize = 1 << 20;

/// The largest report of a worker or gateway that is read.
const MAX_REPORT: usize = 4 << 20;

/// What the services share. The app is there once the database is.
#[derive(Debug, Clone)]
pub(crate) struct Desk {
    pub(crate) app: watch::Receiver<Option<Arc<App>>>,
    pub(crate) tokens: Arc<TokenSigner>,
    pub(crate) shutdown: Shutdown,
}

impl Desk {
    /// The app.
    ///
    /// # Errors
    /// `Unavailable` before the database is there.
    fn app(&self) -> Result<Arc<App>, ApiError> {
        let starting = || {
            ApiError::new(ErrorCode::Unavailable, "the scheduler is starting: it waits for its database")
                .hint("the scheduler's log says what it waits for")
                .retry_after(Duration::from_secs(1))
        };
        self.app.borrow().clone().ok_or_else(starting)
    }
}

/// All services.
pub(crate) fn router(desk: &Desk, secret: &ClusterSecret, health: impl FnOnce(Server) -> Router) -> Router {
    // A peer whose machine is gone sends no end of its stream: pings find out.
    let server = Server::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(5)))
        .http2_keepalive_timeout(Some(Duration::from_secs(5)))
        .http2_max_header_list_size(32 << 10);
    let require = secret.require();
    macro_rules! service {
        ($server:ident, $most:expr) => {
            InterceptedService::new($server::new(desk.clone()).max_decoding_message_size($most), require.clone())
        };
    }
    health(server)
        .add_service(service!(FunctionServiceServer, MAX_MESSAGE))
        .add_service(service!(NamespaceServiceServer, MAX_MESSAGE))
        .add_service(service!(TokenServiceServer, MAX_MESSAGE))
        .add_service(service!(KeyServiceServer, MAX_MESSAGE))
        .add_service(service!(ClusterServiceServer, MAX_MESSAGE))
        .add_service(service!(SyncServiceServer, MAX_REPORT))
        .add_service(service!(ArtifactServiceServer, MAX_MESSAGE))
}

/// Parses a resource name of a request.
fn name<T: std::str::FromStr<Err: std::fmt::Display>>(field: &str, text: &str) -> Result<T, ApiError> {
    text.parse().map_err(|error| ApiError::invalid(field, error))
}

/// A text for people, bounded in bytes.
fn text(field: &str, text: String, most: usize) -> Result<String, ApiError> {
    if text.len() > most {
        return Err(ApiError::invalid(field, format!("{field} has {} bytes but may have {most} at most", text.len())));
    }
    if text.contains('\0') {
        return Err(ApiError::invalid(field, format!("{field} must not have a NUL")));
    }
    Ok(text)
}

/// A request id; nothing where it is left out.
fn request_id(text: &str) -> Result<Option<dunlin_proto::ids::RequestId>, ApiError> {
    if text.is_empty() { Ok(None) } else { name("request_id", text).map(Some) }
}
