//! The gateway without its scheduler, and with one that sends changes.

use std::time::Duration;

use dunlin_gateway::{Config, Gateway};
use dunlin_proto::internal::v1::{ConfigDelta, FunctionConfig};

use crate::harness::{Cluster, Plan, eventually, get};

#[tokio::test]
async fn a_gateway_that_starts_without_its_scheduler_serves_what_it_served() {
    let mut cluster = Cluster::with(Plan::default()).await;
    assert_eq!(cluster.call("GET", "/", &[], "").await.status, 200);
    let file = cluster.config.data_dir.join("config.snapshot");
    eventually("the file", async || file.exists() && file.with_file_name("placements.snapshot").exists()).await;
    cluster.scheduler.stop();
    assert_eq!(cluster.call("GET", "/", &[], "").await.status, 200, "a warm call needs no scheduler");
    cluster.stop_gateway().await;
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    cluster.start_gateway().await;
    assert_eq!(cluster.call("GET", "/", &[], "").await.status, 200);
    assert_eq!(get(cluster.functions(), "/shop/closed/").await.status, 401, "nor does it forget who may call");
}

#[tokio::test]
async fn t44_a_gateway_does_not_start_with_a_secret_that_can_be_guessed() {
    let mut cluster = Cluster::start().await;
    cluster.stop_gateway().await;
    let file = cluster.config.cluster_secret.clone();
    for weak in ["hunter2", "0123456789abcdef0123456789abcde", &"password".repeat(4)] {
        std::fs::write(&file, weak).unwrap();
        let error = format!("{:#}", Gateway::bind(cluster.config.clone()).await.err().unwrap());
        assert!(error.contains(file.to_str().unwrap()) && error.contains("openssl rand -hex 32"), "{error}");
        assert!(!error.contains(weak), "{error}");
    }
}

#[tokio::test]
async fn without_the_scheduler_what_is_known_is_served_for_max_staleness_and_no_longer() {
    let configure = |config: &mut Config| config.max_staleness = Duration::from_secs(4);
    let cluster = Cluster::with(Plan { configure, ..Plan::default() }).await;
    cluster.scheduler.stop();
    assert_eq!(cluster.call("GET", "/", &[], "").await.status, 200);
    eventually("it is too old", async || cluster.call("GET", "/", &[], "").await.status == 503).await;
    let refused = cluster.call("GET", "/", &[], "").await;
    assert!(refused.text().contains("too old") && refused.text().contains("max_staleness"), "{}", refused.text());
    let own = async |path: &str| get(cluster.functions(), &format!("/.well-known/dunlin/{path}")).await;
    let ready = own("ready").await;
    assert_eq!((ready.status, own("live").await.status), (503, 200));
    assert!(ready.text().contains("stale"), "{}", ready.text());
}

#[tokio::test]
async fn a_change_applies_to_its_base_alone() {
    let cluster = Cluster::start().await;
    let added = |name: &str| FunctionConfig {
        uid: dunlin_proto::ids::FunctionUid::new().to_string(),
        namespace: "shop".into(),
        function: name.into(),
        ..FunctionConfig::default()
    };
    let delta = |base_version, name: &str| ConfigDelta {
        base_version,
        version: base_version + 1,
        functions: vec![added(name)],
        ..ConfigDelta::default()
    };
    cluster.scheduler.deltas.send(delta(7, "new")).unwrap();
    // It has no version, but is there.
    eventually("the function", async || get(cluster.functions(), "/shop/new").await.text().contains("no version"))
        .await;
    cluster.scheduler.deltas.send(delta(42, "wrong")).unwrap();
    eventually("a new stream that asks for the whole", async || {
        let hellos = cluster.scheduler.seen.hellos.lock().unwrap();
        hellos.len() == 2 && hellos[1].config_version == 0
    })
    .await;
    assert_eq!(cluster.call("GET", "/", &[], "").await.status, 200);
    assert!(get(cluster.functions(), "/shop/wrong").await.text().contains("not found"));
}
