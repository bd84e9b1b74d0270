//! The gRPC API: reflection, health, errors with details, forwarding with an actor, streams.

use std::collections::BTreeSet;

use dunlin_proto::{
    ids::Digest,
    v1::{self, function_service_client::FunctionServiceClient, token_service_client::TokenServiceClient},
};
use futures::StreamExt;
use prost::Message;
use tonic::{Code, Request};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::{
    v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    },
    v1alpha,
};
use tonic_types::StatusExt;

use super::world::World;

fn with<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

/// The services that the schemas declare.
fn declared() -> BTreeSet<String> {
    let set = prost_types::FileDescriptorSet::decode(v1::DESCRIPTORS).unwrap();
    let services =
        set.file.iter().flat_map(|file| file.service.iter().map(|s| format!("{}.{}", file.package(), s.name())));
    services.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_lists_exactly_the_public_services_without_a_token() {
    let world = World::new().await;
    let ask = ServerReflectionRequest {
        message_request: Some(MessageRequest::ListServices(String::new())),
        ..Default::default()
    };
    let mut client = ServerReflectionClient::new(world.channel().await);
    let mut answers = client.server_reflection_info(tokio_stream::once(ask)).await.unwrap().into_inner();
    let Some(MessageResponse::ListServicesResponse(list)) = answers.message().await.unwrap().unwrap().message_response
    else {
        panic!("no list")
    };
    let mut found: BTreeSet<_> = list.service.into_iter().map(|service| service.name).collect();
    assert!(found.remove("grpc.health.v1.Health"));
    found.retain(|name| !name.starts_with("grpc.reflection."));
    assert_eq!(found, declared());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_older_reflection_works_too() {
    use v1alpha::{server_reflection_client::ServerReflectionClient, server_reflection_request::MessageRequest};
    let world = World::new().await;
    let symbol = MessageRequest::FileContainingSymbol("dunlin.v1.FunctionService".to_owned());
    let ask = v1alpha::ServerReflectionRequest { message_request: Some(symbol), ..Default::default() };
    let mut client = ServerReflectionClient::new(world.channel().await);
    let answer = client.server_reflection_info(tokio_stream::once(ask)).await.unwrap().into_inner().message().await;
    let found = answer.unwrap().unwrap().message_response.unwrap();
    let v1alpha::server_reflection_response::MessageResponse::FileDescriptorResponse(files) = found else {
        panic!("{found:?}")
    };
    assert!(!files.file_descriptor_proto.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_service_is_healthy_and_an_unknown_one_is_not_known() {
    let world = World::new().await;
    let mut client = HealthClient::new(world.channel().await);
    for service in declared().into_iter().chain([String::new()]) {
        let answer = client.check(HealthCheckRequest { service: service.clone() }).await.unwrap().into_inner();
        assert_eq!(answer.status, 1, "{service}");
    }
    let unknown = client.check(HealthCheckRequest { service: "x".to_owned() }).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_have_details_that_any_client_can_read() {
    let world = World::new().await;
    let mut client = FunctionServiceClient::new(world.channel().await);
    let token = world.tokens.operator();
    let get = |name: &str| v1::GetFunctionRequest { name: name.to_owned() };
    let bad = client.get_function(with(&token, get("functions/x"))).await.unwrap_err();
    assert_eq!(bad.code(), Code::InvalidArgument);
    assert_eq!(bad.get_details_bad_request().unwrap().field_violations[0].field, "name");
    assert_eq!(bad.get_details_error_info().unwrap().reason, "INVALID_ARGUMENT");
    let missing = client.get_function(with(&token, get("namespaces/shop/functions/nothing"))).await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);
    assert_eq!(missing.get_details_error_info().unwrap().metadata["hint"], "deploy it");
    let nobody = client.get_function(get("namespaces/shop/functions/price")).await.unwrap_err();
    assert_eq!(nobody.code(), Code::Unauthenticated);
    assert!(nobody.get_details_error_info().unwrap().metadata["hint"].contains("dunlin token create"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_for_something_else_or_nothing_is_refused() {
    let world = World::new().await;
    let mut client = TokenServiceClient::new(world.channel().await);
    let other = super::world::Tokens::new();
    let expired = world.tokens.sign(&serde_json::json!({ "exp": 1_000_000, "grants": [{ "role": "operator" }] }));
    let both = world.tokens.sign(&serde_json::json!({ "aud": ["dunlin-admin", "dunlin:shop"] }));
    for bad in [world.tokens.caller("shop"), other.operator(), expired, both, "x".to_owned(), "a.b.c".to_owned()] {
        let refused = client.get_identity(with(&bad, v1::GetIdentityRequest {})).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated, "{bad}");
    }
    let identity = client.get_identity(with(&world.tokens.with(&[("shop", "admin")]), v1::GetIdentityRequest {})).await;
    let identity = identity.unwrap().into_inner();
    assert_eq!((identity.subject.as_str(), identity.issuer.as_str()), ("ada", "dunlin"));
    assert_eq!(identity.grants, [v1::RoleGrant { namespace: "shop".to_owned(), role: v1::Role::Admin.into() }]);
    assert!(identity.expire_time.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_scheduler_learns_who_acts_and_functions_get_their_addresses() {
    let world = World::new().await;
    let mut client = FunctionServiceClient::new(world.channel().await);
    let token = world.tokens.sign(&serde_json::json!({ "sub": "Zoë", "grants": [{ "role": "operator" }] }));
    let request = v1::GetFunctionRequest { name: "namespaces/shop/functions/price".to_owned() };
    let function = client.get_function(with(&token, request)).await.unwrap().into_inner().function.unwrap();
    assert_eq!(function.urls, [format!("http://{}/shop/price/", world.functions)]);
    assert_eq!(world.scheduler.state().calls.last().unwrap(), &("GetFunction", "Zoë".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deploy_streams_its_progress() {
    let world = World::new().await;
    let mut client = FunctionServiceClient::new(world.channel().await);
    let request = v1::CreateVersionRequest {
        parent: "namespaces/shop/functions/new".to_owned(),
        artifact_digest: Digest::of(b"x").to_string(),
        ..Default::default()
    };
    let token = world.tokens.with(&[("shop", "developer")]);
    let events = client.create_version(with(&token, request)).await.unwrap().into_inner();
    let events: Vec<_> = events.map(|event| event.unwrap().event.unwrap()).collect().await;
    assert!(matches!(events[0], v1::create_version_response::Event::Progress(_)));
    assert!(matches!(&events[1], v1::create_version_response::Event::Version(version) if version.number == 9));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_sees_no_values_of_the_environment_over_grpc_either() {
    let world = World::new().await;
    let mut client = FunctionServiceClient::new(world.channel().await);
    let name = "namespaces/shop/functions/price/versions/1".to_owned();
    for (role, value) in [("viewer", ""), ("developer", "EUR")] {
        let request = v1::GetVersionRequest { name: name.clone() };
        let answer = client.get_version(with(&world.tokens.with(&[("shop", role)]), request)).await.unwrap();
        let spec = answer.into_inner().version.unwrap().spec.unwrap();
        assert_eq!(spec.environment["CURRENCY"], value, "{role}");
    }
}
