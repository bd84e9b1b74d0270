//! Keys, limits of calls in a time, and quotas, as a configuration names them. The part of each that this gateway has stays
//! what it is.

use std::{collections::HashMap, sync::Arc, time::SystemTime};

use anyhow::Context;
use dunlin_proto::{
    internal::v1::{ConfigSnapshot, FunctionConfig, KeyConfig, NamespaceRate},
    limit::LimitId,
    model::{Quota, Rate},
    names::KeyId,
};
use imbl::{OrdMap, ordmap::DiffItem};

use super::{configuration::Configuration, convert::usable};
use crate::{
    limits::{KeyQuota, Limit, Limits, Plan},
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
pub(super) fn keys(config: &Configuration, was: &Configuration, old: &Table) -> Keys {
    let mut keys = old.keys.clone();
    for difference in was.keys.diff(&config.keys) {
        match difference {
            DiffItem::Add(_, wire) | DiffItem::Update { new: (_, wire), .. } => put(&mut keys, &wire.message(), old),
            DiffItem::Remove(id, _) => remove(&mut keys, id),
        }
    }
    keys
}

fn remove(keys: &mut Keys, id: &str) {
    keys.by_id.remove(id);
    if let Ok(id) = id.parse::<KeyId>() {
        keys.quotas.remove(&id);
        keys.limits.remove(&LimitId::Key(id));
    }
}

/// A key that can't be understood is none.
fn put(keys: &mut Keys, wire: &KeyConfig, old: &Table) {
    remove(keys, &wire.id);
    let Some((id, known)) = usable(key(wire).with_context(|| format!("key {:?}", wire.id))) else { return };
    let rate = wire.rate.and_then(|_| usable(rate_of_key(wire))).map(|named| limit(named, old));
    let quota = wire.quota.and_then(|_| usable(quota(&id, wire, old).with_context(|| format!("key {id:?}"))));
    keys.limits.extend(rate.iter().map(|limit| (limit.id.clone(), limit.clone())));
    keys.quotas.extend(quota.iter().map(|quota| (id.clone(), quota.clone())));
    let is_under_a_plan = wire.rate.is_some() || wire.quota.is_some();
    let plan = is_under_a_plan.then(|| Arc::new(Plan { rate, quota }));
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

fn quota(key: &KeyId, wire: &KeyConfig, old: &Table) -> anyhow::Result<Arc<KeyQuota>> {
    let quota = Quota::from_wire("quota", wire.quota.unwrap_or_default())?;
    let known = old.keys.quotas.get(key);
    if let Some(known) = known.filter(|known| known.quota == quota) {
        return Ok(known.clone());
    }
    let loan = known.map(|known| known.loan.clone()).unwrap_or_default();
    if let Some(loan) = loan.seen() {
        loan.reset();
    }
    Ok(Arc::new(KeyQuota { key: key.clone(), quota, loan }))
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
pub(super) fn holding(wire: &FunctionConfig, limits: &OrdMap<LimitId, Arc<Limit>>) -> Limits {
    let of = |id: Option<LimitId>| id.and_then(|id| limits.get(&id)).cloned();
    Limits {
        function: of(wire.uid.parse().ok().map(LimitId::Function)),
        namespace: of(wire.namespace.parse().ok().map(LimitId::Namespace)),
    }
}

#[cfg(test)]
mod tests {
    use dunlin_proto::{
        ids::FunctionUid,
        internal::v1::NamespaceLimits,
        v1::{RateLimit, RatePeriod},
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
        let first: OrdMap<_, _> = of(&config(10, vec![of_shop(100), of_shop(0)]), &Table::default()).into();
        let holding_first = holding(&function(10), &first);
        let (own, all) = (holding_first.function.unwrap(), holding_first.namespace.unwrap());
        assert_eq!((own.rate.requests, own.whose.as_str()), (10, "function shop/pay"));
        assert_eq!((all.rate.requests, all.whose.as_str()), (100, "namespace shop"));
        let old = Table { limits: first, ..Table::default() };
        let second = of(&config(20, Vec::new()), &old).into();
        let held = holding(&function(20), &second);
        assert!(held.namespace.is_none());
        let changed = held.function.unwrap();
        assert!(changed.rate.requests == 20 && Arc::ptr_eq(&changed.part, &own.part));
        assert!(of(&config(0, Vec::new()), &old).is_empty(), "a rate that is none is left out");
    }
}
