//! The connection to a cluster's public gRPC API, as one user: the same API, credentials and errors as any other client.
//!
//! What goes wrong becomes a [`Failure`] here: errors of the cluster keep their code and hint, errors of the network say
//! which address was tried and what would help.

mod tls;

use std::{error::Error, future::Future, time::Duration};

use dunlin_proto::{
    ApiError,
    v1::{
        alias_service_client::AliasServiceClient, audit_service_client::AuditServiceClient,
        cluster_service_client::ClusterServiceClient, domain_service_client::DomainServiceClient,
        function_service_client::FunctionServiceClient, invocation_service_client::InvocationServiceClient,
        key_service_client::KeyServiceClient, log_service_client::LogServiceClient,
        namespace_service_client::NamespaceServiceClient, plan_service_client::PlanServiceClient,
        release_service_client::ReleaseServiceClient, route_service_client::RouteServiceClient,
        token_service_client::TokenServiceClient, usage_service_client::UsageServiceClient,
    },
};
use tonic::{
    Request, Response, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};

use crate::{
    context::Target,
    exit::{Exit, Failure},
};

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a silent connection is trusted before it is asked for a sign of life, and how long for that.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(10));

/// The largest message: an invocation's body, and room for its headers.
const MAX_MESSAGE_BYTES: usize = 8 << 20;

/// The largest page of routes, whose answers without a function are in it.
const MAX_LIST_BYTES: usize = 16 << 20;

/// How often a step is tried that the cluster can't take at the moment.
const ATTEMPTS: u32 = 5;

/// Adds the user's token to each call.
#[derive(Clone)]
pub(crate) struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

/// A connection with credentials.
pub(crate) type Service = InterceptedService<Channel, Bearer>;

/// A cluster, connected.
pub(crate) struct Client {
    target: Target,
    service: Service,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// The cluster can't be reached, or the token can't be sent.
    pub(crate) async fn connect(target: Target) -> Result<Self, Failure> {
        let bearer = target.token.as_deref().map(bearer).transpose()?;
        let endpoint = Endpoint::from_shared(target.url.clone())
            .and_then(|endpoint| endpoint.user_agent(concat!("dunlin/", env!("CARGO_PKG_VERSION"))))
            .map_err(|error| Failure::usage(format!("{:?} is not an address", target.url)).because(error))?
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEP_ALIVE.0)
            .keep_alive_timeout(KEEP_ALIVE.1);
        let channel = if endpoint.uri().scheme_str() == Some("https") {
            tls::connect(&endpoint).await
        } else {
            endpoint.connect().await
        };
        let channel = channel.map_err(|error| unreachable_at(&target.url, &error))?;
        Ok(Self { service: InterceptedService::new(channel, Bearer(bearer)), target })
    }

    /// Where it is connected to, and as whom.
    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    /// Functions, versions, artifacts.
    pub(crate) fn functions(&self) -> FunctionServiceClient<Service> {
        FunctionServiceClient::new(self.service.clone())
    }

    /// Usage plans.
    pub(crate) fn plans(&self) -> PlanServiceClient<Service> {
        PlanServiceClient::new(self.service.clone())
    }

    /// Usage and budgets.
    pub(crate) fn usage(&self) -> UsageServiceClient<Service> {
        UsageServiceClient::new(self.service.clone())
    }

    /// Aliases and how their calls divide.
    pub(crate) fn aliases(&self) -> AliasServiceClient<Service> {
        AliasServiceClient::new(self.service.clone())
    }

    /// Namespaces.
    pub(crate) fn namespaces(&self) -> NamespaceServiceClient<Service> {
        NamespaceServiceClient::new(self.service.clone())
    }

    /// Tokens.
    pub(crate) fn tokens(&self) -> TokenServiceClient<Service> {
        TokenServiceClient::new(self.service.clone())
    }

    /// Keys.
    pub(crate) fn keys(&self) -> KeyServiceClient<Service> {
        KeyServiceClient::new(self.service.clone())
    }

    /// Releases.
    pub(crate) fn releases(&self) -> ReleaseServiceClient<Service> {
        ReleaseServiceClient::new(self.service.clone()).max_decoding_message_size(MAX_LIST_BYTES)
    }

    /// Routes.
    pub(crate) fn routes(&self) -> RouteServiceClient<Service> {
        RouteServiceClient::new(self.service.clone()).max_decoding_message_size(MAX_LIST_BYTES)
    }

    /// Domains.
    pub(crate) fn domains(&self) -> DomainServiceClient<Service> {
        DomainServiceClient::new(self.service.clone())
    }

    /// The audit log.
    pub(crate) fn audit(&self) -> AuditServiceClient<Service> {
        AuditServiceClient::new(self.service.clone()).max_decoding_message_size(MAX_LIST_BYTES)
    }

    /// Workers and gateways.
    pub(crate) fn cluster(&self) -> ClusterServiceClient<Service> {
        ClusterServiceClient::new(self.service.clone())
    }

    /// Logs.
    pub(crate) fn logs(&self) -> LogServiceClient<Service> {
        LogServiceClient::new(self.service.clone())
    }

    /// Invocations.
    pub(crate) fn invocations(&self) -> InvocationServiceClient<Service> {
        InvocationServiceClient::new(self.service.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    }
}

fn bearer(token: &str) -> Result<MetadataValue<Ascii>, Failure> {
    let value: Result<MetadataValue<Ascii>, _> = format!("Bearer {}", token.trim()).parse();
    let mut value = value.map_err(|_| {
        Failure::new(Exit::NotAuthorised, "the token has characters that no token has")
            .hint("sign in again with: dunlin login, or set DUNLIN_TOKEN anew")
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// What a call answered.
pub(crate) fn answer<T>(called: Result<Response<T>, Status>) -> Result<T, Failure> {
    called.map(Response::into_inner).map_err(failure)
}

/// A status as a failure.
pub(crate) fn failure(status: Status) -> Failure {
    // How tonic says that an answer is not gRPC: by its missing status, or by a body that it took for messages.
    if ["grpc-status header missing", "while receiving response with status"]
        .iter()
        .any(|text| status.message().contains(text))
    {
        return Failure::new(Exit::Unreachable, "what answers at this address is not a cluster's administration")
            .because(status.message())
            .hint("--url names the administration address (port 8081), not the one of functions (port 8080)");
    }
    // What the cluster says has no cause here; what has one is what became of the connection.
    if status.source().is_some() {
        return Failure::new(Exit::Unreachable, "the connection to the cluster broke")
            .because(innermost(&status))
            .hint("try again; whether the cluster is there says: dunlin doctor");
    }
    ApiError::from(status).into()
}

/// The cluster did not take the connection.
pub(crate) fn unreachable_at(url: &str, error: &(dyn Error + 'static)) -> Failure {
    let cause = innermost(error);
    let hint = if cause.contains("certificate") {
        "name it as its certificate does; an authority that this system does not know is trusted with SSL_CERT_FILE=FILE"
    } else {
        "start one with: dunlin up, or name another with --url, --context or: dunlin login --url"
    };
    Failure::new(Exit::Unreachable, format!("cannot reach the cluster at {url}")).because(cause).hint(hint)
}

/// The last cause of an error, which is the one that says something.
fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    last.to_string()
}

/// Tries a step again, with longer and longer waits, while the cluster can't take it. The step must be harmless to repeat.
pub(crate) async fn retrying<T, F: Future<Output = Result<T, Failure>>>(
    tell: impl Fn(&str),
    mut step: impl FnMut() -> F,
) -> Result<T, Failure> {
    let mut wait = Duration::from_millis(200);
    for attempt in 1..ATTEMPTS {
        match step().await {
            Err(failure) if failure.exit == Exit::Unreachable => {
                tell(&format!("the cluster cannot take it now; trying again ({attempt} of {})", ATTEMPTS - 1));
                tokio::time::sleep(wait).await;
                wait *= 3;
            }
            done => return done,
        }
    }
    step().await
}

/// All items of a list that comes in pages.
pub(crate) async fn all_pages<T, F: Future<Output = Result<(Vec<T>, String), Failure>>>(
    mut page: impl FnMut(String) -> F,
) -> Result<Vec<T>, Failure> {
    let (mut items, mut next) = page(String::new()).await?;
    while !next.is_empty() {
        let (more, after) = page(next).await?;
        items.extend(more);
        next = after;
    }
    Ok(items)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use dunlin_proto::ErrorCode;

    use super::*;

    #[tokio::test]
    async fn a_closed_port_is_named_with_the_fix() {
        let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", free.local_addr().unwrap());
        drop(free);
        let target = Target { context: None, url: url.clone(), token: None, namespace: "default".parse().unwrap() };
        let failure = Client::connect(target).await.err().unwrap();
        assert_eq!(failure.exit, Exit::Unreachable);
        let text = failure.text(crate::output::Style::PLAIN);
        assert!(text.contains(&url) && text.contains("refused") && text.contains("dunlin up"), "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_may_pass_is_tried_again() {
        for (exit, expected) in [(Exit::Unreachable, ATTEMPTS), (Exit::Refused, 1)] {
            let tries = Cell::new(0);
            let ended: Result<(), _> = retrying(
                |_| {},
                || {
                    tries.set(tries.get() + 1);
                    async move { Err(Failure::new(exit, "no")) }
                },
            )
            .await;
            assert_eq!((ended.unwrap_err().exit, tries.get()), (exit, expected));
        }
    }

    #[tokio::test]
    async fn pages_are_joined() {
        let all = all_pages(|token| async move {
            Ok(if token.is_empty() { (vec![1, 2], "next".to_owned()) } else { (vec![3], String::new()) })
        });
        assert_eq!(all.await.unwrap(), [1, 2, 3]);
    }

    #[test]
    fn an_address_that_does_not_speak_grpc_is_told_from_a_cluster() {
        let message = "protocol error: received message with invalid compression flag: 123 (valid flags are 0 and 1) \
                       while receiving response with status: 404 Not Found";
        for status in [Status::internal(message), Status::unknown("grpc-status header missing, mapped from HTTP 502")] {
            let failed = failure(status);
            assert_eq!(failed.exit, Exit::Unreachable);
            assert!(failed.text(crate::output::Style::PLAIN).contains("port 8081"), "{failed:?}");
        }
    }

    #[test]
    fn a_connection_that_breaks_is_told_from_an_answer() {
        let broken = Status::from_error(std::io::Error::from(std::io::ErrorKind::BrokenPipe).into());
        assert_eq!(failure(broken).exit, Exit::Unreachable);
        assert_ne!(failure(Status::internal("h2 protocol error")).exit, Exit::Unreachable);
    }

    #[test]
    fn a_status_of_the_cluster_keeps_its_code() {
        let failed = failure(ApiError::new(ErrorCode::InvalidArtifact, "it imports wasi:gpu").into());
        assert_eq!((failed.exit, failed.code()), (Exit::Refused, Some(ErrorCode::InvalidArtifact)));
    }
}
