//! Functions, versions and namespaces as resources: pages, masks, etags, rollbacks.

use dunlin_proto::{ErrorCode, v1};
use prost_types::FieldMask;

use crate::harness::{Cluster, SimGateway, SimWorker, new_id, refused};

const TILL: &str = "namespaces/default/functions/till";

#[tokio::test]
async fn lists_come_in_pages_that_miss_and_repeat_nothing() {
    let cluster = Cluster::start().await;
    for name in ["e", "b", "a", "d", "c"] {
        cluster.deployed(&format!("namespaces/default/functions/{name}"), "hello").await;
        cluster.namespace(name).await;
    }
    let (mut names, mut token) = (vec![], String::new());
    loop {
        let request = v1::ListFunctionsRequest { parent: "namespaces/default".into(), page_size: 2, page_token: token };
        let page = cluster.functions().list_functions(request).await.unwrap().into_inner();
        names.extend(page.functions.into_iter().map(|f| f.name.rsplit('/').next().unwrap().to_owned()));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
        let foreign =
            v1::ListFunctionsRequest { parent: "namespaces/a".into(), page_token: token.clone(), ..Default::default() };
        let error = refused(cluster.functions().list_functions(foreign).await, ErrorCode::InvalidArgument);
        assert_eq!(error.field.as_deref(), Some("page_token"));
    }
    assert_eq!(names, ["a", "b", "c", "d", "e"]);
    let page = v1::ListNamespacesRequest { page_size: 4, ..Default::default() };
    let page = cluster.namespaces().list_namespaces(page).await.unwrap().into_inner();
    assert_eq!(page.namespaces.len(), 4);
    let next = v1::ListNamespacesRequest { page_token: page.next_page_token, ..Default::default() };
    let next = cluster.namespaces().list_namespaces(next).await.unwrap().into_inner();
    assert_eq!(next.namespaces.iter().map(|n| &*n.name).collect::<Vec<_>>(), ["namespaces/default", "namespaces/e"]);
    assert_eq!((next.namespaces[0].function_count, &*next.next_page_token), (5, ""));
    let negative =
        v1::ListFunctionsRequest { parent: "namespaces/default".into(), page_size: -1, ..Default::default() };
    refused(cluster.functions().list_functions(negative).await, ErrorCode::InvalidArgument);
    let nowhere = v1::ListFunctionsRequest { parent: "namespaces/nowhere".into(), ..Default::default() };
    refused(cluster.functions().list_functions(nowhere).await, ErrorCode::NotFound);
}

#[tokio::test]
async fn versions_are_listed_newest_first() {
    let cluster = Cluster::start().await;
    for text in ["one", "two", "three"] {
        cluster.deployed(TILL, text).await;
    }
    let list = |page_token| v1::ListVersionsRequest { parent: TILL.into(), page_size: 2, page_token };
    let page = cluster.functions().list_versions(list(String::new())).await.unwrap().into_inner();
    assert_eq!(page.versions.iter().map(|v| v.number).collect::<Vec<_>>(), [3, 2]);
    let rest = cluster.functions().list_versions(list(page.next_page_token)).await.unwrap().into_inner();
    assert_eq!((rest.versions[0].number, rest.versions.len(), &*rest.next_page_token), (1, 1, ""));
}

fn update(function: v1::Function, paths: &[&str]) -> v1::UpdateFunctionRequest {
    let update_mask = Some(FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() });
    v1::UpdateFunctionRequest { function: Some(function), update_mask }
}

fn shares(of: &[(u32, u32)]) -> Vec<v1::TrafficTarget> {
    of.iter().map(|(version, percent)| v1::TrafficTarget { version: *version, percent: *percent }).collect()
}

#[tokio::test]
async fn an_update_changes_what_its_mask_names_and_nothing_else() {
    let cluster = Cluster::start().await;
    cluster.deployed(TILL, "one").await;
    cluster.deployed(TILL, "two").await;
    let before = cluster.function(TILL).await;
    let wanted = v1::Function {
        description: "till".into(),
        public: true,
        traffic: shares(&[(1, 90), (2, 10)]),
        ..before.clone()
    };
    let after = cluster
        .functions()
        .update_function(update(wanted.clone(), &["traffic"]))
        .await
        .unwrap()
        .into_inner()
        .function
        .unwrap();
    assert_eq!((after.traffic.clone(), after.public, &*after.description), (shares(&[(1, 90), (2, 10)]), false, ""));
    refused(
        cluster.functions().update_function(update(wanted.clone(), &["public"])).await,
        ErrorCode::FailedPrecondition,
    );
    let current = v1::Function { etag: after.etag, ..wanted.clone() };
    let after = cluster
        .functions()
        .update_function(update(current, &["public", "description"]))
        .await
        .unwrap()
        .into_inner()
        .function
        .unwrap();
    assert_eq!((after.public, &*after.description), (true, "till"));

    let anyway = v1::Function { etag: String::new(), ..wanted };
    let with = |traffic| v1::Function { traffic, ..anyway.clone() };
    for (request, field) in [
        (update(anyway.clone(), &[]), "update_mask"),
        (update(anyway.clone(), &["uid"]), "update_mask"),
        (update(anyway.clone(), &["*"]), "update_mask"),
        (update(with(shares(&[])), &["traffic"]), "function.traffic"),
        (update(with(shares(&[(1, 99)])), &["traffic"]), "function.traffic"),
        (update(with(shares(&[(1, 50), (1, 50)])), &["traffic"]), "function.traffic"),
        (update(with(shares(&[(1, 0), (2, 100)])), &["traffic"]), "function.traffic"),
        (update(with(shares(&[(0, 100)])), &["traffic"]), "function.traffic"),
        (update(with(shares(&[(1, u32::MAX), (2, 101)])), &["traffic"]), "function.traffic"),
        (
            update(v1::Function { description: "x".repeat(1025), ..anyway.clone() }, &["description"]),
            "function.description",
        ),
        (v1::UpdateFunctionRequest::default(), "function"),
    ] {
        let error = refused(cluster.functions().update_function(request).await, ErrorCode::InvalidArgument);
        assert_eq!(error.field.as_deref(), Some(field), "{error}");
    }
    refused(
        cluster.functions().update_function(update(with(shares(&[(9, 100)])), &["traffic"])).await,
        ErrorCode::NotFound,
    );
}

#[tokio::test]
async fn a_rollback_goes_back_without_compiling() {
    let cluster = Cluster::start().await;
    let _worker = SimWorker::join(&cluster, "w1").await;
    for text in ["one", "two", "three"] {
        cluster.deployed(TILL, text).await;
    }
    let request = |version, request_id: &str| v1::RollbackFunctionRequest {
        name: TILL.into(),
        version,
        reason: "it sold nothing".into(),
        request_id: request_id.into(),
    };
    let id = new_id();
    for _ in 0..2 {
        let rolled = cluster.functions().rollback_function(request(0, &id)).await.unwrap().into_inner();
        assert_eq!((rolled.version, rolled.function.unwrap().traffic), (2, shares(&[(2, 100)])));
    }
    refused(cluster.functions().rollback_function(request(1, &id)).await, ErrorCode::InvalidArgument);
    let rolled = cluster.functions().rollback_function(request(0, "")).await.unwrap().into_inner();
    assert_eq!(rolled.version, 1);
    refused(cluster.functions().rollback_function(request(0, "")).await, ErrorCode::FailedPrecondition);
    refused(cluster.functions().rollback_function(request(9, "")).await, ErrorCode::NotFound);
    assert_eq!(cluster.compiled(), 3);
}

#[tokio::test]
async fn what_is_deleted_is_gone_and_made_again_is_another() {
    let cluster = Cluster::start().await;
    cluster.deployed(TILL, "one").await;
    let before = cluster.function(TILL).await;
    let delete = |etag: &str| v1::DeleteFunctionRequest { name: TILL.into(), etag: etag.into() };
    refused(cluster.functions().delete_function(delete("1-stale")).await, ErrorCode::FailedPrecondition);
    let namespace = v1::DeleteNamespaceRequest { name: "namespaces/default".into() };
    refused(cluster.namespaces().delete_namespace(namespace.clone()).await, ErrorCode::FailedPrecondition);
    cluster.functions().delete_function(delete(&before.etag)).await.unwrap();
    refused(cluster.functions().delete_function(delete("")).await, ErrorCode::NotFound);
    cluster.deployed(TILL, "one").await;
    let after = cluster.function(TILL).await;
    assert!(after.uid != before.uid && after.latest_version == 1);
    cluster.functions().delete_function(delete("")).await.unwrap();
    cluster.namespaces().delete_namespace(namespace).await.unwrap();
}

#[tokio::test]
async fn a_namespace_is_made_once_for_each_request() {
    let cluster = Cluster::start().await;
    let request = |namespace_id: &str, request_id: &str| v1::CreateNamespaceRequest {
        namespace_id: namespace_id.into(),
        description: "sells".into(),
        request_id: request_id.into(),
        max_concurrency: Some(9),
        rate: None,
        quota: None,
        log_retention: None,
        log_bytes: None,
    };
    let id = new_id();
    let first = cluster.namespaces().create_namespace(request("shop", &id)).await.unwrap().into_inner();
    assert_eq!(cluster.namespaces().create_namespace(request("shop", &id)).await.unwrap().into_inner(), first);
    refused(cluster.namespaces().create_namespace(request("shop", "")).await, ErrorCode::AlreadyExists);
    refused(cluster.namespaces().create_namespace(request("other", &id)).await, ErrorCode::InvalidArgument);
    for bad in ["", "Shop", "../x", "a--b", "sh\u{f6}p", "a-name-that-is-far-too-long"] {
        let error = refused(cluster.namespaces().create_namespace(request(bad, "")).await, ErrorCode::InvalidArgument);
        assert_eq!(error.field.as_deref(), Some("namespace_id"));
    }
}

#[tokio::test]
async fn what_is_kept_of_a_namespace_is_within_the_operators_bounds() {
    let cluster = Cluster::start().await;
    let update = |days: Option<i64>, log_bytes| v1::UpdateNamespaceRequest {
        namespace: Some(v1::Namespace {
            name: "namespaces/default".into(),
            log_retention: days.map(|days| prost_types::Duration { seconds: days * 86_400, nanos: 0 }),
            log_bytes,
            ..Default::default()
        }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["log_retention".into(), "log_bytes".into()] }),
    };
    for (wrong, field, says) in [
        (update(Some(31), None), "namespace.log_retention", "retention.max_seconds"),
        (update(Some(0), None), "namespace.log_retention", "at least"),
        (update(None, Some(1 << 30)), "namespace.log_bytes", "268435456 at most"),
        (update(None, Some(1)), "namespace.log_bytes", "65536 at least"),
    ] {
        let error = refused(cluster.namespaces().update_namespace(wrong).await, ErrorCode::InvalidArgument);
        assert!(error.field.as_deref() == Some(field) && error.message.contains(says), "{error:?}");
    }
    let (worker, gateway) = (SimWorker::join(&cluster, "w1").await, SimGateway::connect(&cluster, "g1").await);
    let set = cluster.namespaces().update_namespace(update(Some(7), Some(200_000_000))).await.unwrap().into_inner();
    assert_eq!(set.namespace.unwrap().log_bytes, Some(200_000_000));
    let own = [dunlin_proto::internal::v1::NamespaceRetention {
        namespace: "default".into(),
        age: Some(prost_types::Duration { seconds: 7 * 86_400, nanos: 0 }),
        log_bytes: Some(200_000_000),
    }];
    cluster.eventually("told to the worker", async |_| worker.retentions() == own).await;
    let told = |gateway: &SimGateway| gateway.received().config.limits.unwrap_or_default().retentions;
    cluster.eventually("told to the gateway", async |_| told(&gateway) == own).await;
    cluster.namespaces().update_namespace(update(None, None)).await.unwrap();
    let none = async |_: &Cluster| worker.retentions().is_empty() && told(&gateway).is_empty();
    cluster.eventually("taken back", none).await;
}

#[tokio::test]
async fn a_namespaces_concurrency_is_bounded_and_reserved_by_functions() {
    let cluster = Cluster::start().await;
    let update = |max_concurrency, paths: &[&str]| v1::UpdateNamespaceRequest {
        namespace: Some(v1::Namespace { name: "namespaces/default".into(), max_concurrency, ..Default::default() }),
        update_mask: Some(prost_types::FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() }),
    };
    for (wrong, field) in [
        (update(Some(1), &[]), "update_mask"),
        (update(Some(1), &["name"]), "update_mask"),
        (update(Some(2_000_000), &["max_concurrency"]), "namespace.max_concurrency"),
        (v1::UpdateNamespaceRequest::default(), "namespace.name"),
    ] {
        let error = refused(cluster.namespaces().update_namespace(wrong).await, ErrorCode::InvalidArgument);
        assert_eq!(error.field.as_deref(), Some(field));
    }
    let changed = cluster.namespaces().update_namespace(update(Some(5), &["max_concurrency"])).await.unwrap();
    assert_eq!(changed.into_inner().namespace.unwrap().max_concurrency, Some(5));
    let listed = cluster.namespaces().list_namespaces(v1::ListNamespacesRequest::default()).await.unwrap();
    assert_eq!(listed.into_inner().namespaces[0].max_concurrency, Some(5));
    let removed = cluster.namespaces().update_namespace(update(None, &["max_concurrency"])).await.unwrap();
    assert_eq!(removed.into_inner().namespace.unwrap().max_concurrency, None);
}
