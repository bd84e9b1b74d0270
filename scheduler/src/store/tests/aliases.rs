//! Aliases: what they name is there, what names them stays, and callers keep their places.

use dunlin_proto::{ErrorCode, model::Sticky, names::AliasName, v1};

use super::{Bench, config_version, conformance, deploy, function, namespace, new_version, number, refused, request};
use crate::{
    catalog::Catalog,
    model::{RouteRecord, Share, Time},
    store::{AliasChange, NewVersion},
};

conformance!(
    aliases_are_made_changed_listed_and_deleted,
    the_alias_that_every_function_has_is_its_traffic,
    what_an_alias_names_must_be_there_and_nothing_is_half_done,
    a_division_goes_on_until_one_version_has_everything,
    promoting_takes_the_newest_and_repeats_harmlessly,
    changes_of_aliases_at_once_all_happen,
    an_alias_that_a_route_names_stays,
    a_version_of_an_alias_is_kept_ready,
    a_canary_gets_its_part_or_none,
);

fn alias(name: &str) -> AliasName {
    format!("namespaces/shop/functions/till/aliases/{name}").parse().unwrap()
}

fn change(shares: &[(u32, u32)]) -> AliasChange {
    let shares = shares.iter().map(|(version, percent)| Share(number(*version), *percent)).collect();
    AliasChange { shares, sticky: None }
}

async fn with_versions(bench: &Bench, count: usize) {
    for _ in 0..count {
        deploy(bench, &function("shop", "till")).await;
    }
}

async fn aliases_are_made_changed_listed_and_deleted(bench: &Bench) {
    let (store, till) = (&bench.store, function("shop", "till"));
    with_versions(bench, 2).await;
    let before = (config_version(bench).await, store.function_fetch(&till).await.unwrap().etag());
    let made = store.alias_set(&alias("beta"), "", &change(&[(1, 90), (2, 10)])).await.unwrap();
    assert_eq!(made.shares, change(&[(1, 90), (2, 10)]).shares);
    let after = store.function_fetch(&till).await.unwrap();
    assert_eq!((config_version(bench).await, after.etag() == before.1), (before.0 + 1, false));
    refused(store.alias_set(&alias("beta"), &before.1, &change(&[(1, 100)])).await, ErrorCode::FailedPrecondition);
    let sticky = Sticky { header: Some("x-user".into()), cookie: true };
    let told_apart = AliasChange { sticky: Some(sticky.clone()), ..change(&[(1, 50), (2, 50)]) };
    store.alias_set(&alias("beta"), &after.etag(), &told_apart).await.unwrap();
    let kept = store.alias_set(&alias("beta"), "", &change(&[(2, 100)])).await.unwrap();
    assert_eq!((kept.sticky, kept.create_time), (sticky, made.create_time), "what is not said stays");
    store.alias_set(&alias("alpha"), "", &change(&[(1, 100)])).await.unwrap();
    let names = async || {
        let listed = store.alias_list(&till).await.unwrap();
        listed.iter().map(|alias| alias.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(names().await, ["live", "alpha", "beta"]);
    assert_eq!(store.catalog_load(Time(0)).await.unwrap().core.aliases.len(), 2);
    store.alias_delete(&alias("alpha")).await.unwrap();
    refused(store.alias_delete(&alias("alpha")).await, ErrorCode::NotFound);
    assert_eq!(names().await, ["live", "beta"]);
    store.function_delete(&till, "").await.unwrap();
    assert!(store.catalog_load(Time(0)).await.unwrap().core.aliases.is_empty(), "they go with their function");
}

async fn the_alias_that_every_function_has_is_its_traffic(bench: &Bench) {
    let (store, till) = (&bench.store, function("shop", "till"));
    with_versions(bench, 2).await;
    let sticky = Sticky { header: None, cookie: true };
    let divided = AliasChange { sticky: Some(sticky.clone()), ..change(&[(1, 90), (2, 10)]) };
    store.alias_set(&alias("live"), "", &divided).await.unwrap();
    let record = store.function_fetch(&till).await.unwrap();
    assert_eq!((&record.traffic, &record.sticky), (&divided.shares, &sticky));
    assert_eq!(store.alias_list(&till).await.unwrap()[0].shares, divided.shares);
    // A rollback from divided traffic goes to what had all of it.
    let (rolled, to) = store.function_roll_back(&till, None, None, "").await.unwrap();
    assert_eq!((rolled.full(), to), (Some(number(2)), number(2)));
    assert!(store.catalog_load(Time(0)).await.unwrap().core.aliases.is_empty());
}

async fn what_an_alias_names_must_be_there_and_nothing_is_half_done(bench: &Bench) {
    let store = &bench.store;
    store.namespace_create(&namespace("shop"), None).await.unwrap();
    refused(store.alias_set(&alias("beta"), "", &change(&[(1, 100)])).await, ErrorCode::NotFound);
    refused(store.alias_list(&function("shop", "till")).await, ErrorCode::NotFound);
    with_versions(bench, 1).await;
    let before = config_version(bench).await;
    let message = refused(store.alias_set(&alias("beta"), "", &change(&[(1, 90), (9, 10)])).await, ErrorCode::NotFound);
    assert!(message.contains("versions/9"), "{message}");
    let message = refused(store.alias_promote(&alias("beta"), None, None).await, ErrorCode::NotFound);
    assert!(message.contains("aliases/beta"), "{message}");
    refused(store.alias_promote(&alias("live"), Some(number(9)), None).await, ErrorCode::NotFound);
    assert_eq!(config_version(bench).await, before);
    for name in 1..=49 {
        store.alias_set(&alias(&format!("a{name}")), "", &change(&[(1, 100)])).await.unwrap();
    }
    let message =
        refused(store.alias_set(&alias("beta"), "", &change(&[(1, 100)])).await, ErrorCode::FailedPrecondition);
    assert!(message.contains("50 aliases"), "{message}");
    store.alias_set(&alias("a1"), "", &change(&[(1, 100)])).await.unwrap();
}

async fn a_division_goes_on_until_one_version_has_everything(bench: &Bench) {
    let store = &bench.store;
    with_versions(bench, 3).await;
    for name in ["live", "beta"] {
        let set = async |shares: &[(u32, u32)]| {
            store.alias_set(&alias(name), "", &change(shares)).await.unwrap();
            let listed = store.alias_list(&function("shop", "till")).await.unwrap();
            listed.iter().find(|alias| alias.name.as_str() == name).unwrap().division
        };
        set(&[(1, 100)]).await;
        let first = set(&[(1, 90), (2, 10)]).await;
        assert_eq!(set(&[(1, 50), (2, 50)]).await, first);
        assert_eq!(set(&[(2, 90), (3, 10)]).await, first);
        assert_eq!(set(&[(3, 100)]).await, first, "nobody is divided by it any more");
        assert_ne!(set(&[(3, 90), (1, 10)]).await, first, "{name}: the next one has other callers first");
    }
}

async fn promoting_takes_the_newest_and_repeats_harmlessly(bench: &Bench) {
    let store = &bench.store;
    with_versions(bench, 3).await;
    store.alias_set(&alias("live"), "", &change(&[(1, 90), (2, 10)])).await.unwrap();
    let key = request("shop", "promote");
    let (promoted, version) = store.alias_promote(&alias("live"), None, Some(&key)).await.unwrap();
    assert_eq!((promoted.shares, version), (vec![Share(number(2), 100)], number(2)));
    let (again, version) = store.alias_promote(&alias("live"), None, Some(&key)).await.unwrap();
    assert_eq!(
        (again.shares, version),
        (vec![Share(number(2), 100)], number(2)),
        "a repeated request does nothing more"
    );
    let (_, version) = store.alias_promote(&alias("live"), None, None).await.unwrap();
    assert_eq!(version, number(3), "without a division, the function's newest");
    let message = refused(store.alias_promote(&alias("live"), None, None).await, ErrorCode::FailedPrecondition);
    assert!(message.contains("version 3 already"), "{message}");
    let (_, version) = store.alias_promote(&alias("live"), Some(number(1)), None).await.unwrap();
    assert_eq!(version, number(1));
    let (rolled, _) = store.function_roll_back(&function("shop", "till"), None, None, "").await.unwrap();
    assert_eq!(rolled.full(), Some(number(3)), "what was promoted can be rolled back");
}

async fn changes_of_aliases_at_once_all_happen(bench: &Bench) {
    let store = &bench.store;
    with_versions(bench, 1).await;
    let names: Vec<_> = (0..4).map(|n| alias(&format!("a{n}"))).collect();
    let everything = change(&[(1, 100)]);
    let sets = names.iter().map(|name| store.alias_set(name, "", &everything));
    assert!(futures::future::join_all(sets).await.iter().all(Result::is_ok));
    assert_eq!(store.alias_list(&function("shop", "till")).await.unwrap().len(), 5);
}

async fn an_alias_that_a_route_names_stays(bench: &Bench) {
    let store = &bench.store;
    with_versions(bench, 1).await;
    let target = v1::FunctionTarget { function: "till".into(), alias: "beta".into(), ..Default::default() };
    let wire = v1::Route { path: "/x".into(), target: Some(v1::route::Target::Function(target)), ..Default::default() };
    let route = RouteRecord {
        name: "namespaces/shop/routes/x".parse().unwrap(),
        spec: wire.try_into().unwrap(),
        creator: "zoe".into(),
        create_time: Time(1),
        update_time: Time(1),
    };
    let message = refused(store.route_put(&route, false).await, ErrorCode::NotFound);
    assert!(message.contains("aliases/beta"), "{message}");
    store.alias_set(&alias("beta"), "", &change(&[(1, 100)])).await.unwrap();
    store.route_put(&route, false).await.unwrap();
    assert_eq!(store.route_fetch(&route.name).await.unwrap().spec.target.alias().unwrap().as_str(), "beta");
    let message = refused(store.alias_delete(&alias("beta")).await, ErrorCode::FailedPrecondition);
    assert!(message.contains("alias till:beta") && message.contains("routes x"), "{message}");
    assert_eq!(store.alias_list(&function("shop", "till")).await.unwrap().len(), 2);
    store.route_delete(&route.name).await.unwrap();
    store.alias_delete(&alias("beta")).await.unwrap();
}

async fn a_version_of_an_alias_is_kept_ready(bench: &Bench) {
    with_versions(bench, 3).await;
    bench.store.alias_set(&alias("beta"), "", &change(&[(1, 100)])).await.unwrap();
    let catalog = Catalog::from_rows(bench.store.catalog_load(Time(0)).await.unwrap());
    let known = catalog.functions.values().next().unwrap();
    let serves: Vec<_> = (1..=3).map(|version| known.serves(number(version))).collect();
    assert_eq!(serves, [true, false, true]);
    assert!(known.standbys(&known.versions[&number(1)]) > 0 && known.standbys(&known.versions[&number(2)]) == 0);
}

async fn a_canary_gets_its_part_or_none(bench: &Bench) {
    let (store, till) = (&bench.store, function("shop", "till"));
    store.namespace_create(&namespace("shop"), None).await.unwrap();
    let canary = async || {
        let new = NewVersion { canary: Some(10), ..new_version(&till) };
        let version = store.version_create(&new, None).await.unwrap();
        assert_eq!(store.version_fetch(&version.name()).await.unwrap().canary, Some(10));
        store.version_activate(&version.name()).await.map(|()| version.number)
    };
    assert_eq!(canary().await.unwrap(), number(1));
    assert_eq!(store.function_fetch(&till).await.unwrap().full(), Some(number(1)), "the first has everything");
    assert_eq!(canary().await.unwrap(), number(2));
    let traffic = store.function_fetch(&till).await.unwrap().traffic;
    assert_eq!(traffic, [Share(number(1), 90), Share(number(2), 10)]);
    let message = refused(canary().await, ErrorCode::FailedPrecondition);
    assert!(message.contains("v1=90,v2=10"), "{message}");
    assert_eq!(store.function_fetch(&till).await.unwrap().traffic, traffic);
}
