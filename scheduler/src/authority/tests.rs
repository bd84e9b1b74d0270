//! Certificates as the two ends of a connection see them: of another cluster, expired, replaced.

use std::{path::Path, time::SystemTime};

use dunlin_process::shutdown::Shutdown;
use dunlin_proto::trust::{Expected, Home, Peer, Trust};
use tokio::net::TcpListener;
use tonic::{
    Code, Status,
    service::interceptor::InterceptedService,
    transport::{Endpoint, Server},
};
use tonic_health::{
    ServingStatus,
    pb::{HealthCheckRequest, health_client::HealthClient},
};

use super::*;

const DAY: Duration = Duration::from_secs(24 * 3600);

fn keyring(folder: &Path) -> Keyring {
    Keyring::open(folder, None).unwrap()
}

struct Cluster {
    folder: tempfile::TempDir,
    authority: Authority,
}

impl Cluster {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::open(&keyring(folder.path()), DAY).unwrap();
        Self { folder, authority }
    }

    /// A member whose certificate was issued then.
    fn member(&self, role: Role, id: &str, then: Time) -> Member {
        let identity = Identity::new(role, id).unwrap();
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let issued = self.authority.certify(&identity, &key, then).unwrap();
        let key = PrivatePkcs8KeyDer::from(key.serialized_der());
        Member::new(&key, issued.certificate, self.authority.certificate.clone()).unwrap()
    }

    fn trust(&self, role: Role, id: &str) -> Trust {
        Trust::Certificate(self.member(role, id, Time::now()))
    }

    fn renew(&self, member: &Member) {
        let issued = self.authority.issue(member.identity(), &member.signing_request().unwrap(), Time::now()).unwrap();
        member.replace(issued.certificate).unwrap();
    }
}

fn two_days_ago() -> Time {
    Time(Time::now().0 - Time(0).after(2 * DAY).0)
}

/// Serves health to gateways as a worker does.
async fn serve(trust: &Trust) -> Endpoint {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Endpoint::from_shared(format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let incoming = trust.incoming(listener.into(), false).unwrap();
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_service_status("", ServingStatus::Serving).await;
    let health = InterceptedService::new(health, trust.require(&[Role::Gateway]));
    Shutdown::default().spawn(Server::builder().add_service(health).serve_with_incoming(incoming));
    endpoint
}

async fn call(trust: &Trust, endpoint: &Endpoint, expected: Expected) -> Result<(), Status> {
    let link = trust.link(endpoint, expected).unwrap();
    HealthClient::new(link).check(HealthCheckRequest::default()).await.map(drop)
}

fn worker() -> Expected {
    Expected::named(Role::Worker, "w-1")
}

#[tokio::test]
async fn t47_a_gateway_reaches_the_worker_that_it_means_and_other_roles_reach_none() {
    let cluster = Cluster::new();
    let endpoint = serve(&cluster.trust(Role::Worker, "w-1")).await;
    let gateway = cluster.trust(Role::Gateway, "g-1");
    call(&gateway, &endpoint, worker()).await.unwrap();
    call(&gateway, &endpoint, Expected::any(Role::Worker)).await.unwrap();
    for role in [Role::Worker, Role::Scheduler] {
        let refused = call(&cluster.trust(role, "x"), &endpoint, worker()).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{role}");
    }
    for other in [Expected::named(Role::Worker, "w-2"), Expected::any(Role::Scheduler), Expected::any(Role::Gateway)] {
        let refused = call(&gateway, &endpoint, other).await.unwrap_err();
        assert!(format!("{refused:?}").contains("worker w-1 answers"), "{refused:?}");
    }
}

#[tokio::test]
async fn t47_another_clusters_certificate_and_an_expired_one_are_refused_on_both_ends() {
    let (cluster, other) = (Cluster::new(), Cluster::new());
    let good = cluster.trust(Role::Gateway, "g-1");
    let strange = other.trust(Role::Gateway, "g-1");
    let expired = Trust::Certificate(cluster.member(Role::Gateway, "g-1", two_days_ago()));
    let endpoint = serve(&cluster.trust(Role::Worker, "w-1")).await;
    for bad in [&strange, &expired] {
        assert!(call(bad, &endpoint, worker()).await.is_err());
    }
    call(&good, &endpoint, worker()).await.unwrap();
    let endpoint = serve(&other.trust(Role::Worker, "w-1")).await;
    assert!(call(&good, &endpoint, worker()).await.is_err());
    let endpoint = serve(&Trust::Certificate(cluster.member(Role::Worker, "w-1", two_days_ago()))).await;
    let refused = call(&good, &endpoint, worker()).await.unwrap_err();
    assert!(format!("{refused:?}").contains("xpired"), "{refused:?}");
}

#[tokio::test]
async fn t47_a_replaced_certificate_is_for_new_connections_and_ends_none() {
    let cluster = Cluster::new();
    let server = cluster.member(Role::Worker, "w-1", Time::now());
    let endpoint = serve(&Trust::Certificate(server.clone())).await;
    let client = cluster.member(Role::Gateway, "g-1", Time::now());
    let link = Trust::Certificate(client.clone()).link(&endpoint, worker()).unwrap();
    let mut open = HealthClient::new(link);
    open.check(HealthCheckRequest::default()).await.unwrap();
    let expired = cluster.authority.issue(server.identity(), &server.signing_request().unwrap(), two_days_ago());
    server.replace(expired.unwrap().certificate).unwrap();
    let gateway = Trust::Certificate(client.clone());
    assert!(call(&gateway, &endpoint, worker()).await.is_err(), "a new connection sees the new certificate");
    open.check(HealthCheckRequest::default()).await.unwrap();
    cluster.renew(&server);
    cluster.renew(&client);
    call(&gateway, &endpoint, worker()).await.unwrap();
    open.check(HealthCheckRequest::default()).await.unwrap();
    let theirs = cluster.authority.issue(client.identity(), &server.signing_request().unwrap(), Time::now()).unwrap();
    assert!(client.replace(theirs.certificate).is_err(), "it is of another key");
}

#[test]
fn t47_a_certificate_lives_a_day_at_most_and_names_one_process() {
    let cluster = Cluster::new();
    let peer = cluster.member(Role::Worker, "w-1", Time::now()).peer().unwrap();
    assert_eq!(peer.identity.to_string(), "spiffe://dunlin/worker/w-1");
    assert!(peer.not_after.duration_since(peer.not_before).unwrap() <= DAY);
    assert!(peer.not_before < SystemTime::now() && peer.not_after > SystemTime::now() + DAY / 2);
    assert!(Peer::read(cluster.authority.certificate()).is_err(), "the authority is no process");
}

#[test]
fn t47_only_a_signed_request_for_a_key_of_ours_gets_a_certificate() {
    let cluster = Cluster::new();
    let identity = Identity::new(Role::Worker, "w-1").unwrap();
    let member = cluster.member(Role::Worker, "w-1", Time::now());
    let mut request = member.signing_request().unwrap();
    let issued = cluster.authority.issue(&identity, &request, Time::now()).unwrap();
    assert_eq!(issued.key, member.peer().unwrap().key);
    *request.last_mut().unwrap() ^= 1;
    let foreign = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let foreign = CertificateParams::default().serialize_request(&foreign).unwrap();
    for bad in [request.as_slice(), b"", b"nonsense", &foreign.der()[..]] {
        let error = cluster.authority.issue(&identity, bad, Time::now()).unwrap_err();
        assert_eq!(error.field.as_deref(), Some("signing_request"));
    }
}

#[test]
fn t47_the_authority_survives_a_restart_and_its_key_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let cluster = Cluster::new();
    let keys = cluster.folder.path();
    assert_eq!(Authority::open(&keyring(keys), DAY).unwrap().fingerprint(), cluster.authority.fingerprint());
    let key = keys.join("authority.pk8");
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    let other = Cluster::new();
    std::fs::copy(other.folder.path().join("authority.pem"), keys.join("authority.pem")).unwrap();
    let error = Authority::open(&keyring(keys), DAY).unwrap_err().to_string();
    assert!(error.contains("authority.pem"), "{error}");
    std::fs::write(keys.join("authority.pem"), "nonsense").unwrap();
    assert!(Authority::open(&keyring(keys), DAY).is_err());
}

#[tokio::test]
async fn t47_what_makes_a_member_survives_a_restart() {
    let cluster = Cluster::new();
    let folder = tempfile::tempdir().unwrap();
    let member = cluster.member(Role::Gateway, "g-1", Time::now());
    let home = Home::new(folder.path(), keyring(folder.path()).vault().clone());
    let path = member.save(&home).unwrap();
    assert!(!std::fs::read_to_string(&path).unwrap().contains("BEGIN PRIVATE KEY"), "its key is encrypted");
    let again = Member::load(&home).unwrap().unwrap();
    assert_eq!(again.peer().unwrap(), member.peer().unwrap());
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    let endpoint = serve(&cluster.trust(Role::Worker, "w-1")).await;
    call(&Trust::Certificate(again), &endpoint, worker()).await.unwrap();
}
