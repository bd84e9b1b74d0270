//! The catalog as gateways get it: whole, or as the change from exactly one version to another. Pure functions.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use dunlin_proto::{
    ids::{DomainName, Namespace},
    internal::v1 as wire,
    model::{Quota, Rate, Sticky, to_wire_duration},
    names::RouteName,
    route::RouteSpec,
    v1,
};
use imbl::{OrdMap, ordmap::DiffItem};

use super::convert::timestamp;
use crate::{
    catalog::{Catalog, CatalogFunction, CatalogKey},
    model::{AliasRecord, Share, VersionRecord},
    tokens::TokenSigner,
};

/// The public key of the tokens that this cluster issues.
pub(super) fn token_keys(signer: &TokenSigner) -> Vec<wire::TokenKey> {
    let public_key = Bytes::copy_from_slice(signer.public_key());
    vec![wire::TokenKey { id: signer.id().to_owned(), public_key }]
}

/// All of it.
pub(super) fn whole(catalog: &Catalog, token_keys: Vec<wire::TokenKey>) -> wire::ConfigSnapshot {
    wire::ConfigSnapshot {
        version: catalog.version,
        functions: catalog.functions.values().map(function).collect(),
        keys: catalog.keys.values().map(key).collect(),
        token_keys,
        namespaces: catalog.namespaces.iter().map(ToString::to_string).collect(),
        limits: Some(limits(catalog)),
        routes: catalog.routes.iter().map(route).collect(),
        domains: Some(domains(catalog)),
        aliases: true,
    }
}

fn limits_differ(before: &Catalog, after: &Catalog) -> bool {
    before.limits != after.limits
        || before.rates != after.rates
        || before.quotas != after.quotas
        || before.retentions != after.retentions
}

fn limits(catalog: &Catalog) -> wire::NamespaceLimits {
    let limit = |(namespace, max): (&Namespace, &u32)| wire::NamespaceLimit {
        namespace: namespace.to_string(),
        max_concurrency: *max,
    };
    let rate = |(namespace, rate): (&Namespace, &Rate)| wire::NamespaceRate {
        namespace: namespace.to_string(),
        rate: Some((*rate).into()),
    };
    let quota = |(namespace, quota): (&Namespace, &Quota)| wire::NamespaceQuota {
        namespace: namespace.to_string(),
        quota: Some((*quota).into()),
    };
    wire::NamespaceLimits {
        limits: catalog.limits.iter().map(limit).collect(),
        rates: catalog.rates.iter().map(rate).collect(),
        quotas: catalog.quotas.iter().map(quota).collect(),
        retentions: catalog.retentions.iter().map(|(namespace, retention)| retention.of(namespace)).collect(),
    }
}

fn domains(catalog: &Catalog) -> wire::OwnedDomains {
    let domain = |(domain, namespace): (&DomainName, &Namespace)| wire::OwnedDomain {
        domain: domain.to_string(),
        namespace: namespace.to_string(),
    };
    wire::OwnedDomains { domains: catalog.domains.iter().map(domain).collect() }
}

/// Whoever put it, and when, concerns no gateway.
fn route((name, spec): (&RouteName, &Arc<RouteSpec>)) -> v1::Route {
    v1::Route { name: name.to_string(), ..v1::Route::from(&**spec) }
}

/// What turns `before` into `after`; nothing where gateways would see no difference. Token keys never change while a
/// scheduler runs.
pub(super) fn difference(before: &Catalog, after: &Catalog) -> Option<wire::ConfigDelta> {
    if before.version == after.version {
        return None;
    }
    let (functions, removed_functions) = changes(&before.functions, &after.functions, |_, record| function(record));
    let (keys, removed_keys) = many_changes(&before.keys, &after.keys, |(_, known)| key(known));
    let (routes, removed_routes) = many_changes(&before.routes, &after.routes, route);
    let names = |these: &Catalog, those: &Catalog| {
        these.namespaces.difference(&those.namespaces).map(ToString::to_string).collect()
    };
    Some(wire::ConfigDelta {
        base_version: before.version,
        version: after.version,
        functions,
        removed_functions,
        keys,
        removed_keys,
        token_keys: Vec::new(),
        namespaces: names(after, before),
        removed_namespaces: names(before, after),
        limits: limits_differ(before, after).then(|| limits(after)),
        routes,
        removed_routes,
        domains: (before.domains != after.domains).then(|| domains(after)),
    })
}

/// What is new or looks different, and the ids of what is gone.
fn changes<K: Ord + ToString, V: PartialEq, M: PartialEq>(
    before: &BTreeMap<K, V>,
    after: &BTreeMap<K, V>,
    to_wire: impl Fn(&K, &V) -> M,
) -> (Vec<M>, Vec<String>) {
    let changed = after.iter().filter_map(|(id, now)| {
        let then = before.get(id);
        // Comparing records first spares most of the conversions.
        if then == Some(now) {
            return None;
        }
        let now = to_wire(id, now);
        (then.map(|then| to_wire(id, then)).as_ref() != Some(&now)).then_some(now)
    });
    let gone = before.keys().filter(|id| !after.contains_key(id)).map(ToString::to_string);
    (changed.collect(), gone.collect())
}

/// The same of what can be very many: looks at what may have changed only.
fn many_changes<K: Ord + Clone + ToString, V: PartialEq + Clone, M: PartialEq>(
    before: &OrdMap<K, V>,
    after: &OrdMap<K, V>,
    to_wire: impl Fn((&K, &V)) -> M,
) -> (Vec<M>, Vec<String>) {
    let (mut changed, mut gone) = (Vec::new(), Vec::new());
    for difference in before.diff(after) {
        match difference {
            DiffItem::Add(id, now) => changed.push(to_wire((id, now))),
            DiffItem::Update { old, new } => {
                let now = to_wire(new);
                if to_wire(old) != now {
                    changed.push(now);
                }
            }
            DiffItem::Remove(id, _) => gone.push(id.to_string()),
        }
    }
    (changed, gone)
}

fn function(function: &CatalogFunction) -> wire::FunctionConfig {
    let (record, leading) = (&function.record, function.leading());
    wire::FunctionConfig {
        uid: record.uid.to_string(),
        namespace: record.namespace.to_string(),
        function: record.name.to_string(),
        public: record.public,
        direct: record.direct,
        disabled: record.disabled,
        traffic: shares(&record.traffic),
        sticky: Some(wire::StickyConfig {
            seed: record.seed.map(|seed| seed.to_string()).unwrap_or_default(),
            ..sticky(&record.sticky, record.division)
        }),
        aliases: function.aliases.iter().map(alias).collect(),
        versions: function.versions.values().map(|record| version(record, function.standbys(record))).collect(),
        max_concurrency: leading.and_then(|spec| spec.scaling.max_concurrency),
        reserved_concurrency: leading.map_or(0, |spec| spec.scaling.reserved_concurrency),
        rate: leading.and_then(|spec| spec.limits.rate).map(Into::into),
        quota: leading.and_then(|spec| spec.limits.quota).map(Into::into),
    }
}

fn shares(shares: &[Share]) -> Vec<wire::TrafficShare> {
    shares.iter().map(|share| wire::TrafficShare { version: share.0.get(), percent: share.1 }).collect()
}

fn sticky(sticky: &Sticky, division: i64) -> wire::StickyConfig {
    wire::StickyConfig {
        division: u64::try_from(division).unwrap_or_default(),
        header: sticky.header.clone().unwrap_or_default(),
        cookie: sticky.cookie,
        seed: String::new(),
    }
}

fn alias(alias: &AliasRecord) -> wire::AliasConfig {
    wire::AliasConfig {
        name: alias.name.to_string(),
        traffic: shares(&alias.shares),
        sticky: Some(sticky(&alias.sticky, alias.division)),
    }
}

fn version(version: &VersionRecord, standbys: u32) -> wire::VersionConfig {
    let limits = &version.spec.limits;
    wire::VersionConfig {
        number: version.number.get(),
        timeout: Some(to_wire_duration(limits.timeout)),
        request_body_bytes: limits.request_body_bytes,
        response_body_bytes: limits.response_body_bytes,
        standbys,
        idempotent: version.spec.idempotent,
        create_time: Some(timestamp(version.create_time)),
    }
}

fn key(known: &Arc<CatalogKey>) -> wire::KeyConfig {
    let CatalogKey { record: key, plan } = &**known;
    wire::KeyConfig {
        id: key.id.to_string(),
        namespace: key.namespace.to_string(),
        secret_sha256: Bytes::copy_from_slice(key.secret.as_bytes()),
        functions: key.functions.iter().map(ToString::to_string).collect(),
        expire_time: key.expire_time.map(timestamp),
        plan: plan.as_ref().map(|plan| plan.name.plan.to_string()).unwrap_or_default(),
        rate: plan.as_ref().and_then(|plan| plan.rate).map(Into::into),
        quota: plan.as_ref().and_then(|plan| plan.quota).map(Into::into),
        max_concurrency: plan.as_ref().and_then(|plan| plan.max_concurrency),
        old_secret_sha256: key.old.map(|old| Bytes::copy_from_slice(old.secret.as_bytes())).unwrap_or_default(),
        old_secret_expire_time: key.old.map(|old| timestamp(old.expire_time)),
    }
}

#[cfg(test)]
mod tests;
