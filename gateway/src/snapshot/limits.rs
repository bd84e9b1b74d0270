//! Keys, limits of calls in a time, and quotas, as a configuration names them. The part of each that this gateway has stays
//! what it is.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::SystemTime,
};

use anyhow::Context;
use dunlin_proto::{
    internal::v1::{ConfigSnapshot, FunctionConfig, KeyConfig, NamespaceQuota, NamespaceRate},
    limit::LimitId,
    model::{Quota, Rate},
    names::KeyId,
    v1::QuotaLimit,
};
use imbl::ordmap::DiffItem;
use tokio::sync::Notify;

use super::{configuration::Configuration, convert::usable};
use crate::{
    limits::{CallerSlots, Limit, Limits, PeriodQuota, Plan},
    routes::{Key, Keys, Table},
};

/// All limits of a configuration but those of keys, by name.
pub(super) fn of(config: &ConfigSnapshot, old: &Table) -> HashMap<LimitId, Arc<Limit>> {
    let functions = config.functions.iter().filter(|function| function.rate.is_some());
    let functions = functions.filter_map(|wire| usable(of_function(wire)));
    let namespaces = config.limits.iter().flat_map(|limits| &limits.rates);
    let namespaces = namespaces.filter_map(|wire| usable(of_namespace(wire)));
    functions.chain(namespaces).map(|named| (named.0.clone(), limit(named, old))).collect()
}

fn limit((id, rate, whose): (LimitId, Rate, String), old: &Table) -> Arc<Limit> {
    let part = old.limits.get(&id).map(|known| known.part.clone()).unwrap_or_default();
    Arc::new(Limit { id, rate, whose, part })
}

/// The keys of a configuration with what they may use; those that have not changed are the same as before.
pub(super) fn keys(config: &Configuration, was: &Configuration, old: &Table, wake: &Arc<Notify>) -> Keys {
    let mut keys = old.keys.clone();
    for difference in was.keys.diff(&config.keys) {
        match difference {
            DiffItem::Add(_, wire) | DiffItem::Update { new: (_, wire), .. } => {
                put(&mut keys, &wire.message(), old, wake)
            }
            DiffItem::Remove(id, _) => remove(&mut keys, id),
        }
    }
    keys
}

fn remove(keys: &mut Keys, id: &str) {
    keys.by_id.remove(id);
    if let Ok(id) = id.parse::<KeyId>() {
        keys.quotas.remove(&id);
        keys.at_once.remove(&id);
        keys.limits.remove(&LimitId::Key(id));
    }
}

/// A key that can't be understood is none.
fn put(keys: &mut Keys, wire: &KeyConfig, old: &Table, wake: &Arc<Notify>) {
    remove(keys, &wire.id);
    let Some((id, known)) = usable(key(wire).with_context(|| format!("key {:?}", wire.id))) else { return };
    let rate = wire.rate.and_then(|_| usable(rate_of_key(wire))).map(|named| limit(named, old));
    let quota = wire.quota.and_then(|_| usable(quota_of_key(&id, wire, old).with_context(|| format!("key {id:?}"))));
    keys.limits.extend(rate.iter().map(|limit| (limit.id.clone(), limit.clone())));
    keys.quotas.extend(quota.iter().map(|quota| (id.clone(), quota.clone())));
    let at_once = at_once(&id, wire.max_concurrency, old, wake);
    keys.at_once.extend(at_once.iter().map(|own| (id.clone(), own.clone())));
    let at_once = at_once.filter(|own| own.most().is_some());
    let is_under_a_plan = wire.rate.is_some() || wire.quota.is_some() || at_once.is_some();
    let plan = is_under_a_plan.then(|| Arc::new(Plan { rate, quota, at_once }));
    keys.by_id.insert(wire.id.clone(), Arc::new(Key { plan, ..known }));
}

fn key(wire: &KeyConfig) -> anyhow::Result<(KeyId, Key)> {
    let key = Key {
        namespace: wire.namespace.parse()?,
        secret_sha256: wire.secret_sha256.as_ref().try_into().context("the hash must have 32 bytes")?,
        functions: wire.functions.iter().map(|name| name.parse()).collect::<Result<_, _>>()?,
        expires: wire.expire_time.map(SystemTime::try_from).transpose().context("the expiry is out of range")?,
        plan: None,
        old: old_secret(wire)?,
    };
    Ok((wire.id.parse()?, key))
}

/// The secret that a key had before. One without an end has ended.
fn old_secret(wire: &KeyConfig) -> anyhow::Result<Option<([u8; 32], SystemTime)>> {
    let Some(end) = wire.old_secret_expire_time else { return Ok(None) };
    let hash = wire.old_secret_sha256.as_ref().try_into().context("the old hash must have 32 bytes")?;
    Ok(Some((hash, SystemTime::try_from(end).context("the old secret's end is out of range")?)))
}

fn rate_of_key(wire: &KeyConfig) -> anyhow::Result<(LimitId, Rate, String)> {
    let name = format!("key {}", wire.id);
    let rate = Rate::from_wire("rate", wire.rate.unwrap_or_default()).with_context(|| name.clone())?;
    Ok((LimitId::Key(wire.id.parse().with_context(|| name.clone())?), rate, name))
}

/// A key's calls at once; also where there is no limit for now, but calls may run that count if it comes back.
fn at_once(key: &KeyId, most: Option<u32>, old: &Table, wake: &Arc<Notify>) -> Option<Arc<CallerSlots>> {
    match old.keys.at_once.get(key) {
        Some(known) if known.most() == most => Some(known.clone()),
        Some(known) if known.has_begun() => Some(Arc::new(known.changed(most))),
        _ => most.map(|_| Arc::new(CallerSlots::new(key.clone(), most, wake))),
    }
}

fn quota_of_key(key: &KeyId, wire: &KeyConfig, old: &Table) -> anyhow::Result<Arc<PeriodQuota>> {
    let quota = Quota::from_wire("quota", wire.quota.unwrap_or_default())?;
    Ok(quota_of(LimitId::Key(key.clone()), format!("key {key}"), quota, old.keys.quotas.get(key)))
}

/// A quota; where it was known before, with what is lent of it.
fn quota_of(owner: LimitId, whose: String, quota: Quota, known: Option<&Arc<PeriodQuota>>) -> Arc<PeriodQuota> {
    if let Some(known) = known.filter(|known| known.quota == quota && known.whose == whose) {
        return known.clone();
    }
    let loan = known.map(|known| known.loan.clone()).unwrap_or_default();
    if let Some(loan) = loan.seen() {
        loan.reset();
    }
    Arc::new(PeriodQuota { owner, whose, quota, loan })
}

/// The quotas of functions and namespaces.
pub(super) fn quotas(config: &ConfigSnapshot, old: &Table) -> BTreeMap<LimitId, Arc<PeriodQuota>> {
    let of_function = |wire: &FunctionConfig| {
        let name = format!("function {}/{}", wire.namespace, wire.function);
        usable(quota_named(wire.uid.parse().map(LimitId::Function).ok(), name, wire.quota?, old))
    };
    let of_namespace = |wire: &NamespaceQuota| {
        let name = format!("namespace {}", wire.namespace);
        usable(quota_named(wire.namespace.parse().map(LimitId::Namespace).ok(), name, wire.quota?, old))
    };
    let namespaces = config.limits.iter().flat_map(|limits| &limits.quotas);
    let known = config.functions.iter().filter_map(of_function).chain(namespaces.filter_map(of_namespace));
    known.map(|quota| (quota.owner.clone(), quota)).collect()
}

fn quota_named(
    owner: Option<LimitId>,
    whose: String,
    wire: QuotaLimit,
    old: &Table,
) -> anyhow::Result<Arc<PeriodQuota>> {
    let quota = Quota::from_wire("quota", wire).with_context(|| whose.clone())?;
    let owner = owner.with_context(|| format!("read whose the quota of {whose} is"))?;
    let known = old.quotas.get(&owner);
    Ok(quota_of(owner, whose, quota, known))
}

fn of_function(wire: &FunctionConfig) -> anyhow::Result<(LimitId, Rate, String)> {
    let name = format!("function {}/{}", wire.namespace, wire.function);
    let rate = Rate::from_wire("rate", wire.rate.unwrap_or_default()).with_context(|| name.clone())?;
    Ok((LimitId::Function(wire.uid.parse().with_context(|| name.clone())?), rate, name))
}

fn of_namespace(wire: &NamespaceRate) -> anyhow::Result<(LimitId, Rate, String)> {
    let name = format!("namespace {}", wire.namespace);
    let rate = Rate::from_wire("rate", wire.rate.unwrap_or_default()).with_context(|| name.clone())?;
    Ok((LimitId::Namespace(wire.namespace.parse().with_context(|| name.clone())?), rate, name))
}

/// The limits that hold for calls of a function.
pub(super) fn holding(wire: &FunctionConfig, table: &Table) -> Limits {
    let function = wire.uid.parse().ok().map(LimitId::Function);
    let namespace = wire.namespace.parse().ok().map(LimitId::Namespace);
    let rate = |id: &Option<LimitId>| id.as_ref().and_then(|id| table.limits.get(id)).cloned();
    let quota = |id: &Option<LimitId>| id.as_ref().and_then(|id| table.quotas.get(id)).cloned();
    Limits {
        function: rate(&function),
        namespace: rate(&namespace),
        function_quota: quota(&function),
        namespace_quota: quota(&namespace),
    }
}

#[cfg(test)]
mod tests {
    use dunlin_proto::{
        ids::FunctionUid,
        internal::v1::NamespaceLimits,
        v1::{QuotaPeriod, RateLimit, RatePeriod},
    };

    use super::*;

    fn rate(requests: u32) -> Option<RateLimit> {
        Some(RateLimit { requests, period: RatePeriod::Second.into(), burst: None })
    }

    #[test]
    fn parts_outlive_a_change_of_their_limit() {
        let uid = FunctionUid::new().to_string();
        let function = |requests| FunctionConfig {
            uid: uid.clone(),
            namespace: "shop".into(),
            function: "pay".into(),
            rate: rate(requests),
            ..FunctionConfig::default()
        };
        let of_shop = |requests| NamespaceRate { namespace: "shop".into(), rate: rate(requests) };
        let config = |requests, rates| ConfigSnapshot {
            functions: vec![function(requests)],
            limits: Some(NamespaceLimits { rates, ..NamespaceLimits::default() }),
            ..ConfigSnapshot::default()
        };
        let limits =
            |config: &ConfigSnapshot, old: &Table| Table { limits: of(config, old).into(), ..Table::default() };
        let old = limits(&config(10, vec![of_shop(100), of_shop(0)]), &Table::default());
        let holding_first = holding(&function(10), &old);
        let (own, all) = (holding_first.function.unwrap(), holding_first.namespace.unwrap());
        assert_eq!((own.rate.requests, own.whose.as_str()), (10, "function shop/pay"));
        assert_eq!((all.rate.requests, all.whose.as_str()), (100, "namespace shop"));
        let second = limits(&config(20, Vec::new()), &old);
        let held = holding(&function(20), &second);
        assert!(held.namespace.is_none());
        let changed = held.function.unwrap();
        assert!(changed.rate.requests == 20 && Arc::ptr_eq(&changed.part, &own.part));
        assert!(of(&config(0, Vec::new()), &old).is_empty(), "a rate that is none is left out");
    }

    #[test]
    fn what_is_lent_of_quotas_outlives_their_changes() {
        let uid = FunctionUid::new().to_string();
        let limit = |requests| Some(QuotaLimit { requests, period: QuotaPeriod::Day.into(), ..QuotaLimit::default() });
        let function = |requests| FunctionConfig {
            uid: uid.clone(),
            namespace: "shop".into(),
            function: "pay".into(),
            quota: limit(requests),
            ..FunctionConfig::default()
        };
        let config = |requests, quotas| ConfigSnapshot {
            functions: vec![function(requests)],
            limits: Some(NamespaceLimits { quotas, ..NamespaceLimits::default() }),
            ..ConfigSnapshot::default()
        };
        let of_shop = |requests| vec![NamespaceQuota { namespace: "shop".into(), quota: limit(requests) }];
        let table =
            |config: &ConfigSnapshot, old: &Table| Table { quotas: quotas(config, old).into(), ..Table::default() };
        let first = table(&config(10, of_shop(100)), &Table::default());
        let held = holding(&function(10), &first);
        let (own, all) = (held.function_quota.unwrap(), held.namespace_quota.unwrap());
        assert_eq!((own.whose.as_str(), all.whose.as_str()), ("function shop/pay", "namespace shop"));
        assert_eq!(own.named(), (String::new(), format!("function/{uid}")));
        let second = table(&config(20, of_shop(100)), &first);
        let held = holding(&function(20), &second);
        let changed = held.function_quota.unwrap();
        assert!(changed.quota.requests == 20 && Arc::ptr_eq(&changed.loan, &own.loan));
        assert!(Arc::ptr_eq(&held.namespace_quota.unwrap(), &all), "what did not change is the same");
        assert!(table(&config(0, of_shop(0)), &first).quotas.is_empty(), "a quota that is none is left out");
    }
}
