//! What a configuration and placements on the wire mean here. A malformed entry is left out: one function's must not take
//! the others away.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use anyhow::Context;
use dunlin_proto::{
    ids::{AliasId, DomainName, FunctionUid, Namespace, VersionKey, VersionNumber},
    internal::v1::{
        AliasConfig, ConfigSnapshot, FunctionConfig, GatewayPeer, OwnedDomain, Placements, StickyConfig, TrafficShare,
        VersionConfig,
    },
    limit::LimitId,
    model::from_wire_duration,
    names::FunctionRef,
    v1::Route,
};
use imbl::ordmap::DiffItem;
use tokio::sync::Notify;

use super::{configuration::Configuration, encoded::Encoded, limits};
use crate::{
    dispatch::{
        placement::{Announced, Peer},
        wire,
    },
    limits::{Bounded, Limits},
    quota::{Quota, Tenant, Usage},
    routes::{
        Demand, Function, Functions, Table, Version, by_name,
        router::{Router, Rule},
        split::{Split, Sticky},
    },
};

/// The table of a configuration, where another one was made of an earlier configuration: what has not changed is shared, and
/// what is counted stays. `wake` wakes the stream to the scheduler.
pub(super) fn table(config: &Configuration, was: &Configuration, old: &Table, wake: &Arc<Notify>) -> Table {
    let router = router(config, was, old);
    let keys = limits::keys(config, was, old, wake);
    let mut table = Table { version: config.version, router, ..old.clone() };
    if !Arc::ptr_eq(&config.core, &was.core) {
        table.token_keys = config.core.token_keys.iter().map(|key| (key.id.clone(), key.public_key.to_vec())).collect();
        table.namespaces = Arc::new(config.core.namespaces.iter().filter_map(|name| name.parse().ok()).collect());
    }
    table.limits = keys.limits.clone();
    table.limits.extend(limits::of(&config.core, old));
    if !Arc::ptr_eq(&config.core, &was.core) {
        table.quotas = Arc::new(limits::quotas(&config.core, old));
    }
    table.keys = keys;
    if !Arc::ptr_eq(&config.core, &was.core) || !Arc::ptr_eq(&table.router, &old.router) {
        table.functions = Arc::new(functions(&config.core, &table, old, wake));
        table.slots = Arc::new(slots(&table));
    }
    table
}

/// The functions of a configuration, in a table that has the rest; the demand of versions that stay is kept.
fn functions(config: &ConfigSnapshot, table: &Table, old: &Table, wake: &Arc<Notify>) -> Functions {
    let demand: HashMap<_, _> = old.versions().map(|version| (version.key, version.demand.clone())).collect();
    let mut quotas = Quotas::new(config, old, wake);
    let functions = config.functions.iter().filter_map(|wire| {
        let quota = Quota { limits: limits::holding(wire, table), ..quotas.of(wire) };
        let function =
            function(wire, &demand, quota).with_context(|| format!("function {}/{}", wire.namespace, wire.function));
        let mut function = usable(function)?;
        let site = table.router.site(function.name.namespace.as_str());
        function.automatic |= site.is_none_or(|site| site.calling(&function.name.function).is_empty());
        Some(function)
    });
    by_name(functions)
}

/// The limits of calls at once. A function without a version can't be called.
fn slots(table: &Table) -> BTreeMap<LimitId, Bounded> {
    let of = |function: &Arc<Function>| {
        let uid = function.versions.values().next()?.key.function;
        Some(function.quota.bounded(uid, &function.name.namespace))
    };
    table.functions().filter_map(of).flatten().map(|bounded| (bounded.id.clone(), bounded)).collect()
}

fn router(config: &Configuration, was: &Configuration, old: &Table) -> Arc<Router> {
    let same = config.core.domains == was.core.domains;
    if same && config.routes.ptr_eq(&was.routes) {
        return old.router.clone();
    }
    let domain =
        |wire: &OwnedDomain| anyhow::Ok((wire.domain.parse::<DomainName>()?, wire.namespace.parse::<Namespace>()?));
    let domains = config.core.domains.iter().flat_map(|domains| &domains.domains);
    let domains = domains.filter_map(|wire| usable(domain(wire).with_context(|| format!("domain {:?}", wire.domain))));
    let rule = |name: &str, wire: &Encoded<Route>| {
        usable(Rule::from_wire(wire.message()).with_context(|| format!("route {name:?}")))
    };
    let changes = was.routes.diff(&config.routes).map(|difference| match difference {
        DiffItem::Add(name, wire) | DiffItem::Update { new: (name, wire), .. } => (name.clone(), rule(name, wire)),
        DiffItem::Remove(name, _) => (name.clone(), None),
    });
    Arc::new(old.router.changed(domains, changes))
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
    wake: &'a Arc<Notify>,
}

impl<'a> Quotas<'a> {
    fn new(config: &'a ConfigSnapshot, old: &Table, wake: &'a Arc<Notify>) -> Self {
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
            wake,
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
            usage: usage.cloned().unwrap_or_else(|| Arc::new(Usage::new(self.wake))),
            tenant: self
                .tenants
                .entry(namespace.to_owned())
                .or_insert_with(|| Arc::new(Tenant::new(self.wake)))
                .clone(),
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
            made: wire.create_time.and_then(|time| time.try_into().ok()),
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
    let split = Split::new(function, alias, sticky.map_or(0, |wire| wire.division), shares, by);
    let seed = sticky.map(|wire| wire.seed.as_str()).filter(|seed| !seed.is_empty());
    Ok(match seed {
        Some(seed) => split.with_seed(seed),
        None => split,
    })
}

/// The placements of a message.
pub(super) fn announced(placements: &Placements) -> Announced {
    let versions = placements.versions.iter().filter_map(|placed| {
        let key = wire::version_key(placed.version.as_ref()?)?;
        Some((key, placed.endpoints.clone()))
    });
    let endpoints = placements.endpoints.iter();
    let peer = |known: &GatewayPeer| Peer { gateway: known.gateway.clone(), address: known.address.clone() };
    Announced {
        version: (placements.epoch, placements.sequence),
        endpoints: endpoints.map(|e| (e.id.clone(), e.worker.clone(), e.address.clone())).collect(),
        versions: versions.collect(),
        seats: placements.seats.iter().map(|seat| (seat.worker.clone(), seat.zone.clone())).collect(),
        gateways: placements.gateways.iter().map(peer).collect(),
        departed: placements.departed.iter().map(peer).collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use dunlin_proto::{
        internal::v1::{ConfigDelta, KeyConfig, NamespaceLimit, NamespaceLimits, OwnedDomains},
        v1::{self, RateLimit, RatePeriod},
    };

    use super::*;

    fn first_table(whole: ConfigSnapshot) -> Table {
        table(&whole.into(), &Configuration::default(), &Table::default(), &Arc::default())
    }

    /// A table after another one, although nothing says what they have in common.
    fn again(whole: ConfigSnapshot, first: &Table) -> Table {
        table(&whole.into(), &Configuration::default(), first, &Arc::default())
    }

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
        let table = first_table(whole);
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
        let table = first_table(whole);
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
        let first = first_table(whole.clone());
        let second = again(whole, &first);
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

    fn key(id: &str, requests: u32) -> KeyConfig {
        let rate = Some(RateLimit { requests, period: RatePeriod::Second.into(), burst: None });
        let (namespace, secret_sha256) = ("shop".to_owned(), vec![0; 32].into());
        KeyConfig { id: id.to_owned(), namespace, secret_sha256, rate, ..KeyConfig::default() }
    }

    #[test]
    fn what_does_not_change_is_shared() {
        let functions = vec![config(&FunctionUid::new().to_string(), "shop")];
        let keys = vec![key("abcdefghijkl", 1), key("abcdefghijkm", 2)];
        let whole = ConfigSnapshot { version: 1, functions, keys, ..ConfigSnapshot::default() };
        let (empty, before) = (Configuration::default(), Configuration::from(whole));
        let first = table(&before, &empty, &Table::default(), &Arc::default());
        let delta = ConfigDelta {
            base_version: 1,
            version: 2,
            keys: vec![key("abcdefghijkm", 3)],
            removed_keys: vec!["abcdefghijkl".to_owned()],
            ..ConfigDelta::default()
        };
        let after = before.apply(delta).unwrap();
        let second = table(&after, &before, &first, &Arc::default());
        assert!(Arc::ptr_eq(&first.functions, &second.functions) && Arc::ptr_eq(&first.router, &second.router));
        assert!(second.version == 2 && second.key("abcdefghijkl").is_none());
        let limit = |table: &Table| table.key("abcdefghijkm").unwrap().plan.clone().unwrap().rate.clone().unwrap();
        assert_eq!((limit(&first).rate.requests, limit(&second).rate.requests), (2, 3));
        assert!(Arc::ptr_eq(&limit(&first).part, &limit(&second).part) && second.limits.len() == 1);
        let route = Route {
            name: "namespaces/shop/routes/x".to_owned(),
            path: "/x".to_owned(),
            target: Some(v1::route::Target::Response(v1::StaticResponse::default())),
            ..Route::default()
        };
        let delta = ConfigDelta { base_version: 2, version: 3, routes: vec![route], ..ConfigDelta::default() };
        let last = after.apply(delta).unwrap();
        let third = table(&last, &after, &second, &Arc::default());
        assert!(third.keys.by_id.ptr_eq(&second.keys.by_id) && third.router.site("shop").is_some());
        let delta = ConfigDelta {
            base_version: 3,
            removed_routes: vec!["namespaces/shop/routes/x".to_owned()],
            ..ConfigDelta::default()
        };
        assert!(table(&last.apply(delta).unwrap(), &last, &third, &Arc::default()).router.is_empty());
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
        let empty = Configuration::default();
        let (one, other) = (Configuration::from(route("{}", "/a")), Configuration::from(route("true", "/a")));
        let first = table(&one, &empty, &Table::default(), &Arc::default());
        // The same, told again as a whole.
        let again = Configuration { version: 9, ..Configuration::from(route("{}", "/a")) };
        let same = table(&again, &one, &first, &Arc::default());
        let changed = table(&other, &again, &same, &Arc::default());
        let (first, same, changed) = (checker(&first).unwrap(), checker(&same).unwrap(), checker(&changed).unwrap());
        assert!(Arc::ptr_eq(&first, &same) && !Arc::ptr_eq(&same, &changed));
        assert!(first_table(route("{\"type\":1}", "/b")).router.site("shop").is_none());
    }

    #[test]
    fn demand_survives_a_change_of_the_configuration() {
        let uid = FunctionUid::new().to_string();
        let whole = ConfigSnapshot { functions: vec![config(&uid, "shop")], ..ConfigSnapshot::default() };
        let first = first_table(whole.clone());
        first.versions().next().unwrap().demand.in_flight.store(7, Ordering::Relaxed);
        let second = again(whole, &first);
        assert_eq!(second.versions().next().unwrap().demand.now(), (7, 0));
    }
}
