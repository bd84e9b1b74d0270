//! Who holds which version on standby, worked out again only where workers or versions changed: with ten thousand functions
//! it would cost more than all other decisions together. Who it is, is decided in `dunlin_proto::standby`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use dunlin_proto::{
    ids::{VersionKey, WorkerId},
    standby::{SPARE, STANDBYS, Seat, seats},
};

use crate::{
    catalog::Catalog,
    cluster::{Cluster, Seated},
    model::VersionRecord,
};

/// What is held on standby.
#[derive(Debug, Default)]
pub(super) struct Standbys {
    seated: Arc<Vec<Seated>>,
    seats: Vec<Seat>,
    /// The engines of each seat, in the same order.
    engines: Vec<BTreeSet<String>>,
    catalog: Option<Arc<Catalog>>,
    by_worker: BTreeMap<WorkerId, Arc<BTreeSet<VersionKey>>>,
}

impl Standbys {
    /// Takes in what changed.
    pub(super) fn renew(&mut self, cluster: &Cluster, catalog: &Arc<Catalog>, now: tokio::time::Instant) {
        let seated = cluster.seated(now);
        let engines_of = |seat: &Seated| cluster.workers().get(&seat.worker).map(|worker| worker.engines());
        let engines: Vec<_> = seated.iter().map(|seat| engines_of(seat).unwrap_or_default()).collect();
        let same_workers = *self.seated == seated && self.engines == engines;
        if same_workers && self.catalog.as_ref().is_some_and(|known| Arc::ptr_eq(known, catalog)) {
            return;
        }
        if !same_workers {
            self.seats = seated.iter().map(|seat| Seat::new(seat.worker.as_str(), &seat.zone)).collect();
            (self.seated, self.engines) = (Arc::new(seated), engines);
        }
        self.catalog = Some(catalog.clone());
        self.assign(catalog);
    }

    /// The workers that hold versions on standby.
    pub(super) fn seated(&self) -> &Arc<Vec<Seated>> {
        &self.seated
    }

    /// What a worker holds on standby, unless it holds it anyway.
    pub(super) fn of(&self, worker: &WorkerId) -> Arc<BTreeSet<VersionKey>> {
        self.by_worker.get(worker).cloned().unwrap_or_default()
    }

    /// The workers that hold the version on standby, or would if it had traffic.
    pub(super) fn holders(&self, catalog: &Catalog, version: &VersionRecord) -> BTreeSet<WorkerId> {
        self.choose(catalog, version, STANDBYS as usize).cloned().collect()
    }

    fn assign(&mut self, catalog: &Catalog) {
        let mut by_worker: BTreeMap<WorkerId, BTreeSet<VersionKey>> = BTreeMap::new();
        for function in catalog.functions.values() {
            for version in function.versions.values() {
                for worker in self.choose(catalog, version, function.standbys(version) as usize) {
                    by_worker.entry(worker.clone()).or_default().insert(version.key());
                }
            }
        }
        let before = std::mem::take(&mut self.by_worker);
        // What did not change stays the same value, which is quick to see.
        let keep = |(worker, set): (WorkerId, BTreeSet<VersionKey>)| {
            let known = before.get(&worker).filter(|known| ***known == set).cloned();
            (worker, known.unwrap_or_else(|| Arc::new(set)))
        };
        self.by_worker = by_worker.into_iter().map(keep).collect();
    }

    /// The first seats of a version whose workers have an engine for it.
    fn choose(&self, catalog: &Catalog, version: &VersionRecord, count: usize) -> impl Iterator<Item = &WorkerId> {
        let codes = if count > 0 { catalog.codes(version) } else { None };
        let order = if codes.is_some() { seats(&version.key(), &self.seats, count + SPARE) } else { Vec::new() };
        let able = move |index: &usize| {
            let engines = self.engines.get(*index);
            engines.zip(codes).is_some_and(|(engines, codes)| engines.iter().any(|engine| codes.contains_key(engine)))
        };
        order.into_iter().filter(able).filter_map(|index| Some(&self.seated.get(index)?.worker)).take(count)
    }
}
