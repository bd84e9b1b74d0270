//! Where versions run now, as the scheduler said last; kept when the scheduler is away, since workers go on.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use arc_swap::{ArcSwap, Guard};
use dunlin_process::{cores::Cores, shutdown::Shutdown};
use dunlin_proto::{
    ids::VersionKey,
    standby::{SPARE, Seat, seats},
};
use tokio::sync::watch;

use super::endpoint::{Connector, Endpoint};

/// A placement as it is announced.
#[derive(Debug, Clone, Default)]
pub(crate) struct Announced {
    /// The scheduler's start and a number within it; an older pair than the last is ignored.
    pub(crate) version: (u64, u64),
    /// Id, worker and address of each endpoint.
    pub(crate) endpoints: Vec<(String, String, String)>,
    /// The ids of the endpoints that have a version ready.
    pub(crate) versions: Vec<(VersionKey, Vec<String>)>,
    /// Name and zone of each worker that holds versions on standby.
    pub(crate) seats: Vec<(String, String)>,
    /// Name and address of each gateway.
    pub(crate) gateways: Vec<Peer>,
    /// The same of those that have gone lately.
    pub(crate) departed: Vec<Peer>,
}

/// Another gateway, or this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Peer {
    /// Its name.
    pub(crate) gateway: String,
    /// Host and port of its internal listener.
    pub(crate) address: String,
}

/// Where versions run, at one moment.
#[derive(Debug, Default)]
pub(crate) struct Placements {
    version: (u64, u64),
    endpoints: HashMap<String, Arc<Endpoint>>,
    versions: HashMap<VersionKey, Arc<[Arc<Endpoint>]>>,
    standbys: Arc<Standbys>,
    /// The gateways that are connected to the scheduler.
    pub(crate) gateways: Vec<Peer>,
    /// Those that have gone lately: cut off, they may still answer, and whoever asks has to hear of them.
    departed: Vec<Peer>,
}

/// The workers that hold versions on standby, and how they are reached.
#[derive(Debug, Default)]
struct Standbys {
    seats: Vec<Seat>,
    /// Of each seat, in the same order; none where the worker is lost for now.
    endpoints: Vec<Vec<Arc<Endpoint>>>,
}

impl Standbys {
    fn new(seated: &[(String, String)], endpoints: &HashMap<String, Arc<Endpoint>>) -> Self {
        let mut by_worker: HashMap<&str, Vec<Arc<Endpoint>>> = HashMap::new();
        for endpoint in endpoints.values() {
            by_worker.entry(&endpoint.worker).or_default().push(endpoint.clone());
        }
        Self {
            seats: seated.iter().map(|(worker, zone)| Seat::new(worker, zone)).collect(),
            endpoints: seated.iter().map(|(worker, _)| by_worker.remove(&**worker).unwrap_or_default()).collect(),
        }
    }
}

impl Placements {
    /// The gateways other than this one, for questions to all that may know something.
    pub(crate) fn others(&self, own: &str) -> Vec<Peer> {
        let all = self.gateways.iter().chain(&self.departed);
        all.filter(|peer| peer.gateway != own).cloned().collect()
    }

    /// The endpoints that hold a version on standby when so many workers do, and those that may where this list is old.
    pub(super) fn standbys(&self, version: VersionKey, count: usize) -> [Vec<Arc<Endpoint>>; 2] {
        if count == 0 {
            return Default::default();
        }
        let order = seats(&version, &self.standbys.seats, count + SPARE);
        let (holders, spare) = order.split_at_checked(count).unwrap_or((&order, &[]));
        [holders, spare].map(|seats| {
            let endpoints = seats.iter().filter_map(|seat| self.standbys.endpoints.get(*seat));
            endpoints.flatten().cloned().collect()
        })
    }

    /// The endpoints that have a version ready.
    pub(crate) fn of(&self, version: VersionKey) -> Option<&Arc<[Arc<Endpoint>]>> {
        self.versions.get(&version)
    }

    /// Every endpoint, in no order.
    pub(crate) fn endpoints(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.endpoints.values()
    }
}

/// The newest placements and the sessions that they call for. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Directory(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    current: ArcSwap<Placements>,
    connector: Connector,
    sessions: usize,
    cores: Cores,
    shutdown: Shutdown,
}

impl Directory {
    /// Knows no placement yet; keeps `sessions` open to each endpoint, and one for each thread at least, as tasks of
    /// `shutdown`.
    pub(crate) fn new(connector: Connector, sessions: usize, cores: Cores, shutdown: Shutdown) -> Self {
        let sessions = sessions.max(cores.handles().len());
        Self(Arc::new(Inner { current: ArcSwap::default(), connector, sessions, cores, shutdown }))
    }

    /// The placements as they are now; hold them only briefly.
    pub(crate) fn load(&self) -> Guard<Arc<Placements>> {
        self.0.current.load()
    }

    /// Told whenever a placement or a session comes or goes.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.0.connector.changed.subscribe()
    }

    /// Forgets the order of announcements: a new stream may come from another scheduler, whose numbers are its own.
    /// The placements themselves stay.
    pub(crate) fn accept_any(&self) {
        let old = self.0.current.load_full();
        self.0.current.store(Arc::new(Placements {
            version: (0, 0),
            endpoints: old.endpoints.clone(),
            versions: old.versions.clone(),
            standbys: old.standbys.clone(),
            gateways: old.gateways.clone(),
            departed: old.departed.clone(),
        }));
    }

    /// Replaces the placements by a newer announcement; sessions to endpoints that stay are kept.
    pub(crate) fn announce(&self, announced: Announced) {
        let old = self.0.current.load_full();
        if announced.version < old.version {
            return;
        }
        let endpoints: HashMap<_, _> = announced
            .endpoints
            .iter()
            .map(|(id, worker, address)| (id.clone(), self.endpoint(&old, id, worker, address)))
            .collect();
        let ready = |ids: &[String]| -> Arc<[_]> { ids.iter().filter_map(|id| endpoints.get(id).cloned()).collect() };
        let versions = announced.versions.iter().map(|(version, ids)| (*version, ready(ids)));
        let versions = versions.filter(|(_, ready)| !ready.is_empty()).collect();
        let standbys = Arc::new(Standbys::new(&announced.seats, &endpoints));
        let Announced { version, gateways, departed, .. } = announced;
        let new = Placements { version, endpoints, versions, standbys, gateways, departed };
        let kept: HashSet<_> = new.endpoints.values().map(Arc::as_ptr).collect();
        self.0.current.store(Arc::new(new));
        for endpoint in old.endpoints.values().filter(|endpoint| !kept.contains(&Arc::as_ptr(endpoint))) {
            endpoint.gone.cancel();
        }
        self.0.connector.changed.send_modify(|version| *version += 1);
    }

    /// The endpoint as it was, or a new one with its sessions.
    fn endpoint(&self, old: &Placements, id: &str, worker: &str, address: &str) -> Arc<Endpoint> {
        let same = |known: &&Arc<Endpoint>| known.address == address && *known.worker == *worker;
        if let Some(known) = old.endpoints.get(id).filter(same) {
            return known.clone();
        }
        let gone = self.0.shutdown.token().child_token();
        let endpoint = Arc::new(Endpoint::new(id, worker, address, self.0.sessions, gone));
        for slot in 0..endpoint.slots() {
            let keeping = endpoint.clone().maintain(slot, self.0.connector.clone());
            self.0.shutdown.spawn_on(keeping, self.0.cores.handle(slot));
        }
        endpoint
    }
}

#[cfg(test)]
mod tests {
    use dunlin_proto::{
        ids::{FunctionUid, VersionNumber},
        local::Local,
        metadata::ClusterSecret,
        trust::Trust,
    };

    use super::*;

    fn directory() -> Directory {
        let trust = Trust::Secret(ClusterSecret::from_text("0123456789abcdef0123456789abcdef").unwrap());
        let (local, changed) = (Local::default(), watch::Sender::new(0));
        let connector = Connector { gateway: "g".parse().unwrap(), trust, local, changed };
        Directory::new(connector, 2, Cores::here(), Shutdown::default())
    }

    fn announced(version: (u64, u64), key: VersionKey, endpoints: &[(&str, &str)]) -> Announced {
        let endpoint = |(id, address): &(&str, &str)| ((*id).to_owned(), "w".to_owned(), (*address).to_owned());
        let ids = endpoints.iter().map(|(id, _)| (*id).to_owned()).chain(["unknown/0".to_owned()]).collect();
        Announced {
            version,
            endpoints: endpoints.iter().map(endpoint).collect(),
            versions: vec![(key, ids)],
            seats: Vec::new(),
            gateways: Vec::new(),
            departed: Vec::new(),
        }
    }

    #[tokio::test]
    async fn a_standby_is_found_where_the_scheduler_put_it_also_when_another_one_is_lost() {
        let directory = directory();
        let key = VersionKey { function: FunctionUid::new(), number: VersionNumber::FIRST };
        let names = ["a", "b", "c", "d", "e"].map(str::to_owned);
        let seated: Vec<_> = names.iter().map(|name| Seat::new(name, "")).collect();
        let order: Vec<_> = seats(&key, &seated, 4).into_iter().map(|index| names[index].clone()).collect();
        let announce = |sequence, alive: &dyn Fn(&String) -> bool| {
            let endpoints = names.iter().filter(|name| alive(name));
            directory.announce(Announced {
                version: (1, sequence),
                endpoints: endpoints.map(|name| (name.clone(), name.clone(), "127.0.0.1:1".to_owned())).collect(),
                seats: names.iter().map(|name| (name.clone(), String::new())).collect(),
                ..Announced::default()
            });
            let workers =
                |endpoints: &Vec<Arc<Endpoint>>| endpoints.iter().map(|e| e.worker.to_string()).collect::<Vec<_>>();
            directory.load().standbys(key, 2).each_ref().map(workers)
        };
        assert_eq!(announce(1, &|_| true), [order[..2].to_vec(), order[2..].to_vec()]);
        assert_eq!(announce(2, &|name| *name != order[0]), [order[1..2].to_vec(), order[2..].to_vec()]);
        assert_eq!(
            directory.load().standbys(key, 0).each_ref().map(Vec::len),
            [0, 0],
            "without traffic there are none"
        );
    }

    #[tokio::test]
    async fn gateways_that_have_gone_lately_are_asked_too() {
        let peer = |name: &str| Peer { gateway: name.to_owned(), address: "127.0.0.1:1".to_owned() };
        let directory = directory();
        let (gateways, departed) = (vec![peer("g"), peer("h")], vec![peer("i")]);
        directory.announce(Announced { version: (1, 1), gateways, departed, ..Announced::default() });
        directory.accept_any();
        let placements = directory.load();
        assert_eq!(placements.others("g"), [peer("h"), peer("i")]);
        assert_eq!(placements.gateways.len(), 2, "they share nothing any more");
    }

    #[tokio::test]
    async fn endpoints_that_stay_are_kept_and_older_news_is_ignored() {
        let directory = directory();
        let key = VersionKey { function: FunctionUid::new(), number: VersionNumber::FIRST };
        directory.announce(announced((1, 2), key, &[("a/0", "127.0.0.1:1"), ("b/0", "127.0.0.1:2")]));
        let first = directory.load().of(key).unwrap().clone();
        assert_eq!(first.len(), 2);
        directory.announce(announced((1, 1), key, &[]));
        assert_eq!(directory.load().of(key).unwrap().len(), 2);
        directory.announce(announced((1, 3), key, &[("a/0", "127.0.0.1:1"), ("b/0", "127.0.0.1:3")]));
        let second = directory.load().of(key).unwrap().clone();
        assert!(Arc::ptr_eq(&first[0], &second[0]) && !Arc::ptr_eq(&first[1], &second[1]));
        assert!(first[1].gone.is_cancelled() && !first[0].gone.is_cancelled());
        directory.announce(announced((2, 1), key, &[]));
        assert!(directory.load().of(key).is_none() && first[0].gone.is_cancelled());
        directory.accept_any();
        directory.announce(announced((1, 1), key, &[("a/0", "127.0.0.1:1")]));
        assert!(directory.load().of(key).is_some());
    }
}
