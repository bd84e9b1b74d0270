//! Takes records from the path of calls, shows them in memory and has some of them written. Which ones, `sample.rs` decides; what a
//! file is, `file.rs` knows.

use std::{sync::Arc, time::Duration};

use dunlin_process::shutdown::Shutdown;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};

use super::{Counted, Record, inbox::Inbox, ring, sample, shelves};

/// How long the keeper rests between batches. While it rests, adding a record wakes nobody: a wake-up for each call would
/// cost as much as the record itself.
const REST: Duration = Duration::from_millis(20);
/// Records that there is always room for; what more of them took is given back.
const BATCH: usize = 4_096;
/// Where so many come at once, what is to be written waits for more, until so long after what was written before: to write one costs
/// nearly as much as to write a hundred. Questions find it in memory meanwhile; a process that is killed loses it.
const MANY: usize = 16;
const GATHER: Duration = Duration::from_millis(250);
/// With so many, none waits for more.
const GATHERED: usize = 1_024;
/// How often it is looked for files that are too old, whether there are new records or not.
const LOOK_FOR_OLD: Duration = Duration::from_secs(60);

/// Keeps records: in memory for questions, on disk for the next start.
#[derive(Debug)]
pub(crate) struct Keeper {
    rings: Arc<ring::Rings>,
    recent: Arc<ring::Recent>,
    sampler: sample::Sampler,
    inbox: Arc<Inbox>,
    /// What is to be written, by when, and when something was written last.
    gathered: Vec<Arc<Record>>,
    due: Option<Instant>,
    written: Option<Instant>,
    files: shelves::Shelves,
    counted: Arc<Counted>,
}

impl Keeper {
    pub(super) fn new(
        (rings, recent): (Arc<ring::Rings>, Arc<ring::Recent>),
        inbox: Arc<Inbox>,
        files: shelves::Shelves,
        counted: Arc<Counted>,
    ) -> Self {
        let (sampler, gathered, due, written) = (sample::Sampler::default(), Vec::new(), None, None);
        Self { rings, recent, sampler, inbox, gathered, due, written, files, counted }
    }

    /// Runs until `shutdown`, and keeps what has been added by then.
    pub(crate) async fn run(mut self, shutdown: Shutdown) {
        let mut batch = Vec::new();
        let mut looks = interval(LOOK_FOR_OLD);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // At the start, nobody has said yet what namespaces have of their own.
        looks.reset();
        loop {
            let (mut look, due) = (false, self.due);
            tokio::select! {
                () = self.inbox.filled() => {}
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
                _ = looks.tick() => look = true,
                () = shutdown.begun() => {
                    self.inbox.close();
                    self.take(&mut batch);
                    self.write(false).await;
                    return;
                }
            }
            self.take(&mut batch);
            if look || self.is_due() {
                // Only a shutdown of the runtime ends it.
                let Some(keeper) = self.write(look).await else { return };
                self = keeper;
            }
            tokio::select! { () = sleep(REST) => {}, () = shutdown.begun() => {} }
        }
    }

    /// Shows all of them for a while, and picks those that are kept for longer.
    fn take(&mut self, batch: &mut Vec<Record>) {
        self.inbox.take(batch);
        let weigh = |record: &Record| {
            let weight = self.sampler.weight(record)?.get();
            Some(Arc::new(Record { weight, ..record.clone() }))
        };
        let (came, before) = (batch.len(), self.gathered.len());
        self.gathered.extend(batch.iter().filter_map(weigh));
        self.recent.push(batch.drain(..));
        batch.shrink_to(BATCH);
        self.gathered.iter().skip(before).for_each(|record| self.rings.push(record.clone()));
        if !self.gathered.is_empty() && (self.due.is_none() || came < MANY) {
            let together = self.written.filter(|_| came >= MANY).map(|written| written + GATHER);
            self.due = Some(together.unwrap_or_else(Instant::now));
        }
    }

    fn is_due(&self) -> bool {
        self.gathered.len() >= GATHERED || self.due.is_some_and(|due| due <= Instant::now())
    }

    /// Writes what is gathered; with `look`, what is too old goes. Nothing where the runtime has ended.
    async fn write(mut self, look: bool) -> Option<Self> {
        let records = std::mem::take(&mut self.gathered);
        let mut files = self.files;
        let written = tokio::task::spawn_blocking(move || {
            let lost = files.append(&records);
            if look {
                files.forget_old();
            }
            (files, lost)
        });
        let (files, lost) = written.await.ok()?;
        self.counted.lose(lost);
        Some(Self { files, due: None, written: Some(Instant::now()), ..self })
    }
}

#[cfg(test)]
mod tests {
    use dunlin_proto::model::Retentions;

    use super::*;
    use crate::{
        config::RecordsConfig,
        records::{Records, Wanted, file::tests::record, shelves::Shelves},
        traces::Traces,
    };

    #[tokio::test(start_paused = true)]
    async fn what_comes_singly_is_written_at_once_and_what_comes_in_numbers_together() {
        let (folder, config) = (tempfile::tempdir().unwrap(), RecordsConfig::default());
        let (records, keeper) = Records::open(folder.path().to_owned(), &config, Traces::default()).unwrap();
        let shutdown = Shutdown::default();
        let mut running = tokio::task::JoinSet::new();
        running.spawn(keeper.run(shutdown.clone()));
        let on_disk = || {
            let mut count = 0;
            Shelves::open(folder.path().to_owned(), &config, Retentions::default(), |_| count += 1).unwrap();
            count
        };
        let add_then = async |count, millis| {
            (0..count).for_each(|_| records.add(record("shop", "pay")));
            sleep(Duration::from_millis(millis)).await;
            on_disk()
        };
        assert_eq!([add_then(1, 50).await, add_then(1, 50).await], [1, 2]);
        assert_eq!([add_then(MANY, 50).await, add_then(MANY, 50).await], [2, 2], "they wait for more");
        let listed = || records.rings.list(&"namespaces/shop".parse().unwrap(), &Wanted::default(), None, 99).len();
        assert_eq!((listed(), add_then(0, 200).await), (2 + 2 * MANY, 2 + 2 * MANY));
        assert_eq!(add_then(MANY, 50).await, 2 + 2 * MANY);
        shutdown.begin();
        running.join_all().await;
        assert_eq!(on_disk(), 2 + 3 * MANY, "what has been added by then is kept");
    }
}
