//! What a worker holds: assignments, restarts, schedulers that go away, code that is not what it should be.

use std::{fs, os::unix::fs::PermissionsExt, sync::atomic::Ordering, time::Duration};

use dunlin_proto::internal::v1::{Assignment, AssignmentVersion, LoadState};

use crate::{
    cluster::{Cluster, eventually, files, state_of},
    gateway::Gateway,
    guests,
};

#[tokio::test]
async fn a_worker_says_who_it_is() {
    let cluster = Cluster::with_worker().await;
    eventually("it says hello", || !cluster.scheduler.0.hellos.lock().unwrap().is_empty()).await;
    let hello = cluster.scheduler.0.hellos.lock().unwrap()[0].clone();
    assert_eq!((hello.worker.as_str(), hello.protocol_version), ("w1", 1));
    let endpoint = &hello.endpoints[0];
    assert_eq!((endpoint.id.as_str(), endpoint.capacity), ("w1/1", 16));
    assert_eq!(endpoint.address, cluster.address.to_string());
    assert!(endpoint.fingerprint.contains("wasmtime-48"));
    eventually("it reports", || cluster.scheduler.0.load.lock().unwrap().memory_bytes > 0).await;
}

#[tokio::test]
async fn what_is_no_longer_assigned_is_let_go_once_its_calls_are_done() {
    let mut cluster = Cluster::with_worker().await;
    let (echo, hello) = (cluster.deploy("echo", guests::ECHO).await, cluster.deploy("hello", guests::HELLO).await);
    let mut gateway = Gateway::connect(cluster.address).await;
    let running = gateway.begin(&echo, b"still", false).await;
    eventually("it runs", || cluster.load_of(&echo).unwrap().in_flight == 1).await;
    cluster.assign_only(vec![hello.clone()]);
    eventually("it is gone", || cluster.load_of(&echo).is_none()).await;
    assert_eq!(gateway.call(&echo, b"").await.refusal.unwrap().code, "unavailable");
    running.body(b" here", true).await;
    assert_eq!(running.finish().await.body, b"still here");
    assert_eq!(gateway.call(&hello, b"").await.body, b"hello");
    // Back again: from the cache.
    let before = cluster.scheduler.0.fetches.load(Ordering::SeqCst);
    cluster.assign(echo.clone()).await;
    assert_eq!(gateway.call(&echo, b"x").await.body, b"x");
    assert_eq!(cluster.scheduler.0.fetches.load(Ordering::SeqCst), before);
}

#[tokio::test]
async fn a_restarted_worker_serves_from_its_disk_while_the_scheduler_is_away() {
    let mut cluster = Cluster::with_worker().await;
    let echo = cluster.deploy("echo", guests::ECHO).await;
    cluster.stop_worker().await;
    cluster.stop_scheduler().await;
    cluster.start_worker(|_| {}).await;
    let mut gateway = Gateway::connect(cluster.address).await;
    let answer = gateway.call(&echo, b"alone").await;
    assert_eq!(answer.body, b"alone");
    assert_eq!(cluster.scheduler.0.fetches.load(Ordering::SeqCst), 1);
    cluster.start_scheduler().await;
    eventually("it finds the scheduler", || state_of(&cluster.scheduler, &echo) == Some(LoadState::Ready)).await;
    assert_eq!(gateway.call(&echo, b"together").await.body, b"together");
}

#[tokio::test]
async fn a_worker_waits_for_a_scheduler_that_is_not_there_yet() {
    let mut cluster = Cluster::new().await;
    cluster.stop_scheduler().await;
    cluster.start_worker(|_| {}).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    cluster.start_scheduler().await;
    let hello = cluster.deploy("hello", guests::HELLO).await;
    assert_eq!(Gateway::connect(cluster.address).await.call(&hello, b"").await.body, b"hello");
}

#[tokio::test]
async fn a_silent_scheduler_changes_nothing_for_callers() {
    let mut cluster = Cluster::with_worker().await;
    let hello = cluster.deploy("hello", guests::HELLO).await;
    cluster.scheduler.0.silent.store(true, Ordering::SeqCst);
    cluster.stop_scheduler().await;
    cluster.start_scheduler().await;
    eventually("it comes again", || !cluster.scheduler.0.hellos.lock().unwrap().is_empty()).await;
    let mut gateway = Gateway::connect(cluster.address).await;
    assert_eq!(gateway.call(&hello, b"").await.body, b"hello");
    cluster.scheduler.0.silent.store(false, Ordering::SeqCst);
    eventually("it is welcomed", || cluster.scheduler.0.hellos.lock().unwrap().len() > 1).await;
    cluster.deploy("echo", guests::ECHO).await;
}

#[tokio::test]
async fn a_stale_assignment_is_ignored() {
    let mut cluster = Cluster::with_worker().await;
    let hello = cluster.deploy("hello", guests::HELLO).await;
    let later = AssignmentVersion { epoch: 2, sequence: 1 };
    let assignment = |version, versions| Assignment { version: Some(version), versions, ..Assignment::default() };
    cluster.scheduler.send(assignment(later, vec![hello.clone()]));
    eventually("it follows", || cluster.scheduler.0.load.lock().unwrap().assignment == Some(later)).await;
    cluster.scheduler.send(assignment(AssignmentVersion { epoch: 1, sequence: 900 }, Vec::new()));
    cluster.scheduler.send(assignment(later, Vec::new()));
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(state_of(&cluster.scheduler, &hello), Some(LoadState::Ready));
    let next = AssignmentVersion { epoch: 2, sequence: 2 };
    cluster.scheduler.send(assignment(next, Vec::new()));
    eventually("it follows", || cluster.load_of(&hello).is_none()).await;
}

#[tokio::test]
async fn t23_damaged_code_on_disk_is_fetched_again_and_never_loaded() {
    let mut cluster = Cluster::with_worker().await;
    let hello = cluster.deploy("hello", guests::HELLO).await;
    cluster.stop_worker().await;
    let path = cluster.code_folder().join(&hello.code.as_ref().unwrap().key);
    let good = fs::read(&path).unwrap();
    for (round, position) in [0, 1, 17, 100, good.len() / 2, good.len() - 1].into_iter().enumerate() {
        let mut bad = good.clone();
        bad[position] ^= 0x10;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, &bad).unwrap();
        cluster.start_worker(|_| {}).await;
        assert_eq!(Gateway::connect(cluster.address).await.call(&hello, b"").await.body, b"hello");
        assert_eq!(cluster.scheduler.0.fetches.load(Ordering::SeqCst), round + 2);
        assert!(fs::read(&path).unwrap() == good);
        cluster.stop_worker().await;
    }
}

#[tokio::test]
async fn t23_code_that_this_worker_must_not_load_is_reported_as_failed() {
    let mut cluster = Cluster::with_worker().await;
    let mut foreign = cluster.version("foreign", guests::HELLO);
    let mut unsealed = cluster.version("unsealed", guests::HELLO);
    foreign.code.as_mut().unwrap().fingerprint = "wasmtime-1".into();
    unsealed.code.as_mut().unwrap().signature = bytes::Bytes::from_static(&[0; 64]);
    let mut strange = cluster.version("strange", guests::HELLO);
    strange.kind = "teapot".into();
    cluster.assign_only(vec![foreign.clone(), unsealed.clone(), strange.clone()]);
    for (version, words) in
        [(&foreign, "engine wasmtime-1"), (&unsealed, "not signed by this cluster"), (&strange, "teapot")]
    {
        eventually("it failed", || state_of(&cluster.scheduler, version) == Some(LoadState::Failed)).await;
        let error = cluster.load_of(version).unwrap().error;
        assert!(error.contains(words), "{error}");
        let mut gateway = Gateway::connect(cluster.address).await;
        assert_eq!(gateway.call(version, b"").await.refusal.unwrap().code, "unavailable");
    }
    assert!(files(&cluster.code_folder()).is_empty());
}

#[tokio::test]
async fn a_version_that_failed_is_tried_until_it_loads() {
    let mut cluster = Cluster::with_worker().await;
    let hello = cluster.version("hello", guests::HELLO);
    let code = cluster.scheduler.take_code();
    cluster.assign_only(vec![hello.clone()]);
    eventually("it failed", || state_of(&cluster.scheduler, &hello) == Some(LoadState::Failed)).await;
    cluster.scheduler.give_code(code);
    eventually("it is ready", || state_of(&cluster.scheduler, &hello) == Some(LoadState::Ready)).await;
    assert_eq!(Gateway::connect(cluster.address).await.call(&hello, b"").await.body, b"hello");
}

#[tokio::test]
async fn sandboxes_that_nobody_calls_are_let_go() {
    let mut cluster = Cluster::with_worker().await;
    let mut version = cluster.version("hello", guests::HELLO);
    // Longer than a machine may stand still between two looks.
    version.idle_timeout = Some(prost_types::Duration { seconds: 4, nanos: 0 });
    let hello = cluster.assign(version).await;
    eventually("one stands ready", || cluster.load_of(&hello).unwrap().prepared == 1).await;
    let mut gateway = Gateway::connect(cluster.address).await;
    let mut calls = Vec::new();
    for _ in 0..8 {
        calls.push(gateway.begin(&hello, b"", true).await);
    }
    for call in calls {
        assert_eq!(call.finish().await.body, b"hello");
    }
    eventually("more stand ready", || cluster.load_of(&hello).unwrap().prepared > 1).await;
    eventually("all are let go", || cluster.load_of(&hello).unwrap().prepared == 0).await;
    assert_eq!(gateway.call(&hello, b"").await.body, b"hello");
}

#[tokio::test]
async fn a_taken_port_or_folder_is_an_error_that_says_what_to_do() {
    let mut cluster = Cluster::with_worker().await;
    let address = cluster.address;
    let config = |folder: &str| dunlin_worker::Config {
        listen: address,
        data_dir: cluster.folder.path().join(folder),
        cluster_secret: cluster.folder.path().join("secret"),
        capacity: 1,
        ..dunlin_worker::Config::default()
    };
    let error = dunlin_worker::Worker::bind(config("other")).await.unwrap_err();
    assert!(error.to_string().contains(&address.to_string()) && error.to_string().contains("--listen"), "{error}");
    let error = dunlin_worker::Worker::bind(config("worker")).await.unwrap_err();
    assert!(error.to_string().contains("in use by another process"), "{error}");
    cluster.stop_worker().await;
}
