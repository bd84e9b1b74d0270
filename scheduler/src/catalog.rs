//! The durable state that placements and gateways are made of, in memory: one immutable value, replaced whole after each
//! change. Decisions and streams read it, so that they go on while the database is away.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use dunlin_proto::{
    ids::{Digest, DomainName, FunctionUid, Namespace, VersionKey, VersionNumber},
    limit::LimitId,
    model::{Rate, VersionSpec},
    names::{KeyId, PlanName, RouteName},
    route::RouteSpec,
    standby::STANDBYS,
};
use tokio::sync::{Mutex, watch};

use crate::{
    error::Error,
    model::{AliasRecord, Code, FunctionRecord, KeyRecord, PlanRecord, Share, Time, VersionRecord},
    store::{CatalogRows, Store},
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

/// One state of everything.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Catalog {
    /// The configuration's version.
    pub(crate) version: u64,
    pub(crate) namespaces: BTreeSet<Namespace>,
    /// How many invocations at once the namespaces may have that are bounded.
    pub(crate) limits: BTreeMap<Namespace, u32>,
    /// How many calls in a time the namespaces may have that are bounded.
    pub(crate) rates: BTreeMap<Namespace, Rate>,
    pub(crate) functions: BTreeMap<FunctionUid, CatalogFunction>,
    pub(crate) keys: BTreeMap<KeyId, CatalogKey>,
    pub(crate) routes: BTreeMap<RouteName, Arc<RouteSpec>>,
    /// With the namespaces that own them.
    pub(crate) domains: BTreeMap<DomainName, Namespace>,
    /// By artifact, then by engine.
    codes: HashMap<Digest, BTreeMap<String, Arc<Code>>>,
}

impl Catalog {
    /// Puts rows together. A version whose function is not among them is left out.
    pub(crate) fn from_rows(rows: CatalogRows) -> Self {
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
        let mut codes: HashMap<_, BTreeMap<_, _>> = HashMap::new();
        for compiled in rows.codes {
            let code = compiled.code;
            codes.entry(code.artifact).or_default().insert(code.fingerprint.clone(), Arc::new(code));
        }
        let keys = keys(rows.keys, rows.plans);
        let limits = rows.namespaces.iter().filter_map(|it| Some((it.name.clone(), it.max_concurrency?))).collect();
        let rates = rows.namespaces.iter().filter_map(|it| Some((it.name.clone(), it.rate?))).collect();
        let namespaces = rows.namespaces.into_iter().map(|namespace| namespace.name).collect();
        let routes = rows.routes.into_iter().map(|route| (route.name, Arc::new(route.spec))).collect();
        let domains = rows.domains.into_iter().map(|it| (it.name.domain, it.name.namespace)).collect();
        Self { version: rows.version, namespaces, limits, rates, functions, keys, routes, domains, codes }
    }

    /// The version, where it still exists.
    pub(crate) fn version(&self, key: &VersionKey) -> Option<&Arc<VersionRecord>> {
        self.functions.get(&key.function)?.versions.get(&key.number)
    }

    /// The rate of a limit, where there is such a limit.
    pub(crate) fn rate(&self, limit: &LimitId) -> Option<Rate> {
        match limit {
            LimitId::Function(uid) => self.functions.get(uid)?.leading()?.limits.rate,
            LimitId::Namespace(name) => self.rates.get(name).copied(),
            LimitId::Key(id) => self.keys.get(id)?.plan.as_ref()?.rate,
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

/// Keys with their plans.
fn keys(keys: Vec<KeyRecord>, plans: Vec<PlanRecord>) -> BTreeMap<KeyId, CatalogKey> {
    let plans: HashMap<_, _> = plans.into_iter().map(|plan| (plan.name.clone(), Arc::new(plan))).collect();
    let plan_of = |key: &KeyRecord| {
        let name = PlanName { namespace: key.namespace.clone(), plan: key.plan.clone()? };
        plans.get(&name).cloned()
    };
    let with_plan = |key: KeyRecord| (key.id.clone(), CatalogKey { plan: plan_of(&key), record: key });
    keys.into_iter().map(with_plan).collect()
}

/// Keeps the catalog equal to the database.
#[derive(Debug)]
pub(crate) struct CatalogKeeper {
    store: Store,
    newest: watch::Sender<Arc<Catalog>>,
    /// One load at a time, so that an earlier one never replaces a later one.
    loading: Mutex<()>,
    /// Changes that were made.
    made: AtomicU64,
    /// Those of them that are certainly in the newest catalog.
    seen: AtomicU64,
}

impl CatalogKeeper {
    /// Loads the first one.
    pub(crate) async fn load(store: Store) -> Result<Self, Error> {
        let first = Catalog::from_rows(store.catalog_load(Time::now()).await?);
        let newest = watch::Sender::new(Arc::new(first));
        Ok(Self { store, newest, loading: Mutex::new(()), made: AtomicU64::new(0), seen: AtomicU64::new(0) })
    }

    /// The newest one.
    pub(crate) fn current(&self) -> Arc<Catalog> {
        self.newest.borrow().clone()
    }

    /// Follows the changes.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<Catalog>> {
        self.newest.subscribe()
    }

    /// Loads it anew after a change, once for all changes that were made before the load began: thousands of functions take
    /// a while to read. Where that fails, [`CatalogKeeper::is_stale`] says so, and somebody tries again: the change itself has
    /// been made.
    pub(crate) async fn refresh(&self) {
        let change = self.made.fetch_add(1, Ordering::SeqCst) + 1;
        let _one = self.loading.lock().await;
        if self.seen.load(Ordering::SeqCst) >= change {
            return;
        }
        let made = self.made.load(Ordering::SeqCst);
        match self.store.catalog_load(Time::now()).await {
            Ok(rows) => {
                self.seen.store(made, Ordering::SeqCst);
                let next = Catalog::from_rows(rows);
                self.newest.send_if_modified(|current| {
                    let changed = **current != next;
                    if changed {
                        *current = Arc::new(next);
                    }
                    changed
                });
            }
            Err(error) => {
                tracing::warn!(cause = format!("{:#}", anyhow::Error::new(error)), "the state can't be read for now");
            }
        }
    }

    /// Whether a change waits to be loaded.
    pub(crate) fn is_stale(&self) -> bool {
        self.seen.load(Ordering::SeqCst) < self.made.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::NamespaceRecord, store::Database};

    fn namespace(number: u32) -> NamespaceRecord {
        let name = format!("n{number}").parse().unwrap();
        NamespaceRecord { name, description: String::new(), create_time: Time(0), max_concurrency: None, rate: None }
    }

    #[tokio::test]
    async fn whoever_changed_something_finds_it_although_many_share_a_load() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&Database::Sqlite(folder.path().join("dunlin.db"))).await.unwrap();
        let keeper = CatalogKeeper::load(store.clone()).await.unwrap();
        let mut versions = keeper.subscribe();
        let change = async |number| {
            let new = namespace(number);
            store.namespace_create(&new, None).await.unwrap();
            keeper.refresh().await;
            assert!(keeper.current().namespaces.contains(&new.name), "{number}");
        };
        futures::future::join_all((0..100).map(change)).await;
        assert!(!keeper.is_stale() && versions.has_changed().unwrap());
        assert_eq!(versions.borrow_and_update().namespaces.len(), 100);
        store.close().await;
        keeper.refresh().await;
        assert!(keeper.is_stale(), "somebody has to try again");
    }
}
