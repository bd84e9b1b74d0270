//! What workers found when they tried to use sandboxes again: from their reports into the store, so that it is shown, is
//! tried once and not by every worker for ever, and outlives them all. The trial itself is the workers' (`pool/trial.rs`).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use dunlin_proto::ids::VersionKey;
use tokio::time::{Instant, sleep};

use crate::{catalog::CatalogKeeper, error::Error, model::VersionRecord, reconcile::Board, store::Store};

/// How long a deploy waits for a trial: a worker gives it two calls of five seconds at the most.
const TRYING: Duration = Duration::from_secs(12);

/// How often a deploy looks.
const LOOK: Duration = Duration::from_millis(50);

/// Reads the reports, and writes what is news.
#[derive(Debug, Clone)]
pub(crate) struct Trials {
    pub(crate) store: Store,
    pub(crate) catalog: Arc<CatalogKeeper>,
    pub(crate) board: Arc<Board>,
}

impl Trials {
    /// Notes what workers have found that is not known yet.
    pub(crate) async fn note(&self) -> Result<(), Error> {
        let news = self.news();
        for (key, (version, refusal)) in &news {
            self.store.version_note_reuse(*key, &version.name(), refusal).await?;
            tracing::info!(version = %version.name(), refusal, "it was tried whether its sandboxes can be used again");
        }
        if !news.is_empty() {
            self.catalog.refresh_core().await;
        }
        Ok(())
    }

    /// Waits until the trial of a version that workers have ready is noted, as long as that may take.
    pub(crate) async fn settle(&self, version: &VersionRecord) -> Result<(), Error> {
        let began = Instant::now();
        while self.is_tried_now(version) && began.elapsed() < TRYING {
            self.note().await?;
            sleep(LOOK).await;
        }
        Ok(())
    }

    /// Whether somebody has the version ready and is to try it.
    fn is_tried_now(&self, version: &VersionRecord) -> bool {
        let key = version.key();
        let known = self.catalog.current().version(&key).is_none_or(|known| known.reuse_refusal.is_some());
        let ready = || self.board.cluster().workers().values().any(|worker| worker.has_ready(&key));
        version.reuses() && !known && ready()
    }

    /// What the newest reports say that the catalog does not. A refusal outweighs every success.
    fn news(&self) -> BTreeMap<VersionKey, (Arc<VersionRecord>, String)> {
        let (catalog, cluster, mut news) = (self.catalog.current(), self.board.cluster(), BTreeMap::new());
        for (key, held) in cluster.workers().values().flat_map(|worker| worker.held()) {
            let Some(refusal) = &held.reuse_refusal else { continue };
            let Some(version) = catalog.version(key).filter(|version| version.reuses()) else { continue };
            if version.reuse_refusal.as_ref() != Some(refusal) {
                let (_, known) = news.entry(*key).or_insert_with(|| (version.clone(), String::new()));
                if known.is_empty() {
                    known.clone_from(refusal);
                }
            }
        }
        news
    }
}
