//! Deploys: from the upload to the traffic, repeated, at once, interrupted, and those that must not succeed.

use std::{fs, time::Duration};

use dunlin_proto::{
    ErrorCode,
    internal::v1::FetchCodeRequest,
    seal,
    v1::{self, DeployStage, create_version_response::Event},
};

use crate::harness::{Cluster, SimGateway, SimWorker, create, new_id};

const TILL: &str = "namespaces/default/functions/till";

#[tokio::test]
async fn a_deploy_ends_when_a_worker_has_it_and_the_traffic_moves() {
    let cluster = Cluster::start().await;
    let (worker, gateway) = (SimWorker::join(&cluster, "w1").await, SimGateway::connect(&cluster, "g1").await);
    let digest = cluster.upload("default", "hello").await;
    let (stages, version) = cluster.deploy(create(TILL, digest)).await;
    let version = version.unwrap();
    assert_eq!(stages, [DeployStage::Compiling, DeployStage::Storing, DeployStage::Placing, DeployStage::Activating]);
    assert_eq!((version.number, &*version.name), (1, "namespaces/default/functions/till/versions/1"));
    assert_eq!(
        (version.kind(), &*version.imports),
        (v1::FunctionKind::Http02, &["wasi:cli/stdout@0.2.0".to_owned()][..])
    );
    assert_eq!(version.artifact_digest, digest.to_string());
    let pushed = gateway
        .eventually(&cluster, "the traffic", |g| {
            g.received().config.functions.first().is_some_and(|f| !f.traffic.is_empty())
        })
        .await;
    // The deploy has waited for the gateway: only a machine that stands still keeps what was sent from being seen.
    assert!(pushed < Duration::from_secs(5), "{pushed:?}");
    assert_eq!(gateway.endpoints(1), ["w1/0"]);

    // What the worker shall hold, it can fetch and trust.
    let held = worker.held();
    let code = held[0].code.clone().unwrap();
    let mut chunks = cluster.codes().fetch_code(FetchCodeRequest { key: code.key.clone() }).await.unwrap().into_inner();
    let mut body = vec![];
    while let Some(chunk) = chunks.message().await.unwrap() {
        body.extend_from_slice(&chunk.chunk);
    }
    let keys = worker.seen.lock().unwrap().code_keys.clone();
    seal::verify_signature(&code, &keys).unwrap();
    seal::verify_body(&code, &body).unwrap();
    assert!(body.starts_with(b"engine-1\n\0asm"));
    assert_eq!((&*held[0].namespace, &*held[0].function, &*held[0].kind), ("default", "till", "http-0.2"));
}

#[tokio::test]
async fn without_a_worker_it_succeeds_and_is_loaded_when_one_joins_and_somebody_calls() {
    let cluster = Cluster::start().await;
    let gateway = SimGateway::connect(&cluster, "g1").await;
    cluster.deployed(TILL, "hello").await;
    assert_eq!(cluster.function(TILL).await.traffic, [v1::TrafficTarget { version: 1, percent: 100 }]);
    let _worker = SimWorker::join(&cluster, "w1").await;
    let version = Some(gateway.version(1));
    cluster
        .eventually("a worker accepts", async |cluster| {
            cluster
                .sync()
                .activate(dunlin_proto::internal::v1::ActivateRequest { version: version.clone() })
                .await
                .is_ok()
        })
        .await;
    gateway.eventually(&cluster, "it is ready", |g| g.endpoints(1) == ["w1/0"]).await;
}

#[tokio::test]
async fn a_repeated_request_returns_the_same_version() {
    let cluster = Cluster::start().await;
    let digest = cluster.upload("default", "hello").await;
    let request = v1::CreateVersionRequest { request_id: new_id(), note: "first".into(), ..create(TILL, digest) };
    let first = cluster.deploy(request.clone()).await.1.unwrap();
    assert_eq!(cluster.deploy(request.clone()).await.1.unwrap(), first);
    let other = v1::CreateVersionRequest { note: "second".into(), ..request.clone() };
    let error = cluster.deploy(other).await.1.unwrap_err();
    assert_eq!((error.code, error.field.as_deref()), (ErrorCode::InvalidArgument, Some("request_id")));
    assert_eq!(cluster.function(TILL).await.latest_version, 1);
    // Without an id every request is a new one; the code is there already.
    assert_eq!(cluster.deploy(create(TILL, digest)).await.1.unwrap().number, 2);
    assert_eq!(cluster.compiled(), 1);
}

#[tokio::test]
async fn a_client_that_vanishes_ends_nothing_and_joins_again() {
    let cluster = Cluster::start().await;
    let digest = cluster.upload("default", "slow").await;
    let request = v1::CreateVersionRequest { request_id: new_id(), ..create(TILL, digest) };
    let mut first = cluster.functions().create_version(request.clone()).await.unwrap().into_inner();
    first.message().await.unwrap();
    drop(first);
    let mut second = cluster.functions().create_version(request.clone()).await.unwrap().into_inner();
    let event = second.message().await.unwrap().unwrap().event;
    assert!(matches!(event, Some(Event::Progress(progress)) if progress.stage() == DeployStage::Compiling));
    fs::write(cluster.compiler_file("go"), "").unwrap();
    assert_eq!(cluster.deploy(request).await.1.unwrap().number, 1);
    assert_eq!(cluster.compiled(), 1);
    // And one that never comes back.
    let request = v1::CreateVersionRequest { request_id: new_id(), ..create(TILL, digest) };
    drop(cluster.functions().create_version(request).await.unwrap());
    cluster.eventually("the second version", async |cluster| cluster.function(TILL).await.latest_version == 2).await;
}

#[tokio::test]
async fn deploys_at_once_get_consecutive_numbers_and_the_latest_has_the_traffic() {
    let cluster = Cluster::start().await;
    let _worker = SimWorker::join(&cluster, "w1").await;
    let digest = cluster.upload("default", "hello").await;
    let deploys = (0..5).map(|_| cluster.deploy(create(TILL, digest)));
    let mut numbers: Vec<_> =
        futures::future::join_all(deploys).await.into_iter().map(|(_, v)| v.unwrap().number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 2, 3, 4, 5]);
    assert_eq!(cluster.function(TILL).await.traffic, [v1::TrafficTarget { version: 5, percent: 100 }]);
}

#[tokio::test]
async fn held_traffic_stays_where_it_is() {
    let cluster = Cluster::start().await;
    let first = cluster.deployed(TILL, "hello").await;
    let digest = cluster.upload("default", "other").await;
    let request = v1::CreateVersionRequest { hold_traffic: true, public: Some(true), ..create(TILL, digest) };
    let (stages, version) = cluster.deploy(request).await;
    assert_eq!((version.unwrap().number, stages.last()), (2, Some(&DeployStage::Storing)));
    let function = cluster.function(TILL).await;
    assert_eq!(function.traffic, [v1::TrafficTarget { version: first.number, percent: 100 }]);
    assert!(!function.public && function.latest_version == 2, "callers get nothing of it yet");
    let promoted = v1::PromoteAliasRequest { name: format!("{TILL}/aliases/live"), version: 2, ..Default::default() };
    cluster.aliases().promote_alias(promoted).await.unwrap();
    assert!(cluster.function(TILL).await.public, "it counts with the calls");
    let back = v1::RollbackFunctionRequest { name: TILL.into(), ..Default::default() };
    cluster.functions().rollback_function(back).await.unwrap();
    assert!(!cluster.function(TILL).await.public, "what counted before comes back with the calls");
}

#[tokio::test]
async fn a_version_that_may_reach_more_has_to_be_meant() {
    let cluster = Cluster::start().await;
    let digest = cluster.upload("default", "hello").await;
    let with = |hosts: &[&str]| {
        let allowed_outbound_hosts = hosts.iter().map(ToString::to_string).collect();
        let spec = v1::VersionSpec { allowed_outbound_hosts, ..Default::default() };
        v1::CreateVersionRequest { spec: Some(spec), ..create(TILL, digest) }
    };
    cluster.deploy(with(&["https://a.example"])).await.1.unwrap();
    let wider = with(&["https://a.example", "https://b.example:*"]);
    let error = cluster.deploy(wider.clone()).await.1.unwrap_err();
    assert!(
        error.code == ErrorCode::FailedPrecondition && error.message.ends_with(": https://b.example:*"),
        "{error:?}"
    );
    assert_eq!(cluster.function(TILL).await.latest_version, 1, "nothing was made");
    let held = v1::CreateVersionRequest { hold_traffic: true, ..wider.clone() };
    assert!(cluster.deploy(held).await.1.is_err(), "it could get traffic later");
    cluster.deploy(v1::CreateVersionRequest { allow_new_capabilities: true, ..wider }).await.1.unwrap();
    cluster.deploy(with(&["https://b.example"])).await.1.expect("less is always allowed");
}

#[tokio::test]
async fn what_no_worker_can_load_gets_no_traffic() {
    let cluster = Cluster::start().await;
    let worker = SimWorker::join(&cluster, "w1").await;
    cluster.deployed(TILL, "hello").await;
    worker.set(|seen| seen.failing = true);
    let digest = cluster.upload("default", "other").await;
    // A worker that stands still is away for a moment, and without one a deploy succeeds; but not every time.
    let mut deployed = Vec::new();
    let (before, error) = loop {
        assert!(deployed.len() < 5, "{deployed:?}");
        let before = cluster.function(TILL).await.traffic;
        match cluster.deploy(create(TILL, digest)).await.1 {
            Err(error) => break (before, error),
            Ok(version) => deployed.push(version.number),
        }
    };
    assert_eq!(error.code, ErrorCode::FailedPrecondition);
    assert!(error.message.contains("no worker can load it: w1: no room"), "{error}");
    assert_eq!(cluster.function(TILL).await.traffic, before);
}

#[tokio::test]
async fn bad_artifacts_are_refused_and_leave_nothing() {
    let cluster = Cluster::start().await;
    for (text, says) in [("refuse", "acme:db/sql"), ("crash", "ended by signal 11")] {
        let digest = cluster.upload("default", text).await;
        let error = cluster.deploy(create(TILL, digest)).await.1.unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidArtifact);
        assert!(error.message.contains(says) && error.hint.is_some(), "{error:?}");
    }
    for (body, says) in [
        (&b"\x7fELF native"[..], "native or precompiled"),
        (b"(module)", "WebAssembly text"),
        (b"\x1f\x8b\x08zip", "compressed"),
        (b"hello world", "does not begin"),
        (b"\0as", "does not begin"),
    ] {
        let digest = dunlin_proto::ids::Digest::of(body);
        let parts = vec![crate::harness::start("default", digest, body.len() as u64), crate::harness::chunk(body)];
        cluster.send_upload(parts).await.unwrap();
        let error = cluster.deploy(create(TILL, digest)).await.1.unwrap_err();
        assert!(error.code == ErrorCode::InvalidArtifact && error.message.contains(says), "{error}");
    }
    let gone = cluster.functions().get_function(v1::GetFunctionRequest { name: TILL.into() }).await;
    crate::harness::refused(gone, ErrorCode::NotFound);
    let unfinished = cluster.config.data_dir.join("unfinished");
    assert_eq!(fs::read_dir(unfinished).unwrap().count(), 0);
}

#[tokio::test]
async fn bad_requests_name_their_field() {
    let cluster = Cluster::start().await;
    let digest = cluster.upload("default", "hello").await;
    let spec = |spec: v1::VersionSpec| v1::CreateVersionRequest { spec: Some(spec), ..create(TILL, digest) };
    let outbound = v1::VersionSpec { allowed_outbound_hosts: vec!["example.com".into()], ..Default::default() };
    let limits = v1::Limits { memory_bytes: Some(u64::MAX), ..Default::default() };
    for (request, field) in [
        (create("namespaces/default/functions/../x", digest), "parent"),
        (create("namespaces/default/functions/\u{fc}ber", digest), "parent"),
        (v1::CreateVersionRequest { artifact_digest: "sha256:xyz".into(), ..create(TILL, digest) }, "artifact_digest"),
        (v1::CreateVersionRequest { request_id: "1".into(), ..create(TILL, digest) }, "request_id"),
        (v1::CreateVersionRequest { note: "x".repeat(2000), ..create(TILL, digest) }, "note"),
        (spec(outbound), "spec.allowed_outbound_hosts"),
        (spec(v1::VersionSpec { limits: Some(limits), ..Default::default() }), "spec.limits.memory_bytes"),
    ] {
        let error = cluster.deploy(request).await.1.unwrap_err();
        assert_eq!((error.code, error.field.as_deref()), (ErrorCode::InvalidArgument, Some(field)));
    }
    let missing = create(TILL, dunlin_proto::ids::Digest::of(b"never uploaded"));
    assert_eq!(cluster.deploy(missing).await.1.unwrap_err().code, ErrorCode::NotFound);
    let nowhere = create("namespaces/nowhere/functions/till", digest);
    assert_eq!(cluster.deploy(nowhere).await.1.unwrap_err().message, "namespace nowhere was not found");
}

#[tokio::test]
async fn a_deploy_that_a_restart_interrupted_is_finished_by_itself() {
    let mut cluster = Cluster::start().await;
    let worker = SimWorker::join(&cluster, "w1").await;
    worker.set(|seen| seen.loading = true);
    let digest = cluster.upload("default", "hello").await;
    let request = v1::CreateVersionRequest { request_id: new_id(), ..create(TILL, digest) };
    let mut events = cluster.functions().create_version(request.clone()).await.unwrap().into_inner();
    cluster.eventually("it waits for the worker", async |_| !worker.held().is_empty()).await;
    cluster.stop().await;
    let ended = loop {
        if let Err(error) = events.message().await {
            break dunlin_proto::ApiError::from(error);
        }
    };
    assert_eq!(ended.code, ErrorCode::Unavailable);
    worker.set(|seen| seen.loading = false);
    cluster.restart_stopped().await;
    cluster.eventually("the traffic moves", async |cluster| !cluster.function(TILL).await.traffic.is_empty()).await;
    assert_eq!(cluster.deploy(request).await.1.unwrap().number, 1);
}
