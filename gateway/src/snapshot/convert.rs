//! What a configuration and placements on the wire mean here. A malformed entry is left out: one function's must not take
//! the others away.

use std::{collections::HashMap, sync::Arc, time::SystemTime};

use anyhow::Context;
use dunlin_proto::{
    ids::{AliasId, DomainName, FunctionUid, Namespace, VersionKey, VersionNumber},
    internal::v1::{
        AliasConfig, ConfigSnapshot, FunctionConfig, KeyConfig, OwnedDomain, Placements, StickyConfig, TrafficShare,
        VersionConfig,
    },
    model::from_wire_duration,
    names::{FunctionRef, KeyId},
    v1::Route,
};

use super::limits;
use crate::{
    dispatch::{
        placement::{Announced, Peer},
        wire,
    },
    limits::Limits,
    quota::{Quota, Tenant, Usage},
    routes::{
        Demand, Function, Key, Table, Version,
        router::{Router, Rule},
        split::{Split, Sticky},
    },
};

/// The table of a configuration; the demand of versions that stay is kept.
pub(super) fn table(config: &ConfigSnapshot, old: &Table) -> Table {
    let demand: HashMap<_, _> = old.versions().map(|version| (version.key, version.demand.clone())).collect();
    let mut quotas = Quotas::new(config, old);
    let limits = limits::of(config, old);
    let router = router(config, &old.router);
    let functions = config.functions.iter().filter_map(|wire| {
        let quota = Quota { limits: limits::holding(wire, &limits), ..quotas.of(wire) };
        let function =
            function(wire, &demand, quota).with_context(|| format!("function {}/{}", wire.namespace, wire.function));
        let mut function = usable(function)?;
        let site = router.site(function.name.namespace.as_str());
        function.automatic |= site.is_none_or(|site| site.calling(&function.name.function).is_empty());
        Some(function)
    });
    let quotas = limits::quotas(config, old);
    let with_plan = |wire: &KeyConfig| {
        let (id, known) = key(wire).with_context(|| format!("key {:?}", wire.id))?;
        anyhow::Ok((id, Key { plan: limits::plan(wire, &limits, &quotas), ..known }))
    };
    let keys = config.keys.iter().filter_map(|wire| usable(with_plan(wire)));
    let mut table = Table::new(config.version, functions.collect(), keys.collect());
    table.token_keys = config.token_keys.iter().map(|key| (key.id.clone(), key.public_key.to_vec())).collect();
    table.namespaces = config.namespaces.iter().filter_map(|name| name.parse().ok()).collect();
    table.router = router;
    table.limits = limits;
    table.quotas = quotas;
    table
}

fn router(config: &ConfigSnapshot, old: &Router) -> Router {
    let domain =
        |wire: &OwnedDomain| anyhow::Ok((wire.domain.parse::<DomainName>()?, wire.namespace.parse::<Namespace>()?));
    let domains = config.domains.iter().flat_map(|domains| &domains.domains);
    let domains = domains.filter_map(|wire| usable(domain(wire).with_context(|| format!("domain {:?}", wire.domain))));
    let before = old.checking();
    let rule = |wire: &Route| {
        let before = before.get(&wire.name).copied();
        Rule::from_wire(wire.clone(), before).with_context(|| format!("route {:?}", wire.name))
    };
    Router::new(domains, config.routes.iter().filter_map(|wire| usable(rule(wire))))
}

pub(super) fn usable<T>(entry: anyhow::Result<T>) -> Option<T> {
    entry.inspect_err(|error| tracing::error!(error = format!("{error:#}"), "left out of the configuration")).ok()
}

/// The limits of a configuration, with the counters of the table before it.
struct Quotas<'a> {
    limits: HashMap<&'a str, u32>,
    reserved: HashMap<&'a str, u32>,
    tenants: HashMap<String, Arc<Tenant>>,
    usage: HashMap<FunctionUid, Arc<Usage>>,
}

impl<'a> Quotas<'a> {
    fn new(config: &'a ConfigSnapshot, old: &Table) -> Self {
        let limits = config.limits.iter().flat_map(|limits| &limits.limits);
        let mut reserved: HashMap<_, u32> = HashMap::new();
        for function in &config.functions {
            let sum = reserved.entry(function.namespace.as_str()).or_default();
            *sum = sum.saturating_add(function.reserved_concurrency);
        }
        let tenant = |function: &Arc<Function>| (function.name.namespace.to_string(), function.quota.tenant.clone());
        let usage = |function: &Arc<Function>| {
            let version = function.versions.values().next()?;
            Some((version.key.function, function.quota.usage.clone()))
        };
        Self {
            limits: limits.map(|limit| (limit.namespace.as_str(), limit.max_concurrency)).collect(),
            reserved,
            tenants: old.functions().map(tenant).collect(),
            usage: old.functions().filter_map(usage).collect(),
        }
    }

    fn of(&mut self, wire: &FunctionConfig) -> Quota {
        let namespace = wire.namespace.as_str();
        let usage = wire.uid.parse::<FunctionUid>().ok().and_then(|uid| self.usage.get(&uid));
        Quota {
            max: wire.max_concurrency,
            reserved: wire.reserved_concurrency,
            namespace_max: self.limits.get(namespace).copied(),
            namespace_reserved: self.reserved.get(namespace).copied().unwrap_or_default(),
            usage: usage.cloned().unwrap_or_default(),
            tenant: self.tenants.entry(namespace.to_owned()).or_default().clone(),
            limits: Limits::default(),
        }
    }
}

fn function(
    wire: &FunctionConfig,
    demand: &HashMap<VersionKey, Arc<Demand>>,
    quota: Quota,
) -> anyhow::Result<Function> {
    let uid: FunctionUid = wire.uid.parse()?;
    let version = |wire: &VersionConfig| -> anyhow::Result<_> {
        let key = VersionKey { function: uid, number: wire.number.try_into()? };
        let version = Version {
            key,
            timeout: from_wire_duration(wire.timeout),
            request_body_bytes: wire.request_body_bytes,
            response_body_bytes: wire.response_body_bytes,
            standbys: wire.standbys.min(8) as usize,
            idempotent: wire.idempotent,
            demand: demand.get(&key).cloned().unwrap_or_default(),
        };
        Ok((wire.number, Arc::new(version)))
    };
    let alias = |wire: &AliasConfig| -> anyhow::Result<_> {
        let alias: AliasId = wire.name.parse()?;
        Ok((wire.name.clone(), Arc::new(split(uid, alias.as_str(), &wire.traffic, wire.sticky.as_ref())?)))
    };
    Ok(Function {
        name: FunctionRef { namespace: wire.namespace.parse()?, function: wire.function.parse()? },
        public: wire.public,
        automatic: wire.direct,
        disabled: wire.disabled,
        traffic: Arc::new(split(uid, "", &wire.traffic, wire.sticky.as_ref())?),
        aliases: wire.aliases.iter().map(alias).collect::<anyhow::Result<_>>()?,
        versions: wire.versions.iter().map(version).collect::<anyhow::Result<_>>()?,
        quota,
    })
}

fn split(
    function: FunctionUid,
    alias: &str,
    shares: &[TrafficShare],
    sticky: Option<&StickyConfig>,
) -> anyhow::Result<Split> {
    let share = |wire: &TrafficShare| anyhow::Ok((VersionNumber::try_from(wire.version)?, wire.percent.min(100)));
    let shares: Vec<_> = shares.iter().map(share).collect::<Result<_, _>>()?;
    let header = sticky.map(|wire| &wire.header).filter(|header| !header.is_empty());
    let header = header.map(|header| header.parse()).transpose().context("read the header that tells callers apart")?;
    let by = Sticky { header, cookie: sticky.is_some_and(|wire| wire.cookie) };
    Ok(Split::new(function, alias, sticky.map_or(0, |wire| wire.division), shares, by))
}

fn key(wire: &KeyConfig) -> anyhow::Result<(String, Key)> {
    let id: KeyId = wire.id.parse()?;
    let key = Key {
        namespace: wire.namespace.parse()?,
        secret_sha256: wire.secret_sha256.as_ref().try_into().context("the hash must have 32 bytes")?,
        functions: wire.functions.iter().map(|name| name.parse()).collect::<Result<_, _>>()?,
        expires: wire.expire_time.map(SystemTime::try_from).transpose().context("the expiry is out of range")?,
        plan: None,
    };
    Ok((id.to_string(), key))
}

/// The placements of a message.
pub(super) fn announced(placements: &Placements) -> Announced {
    let versions = placements.versions.iter().filter_map(|placed| {
        let key = wire::version_key(placed.version.as_ref()?)?;
        Some((key, placed.endpoints.clone()))
    });
    let endpoints = placements.endpoints.iter();
    let gateways = placements.gateways.iter();
    Announced {
        version: (placements.epoch, placements.sequence),
        endpoints: endpoints.map(|e| (e.id.clone(), e.worker.clone(), e.address.clone())).collect(),
        versions: versions.collect(),
        seats: placements.seats.iter().map(|seat| (seat.worker.clone(), seat.zone.clone())).collect(),
        gateways: gateways.map(|g| Peer { gateway: g.gateway.clone(), address: g.address.clone() }).collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use dunlin_proto::{
        internal::v1::{NamespaceLimit, NamespaceLimits, OwnedDomains},
        v1,
    };

    use super::*;

    fn config(uid: &str, namespace: &str) -> FunctionConfig {
        FunctionConfig {
            uid: uid.to_owned(),
            namespace: namespace.to_owned(),
            function: "pay".to_owned(),
            public: true,
            traffic: vec![TrafficShare { version: 1, percent: 100 }],
            versions: vec![VersionConfig { number: 1, ..VersionConfig::default() }],
            ..FunctionConfig::default()
        }
    }

    #[test]
    fn an_automatic_address_is_off_while_a_route_names_the_function_that_is_not_direct() {
        let mut functions: Vec<_> =
            ["shop", "bank", "mall"].map(|name| config(&FunctionUid::new().to_string(), name)).into();
        functions[2].direct = true;
        let route = |namespace: &str, path: &str| Route {
            name: format!("namespaces/{namespace}/routes/x"),
            path: path.to_owned(),
            target: Some(v1::route::Target::Function(v1::FunctionTarget {
                function: "pay".into(),
                ..v1::FunctionTarget::default()
            })),
            ..Route::default()
        };
        let routes = vec![route("shop", "/x"), route("bank", "no path"), route("mall", "/x")];
        let domain = |domain: &str| OwnedDomain { domain: domain.to_owned(), namespace: "shop".to_owned() };
        let domains = Some(OwnedDomains { domains: vec![domain("example.com"), domain("no domain")] });
        let whole = ConfigSnapshot { functions, routes, domains, ..ConfigSnapshot::default() };
        let table = table(&whole, &Table::default());
        let automatic = |namespace| table.function(namespace, "pay").unwrap().automatic;
        assert_eq!((automatic("shop"), automatic("bank"), automatic("mall")), (false, true, true));
        assert!(table.router.owner("a.example.com").is_some() && table.router.site("bank").is_none());
    }

    #[test]
    fn a_malformed_entry_does_not_take_the_others_away() {
        let uid = FunctionUid::new().to_string();
        let mut no_version = config(&FunctionUid::new().to_string(), "bank");
        no_version.versions[0].number = 0;
        let key = |id: &str, bytes: usize| KeyConfig {
            id: id.to_owned(),
            namespace: "shop".to_owned(),
            secret_sha256: vec![0; bytes].into(),
            ..KeyConfig::default()
        };
        let whole = ConfigSnapshot {
            version: 3,
            functions: vec![config(&uid, "shop"), config("x", "bank"), config(&uid, "../etc"), no_version],
            keys: vec![key("abcdefghijkl", 32), key("abcdefghijk2", 31), key("short", 32)],
            ..ConfigSnapshot::default()
        };
        let table = table(&whole, &Table::default());
        assert_eq!(table.functions().count(), 1);
        assert!(table.function("shop", "pay").is_some() && table.function("bank", "pay").is_none());
        assert!(table.key("abcdefghijkl").is_some() && table.key("abcdefghijk2").is_none());
    }

    #[test]
    fn limits_are_of_the_namespace_and_what_is_counted_survives() {
        let mut functions: Vec<_> = ["a", "b"]
            .map(|name| {
                let config = config(&FunctionUid::new().to_string(), "shop");
                FunctionConfig { function: name.to_owned(), reserved_concurrency: 2, ..config }
            })
            .into();
        functions[0].max_concurrency = Some(7);
        let limit = NamespaceLimit { namespace: "shop".to_owned(), max_concurrency: 9 };
        let limits = Some(NamespaceLimits { limits: vec![limit], ..NamespaceLimits::default() });
        let whole = ConfigSnapshot { functions, limits, ..ConfigSnapshot::default() };
        let first = table(&whole, &Table::default());
        let second = table(&whole, &first);
        let quota = |table: &Table, name| {
            let quota = &table.function("shop", name).unwrap().quota;
            assert_eq!((quota.namespace_max, quota.namespace_reserved, quota.reserved), (Some(9), 4, 2));
            (quota.max, quota.tenant.clone(), quota.usage.clone())
        };
        let (one, other, later) = (quota(&first, "a"), quota(&first, "b"), quota(&second, "a"));
        assert_eq!((one.0, other.0), (Some(7), None));
        assert!(Arc::ptr_eq(&one.1, &other.1) && !Arc::ptr_eq(&one.2, &other.2));
        assert!(Arc::ptr_eq(&one.1, &later.1) && Arc::ptr_eq(&one.2, &later.2));
    }

    #[test]
    fn what_checks_requests_is_made_once_for_each_change_of_it() {
        let route = |schema: &str, path: &str| {
            let rule = v1::ParameterRule {
                place: v1::ParameterPlace::Query.into(),
                name: "q".into(),
                schema: schema.into(),
                ..Default::default()
            };
            let target = v1::FunctionTarget { function: "pay".into(), ..Default::default() };
            let routes = vec![Route {
                name: "namespaces/shop/routes/x".into(),
                path: path.into(),
                target: Some(v1::route::Target::Function(target)),
                validation: Some(v1::Validation { parameters: vec![rule], body: None }),
                ..Default::default()
            }];
            ConfigSnapshot { routes, ..ConfigSnapshot::default() }
        };
        let checker = |table: &Table| {
            let calling = table.router.site("shop").map(|site| site.calling(&"pay".parse().unwrap()).to_vec());
            calling.and_then(|rules| rules[0].checker().cloned())
        };
        let first = table(&route("{}", "/a"), &Table::default());
        let moved = table(&route("{}", "/b"), &first);
        let changed = table(&route("true", "/b"), &moved);
        let (first, moved, changed) = (checker(&first).unwrap(), checker(&moved).unwrap(), checker(&changed).unwrap());
        assert!(Arc::ptr_eq(&first, &moved) && !Arc::ptr_eq(&moved, &changed));
        assert!(table(&route("{\"type\":1}", "/b"), &Table::default()).router.site("shop").is_none());
    }

    #[test]
    fn demand_survives_a_change_of_the_configuration() {
        let uid = FunctionUid::new().to_string();
        let whole = ConfigSnapshot { functions: vec![config(&uid, "shop")], ..ConfigSnapshot::default() };
        let first = table(&whole, &Table::default());
        first.versions().next().unwrap().demand.in_flight.store(7, Ordering::Relaxed);
        let second = table(&whole, &first);
        assert_eq!(second.versions().next().unwrap().demand.now(), (7, 0));
    }
}
