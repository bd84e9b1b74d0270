//! Versions that ask for their sandboxes to be used again: what workers find out is waited for, written down and told to all.

use dunlin_proto::{ErrorCode, internal::v1::SandboxReuse, v1};

use crate::harness::{Cluster, SimWorker, create};

const TILL: &str = "namespaces/default/functions/till";

/// Asks for reuse of what has been uploaded.
async fn request(cluster: &Cluster, text: &str) -> v1::CreateVersionRequest {
    let digest = cluster.upload("default", text).await;
    let spec =
        v1::VersionSpec { reuse: Some(v1::Reuse { max_calls: Some(7), ..Default::default() }), ..Default::default() };
    v1::CreateVersionRequest { spec: Some(spec), ..create(TILL, digest) }
}

fn assigned(worker: &SimWorker) -> Option<SandboxReuse> {
    worker.held().first().and_then(|version| version.reuse)
}

async fn stored(cluster: &Cluster) -> v1::Version {
    let request = v1::GetVersionRequest { name: format!("{TILL}/versions/1") };
    cluster.functions().get_version(request).await.unwrap().into_inner().version.unwrap()
}

#[tokio::test]
async fn what_works_is_tried_once_and_then_known() {
    let mut cluster = Cluster::start().await;
    let worker = SimWorker::join(&cluster, "w1").await;
    worker.set(|seen| seen.reuse_refusal = Some(String::new()));
    let version = cluster.deploy(request(&cluster, "hello").await).await.1.unwrap();
    assert_eq!((version.reuse_refusal.as_str(), version.spec.unwrap().reuse.unwrap().max_calls), ("", Some(7)));
    cluster.eventually("workers are told", async |_| assigned(&worker).is_some_and(|reuse| reuse.tried)).await;
    let reuse = assigned(&worker).unwrap();
    assert_eq!((reuse.max_calls, reuse.max_idle.unwrap().seconds), (7, 10));
    // It is not forgotten with the scheduler.
    cluster.restart().await;
    let another = SimWorker::join(&cluster, "w2").await;
    cluster
        .eventually("it is known still", async |_| {
            [&worker, &another].iter().any(|worker| assigned(worker).is_some_and(|reuse| reuse.tried))
        })
        .await;
}

#[tokio::test]
async fn what_does_not_work_is_said_and_asked_for_no_more() {
    let cluster = Cluster::start().await;
    let worker = SimWorker::join(&cluster, "w1").await;
    worker.set(|seen| seen.reuse_refusal = Some("the second call failed".to_owned()));
    let version = cluster.deploy(request(&cluster, "hello").await).await.1.unwrap();
    assert_eq!(version.reuse_refusal, "the second call failed");
    assert_eq!(stored(&cluster).await.reuse_refusal, version.reuse_refusal);
    cluster.eventually("workers are told", async |_| !worker.held().is_empty() && assigned(&worker).is_none()).await;
}

#[tokio::test]
async fn what_stops_working_later_is_noted_too() {
    let cluster = Cluster::start().await;
    let worker = SimWorker::join(&cluster, "w1").await;
    worker.set(|seen| seen.reuse_refusal = Some(String::new()));
    cluster.deploy(request(&cluster, "hello").await).await.1.unwrap();
    let version = worker.held()[0].version.clone();
    worker.set(|seen| {
        let trial = dunlin_proto::internal::v1::ReuseTrial { refusal: "it failed 3 times".into() };
        let load = dunlin_proto::internal::v1::VersionLoad {
            version: version.clone(),
            state: 2,
            reuse_trial: Some(trial),
            ..Default::default()
        };
        seen.extra = vec![load];
    });
    cluster.eventually("it is noted", async |cluster| stored(cluster).await.reuse_refusal == "it failed 3 times").await;
}

#[tokio::test]
async fn a_command_that_asks_for_it_is_refused_before_there_is_a_version() {
    let cluster = Cluster::start().await;
    let error = cluster.deploy(request(&cluster, "a command").await).await.1.unwrap_err();
    assert_eq!((error.code, error.field.as_deref()), (ErrorCode::InvalidArgument, Some("spec.reuse")));
    assert!(error.message.contains("WASI command") && error.hint.is_some(), "{error}");
    let none = cluster.functions().get_function(v1::GetFunctionRequest { name: TILL.into() }).await;
    crate::harness::refused(none, ErrorCode::NotFound);
    let mut several = request(&cluster, "hello").await;
    several.spec.as_mut().unwrap().reuse = Some(v1::Reuse { max_concurrent: Some(2), ..Default::default() });
    let error = cluster.deploy(several).await.1.unwrap_err();
    assert_eq!(error.field.as_deref(), Some("spec.reuse.max_concurrent"));
}
