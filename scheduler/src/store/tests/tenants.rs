//! Namespaces, artifacts, keys: who owns what, and that nobody else sees it.

use dunlin_proto::{
    ErrorCode,
    ids::Digest,
    model::{Rate, Retention},
    names::KeyName,
};

use super::{Bench, config_version, conformance, deploy, function, namespace, refused, request};
use crate::{
    keys::Rotation,
    model::{Code, Compiled, KeyRecord, Kind, NamespaceRecord, OldSecret, Time},
    store::{KeyCursor, NamespaceChange, Scope},
};

conformance!(
    namespaces_are_made_listed_and_deleted,
    a_repeated_request_makes_one_namespace,
    a_namespaces_limit_is_changed_and_removed,
    a_namespaces_rate_is_changed_and_removed,
    what_is_kept_of_a_namespace_is_changed_and_removed,
    who_may_hold_parts_of_limits_is_remembered,
    a_namespace_has_what_its_functions_reserve,
    a_namespace_with_functions_stays,
    t46_artifacts_belong_to_who_uploaded_them,
    t46_nothing_is_found_through_another_namespace,
    keys_are_listed_newest_first_and_revoked_once,
    a_key_has_two_secrets_while_it_is_rotated,
    code_is_replaced_by_code_with_its_key,
    t50_texts_come_back_as_they_were,
);

async fn namespaces_are_made_listed_and_deleted(bench: &Bench) {
    for name in ["b", "a", "c"] {
        bench.store.namespace_create(&namespace(name), None).await.unwrap();
    }
    let message = refused(bench.store.namespace_create(&namespace("a"), None).await, ErrorCode::AlreadyExists);
    assert_eq!(message, "namespace a exists already");
    let names =
        |found: Vec<crate::model::NamespaceRecord>| found.into_iter().map(|n| n.name.to_string()).collect::<Vec<_>>();
    assert_eq!(names(bench.store.namespace_list("", 2).await.unwrap()), ["a", "b"]);
    assert_eq!(names(bench.store.namespace_list("b", 2).await.unwrap()), ["c"]);
    let before = config_version(bench).await;
    bench.store.namespace_delete(&"b".parse().unwrap()).await.unwrap();
    assert_eq!(config_version(bench).await, before + 1);
    refused(bench.store.namespace_delete(&"b".parse().unwrap()).await, ErrorCode::NotFound);
    assert_eq!(config_version(bench).await, before + 1, "what changes nothing counts nothing");
}

async fn a_repeated_request_makes_one_namespace(bench: &Bench) {
    let key = crate::store::RequestKey { scope: Scope::Cluster, ..request("x", "shop") };
    let created: Vec<_> = futures::future::join_all(
        (0..4).map(|_| async { bench.store.namespace_create(&namespace("shop"), Some(&key)).await }),
    )
    .await;
    for created in created {
        assert_eq!(created.unwrap().name.as_str(), "shop");
    }
    let other = crate::store::RequestKey { payload: Digest::of(b"other"), ..key };
    refused(bench.store.namespace_create(&namespace("other"), Some(&other)).await, ErrorCode::InvalidArgument);
}

async fn a_namespaces_limit_is_changed_and_removed(bench: &Bench) {
    let shop = namespace("shop");
    let limit = |max_concurrency| NamespaceChange { max_concurrency: Some(max_concurrency), ..Default::default() };
    refused(bench.store.namespace_update(&shop.name, &limit(Some(1))).await, ErrorCode::NotFound);
    let bounded = NamespaceRecord { max_concurrency: Some(7), ..shop.clone() };
    bench.store.namespace_create(&bounded, None).await.unwrap();
    assert_eq!(bench.store.namespace_fetch(&shop.name).await.unwrap(), bounded);
    let before = config_version(bench).await;
    let changed = bench.store.namespace_update(&shop.name, &limit(Some(0))).await.unwrap();
    assert_eq!(changed.max_concurrency, Some(0));
    bench.store.namespace_update(&shop.name, &limit(Some(0))).await.unwrap();
    assert_eq!(config_version(bench).await, before + 1, "what changes nothing counts nothing");
    let words = NamespaceChange { description: Some("sells".into()), ..Default::default() };
    bench.store.namespace_update(&shop.name, &words).await.unwrap();
    let rows = bench.store.catalog_load(Time(0)).await.unwrap().core.namespaces;
    assert_eq!((rows[0].max_concurrency, rows[0].description.as_str()), (Some(0), "sells"));
    bench.store.namespace_update(&shop.name, &limit(None)).await.unwrap();
    assert_eq!(bench.store.namespace_fetch(&shop.name).await.unwrap().max_concurrency, None);
}

async fn what_is_kept_of_a_namespace_is_changed_and_removed(bench: &Bench) {
    let week = Retention { age: Some(std::time::Duration::from_secs(7 * 86_400)), log_bytes: None };
    let shop = NamespaceRecord { retention: week, ..namespace("shop") };
    bench.store.namespace_create(&shop, None).await.unwrap();
    bench.store.namespace_create(&namespace("bank"), None).await.unwrap();
    assert_eq!(bench.store.namespace_fetch(&shop.name).await.unwrap(), shop);
    let before = config_version(bench).await;
    let large = NamespaceChange { log_bytes: Some(Some(200_000_000)), ..Default::default() };
    let both = Retention { log_bytes: Some(200_000_000), ..week };
    assert_eq!(bench.store.namespace_update(&shop.name, &large).await.unwrap().retention, both, "the other one stays");
    assert_eq!(config_version(bench).await, before + 1);
    let rows = bench.store.catalog_load(Time(0)).await.unwrap();
    let catalog = crate::catalog::Catalog::from_rows(rows);
    assert_eq!(*catalog.retentions, [(shop.name.clone(), both)].into(), "who has nothing of its own is not told");
    let none = NamespaceChange { log_retention: Some(None), log_bytes: Some(None), ..Default::default() };
    assert!(!bench.store.namespace_update(&shop.name, &none).await.unwrap().retention.is_set());
    assert!(!bench.store.namespace_list("", 9).await.unwrap().iter().any(|found| found.retention.is_set()));
}

async fn a_namespaces_rate_is_changed_and_removed(bench: &Bench) {
    let rate: Rate = "100/m".parse().unwrap();
    let shop = NamespaceRecord { rate: Some(rate), ..namespace("shop") };
    bench.store.namespace_create(&shop, None).await.unwrap();
    assert_eq!(bench.store.namespace_fetch(&shop.name).await.unwrap(), shop);
    let before = config_version(bench).await;
    let paced = |rate| NamespaceChange { rate: Some(rate), ..Default::default() };
    let faster = Rate { burst: 7, ..rate };
    bench.store.namespace_update(&shop.name, &paced(Some(faster))).await.unwrap();
    assert_eq!(bench.store.catalog_load(Time(0)).await.unwrap().core.namespaces[0].rate, Some(faster));
    let words = NamespaceChange { description: Some("sells".into()), ..Default::default() };
    assert_eq!(bench.store.namespace_update(&shop.name, &words).await.unwrap().rate, Some(faster));
    bench.store.namespace_update(&shop.name, &paced(None)).await.unwrap();
    assert_eq!(bench.store.namespace_fetch(&shop.name).await.unwrap().rate, None);
    assert_eq!(config_version(bench).await, before + 3);
}

async fn who_may_hold_parts_of_limits_is_remembered(bench: &Bench) {
    let gateway = |name: &str| name.parse::<dunlin_proto::ids::GatewayId>().unwrap();
    for name in ["b", "a", "a"] {
        bench.store.holder_add(&gateway(name)).await.unwrap();
    }
    assert_eq!(bench.store.holder_list().await.unwrap(), ["a", "b"].map(gateway).into());
    bench.store.holder_remove(&gateway("a")).await.unwrap();
    bench.store.holder_remove(&gateway("c")).await.unwrap();
    assert_eq!(bench.store.holder_list().await.unwrap(), ["b"].map(gateway).into());
}

async fn a_namespace_has_what_its_functions_reserve(bench: &Bench) {
    let deploy = async |name: &str, reserved| {
        let name = function("shop", name);
        let mut new = super::new_version(&name);
        new.spec.scaling.reserved_concurrency = reserved;
        let made = bench.store.version_create(&new, None).await?;
        bench.store.version_activate(&made.name()).await?;
        Ok::<_, crate::error::Error>(())
    };
    let limit = |max_concurrency| NamespaceChange { max_concurrency: Some(max_concurrency), ..Default::default() };
    let shop = namespace("shop");
    bench.store.namespace_create(&shop, None).await.unwrap();
    refused(deploy("pay", 1).await, ErrorCode::FailedPrecondition);
    bench.store.namespace_update(&shop.name, &limit(Some(10))).await.unwrap();
    deploy("pay", 6).await.unwrap();
    let message = refused(deploy("cart", 5).await, ErrorCode::FailedPrecondition);
    assert!(message.contains("reserve 11 (cart 5, pay 6)"), "{message}");
    refused(bench.store.function_fetch(&function("shop", "cart")).await, ErrorCode::NotFound);
    deploy("cart", 4).await.unwrap();
    // A later version's reservation takes the place of the earlier one's.
    deploy("pay", 3).await.unwrap();
    refused(bench.store.namespace_update(&shop.name, &limit(Some(6))).await, ErrorCode::FailedPrecondition);
    refused(bench.store.namespace_update(&shop.name, &limit(None)).await, ErrorCode::FailedPrecondition);
    bench.store.namespace_update(&shop.name, &limit(Some(7))).await.unwrap();
}

async fn a_namespace_with_functions_stays(bench: &Bench) {
    let name = function("shop", "checkout");
    deploy(bench, &name).await;
    bench.store.artifact_create(&name.namespace, &Digest::of(b"a"), 1).await.unwrap();
    refused(bench.store.namespace_delete(&name.namespace).await, ErrorCode::FailedPrecondition);
    bench.store.function_delete(&name, "").await.unwrap();
    bench.store.namespace_delete(&name.namespace).await.unwrap();
    assert_eq!(bench.store.artifact_use(&name.namespace, &Digest::of(b"a")).await.unwrap(), None);
    refused(bench.store.artifact_create(&name.namespace, &Digest::of(b"a"), 1).await, ErrorCode::NotFound);
    refused(bench.store.version_create(&super::new_version(&name), None).await, ErrorCode::NotFound);
}

async fn t46_artifacts_belong_to_who_uploaded_them(bench: &Bench) {
    let (one, two, digest) = (namespace("one"), namespace("two"), Digest::of(b"wasm"));
    bench.store.namespace_create(&one, None).await.unwrap();
    bench.store.namespace_create(&two, None).await.unwrap();
    bench.store.artifact_create(&one.name, &digest, 4).await.unwrap();
    bench.store.artifact_create(&one.name, &digest, 4).await.unwrap();
    assert_eq!(bench.store.artifact_use(&one.name, &digest).await.unwrap(), Some(4));
    assert_eq!(bench.store.artifact_use(&two.name, &digest).await.unwrap(), None);
    assert!(bench.store.artifact_forget(&digest).await.unwrap());
    assert!(!bench.store.artifact_forget(&digest).await.unwrap(), "it was not known any more");
    assert_eq!(bench.store.artifact_use(&one.name, &digest).await.unwrap(), None);
}

async fn t46_nothing_is_found_through_another_namespace(bench: &Bench) {
    let version = deploy(bench, &function("one", "f")).await;
    deploy(bench, &function("two", "g")).await;
    let foreign = function("two", "f");
    refused(bench.store.function_fetch(&foreign).await, ErrorCode::NotFound);
    refused(bench.store.version_fetch(&foreign.version(version.number)).await, ErrorCode::NotFound);
    refused(bench.store.version_list(&foreign, i64::MAX, 10).await, ErrorCode::NotFound);
    refused(bench.store.function_delete(&foreign, "").await, ErrorCode::NotFound);
    refused(bench.store.function_roll_back(&foreign, Some(version.number), None, "").await, ErrorCode::NotFound);
    refused(bench.store.function_update(&foreign, "", &Default::default()).await, ErrorCode::NotFound);
    let found = bench.store.function_list(&"two".parse().unwrap(), "", 10).await.unwrap();
    assert_eq!(found.iter().map(|f| f.name.as_str()).collect::<Vec<_>>(), ["g"]);
    let key = key("one", 1);
    bench.store.key_create(&key).await.unwrap();
    let through = KeyName { namespace: "two".parse().unwrap(), key: key.id.clone() };
    refused(bench.store.key_revoke(&through).await, ErrorCode::NotFound);
    assert!(bench.store.key_list(&"two".parse().unwrap(), None, 10).await.unwrap().is_empty());
}

fn key(namespace: &str, at: i64) -> KeyRecord {
    KeyRecord {
        id: format!("{at:012}").parse().unwrap(),
        namespace: namespace.parse().unwrap(),
        secret: Digest::of(&at.to_be_bytes()),
        display_name: "till".into(),
        functions: vec!["checkout".parse().unwrap()],
        creator: "zoe".into(),
        create_time: Time(at / 2),
        expire_time: (at % 2 == 0).then_some(Time(1_000)),
        revoke_time: None,
        plan: None,
        old: None,
    }
}

async fn keys_are_listed_newest_first_and_revoked_once(bench: &Bench) {
    let shop = namespace("shop");
    refused(bench.store.key_create(&key("shop", 1)).await, ErrorCode::NotFound);
    bench.store.namespace_create(&shop, None).await.unwrap();
    for at in 1..=5 {
        bench.store.key_create(&key("shop", at)).await.unwrap();
    }
    // Keys of one moment are in the order of their ids.
    let mut after = None;
    let mut seen = Vec::new();
    loop {
        let page = bench.store.key_list(&shop.name, after.as_ref(), 2).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(KeyCursor { create_time: last.create_time.0, id: last.id.to_string() });
        seen.extend(page.into_iter().map(|key| key.id.as_str().parse::<i64>().unwrap()));
    }
    assert_eq!(seen, [4, 5, 2, 3, 1]);
    let name = KeyName { namespace: shop.name.clone(), key: key("shop", 3).id };
    let before = config_version(bench).await;
    let revoked = bench.store.key_revoke(&name).await.unwrap();
    let again = bench.store.key_revoke(&name).await.unwrap();
    assert_eq!((revoked.revoke_time.is_some(), again), (true, revoked));
    assert_eq!(config_version(bench).await, before + 1);
    let valid = bench.store.catalog_load(Time(1_000)).await.unwrap().keys;
    let valid: std::collections::BTreeSet<_> =
        valid.iter().map(|key| key.id.as_str().parse::<i64>().unwrap()).collect();
    assert_eq!(valid, [1, 5].into(), "neither revoked nor expired");
    assert_eq!(bench.store.key_list(&shop.name, None, 9).await.unwrap()[4], key("shop", 1));
}

async fn a_key_has_two_secrets_while_it_is_rotated(bench: &Bench) {
    let (shop, first) = (namespace("shop"), key("shop", 3));
    bench.store.namespace_create(&shop, None).await.unwrap();
    bench.store.key_create(&first).await.unwrap();
    let name = KeyName { namespace: shop.name.clone(), key: first.id.clone() };
    let (now, hour) = (Time(10), std::time::Duration::from_secs(3600));
    let new = |text: &str| Rotation::New { secret: Digest::of(text.as_bytes()), overlap: hour };
    let before = config_version(bench).await;
    let rotated = bench.store.key_rotate(&name, new("two"), now).await.unwrap();
    let old = Some(OldSecret { secret: first.secret, expire_time: now.after(hour) });
    assert_eq!(rotated, KeyRecord { secret: Digest::of(b"two"), old, ..first.clone() });
    assert_eq!(bench.store.key_list(&shop.name, None, 9).await.unwrap(), std::slice::from_ref(&rotated));
    assert_eq!(bench.store.catalog_load(now).await.unwrap().keys, [rotated]);
    refused(bench.store.key_rotate(&name, new("three"), now).await, ErrorCode::FailedPrecondition);
    let finished = bench.store.key_rotate(&name, Rotation::Finish, now).await.unwrap();
    assert_eq!(finished, KeyRecord { secret: Digest::of(b"two"), ..first.clone() });
    assert_eq!(config_version(bench).await, before + 2);
    let foreign = KeyName { namespace: "bank".parse().unwrap(), key: first.id };
    refused(bench.store.key_rotate(&foreign, Rotation::Finish, now).await, ErrorCode::NotFound);
    bench.store.key_revoke(&name).await.unwrap();
    refused(bench.store.key_rotate(&name, new("three"), now).await, ErrorCode::FailedPrecondition);
}

async fn code_is_replaced_by_code_with_its_key(bench: &Bench) {
    let code = Code {
        key: "k".repeat(64),
        artifact: Digest::of(b"wasm"),
        fingerprint: "engine".into(),
        body: Digest::of(b"one"),
        size: 3,
        signature: vec![0, 255],
    };
    let first = Compiled { code, kind: Kind::Command, imports: vec![] };
    bench.store.code_put(&first).await.unwrap();
    assert_eq!(bench.store.code_fetch(&first.code.artifact, "engine").await.unwrap().as_ref(), Some(&first));
    assert_eq!(bench.store.code_fetch(&first.code.artifact, "other").await.unwrap(), None);
    let mut second = first.clone();
    (second.code.body, second.code.size) = (Digest::of(b"three"), 5);
    bench.store.code_put(&second).await.unwrap();
    assert_eq!(bench.store.code_fetch_by_key(&first.code.key).await.unwrap(), Some(second));
}

async fn t50_texts_come_back_as_they_were(bench: &Bench) {
    for (at, text) in ["'\";--", "' OR 1=1 --", "$1", "?", "%_\\", "Zoë 日本 🦤", "\u{1}\t\n"].into_iter().enumerate()
    {
        let record = crate::model::NamespaceRecord { description: text.into(), ..namespace(&format!("n{at}")) };
        bench.store.namespace_create(&record, None).await.unwrap();
        assert_eq!(bench.store.namespace_fetch(&record.name).await.unwrap(), record);
    }
}
