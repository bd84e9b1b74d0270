//! Who becomes one of the cluster's processes, and what each of them may call (T47).

use std::{path::Path, sync::Arc, time::Duration};

use dunlin_proto::{
    ErrorCode,
    internal::v1 as internal,
    trust::{Enrolment, Expected, Home, JoinToken, Link, Member, Role, Trust, TrustError, join},
    v1,
};
use dunlin_scheduler::join_token;
use hyper_util::rt::TokioIo;
use rustls::{
    DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint};

use crate::harness::{Cluster, gateway_hello, refused, worker_hello};

/// A scheduler that trusts certificates alone.
async fn cluster() -> Cluster {
    let cluster = Cluster::start_with(|config| config.cluster_secret = None).await;
    ready(&cluster).await;
    cluster
}

async fn ready(cluster: &Cluster) {
    cluster
        .eventually("the state is open", async |cluster| {
            let mut health = tonic_health::pb::health_client::HealthClient::new(stranger(&cluster.address).await);
            let answer = health.check(tonic_health::pb::HealthCheckRequest::default()).await;
            answer.is_ok_and(|answer| answer.into_inner().status == 1)
        })
        .await;
}

fn token(cluster: &Cluster, role: Role, name: Option<&str>) -> JoinToken {
    let text = join_token(&cluster.config, role, name, Duration::from_secs(60)).unwrap();
    JoinToken::read(&text).unwrap()
}

fn endpoint(cluster: &Cluster) -> Endpoint {
    Endpoint::from_shared(cluster.address.clone()).unwrap()
}

async fn joined(cluster: &Cluster, role: Role, id: &str) -> Trust {
    Trust::Certificate(join(&token(cluster, role, None), id, &endpoint(cluster)).await.unwrap())
}

fn link(cluster: &Cluster, trust: &Trust) -> Link {
    trust.link(&endpoint(cluster), Expected::any(Role::Scheduler)).unwrap()
}

fn code(error: &TrustError) -> ErrorCode {
    match error {
        TrustError::Refused(error) => error.code,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn t47_a_join_token_is_good_for_one_process() {
    let mut cluster = cluster().await;
    let once = token(&cluster, Role::Worker, None);
    let member = join(&once, "w-1", &endpoint(&cluster)).await.unwrap();
    assert_eq!(member.identity().to_string(), "spiffe://dunlin/worker/w-1");
    for id in ["w-1", "w-2"] {
        let error = join(&once, id, &endpoint(&cluster)).await.unwrap_err();
        assert_eq!(code(&error), ErrorCode::Unauthenticated);
        assert!(
            error.to_string().contains("used already") && error.to_string().contains("join-token create"),
            "{error}"
        );
    }
    // Also after a restart.
    cluster.restart().await;
    cluster
        .eventually("the token stays used", async |cluster| {
            let error = join(&once, "w-2", &endpoint(cluster)).await.unwrap_err();
            error.to_string().contains("used already")
        })
        .await;
}

#[tokio::test]
async fn t47_a_name_belongs_to_who_joined_with_it_until_a_token_says_otherwise() {
    let cluster = cluster().await;
    let first = joined(&cluster, Role::Worker, "w-1").await;
    let error = join(&token(&cluster, Role::Worker, None), "w-1", &endpoint(&cluster)).await.unwrap_err();
    assert_eq!(code(&error), ErrorCode::AlreadyExists);
    assert!(error.to_string().contains("--name w-1"), "{error}");
    let named = token(&cluster, Role::Worker, Some("w-1"));
    let error = join(&named, "w-2", &endpoint(&cluster)).await.unwrap_err();
    assert_eq!(code(&error), ErrorCode::PermissionDenied);
    let second = Trust::Certificate(join(&named, "w-1", &endpoint(&cluster)).await.unwrap());
    let old = sync_worker(&cluster, &first, "w-1").await;
    assert!(refused(old, ErrorCode::PermissionDenied).message.contains("another key"));
    let mut renewing = internal::membership_service_client::MembershipServiceClient::new(link(&cluster, &first));
    let Trust::Certificate(member) = &first else { unreachable!() };
    let request = internal::RenewRequest { signing_request: member.signing_request().unwrap().into() };
    refused(renewing.renew(request).await, ErrorCode::PermissionDenied);
    sync_worker(&cluster, &second, "w-1").await.unwrap();
}

async fn sync_worker(cluster: &Cluster, trust: &Trust, name: &str) -> Result<(), tonic::Status> {
    let report = internal::sync_worker_request::Report::Hello(worker_hello(name, "1", "engine-1"));
    let hello = internal::SyncWorkerRequest { report: Some(report) };
    let stream = futures::StreamExt::chain(tokio_stream::iter([hello]), tokio_stream::pending());
    let mut client = internal::sync_service_client::SyncServiceClient::new(link(cluster, trust));
    client.sync_worker(stream).await.map(drop)
}

async fn sync_gateway(cluster: &Cluster, trust: &Trust, name: &str) -> Result<(), tonic::Status> {
    let stream = futures::StreamExt::chain(tokio_stream::iter([gateway_hello(name, 0)]), tokio_stream::pending());
    let mut client = internal::sync_service_client::SyncServiceClient::new(link(cluster, trust));
    client.sync_gateway(stream).await.map(drop)
}

#[tokio::test]
async fn t47_a_hello_must_be_of_the_certificates_role_and_name() {
    let cluster = cluster().await;
    let worker = joined(&cluster, Role::Worker, "w-1").await;
    let gateway = joined(&cluster, Role::Gateway, "g-1").await;
    sync_worker(&cluster, &worker, "w-1").await.unwrap();
    sync_gateway(&cluster, &gateway, "g-1").await.unwrap();
    refused(sync_worker(&cluster, &worker, "w-2").await, ErrorCode::PermissionDenied);
    refused(sync_gateway(&cluster, &gateway, "g-2").await, ErrorCode::PermissionDenied);
    refused(sync_worker(&cluster, &gateway, "g-1").await, ErrorCode::PermissionDenied);
    refused(sync_gateway(&cluster, &worker, "w-1").await, ErrorCode::PermissionDenied);
}

/// What each method says to somebody.
macro_rules! each_method {
    ($link:expr, $gateways:expr, $workers:expr) => {{
        use internal::{
            artifact_service_client::ArtifactServiceClient, audit_note_service_client::AuditNoteServiceClient,
            idempotency_service_client::IdempotencyServiceClient, sync_service_client::SyncServiceClient,
        };
        use v1::{
            alias_service_client::AliasServiceClient, audit_service_client::AuditServiceClient,
            cluster_service_client::ClusterServiceClient, domain_service_client::DomainServiceClient,
            function_service_client::FunctionServiceClient, key_service_client::KeyServiceClient,
            namespace_service_client::NamespaceServiceClient, release_service_client::ReleaseServiceClient,
            route_service_client::RouteServiceClient, token_service_client::TokenServiceClient,
            usage_service_client::UsageServiceClient,
        };
        let link = $link;
        macro_rules! say {
            ($allowed:expr, $client:ident.$method:ident($message:expr)) => {
                let answer = $client::new(link.clone()).$method($message).await;
                let code = answer.as_ref().err().map(|status| status.code());
                let barred = matches!(code, Some(tonic::Code::PermissionDenied | tonic::Code::Unauthenticated));
                assert_eq!(barred, !$allowed, "{}: {code:?}", stringify!($method));
            };
        }
        say!($gateways, FunctionServiceClient.list_functions(v1::ListFunctionsRequest::default()));
        say!($gateways, FunctionServiceClient.upload_artifact(tokio_stream::iter(vec![])));
        say!($gateways, NamespaceServiceClient.list_namespaces(v1::ListNamespacesRequest::default()));
        say!($gateways, TokenServiceClient.create_token(v1::CreateTokenRequest::default()));
        say!($gateways, KeyServiceClient.list_keys(v1::ListKeysRequest::default()));
        say!($gateways, AliasServiceClient.list_aliases(v1::ListAliasesRequest::default()));
        say!($gateways, ReleaseServiceClient.list_releases(v1::ListReleasesRequest::default()));
        say!($gateways, RouteServiceClient.list_routes(v1::ListRoutesRequest::default()));
        say!($gateways, DomainServiceClient.list_domains(v1::ListDomainsRequest::default()));
        say!($gateways, ClusterServiceClient.get_cluster(v1::GetClusterRequest {}));
        say!($gateways, ClusterServiceClient.create_join_token(v1::CreateJoinTokenRequest::default()));
        say!($gateways, AuditServiceClient.get_audit_head(v1::GetAuditHeadRequest {}));
        say!($gateways, IdempotencyServiceClient.begin_keyed(internal::BeginKeyedRequest::default()));
        say!($gateways, IdempotencyServiceClient.end_keyed(internal::EndKeyedRequest::default()));
        say!($gateways, AuditNoteServiceClient.note_attempts(internal::NoteAttemptsRequest::default()));
        say!($gateways, UsageServiceClient.list_usage(v1::ListUsageRequest::default()));
        say!($gateways, SyncServiceClient.report_usage(internal::ReportUsageRequest::default()));
        say!($gateways, SyncServiceClient.activate(internal::ActivateRequest::default()));
        say!($gateways, SyncServiceClient.sync_gateway(tokio_stream::iter(vec![])));
        say!($workers, SyncServiceClient.sync_worker(tokio_stream::iter(vec![])));
        say!($workers, ArtifactServiceClient.fetch_code(internal::FetchCodeRequest::default()));
    }};
}

#[tokio::test]
async fn t47_each_role_may_call_its_own_methods() {
    let cluster = cluster().await;
    each_method!(link(&cluster, &joined(&cluster, Role::Gateway, "g-1").await), true, false);
    each_method!(link(&cluster, &joined(&cluster, Role::Worker, "w-1").await), false, true);
}

#[tokio::test]
async fn t47_without_a_certificate_there_is_health_and_joining_alone() {
    let cluster = cluster().await;
    let stranger = stranger(&cluster.address).await;
    each_method!(stranger.clone(), false, false);
    let mut members = internal::membership_service_client::MembershipServiceClient::new(stranger.clone());
    refused(members.renew(internal::RenewRequest::default()).await, ErrorCode::Unauthenticated);
    let garbage = internal::JoinRequest { token: "garbage".into(), id: "w-1".into(), signing_request: "x".into() };
    let error = refused(members.join(garbage).await, ErrorCode::Unauthenticated);
    assert!(error.hint.unwrap().contains("join-token create"));
    let mut health = tonic_health::pb::health_client::HealthClient::new(stranger);
    health.check(tonic_health::pb::HealthCheckRequest::default()).await.unwrap();
    // Nobody is heard without TLS, whatever secret they have.
    assert!(cluster.clusters().get_cluster(v1::GetClusterRequest {}).await.is_err());
}

#[tokio::test]
async fn t47_a_token_of_another_cluster_meets_its_match() {
    let (cluster, other) = (cluster().await, self::cluster().await);
    let error = join(&token(&other, Role::Worker, None), "w-1", &endpoint(&cluster)).await.unwrap_err();
    assert!(error.to_string().contains("another cluster") && !error.is_transient(), "{error}");
    let elsewhere = joined(&other, Role::Gateway, "g-1").await;
    assert!(sync_gateway(&cluster, &elsewhere, "g-1").await.is_err());
    // A scheduler that shares a secret speaks no TLS.
    let secret = Cluster::start().await;
    let error = join(&token(&secret, Role::Worker, None), "w-1", &endpoint(&secret)).await.unwrap_err();
    assert!(error.to_string().contains("TLS"), "{error}");
    let mut gateways = secret.clusters();
    let request = v1::CreateJoinTokenRequest { role: v1::JoinRole::Worker.into(), ..Default::default() };
    refused(gateways.create_join_token(request).await, ErrorCode::FailedPrecondition);
}

#[tokio::test]
async fn t47_a_request_that_makes_no_sense_does_not_use_up_the_token() {
    let cluster = cluster().await;
    let text = join_token(&cluster.config, Role::Worker, None, Duration::from_secs(60)).unwrap();
    let mut members =
        internal::membership_service_client::MembershipServiceClient::new(stranger(&cluster.address).await);
    for (id, signing_request) in [("w-1", "nonsense"), ("Not A Name", ""), ("", "")] {
        let request =
            internal::JoinRequest { token: text.clone(), id: id.into(), signing_request: signing_request.into() };
        refused(members.join(request).await, ErrorCode::InvalidArgument);
    }
    join(&JoinToken::read(&text).unwrap(), "w-1", &endpoint(&cluster)).await.unwrap();
}

#[tokio::test]
async fn an_operator_makes_tokens_through_a_gateway() {
    let cluster = cluster().await;
    let gateway = joined(&cluster, Role::Gateway, "g-1").await;
    let mut clusters = v1::cluster_service_client::ClusterServiceClient::new(link(&cluster, &gateway));
    let request = v1::CreateJoinTokenRequest {
        role: v1::JoinRole::Worker.into(),
        process_id: "w-7".into(),
        lifetime: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
    };
    let made = clusters.create_join_token(request.clone()).await.unwrap().into_inner();
    let token_text = made.token.clone();
    let token = JoinToken::read(&made.token).unwrap();
    assert_eq!((token.role(), token.name()), (Role::Worker, Some("w-7")));
    join(&token, "w-7", &endpoint(&cluster)).await.unwrap();
    let none = v1::CreateJoinTokenRequest { role: 0, ..request.clone() };
    let name = v1::CreateJoinTokenRequest { process_id: "W 7".into(), ..request.clone() };
    let long =
        v1::CreateJoinTokenRequest { lifetime: Some(prost_types::Duration { seconds: 90_000, nanos: 0 }), ..request };
    for (wrong, field) in [(none, "role"), (name, "process_id"), (long, "lifetime")] {
        let error = refused(clusters.create_join_token(wrong).await, ErrorCode::InvalidArgument);
        assert_eq!(error.field.as_deref(), Some(field));
    }
    // The audit log names the gateway by its certificate, whatever it calls itself, and who became what by the token.
    let mut audit = v1::audit_service_client::AuditServiceClient::new(link(&cluster, &gateway));
    let listed = audit.list_audit_entries(v1::ListAuditEntriesRequest::default()).await.unwrap().into_inner();
    let found = |action: &str| listed.entries.iter().find(|entry| entry.action == action).unwrap().clone();
    let (made, became) = (found("join_token.create"), found("process.join"));
    assert_eq!((made.gateway.as_str(), became.resource.as_str()), ("g-1", "worker/w-7"));
    assert!(made.after.contains("w-7") && !made.after.contains(&token_text), "{made:?}");
}

fn home(folder: &Path) -> Home {
    let vault = dunlin_proto::vault::Vault::open(None, folder).unwrap();
    Home::new(folder, vault.into())
}

fn enrolment<'a>(home: &'a Home, token: &'a Path, scheduler: &'a str) -> Enrolment<'a> {
    Enrolment {
        role: Role::Worker,
        wanted: None,
        fallback: "fallback",
        home,
        secret: Path::new("/nowhere"),
        token: Some(token),
        scheduler,
    }
}

#[tokio::test]
async fn t47_a_process_joins_at_its_first_start_and_keeps_its_certificate() {
    let cluster = cluster().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let text = join_token(&cluster.config, Role::Worker, Some("w-9"), Duration::from_secs(60)).unwrap();
    std::fs::write(&file, &text).unwrap();
    let home = home(folder.path());
    let enrolment = enrolment(&home, &file, &cluster.address);
    let first = enrolment.open().await.unwrap();
    assert_eq!(first.identity().unwrap().id, "w-9");
    // The token is used up, and not needed any more.
    let again = enrolment.open().await.unwrap();
    assert_eq!(again.identity(), first.identity());
    let other = Enrolment { wanted: Some("w-1"), ..enrolment };
    assert!(matches!(other.open().await, Err(TrustError::Other { .. })));
    std::fs::remove_dir_all(folder.path().join("trust")).unwrap();
    let other = Enrolment { role: Role::Gateway, wanted: None, ..other };
    assert!(other.open().await.unwrap_err().to_string().contains("for a worker"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t47_a_certificate_is_renewed_over_a_connection_of_its_own() {
    let cluster = Cluster::start_with(|config| {
        (config.cluster_secret, config.certificate_seconds) = (None, 10);
    })
    .await;
    ready(&cluster).await;
    let folder = tempfile::tempdir().unwrap();
    let trust = joined(&cluster, Role::Worker, "w-1").await;
    let Trust::Certificate(member) = &trust else { unreachable!() };
    let first = member.peer().unwrap();
    let home = home(folder.path());
    let shutdown = dunlin_process::shutdown::Shutdown::default();
    let fresh = trust.clone().keep_fresh(cluster.address.clone(), home.clone(), shutdown.clone());
    shutdown.spawn(fresh);
    cluster
        .eventually("another certificate of the same key", async |_| {
            let now = member.peer().unwrap();
            now.key == first.key && now.not_after > first.not_after
        })
        .await;
    cluster.eventually("it is kept", async |_| Member::load(&home).unwrap().is_some()).await;
    sync_worker(&cluster, &trust, "w-1").await.unwrap();
    shutdown.begin();
    assert!(shutdown.finish(Duration::from_secs(20)).await);
}

/// A connection by TLS of somebody who has no certificate and asks for none that would be good.
async fn stranger(url: &str) -> Channel {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.dangerous().with_custom_certificate_verifier(Arc::new(Credulous)).with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let open = tower::service_fn(move |uri: http::Uri| {
        let connector = connector.clone();
        async move {
            let stream = TcpStream::connect(uri.authority().unwrap().as_str()).await?;
            let stream = connector.connect(ServerName::try_from("x").unwrap(), stream).await?;
            Ok::<_, std::io::Error>(TokioIo::new(stream))
        }
    });
    Endpoint::from_shared(url.to_owned()).unwrap().connect_with_connector(open).await.unwrap()
}

#[derive(Debug)]
struct Credulous;

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
