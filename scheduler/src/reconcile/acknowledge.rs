//! Waits until gateways serve a change. Whoever made it is told who does not yet: the change itself has been made, and reaches
//! them as soon as they are reached.

use std::{collections::BTreeSet, time::Duration};

use dunlin_proto::{ids::GatewayId, route::Purge};
use tokio::time::Instant;

use super::Board;
use crate::{catalog::CatalogKeeper, cluster::Cluster};

/// How long gateways have to say that they serve a change. Less than clients wait for an answer.
const ACKNOWLEDGING: Duration = Duration::from_secs(3);

impl Board {
    /// A gateway has said what it serves.
    pub(crate) fn acknowledged(&self) {
        self.acknowledgements.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Waits until every connected gateway serves what is in the catalog now, and names those that do not in time, with those
    /// that have gone lately and may serve on without it.
    pub(crate) async fn lagging(&self, catalog: &CatalogKeeper) -> Vec<String> {
        let mut target = None;
        self.waiting(|cluster| {
            // What could not be loaded has no version yet, and nobody has it.
            target = target.or_else(|| (!catalog.is_stale()).then(|| catalog.current().version));
            cluster.behind(target.unwrap_or(u64::MAX))
        })
        .await
    }

    /// Purges stored answers on every gateway, and names those that have not followed in time, as `lagging` does.
    pub(crate) async fn purge(&self, purge: Purge) -> Vec<String> {
        self.purges.send_modify(|log| log.add(purge));
        let target = self.purges.borrow().newest();
        self.waiting(|cluster| cluster.behind_purge(target)).await
    }

    /// Waits until nobody is behind, for a while.
    pub(super) async fn waiting(&self, mut behind: impl FnMut(&Cluster) -> BTreeSet<GatewayId>) -> Vec<String> {
        let mut acknowledgements = self.acknowledgements.subscribe();
        let end = Instant::now() + ACKNOWLEDGING;
        loop {
            let behind = behind(&self.cluster());
            if behind.is_empty() {
                return names(&self.cluster().departed(Instant::now()));
            }
            // Cancel-safe: it only wakes.
            if tokio::time::timeout_at(end, acknowledgements.changed()).await.is_err() {
                return names(&self.cluster().departed(Instant::now()).union(&behind).cloned().collect());
            }
        }
    }
}

fn names(gateways: &BTreeSet<GatewayId>) -> Vec<String> {
    gateways.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use super::*;
    use crate::{
        cluster::GatewayHello,
        model::{NamespaceRecord, Time},
        store::{Database, Store},
    };

    fn hello(name: &str, config_version: u64) -> GatewayHello {
        GatewayHello {
            gateway: name.parse().unwrap(),
            software_version: "1".into(),
            peer_address: format!("{name}:1"),
            config_version,
        }
    }

    #[tokio::test]
    async fn a_change_is_waited_for_until_all_have_it_and_who_has_not_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&Database::Sqlite(folder.path().join("dunlin.db"))).await.unwrap();
        let shop = "shop".parse().unwrap();
        let new = NamespaceRecord {
            name: shop,
            description: String::new(),
            create_time: Time(0),
            max_concurrency: None,
            rate: None,
            quota: None,
            retention: dunlin_proto::model::Retention::default(),
        };
        store.namespace_create(&new, None).await.unwrap();
        let catalog = CatalogKeeper::load(store).await.unwrap();
        let version = catalog.current().version;
        let board = Arc::new(Board::new(Cluster::default(), 1, Instant::now()));
        assert!(board.lagging(&catalog).await.is_empty(), "nobody is there to wait for");

        let quick = board.cluster().gateway_join(hello("quick", version), Time(0)).unwrap();
        let slow = board.cluster().gateway_join(hello("slow", 0), Time(0)).unwrap();
        tokio::time::pause();
        assert_eq!(board.lagging(&catalog).await, ["slow"]);
        let waiting = board.clone();
        let reporting = async move {
            let known = waiting.cluster().gateway_report(&"slow".parse().unwrap(), slow, version, BTreeMap::new());
            known.unwrap();
            waiting.acknowledged();
        };
        let (lagging, ()) = tokio::join!(board.lagging(&catalog), reporting);
        assert!(lagging.is_empty(), "{lagging:?}");

        board.cluster().gateway_leave(&"quick".parse().unwrap(), quick, Instant::now());
        let began = Instant::now();
        assert_eq!((board.lagging(&catalog).await, began.elapsed()), (vec!["quick".to_owned()], Duration::ZERO));
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert!(board.lagging(&catalog).await.is_empty(), "it has gone for good");
    }
}
