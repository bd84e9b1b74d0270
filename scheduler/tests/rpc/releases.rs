//! Releases over gRPC: pages, differences, and who is waited for when one comes back.

use std::time::Duration;

use dunlin_proto::{
    ErrorCode,
    v1::{self, create_version_response::Event},
};
use tokio::time::Instant;
use tonic::Status;

use crate::harness::{Cluster, SimGateway, create, new_id, refused};

const TILL: &str = "namespaces/default/functions/till";

fn named(number: u32) -> String {
    format!("namespaces/default/releases/{number}")
}

async fn deployed(cluster: &Cluster, artifact: &str, timeout: i64) {
    let digest = cluster.upload("default", artifact).await;
    let limits =
        v1::Limits { timeout: Some(prost_types::Duration { seconds: timeout, nanos: 0 }), ..Default::default() };
    let environment = [("TOKEN".to_owned(), format!("secret-{timeout}"))].into();
    let spec = Some(v1::VersionSpec { limits: Some(limits), environment, ..Default::default() });
    let (_, ended) = cluster.deploy(v1::CreateVersionRequest { spec, ..create(TILL, digest) }).await;
    ended.unwrap();
}

#[tokio::test]
async fn releases_are_listed_compared_and_come_back() {
    let cluster = Cluster::start().await;
    let gateway = SimGateway::connect(&cluster, "g1").await;
    deployed(&cluster, "one", 5).await;
    deployed(&cluster, "two", 7).await;
    let target = v1::FunctionTarget { function: "till".into(), ..Default::default() };
    let route = v1::Route {
        name: "namespaces/default/routes/a".into(),
        path: "/a".into(),
        target: Some(v1::route::Target::Function(target)),
        ..Default::default()
    };
    cluster.routes().put_route(v1::PutRouteRequest { route: Some(route), replace: false }).await.unwrap();

    let mut releases = cluster.releases();
    let list = v1::ListReleasesRequest { parent: "namespaces/default".into(), page_size: 2, ..Default::default() };
    let page = releases.list_releases(list.clone()).await.unwrap().into_inner();
    assert_eq!(page.releases.iter().map(|it| it.cause.as_str()).collect::<Vec<_>>(), ["put route a", "deploy till@2"]);
    let rest = v1::ListReleasesRequest { page_token: page.next_page_token, ..list };
    let rest = releases.list_releases(rest).await.unwrap().into_inner();
    assert_eq!((rest.releases.len(), rest.releases[0].number, rest.next_page_token.as_str()), (1, 1, ""));

    let whole = releases.get_release(v1::GetReleaseRequest { name: named(3) }).await.unwrap().into_inner();
    let whole = whole.release.unwrap();
    assert_eq!((whole.functions[0].aliases[0].traffic[0].version, whole.routes[0].path.as_str()), (2, "/a"));

    let diff = v1::DiffReleasesRequest { name: named(3), from: 1 };
    let diff = releases.diff_releases(diff).await.unwrap().into_inner().differences;
    let line = |it: &v1::Difference| format!("{} {}: {} -> {}", it.subject, it.field, it.before, it.after);
    let lines: Vec<_> = diff.iter().map(line).collect();
    for expected in [
        "functions/till traffic: v1=100 -> v2=100",
        "routes/a path:  -> /a",
        "functions/till/versions/2 limits.timeout: 5s -> 7s",
        "functions/till/versions/2 environment.TOKEN: a value -> another value",
    ] {
        assert!(lines.iter().any(|line| line == expected), "{expected:?} is not in {lines:?}");
    }
    assert!(!lines.join(" ").contains("secret-"), "{lines:?}");
    let first = v1::DiffReleasesRequest { name: named(1), from: 0 };
    assert!(!releases.diff_releases(first).await.unwrap().into_inner().differences.is_empty());

    let began = Instant::now();
    let back = v1::RollbackReleaseRequest { name: named(1), request_id: new_id() };
    for _ in 0..2 {
        let answer = releases.rollback_release(back.clone()).await.unwrap().into_inner();
        assert_eq!((answer.release.unwrap().number, answer.lagging_gateways.len()), (4, 0));
    }
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    let config = gateway.received().config;
    assert_eq!((config.functions[0].traffic[0].version, config.routes.len()), (1, 0));
    assert_eq!(cluster.compiled(), 2, "nothing is built again");
    let none = v1::RollbackReleaseRequest { name: named(9), ..Default::default() };
    refused(releases.rollback_release(none).await, ErrorCode::NotFound);
    let wrong = v1::RollbackReleaseRequest { name: named(0), ..Default::default() };
    refused(releases.rollback_release(wrong).await, ErrorCode::InvalidArgument);
}

/// The last message of a dry run.
async fn preview(cluster: &Cluster, request: v1::CreateVersionRequest) -> Result<v1::DeployPreview, Status> {
    let request = v1::CreateVersionRequest { dry_run: true, ..request };
    let mut events = cluster.functions().create_version(request).await?.into_inner();
    loop {
        match events.message().await? {
            Some(v1::CreateVersionResponse { event: Some(Event::Preview(preview)) }) => return Ok(preview),
            Some(v1::CreateVersionResponse { event: Some(Event::Version(version)) }) => panic!("made: {version:?}"),
            Some(_) => {}
            None => panic!("the stream ended without a preview"),
        }
    }
}

#[tokio::test]
async fn a_dry_run_says_what_a_deploy_would_change_and_makes_nothing() {
    let cluster = Cluster::start().await;
    let digest = cluster.upload("default", "one").await;
    let first = preview(&cluster, create(TILL, digest)).await.unwrap();
    assert_eq!((first.version, first.needs_allow_new_capabilities), (1, false));
    assert!(first.differences.iter().any(|it| it.field == "traffic" && it.before.is_empty() && it.after == "v1=100"));
    let missing = v1::GetFunctionRequest { name: TILL.into() };
    refused(cluster.functions().get_function(missing).await, ErrorCode::NotFound);

    cluster.deploy(create(TILL, digest)).await.1.unwrap();
    let spec = v1::VersionSpec { allowed_outbound_hosts: vec!["https://a.example".into()], ..Default::default() };
    let wider = v1::CreateVersionRequest { spec: Some(spec), public: Some(true), ..create(TILL, digest) };
    let shown = preview(&cluster, wider.clone()).await.unwrap();
    assert!(shown.needs_allow_new_capabilities, "{shown:?}");
    assert_eq!(shown.capabilities.unwrap().added_outbound_hosts, ["https://a.example"]);
    let line = |it: &v1::Difference| format!("{} {}: {} -> {}", it.subject, it.field, it.before, it.after);
    assert_eq!(
        shown.differences.iter().map(line).collect::<Vec<_>>(),
        [
            "functions/till traffic: v1=100 -> v2=100",
            "functions/till public: false -> true",
            "functions/till/versions/2 allowed_outbound_hosts:  -> [\"https://a.example\"]",
        ]
    );
    let refusal = cluster.deploy(wider).await.1.unwrap_err();
    assert_eq!(refusal.code, ErrorCode::FailedPrecondition, "what the dry run said");

    let broken = cluster.upload("default", "refuse").await;
    refused(preview(&cluster, create(TILL, broken)).await, ErrorCode::InvalidArtifact);
    let function = cluster.function(TILL).await;
    assert_eq!((function.latest_version, function.public), (1, false));
    let list = v1::ListReleasesRequest { parent: "namespaces/default".into(), ..Default::default() };
    assert_eq!(cluster.releases().list_releases(list).await.unwrap().into_inner().releases.len(), 1);
}
