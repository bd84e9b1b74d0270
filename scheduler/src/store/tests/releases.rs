//! Releases: each change of what callers get makes one, and going back to one is whole or nothing.

use std::time::Duration;

use dunlin_proto::{
    ErrorCode,
    model::Sticky,
    names::{AliasName, ReleaseName},
    v1,
};

use super::{Bench, config_version, conformance, deploy, function, namespace, new_version, number, refused, request};
use crate::{
    collection::Keeping,
    model::{DomainRecord, DomainTls, Policy, ProofKind, RouteRecord, Share, Time},
    releases::Contents,
    store::{AliasChange, FunctionChange, Import, NewVersion, Store},
};

conformance!(
    every_change_of_what_callers_get_makes_one_release,
    what_changes_nothing_for_callers_makes_none,
    changes_at_once_are_numbered_without_gaps,
    a_release_says_who_did_what,
    the_last_ones_are_kept,
    what_there_was_is_the_first_release,
    everything_comes_back_in_one_release,
    what_a_release_did_not_have_is_not_called_after_it,
    going_back_to_what_callers_get_is_no_release,
    a_repeated_rollback_does_nothing_more,
    what_is_gone_does_not_come_back_and_nothing_is_half_done,
    old_versions_go_and_what_somebody_may_get_stays,
    of_a_promotion_and_a_collection_at_once_one_finds_the_other,
);

fn release(number: u32) -> ReleaseName {
    format!("namespaces/shop/releases/{number}").parse().unwrap()
}

fn alias(name: &str) -> AliasName {
    format!("namespaces/shop/functions/till/aliases/{name}").parse().unwrap()
}

fn shares(shares: &[(u32, u32)]) -> AliasChange {
    let shares = shares.iter().map(|(version, percent)| Share(number(*version), *percent)).collect();
    AliasChange { shares, sticky: None }
}

fn route(name: &str, path: &str, change: impl FnOnce(&mut v1::Route)) -> RouteRecord {
    let target = v1::FunctionTarget { function: "till".into(), ..Default::default() };
    let target = Some(v1::route::Target::Function(target));
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

async fn count(bench: &Bench) -> u32 {
    let listed = bench.store.release_list(&"shop".parse().unwrap(), i64::MAX, 1_000).await.unwrap();
    let numbers: Vec<_> = listed.iter().map(|release| release.number).collect();
    let newest = numbers.first().copied().unwrap_or(0);
    let last = numbers.last().copied().unwrap_or(1);
    assert_eq!(numbers, (last..=newest).rev().collect::<Vec<_>>(), "they follow each other");
    newest
}

async fn contents(bench: &Bench, number: u32) -> Contents {
    bench.store.release_fetch(&release(number)).await.unwrap().1
}

async fn every_change_of_what_callers_get_makes_one_release(bench: &Bench) {
    let (store, till) = (&bench.store, function("shop", "till"));
    let mut expected = 0;
    macro_rules! one {
        ($change:expr) => {
            $change.await.unwrap();
            expected += 1;
            assert_eq!(count(bench).await, expected, "{}", stringify!($change));
        };
    }
    store.namespace_create(&namespace("shop"), None).await.unwrap();
    one!(async { Ok::<_, ()>(deploy(bench, &till).await) });
    one!(async { Ok::<_, ()>(deploy(bench, &till).await) });
    one!(store.alias_set(&alias("live"), "", &shares(&[(1, 90), (2, 10)])));
    one!(store.alias_promote(&alias("live"), None, None));
    one!(store.function_roll_back(&till, None, None, ""));
    one!(store.alias_set(&alias("beta"), "", &shares(&[(2, 100)])));
    let sticky = Sticky { header: None, cookie: true };
    one!(store.alias_set(&alias("beta"), "", &AliasChange { sticky: Some(sticky), ..shares(&[(2, 100)]) }));
    one!(store.route_put(&route("a", "/a", |_| {}), false));
    one!(store.route_put(&route("a", "/b", |_| {}), true));
    one!(store.route_delete(&route("a", "/b", |_| {}).name));
    let api = |wire: &mut v1::Route| wire.api = "pets".into();
    let import = Import {
        namespace: "shop".parse().unwrap(),
        api: "pets".parse().unwrap(),
        routes: vec![route("b", "/b", api), route("c", "/c", api)],
        prune: true,
        validate_only: false,
        creator: "zoe".into(),
    };
    one!(store.routes_import(&import));
    one!(store.routes_import(&Import { routes: Vec::new(), ..import }));
    one!(store.alias_delete(&alias("beta")));
    for change in [
        FunctionChange { public: Some(true), ..FunctionChange::default() },
        FunctionChange { direct: Some(true), ..FunctionChange::default() },
        FunctionChange { disabled: Some(true), ..FunctionChange::default() },
        FunctionChange { traffic: Some(vec![Share(number(2), 100)]), ..FunctionChange::default() },
    ] {
        one!(store.function_update(&till, "", &change));
    }
    let policy = Policy { public: Some(false), ..Policy::default() };
    let held = NewVersion { activation: false, policy, ..new_version(&till) };
    let held = store.version_create(&held, None).await.unwrap();
    one!(store.alias_promote(&alias("live"), Some(held.number), None));
    one!(store.function_delete(&till, ""));
    assert_eq!(contents(bench, expected).await, Contents::default());
}

async fn what_changes_nothing_for_callers_makes_none(bench: &Bench) {
    let (store, till) = (&bench.store, function("shop", "till"));
    store.namespace_create(&namespace("shop"), None).await.unwrap();
    let held = NewVersion { activation: false, ..new_version(&till) };
    store.version_create(&held, None).await.unwrap();
    assert_eq!(count(bench).await, 0, "nobody can call it");
    store.function_delete(&till, "").await.unwrap();
    assert_eq!(count(bench).await, 0);
    deploy(bench, &till).await;
    store.route_put(&route("a", "/a", |_| {}), false).await.unwrap();
    assert_eq!(count(bench).await, 2);
    let said = FunctionChange { description: Some("x".into()), public: Some(false), ..FunctionChange::default() };
    store.function_update(&till, "", &said).await.unwrap();
    store.alias_set(&alias("live"), "", &shares(&[(1, 100)])).await.unwrap();
    store.alias_promote(&alias("live"), Some(number(1)), None).await.unwrap();
    store.route_put(&route("a", "/a", |_| {}), true).await.unwrap();
    store.version_create(&held, None).await.unwrap();
    refused(store.alias_set(&alias("live"), "", &shares(&[(9, 100)])).await, ErrorCode::NotFound);
    assert_eq!(count(bench).await, 2);
}

async fn changes_at_once_are_numbered_without_gaps(bench: &Bench) {
    let store = &bench.store;
    deploy(bench, &function("shop", "till")).await;
    let everything = shares(&[(1, 100)]);
    let names: Vec<_> = (0..4).map(|n| alias(&format!("a{n}"))).collect();
    let routes: Vec<_> = (0..4).map(|n| route(&format!("r{n}"), &format!("/r{n}"), |_| {})).collect();
    let aliases = futures::future::join_all(names.iter().map(|name| store.alias_set(name, "", &everything)));
    let put = futures::future::join_all(routes.iter().map(|route| store.route_put(route, false)));
    let others = futures::future::join_all((0..2).map(|n| {
        let name = function("shop", &format!("f{n}"));
        async move { deploy(bench, &name).await }
    }));
    let (aliases, put, _) = tokio::join!(aliases, put, others);
    assert!(aliases.iter().all(Result::is_ok) && put.iter().all(Result::is_ok));
    assert_eq!(count(bench).await, 11);
    let last = contents(bench, 11).await;
    assert_eq!((last.functions.len(), last.routes.len()), (3, 4));
    assert_eq!(last.functions[&"till".parse().unwrap()].aliases.len(), 4);
}

async fn a_release_says_who_did_what(bench: &Bench) {
    let store = &bench.store;
    deploy(bench, &function("shop", "till")).await;
    store.acting("ada").alias_set(&alias("beta"), "", &shares(&[(1, 100)])).await.unwrap();
    let listed = store.release_list(&"shop".parse().unwrap(), i64::MAX, 10).await.unwrap();
    let said: Vec<_> = listed.iter().map(|it| (it.number, it.cause.as_str(), it.actor.as_str())).collect();
    assert_eq!(said, [(2, "divide till:beta: v1=100", "ada"), (1, "deploy till@1", "")]);
    assert_eq!(store.release_list(&"shop".parse().unwrap(), 2, 10).await.unwrap().len(), 1);
    refused(store.release_list(&"none".parse().unwrap(), 2, 10).await, ErrorCode::NotFound);
    let message = refused(store.release_fetch(&release(3)).await, ErrorCode::NotFound);
    assert!(message.contains("releases/3"), "{message}");
    assert_eq!(contents(bench, 1).await.functions[&"till".parse().unwrap()].aliases.len(), 0, "it never changes");
}

async fn the_last_ones_are_kept(bench: &Bench) {
    let store = &bench.store;
    deploy(bench, &function("shop", "till")).await;
    store.route_put(&route("a", "/a", |_| {}), false).await.unwrap();
    for n in 0..110_u32 {
        let disabled = FunctionChange { disabled: Some(n % 2 == 0), ..FunctionChange::default() };
        store.function_update(&function("shop", "till"), "", &disabled).await.unwrap();
    }
    assert_eq!(count(bench).await, 112);
    let kept = store.release_list(&"shop".parse().unwrap(), i64::MAX, 1_000).await.unwrap();
    assert_eq!((kept.len(), kept.last().unwrap().number), (100, 13));
    refused(store.release_fetch(&release(12)).await, ErrorCode::NotFound);
    refused(store.release_restore(&release(12), None).await, ErrorCode::NotFound);
    for (number, disabled) in [(13, true), (14, false), (112, false)] {
        let contents = contents(bench, number).await;
        let state = &contents.functions[&"till".parse().unwrap()];
        assert_eq!((state.disabled, contents.routes.len()), (disabled, 1), "{number}");
    }
}

async fn what_there_was_is_the_first_release(bench: &Bench) {
    let store = &bench.store;
    deploy(bench, &function("shop", "till")).await;
    store.namespace_create(&namespace("idle"), None).await.unwrap();
    // The database of a software without releases, although with everything that came beside them.
    for undone in ["DROP TABLE releases", "DROP TABLE release_parts", "DELETE FROM _sqlx_migrations WHERE version = 11"]
    {
        sqlx::query(undone).execute(&store.pool).await.unwrap();
    }
    Store::open(&bench.database).await.unwrap().close().await;
    for _ in 0..2 {
        store.releases_begin().await.unwrap();
        assert_eq!(count(bench).await, 1);
    }
    assert!(store.release_list(&"idle".parse().unwrap(), i64::MAX, 10).await.unwrap().is_empty());
    assert_eq!(contents(bench, 1).await.functions.len(), 1);
}

async fn everything_comes_back_in_one_release(bench: &Bench) {
    let (store, till) = (&bench.store, function("shop", "till"));
    for _ in 0..2 {
        deploy(bench, &till).await;
    }
    deploy(bench, &function("shop", "stock")).await;
    store.alias_set(&alias("live"), "", &shares(&[(1, 90), (2, 10)])).await.unwrap();
    store.alias_set(&alias("beta"), "", &shares(&[(2, 100)])).await.unwrap();
    let beta = |wire: &mut v1::Route| {
        let target = v1::FunctionTarget { function: "till".into(), alias: "beta".into(), ..Default::default() };
        wire.target = Some(v1::route::Target::Function(target));
    };
    store.route_put(&route("a", "/a", beta), false).await.unwrap();
    store.route_put(&route("b", "/b", |_| {}), false).await.unwrap();
    let then = count(bench).await;
    // Everything is changed: what it names, what it is, and that it is there.
    store.alias_promote(&alias("live"), None, None).await.unwrap();
    store.route_delete(&route("a", "/a", beta).name).await.unwrap();
    store.alias_delete(&alias("beta")).await.unwrap();
    store.alias_set(&alias("gamma"), "", &shares(&[(1, 100)])).await.unwrap();
    store.route_put(&route("b", "/b/{id}", |_| {}), true).await.unwrap();
    store.route_put(&route("c", "/a", |_| {}), false).await.unwrap();
    let public = FunctionChange { public: Some(true), disabled: Some(true), ..FunctionChange::default() };
    store.function_update(&function("shop", "stock"), "", &public).await.unwrap();
    let (before, config) = (count(bench).await, config_version(bench).await);
    let newest = store.acting("ada").release_restore(&release(then), None).await.unwrap();
    assert_eq!((newest.number, newest.actor.as_str()), (before + 1, "ada"));
    assert_eq!(newest.cause, format!("roll back to release {then}"));
    assert_eq!((count(bench).await, config_version(bench).await), (before + 1, config + 1), "one snapshot");
    assert_eq!(contents(bench, before + 1).await, contents(bench, then).await);
    assert_eq!(store.function_fetch(&till).await.unwrap().traffic, shares(&[(1, 90), (2, 10)]).shares);
    assert_eq!(store.alias_list(&till).await.unwrap().len(), 2);
    assert_eq!(store.route_fetch(&route("a", "/a", beta).name).await.unwrap().spec, route("a", "/a", beta).spec);
    refused(store.route_fetch(&route("c", "/a", |_| {}).name).await, ErrorCode::NotFound);
    assert!(!store.function_fetch(&function("shop", "stock")).await.unwrap().disabled);
    // And forth again.
    store.release_restore(&release(before), None).await.unwrap();
    assert_eq!(contents(bench, before + 2).await, contents(bench, before).await);
}

async fn what_a_release_did_not_have_is_not_called_after_it(bench: &Bench) {
    let (store, late) = (&bench.store, function("shop", "late"));
    deploy(bench, &function("shop", "till")).await;
    deploy(bench, &late).await;
    let beta: AliasName = "namespaces/shop/functions/late/aliases/beta".parse().unwrap();
    store.alias_set(&beta, "", &shares(&[(1, 100)])).await.unwrap();
    store.release_restore(&release(1), None).await.unwrap();
    let record = store.function_fetch(&late).await.unwrap();
    assert!(record.traffic.is_empty() && store.alias_list(&late).await.unwrap().len() == 1);
    assert_eq!(contents(bench, 4).await, contents(bench, 1).await);
    store.release_restore(&release(3), None).await.unwrap();
    assert_eq!(store.function_fetch(&late).await.unwrap().full(), Some(number(1)));
    assert_eq!(store.alias_list(&late).await.unwrap().len(), 2);
}

async fn going_back_to_what_callers_get_is_no_release(bench: &Bench) {
    let store = &bench.store;
    deploy(bench, &function("shop", "till")).await;
    let disabled = async |disabled| {
        let change = FunctionChange { disabled: Some(disabled), ..FunctionChange::default() };
        store.function_update(&function("shop", "till"), "", &change).await.unwrap();
    };
    disabled(true).await;
    disabled(false).await;
    let config = config_version(bench).await;
    for number in [1, 3] {
        assert_eq!(store.release_restore(&release(number), None).await.unwrap().number, 3);
    }
    assert_eq!((count(bench).await, config_version(bench).await), (3, config));
}

async fn a_repeated_rollback_does_nothing_more(bench: &Bench) {
    let store = &bench.store;
    deploy(bench, &function("shop", "till")).await;
    deploy(bench, &function("shop", "till")).await;
    let key = request("shop", "release 1");
    assert_eq!(store.release_restore(&release(1), Some(&key)).await.unwrap().number, 3);
    store.release_restore(&release(2), None).await.unwrap();
    assert_eq!(store.release_restore(&release(1), Some(&key)).await.unwrap().number, 3);
    assert_eq!(count(bench).await, 4);
    assert_eq!(store.function_fetch(&function("shop", "till")).await.unwrap().full(), Some(number(2)));
}

async fn what_is_gone_does_not_come_back_and_nothing_is_half_done(bench: &Bench) {
    let (store, till) = (&bench.store, function("shop", "till"));
    deploy(bench, &till).await;
    let name = "namespaces/shop/domains/shop.example".parse().unwrap();
    let domain = DomainRecord {
        name,
        creator: "zoe".into(),
        create_time: Time(1),
        tls: DomainTls::None,
        proof: ProofKind::Vouched,
    };
    store.domain_create(&domain).await.unwrap();
    let hosted = route("a", "/a", |wire| wire.host = "shop.example".into());
    store.route_put(&hosted, false).await.unwrap();
    store.route_delete(&hosted.name).await.unwrap();
    store.domain_delete(&domain.name).await.unwrap();
    deploy(bench, &function("shop", "verify")).await;
    let asking = route("b", "/b", |wire| {
        wire.auth = v1::RouteAuth::Authorizer.into();
        wire.authorizer = Some(v1::Authorizer { function: "verify".into(), ..Default::default() });
    });
    store.route_put(&asking, false).await.unwrap();
    store.route_delete(&asking.name).await.unwrap();
    store.function_delete(&function("shop", "verify"), "").await.unwrap();
    deploy(bench, &till).await;
    deploy(bench, &till).await;
    sqlx::query("DELETE FROM versions WHERE number = 2").execute(&store.pool).await.unwrap();
    let newest = count(bench).await;
    let (config, before) = (config_version(bench).await, contents(bench, newest).await);
    let refusals = [(2, "route a: the host shop.example"), (5, "function verify has been deleted"), (8, "versions/2")];
    for (number, expected) in refusals {
        let message = refused(store.release_restore(&release(number), None).await, ErrorCode::FailedPrecondition);
        assert!(message.contains(expected) && message.contains(&format!("release {number} ")), "{message}");
    }
    deploy(bench, &function("shop", "verify")).await;
    let message = refused(store.release_restore(&release(5), None).await, ErrorCode::FailedPrecondition);
    assert!(message.contains("verify has been deleted and made again"), "{message}");
    store.function_delete(&function("shop", "verify"), "").await.unwrap();
    assert_eq!((count(bench).await, contents(bench, newest).await), (newest + 2, before.clone()));
    assert_eq!((config_version(bench).await, contents(bench, newest + 2).await), (config + 3, before));
}

async fn numbers(bench: &Bench) -> Vec<u32> {
    let listed = bench.store.version_list(&function("shop", "till"), i64::MAX, 1_000).await.unwrap();
    listed.iter().rev().map(|version| version.number.get()).collect()
}

const HOUR: Duration = Duration::from_secs(3600);
const KEEPING: Keeping = Keeping { count: 2, age: HOUR, usage: HOUR, artifacts: HOUR, shares: HOUR };

fn later() -> Time {
    Time::now().after(Duration::from_secs(7200))
}

async fn old_versions_go_and_what_somebody_may_get_stays(bench: &Bench) {
    let (store, till) = (&bench.store, function("shop", "till"));
    for _ in 0..12 {
        deploy(bench, &till).await;
    }
    let held = NewVersion { activation: false, ..new_version(&till) };
    for _ in 0..5 {
        store.version_create(&held, None).await.unwrap();
    }
    // It waits for its traffic.
    let waiting = store.version_create(&new_version(&till), None).await.unwrap();
    for _ in 0..3 {
        store.version_create(&held, None).await.unwrap();
    }
    store.alias_set(&alias("old"), "", &shares(&[(2, 100)])).await.unwrap();
    let config = config_version(bench).await;
    assert!(store.versions_collect(&till, KEEPING, Time::now()).await.unwrap().is_empty(), "none is old");
    let many = Keeping { count: 100, ..KEEPING };
    assert!(store.versions_collect(&till, many, later()).await.unwrap().is_empty(), "there are not many");
    assert_eq!(config_version(bench).await, config);
    let gone = store.versions_collect(&till, KEEPING, later()).await.unwrap();
    // Of 13 releases the last ten are those of the deploys 4 to 12 and of the alias.
    assert_eq!(numbers(bench).await, [2, 4, 5, 6, 7, 8, 9, 10, 11, 12, waiting.number.get(), 20, 21]);
    assert_eq!((gone.len(), config_version(bench).await), (8, config + 1));
    assert_eq!(store.function_fetch(&till).await.unwrap().history.len(), 9 + 1, "nobody is sent back to what is gone");
    let message = refused(store.release_restore(&release(1), None).await, ErrorCode::FailedPrecondition);
    assert!(message.contains("versions/1"), "{message}");
    for number in 4..=13 {
        store.release_restore(&release(number), None).await.unwrap();
    }
}

async fn of_a_promotion_and_a_collection_at_once_one_finds_the_other(bench: &Bench) {
    let (store, till) = (&bench.store, function("shop", "till"));
    store.namespace_create(&namespace("shop"), None).await.unwrap();
    for number in 0..4 {
        let new = NewVersion { activation: number == 0, ..new_version(&till) };
        let version = store.version_create(&new, None).await.unwrap();
        store.version_activate(&version.name()).await.unwrap();
    }
    let live = alias("live");
    let promote = store.alias_promote(&live, Some(number(2)), None);
    let (promoted, gone) = tokio::join!(promote, store.versions_collect(&till, KEEPING, later()));
    let there = numbers(bench).await.contains(&2);
    assert_eq!((promoted.is_ok(), gone.unwrap().contains(&number(2))), (there, !there));
}
