//! Workers and gateways that join, fall silent, return, drain, lie, and outlive the scheduler.

use std::time::Duration;

use dunlin_proto::{
    ErrorCode,
    internal::v1::{
        ActivateRequest, SyncGatewayRequest, SyncWorkerRequest, VersionLoad, VersionRef, sync_worker_request::Report,
    },
    v1,
};
use tokio::time::Instant;

use crate::harness::{Cluster, SimGateway, SimWorker, gateway_hello, refused, worker_hello};

const TILL: &str = "namespaces/default/functions/till";

async fn workers(cluster: &Cluster) -> Vec<v1::Worker> {
    cluster.clusters().list_workers(v1::ListWorkersRequest::default()).await.unwrap().into_inner().workers
}

#[tokio::test]
async fn a_silent_worker_is_out_within_two_seconds_and_back_when_it_returns() {
    let cluster = Cluster::start().await;
    let (w1, _w2) = (SimWorker::join(&cluster, "w1").await, SimWorker::join(&cluster, "w2").await);
    let gateway = SimGateway::connect(&cluster, "g1").await;
    cluster.eventually("both accept", async |cluster| workers(cluster).await.len() == 2).await;
    cluster.deployed(TILL, "hello").await;
    gateway.eventually(&cluster, "both have it", |g| g.endpoints(1) == ["w1/0", "w2/0"]).await;
    // Where the machine stands still meanwhile, it falls silent once more.
    let mut times: Vec<(Duration, Duration)> = Vec::new();
    while times.iter().all(|(out, back)| *out.max(back) > Duration::from_secs(4)) {
        assert!(times.len() < 3, "{times:?}");
        w1.set(|seen| seen.silent = true);
        let out = gateway.eventually(&cluster, "w1 is out", |g| g.endpoints(1) == ["w2/0"]).await;
        cluster
            .eventually("it counts as lost", async |cluster| {
                let states: Vec<_> = workers(cluster).await.iter().map(v1::Worker::state).collect();
                states == [v1::WorkerState::Lost, v1::WorkerState::Ready]
            })
            .await;
        w1.set(|seen| seen.silent = false);
        let back = gateway.eventually(&cluster, "w1 is back", |g| g.endpoints(1) == ["w1/0", "w2/0"]).await;
        times.push((out, back));
    }
}

#[tokio::test]
async fn a_restart_loses_nothing_and_drops_no_version() {
    let mut cluster = Cluster::start().await;
    let (w1, w2) = (SimWorker::join(&cluster, "w1").await, SimWorker::join(&cluster, "w2").await);
    cluster.eventually("both accept", async |cluster| workers(cluster).await.len() == 2).await;
    let gateway = SimGateway::connect(&cluster, "g1").await;
    cluster.deployed(TILL, "hello").await;
    gateway.eventually(&cluster, "both have it", |g| g.endpoints(1).len() == 2).await;
    let before = gateway.received();
    cluster.restart().await;
    gateway.eventually(&cluster, "the stream has ended", |g| g.received().ended).await;
    // As a gateway that kept its configuration on disk.
    let gateway = SimGateway::connect_with(&cluster, "g1", before.config.clone()).await;
    gateway.eventually(&cluster, "placements", |g| !g.received().placements.is_empty()).await;
    let after = gateway.received();
    assert_eq!((after.wholes, after.deltas), (0, 0), "it has exactly this configuration");
    let first = &after.placements[0];
    assert_eq!(first.epoch, before.placements[0].epoch + 1);
    assert_eq!(first.versions[0].endpoints, ["w1/0", "w2/0"], "nothing is published before both have reported");
    for worker in [&w1, &w2] {
        let seen = worker.seen.lock().unwrap();
        assert!(seen.assignments.iter().all(|a| a.version.unwrap().epoch == 1 || !a.versions.is_empty()));
    }
    cluster.deployed(TILL, "other").await;
    gateway.eventually(&cluster, "the change", |g| g.received().config.functions[0].versions.len() == 2).await;
    assert_eq!(gateway.received().wholes, 0, "a change from exactly what it had");
}

#[tokio::test]
async fn changes_lead_to_the_same_configuration_as_the_whole() {
    let cluster = Cluster::start().await;
    let gateway = SimGateway::connect(&cluster, "g1").await;
    gateway.eventually(&cluster, "the whole", |g| g.received().wholes == 1).await;
    cluster.namespace("shop").await;
    cluster.deployed("namespaces/shop/functions/till", "one").await;
    cluster.deployed(TILL, "one").await;
    cluster.deployed(TILL, "two").await;
    let key = v1::CreateKeyRequest { parent: "namespaces/shop".into(), ..Default::default() };
    cluster.keys().create_key(key.clone()).await.unwrap();
    let second = cluster.keys().create_key(key).await.unwrap().into_inner().key.unwrap();
    cluster.keys().revoke_key(v1::RevokeKeyRequest { name: second.name }).await.unwrap();
    let delete = v1::DeleteFunctionRequest { name: "namespaces/shop/functions/till".into(), ..Default::default() };
    cluster.functions().delete_function(delete).await.unwrap();
    let rollback = v1::RollbackFunctionRequest { name: TILL.into(), ..Default::default() };
    cluster.functions().rollback_function(rollback).await.unwrap();
    let version = cluster.clusters().get_cluster(v1::GetClusterRequest {}).await.unwrap().into_inner().config_version;
    gateway.eventually(&cluster, "all changes", |g| g.received().config.version == version).await;
    let fresh = SimGateway::connect(&cluster, "second").await;
    fresh.eventually(&cluster, "the whole", |g| g.received().wholes == 1).await;
    let (changed, whole) = (gateway.received(), fresh.received());
    assert!(changed.deltas > 3 && changed.wholes == 1);
    let mut config = whole.config;
    config.functions.sort_by(|a, b| a.uid.cmp(&b.uid));
    config.keys.sort_by(|a, b| a.id.cmp(&b.id));
    assert_eq!(changed.config, config);
    assert_eq!((config.functions.len(), config.keys.len(), config.namespaces.len()), (1, 1, 2));
}

#[tokio::test]
async fn a_version_without_traffic_is_placed_when_somebody_asks_for_it() {
    let cluster = Cluster::start().await;
    let _worker = SimWorker::join(&cluster, "w1").await;
    let gateway = SimGateway::connect(&cluster, "g1").await;
    // Longer than a machine may stand still before somebody who has called is noticed.
    let scaling =
        v1::Scaling { idle_timeout: Some(prost_types::Duration { seconds: 4, nanos: 0 }), ..Default::default() };
    let digest = cluster.upload("default", "hello").await;
    let spec = Some(v1::VersionSpec { scaling: Some(scaling), ..Default::default() });
    let request = v1::CreateVersionRequest { spec, ..crate::harness::create(TILL, digest) };
    for _ in 0..2 {
        cluster.deploy(request.clone()).await.1.unwrap();
    }
    gateway
        .eventually(&cluster, "idle versions are let go", |g| g.endpoints(1).is_empty() && g.endpoints(2).is_empty())
        .await;
    let version = Some(gateway.version(1));
    cluster.sync().activate(ActivateRequest { version }).await.unwrap();
    gateway.eventually(&cluster, "the old version is there", |g| g.endpoints(1) == ["w1/0"]).await;
    // What is in use stays.
    gateway.demand(gateway.version(1), 1, 0).await;
    tokio::time::sleep(Duration::from_millis(5500)).await;
    // A worker that stood still is out for a moment. What is let go comes back for nobody.
    gateway.eventually(&cluster, "it is there still", |g| g.endpoints(1) == ["w1/0"]).await;
    gateway.demand(gateway.version(1), 0, 0).await;
    gateway.eventually(&cluster, "it is let go again", |g| g.endpoints(1).is_empty()).await;
    let unknown = VersionRef { function_uid: uuid::Uuid::now_v7().to_string(), number: 1 };
    refused(cluster.sync().activate(ActivateRequest { version: Some(unknown) }).await, ErrorCode::NotFound);
    refused(cluster.sync().activate(ActivateRequest::default()).await, ErrorCode::InvalidArgument);
}

#[tokio::test]
async fn a_version_with_traffic_is_on_standby_on_the_two_workers_that_gateways_work_out() {
    let cluster = Cluster::start().await;
    let mut joined = Vec::new();
    for name in ["w1", "w2", "w3"] {
        joined.push(SimWorker::join(&cluster, name).await);
    }
    let gateway = SimGateway::connect(&cluster, "g1").await;
    cluster.eventually("all accept", async |cluster| workers(cluster).await.len() == 3).await;
    let scaling =
        v1::Scaling { idle_timeout: Some(prost_types::Duration { seconds: 1, nanos: 0 }), ..Default::default() };
    let digest = cluster.upload("default", "hello").await;
    let spec = Some(v1::VersionSpec { scaling: Some(scaling), ..Default::default() });
    let request = v1::CreateVersionRequest { spec, ..crate::harness::create(TILL, digest) };
    for _ in 0..2 {
        cluster.deploy(request.clone()).await.1.unwrap();
    }
    gateway.eventually(&cluster, "idle versions are let go", |g| g.endpoints(2).is_empty()).await;
    let received = gateway.received();
    let standbys: Vec<_> = received.config.functions[0].versions.iter().map(|version| version.standbys).collect();
    assert_eq!(standbys, [0, 2], "the old version has no traffic");
    let seats: Vec<_> = received.placements.last().unwrap().seats.iter().map(|seat| seat.worker.clone()).collect();
    assert_eq!(seats, ["w1", "w2", "w3"]);
    let key = dunlin_proto::ids::VersionKey::try_from(&gateway.version(2)).unwrap();
    let seated: Vec<_> = seats.iter().map(|worker| dunlin_proto::standby::Seat::new(worker, "")).collect();
    let mut worked_out = dunlin_proto::standby::seats(&key, &seated, 2);
    worked_out.sort_unstable();
    cluster
        .eventually("they hold it, and the third one nothing", async |_| {
            let holds = |worker: &SimWorker| worker.assigned().iter().any(|assigned| assigned.standby);
            let holders: Vec<_> = (0..3).filter(|index| holds(&joined[*index])).collect();
            holders == worked_out && joined.iter().all(|worker| worker.held().is_empty())
        })
        .await;
    let last = joined[worked_out[0]].seen.lock().unwrap().assignments.last().cloned().unwrap();
    assert_eq!((last.versions.len(), last.peers.len()), (1, 3));
}

#[tokio::test]
async fn a_drained_worker_hands_over_before_it_lets_go() {
    let cluster = Cluster::start().await;
    let w1 = SimWorker::join(&cluster, "w1").await;
    let gateway = SimGateway::connect(&cluster, "g1").await;
    cluster.eventually("w1 accepts", async |cluster| workers(cluster).await.len() == 1).await;
    cluster.deployed(TILL, "hello").await;
    let w2 = SimWorker::join(&cluster, "w2").await;
    w2.set(|seen| seen.loading = true);
    let drain = |resume| v1::DrainWorkerRequest { name: "workers/w1".into(), resume };
    let drained = cluster.clusters().drain_worker(drain(false)).await.unwrap().into_inner().worker.unwrap();
    assert_eq!(drained.state(), v1::WorkerState::Draining);
    cluster.eventually("w2 shall hold it", async |_| !w2.held().is_empty()).await;
    assert_eq!((gateway.endpoints(1), w1.held().len()), (vec!["w1/0".to_owned()], 1), "nobody else has it ready");
    w2.set(|seen| seen.loading = false);
    gateway.eventually(&cluster, "w2 has taken over", |g| g.endpoints(1) == ["w2/0"]).await;
    cluster
        .eventually("w1 holds nothing", async |_| {
            let last = w1.seen.lock().unwrap().assignments.last().cloned().unwrap();
            last.versions.is_empty() && last.drain
        })
        .await;
    for placements in
        gateway.received().placements.iter().filter(|p| !p.endpoints.is_empty()).skip_while(|p| p.versions.is_empty())
    {
        assert!(!placements.versions.is_empty(), "it was nowhere");
    }
    cluster.clusters().drain_worker(drain(true)).await.unwrap();
    cluster.eventually("w1 is back", async |cluster| workers(cluster).await[0].state() == v1::WorkerState::Ready).await;
    let nobody = v1::DrainWorkerRequest { name: "workers/nobody".into(), resume: false };
    refused(cluster.clusters().drain_worker(nobody).await, ErrorCode::NotFound);
}

#[tokio::test]
async fn a_drained_worker_stays_drained_over_a_restart() {
    let mut cluster = Cluster::start().await;
    let _w1 = SimWorker::join(&cluster, "w1").await;
    cluster.eventually("w1 has joined", async |cluster| workers(cluster).await.len() == 1).await;
    let drain = v1::DrainWorkerRequest { name: "workers/w1".into(), resume: false };
    cluster.clusters().drain_worker(drain).await.unwrap();
    cluster.restart().await;
    cluster
        .eventually("it is back and draining", async |cluster| {
            workers(cluster).await.first().is_some_and(|worker| worker.state() == v1::WorkerState::Draining)
        })
        .await;
}

#[tokio::test]
async fn a_name_belongs_to_one_living_worker() {
    let cluster = Cluster::start().await;
    let _first = SimWorker::join(&cluster, "w1").await;
    cluster.eventually("w1 has joined", async |cluster| workers(cluster).await.len() == 1).await;
    let second = SimWorker::join_with(&cluster, worker_hello("w1", "2", "engine-1")).await;
    let error = refused(second.map(|_| ()), ErrorCode::AlreadyExists);
    assert!(error.message.contains("w1") && error.hint.unwrap().contains("--name"));
}

#[tokio::test]
async fn t47_a_lying_worker_harms_nobody() {
    let cluster = Cluster::start().await;
    let worker = SimWorker::join(&cluster, "w1").await;
    let gateway = SimGateway::connect(&cluster, "g1").await;
    let lie = |uid: &str, number, state| VersionLoad {
        version: Some(VersionRef { function_uid: uid.into(), number }),
        state,
        in_flight: u32::MAX,
        queued: u32::MAX,
        error: "x".repeat(100_000),
        ..Default::default()
    };
    let unknown = uuid::Uuid::now_v7().to_string();
    worker.set(|seen| {
        seen.extra = vec![lie(&unknown, 1, 2), lie("../x", 1, 2), lie(&unknown, 0, 2), lie(&unknown, 1, 99)]
    });
    cluster.deployed(TILL, "hello").await;
    gateway.eventually(&cluster, "the truth", |g| g.endpoints(1) == ["w1/0"]).await;
    assert_eq!(gateway.received().placements.last().unwrap().versions.len(), 1);
    let shown = workers(&cluster).await;
    assert_eq!(shown[0].versions.len(), 1);
}

#[tokio::test]
async fn a_stream_that_says_no_proper_hello_is_refused() {
    let cluster = Cluster::start().await;
    let load = SyncWorkerRequest { report: Some(Report::Load(Default::default())) };
    for first in [vec![load], vec![SyncWorkerRequest { report: None }], vec![]] {
        let opened = cluster.sync().sync_worker(tokio_stream::iter(first)).await;
        refused(opened.map(|_| ()), ErrorCode::InvalidArgument);
    }
    let mut old = worker_hello("w1", "1", "engine-1");
    old.protocol_version = 2;
    let old = SyncWorkerRequest { report: Some(Report::Hello(old)) };
    let error = refused(
        cluster.sync().sync_worker(tokio_stream::iter(vec![old])).await.map(|_| ()),
        ErrorCode::FailedPrecondition,
    );
    assert!(error.hint.unwrap().contains("same release"));
    let nameless = SyncGatewayRequest { ..gateway_hello("../g", 0) };
    refused(
        cluster.sync().sync_gateway(tokio_stream::iter(vec![nameless])).await.map(|_| ()),
        ErrorCode::InvalidArgument,
    );
}

#[tokio::test]
async fn who_waits_brings_more_workers_and_the_cluster_says_how_many_it_wants() {
    let cluster = Cluster::start().await;
    let mut joined = vec![];
    for name in ["w1", "w2", "w3"] {
        joined.push(SimWorker::join(&cluster, name).await);
    }
    let gateway = SimGateway::connect(&cluster, "g1").await;
    cluster.eventually("all accept", async |cluster| workers(cluster).await.len() == 3).await;
    cluster.deployed(TILL, "hello").await;
    gateway.eventually(&cluster, "two have it", |g| g.endpoints(1).len() == 2).await;
    gateway.demand(gateway.version(1), 150, 20).await;
    gateway.eventually(&cluster, "three have it", |g| g.endpoints(1).len() == 3).await;
    let wanted = async |cluster: &Cluster| {
        cluster.clusters().get_cluster(v1::GetClusterRequest {}).await.unwrap().into_inner().wanted_workers
    };
    cluster.eventually("four are wanted", async |cluster| wanted(cluster).await == 4).await;
}

#[tokio::test]
async fn gateways_learn_of_each_other() {
    let cluster = Cluster::start().await;
    let (one, two) = (SimGateway::connect(&cluster, "g").await, SimGateway::connect(&cluster, "gg").await);
    let peers = |g: &SimGateway| g.received().placements.last().map_or(0, |last| last.gateways.len());
    one.eventually(&cluster, "both are told", |g| peers(g) == 2 && peers(&two) == 2).await;
    drop(two);
    one.eventually(&cluster, "one has left", |g| peers(g) == 1).await;
}

#[tokio::test]
async fn it_ends_at_once_although_streams_are_open() {
    let mut cluster = Cluster::start().await;
    let (_worker, _gateway) = (SimWorker::join(&cluster, "w1").await, SimGateway::connect(&cluster, "g1").await);
    let began = Instant::now();
    cluster.stop().await;
    // Streams that are waited for have ten seconds.
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
}
