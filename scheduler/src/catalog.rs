//! The durable state that placements and gateways are made of, in memory: one immutable value, replaced whole after each
//! change. Decisions and streams read it, so that they go on while the database is away.

mod keeper;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use dunlin_proto::{
    ids::{Digest, DomainName, FunctionUid, Namespace, VersionKey, VersionNumber},
    limit::LimitId,
    model::{Quota, Rate, Retention, VersionSpec},
    names::{KeyId, PlanName, RouteName},
    route::RouteSpec,
    standby::STANDBYS,
};
use imbl::OrdMap;

pub(crate) use self::keeper::CatalogKeeper;
use crate::{
    lending::Allowance,
    model::{
        AliasRecord, Code, Compiled, FunctionRecord, KeyRecord, NamespaceRecord, PlanRecord, RouteRecord, Share,
        VersionRecord,
    },
    store::{CatalogChanges, CatalogRows, CoreRows},
};

/// A function with its versions.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CatalogFunction {
    pub(crate) record: FunctionRecord,
    pub(crate) versions: BTreeMap<VersionNumber, Arc<VersionRecord>>,
    /// In the order of their names, without the one that is its traffic.
    pub(crate) aliases: Vec<AliasRecord>,
}

impl CatalogFunction {
    /// Whether a share of the calls goes to the version, by whatever alias.
    pub(crate) fn serves(&self, number: VersionNumber) -> bool {
        self.shares().any(|share| share.0 == number && share.1 > 0)
    }

    /// The shares of its traffic, then those of its aliases.
    pub(crate) fn shares(&self) -> impl Iterator<Item = &Share> {
        self.record.traffic.iter().chain(self.aliases.iter().flat_map(|alias| &alias.shares))
    }

    /// On how many workers the version is kept on standby: none without traffic, and no more than it may have.
    pub(crate) fn standbys(&self, version: &VersionRecord) -> u32 {
        let most = version.spec.scaling.max_workers.unwrap_or(STANDBYS);
        if self.serves(version.number) { STANDBYS.min(most) } else { 0 }
    }

    /// What the version is limited to that most calls go to; of two with as many, the newer one: it decides for the function.
    pub(crate) fn leading(&self) -> Option<&VersionSpec> {
        let order = |share: &&Share| (share.1, share.0);
        let Share(most, _) =
            self.record.traffic.iter().max_by_key(order).or_else(|| self.shares().max_by_key(order))?;
        self.versions.get(most).map(|version| &version.spec)
    }
}

/// A key that callers can use, with the plan that it is under.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CatalogKey {
    pub(crate) record: KeyRecord,
    pub(crate) plan: Option<Arc<PlanRecord>>,
}

type Plans = HashMap<PlanName, Arc<PlanRecord>>;

/// Everything but keys and routes.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Core {
    pub(crate) namespaces: BTreeSet<Namespace>,
    /// How many invocations at once the namespaces may have that are bounded.
    pub(crate) limits: BTreeMap<Namespace, u32>,
    /// Of these, what functions reserve.
    reserved: BTreeMap<Namespace, u32>,
    /// How many calls in a time the namespaces may have that are bounded.
    pub(crate) rates: BTreeMap<Namespace, Rate>,
    /// The same in a day or month.
    pub(crate) quotas: BTreeMap<Namespace, Quota>,
    /// What is kept of the records and logs of namespaces that have that of their own.
    pub(crate) retentions: Arc<BTreeMap<Namespace, Retention>>,
    pub(crate) functions: BTreeMap<FunctionUid, CatalogFunction>,
    /// With the namespaces that own them.
    pub(crate) domains: BTreeMap<DomainName, Namespace>,
    plans: Plans,
    /// By artifact, then by engine.
    codes: HashMap<Digest, BTreeMap<String, Arc<Code>>>,
}

/// One state of everything. Keys and routes can be very many, so that states share those which did not change, and what
/// differs between two states is found without looking at the others.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Catalog {
    /// The configuration's version.
    pub(crate) version: u64,
    pub(crate) core: Arc<Core>,
    pub(crate) keys: OrdMap<KeyId, Arc<CatalogKey>>,
    pub(crate) routes: OrdMap<RouteName, Arc<RouteSpec>>,
}

impl std::ops::Deref for Catalog {
    type Target = Core;

    fn deref(&self) -> &Core {
        &self.core
    }
}

impl Core {
    /// Puts rows together. A version whose function is not among them is left out.
    fn from_rows(rows: CoreRows) -> Self {
        let function = |record: FunctionRecord| {
            (record.uid, CatalogFunction { record, versions: BTreeMap::new(), aliases: Vec::new() })
        };
        let mut functions: BTreeMap<_, _> = rows.functions.into_iter().map(function).collect();
        for version in rows.versions {
            if let Some(function) = functions.get_mut(&version.uid) {
                function.versions.insert(version.number, Arc::new(version));
            }
        }
        for alias in rows.aliases {
            if let Some(function) = functions.get_mut(&alias.uid) {
                function.aliases.push(alias);
            }
        }
        let limits = rows.namespaces.iter().filter_map(|it| Some((it.name.clone(), it.max_concurrency?))).collect();
        let rates = rows.namespaces.iter().filter_map(|it| Some((it.name.clone(), it.rate?))).collect();
        let quotas = rows.namespaces.iter().filter_map(|it| Some((it.name.clone(), it.quota?))).collect();
        let kept = |it: &NamespaceRecord| it.retention.is_set().then(|| (it.name.clone(), it.retention));
        let retentions = Arc::new(rows.namespaces.iter().filter_map(kept).collect());
        let namespaces = rows.namespaces.into_iter().map(|namespace| namespace.name).collect();
        let domains = rows.domains.into_iter().map(|it| (it.name.domain, it.name.namespace)).collect();
        let plans = rows.plans.into_iter().map(|plan| (plan.name.clone(), Arc::new(plan))).collect();
        let reserved = reserved(functions.values());
        let codes = codes(rows.codes);
        Self { namespaces, limits, reserved, rates, quotas, retentions, functions, domains, plans, codes }
    }

    /// The key with its plan.
    fn with_plan(&self, record: KeyRecord) -> Arc<CatalogKey> {
        let plan = record.plan.clone().map(|plan| PlanName { namespace: record.namespace.clone(), plan });
        Arc::new(CatalogKey { plan: plan.and_then(|name| self.plans.get(&name)).cloned(), record })
    }
}

impl Catalog {
    /// Puts rows together.
    pub(crate) fn from_rows(rows: CatalogRows) -> Self {
        let core = Core::from_rows(rows.core);
        let keys = rows.keys.into_iter().map(|key| (key.id.clone(), core.with_plan(key))).collect();
        let routes = rows.routes.into_iter().map(with_name).collect();
        Self { version: rows.version, core: Arc::new(core), keys, routes }
    }

    /// The state after changes.
    pub(crate) fn changed(&self, changes: CatalogChanges) -> Self {
        let core = changes.core.map_or_else(|| self.core.clone(), |rows| Arc::new(Core::from_rows(rows)));
        let mut keys = self.keys.clone();
        if core.plans != self.core.plans {
            keys.extend(replanned(&self.keys, &core));
        }
        for (name, key) in changes.keys {
            match key {
                Some(key) => keys.insert(name.key, core.with_plan(key)),
                None => keys.remove(&name.key),
            };
        }
        let mut routes = self.routes.clone();
        for (name, route) in changes.routes {
            match route.map(with_name) {
                Some((name, spec)) => routes.insert(name, spec),
                None => routes.remove(&name),
            };
        }
        Self { version: changes.version, core, keys, routes }
    }

    /// The version, where it still exists.
    pub(crate) fn version(&self, key: &VersionKey) -> Option<&Arc<VersionRecord>> {
        self.functions.get(&key.function)?.versions.get(&key.number)
    }

    /// What a limit allows, where there is such a limit.
    pub(crate) fn allowance(&self, limit: &LimitId) -> Option<Allowance> {
        match limit {
            LimitId::Function(uid) => self.functions.get(uid)?.leading()?.limits.rate.map(Allowance::Rate),
            LimitId::Namespace(name) => self.rates.get(name).copied().map(Allowance::Rate),
            LimitId::Key(id) => self.keys.get(id)?.plan.as_ref()?.rate.map(Allowance::Rate),
            LimitId::KeyConcurrency(id) => self.keys.get(id)?.plan.as_ref()?.max_concurrency.map(Allowance::AtOnce),
            LimitId::Concurrency(uid) => {
                self.functions.get(uid)?.leading()?.scaling.max_concurrency.map(Allowance::AtOnce)
            }
            LimitId::Reserved(uid) => {
                let function = self.functions.get(uid)?;
                self.limits.get(&function.record.namespace)?;
                let reserved = function.leading()?.scaling.reserved_concurrency;
                (reserved > 0).then_some(Allowance::AtOnce(reserved))
            }
            LimitId::Shared(name) => {
                let reserved = self.reserved.get(name).copied().unwrap_or_default();
                Some(Allowance::AtOnce(self.limits.get(name)?.saturating_sub(reserved)))
            }
        }
    }

    /// What of calls is admitted in a day or month, where there is such a bound.
    pub(crate) fn quota(&self, owner: &LimitId) -> Option<Quota> {
        match owner {
            LimitId::Function(uid) => self.functions.get(uid)?.leading()?.limits.quota,
            LimitId::Namespace(name) => self.quotas.get(name).copied(),
            LimitId::Key(id) => self.keys.get(id)?.plan.as_ref()?.quota,
            LimitId::KeyConcurrency(_) | LimitId::Concurrency(_) | LimitId::Reserved(_) | LimitId::Shared(_) => None,
        }
    }

    /// Every limit that has a rate.
    pub(crate) fn limited(&self) -> impl Iterator<Item = LimitId> {
        let limits = |function: &CatalogFunction| function.leading().is_some_and(|spec| spec.limits.rate.is_some());
        let functions = self.functions.iter().filter(move |(_, function)| limits(function));
        let functions = functions.map(|(uid, _)| LimitId::Function(*uid));
        let has_rate = |key: &CatalogKey| key.plan.as_ref().is_some_and(|plan| plan.rate.is_some());
        let keys = self.keys.iter().filter(move |(_, key)| has_rate(key)).map(|(id, _)| LimitId::Key(id.clone()));
        functions.chain(self.rates.keys().cloned().map(LimitId::Namespace)).chain(keys)
    }

    /// All versions.
    pub(crate) fn versions(&self) -> impl Iterator<Item = (VersionKey, &Arc<VersionRecord>)> {
        self.functions.values().flat_map(|function| function.versions.values()).map(|version| (version.key(), version))
    }

    /// The engines that can run the version, with the code for each.
    pub(crate) fn codes(&self, version: &VersionRecord) -> Option<&BTreeMap<String, Arc<Code>>> {
        self.codes.get(&version.artifact)
    }

    /// The artifacts of versions that have no code for an engine, with a namespace that uses each.
    pub(crate) fn without_code(&self, fingerprint: &str) -> BTreeMap<Digest, Namespace> {
        let lacks =
            |version: &&Arc<VersionRecord>| self.codes(version).is_none_or(|codes| !codes.contains_key(fingerprint));
        let versions = self.versions().map(|(_, version)| version).filter(lacks);
        versions.map(|version| (version.artifact, version.function.namespace.clone())).collect()
    }
}

fn codes(compiled: Vec<Compiled>) -> HashMap<Digest, BTreeMap<String, Arc<Code>>> {
    let mut codes: HashMap<_, BTreeMap<_, _>> = HashMap::new();
    for Compiled { code, .. } in compiled {
        codes.entry(code.artifact).or_default().insert(code.fingerprint.clone(), Arc::new(code));
    }
    codes
}

/// What the functions of each namespace reserve.
fn reserved<'a>(functions: impl Iterator<Item = &'a CatalogFunction>) -> BTreeMap<Namespace, u32> {
    let mut sums: BTreeMap<Namespace, u32> = BTreeMap::new();
    for function in functions {
        let own = function.leading().map_or(0, |spec| spec.scaling.reserved_concurrency);
        let sum = sums.entry(function.record.namespace.clone()).or_default();
        *sum = sum.saturating_add(own);
    }
    sums
}

fn with_name(route: RouteRecord) -> (RouteName, Arc<RouteSpec>) {
    (route.name, Arc::new(route.spec))
}

/// The keys whose plan is another one than before.
fn replanned(keys: &OrdMap<KeyId, Arc<CatalogKey>>, core: &Core) -> Vec<(KeyId, Arc<CatalogKey>)> {
    let again = |(id, key): (&KeyId, &Arc<CatalogKey>)| {
        key.record.plan.as_ref()?;
        let now = core.with_plan(key.record.clone());
        (now.plan != key.plan).then(|| (id.clone(), now))
    };
    keys.iter().filter_map(again).collect()
}
