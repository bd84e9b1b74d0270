//! Versions that are only kept on disk: loaded by their first call, unloaded when nobody calls, and given to other workers.

use std::{fs, sync::atomic::Ordering, time::Duration};

use dunlin_process::shutdown::Shutdown;
use dunlin_proto::internal::v1::{
    AssignedVersion, AssignmentDelta, AssignmentVersion, FetchCodeRequest, LoadState, VersionRef, WorkerPeer,
    artifact_service_client::ArtifactServiceClient,
};
use futures::future::join_all;
use tonic::{Code, transport::Endpoint};

use crate::{
    cluster::{Cluster, eventually, files, secret, state_of},
    gateway::Gateway,
    guests,
};

#[tokio::test]
async fn a_standby_is_loaded_by_its_first_call_and_unloaded_when_nobody_calls() {
    let mut cluster = Cluster::with_worker().await;
    let echo = cluster.stand_by("echo", guests::ECHO).await;
    assert_eq!(cluster.load_of(&echo), None, "it is not worth a word");
    assert_eq!(files(&cluster.code_folder()).len(), 1);
    let mut gateway = Gateway::connect(cluster.address).await;
    for _ in 0..2 {
        // As long as it is called it stays, so that it is seen.
        let call = gateway.begin(&echo, b"hello", false).await;
        eventually("it is loaded", || state_of(&cluster.scheduler, &echo) == Some(LoadState::Ready)).await;
        call.body(b"", true).await;
        assert_eq!(call.finish().await.body, b"hello");
        eventually("it is unloaded", || cluster.load_of(&echo).is_none()).await;
    }
    assert_eq!(cluster.scheduler.0.fetches.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_standby_that_is_to_be_active_is_loaded_and_stands_ready() {
    let mut cluster = Cluster::with_worker().await;
    let mut version = cluster.stand_by("hello", guests::HELLO).await;
    (version.standby, version.min_sandboxes) = (false, 2);
    cluster.assign_only(vec![version.clone()]);
    eventually("sandboxes stand ready", || cluster.load_of(&version).is_some_and(|load| load.prepared >= 2)).await;
    version.standby = true;
    cluster.assign_only(vec![version.clone()]);
    eventually("it is unloaded", || cluster.load_of(&version).is_none()).await;
    assert_eq!(Gateway::connect(cluster.address).await.call(&version, b"").await.body, b"hello");
}

#[tokio::test]
async fn many_first_calls_at_once_cause_one_fetch_and_one_load() {
    let mut cluster = Cluster::with_worker().await;
    let hello = cluster.stand_by("hello", guests::HELLO).await;
    let mut gateways = join_all((0..8).map(|_| Gateway::connect(cluster.address))).await;
    let calls = gateways.iter_mut().map(|gateway| gateway.call(&hello, b""));
    assert!(join_all(calls).await.iter().all(|answer| answer.body == b"hello"));
    assert_eq!(cluster.scheduler.0.fetches.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_call_that_comes_before_the_code_waits_for_it() {
    let mut cluster = Cluster::with_worker().await;
    let code = cluster.version("hello", guests::HELLO);
    cluster.assign_only(vec![AssignedVersion { standby: true, ..code.clone() }]);
    let mut gateway = Gateway::connect(cluster.address).await;
    let followed = Some(AssignmentVersion { epoch: 1, sequence: cluster.sequence });
    eventually("it follows", || cluster.scheduler.0.load.lock().unwrap().assignment == followed).await;
    assert_eq!(gateway.call(&code, b"").await.body, b"hello");
}

#[tokio::test]
async fn a_restarted_worker_has_its_standbys_although_the_scheduler_is_away() {
    let mut cluster = Cluster::with_worker().await;
    let hello = cluster.stand_by("hello", guests::HELLO).await;
    cluster.stop_worker().await;
    cluster.stop_scheduler().await;
    cluster.start_worker(|_| {}).await;
    assert_eq!(Gateway::connect(cluster.address).await.call(&hello, b"").await.body, b"hello");
    assert_eq!(cluster.scheduler.0.fetches.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_change_is_followed_from_its_base_alone_and_remembered() {
    let mut cluster = Cluster::with_worker().await;
    let (one, two) = (cluster.stand_by("one", guests::HELLO).await, cluster.version("two", guests::ECHO));
    let number = |sequence| Some(AssignmentVersion { epoch: 1, sequence });
    let delta = AssignmentDelta {
        base: number(cluster.sequence),
        version: number(cluster.sequence + 1),
        versions: vec![two.clone()],
        ..AssignmentDelta::default()
    };
    cluster.scheduler.send_delta(delta.clone());
    eventually("the new one is ready", || state_of(&cluster.scheduler, &two) == Some(LoadState::Ready)).await;
    let removal = AssignmentDelta {
        base: delta.version,
        version: number(cluster.sequence + 2),
        removed: vec![one.version.clone().unwrap()],
        ..AssignmentDelta::default()
    };
    cluster.scheduler.send_delta(removal);
    eventually("the old one is gone", || cluster.scheduler.0.load.lock().unwrap().stored == 0).await;
    let hellos = cluster.scheduler.0.hellos.lock().unwrap().len();
    cluster.scheduler.send_delta(delta);
    eventually("it asks for the whole", || cluster.scheduler.0.hellos.lock().unwrap().len() > hellos).await;
    cluster.stop_worker().await;
    cluster.stop_scheduler().await;
    cluster.start_worker(|_| {}).await;
    let mut gateway = Gateway::connect(cluster.address).await;
    assert_eq!(gateway.call(&two, b"kept").await.body, b"kept");
    assert_eq!(gateway.call(&one, b"").await.refusal.unwrap().code, "unavailable");
}

/// A second worker beside the cluster's, on its own folder.
async fn second(cluster: &Cluster) -> (Shutdown, std::net::SocketAddr) {
    let config = dunlin_worker::Config {
        name: "w2".into(),
        listen: ([127, 0, 0, 1], 0).into(),
        scheduler: format!("http://{}", cluster.scheduler_address),
        data_dir: cluster.folder.path().join("second"),
        cluster_secret: cluster.folder.path().join("secret"),
        capacity: 4,
        ..dunlin_worker::Config::default()
    };
    let worker = dunlin_worker::Worker::bind(config).await.unwrap();
    let (address, shutdown) = (worker.address(), Shutdown::default());
    shutdown.spawn(worker.serve(shutdown.child()));
    (shutdown, address)
}

#[tokio::test]
async fn code_that_the_scheduler_has_lost_is_fetched_from_another_worker_under_its_seal() {
    let mut cluster = Cluster::with_worker().await;
    let peer = |worker: &str, address: String| WorkerPeer { worker: worker.into(), address, ..WorkerPeer::default() };
    let nobody = peer("w0", "127.0.0.1:1".into());
    cluster.peers = vec![nobody, peer("w1", cluster.address.to_string())];
    let hello = cluster.stand_by("hello", guests::HELLO).await;
    cluster.scheduler.take_code();
    let (shutdown, address) = second(&cluster).await;
    let code = cluster.folder.path().join("second/code");
    eventually("the other worker has it", || !files(&code).is_empty()).await;
    eventually("and whole", || files(&code) == [hello.code.as_ref().unwrap().key.clone()]).await;
    assert_eq!(Gateway::connect_to(address, "w2/1").await.call(&hello, b"").await.body, b"hello");
    shutdown.begin();
    shutdown.finish(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn t23_another_worker_that_gives_wrong_bytes_is_not_believed() {
    let mut cluster = Cluster::with_worker().await;
    cluster.peers =
        vec![WorkerPeer { worker: "w1".into(), address: cluster.address.to_string(), ..Default::default() }];
    let hello = cluster.stand_by("hello", guests::HELLO).await;
    cluster.scheduler.take_code();
    let file = cluster.code_folder().join(&hello.code.as_ref().unwrap().key);
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::remove_file(&file).unwrap();
    fs::write(&file, &bytes).unwrap();
    let (shutdown, address) = second(&cluster).await;
    let code = cluster.folder.path().join("second/code");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(files(&code).iter().all(|name| name.starts_with(".fetch-")), "{:?}", files(&code));
    let refusal = Gateway::connect_to(address, "w2/1").await.call(&hello, b"").await.refusal;
    assert_eq!(refusal.unwrap().code, "unavailable");
    shutdown.begin();
    shutdown.finish(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn t47_code_is_given_to_the_cluster_alone_and_by_its_key_alone() {
    let mut cluster = Cluster::with_worker().await;
    cluster.stand_by("hello", guests::HELLO).await;
    let channel = Endpoint::from_shared(format!("http://{}", cluster.address)).unwrap().connect().await.unwrap();
    let request = |key: &str| FetchCodeRequest { key: key.into() };
    let error = ArtifactServiceClient::new(channel.clone()).fetch_code(request(&"0".repeat(64))).await.unwrap_err();
    assert_eq!(error.code(), Code::Unauthenticated);
    let mut client = ArtifactServiceClient::with_interceptor(channel, secret().attach());
    for (key, code) in [("../assignment.binpb", Code::InvalidArgument), (&"0".repeat(64), Code::NotFound)] {
        assert_eq!(client.fetch_code(request(key)).await.unwrap_err().code(), code);
    }
}

fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[tokio::test]
async fn ten_thousand_standbys_are_an_entry_each_and_are_not_reported_one_by_one() {
    const MANY: u64 = 10_000;
    let mut cluster = Cluster::with_worker().await;
    let one = AssignedVersion { standby: true, ..cluster.version("hello", guests::HELLO) };
    let another = |number: u64| {
        let function_uid = uuid::Uuid::from_u128(u128::from(number) + 1).to_string();
        AssignedVersion { version: Some(VersionRef { function_uid, number: 1 }), ..one.clone() }
    };
    let versions: Vec<_> = (0..MANY).map(another).collect();
    let last = versions.last().unwrap().clone();
    cluster.stand_by("first", guests::ECHO).await;
    let before = resident_bytes();
    cluster.assign_only(versions);
    eventually("all are on disk", || u64::from(cluster.scheduler.0.load.lock().unwrap().stored) == MANY).await;
    assert!(cluster.scheduler.0.load.lock().unwrap().versions.is_empty());
    let each = resident_bytes().saturating_sub(before) / MANY;
    println!("{each} bytes a standby, with this test's own copy of the assignment");
    assert!(each <= 16 << 10, "{each} bytes");
    assert_eq!(Gateway::connect(cluster.address).await.call(&last, b"").await.body, b"hello");
}
