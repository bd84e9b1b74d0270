//! The services of the scheduler's internal listener. Each method unpacks its message, calls what decides, and wraps the
//! answer; generated types end here. Every service says which processes may call it. Two take strangers: health, which
//! tells nothing but yes or no, and joining, which asks for a token.

mod access;
mod aliases;
mod apps;
mod audit;
mod cluster;
mod code;
mod convert;
mod domains;
mod functions;
mod idempotency;
mod membership;
mod namespaces;
mod page;
mod plans;
mod releases;
mod rollouts;
mod routes;
mod snapshot;
mod sync;
mod upload;
mod usage;
mod webhooks;
mod whole;

pub(crate) use plans::seconds_now;

use std::{sync::Arc, time::Duration};

use dunlin_process::shutdown::Shutdown;
use dunlin_proto::{
    ApiError, ErrorCode,
    audit::Author,
    internal::v1::{
        artifact_service_server::ArtifactServiceServer, audit_note_service_server::AuditNoteServiceServer,
        idempotency_service_server::IdempotencyServiceServer, membership_service_server::MembershipServiceServer,
        sync_service_server::SyncServiceServer,
    },
    metadata,
    trust::{Caller, Identify, Role, Trust},
    v1::{
        alias_service_server::AliasServiceServer, audit_service_server::AuditServiceServer,
        cluster_service_server::ClusterServiceServer, domain_service_server::DomainServiceServer,
        function_service_server::FunctionServiceServer, key_service_server::KeyServiceServer,
        namespace_service_server::NamespaceServiceServer, plan_service_server::PlanServiceServer,
        release_service_server::ReleaseServiceServer, route_service_server::RouteServiceServer,
        token_service_server::TokenServiceServer, usage_service_server::UsageServiceServer,
    },
    vault::Vault,
};
use tokio::sync::watch;
use tonic::{
    Request,
    service::interceptor::InterceptedService,
    transport::{Server, server::Router},
};

use self::whole::Whole;
use crate::{app::App, authority::Authority, store::Store, tokens::TokenSigner};

/// What all requests of a gateway together may send ahead: more than those that wait for their turn (uploads, of which only some
/// are taken in at a time) can hold, so that they never keep those from their data whose turn it is.
const CONNECTION_WINDOW: u32 = 64 << 20;

/// The largest message that is read: a chunk of an upload, or a version's environment.
const MAX_MESSAGE: usize = 1 << 20;

/// The largest import of routes, and the largest app: their schemas and what goes with them.
const MAX_IMPORT: usize = 8 << 20;

/// The largest message of somebody who has proved nothing yet.
const MAX_JOIN: usize = 16 << 10;

/// The largest report of a worker or gateway that is read.
const MAX_REPORT: usize = 4 << 20;

/// What the services share. The app is there once the database is.
#[derive(Debug, Clone)]
pub(crate) struct Desk {
    pub(crate) app: watch::Receiver<Option<Arc<App>>>,
    pub(crate) tokens: Arc<TokenSigner>,
    pub(crate) authority: Arc<Authority>,
    pub(crate) trust: Trust,
    /// Encrypts answers that are kept.
    pub(crate) vault: Arc<Vault>,
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

    /// The database, for changes on behalf of whom the gateway asks for.
    ///
    /// # Errors
    /// `Unavailable` before it is there, `InvalidArgument` where the idempotency key can't be read.
    fn store<T>(&self, request: &Request<T>) -> Result<Store, ApiError> {
        let store = self.app()?.store.by(author(request)).unless_changed(metadata::unchanged_since(request));
        Ok(store.holding(metadata::hold(request)?))
    }
}

/// All services.
pub(crate) fn router(desk: &Desk, health: impl FnOnce(Server) -> Router) -> Router {
    // A peer whose machine is gone sends no end of its stream: pings find out.
    let server = Server::builder()
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keepalive_interval(Some(Duration::from_secs(5)))
        .http2_keepalive_timeout(Some(Duration::from_secs(5)))
        .http2_max_header_list_size(32 << 10);
    macro_rules! service {
        ($server:ident, $most:expr, $guard:expr) => {
            InterceptedService::new(
                Whole::new($server::new(desk.clone()).max_decoding_message_size($most), &desk.shutdown),
                $guard,
            )
        };
    }
    // Users' requests come by gateways alone.
    let gateways = || desk.trust.require(&[Role::Gateway]);
    let workers = || desk.trust.require(&[Role::Worker]);
    let both = desk.trust.require(&[Role::Gateway, Role::Worker]);
    health(server)
        .add_service(service!(FunctionServiceServer, MAX_MESSAGE, gateways()))
        .add_service(service!(NamespaceServiceServer, MAX_MESSAGE, gateways()))
        .add_service(service!(TokenServiceServer, MAX_MESSAGE, gateways()))
        .add_service(service!(KeyServiceServer, MAX_MESSAGE, gateways()))
        .add_service(service!(PlanServiceServer, MAX_MESSAGE, gateways()))
        .add_service(service!(UsageServiceServer, MAX_MESSAGE, gateways()))
        .add_service(service!(AliasServiceServer, MAX_IMPORT, gateways()))
        .add_service(service!(ReleaseServiceServer, MAX_IMPORT, gateways()))
        .add_service(service!(RouteServiceServer, MAX_IMPORT, gateways()))
        .add_service(service!(DomainServiceServer, MAX_MESSAGE, gateways()))
        .add_service(service!(ClusterServiceServer, MAX_MESSAGE, gateways()))
        .add_service(service!(AuditServiceServer, MAX_MESSAGE, gateways()))
        .add_service(service!(AuditNoteServiceServer, MAX_MESSAGE, gateways()))
        .add_service(service!(IdempotencyServiceServer, MAX_MESSAGE, gateways()))
        .add_service(service!(SyncServiceServer, MAX_REPORT, both))
        .add_service(service!(ArtifactServiceServer, MAX_MESSAGE, workers()))
        .add_service(service!(MembershipServiceServer, MAX_JOIN, Identify))
}

/// On whose behalf a gateway asks. Which gateway it is, its certificate says better than itself.
fn author<T>(request: &Request<T>) -> Author {
    let said = metadata::author(request);
    let peer = request.extensions().get::<Caller>().and_then(Caller::peer);
    Author { gateway: peer.map_or_else(|| said.gateway.clone(), |peer| peer.identity.id.clone()), ..said }
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
