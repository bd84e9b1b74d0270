//! Aliases over gRPC: how gateways hear of them, and who is told when they do not.

use std::time::Duration;

use dunlin_proto::{
    ErrorCode,
    internal::v1::{VersionOutcomes, VersionRef},
    v1,
};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;

use crate::harness::{Cluster, SimGateway, create, gateway_hello, new_id, refused};

const TILL: &str = "namespaces/default/functions/till";

fn set(alias: &str, shares: &[(u32, u32)], sticky: Option<v1::Sticky>) -> v1::SetAliasRequest {
    let target = |(version, percent): &(u32, u32)| v1::TrafficTarget { version: *version, percent: *percent };
    let traffic = shares.iter().map(target).collect();
    let alias = v1::Alias { name: format!("{TILL}/aliases/{alias}"), traffic, sticky, ..Default::default() };
    v1::SetAliasRequest { alias: Some(alias), etag: String::new() }
}

/// Two versions, of which the first has the traffic.
async fn with_versions(cluster: &Cluster) {
    with_versions_of(cluster, TILL).await;
}

async fn with_versions_of(cluster: &Cluster, function: &str) {
    cluster.deployed(function, "one").await;
    let digest = cluster.upload("default", "two").await;
    let held = v1::CreateVersionRequest { hold_traffic: true, ..create(function, digest) };
    cluster.deploy(held).await.1.unwrap();
}

#[tokio::test]
async fn a_change_is_answered_when_gateways_have_it() {
    let cluster = Cluster::start().await;
    let gateway = SimGateway::connect(&cluster, "g1").await;
    with_versions(&cluster).await;
    let sticky = v1::Sticky { header: "X-User".into(), cookie: false };
    let began = Instant::now();
    let answer =
        cluster.aliases().set_alias(set("live", &[(1, 90), (2, 10)], Some(sticky))).await.unwrap().into_inner();
    assert!(answer.lagging_gateways.is_empty() && began.elapsed() < Duration::from_secs(8), "{answer:?}");
    assert_eq!(answer.alias.unwrap().sticky.unwrap().header, "x-user");
    cluster.aliases().set_alias(set("beta", &[(2, 100)], None)).await.unwrap();
    let received = gateway.received().config;
    let (function, sticky) = (&received.functions[0], received.functions[0].sticky.as_ref().unwrap());
    assert!(received.aliases && sticky.division > 0 && sticky.header == "x-user");
    assert_eq!((function.traffic.len(), function.aliases[0].name.as_str()), (2, "beta"));
    assert!(function.versions.iter().all(|version| version.standbys > 0), "both are kept ready");
    let promote = v1::PromoteAliasRequest { name: format!("{TILL}/aliases/live"), request_id: new_id(), version: 0 };
    for _ in 0..2 {
        let promoted = cluster.aliases().promote_alias(promote.clone()).await.unwrap().into_inner();
        assert_eq!((promoted.version, promoted.lagging_gateways.len()), (2, 0));
    }
    let rollback = v1::RollbackFunctionRequest { name: TILL.into(), ..Default::default() };
    assert_eq!(cluster.functions().rollback_function(rollback).await.unwrap().into_inner().version, 1);
    let delete = v1::DeleteAliasRequest { name: format!("{TILL}/aliases/beta") };
    cluster.aliases().delete_alias(delete.clone()).await.unwrap();
    refused(cluster.aliases().delete_alias(delete).await, ErrorCode::NotFound);
    assert!(gateway.received().config.functions[0].aliases.is_empty());
}

#[tokio::test]
async fn a_gateway_that_says_nothing_is_named() {
    let cluster = Cluster::start().await;
    with_versions(&cluster).await;
    let (reports, receiver) = tokio::sync::mpsc::channel(4);
    reports.send(gateway_hello("silent", 0)).await.unwrap();
    let updates = cluster.sync().sync_gateway(ReceiverStream::new(receiver)).await.unwrap();
    let answer = cluster.aliases().set_alias(set("live", &[(2, 100)], None)).await.unwrap().into_inner();
    assert_eq!(answer.lagging_gateways, ["silent"]);
    assert_eq!(cluster.function(TILL).await.traffic[0].version, 2, "the change has been made");
    drop((updates, reports));
    cluster
        .eventually("it has gone, and is still named", async |cluster| {
            let began = Instant::now();
            let answer = cluster.aliases().set_alias(set("live", &[(1, 100)], None)).await.unwrap().into_inner();
            answer.lagging_gateways == ["silent"] && began.elapsed() < Duration::from_secs(3)
        })
        .await;
}

#[tokio::test]
async fn what_is_no_whole_or_not_there_is_refused_by_field() {
    let cluster = Cluster::start().await;
    with_versions(&cluster).await;
    let refuse = async |request, code| refused(cluster.aliases().set_alias(request).await, code);
    let error = refuse(set("live", &[(1, 90), (2, 20)], None), ErrorCode::InvalidArgument).await;
    assert!(error.field.as_deref() == Some("alias.traffic") && error.message.contains("sum to 110"), "{error:?}");
    let error = refuse(set("Beta", &[(1, 100)], None), ErrorCode::InvalidArgument).await;
    assert_eq!(error.field.as_deref(), Some("alias.name"));
    let header = v1::Sticky { header: "a b".into(), cookie: false };
    let error = refuse(set("live", &[(1, 100)], Some(header)), ErrorCode::InvalidArgument).await;
    assert_eq!(error.field.as_deref(), Some("alias.sticky.header"));
    refuse(set("live", &[(9, 100)], None), ErrorCode::NotFound).await;
    refuse(v1::SetAliasRequest::default(), ErrorCode::InvalidArgument).await;
    let live = v1::DeleteAliasRequest { name: format!("{TILL}/aliases/live") };
    refused(cluster.aliases().delete_alias(live).await, ErrorCode::InvalidArgument);
    let digest = cluster.upload("default", "three").await;
    for (percent, hold_traffic) in [(0, false), (100, false), (10, true)] {
        let canary = v1::CreateVersionRequest { canary_percent: Some(percent), hold_traffic, ..create(TILL, digest) };
        let error = cluster.deploy(canary).await.1.unwrap_err();
        assert_eq!(error.field.as_deref(), Some("canary_percent"), "{error:?}");
    }
    let canary = v1::CreateVersionRequest { canary_percent: Some(10), ..create(TILL, digest) };
    cluster.deploy(canary.clone()).await.1.unwrap();
    let shares: Vec<_> = cluster.function(TILL).await.traffic.iter().map(|s| (s.version, s.percent)).collect();
    assert_eq!(shares, [(1, 90), (3, 10)]);
    let error = cluster.deploy(canary).await.1.unwrap_err();
    assert!(error.code == ErrorCode::FailedPrecondition && error.message.contains("v1=90,v3=10"), "{error:?}");
}

#[tokio::test]
async fn a_rollout_is_judged_by_what_gateways_count() {
    let cluster = Cluster::start().await;
    let gateway = SimGateway::connect(&cluster, "g1").await;
    with_versions(&cluster).await;
    let start = v1::StartRolloutRequest { function: TILL.into(), ..Default::default() };
    let get = v1::GetRolloutRequest { function: TILL.into() };
    refused(cluster.aliases().get_rollout(get.clone()).await, ErrorCode::NotFound);
    let stop = v1::StopRolloutRequest { function: TILL.into(), promote: false };
    refused(cluster.aliases().stop_rollout(stop).await, ErrorCode::NotFound);
    let begun = cluster.aliases().start_rollout(start.clone()).await.unwrap().into_inner();
    assert!(begun.lagging_gateways.is_empty());
    assert_eq!(begun.rollout.unwrap().state(), v1::RolloutState::Running);
    refused(cluster.aliases().start_rollout(start).await, ErrorCode::FailedPrecondition);
    let shares = gateway.received().config.functions[0].traffic.clone();
    assert_eq!(shares.iter().map(|share| (share.version, share.percent)).collect::<Vec<_>>(), [(1, 95), (2, 5)]);
    let watched = |gateway: &SimGateway| gateway.received().watched.last().is_some_and(|it| it.versions.len() == 2);
    gateway.eventually(&cluster, "both versions are counted", watched).await;
    let versions = gateway.received().watched.last().unwrap().versions.clone();
    let count = |calls: u64, failures: u64| {
        let outcome = |version: &VersionRef| VersionOutcomes {
            version: Some(version.clone()),
            calls,
            failures: if version.number == 2 { failures } else { 0 },
            ..Default::default()
        };
        versions.iter().map(outcome).collect::<Vec<_>>()
    };
    gateway.outcomes(7, count(1_000, 900)).await;
    gateway.outcomes(7, count(1_100, 960)).await;
    let state = async || cluster.aliases().get_rollout(get.clone()).await.unwrap().into_inner().rollout.unwrap();
    let is_back = async |_: &Cluster| state().await.state() == v1::RolloutState::Back;
    cluster.eventually("the new version is worse", is_back).await;
    assert!(state().await.reason.starts_with("60 of 100 calls"), "{}", state().await.reason);
    let served = |gateway: &SimGateway| gateway.received().config.functions[0].traffic.len() == 1;
    gateway.eventually(&cluster, "the old version has all calls", served).await;
}

#[tokio::test]
async fn functions_move_together_at_every_gateway() {
    let cluster = Cluster::start().await;
    let gateway = SimGateway::connect(&cluster, "g1").await;
    let mail = "namespaces/default/functions/mail";
    with_versions(&cluster).await;
    with_versions_of(&cluster, mail).await;
    let other = |function: &str| vec![v1::RolloutTarget { function: function.into(), version: 0 }];
    let start = |others| v1::StartRolloutRequest { function: TILL.into(), others, ..Default::default() };
    for (wrong, code) in
        [("namespaces/shop/functions/mail", ErrorCode::InvalidArgument), (TILL, ErrorCode::InvalidArgument)]
    {
        refused(cluster.aliases().start_rollout(start(other(wrong))).await, code);
    }
    let begun = cluster.aliases().start_rollout(start(other(mail))).await.unwrap().into_inner();
    let rollout = begun.rollout.unwrap();
    assert_eq!((rollout.function.as_str(), begun.lagging_gateways.len()), (TILL, 0));
    assert_eq!(rollout.functions.iter().map(|it| it.function.as_str()).collect::<Vec<_>>(), [mail, TILL]);
    let config = gateway.received().config;
    let seeds: Vec<_> = config.functions.iter().map(|it| it.sticky.clone().unwrap().seed).collect();
    assert!(
        seeds.len() == 2 && seeds[0] == seeds[1] && !seeds[0].is_empty(),
        "callers have the same places: {seeds:?}"
    );
    assert!(config.functions.iter().all(|function| function.traffic.len() == 2));
    let get = v1::GetRolloutRequest { function: mail.into() };
    let found = cluster.aliases().get_rollout(get).await.unwrap().into_inner().rollout.unwrap();
    assert_eq!((found.function.as_str(), found.functions.len(), found.old_version), (mail, 2, 1));
    let stop = v1::StopRolloutRequest { function: mail.into(), promote: true };
    cluster.aliases().stop_rollout(stop).await.unwrap();
    let config = gateway.received().config;
    assert!(config.functions.iter().all(|it| it.traffic.len() == 1 && it.traffic[0].version == 2), "{config:?}");
    let all = v1::StartRolloutRequest { parent: "namespaces/default".into(), ..Default::default() };
    refused(cluster.aliases().start_rollout(all.clone()).await, ErrorCode::FailedPrecondition);
    for function in [TILL, mail] {
        let digest = cluster.upload("default", "three").await;
        let held = v1::CreateVersionRequest { hold_traffic: true, ..create(function, digest) };
        cluster.deploy(held).await.1.unwrap();
    }
    let begun = cluster.aliases().start_rollout(all).await.unwrap().into_inner().rollout.unwrap();
    assert_eq!(begun.functions.iter().map(|it| it.new_version).collect::<Vec<_>>(), [3, 3]);
}
