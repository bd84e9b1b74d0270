//! Apps over gRPC: what one manifest says reaches gateways in one configuration, or not at all.

use dunlin_proto::{
    ErrorCode,
    v1::{self, DeployStage},
};

use crate::harness::{Cluster, SimGateway, SimWorker, create, refused};

const PAY: &str = "namespaces/default/functions/pay";
const MAIL: &str = "namespaces/default/functions/mail";

/// A version without calls that a worker has.
async fn held(cluster: &Cluster, function: &str, text: &str) -> v1::AppFunction {
    let digest = cluster.upload("default", text).await;
    let held = v1::CreateVersionRequest { hold_traffic: true, load: true, ..create(function, digest) };
    let (stages, version) = cluster.deploy(held).await;
    assert_eq!(stages.last(), Some(&DeployStage::Placing));
    v1::AppFunction { function: function.rsplit('/').next().unwrap().into(), version: version.unwrap().number }
}

fn route(name: &str, path: &str, function: &str) -> v1::Route {
    let target = v1::FunctionTarget { function: function.into(), ..Default::default() };
    v1::Route {
        name: format!("namespaces/default/routes/{name}"),
        path: path.into(),
        target: Some(v1::route::Target::Function(target)),
        ..Default::default()
    }
}

fn app(functions: &[v1::AppFunction], routes: &[v1::Route]) -> v1::ActivateAppRequest {
    v1::ActivateAppRequest {
        name: "namespaces/default/apps/till".into(),
        functions: functions.into(),
        routes: routes.into(),
        ..Default::default()
    }
}

#[tokio::test]
async fn an_app_reaches_gateways_in_one_step() {
    let cluster = Cluster::start().await;
    let _worker = SimWorker::join(&cluster, "w1").await;
    let gateway = SimGateway::connect(&cluster, "g1").await;
    let functions = [held(&cluster, PAY, "one").await, held(&cluster, MAIL, "two").await];
    assert!(cluster.function(PAY).await.traffic.is_empty());
    let mut releases = cluster.releases();
    let checked = v1::ActivateAppRequest { validate_only: true, ..app(&functions, &[route("a", "/a", "pay")]) };
    let checked = releases.activate_app(checked).await.unwrap().into_inner();
    assert!(checked.release.is_none() && checked.differences.iter().any(|it| it.subject == "routes/a"), "{checked:?}");
    let routes = [route("a", "/a", "pay"), route("b", "/b", "mail")];
    let done = releases.activate_app(app(&functions, &routes)).await.unwrap().into_inner();
    assert_eq!((done.release.unwrap().number, done.lagging_gateways.len()), (1, 0));
    let config = gateway.received().config;
    assert_eq!((config.routes.len(), config.routes[0].app.as_str()), (2, "till"));
    assert!(config.functions.iter().all(|function| function.traffic.len() == 1), "{config:?}");
    // A conflict with a route of the app's own is refused with both named, and nothing reaches anybody.
    let twins = [route("a", "/a", "pay"), route("b", "/{x}", "mail"), route("c", "/{y}", "mail")];
    let message = refused(releases.activate_app(app(&[], &twins)).await, ErrorCode::AlreadyExists).message;
    assert!(message.contains("route b (/{x})") && message.contains("route c (/{y})"), "{message}");
    assert_eq!(gateway.received().config.routes.len(), 2);
    let again = releases.activate_app(app(&functions, &routes)).await.unwrap().into_inner();
    assert_eq!((again.release.unwrap().number, again.differences.len()), (1, 0));
}

#[tokio::test]
async fn only_a_version_without_traffic_is_loaded_for_later() {
    let cluster = Cluster::start().await;
    let digest = cluster.upload("default", "one").await;
    let wrong = v1::CreateVersionRequest { load: true, ..create(PAY, digest) };
    let error = cluster.deploy(wrong).await.1.unwrap_err();
    assert_eq!((error.code, error.field.as_deref()), (ErrorCode::InvalidArgument, Some("load")));
}
