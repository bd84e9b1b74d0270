//! Who may call at all, tokens and keys.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use dunlin_proto::{ApiError, ErrorCode, internal::v1 as internal, metadata::ClusterSecret, v1};
use tonic::Request;

use crate::harness::{Cluster, SECRET, SimGateway, refused};

#[tokio::test]
async fn t47_every_service_wants_the_secret_and_health_does_not() {
    let cluster = Cluster::start().await;
    let none = cluster.channel();
    let wrong = tonic::service::interceptor::InterceptedService::new(
        cluster.channel(),
        ClusterSecret::from_text(&SECRET.to_uppercase()).unwrap().attach(),
    );
    macro_rules! closed {
        ($($client:ident.$method:ident($message:expr)),+ $(,)?) => {$(
            refused($client::new(none.clone()).$method($message).await, ErrorCode::Unauthenticated);
            refused($client::new(wrong.clone()).$method($message).await, ErrorCode::Unauthenticated);
        )+};
    }
    use internal::{artifact_service_client::ArtifactServiceClient, sync_service_client::SyncServiceClient};
    use v1::{
        cluster_service_client::ClusterServiceClient, function_service_client::FunctionServiceClient,
        key_service_client::KeyServiceClient, namespace_service_client::NamespaceServiceClient,
        token_service_client::TokenServiceClient,
    };
    closed!(
        FunctionServiceClient.list_functions(v1::ListFunctionsRequest::default()),
        FunctionServiceClient.create_version(v1::CreateVersionRequest::default()),
        FunctionServiceClient.upload_artifact(tokio_stream::iter(vec![])),
        NamespaceServiceClient.list_namespaces(v1::ListNamespacesRequest::default()),
        TokenServiceClient.create_token(v1::CreateTokenRequest::default()),
        KeyServiceClient.list_keys(v1::ListKeysRequest::default()),
        ClusterServiceClient.get_cluster(v1::GetClusterRequest {}),
        SyncServiceClient.sync_worker(tokio_stream::iter(vec![])),
        SyncServiceClient.sync_gateway(tokio_stream::iter(vec![])),
        SyncServiceClient.activate(internal::ActivateRequest::default()),
        ArtifactServiceClient.fetch_code(internal::FetchCodeRequest::default()),
    );
    let mut health = tonic_health::pb::health_client::HealthClient::new(cluster.channel());
    let status = health.check(tonic_health::pb::HealthCheckRequest::default()).await.unwrap().into_inner().status;
    assert_eq!(status, 1);
}

fn administration(role: v1::Role, namespace: &str) -> v1::CreateTokenRequest {
    let grants = vec![v1::RoleGrant { namespace: namespace.into(), role: role.into() }];
    let purpose = v1::TokenPurpose::Administration.into();
    v1::CreateTokenRequest { subject: "zoe".into(), purpose, grants, ..Default::default() }
}

fn call() -> v1::CreateTokenRequest {
    let purpose = v1::TokenPurpose::Call.into();
    v1::CreateTokenRequest {
        subject: "till".into(),
        purpose,
        parent: "namespaces/default".into(),
        ..Default::default()
    }
}

fn claims(token: &str) -> serde_json::Value {
    let part = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

#[tokio::test]
async fn tokens_say_what_was_asked_for() {
    let cluster = Cluster::start().await;
    let gateway = SimGateway::connect(&cluster, "g1").await;
    let created =
        cluster.tokens().create_token(administration(v1::Role::Developer, "default")).await.unwrap().into_inner();
    let said = claims(&created.token);
    assert_eq!(said["grants"], serde_json::json!([{"namespace": "default", "role": "developer"}]));
    assert_eq!(
        (&said["aud"], &said["exp"]),
        (&serde_json::json!("dunlin-admin"), &serde_json::json!(created.expire_time.unwrap().seconds))
    );
    let request = v1::CreateTokenRequest { scopes: vec!["read".into(), "write".into()], ..call() };
    let said = claims(&cluster.tokens().create_token(request).await.unwrap().into_inner().token);
    assert_eq!(
        (&said["aud"], &said["scope"]),
        (&serde_json::json!("dunlin:default"), &serde_json::json!("read write"))
    );
    // The key that they are signed with reaches the gateways.
    gateway.eventually(&cluster, "the token key", |g| !g.received().config.token_keys.is_empty()).await;
    let key = gateway.received().config.token_keys[0].clone();
    let verify = jsonwebtoken::DecodingKey::from_ed_der(&key.public_key);
    let mut validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::EdDSA);
    validation.set_audience(&["dunlin-admin"]);
    jsonwebtoken::decode::<serde_json::Value>(&created.token, &verify, &validation).unwrap();
    assert_eq!(jsonwebtoken::decode_header(&created.token).unwrap().kid.as_deref(), Some(&*key.id));
    let offline = dunlin_scheduler::operator_token(&cluster.config, "zoe", std::time::Duration::from_secs(60)).unwrap();
    jsonwebtoken::decode::<serde_json::Value>(&offline, &verify, &validation).unwrap();
    assert_eq!(claims(&offline)["grants"], serde_json::json!([{"role": "operator"}]));
}

#[tokio::test]
async fn tokens_that_make_no_sense_are_refused() {
    let cluster = Cluster::start().await;
    let days = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    let admin = || administration(v1::Role::Admin, "default");
    for (request, field) in [
        (v1::CreateTokenRequest { subject: " ".into(), ..admin() }, "subject"),
        (v1::CreateTokenRequest { subject: "a\nb".into(), ..admin() }, "subject"),
        (v1::CreateTokenRequest { subject: "x".repeat(129), ..admin() }, "subject"),
        (v1::CreateTokenRequest { purpose: 0, ..admin() }, "purpose"),
        (v1::CreateTokenRequest { purpose: 99, ..admin() }, "purpose"),
        (v1::CreateTokenRequest { grants: vec![], ..admin() }, "grants"),
        (v1::CreateTokenRequest { parent: "namespaces/default".into(), ..admin() }, "parent"),
        (v1::CreateTokenRequest { lifetime: days(86_401), ..admin() }, "lifetime"),
        (v1::CreateTokenRequest { lifetime: days(0), ..admin() }, "lifetime"),
        (v1::CreateTokenRequest { lifetime: days(-5), ..admin() }, "lifetime"),
        (administration(v1::Role::Operator, "default"), "grants.namespace"),
        (administration(v1::Role::Unspecified, "default"), "grants.role"),
        (administration(v1::Role::Viewer, "../x"), "grants.namespace"),
        (v1::CreateTokenRequest { parent: String::new(), ..call() }, "parent"),
        (v1::CreateTokenRequest { grants: admin().grants, ..call() }, "grants"),
        (v1::CreateTokenRequest { scopes: vec!["a b".into()], ..call() }, "scopes"),
    ] {
        let error = refused(cluster.tokens().create_token(request.clone()).await, ErrorCode::InvalidArgument);
        assert_eq!(error.field.as_deref(), Some(field), "{request:?}");
    }
    refused(cluster.tokens().create_token(administration(v1::Role::Admin, "nowhere")).await, ErrorCode::NotFound);
    refused(cluster.tokens().get_identity(v1::GetIdentityRequest {}).await, ErrorCode::MethodNotAllowed);
}

#[tokio::test]
async fn a_key_is_shown_once_and_its_revocation_reaches_gateways_within_a_second() {
    let cluster = Cluster::start().await;
    let gateway = SimGateway::connect(&cluster, "g1").await;
    let parent = "namespaces/default".to_owned();
    let mut request = Request::new(v1::CreateKeyRequest {
        parent: parent.clone(),
        display_name: "till".into(),
        functions: vec!["checkout".into()],
        lifetime: Some(prost_types::Duration { seconds: 3600, nanos: 0 }),
        plan: String::new(),
    });
    dunlin_proto::metadata::set_actor(&mut request, "Zoë");
    let created = cluster.keys().create_key(request).await.unwrap().into_inner();
    let key = created.key.unwrap();
    assert_eq!((&*key.creator, &*key.display_name), ("Zoë", "till"));
    assert!(created.secret.starts_with(&key.prefix) && created.secret.len() == 3 + 12 + 1 + 43 + 1 + 6);
    gateway.eventually(&cluster, "the key", |g| g.received().config.keys.len() == 1).await;
    let config = gateway.received().config.keys[0].clone();
    assert_eq!(config.secret_sha256, dunlin_proto::ids::Digest::of(created.secret.as_bytes()).as_bytes()[..]);
    let list = v1::ListKeysRequest { parent: parent.clone(), ..Default::default() };
    let listed = cluster.keys().list_keys(list.clone()).await.unwrap().into_inner();
    assert!(!format!("{listed:?}").contains(&created.secret[16..59]), "no list shows the secret");
    let revoke = v1::RevokeKeyRequest { name: key.name.clone() };
    let revoked = cluster.keys().revoke_key(revoke.clone()).await.unwrap().into_inner().key.unwrap();
    let took = gateway.eventually(&cluster, "its revocation", |g| g.received().config.keys.is_empty()).await;
    // It is sent at once; only a machine that stands still delays it.
    assert!(took < std::time::Duration::from_secs(8), "{took:?}");
    assert_eq!(cluster.keys().revoke_key(revoke).await.unwrap().into_inner().key.unwrap(), revoked);
    assert_eq!(cluster.keys().list_keys(list).await.unwrap().into_inner().keys, [revoked]);
    let foreign = v1::RevokeKeyRequest { name: key.name.replace("default", "other") };
    refused(cluster.keys().revoke_key(foreign).await, ErrorCode::NotFound);
    let wrong = v1::CreateKeyRequest { parent, functions: vec!["../x".into()], ..Default::default() };
    let error = ApiError::from(cluster.keys().create_key(wrong).await.unwrap_err());
    assert_eq!(error.field.as_deref(), Some("functions"));
}
