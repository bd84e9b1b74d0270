//! The audit log: an entry for each change and for nothing else, one chain whoever writes, and no secret in it.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use dunlin_proto::{
    ErrorCode,
    audit::{ACTIONS, AuditSigner, Author, Break, Chain, DISTRUST, Granted, Why, verify},
    ids::Digest,
    names::{AliasName, KeyName},
    v1,
};

use super::{Bench, conformance, function, namespace, new_version, number, refused, request};
use crate::{
    audit::Change,
    error::Error,
    keys::Rotation,
    model::{DomainRecord, DomainTls, KeyRecord, PlanRecord, ProofKind, RolloutState, RouteRecord, Share, Time},
    store::{
        Activation, AliasChange, AuditFilter, FunctionChange, Hashed, Import, Move, NamespaceChange, NewRollout, Store,
    },
};

conformance!(
    changes_at_once_make_one_chain,
    what_is_not_done_leaves_no_entry,
    a_repeated_request_leaves_one_entry,
    every_action_of_the_database_is_noted_without_secrets,
    entries_say_who_and_from_where_and_are_found_by_it,
    what_was_changed_by_hand_is_found,
    an_end_that_is_gone_or_was_set_back_is_named_as_what_is_wrong,
    an_end_that_somebody_else_wrote_is_not_signed_unseen,
    old_entries_go_and_the_rest_still_holds,
    a_change_may_depend_on_nothing_having_changed,
);

fn signer() -> Arc<AuditSigner> {
    Arc::new(AuditSigner::generate().unwrap())
}

async fn everything(store: &Store) -> Vec<Hashed> {
    store.audit_list(&AuditFilter::default(), 0, true, 10_000).await.unwrap()
}

/// What anybody finds who reads the whole log.
async fn checked(store: &Store) -> Result<u64, Break> {
    let (head, checkpoint) = store.audit_ends().await.unwrap();
    let chain = Chain::begin(head, checkpoint.as_ref(), store.audit_key(), None)?;
    verify(chain, &everything(store).await)
}

async fn actions(store: &Store) -> Vec<String> {
    everything(store).await.into_iter().map(|(entry, _)| entry.action).collect()
}

async fn a_change_may_depend_on_nothing_having_changed(bench: &Bench) {
    let store = bench.store.clone().audited(signer());
    store.namespace_create(&namespace("shop"), None).await.unwrap();
    let seen = store.audit_ends().await.unwrap().0.sequence;
    let shop = "shop".parse().unwrap();
    let said = |text: &str| NamespaceChange { description: Some(text.to_owned()), ..Default::default() };
    let careful = store.clone().unless_changed(Some(seen));
    careful.namespace_update(&shop, &said("first")).await.unwrap();
    refused(careful.namespace_update(&shop, &said("late")).await, ErrorCode::Changed);
    let now = store.namespace_list("", 10).await.unwrap();
    assert_eq!(now.first().map(|it| it.description.as_str()), Some("first"), "nothing of a refused change stays");
    assert_eq!(store.audit_ends().await.unwrap().0.sequence, seen + 1);
    store.clone().unless_changed(Some(seen + 1)).namespace_update(&shop, &said("second")).await.unwrap();
}

async fn changes_at_once_make_one_chain(bench: &Bench) {
    let signer = signer();
    let one = bench.store.clone().audited(signer.clone());
    one.namespace_create(&namespace("shop"), None).await.unwrap();
    // A second scheduler's connections, as far as the database has more than one.
    let two = Store::open(&bench.database).await;
    let two = two.unwrap().audited(signer);
    let change = |n: usize| NamespaceChange { description: Some(format!("change {n}")), ..Default::default() };
    let shop = "shop".parse().unwrap();
    let done = futures::future::join_all((0..50).map(|n| {
        let (store, change) = (if n % 2 == 0 { &one } else { &two }, change(n));
        let shop = &shop;
        async move {
            // A file takes one writer, which others wait for as long as they may, and then try again.
            loop {
                match store.namespace_update(shop, &change).await {
                    Err(error) if error.is_transient() => {}
                    ended => return ended,
                }
            }
        }
    }))
    .await;
    assert!(done.iter().all(Result::is_ok), "{done:?}");
    assert_eq!(checked(&one).await, Ok(51));
    // Each entry goes on from what the one before it left.
    let log = everything(&one).await;
    let follows = |pair: &[Hashed]| pair[0].0.after == pair[1].0.before && pair[0].0.time <= pair[1].0.time;
    assert!(log.windows(2).all(follows), "{log:?}");
    two.close().await;
}

async fn what_is_not_done_leaves_no_entry(bench: &Bench) {
    let store = bench.store.clone().audited(signer());
    store.namespace_create(&namespace("shop"), None).await.unwrap();
    refused(store.namespace_create(&namespace("shop"), None).await, ErrorCode::AlreadyExists);
    refused(store.namespace_delete(&"none".parse().unwrap()).await, ErrorCode::NotFound);
    let checkout = function("shop", "checkout");
    refused(store.function_delete(&checkout, "").await, ErrorCode::NotFound);
    store.namespace_update(&"shop".parse().unwrap(), &NamespaceChange::default()).await.unwrap();
    let mut tx = store.begin().await.unwrap();
    store.audit_in_tx(&mut tx, Change::of_cluster("worker.drain", &"workers/a")).await.unwrap();
    tx.rollback().await.unwrap();
    assert_eq!(actions(&store).await, ["namespace.create"]);
    assert_eq!(checked(&store).await, Ok(1));
}

async fn a_repeated_request_leaves_one_entry(bench: &Bench) {
    let store = bench.store.clone().audited(signer());
    store.namespace_create(&namespace("shop"), None).await.unwrap();
    let (new, key) = (new_version(&function("shop", "checkout")), request("shop", "a"));
    for _ in 0..3 {
        store.version_create(&new, Some(&key)).await.unwrap();
    }
    assert_eq!(actions(&store).await, ["namespace.create", "version.create"]);
}

fn route(name: &str, path: &str) -> RouteRecord {
    let target = v1::StaticResponse { body: "canary-in-a-body".into(), ..Default::default() };
    let add = v1::AddedHeader { name: "x-api-key".into(), value: "canary-in-a-header".into() };
    let headers = v1::HeaderChanges { add: vec![add], ..Default::default() };
    let target = Some(v1::route::Target::Response(target));
    let wire = v1::Route { path: path.into(), target, request_headers: Some(headers), ..Default::default() };
    let name = format!("namespaces/shop/routes/{name}").parse().unwrap();
    RouteRecord {
        name,
        spec: wire.try_into().unwrap(),
        creator: String::new(),
        create_time: Time(1),
        update_time: Time(1),
    }
}

fn key() -> KeyRecord {
    KeyRecord {
        id: "abcDEF123456".parse().unwrap(),
        namespace: "shop".parse().unwrap(),
        secret: Digest::of(b"canary"),
        display_name: "till".into(),
        functions: Vec::new(),
        creator: "zoe".into(),
        create_time: Time(1),
        expire_time: None,
        revoke_time: None,
        plan: None,
        old: None,
    }
}

/// Every change that is one of the database.
async fn everything_is_done(store: &Store) {
    let (shop, checkout) = ("shop".parse().unwrap(), function("shop", "checkout"));
    store.namespace_create(&namespace("shop"), None).await.unwrap();
    let change = NamespaceChange { description: Some("a shop".into()), ..Default::default() };
    store.namespace_update(&shop, &change).await.unwrap();
    store.artifact_create(&shop, &Digest::of(b"wasm"), 4).await.unwrap();
    store.artifact_create(&shop, &Digest::of(b"wasm"), 4).await.unwrap();
    let mut new = new_version(&checkout);
    new.spec.environment.insert("DATABASE_PASSWORD".into(), "canary-in-the-environment".into());
    for _ in 0..2 {
        let version = store.version_create(&new, None).await.unwrap();
        store.version_activate(&version.name()).await.unwrap();
    }
    store.function_roll_back(&checkout, None, None, "it lost orders").await.unwrap();
    let rollout = NewRollout {
        namespace: shop.clone(),
        targets: vec![(checkout.clone(), Some(number(2)))],
        steps: vec![10],
        step_time: Duration::from_secs(60),
        routes: None,
        step_calls: 500,
        creator: "zoe".into(),
    };
    let begun = store.rollout_start(&rollout).await.unwrap();
    store.rollout_move(&begun, &Move::Back(RolloutState::Stopped, "enough".into())).await.unwrap();
    let newest = store.release_list(&shop, i64::MAX, 1).await.unwrap()[0].number;
    let release = format!("namespaces/shop/releases/{newest}").parse().unwrap();
    store.release_restore(&release, None).await.unwrap();
    let change = FunctionChange { disabled: Some(true), ..Default::default() };
    store.function_update(&checkout, "", &change).await.unwrap();
    let beta: AliasName = "namespaces/shop/functions/checkout/aliases/beta".parse().unwrap();
    let change = AliasChange { shares: vec![Share(number(1), 100)], sticky: None };
    store.alias_set(&beta, "", &change).await.unwrap();
    store.alias_promote(&beta, Some(number(2)), None).await.unwrap();
    store.alias_delete(&beta).await.unwrap();
    let basic = "namespaces/shop/plans/basic".parse().unwrap();
    let plan = PlanRecord {
        name: basic,
        rate: Some("10/s".parse().unwrap()),
        quota: None,
        max_concurrency: None,
        create_time: Time(1),
    };
    store.plan_put(&plan).await.unwrap();
    let name = KeyName { namespace: shop.clone(), key: key().id };
    store.key_create(&key()).await.unwrap();
    store.key_set_plan(&name, Some(&plan.name.plan)).await.unwrap();
    let rotation = Rotation::New { secret: Digest::of(b"canary 2"), overlap: Duration::from_secs(60) };
    store.key_rotate(&name, rotation, Time::now()).await.unwrap();
    store.key_set_plan(&name, None).await.unwrap();
    store.key_revoke(&name).await.unwrap();
    store.key_revoke(&name).await.unwrap();
    store.plan_delete(&plan.name).await.unwrap();
    let calls = Some(dunlin_proto::model::BudgetLimit { amount: 100, period: dunlin_proto::model::QuotaPeriod::Month });
    let budget = dunlin_proto::model::Budget { cpu: None, calls, warn_percent: 80, enforce: false };
    store.budget_set(&shop, &budget).await.unwrap();
    store.budget_delete(&shop).await.unwrap();
    store.webhook_set(&shop, "https://example.com/?key=canary", b"sealed").await.unwrap();
    store.webhook_test(&shop).await.unwrap();
    store.webhook_rotate(&shop, b"other", Time(1)).await.unwrap();
    store.webhook_delete(&shop).await.unwrap();
    let domain = "namespaces/shop/domains/shop.example".parse().unwrap();
    let domain = DomainRecord {
        name: domain,
        creator: String::new(),
        create_time: Time(1),
        tls: DomainTls::None,
        proof: ProofKind::Vouched,
    };
    store.domain_create(&domain).await.unwrap();
    store.domain_delete(&domain.name).await.unwrap();
    store.route_put(&route("a", "/a"), false).await.unwrap();
    store.route_delete(&route("a", "/a").name).await.unwrap();
    let mut imported = route("b", "/b");
    imported.spec.api = Some("api".parse().unwrap());
    let import = Import {
        namespace: shop.clone(),
        api: "api".parse().unwrap(),
        routes: vec![imported],
        prune: true,
        validate_only: false,
        creator: String::new(),
    };
    store.routes_import(&Import { validate_only: true, ..import.clone() }).await.unwrap();
    store.routes_import(&import).await.unwrap();
    let app = Activation {
        app: "namespaces/shop/apps/till".parse().unwrap(),
        functions: [(checkout.function.clone(), Some(number(1)))].into(),
        routes: Some(vec![route("c", "/c")]),
        canary: None,
        validate_only: false,
    };
    store.app_activate(&Activation { validate_only: true, ..app.clone() }).await.unwrap();
    store.app_activate(&app).await.unwrap();
    store.worker_set_drained(&"worker-1".parse().unwrap(), true).await.unwrap();
    store.function_delete(&checkout, "").await.unwrap();
    store.namespace_delete(&shop).await.unwrap();
}

async fn every_action_of_the_database_is_noted_without_secrets(bench: &Bench) {
    let store = bench.store.clone().audited(signer());
    everything_is_done(&store).await;
    let found: Vec<_> = actions(&store).await;
    let kinds: BTreeSet<_> = found.iter().map(String::as_str).collect();
    // These are no changes of the database: their callers append the entry (`rpc/`).
    let elsewhere = ["token.create", "join_token.create", "cache.purge"];
    let expected = ACTIONS.iter().filter_map(|(_, action)| *action).filter(|action| !elsewhere.contains(action));
    assert_eq!(kinds, expected.chain(["version.activate"]).collect());
    let count = |action: &str| found.iter().filter(|found| *found == action).count();
    assert_eq!((count("artifact.upload"), count("key.revoke"), count("route.import")), (1, 1, 1));
    assert_eq!((count("version.create"), count("version.activate"), count("key.update")), (2, 2, 2));
    let stored = format!("{:?}", everything(&store).await);
    for secret in ["canary-in", &Digest::of(b"canary").hex(), &Digest::of(b"canary 2").hex(), "99,97,110,97,114,121"] {
        assert!(!stored.contains(secret), "{secret}: {stored}");
    }
    assert!(stored.contains("it lost orders"), "the reason of a rollback: {stored}");
    assert!(stored.contains("DATABASE_PASSWORD") && stored.contains("(redacted)"), "{stored}");
    assert_eq!(checked(&store).await, Ok(found.len() as u64));
}

async fn entries_say_who_and_from_where_and_are_found_by_it(bench: &Bench) {
    let store = bench.store.clone().audited(signer());
    let author = Author {
        subject: "Zoë \0".into(),
        issuer: "dunlin".into(),
        token_id: "t-1".into(),
        grants: vec![Granted { namespace: "shop".into(), role: "admin".into() }],
        address: "192.0.2.7".into(),
        gateway: "gateway-1".into(),
        request_id: "0198".into(),
    };
    store.namespace_create(&namespace("shop"), None).await.unwrap();
    store.namespace_create(&namespace("bank"), None).await.unwrap();
    let by = store.by(author);
    by.route_put(&route("a", "/a"), false).await.unwrap();
    by.route_put(&route("a", "/b"), true).await.unwrap();
    by.route_put(&route("a-b", "/c"), true).await.unwrap();
    let find = async |filter: AuditFilter| {
        let found = store.audit_list(&filter, i64::MAX, false, 100).await.unwrap();
        found.into_iter().map(|(entry, _)| entry.sequence).collect::<Vec<_>>()
    };
    let filter = AuditFilter::default;
    assert_eq!(find(filter()).await, [5, 4, 3, 2, 1]);
    assert_eq!(find(AuditFilter { namespace: "bank".into(), ..filter() }).await, [2]);
    assert_eq!(find(AuditFilter { subject: "Zoë ".into(), ..filter() }).await, [5, 4, 3]);
    assert_eq!(find(AuditFilter { action: "route".into(), ..filter() }).await, [5, 4, 3]);
    assert_eq!(find(AuditFilter { action: "namespace.create".into(), ..filter() }).await, [2, 1]);
    assert_eq!(find(AuditFilter { action: "names".into(), ..filter() }).await, [0; 0]);
    assert_eq!(find(AuditFilter { resource: "namespaces/shop/routes/a".into(), ..filter() }).await, [4, 3]);
    assert_eq!(find(AuditFilter { resource: "namespaces/shop".into(), ..filter() }).await, [5, 4, 3, 1]);
    assert_eq!(find(AuditFilter { resource: "namespaces/____".into(), ..filter() }).await, [0; 0]);
    assert_eq!(find(AuditFilter { since: i64::MAX, ..filter() }).await, [0; 0]);
    let (entry, _) = &store.audit_list(&filter(), 4, true, 1).await.unwrap()[0];
    assert_eq!((entry.sequence, entry.role.as_str(), entry.address.as_str()), (5, "admin", "192.0.2.7"));
    let (entry, _) = &store.audit_list(&filter(), 4, false, 1).await.unwrap()[0];
    assert!(entry.before.is_empty() && entry.after.contains("/a"), "{entry:?}");
    let (entry, _) = &store.audit_list(&filter(), 5, false, 1).await.unwrap()[0];
    assert!(entry.before.contains("/a") && entry.after.contains("/b"), "{entry:?}");
    assert_eq!(entry.gateway, "gateway-1");
}

/// Some changes, each an entry.
async fn filled(store: &Store, count: usize) {
    for n in 0..count {
        store.namespace_create(&namespace(&format!("n-{n}x")), None).await.unwrap();
    }
}

async fn by_hand(store: &Store, sql: &'static str) {
    sqlx::query(sql).execute(&store.pool).await.unwrap();
}

async fn what_was_changed_by_hand_is_found(bench: &Bench) {
    let store = bench.store.clone().audited(signer());
    filled(&store, 6).await;
    assert_eq!(checked(&store).await, Ok(6));
    by_hand(&store, "UPDATE audit_entries SET subject = 'eve' WHERE sequence = 3").await;
    assert_eq!(checked(&store).await, Err(Break { sequence: 3, why: Why::Hash }));
    by_hand(&store, "UPDATE audit_entries SET subject = '' WHERE sequence = 3").await;
    assert_eq!(checked(&store).await, Ok(6));
    for (spoil, mend) in [
        (
            "UPDATE audit_entries SET outcome = 'donex' WHERE sequence = 4",
            "UPDATE audit_entries SET outcome = 'done' WHERE sequence = 4",
        ),
        (
            "UPDATE audit_entries SET hash = 'x' || hash WHERE sequence = 4",
            "UPDATE audit_entries SET hash = substr(hash, 2) WHERE sequence = 4",
        ),
    ] {
        by_hand(&store, spoil).await;
        assert_eq!(checked(&store).await, Err(Break { sequence: 4, why: Why::Hash }), "{spoil}");
        by_hand(&store, mend).await;
        assert_eq!(checked(&store).await, Ok(6));
    }
    by_hand(&store, "UPDATE audit_ends SET signature = 'x' || signature WHERE kind = 'head'").await;
    assert_eq!(checked(&store).await.unwrap_err().why, Why::Signature);
    by_hand(&store, "UPDATE audit_ends SET signature = substr(signature, 2) WHERE kind = 'head'").await;
    by_hand(&store, "DELETE FROM audit_entries WHERE sequence >= 5").await;
    assert_eq!(checked(&store).await, Err(Break { sequence: 5, why: Why::Missing }));
    by_hand(&store, "DELETE FROM audit_entries WHERE sequence = 2").await;
    assert_eq!(checked(&store).await, Err(Break { sequence: 2, why: Why::Order }));
}

async fn an_end_that_is_gone_or_was_set_back_is_named_as_what_is_wrong(bench: &Bench) {
    let store = bench.store.clone().audited(signer());
    filled(&store, 2).await;
    let refused = async || match store.namespace_delete(&"n-0x".parse().unwrap()).await {
        Err(Error::Api(error)) => (error.code, error.message.contains("signed end of the audit log")),
        other => panic!("{other:?}"),
    };
    by_hand(&store, "UPDATE audit_ends SET sequence = sequence - 1").await;
    assert_eq!(refused().await, (ErrorCode::FailedPrecondition, true));
    assert!(matches!(store.audit_ends().await, Err(Error::Api(_))), "the checkpoint is below 0");
    by_hand(&store, "DELETE FROM audit_ends WHERE kind = 'checkpoint'").await;
    assert!(matches!(store.audit_ends().await, Err(Error::Api(_))));
    by_hand(&store, "DELETE FROM audit_ends").await;
    assert_eq!(refused().await, (ErrorCode::FailedPrecondition, true));
}

async fn an_end_that_somebody_else_wrote_is_not_signed_unseen(bench: &Bench) {
    let (ours, theirs) = (bench.store.clone().audited(signer()), bench.store.clone().audited(signer()));
    filled(&ours, 2).await;
    theirs.namespace_delete(&"n-0x".parse().unwrap()).await.unwrap();
    assert_eq!(checked(&ours).await.unwrap_err().why, Why::Signature);
    ours.namespace_delete(&"n-1x".parse().unwrap()).await.unwrap();
    let found = actions(&ours).await;
    assert_eq!(found[found.len() - 2..], [DISTRUST, "namespace.delete"]);
    assert_eq!(checked(&ours).await.unwrap_err().why, Why::Distrusted);
}

async fn old_entries_go_and_the_rest_still_holds(bench: &Bench) {
    let store = bench.store.clone().audited(signer());
    assert_eq!(store.audit_prune(Time::now()).await.unwrap(), 0, "an empty log");
    filled(&store, 5).await;
    assert_eq!(store.audit_prune(Time(1)).await.unwrap(), 0);
    let third = everything(&store).await[2].0.time;
    let pruned = store.audit_prune(Time(third)).await.unwrap();
    assert!(pruned <= 2, "{pruned}");
    // However old they are, the last one stays.
    store.audit_prune(Time(i64::MAX)).await.unwrap();
    let left = everything(&store).await;
    assert_eq!(left.iter().map(|(entry, _)| entry.sequence).collect::<Vec<_>>(), [5]);
    assert_eq!(checked(&store).await, Ok(5));
    store.namespace_delete(&"n-0x".parse().unwrap()).await.unwrap();
    assert_eq!(checked(&store).await, Ok(6));
    by_hand(&store, "UPDATE audit_ends SET sequence = 5 WHERE kind = 'checkpoint'").await;
    assert_eq!(checked(&store).await, Err(Break { sequence: 5, why: Why::Signature }));
}
