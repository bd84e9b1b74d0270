//! Whoever follows the changes of a catalog has what reading everything gives, from whichever version on.

use dunlin_proto::{names::KeyName, v1};

use super::{Bench, conformance, deploy, function, namespace, new_version, number};
use crate::{
    catalog::Catalog,
    model::{KeyRecord, PlanRecord, RouteRecord, Share, Time},
    store::{CatalogNews, FunctionChange},
};

conformance!(whatever_changes_is_followed, what_is_not_known_is_read_anew);

/// Catalogs of all versions that were seen.
struct Followed<'b> {
    bench: &'b Bench,
    seen: Vec<Catalog>,
}

impl Followed<'_> {
    /// Checks that each catalog that was seen becomes what is true now.
    async fn check(&mut self) {
        let whole = Catalog::from_rows(self.bench.store.catalog_load(Time(5)).await.unwrap());
        for seen in &self.seen {
            let news = self.bench.store.catalog_follow(Some(seen.version), false, Time(5)).await.unwrap();
            let CatalogNews::Changes(changes) = news else { panic!("these changes are remembered") };
            assert_eq!(seen.changed(changes), whole, "from version {} to {}", seen.version, whole.version);
        }
        self.seen.push(whole);
    }
}

fn route(name: &str, path: &str) -> RouteRecord {
    let target = Some(v1::route::Target::Response(v1::StaticResponse::default()));
    let wire = v1::Route { path: path.into(), target, ..Default::default() };
    RouteRecord {
        name: format!("namespaces/shop/routes/{name}").parse().unwrap(),
        spec: wire.try_into().unwrap(),
        creator: "zoe".into(),
        create_time: Time(1),
        update_time: Time(1),
    }
}

fn plan(rate: &str) -> PlanRecord {
    let name = "namespaces/shop/plans/basic".parse().unwrap();
    PlanRecord { name, rate: Some(rate.parse().unwrap()), quota: None, max_concurrency: None, create_time: Time(1) }
}

fn key(id: u32, plan: Option<&str>, expires: i64) -> KeyRecord {
    KeyRecord {
        id: format!("key{id:09}").parse().unwrap(),
        namespace: "shop".parse().unwrap(),
        secret: dunlin_proto::ids::Digest::of(&id.to_le_bytes()),
        display_name: String::new(),
        functions: Vec::new(),
        creator: String::new(),
        create_time: Time(1),
        expire_time: Some(Time(expires)),
        revoke_time: None,
        plan: plan.map(|plan| plan.parse().unwrap()),
        old: None,
    }
}

fn name(id: u32) -> KeyName {
    KeyName { namespace: "shop".parse().unwrap(), key: key(id, None, 9).id }
}

async fn whatever_changes_is_followed(bench: &Bench) {
    let (store, till) = (&bench.store, function("shop", "till"));
    let mut followed = Followed { bench, seen: Vec::new() };
    store.namespace_create(&namespace("shop"), None).await.unwrap();
    followed.check().await;
    deploy(bench, &till).await;
    followed.check().await;
    store.plan_put(&plan("10/s")).await.unwrap();
    for (id, plan, expires) in [(1, Some("basic"), 9), (2, None, 9), (3, Some("basic"), 4)] {
        store.key_create(&key(id, plan, expires)).await.unwrap();
        followed.check().await;
    }
    assert_eq!(followed.seen.last().unwrap().keys.len(), 2, "one has expired");
    store.route_put(&route("a", "/a"), false).await.unwrap();
    store.route_put(&route("b", "/b"), false).await.unwrap();
    followed.check().await;
    store.route_put(&route("a", "/c"), true).await.unwrap();
    store.key_set_plan(&name(2), Some(&"basic".parse().unwrap())).await.unwrap();
    followed.check().await;
    store.plan_put(&plan("20/s")).await.unwrap();
    followed.check().await;
    let key = followed.seen.last().unwrap().keys[&name(1).key].clone();
    assert_eq!(key.plan.as_ref().and_then(|plan| plan.rate), plan("20/s").rate, "keys change with their plan");
    store.key_revoke(&name(1)).await.unwrap();
    store.route_delete(&route("b", "/b").name).await.unwrap();
    followed.check().await;
    let second = store.version_create(&new_version(&till), None).await.unwrap();
    let traffic = Some(vec![Share(number(1), 50), Share(second.number, 50)]);
    store.function_update(&till, "", &FunctionChange { traffic, ..Default::default() }).await.unwrap();
    followed.check().await;
    store.function_delete(&till, "").await.unwrap();
    followed.check().await;
}

async fn what_is_not_known_is_read_anew(bench: &Bench) {
    let store = &bench.store;
    store.namespace_create(&namespace("shop"), None).await.unwrap();
    store.key_create(&key(1, None, 9)).await.unwrap();
    let version = super::config_version(bench).await;
    let read_anew =
        async |since| matches!(store.catalog_follow(since, false, Time(5)).await.unwrap(), CatalogNews::All(_));
    assert!(read_anew(None).await && read_anew(Some(version + 1)).await && !read_anew(Some(version)).await);
    store.namespace_delete(&"shop".parse().unwrap()).await.unwrap();
    assert!(read_anew(Some(version)).await, "its keys went with it");
    let CatalogNews::Changes(none) = store.catalog_follow(Some(version + 1), false, Time(5)).await.unwrap() else {
        panic!("nothing has changed since")
    };
    assert!(none.core.is_none() && none.keys.is_empty());
}
