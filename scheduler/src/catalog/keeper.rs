//! Keeps the catalog equal to the database: reads what has changed since the newest one, and everything where that is not
//! known. What a catalog is, is in `catalog.rs`.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use tokio::sync::{Mutex, watch};

use super::Catalog;
use crate::{
    error::Error,
    model::Time,
    store::{CatalogNews, Store},
};

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
    /// Something has changed that the version of the configuration does not tell: functions or their code.
    quietly: AtomicBool,
    /// The same of anything, as keys do that expire.
    expiring: AtomicBool,
}

impl CatalogKeeper {
    /// Loads the first one.
    pub(crate) async fn load(store: Store) -> Result<Self, Error> {
        let first = Catalog::from_rows(store.catalog_load(Time::now()).await?);
        let newest = watch::Sender::new(Arc::new(first));
        Ok(Self {
            store,
            newest,
            loading: Mutex::new(()),
            made: AtomicU64::new(0),
            seen: AtomicU64::new(0),
            quietly: AtomicBool::new(false),
            expiring: AtomicBool::new(false),
        })
    }

    /// The newest one.
    pub(crate) fn current(&self) -> Arc<Catalog> {
        self.newest.borrow().clone()
    }

    /// Follows the changes.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<Catalog>> {
        self.newest.subscribe()
    }

    /// Follows a change that the version of the configuration tells of, once for all changes that were made before the load
    /// began: thousands of functions take a while to read. Where that fails, [`CatalogKeeper::is_stale`] says so, and somebody
    /// tries again: the change itself has been made.
    pub(crate) async fn refresh(&self) {
        let change = self.made.fetch_add(1, Ordering::SeqCst) + 1;
        let _one = self.loading.lock().await;
        if self.seen.load(Ordering::SeqCst) >= change {
            return;
        }
        let made = self.made.load(Ordering::SeqCst);
        match self.follow().await {
            Ok(()) => self.seen.store(made, Ordering::SeqCst),
            Err(error) => {
                tracing::warn!(cause = format!("{:#}", anyhow::Error::new(error)), "the state can't be read for now");
            }
        }
    }

    /// The same after a change of functions or their code that the version does not tell of.
    pub(crate) async fn refresh_core(&self) {
        self.quietly.store(true, Ordering::SeqCst);
        self.refresh().await;
    }

    /// Reads everything again.
    pub(crate) async fn reload(&self) {
        self.expiring.store(true, Ordering::SeqCst);
        self.refresh().await;
    }

    async fn follow(&self) -> Result<(), Error> {
        let known = self.current();
        let since = (!self.expiring.load(Ordering::SeqCst)).then_some(known.version);
        let core = self.quietly.swap(false, Ordering::SeqCst);
        let news = self.store.catalog_follow(since, core, Time::now()).await;
        let news = news.inspect_err(|_| self.quietly.store(true, Ordering::SeqCst))?;
        if since.is_none() {
            self.expiring.store(false, Ordering::SeqCst);
        }
        let next = match news {
            CatalogNews::All(rows) => Catalog::from_rows(rows),
            CatalogNews::Changes(changes) => known.changed(changes),
        };
        let changed = *known != next;
        self.newest.send_if_modified(|current| {
            if changed {
                *current = Arc::new(next);
            }
            changed
        });
        Ok(())
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
        let (description, create_time, retention) = (String::new(), Time(0), dunlin_proto::model::Retention::default());
        NamespaceRecord { name, description, create_time, max_concurrency: None, rate: None, quota: None, retention }
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
