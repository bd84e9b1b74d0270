//! A change applied to a snapshot gives the next snapshot, whatever changed.

use dunlin_proto::{
    ids::{Digest, FunctionUid, VersionNumber},
    model::{Period, Retention},
    v1,
};
use proptest::prelude::*;

use super::*;
use crate::{
    model::{
        DomainRecord, DomainTls, FunctionRecord, KeyRecord, Kind, NamespaceRecord, PlanRecord, ProofKind, RouteRecord,
        Share, Time,
    },
    store::CatalogRows,
};

fn number(number: u32) -> VersionNumber {
    number.try_into().unwrap()
}

fn uid(id: u8) -> FunctionUid {
    uuid::Uuid::from_u128(u128::from(id) + 1).to_string().parse().unwrap()
}

/// A function of so many versions, of which the last has the traffic.
fn rows(functions: &[(u8, u32, bool)], keys: &[u8], namespaces: &[u8], version: u64) -> Catalog {
    let mut rows = CatalogRows { version, ..CatalogRows::default() };
    for (id, versions, public) in functions {
        let record = FunctionRecord {
            uid: uid(*id),
            namespace: "shop".parse().unwrap(),
            name: format!("f{id}").parse().unwrap(),
            description: format!("changes with {version} and concerns no gateway"),
            public: *public,
            direct: false,
            disabled: !*public,
            traffic: (*versions > 0).then(|| Share(number(*versions), 100)).into_iter().collect(),
            sticky: dunlin_proto::model::Sticky::default(),
            division: 0,
            seed: None,
            history: vec![],
            latest_version: *versions,
            revision: 1,
            create_time: Time(0),
            update_time: Time(0),
        };
        rows.core.versions.extend((1..=*versions).map(|n| VersionRecord {
            function: record.reference(),
            uid: record.uid,
            number: number(n),
            artifact: Digest::of(b"wasm"),
            artifact_size: 4,
            kind: Kind::Http02,
            spec: dunlin_proto::model::VersionSpec::default(),
            imports: vec![],
            creator: String::new(),
            note: String::new(),
            create_time: Time(0),
            compiled_size: 1,
            activation: false,
            canary: None,
            reuse_refusal: None,
            policy: crate::model::Policy::default(),
        }));
        rows.core.functions.push(record);
    }
    rows.keys = keys
        .iter()
        .map(|id| KeyRecord {
            id: format!("key{id:09}").parse().unwrap(),
            namespace: "shop".parse().unwrap(),
            secret: Digest::of(&[*id]),
            display_name: String::new(),
            functions: vec![],
            creator: String::new(),
            create_time: Time(0),
            expire_time: None,
            revoke_time: None,
            plan: id.is_multiple_of(2).then(|| "basic".parse().unwrap()),
            old: None,
        })
        .collect();
    // Keys change with the plan that they are under.
    let quota = format!("{}/day", functions.len() + 1).parse().unwrap();
    let name = "namespaces/shop/plans/basic".parse().unwrap();
    rows.core.plans =
        vec![PlanRecord { name, rate: None, quota: Some(quota), max_concurrency: None, create_time: Time(0) }];
    let tenant = |id: &u8| NamespaceRecord {
        name: format!("n{id}").parse().unwrap(),
        description: String::new(),
        create_time: Time(0),
        // Some are bounded, some are not, and bounds change.
        max_concurrency: id.is_multiple_of(2).then_some(u32::from(*id) + u32::from(functions.is_empty())),
        rate: id.is_multiple_of(3).then(|| Rate::new(1 + u32::from(functions.is_empty()), Period::Second)),
        quota: id.is_multiple_of(2).then_some(quota),
        retention: Retention {
            age: id.is_multiple_of(5).then(|| std::time::Duration::from_secs(60 + u64::from(functions.is_empty()))),
            log_bytes: None,
        },
    };
    rows.core.namespaces = namespaces.iter().map(tenant).collect();
    // As many as there are keys: names stay, what they do changes with the functions.
    rows.routes = keys.iter().map(|id| route(*id, functions.len())).collect();
    rows.core.domains = keys.iter().map(|id| domain(*id)).collect();
    Catalog::from_rows(rows)
}

fn route(id: u8, number: usize) -> RouteRecord {
    let target = Some(v1::route::Target::Response(v1::StaticResponse::default()));
    let wire = v1::Route { path: format!("/{id}/{}", number.min(2)), target, ..Default::default() };
    RouteRecord {
        name: format!("namespaces/shop/routes/r{id}").parse().unwrap(),
        spec: wire.try_into().unwrap(),
        creator: format!("changes with {number} and concerns no gateway"),
        create_time: Time(0),
        update_time: Time(0),
    }
}

fn domain(id: u8) -> DomainRecord {
    let name = format!("namespaces/shop/domains/d{id}.example").parse().unwrap();
    DomainRecord { name, creator: String::new(), create_time: Time(0), tls: DomainTls::None, proof: ProofKind::Vouched }
}

/// What a gateway does with a change.
fn apply(mut snapshot: wire::ConfigSnapshot, delta: wire::ConfigDelta) -> wire::ConfigSnapshot {
    assert_eq!(snapshot.version, delta.base_version);
    snapshot.version = delta.version;
    let changed: Vec<_> =
        delta.functions.iter().map(|function| function.uid.clone()).chain(delta.removed_functions).collect();
    snapshot.functions.retain(|function| !changed.contains(&function.uid));
    snapshot.functions.extend(delta.functions);
    snapshot.functions.sort_by(|a, b| a.uid.cmp(&b.uid));
    let changed: Vec<_> = delta.keys.iter().map(|key| key.id.clone()).chain(delta.removed_keys).collect();
    snapshot.keys.retain(|key| !changed.contains(&key.id));
    snapshot.keys.extend(delta.keys);
    snapshot.keys.sort_by(|a, b| a.id.cmp(&b.id));
    snapshot.namespaces.retain(|name| !delta.removed_namespaces.contains(name));
    snapshot.namespaces.extend(delta.namespaces);
    snapshot.namespaces.sort();
    snapshot.limits = delta.limits.or(snapshot.limits);
    let changed: Vec<_> = delta.routes.iter().map(|route| route.name.clone()).chain(delta.removed_routes).collect();
    snapshot.routes.retain(|route| !changed.contains(&route.name));
    snapshot.routes.extend(delta.routes);
    snapshot.routes.sort_by(|a, b| a.name.cmp(&b.name));
    snapshot.domains = delta.domains.or(snapshot.domains);
    snapshot
}

#[test]
fn only_what_gateways_see_is_sent() {
    let before = rows(&[(1, 1, false), (2, 1, false)], &[1], &[1], 7);
    let after = rows(&[(1, 1, false), (2, 2, false)], &[1], &[1], 8);
    let delta = difference(&before, &after).unwrap();
    assert_eq!((delta.functions.len(), delta.functions[0].function.as_str()), (1, "f2"));
    assert!(delta.keys.is_empty() && delta.removed_functions.is_empty() && delta.namespaces.is_empty());
    assert_eq!(difference(&after, &after), None);
}

type Shape = (Vec<(u8, u32, bool)>, Vec<u8>, Vec<u8>);

fn any_shape() -> impl Strategy<Value = Shape> {
    let functions = prop::collection::btree_map(0_u8..8, (0_u32..4, any::<bool>()), 0..6);
    let ids = || prop::collection::btree_set(0_u8..8, 0..6);
    (functions, ids(), ids()).prop_map(|(functions, keys, namespaces)| {
        let functions = functions.into_iter().map(|(id, (versions, public))| (id, versions, public)).collect();
        (functions, keys.into_iter().collect(), namespaces.into_iter().collect())
    })
}

proptest! {
    #[test]
    fn a_change_leads_from_one_snapshot_to_the_next(before in any_shape(), after in any_shape()) {
        let before = rows(&before.0, &before.1, &before.2, 7);
        let after = rows(&after.0, &after.1, &after.2, 9);
        let delta = difference(&before, &after).unwrap();
        prop_assert_eq!(apply(whole(&before, vec![]), delta), whole(&after, vec![]));
    }
}
