//! Sandboxes that serve several calls, where their version asks for it: tried first, taken again, and dropped in time.

use std::time::Duration;

use dunlin_proto::internal::v1::{AssignedVersion, SandboxReuse};

use crate::{
    cluster::{Cluster, eventually},
    gateway::Gateway,
    guests,
};

/// Sandboxes that wait for their next call for longer than a machine may stand still.
fn reuse(max_calls: u32) -> Option<SandboxReuse> {
    Some(SandboxReuse { max_calls, max_idle: Some(prost_types::Duration { seconds: 60, nanos: 0 }), tried: false })
}

/// A version of the HTTP guest, ready and tried.
async fn deploy(cluster: &mut Cluster, function: &str, reuse: Option<SandboxReuse>) -> AssignedVersion {
    let version = AssignedVersion { reuse, ..cluster.http_version(function) };
    let version = cluster.assign(version).await;
    if reuse.is_some() {
        eventually("it is tried", || refusal(cluster, &version).is_some()).await;
    }
    version
}

/// What the worker reports of the trial.
fn refusal(cluster: &Cluster, version: &AssignedVersion) -> Option<String> {
    cluster.load_of(version)?.reuse_trial.map(|trial| trial.refusal)
}

#[tokio::test]
async fn calls_have_a_fresh_sandbox_each_unless_their_version_asks_for_another() {
    let mut cluster = Cluster::with_worker().await;
    let (fresh, used) = (deploy(&mut cluster, "fresh", None).await, deploy(&mut cluster, "used", reuse(100)).await);
    let other = deploy(&mut cluster, "other", reuse(100)).await;
    assert_eq!(refusal(&cluster, &used).as_deref(), Some(""));
    let mut gateway = Gateway::connect(cluster.address).await;
    for round in 0..4 {
        assert_eq!(gateway.get(&fresh, "/count").await, "0");
        assert_eq!(gateway.get(&used, "/count").await, round.to_string());
        assert_eq!(gateway.get(&other, "/count").await, round.to_string(), "another version's are its own");
    }
    assert_eq!(refusal(&cluster, &fresh), None);
}

#[tokio::test]
async fn a_sandbox_serves_as_many_calls_as_it_may() {
    let mut cluster = Cluster::with_worker().await;
    let version = deploy(&mut cluster, "twice", reuse(2)).await;
    let mut gateway = Gateway::connect(cluster.address).await;
    for expected in ["0", "1", "0", "1", "0"] {
        assert_eq!(gateway.get(&version, "/count").await, expected);
    }
}

#[tokio::test]
async fn a_sandbox_is_gone_after_a_failure_and_others_serve_on() {
    let mut cluster = Cluster::with_worker().await;
    let version = deploy(&mut cluster, "used", reuse(100)).await;
    let mut gateway = Gateway::connect(cluster.address).await;
    for path in ["/panic", "/exit", "/hold"] {
        assert_eq!(gateway.get(&version, "/count").await, "0");
        assert_eq!(gateway.get(&version, "/count").await, "1");
        gateway.get(&version, path).await;
    }
    assert_eq!(gateway.get(&version, "/count").await, "0");
}

#[tokio::test]
async fn a_sandbox_that_waits_stands_ready_and_not_for_ever() {
    let mut cluster = Cluster::with_worker().await;
    let version = AssignedVersion { max_sandboxes: 1, ..cluster.http_version("brief") };
    let max_idle = Some(prost_types::Duration { seconds: 0, nanos: 100_000_000 });
    let reuse = reuse(100).map(|reuse| SandboxReuse { max_idle, ..reuse });
    let version = cluster.assign(AssignedVersion { reuse, ..version }).await;
    eventually("it is tried", || refusal(&cluster, &version).is_some()).await;
    let mut gateway = Gateway::connect(cluster.address).await;
    for _ in 0..2 {
        // A machine that stands still comes too late for it, but not every time.
        let mut counts = vec![gateway.get(&version, "/count").await];
        while counts.len() < 10 && counts.last().unwrap() == "0" {
            counts.push(gateway.get(&version, "/count").await);
        }
        assert_eq!((counts.first().unwrap().as_str(), counts.last().unwrap().as_str()), ("0", "1"), "{counts:?}");
        // Twice, so that it is gone also where the machine stands still for one of them and whoever looks has yet to wake.
        for _ in 0..2 {
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }
    eventually("it counts as prepared", || cluster.load_of(&version).is_some_and(|load| load.prepared == 1)).await;
}

#[tokio::test]
async fn what_can_answer_only_once_has_a_fresh_sandbox_for_every_call_and_says_why() {
    let mut cluster = Cluster::with_worker().await;
    let mut version = AssignedVersion { reuse: reuse(100), ..cluster.http_version("once") };
    version.policy.as_mut().unwrap().environment.insert("ONCE".into(), "1".into());
    let version = cluster.assign(version).await;
    eventually("it is tried", || refusal(&cluster, &version).is_some()).await;
    let why = refusal(&cluster, &version).unwrap();
    assert!(why.starts_with("of two calls on trial to one sandbox, the second failed: the function trapped"), "{why}");
    assert!(!why.contains('\n'), "{why}");
    let mut gateway = Gateway::connect(cluster.address).await;
    for _ in 0..3 {
        assert_eq!(gateway.get(&version, "/count").await, "0");
    }
}

#[tokio::test]
async fn reuse_that_fails_later_on_ends_where_fresh_sandboxes_do_not_fail() {
    let mut cluster = Cluster::with_worker().await;
    let mut version = cluster.http_version("later");
    // As if it had been tried with success before.
    version.reuse = reuse(100).map(|reuse| SandboxReuse { tried: true, ..reuse });
    version.policy.as_mut().unwrap().environment.insert("ONCE".into(), "1".into());
    let version = cluster.assign(version).await;
    let mut gateway = Gateway::connect(cluster.address).await;
    for _ in 0..3 {
        assert_eq!(gateway.get(&version, "/count").await, "0");
        assert_eq!(gateway.get(&version, "/count").await, "", "it fails");
    }
    for _ in 0..5 {
        assert_eq!(gateway.get(&version, "/count").await, "0");
    }
    eventually("it is reported", || refusal(&cluster, &version).is_some_and(|why| why.contains("failed 3 times")))
        .await;
}

#[tokio::test]
async fn what_the_cluster_finds_out_is_followed_without_loading_the_version_again() {
    let mut cluster = Cluster::with_worker().await;
    let version = deploy(&mut cluster, "used", reuse(100)).await;
    let mut gateway = Gateway::connect(cluster.address).await;
    assert_eq!(gateway.get(&version, "/count").await, "0");
    cluster.assign_only(vec![AssignedVersion { reuse: None, ..version.clone() }]);
    eventually("it is followed", || refusal(&cluster, &version).is_some_and(|why| !why.is_empty())).await;
    assert!(cluster.load_of(&version).unwrap().started_total > 0, "it was loaded again");
    gateway.get(&version, "/count").await;
    assert_eq!(gateway.get(&version, "/count").await, "0");
}

#[tokio::test]
async fn commands_are_never_used_again() {
    let mut cluster = Cluster::with_worker().await;
    let version = AssignedVersion { reuse: reuse(100), ..cluster.version("hello", guests::HELLO) };
    let version = cluster.assign(version).await;
    eventually("it is tried", || refusal(&cluster, &version).is_some()).await;
    assert!(refusal(&cluster, &version).unwrap().contains("command"));
    assert_eq!(Gateway::connect(cluster.address).await.call(&version, b"").await.body, b"hello");
}
