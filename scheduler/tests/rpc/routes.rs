//! Routes and domains over gRPC, and how gateways hear of them.

use std::time::Duration;

use dunlin_proto::{ErrorCode, v1};

use crate::harness::{Cluster, SimGateway, refused};

const TILL: &str = "namespaces/default/functions/till";

fn put(name: &str, path: &str, target: Option<v1::route::Target>) -> v1::PutRouteRequest {
    let name = format!("namespaces/default/routes/{name}");
    v1::PutRouteRequest {
        route: Some(v1::Route { name, path: path.into(), target, ..Default::default() }),
        replace: false,
    }
}

fn till() -> Option<v1::route::Target> {
    Some(v1::route::Target::Function(v1::FunctionTarget { function: "till".into(), ..Default::default() }))
}

fn fixed() -> Option<v1::route::Target> {
    Some(v1::route::Target::Response(v1::StaticResponse::default()))
}

#[tokio::test]
async fn gateways_hear_of_routes_and_domains_soon() {
    let cluster = Cluster::start().await;
    let gateway = SimGateway::connect(&cluster, "g1").await;
    cluster.deployed(TILL, "hello").await;
    let made = cluster.routes().put_route(put("pay", "/pay/:id/", till())).await.unwrap().into_inner().route.unwrap();
    assert_eq!((made.path.as_str(), made.create_time.is_some()), ("/pay/{id}", true));
    let path = |g: &SimGateway| g.received().config.routes.first().map(|route| route.path.clone());
    let took = gateway.eventually(&cluster, "the route", |g| path(g).as_deref() == Some("/pay/{id}")).await;
    // It is sent at once; only a machine that stands still delays it.
    assert!(took < Duration::from_secs(8), "{took:?}");
    let sent = gateway.received().config.routes.remove(0);
    assert!(sent.creator.is_empty() && sent.create_time.is_none(), "what concerns no gateway stays here");
    let wanted = v1::CreateDomainRequest {
        parent: "namespaces/default".into(),
        domain: "till.example".into(),
        vouch: true,
        ..Default::default()
    };
    cluster.domains().create_domain(wanted).await.unwrap();
    let owned = |g: &SimGateway| g.received().config.domains.unwrap_or_default().domains;
    gateway.eventually(&cluster, "the domain", |g| owned(g).len() == 1).await;
    let again = v1::PutRouteRequest { replace: true, ..put("pay", "/pay/{id+}", till()) };
    cluster.routes().put_route(again).await.unwrap();
    gateway.eventually(&cluster, "the change", |g| path(g).as_deref() == Some("/pay/{id+}")).await;
    let name = v1::DeleteDomainRequest { name: "namespaces/default/domains/till.example".into() };
    cluster.domains().delete_domain(name).await.unwrap();
    cluster.routes().delete_route(v1::DeleteRouteRequest { name: made.name }).await.unwrap();
    gateway.eventually(&cluster, "nothing", |g| path(g).is_none() && owned(g).is_empty()).await;
    assert_eq!(gateway.received().wholes, 1, "each change came as one");
}

#[tokio::test]
async fn routes_and_domains_are_listed_in_pages_and_bad_ones_are_refused_by_field() {
    let cluster = Cluster::start().await;
    for name in ["c", "a", "b"] {
        cluster.routes().put_route(put(name, &format!("/{name}"), fixed())).await.unwrap();
        let wanted = v1::CreateDomainRequest {
            parent: "namespaces/default".into(),
            domain: format!("{name}.example"),
            vouch: true,
            ..Default::default()
        };
        cluster.domains().create_domain(wanted).await.unwrap();
    }
    let list = |page_token| v1::ListRoutesRequest { parent: "namespaces/default".into(), page_size: 2, page_token };
    let page = cluster.routes().list_routes(list(String::new())).await.unwrap().into_inner();
    let rest = cluster.routes().list_routes(list(page.next_page_token)).await.unwrap().into_inner();
    let paths = page.routes.iter().chain(&rest.routes).map(|route| route.path.as_str());
    assert_eq!((paths.collect::<Vec<_>>(), rest.next_page_token.as_str()), (vec!["/a", "/b", "/c"], ""));
    let list = |page_token| v1::ListDomainsRequest { parent: "namespaces/default".into(), page_size: 2, page_token };
    let page = cluster.domains().list_domains(list(String::new())).await.unwrap().into_inner();
    let rest = cluster.domains().list_domains(list(page.next_page_token)).await.unwrap().into_inner();
    assert_eq!((page.domains.len(), rest.domains[0].name.as_str()), (2, "namespaces/default/domains/c.example"));
    let get = |name: &str| v1::GetRouteRequest { name: format!("namespaces/default/routes/{name}") };
    assert_eq!(cluster.routes().get_route(get("a")).await.unwrap().into_inner().route.unwrap().path, "/a");
    refused(cluster.routes().get_route(get("none")).await, ErrorCode::NotFound);
    let error = refused(cluster.routes().put_route(put("X", "/x", fixed())).await, ErrorCode::InvalidArgument);
    assert_eq!(error.field.as_deref(), Some("route.name"));
    let error = refused(cluster.routes().put_route(put("x", "x", fixed())).await, ErrorCode::InvalidArgument);
    assert_eq!(error.field.as_deref(), Some("route.path"));
    refused(cluster.routes().put_route(put("x", "/x", till())).await, ErrorCode::NotFound);
    refused(cluster.routes().put_route(put("x", "/a/", fixed())).await, ErrorCode::AlreadyExists);
    refused(cluster.routes().put_route(v1::PutRouteRequest::default()).await, ErrorCode::InvalidArgument);
    let wanted = v1::CreateDomainRequest {
        parent: "namespaces/default".into(),
        domain: "localhost".into(),
        ..Default::default()
    };
    let error = refused(cluster.domains().create_domain(wanted).await, ErrorCode::InvalidArgument);
    assert_eq!(error.field.as_deref(), Some("domain"));
}

#[tokio::test]
async fn a_purge_reaches_gateways_and_those_that_do_not_follow_are_named() {
    use v1::purge_cache_request::What;
    let cluster = Cluster::start().await;
    let gateway = SimGateway::connect(&cluster, "g1").await;
    let all = |gateway: &SimGateway| gateway.received().purges.first().is_some_and(|first| first.all);
    gateway.eventually(&cluster, "its first position", all).await;
    let purge = |parent: &str, what| v1::PurgeCacheRequest { parent: parent.into(), what: Some(what) };
    let path = purge("namespaces/default", What::Path("/a".into()));
    let answer = cluster.routes().purge_cache(path.clone()).await.unwrap().into_inner();
    assert!(answer.lagging_gateways.is_empty(), "{answer:?}");
    assert_eq!(gateway.received().purges.last().unwrap().purges, std::slice::from_ref(&path));
    for (request, code) in [
        (v1::PurgeCacheRequest { what: None, ..path.clone() }, ErrorCode::InvalidArgument),
        (purge("namespaces/default", What::Path("a".into())), ErrorCode::InvalidArgument),
        (purge("namespaces/default", What::Route("none".into())), ErrorCode::NotFound),
        (purge("namespaces/none", What::All(true)), ErrorCode::NotFound),
    ] {
        refused(cluster.routes().purge_cache(request).await, code);
    }
    drop(gateway);
    let gone = async |_: &Cluster| {
        let answer = cluster.routes().purge_cache(path.clone()).await.unwrap().into_inner();
        answer.lagging_gateways == ["g1"]
    };
    cluster.eventually("the one that has gone", gone).await;
    let again = SimGateway::connect(&cluster, "g1").await;
    again.eventually(&cluster, "everything", all).await;
}

#[tokio::test]
async fn schemas_are_checked_before_a_route_gets_in_and_come_out_as_a_document() {
    let cluster = Cluster::start().await;
    cluster.deployed(TILL, "hello").await;
    let checked = |schema: &str| {
        let media = v1::MediaTypeRule { media_type: "application/json".into(), schema: schema.into() };
        let body = Some(v1::BodyRule { required: true, media_types: vec![media] });
        let mut put = put("pay", "/pay", till());
        put.route.as_mut().unwrap().validation = Some(v1::Validation { parameters: Vec::new(), body });
        put
    };
    for (schema, place) in
        [("{", "not JSON"), (r#"{"items":{"type":"x"}}"#, "at /items/type"), (r#"{"$ref":"x.json"}"#, "at /$ref")]
    {
        let message = refused(cluster.routes().put_route(checked(schema)).await, ErrorCode::InvalidArgument).message;
        assert!(message.contains("body.media_types[0] (application/json)") && message.contains(place), "{message}");
        let routes = vec![checked(schema).route.unwrap()];
        let import = v1::ImportRoutesRequest {
            parent: "namespaces/default".into(),
            api: "pay".into(),
            routes,
            ..Default::default()
        };
        let message = refused(cluster.routes().import_routes(import).await, ErrorCode::InvalidArgument).message;
        assert!(message.contains("route pay: ") && message.contains(place), "{message}");
    }
    cluster.routes().put_route(checked(r#"{"type":"object"}"#)).await.unwrap();
    let wanted = v1::ExportRoutesRequest { parent: "namespaces/default".into() };
    let document = cluster.routes().export_routes(wanted).await.unwrap().into_inner().document;
    assert!(document.contains(r#""openapi":"3.1.0""#) && document.contains(r#"{"type":"object"}"#), "{document}");
    let nowhere = v1::ExportRoutesRequest { parent: "namespaces/nowhere".into() };
    refused(cluster.routes().export_routes(nowhere).await, ErrorCode::NotFound);
}

#[tokio::test]
async fn what_is_asked_for_shows_its_record_and_is_no_gateways_business() {
    let nowhere = |config: &mut dunlin_scheduler::Config| config.domains.dns_servers = vec![([127, 0, 0, 1], 9).into()];
    let cluster = Cluster::start_with(nowhere).await;
    let gateway = SimGateway::connect(&cluster, "g1").await;
    let wanted = |vouch| v1::CreateDomainRequest {
        parent: "namespaces/default".into(),
        domain: "till.example".into(),
        vouch,
        ..Default::default()
    };
    let create =
        async |vouch| cluster.domains().create_domain(wanted(vouch)).await.unwrap().into_inner().domain.unwrap();
    let proof = create(false).await.proof.unwrap();
    assert_eq!((proof.state(), &*proof.record_name), (v1::DomainProofState::Pending, "_dunlin-challenge.till.example"));
    let again = create(false).await.proof.unwrap();
    assert_eq!((again.record_text.len(), &again.record_text), (43, &proof.record_text));
    let mut route = put("pay", "/pay", fixed());
    route.route.as_mut().unwrap().host = "till.example".into();
    let put =
        cluster.routes().put_route(v1::PutRouteRequest { replace: true, ..route.clone() }).await.unwrap().into_inner();
    assert_eq!(put.pending_domain, "till.example");
    let routes = |g: &SimGateway| g.received().config.routes.len();
    gateway.eventually(&cluster, "the route", |g| routes(g) == 1).await;
    assert!(gateway.received().config.domains.unwrap_or_default().domains.is_empty());
    assert_eq!(create(true).await.proof.unwrap().kind(), v1::DomainProofKind::Vouched);
    let owned = |g: &SimGateway| g.received().config.domains.unwrap_or_default().domains;
    gateway.eventually(&cluster, "the domain", |g| owned(g).len() == 1).await;
    let put = cluster.routes().put_route(v1::PutRouteRequest { replace: true, ..route }).await.unwrap().into_inner();
    assert_eq!(put.pending_domain, "");
}
