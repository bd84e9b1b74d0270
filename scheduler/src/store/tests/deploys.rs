//! Functions, versions and traffic: numbers, lost updates, rollbacks.

use dunlin_proto::ErrorCode;

use super::{Bench, config_version, conformance, deploy, function, namespace, new_version, number, refused, request};
use crate::{
    model::{Policy, Share, Time, VersionRecord},
    store::{AliasChange, FunctionChange, Move, NewRollout, NewVersion},
};

conformance!(
    versions_are_numbered_in_a_row,
    deploys_at_once_get_consecutive_numbers,
    a_repeated_deploy_finds_its_version,
    traffic_moves_to_the_latest_that_is_ready,
    what_a_version_says_of_its_function_counts_with_all_calls,
    what_is_said_of_a_function_counts_before_what_versions_said,
    a_version_that_gets_no_calls_changes_nothing_of_its_function,
    going_back_to_a_release_brings_its_policies_back,
    a_version_that_comes_back_brings_back_what_counted_with_it,
    an_update_changes_what_it_names,
    a_lost_update_is_refused,
    updates_at_once_all_happen,
    rollbacks_go_back_and_repeat_harmlessly,
    a_deleted_function_leaves_nothing,
    a_version_reads_as_it_was_written,
    what_reuse_was_found_unfit_for_stays,
);

async fn versions_are_numbered_in_a_row(bench: &Bench) {
    let name = function("shop", "checkout");
    for expected in 1..=3 {
        assert_eq!(deploy(bench, &name).await.number, number(expected));
    }
    let listed = bench.store.version_list(&name, i64::MAX, 2).await.unwrap();
    assert_eq!(listed.iter().map(|version| version.number.get()).collect::<Vec<_>>(), [3, 2]);
    let rest = bench.store.version_list(&name, 2, 2).await.unwrap();
    assert_eq!(rest.iter().map(|version| version.number.get()).collect::<Vec<_>>(), [1]);
    assert_eq!(bench.store.function_fetch(&name).await.unwrap().latest_version, 3);
    assert_eq!(bench.store.function_count(&name.namespace).await.unwrap(), 1);
}

async fn deploys_at_once_get_consecutive_numbers(bench: &Bench) {
    let name = function("shop", "checkout");
    bench.store.namespace_create(&namespace("shop"), None).await.unwrap();
    let deploys = (0..10).map(|_| async { bench.store.version_create(&new_version(&name), None).await.unwrap() });
    let mut numbers: Vec<_> = futures::future::join_all(deploys).await.iter().map(|v| v.number.get()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=10).collect::<Vec<_>>());
}

async fn a_repeated_deploy_finds_its_version(bench: &Bench) {
    let name = function("shop", "checkout");
    bench.store.namespace_create(&namespace("shop"), None).await.unwrap();
    let key = request("shop", "a");
    let deploys = (0..4).map(|_| async { bench.store.version_create(&new_version(&name), Some(&key)).await.unwrap() });
    for version in futures::future::join_all(deploys).await {
        assert_eq!(version.number, number(1));
    }
    let other = crate::store::RequestKey { payload: dunlin_proto::ids::Digest::of(b"b"), ..key };
    let message =
        refused(bench.store.version_create(&new_version(&name), Some(&other)).await, ErrorCode::InvalidArgument);
    assert!(message.contains("has been used for another request"), "{message}");
    // The same id in another namespace is another request.
    bench.store.namespace_create(&namespace("other"), None).await.unwrap();
    let other = crate::store::RequestKey { id: other.id, ..request("other", "b") };
    bench.store.version_create(&new_version(&function("other", "checkout")), Some(&other)).await.unwrap();
}

async fn traffic_moves_to_the_latest_that_is_ready(bench: &Bench) {
    let name = function("shop", "checkout");
    bench.store.namespace_create(&namespace("shop"), None).await.unwrap();
    for _ in 0..2 {
        bench.store.version_create(&new_version(&name), None).await.unwrap();
    }
    assert!(bench.store.function_fetch(&name).await.unwrap().traffic.is_empty());
    bench.store.version_activate(&name.version(number(2))).await.unwrap();
    bench.store.version_activate(&name.version(number(1))).await.unwrap();
    let function = bench.store.function_fetch(&name).await.unwrap();
    assert_eq!(function.traffic, [Share(number(2), 100)], "the slower one comes too late");
    assert!(!bench.store.version_fetch(&name.version(number(1))).await.unwrap().activation);
    let before = config_version(bench).await;
    bench.store.version_activate(&name.version(number(2))).await.unwrap();
    assert_eq!(config_version(bench).await, before);
    let held = bench.store.version_create(&new_version(&name), None).await.unwrap();
    bench.store.version_hold(held.key(), &held.name()).await.unwrap();
    bench.store.version_activate(&held.name()).await.unwrap();
    assert_eq!(bench.store.function_fetch(&name).await.unwrap().full(), Some(number(2)));
}

/// A version of `shop/checkout` that says this of its function, and waits for calls.
async fn held(bench: &Bench, public: Option<bool>, direct: Option<bool>) -> VersionRecord {
    let policy = Policy { public, direct };
    let new = NewVersion { activation: false, policy, ..new_version(&function("shop", "checkout")) };
    bench.store.version_create(&new, None).await.unwrap()
}

/// Whether `shop/checkout` is public and direct.
async fn policy(bench: &Bench) -> (bool, bool) {
    let function = bench.store.function_fetch(&function("shop", "checkout")).await.unwrap();
    (function.public, function.direct)
}

async fn promote(bench: &Bench, version: &VersionRecord) {
    let live = function("shop", "checkout").alias("live".parse().unwrap());
    bench.store.alias_promote(&live, Some(version.number), None).await.unwrap();
}

async fn what_a_version_says_of_its_function_counts_with_all_calls(bench: &Bench) {
    let (store, name) = (&bench.store, function("shop", "checkout"));
    store.namespace_create(&namespace("shop"), None).await.unwrap();
    let first = held(bench, Some(true), None).await;
    assert_eq!(policy(bench).await, (true, false), "nobody can call it yet");
    assert_eq!(first.policy, Policy::default());
    promote(bench, &first).await;
    // A part of the calls is not all of them.
    let second = held(bench, Some(false), Some(true)).await;
    let live = name.alias("live".parse().unwrap());
    let shares = vec![Share(first.number, 50), Share(second.number, 50)];
    store.alias_set(&live, "", &AliasChange { shares, sticky: None }).await.unwrap();
    assert_eq!(policy(bench).await, (true, false));
    assert_eq!(store.version_fetch(&second.name()).await.unwrap().policy.public, Some(false));
    promote(bench, &second).await;
    assert_eq!(policy(bench).await, (false, true));
    assert_eq!(store.version_fetch(&second.name()).await.unwrap().policy, Policy::default());
    // A rollout, up to its end.
    let third = held(bench, Some(true), None).await;
    let rollout = NewRollout {
        namespace: name.namespace.clone(),
        targets: vec![(name.clone(), Some(third.number))],
        steps: vec![10],
        step_time: std::time::Duration::from_secs(60),
        routes: None,
        step_calls: 500,
        creator: "zoe".into(),
    };
    let begun = store.rollout_start(&rollout).await.unwrap();
    assert_eq!(policy(bench).await, (false, true));
    store.rollout_move(&begun, &Move::Advance).await.unwrap().unwrap();
    assert_eq!(policy(bench).await, (true, true));
    // A canary that its deploy begins.
    let said = Policy { public: Some(false), direct: Some(false) };
    let canary = NewVersion { canary: Some(10), policy: said, ..new_version(&name) };
    let canary = store.version_create(&canary, None).await.unwrap();
    store.version_activate(&canary.name()).await.unwrap();
    assert_eq!(policy(bench).await, (true, true));
    promote(bench, &canary).await;
    assert_eq!(policy(bench).await, (false, false));
}

async fn what_is_said_of_a_function_counts_before_what_versions_said(bench: &Bench) {
    let (store, name) = (&bench.store, function("shop", "checkout"));
    deploy(bench, &name).await;
    let waiting = held(bench, Some(true), Some(true)).await;
    let private = FunctionChange { public: Some(false), ..FunctionChange::default() };
    store.function_update(&name, "", &private).await.unwrap();
    assert_eq!(store.version_fetch(&waiting.name()).await.unwrap().policy, Policy { public: None, direct: Some(true) });
    promote(bench, &waiting).await;
    assert_eq!(policy(bench).await, (false, true), "it was made private since");
    let last = held(bench, Some(true), None).await;
    let both = FunctionChange { traffic: Some(vec![Share(last.number, 100)]), ..private };
    store.function_update(&name, "", &both).await.unwrap();
    assert_eq!(policy(bench).await, (false, true));
}

async fn a_version_that_gets_no_calls_changes_nothing_of_its_function(bench: &Bench) {
    let (store, name) = (&bench.store, function("shop", "checkout"));
    deploy(bench, &name).await;
    let policy_of = |public| Policy { public: Some(public), direct: None };
    let unfit = NewVersion { policy: policy_of(true), ..new_version(&name) };
    let unfit = store.version_create(&unfit, None).await.unwrap();
    store.version_hold(unfit.key(), &unfit.name()).await.unwrap();
    store.version_activate(&unfit.name()).await.unwrap();
    assert!(!policy(bench).await.0, "no worker could load it");
    let slow = NewVersion { policy: policy_of(true), ..new_version(&name) };
    let slow = store.version_create(&slow, None).await.unwrap();
    deploy(bench, &name).await;
    store.version_activate(&slow.name()).await.unwrap();
    assert!(!policy(bench).await.0, "a later one was faster");
}

async fn going_back_to_a_release_brings_its_policies_back(bench: &Bench) {
    let (store, name) = (&bench.store, function("shop", "checkout"));
    deploy(bench, &name).await;
    let newest = async || store.release_list(&name.namespace, i64::MAX, 1).await.unwrap().remove(0);
    let before = newest().await;
    let open = held(bench, Some(true), Some(true)).await;
    assert_eq!(newest().await, before, "callers get nothing else");
    promote(bench, &open).await;
    let after = newest().await;
    for (release, expected) in [(&before, (false, false)), (&after, (true, true)), (&before, (false, false))] {
        let release = format!("namespaces/shop/releases/{}", release.number).parse().unwrap();
        store.release_restore(&release, None).await.unwrap();
        assert_eq!(policy(bench).await, expected);
    }
    // A version that comes back brings its own, whatever took the calls from it.
    promote(bench, &open).await;
    assert_eq!(policy(bench).await, (true, true));
    // A release says more than what counted when its version last had the calls.
    store.function_update(&name, "", &FunctionChange { public: Some(false), ..Default::default() }).await.unwrap();
    let closed = newest().await;
    store.function_update(&name, "", &FunctionChange { public: Some(true), ..Default::default() }).await.unwrap();
    deploy(bench, &name).await;
    let closed = format!("namespaces/shop/releases/{}", closed.number).parse().unwrap();
    store.release_restore(&closed, None).await.unwrap();
    assert_eq!(policy(bench).await, (false, true));
}

async fn a_version_that_comes_back_brings_back_what_counted_with_it(bench: &Bench) {
    let (store, name) = (&bench.store, function("shop", "checkout"));
    store.namespace_create(&namespace("shop"), None).await.unwrap();
    let first = held(bench, Some(true), None).await;
    promote(bench, &first).await;
    let second = held(bench, None, None).await;
    promote(bench, &second).await;
    let third = held(bench, Some(false), Some(true)).await;
    promote(bench, &third).await;
    assert_eq!(policy(bench).await, (false, true));
    // Past one that said nothing of it, in the release of the rollback.
    store.function_roll_back(&name, Some(first.number), None, "").await.unwrap();
    let newest = store.release_list(&name.namespace, i64::MAX, 1).await.unwrap().remove(0);
    assert_eq!((newest.cause.as_str(), policy(bench).await), ("roll back checkout@1", (true, false)));
    promote(bench, &third).await;
    assert_eq!(policy(bench).await, (false, true));
    // A part of the calls is not all of them, and takes nothing along.
    let live = name.alias("live".parse().unwrap());
    let shares = vec![Share(second.number, 90), Share(third.number, 10)];
    store.alias_set(&live, "", &AliasChange { shares, sticky: None }).await.unwrap();
    assert_eq!(policy(bench).await, (false, true));
    promote(bench, &second).await;
    assert_eq!(policy(bench).await, (true, false));
    // What somebody says of the function itself counts before that, also beside the calls.
    let private = FunctionChange { public: Some(false), ..FunctionChange::default() };
    store.function_update(&name, "", &private).await.unwrap();
    store.function_roll_back(&name, Some(first.number), None, "").await.unwrap();
    assert_eq!(policy(bench).await, (false, false));
    let both = FunctionChange { traffic: Some(vec![Share(third.number, 100)]), public: Some(true), ..private };
    store.function_update(&name, "", &both).await.unwrap();
    assert_eq!(policy(bench).await, (true, true));
    store.function_roll_back(&name, Some(first.number), None, "").await.unwrap();
    assert_eq!(policy(bench).await, (true, false));
}

async fn an_update_changes_what_it_names(bench: &Bench) {
    let name = function("shop", "checkout");
    deploy(bench, &name).await;
    deploy(bench, &name).await;
    let before = bench.store.function_fetch(&name).await.unwrap();
    let traffic = vec![Share(number(1), 90), Share(number(2), 10)];
    let change = FunctionChange { traffic: Some(traffic.clone()), ..FunctionChange::default() };
    let after = bench.store.function_update(&name, "", &change).await.unwrap();
    assert_eq!(
        (after.traffic.clone(), after.public, &after.description),
        (traffic, before.public, &before.description)
    );
    assert!(after.revision > before.revision && after.update_time >= before.update_time);
    assert_eq!(bench.store.function_fetch(&name).await.unwrap(), after);
    let change = FunctionChange { public: Some(true), description: Some("till".into()), ..Default::default() };
    let after = bench.store.function_update(&name, &after.etag(), &change).await.unwrap();
    assert_eq!((after.public, &*after.description), (true, "till"));
    let missing = FunctionChange { traffic: Some(vec![Share(number(9), 100)]), ..FunctionChange::default() };
    let message = refused(bench.store.function_update(&name, "", &missing).await, ErrorCode::NotFound);
    assert!(message.contains("versions/9"), "{message}");
}

async fn a_lost_update_is_refused(bench: &Bench) {
    let name = function("shop", "checkout");
    deploy(bench, &name).await;
    let etag = bench.store.function_fetch(&name).await.unwrap().etag();
    let change = FunctionChange { public: Some(true), ..FunctionChange::default() };
    bench.store.function_update(&name, &etag, &change).await.unwrap();
    refused(bench.store.function_update(&name, &etag, &change).await, ErrorCode::FailedPrecondition);
    refused(bench.store.function_delete(&name, &etag).await, ErrorCode::FailedPrecondition);
    bench.store.function_fetch(&name).await.unwrap();
}

async fn updates_at_once_all_happen(bench: &Bench) {
    let name = function("shop", "checkout");
    deploy(bench, &name).await;
    let before = bench.store.function_fetch(&name).await.unwrap().revision;
    let updates = (0..6).map(|n| {
        let change = FunctionChange { description: Some(n.to_string()), ..FunctionChange::default() };
        let name = &name;
        async move { bench.store.function_update(name, "", &change).await.unwrap() }
    });
    futures::future::join_all(updates).await;
    assert_eq!(bench.store.function_fetch(&name).await.unwrap().revision, before + 6);
}

async fn rollbacks_go_back_and_repeat_harmlessly(bench: &Bench) {
    let name = function("shop", "checkout");
    deploy(bench, &name).await;
    let message = refused(bench.store.function_roll_back(&name, None, None, "").await, ErrorCode::FailedPrecondition);
    assert!(message.contains("no earlier version"), "{message}");
    deploy(bench, &name).await;
    deploy(bench, &name).await;
    let key = request("shop", "back");
    for _ in 0..2 {
        let (function, version) = bench.store.function_roll_back(&name, None, Some(&key), "").await.unwrap();
        assert_eq!((function.full(), version), (Some(number(2)), number(2)));
    }
    let (_, version) = bench.store.function_roll_back(&name, None, None, "").await.unwrap();
    assert_eq!(version, number(1));
    let (function, _) = bench.store.function_roll_back(&name, Some(number(3)), None, "").await.unwrap();
    assert_eq!(function.full(), Some(number(3)));
    refused(bench.store.function_roll_back(&name, Some(number(7)), None, "").await, ErrorCode::NotFound);
}

async fn a_deleted_function_leaves_nothing(bench: &Bench) {
    let name = function("shop", "checkout");
    let first = deploy(bench, &name).await;
    bench.store.function_delete(&name, "").await.unwrap();
    refused(bench.store.version_fetch(&first.name()).await, ErrorCode::NotFound);
    let catalog = bench.store.catalog_load(Time(0)).await.unwrap().core;
    assert!(catalog.functions.is_empty() && catalog.versions.is_empty());
    let second = deploy(bench, &name).await;
    assert_eq!(second.number, number(1));
    assert_ne!(second.uid, first.uid);
}

async fn a_version_reads_as_it_was_written(bench: &Bench) {
    let name = function("shop", "checkout");
    bench.store.namespace_create(&namespace("shop"), None).await.unwrap();
    let mut new = new_version(&name);
    new.spec.environment.insert("GREETING".into(), "it's \"here\"".into());
    new.spec.scaling.max_workers = Some(3);
    (new.policy.public, new.description) = (Some(true), Some("the till".into()));
    let version = bench.store.version_create(&new, None).await.unwrap();
    let read = bench.store.version_fetch(&version.name()).await.unwrap();
    assert_eq!(read, version);
    assert_eq!((&read.spec, &read.imports, &read.note), (&new.spec, &new.imports, &new.note));
    let function = bench.store.function_fetch(&name).await.unwrap();
    assert_eq!((function.public, &*function.description), (true, "the till"));
    bench.store.version_create(&new_version(&name), None).await.unwrap();
    let function = bench.store.function_fetch(&name).await.unwrap();
    assert_eq!((function.public, &*function.description), (true, "the till"), "absent leaves it");
}

async fn what_reuse_was_found_unfit_for_stays(bench: &Bench) {
    let version = deploy(bench, &function("shop", "checkout")).await;
    let other = deploy(bench, &function("shop", "till")).await;
    assert_eq!(version.reuse_refusal, None);
    for (found, known) in [("", ""), ("it fails", "it fails"), ("", "it fails"), ("otherwise", "it fails")] {
        bench.store.version_note_reuse(version.key(), &version.name(), found).await.unwrap();
        let read = bench.store.version_fetch(&version.name()).await.unwrap();
        assert_eq!(read.reuse_refusal.as_deref(), Some(known), "{found:?}");
    }
    assert_eq!(bench.store.version_fetch(&other.name()).await.unwrap().reuse_refusal, None);
}
