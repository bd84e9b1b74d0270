//! Plans and quotas: which keys are under what, and that no more is lent than there is.

use dunlin_proto::{
    ErrorCode,
    ids::Digest,
    limit::LimitId,
    names::{KeyName, PlanName},
};

use super::{Bench, config_version, conformance, deploy, function, namespace, refused};
use crate::{
    catalog::Catalog,
    lending::{Allowance, Unused},
    model::{KeyRecord, PlanRecord, Time},
    store::{NamespaceChange, Settlement},
};

conformance!(
    plans_are_put_listed_and_deleted,
    a_namespace_has_so_many_plans,
    a_plan_that_keys_are_under_stays,
    quotas_are_lent_to_their_end_and_no_further,
    loans_at_once_never_exceed_a_quota,
    what_goes_back_goes_back_to_its_period_and_by_the_newest_scheduler,
    quotas_of_functions_and_namespaces_are_their_own,
);

fn plan(name: &str, quota: Option<&str>) -> PlanRecord {
    PlanRecord {
        name: PlanName { namespace: "shop".parse().unwrap(), plan: name.parse().unwrap() },
        rate: Some("10/s".parse().unwrap()),
        quota: quota.map(|quota| quota.parse().unwrap()),
        max_concurrency: Some(3),
        create_time: Time(7),
    }
}

fn key(id: &str, plan: Option<&str>) -> KeyRecord {
    KeyRecord {
        id: id.parse().unwrap(),
        namespace: "shop".parse().unwrap(),
        secret: Digest::of(id.as_bytes()),
        display_name: String::new(),
        functions: Vec::new(),
        creator: String::new(),
        create_time: Time(1),
        expire_time: None,
        revoke_time: None,
        plan: plan.map(|plan| plan.parse().unwrap()),
        old: None,
    }
}

async fn plans_are_put_listed_and_deleted(bench: &Bench) {
    let store = &bench.store;
    refused(store.plan_put(&plan("basic", None)).await, ErrorCode::NotFound);
    store.namespace_create(&namespace("shop"), None).await.unwrap();
    let before = config_version(bench).await;
    assert_eq!(store.plan_put(&plan("basic", None)).await.unwrap(), (plan("basic", None), 0));
    assert_eq!(config_version(bench).await, before + 1);
    store.plan_put(&plan("alpha", Some("5/month"))).await.unwrap();
    let changed =
        PlanRecord { create_time: Time(9), rate: None, max_concurrency: None, ..plan("basic", Some("9/day")) };
    let (stored, _) = store.plan_put(&changed).await.unwrap();
    assert_eq!(stored, PlanRecord { create_time: Time(7), ..changed.clone() }, "it was made when it was made");
    let listed = store.plan_list(&"shop".parse().unwrap()).await.unwrap();
    assert_eq!(listed, [(plan("alpha", Some("5/month")), 0), (stored, 0)]);
    store.plan_delete(&changed.name).await.unwrap();
    refused(store.plan_delete(&changed.name).await, ErrorCode::NotFound);
    refused(store.plan_list(&"bank".parse().unwrap()).await, ErrorCode::NotFound);
}

async fn a_namespace_has_so_many_plans(bench: &Bench) {
    bench.store.namespace_create(&namespace("shop"), None).await.unwrap();
    for number in 0..200 {
        bench.store.plan_put(&plan(&format!("p{number}"), None)).await.unwrap();
    }
    refused(bench.store.plan_put(&plan("more", None)).await, ErrorCode::FailedPrecondition);
    bench.store.plan_put(&plan("p7", Some("5/day"))).await.unwrap();
    assert_eq!(bench.store.plan_list(&"shop".parse().unwrap()).await.unwrap().len(), 200, "nothing was half done");
}

async fn a_plan_that_keys_are_under_stays(bench: &Bench) {
    let store = &bench.store;
    store.namespace_create(&namespace("shop"), None).await.unwrap();
    refused(store.key_create(&key("keyAAAAAAAAA", Some("basic"))).await, ErrorCode::NotFound);
    let (basic, _) = store.plan_put(&plan("basic", Some("5/day"))).await.unwrap();
    store.key_create(&key("keyAAAAAAAAA", Some("basic"))).await.unwrap();
    store.key_create(&key("keyBBBBBBBBB", None)).await.unwrap();
    let name = |id: &str| KeyName { namespace: "shop".parse().unwrap(), key: id.parse().unwrap() };
    let under = store.key_set_plan(&name("keyBBBBBBBBB"), Some(&basic.name.plan)).await.unwrap();
    assert_eq!(under.plan.as_ref(), Some(&basic.name.plan));
    assert_eq!(store.key_plan(&name("keyBBBBBBBBB")).await.unwrap().as_ref(), Some(&basic));
    refused(store.key_set_plan(&name("keyCCCCCCCCC"), None).await, ErrorCode::NotFound);
    refused(store.key_set_plan(&name("keyBBBBBBBBB"), Some(&"none".parse().unwrap())).await, ErrorCode::NotFound);
    assert_eq!(store.plan_list(&"shop".parse().unwrap()).await.unwrap()[0].1, 2);
    refused(store.plan_delete(&basic.name).await, ErrorCode::FailedPrecondition);
    let catalog = Catalog::from_rows(store.catalog_load(Time::now()).await.unwrap());
    let known = &catalog.keys[&name("keyAAAAAAAAA").key];
    assert_eq!(known.plan.as_deref(), Some(&basic));
    let limit = LimitId::Key(name("keyAAAAAAAAA").key);
    assert_eq!(catalog.quota(&limit), basic.quota);
    assert_eq!(
        catalog.allowance(&LimitId::KeyConcurrency(name("keyAAAAAAAAA").key)),
        basic.max_concurrency.map(Allowance::AtOnce)
    );
    assert!(
        catalog.allowance(&limit) == basic.rate.map(Allowance::Rate) && catalog.limited().any(|known| known == limit)
    );
    store.key_revoke(&name("keyAAAAAAAAA")).await.unwrap();
    store.key_set_plan(&name("keyBBBBBBBBB"), None).await.unwrap();
    store.plan_delete(&basic.name).await.unwrap();
    assert_eq!(store.key_plan(&name("keyAAAAAAAAA")).await.unwrap(), None, "it is revoked anyway");
    refused(store.key_plan(&name("keyCCCCCCCCC")).await, ErrorCode::NotFound);
}

async fn ready(bench: &Bench) -> LimitId {
    bench.store.namespace_create(&namespace("shop"), None).await.unwrap();
    let key = key("keyAAAAAAAAA", None);
    bench.store.key_create(&key).await.unwrap();
    LimitId::Key(key.id)
}

async fn quotas_are_lent_to_their_end_and_no_further(bench: &Bench) {
    let (store, key) = (&bench.store, ready(bench).await);
    let up_to = |most: u64, wanted: u64| move |gone: u64| wanted.min(most.saturating_sub(gone));
    let none = Settlement::default();
    assert_eq!(store.quota_lend(&key, 100, none, up_to(10, 6)).await.unwrap(), (0, 6));
    assert_eq!(store.quota_lend(&key, 100, none, up_to(10, 6)).await.unwrap(), (6, 4));
    assert_eq!(store.quota_lend(&key, 100, none, up_to(10, 6)).await.unwrap(), (10, 0));
    let back = Settlement { period_start: 100, left: 3, owed: 0 };
    assert_eq!(store.quota_lend(&key, 100, back, up_to(10, 2)).await.unwrap(), (7, 2));
    let owed = Settlement { period_start: 100, left: 0, owed: 5 };
    assert_eq!(store.quota_lend(&key, 100, owed, up_to(10, 2)).await.unwrap(), (14, 0));
    // Another period begins; what was left of the last one goes back to that.
    let back = Settlement { period_start: 100, left: 100, owed: 0 };
    assert_eq!(store.quota_lend(&key, 200, back, up_to(10, 1)).await.unwrap(), (0, 1));
    assert_eq!((store.quota_gone(&key, 100).await.unwrap(), store.quota_gone(&key, 200).await.unwrap()), (0, 1));
    store.quota_forget(200).await.unwrap();
    assert_eq!((store.quota_gone(&key, 200).await.unwrap(), store.quota_gone(&key, 300).await.unwrap()), (1, 0));
}

async fn loans_at_once_never_exceed_a_quota(bench: &Bench) {
    let (store, key) = (&bench.store, ready(bench).await);
    let lend = || store.quota_lend(&key, 0, Settlement::default(), |gone| 7.min(50_u64.saturating_sub(gone)));
    let loans = futures::future::join_all((0..20).map(|_| lend())).await;
    let lent: u64 = loans.into_iter().map(|loan| loan.unwrap().1).sum();
    assert_eq!((lent, store.quota_gone(&key, 0).await.unwrap()), (50, 50));
}

async fn what_goes_back_goes_back_to_its_period_and_by_the_newest_scheduler(bench: &Bench) {
    let (store, key) = (&bench.store, ready(bench).await);
    let epoch = store.epoch_begin().await.unwrap();
    let shop = LimitId::Namespace("shop".parse().unwrap());
    for (owner, period, amount) in [(&key, 100, 50), (&key, 200, 50), (&shop, 200, 10)] {
        store.quota_lend(owner, period, Settlement::default(), |_| amount).await.unwrap();
    }
    let unused = |owner: &LimitId, period_start, admissions| Unused { owner: owner.clone(), period_start, admissions };
    let back = [unused(&key, 200, 20), unused(&shop, 200, 4), unused(&shop, 300, 4)];
    assert!(store.quota_take_back(epoch, &back).await.unwrap());
    let gone = async |owner, period| store.quota_gone(owner, period).await.unwrap();
    assert_eq!((gone(&key, 100).await, gone(&key, 200).await), (50, 30));
    assert_eq!((gone(&shop, 200).await, gone(&shop, 300).await), (6, 0));
    assert!(store.quota_take_back(epoch, &[unused(&shop, 200, 7)]).await.unwrap());
    assert_eq!(gone(&shop, 200).await, 0);
    let newest = store.epoch_begin().await.unwrap();
    assert!(!store.quota_take_back(epoch, &back).await.unwrap());
    assert_eq!(gone(&key, 200).await, 30, "what an earlier start knew counts no more");
    assert!(store.quota_take_back(newest, &back).await.unwrap());
    assert_eq!(gone(&key, 200).await, 10);
}

async fn quotas_of_functions_and_namespaces_are_their_own(bench: &Bench) {
    let store = &bench.store;
    let (pay, ten) = (function("shop", "pay"), Some("10/day".parse().unwrap()));
    let version = deploy(bench, &pay).await;
    let shop: LimitId = LimitId::Namespace(pay.namespace.clone());
    let change = NamespaceChange { quota: Some(ten), ..NamespaceChange::default() };
    assert_eq!(store.namespace_update(&pay.namespace, &change).await.unwrap().quota, ten);
    assert_eq!(store.namespace_fetch(&pay.namespace).await.unwrap().quota, ten);
    let catalog = Catalog::from_rows(store.catalog_load(Time::now()).await.unwrap());
    assert_eq!((catalog.quota(&shop), catalog.quota(&LimitId::Function(version.uid))), (ten, None));
    assert_eq!(catalog.quota(&LimitId::Shared(pay.namespace.clone())), None);
    let lend = |owner| async move { store.quota_lend(owner, 100, Settlement::default(), |_| 4).await.unwrap() };
    let function = LimitId::Function(version.uid);
    assert_eq!((lend(&shop).await, lend(&shop).await, lend(&function).await), ((0, 4), (4, 4), (0, 4)));
    // Whoever has the name later begins anew.
    store.function_delete(&pay, "").await.unwrap();
    store.namespace_delete(&pay.namespace).await.unwrap();
    assert_eq!((store.quota_gone(&shop, 100).await.unwrap(), store.quota_gone(&function, 100).await.unwrap()), (0, 4));
}
