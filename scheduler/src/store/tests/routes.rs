//! Routes and domains: what can be there at once, and who owns what.

use dunlin_proto::{ErrorCode, v1};

use super::{Bench, config_version, conformance, deploy, function, namespace, refused};
use crate::{
    model::{DomainRecord, DomainTls, ProofKind, RouteRecord, Time},
    store::{FunctionChange, Import},
};

conformance!(
    routes_are_made_replaced_listed_and_deleted,
    two_routes_for_the_same_requests_are_refused_by_name,
    of_conflicting_routes_put_at_once_one_is_made,
    a_route_names_what_is_there,
    a_domain_belongs_to_one_namespace_with_all_below_it,
    of_namespaces_that_ask_at_once_one_gets_the_domain,
    a_namespace_goes_with_its_routes_and_domains,
    a_function_is_disabled_and_enabled,
    an_import_is_whole_or_nothing,
    an_import_changes_its_own_routes_alone,
);

fn route(name: &str, path: &str, change: impl FnOnce(&mut v1::Route)) -> RouteRecord {
    let target = v1::StaticResponse { body: "hello".into(), ..Default::default() };
    let target = Some(v1::route::Target::Response(target));
    let mut wire = v1::Route { path: path.into(), target, ..Default::default() };
    change(&mut wire);
    RouteRecord {
        name: format!("namespaces/shop/routes/{name}").parse().unwrap(),
        spec: wire.try_into().unwrap(),
        creator: "zoe".into(),
        create_time: Time(1),
        update_time: Time(1),
    }
}

fn calling(function: &str) -> Option<v1::route::Target> {
    Some(v1::route::Target::Function(v1::FunctionTarget { function: function.into(), ..Default::default() }))
}

fn domain(namespace: &str, domain: &str) -> DomainRecord {
    let name = format!("namespaces/{namespace}/domains/{domain}").parse().unwrap();
    DomainRecord { name, creator: "zoe".into(), create_time: Time(1), tls: DomainTls::Acme, proof: ProofKind::Vouched }
}

async fn routes_are_made_replaced_listed_and_deleted(bench: &Bench) {
    let store = &bench.store;
    let first = route("a", "/a", |_| {});
    refused(store.route_put(&first, false).await, ErrorCode::NotFound);
    store.namespace_create(&namespace("shop"), None).await.unwrap();
    let before = config_version(bench).await;
    assert_eq!(store.route_put(&first, false).await.unwrap(), first);
    assert_eq!(config_version(bench).await, before + 1);
    let message = refused(store.route_put(&first, false).await, ErrorCode::AlreadyExists);
    assert_eq!(message, "route a exists already (/a)");
    assert_eq!(config_version(bench).await, before + 1, "what changes nothing counts nothing");
    let later = RouteRecord { create_time: Time(5), update_time: Time(5), ..route("a", "/a/{id}", |_| {}) };
    let replaced = store.route_put(&later, true).await.unwrap();
    assert_eq!((replaced.create_time, replaced.update_time, &replaced.spec), (Time(1), Time(5), &later.spec));
    assert_eq!(store.route_fetch(&first.name).await.unwrap(), replaced);
    store.route_put(&route("b", "/b", |_| {}), true).await.unwrap();
    let page = store.route_list(&first.name.namespace, "a", 9).await.unwrap();
    assert_eq!(page.iter().map(|route| route.name.route.as_str()).collect::<Vec<_>>(), ["b"]);
    assert_eq!(store.catalog_load(Time(0)).await.unwrap().routes.len(), 2);
    store.route_delete(&first.name).await.unwrap();
    refused(store.route_delete(&first.name).await, ErrorCode::NotFound);
    refused(store.route_fetch(&first.name).await, ErrorCode::NotFound);
    refused(store.route_list(&"nowhere".parse().unwrap(), "", 9).await, ErrorCode::NotFound);
}

async fn two_routes_for_the_same_requests_are_refused_by_name(bench: &Bench) {
    bench.store.namespace_create(&namespace("shop"), None).await.unwrap();
    bench.store.route_put(&route("one", "/users/{id}", |_| {}), false).await.unwrap();
    let two = route("two", "/users/:name/", |_| {});
    let message = refused(bench.store.route_put(&two, false).await, ErrorCode::AlreadyExists);
    assert!(message.contains("route two (/users/{name})") && message.contains("route one (/users/{id})"), "{message}");
    bench.store.route_put(&route("two", "/users/me", |_| {}), false).await.unwrap();
    // A route that is replaced does not stand in its own way; another one does.
    bench.store.route_put(&route("one", "/users/{name}", |_| {}), true).await.unwrap();
    refused(bench.store.route_put(&route("one", "/users/me", |_| {}), true).await, ErrorCode::AlreadyExists);
    assert_eq!(bench.store.route_fetch(&two.name).await.unwrap().spec.to_string(), "/users/me");
}

async fn of_conflicting_routes_put_at_once_one_is_made(bench: &Bench) {
    bench.store.namespace_create(&namespace("shop"), None).await.unwrap();
    let put = async |n: usize| bench.store.route_put(&route(&format!("r{n}"), "/same", |_| {}), false).await;
    let made = futures::future::join_all((0..4).map(put)).await;
    assert_eq!(made.iter().filter(|made| made.is_ok()).count(), 1);
    for lost in made.into_iter().filter(Result::is_err) {
        refused(lost, ErrorCode::AlreadyExists);
    }
}

async fn a_route_names_what_is_there(bench: &Bench) {
    let (pay, store) = (function("shop", "pay"), &bench.store);
    deploy(bench, &function("bank", "vault")).await;
    deploy(bench, &pay).await;
    refused(
        store.route_put(&route("x", "/", |route| route.target = calling("vault")), false).await,
        ErrorCode::NotFound,
    );
    let on_host = route("x", "/", |route| (route.target, route.host) = (calling("pay"), "*.example.com".into()));
    let message = refused(store.route_put(&on_host, false).await, ErrorCode::FailedPrecondition);
    assert!(message.contains("*.example.com is on no domain of namespace shop"), "{message}");
    store.domain_create(&domain("bank", "bank.example")).await.unwrap();
    store.domain_create(&domain("shop", "example.com")).await.unwrap();
    store.route_put(&on_host, false).await.unwrap();
    let message = refused(store.function_delete(&pay, "").await, ErrorCode::FailedPrecondition);
    assert_eq!(message, "function pay is named by the routes x");
    let owned = domain("shop", "example.com").name;
    refused(store.domain_delete(&owned).await, ErrorCode::FailedPrecondition);
    // Where another domain still holds the host, nothing is lost.
    store.domain_create(&domain("shop", "shop.example.com")).await.unwrap();
    refused(store.domain_delete(&owned).await, ErrorCode::FailedPrecondition);
    store.domain_delete(&domain("shop", "shop.example.com").name).await.unwrap();
    store.route_delete(&on_host.name).await.unwrap();
    store.domain_delete(&owned).await.unwrap();
    // An authorizer is named, too.
    let asking = |by: &str| {
        route("x", "/", |route| {
            (route.target, route.auth) = (calling("pay"), v1::RouteAuth::Authorizer.into());
            route.authorizer = Some(v1::Authorizer { function: by.into(), ..Default::default() });
        })
    };
    refused(store.route_put(&asking("vault"), false).await, ErrorCode::NotFound);
    let verify = function("shop", "verify");
    deploy(bench, &verify).await;
    store.route_put(&asking("verify"), false).await.unwrap();
    let message = refused(store.function_delete(&verify, "").await, ErrorCode::FailedPrecondition);
    assert_eq!(message, "function verify is named by the routes x");
    store.route_delete(&asking("verify").name).await.unwrap();
    store.function_delete(&verify, "").await.unwrap();
    store.function_delete(&pay, "").await.unwrap();
}

async fn a_domain_belongs_to_one_namespace_with_all_below_it(bench: &Bench) {
    let store = &bench.store;
    refused(store.domain_create(&domain("shop", "example.com")).await, ErrorCode::NotFound);
    for name in ["shop", "bank"] {
        store.namespace_create(&namespace(name), None).await.unwrap();
    }
    let first = domain("shop", "api.example.com");
    store.domain_create(&first).await.unwrap();
    refused(store.domain_create(&first).await, ErrorCode::AlreadyExists);
    let before = config_version(bench).await;
    for taken in ["api.example.com", "v1.api.example.com", "example.com"] {
        let message = refused(store.domain_create(&domain("bank", taken)).await, ErrorCode::AlreadyExists);
        assert!(message.contains(taken) && !message.contains("shop"), "{message}");
    }
    assert_eq!(config_version(bench).await, before, "what changes nothing counts nothing");
    store.domain_create(&domain("bank", "example.org")).await.unwrap();
    store.domain_create(&domain("bank", "xapi.example.com")).await.unwrap();
    store.domain_create(&domain("shop", "v1.api.example.com")).await.unwrap();
    let found = store.domain_list(&first.name.namespace, "", 9).await.unwrap();
    assert_eq!(found, [first.clone(), domain("shop", "v1.api.example.com")]);
    refused(store.domain_delete(&domain("bank", "api.example.com").name).await, ErrorCode::NotFound);
    store.domain_delete(&first.name).await.unwrap();
    assert_eq!(store.catalog_load(Time(0)).await.unwrap().core.domains.len(), 3);
}

async fn of_namespaces_that_ask_at_once_one_gets_the_domain(bench: &Bench) {
    let names = ["one", "two", "three", "four"];
    for name in names {
        bench.store.namespace_create(&namespace(name), None).await.unwrap();
    }
    let ask = async |(at, name): (usize, &str)| {
        let wanted = if at % 2 == 0 { "example.com" } else { "api.example.com" };
        bench.store.domain_create(&domain(name, wanted)).await
    };
    let given = futures::future::join_all(names.into_iter().enumerate().map(ask)).await;
    assert_eq!(given.iter().filter(|given| given.is_ok()).count(), 1, "{given:?}");
}

async fn a_namespace_goes_with_its_routes_and_domains(bench: &Bench) {
    let shop = namespace("shop");
    bench.store.namespace_create(&shop, None).await.unwrap();
    bench.store.route_put(&route("a", "/a", |_| {}), false).await.unwrap();
    bench.store.domain_create(&domain("shop", "example.com")).await.unwrap();
    bench.store.namespace_delete(&shop.name).await.unwrap();
    let left = bench.store.catalog_load(Time(0)).await.unwrap();
    assert!(left.routes.is_empty() && left.core.domains.is_empty());
}

async fn a_function_is_disabled_and_enabled(bench: &Bench) {
    let pay = function("shop", "pay");
    deploy(bench, &pay).await;
    let change = |direct, disabled| FunctionChange { direct, disabled, ..FunctionChange::default() };
    let flags = async |change| {
        let changed = bench.store.function_update(&pay, "", &change).await.unwrap();
        assert_eq!(bench.store.function_fetch(&pay).await.unwrap(), changed);
        (changed.direct, changed.disabled)
    };
    assert_eq!(flags(change(None, Some(true))).await, (false, true));
    assert_eq!(flags(change(Some(true), None)).await, (true, true));
    assert_eq!(flags(change(None, Some(false))).await, (true, false));
    // A deploy leaves both as they are, or says what `direct` shall be.
    deploy(bench, &pay).await;
    assert_eq!(flags(change(None, None)).await, (true, false));
    let policy = crate::model::Policy { direct: Some(false), ..Default::default() };
    let again = crate::store::NewVersion { policy, ..super::new_version(&pay) };
    let version = bench.store.version_create(&again, None).await.unwrap();
    bench.store.version_activate(&version.name()).await.unwrap();
    assert_eq!(flags(change(None, None)).await, (false, false));
}

fn import(api: &str, prune: bool, routes: &[(&str, &str)]) -> Import {
    let of_api = |wire: &mut v1::Route| wire.api = api.into();
    Import {
        namespace: "shop".parse().unwrap(),
        api: api.parse().unwrap(),
        routes: routes.iter().map(|(name, path)| route(name, path, of_api)).collect(),
        prune,
        validate_only: false,
        creator: "zoe".into(),
    }
}

async fn names(bench: &Bench) -> Vec<String> {
    let routes = bench.store.route_list(&"shop".parse().unwrap(), "", 99).await.unwrap();
    routes.into_iter().map(|route| route.name.route.to_string()).collect()
}

async fn an_import_is_whole_or_nothing(bench: &Bench) {
    let store = &bench.store;
    store.namespace_create(&namespace("shop"), None).await.unwrap();
    store.route_put(&route("mine", "/users/{id}", |_| {}), false).await.unwrap();
    let before = config_version(bench).await;
    for (routes, code, words) in [
        (
            &[("a", "/a"), ("b", "/users/{name}")][..],
            ErrorCode::AlreadyExists,
            ["route b (/users/{name})", "route mine (/users/{id})"],
        ),
        (&[("a", "/a"), ("b", "/{x}"), ("c", "/{y}")], ErrorCode::AlreadyExists, ["route b (/{x})", "route c (/{y})"]),
        (&[("a", "/a"), ("mine", "/m")], ErrorCode::AlreadyExists, ["route mine (/users/{id})", "was put alone"]),
        (&[("a", "/a"), ("a", "/b")], ErrorCode::InvalidArgument, ["route a", "twice"]),
    ] {
        let message = refused(store.routes_import(&import("pets", true, routes)).await, code);
        assert!(words.iter().all(|word| message.contains(word)), "{message}");
        assert_eq!((names(bench).await, config_version(bench).await), (vec!["mine".to_owned()], before));
    }
    let mut missing = import("pets", false, &[("a", "/a"), ("b", "/b")]);
    missing.routes[1] = route("b", "/b", |route| route.target = calling("nothing"));
    assert!(refused(store.routes_import(&missing).await, ErrorCode::NotFound).starts_with("route b: "));
    let tried = Import { validate_only: true, ..import("pets", false, &[("a", "/a")]) };
    assert_eq!(store.routes_import(&tried).await.unwrap().routes.len(), 1);
    assert_eq!((names(bench).await, config_version(bench).await), (vec!["mine".to_owned()], before));
}

async fn an_import_changes_its_own_routes_alone(bench: &Bench) {
    let store = &bench.store;
    store.namespace_create(&namespace("shop"), None).await.unwrap();
    store.routes_import(&import("other", false, &[("o", "/o")])).await.unwrap();
    let first = import("pets", false, &[("a", "/a"), ("b", "/b")]);
    store.routes_import(&first).await.unwrap();
    let before = config_version(bench).await;
    store.routes_import(&first).await.unwrap();
    assert_eq!(config_version(bench).await, before, "the same again changes nothing");
    // A route may take the path of one that goes in the same step.
    let second = import("pets", true, &[("b", "/b2"), ("c", "/a")]);
    let done = store.routes_import(&second).await.unwrap();
    assert_eq!((done.deleted[0].as_str(), config_version(bench).await), ("a", before + 1));
    assert_eq!(names(bench).await, ["b", "c", "o"]);
    let message = refused(store.routes_import(&import("pets", true, &[("o", "/x")])).await, ErrorCode::AlreadyExists);
    assert!(message.contains("belongs to the API other"), "{message}");
}
