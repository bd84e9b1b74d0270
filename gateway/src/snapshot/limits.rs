//! Limits of calls in a time and quotas of keys, as a configuration names them. The part of each that this gateway has stays
//! what it is.

use std::{collections::HashMap, sync::Arc};

use anyhow::Context;
use dunlin_proto::{
    internal::v1::{ConfigSnapshot, FunctionConfig, KeyConfig, NamespaceRate},
    limit::LimitId,
    model::{Quota, Rate},
    names::KeyId,
};
use tokio::time::Instant;

use super::convert::usable;
use crate::{
    limits::{KeyQuota, Limit, Limits, Part, Plan, QuotaLoan},
    routes::Table,
};

/// All limits of a configuration, by name.
pub(super) fn of(config: &ConfigSnapshot, old: &Table) -> HashMap<LimitId, Arc<Limit>> {
    let now = Instant::now();
    let functions = config.functions.iter().filter(|function| function.rate.is_some());
    let functions = functions.filter_map(|wire| usable(of_function(wire)));
    let namespaces = config.limits.iter().flat_map(|limits| &limits.rates);
    let namespaces = namespaces.filter_map(|wire| usable(of_namespace(wire)));
    let keys = config.keys.iter().filter(|key| key.rate.is_some()).filter_map(|wire| usable(rate_of_key(wire)));
    let limit = |(id, rate, whose): (LimitId, Rate, String)| {
        let part = old.limits.get(&id).map(|known| known.part.clone());
        let part = part.unwrap_or_else(|| Arc::new(Part::new(now)));
        (id.clone(), Arc::new(Limit { id, rate, whose, part }))
    };
    functions.chain(namespaces).chain(keys).map(limit).collect()
}

fn rate_of_key(wire: &KeyConfig) -> anyhow::Result<(LimitId, Rate, String)> {
    let name = format!("key {}", wire.id);
    let rate = Rate::from_wire("rate", wire.rate.unwrap_or_default()).with_context(|| name.clone())?;
    Ok((LimitId::Key(wire.id.parse().with_context(|| name.clone())?), rate, name))
}

/// All quotas of a configuration, by key.
pub(super) fn quotas(config: &ConfigSnapshot, old: &Table) -> HashMap<KeyId, Arc<KeyQuota>> {
    let now = Instant::now();
    let quota = |wire: &KeyConfig| {
        let (key, quota): (KeyId, _) = (wire.id.parse()?, Quota::from_wire("quota", wire.quota.unwrap_or_default())?);
        let known = old.quotas.get(&key);
        if let Some(known) = known.filter(|known| known.quota == quota) {
            return Ok((key, known.clone()));
        }
        let loan = known.map_or_else(|| Arc::new(QuotaLoan::new(now)), |known| known.loan.clone());
        loan.reset();
        anyhow::Ok((key.clone(), Arc::new(KeyQuota { key, quota, loan })))
    };
    let keys = config.keys.iter().filter(|key| key.quota.is_some());
    keys.filter_map(|wire| usable(quota(wire).with_context(|| format!("key {:?}", wire.id)))).collect()
}

/// What a key may use; nothing where it is under no plan.
pub(super) fn plan(
    wire: &KeyConfig,
    limits: &HashMap<LimitId, Arc<Limit>>,
    quotas: &HashMap<KeyId, Arc<KeyQuota>>,
) -> Option<Arc<Plan>> {
    let key: KeyId = wire.id.parse().ok().filter(|_| wire.rate.is_some() || wire.quota.is_some())?;
    let quota = quotas.get(&key).cloned();
    Some(Arc::new(Plan { rate: limits.get(&LimitId::Key(key)).cloned(), quota }))
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
pub(super) fn holding(wire: &FunctionConfig, limits: &HashMap<LimitId, Arc<Limit>>) -> Limits {
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
        let first = of(&config(10, vec![of_shop(100), of_shop(0)]), &Table::default());
        let holding_first = holding(&function(10), &first);
        let (own, all) = (holding_first.function.unwrap(), holding_first.namespace.unwrap());
        assert_eq!((own.rate.requests, own.whose.as_str()), (10, "function shop/pay"));
        assert_eq!((all.rate.requests, all.whose.as_str()), (100, "namespace shop"));
        let mut old = Table::default();
        old.limits = first;
        let second = of(&config(20, Vec::new()), &old);
        let held = holding(&function(20), &second);
        assert!(held.namespace.is_none());
        let changed = held.function.unwrap();
        assert!(changed.rate.requests == 20 && Arc::ptr_eq(&changed.part, &own.part));
        assert!(of(&config(0, Vec::new()), &old).is_empty(), "a rate that is none is left out");
    }
}
