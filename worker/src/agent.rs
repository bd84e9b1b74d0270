//! The worker's stream to the scheduler: who it is and what it does up, what it shall hold down.
//!
//! The stream is opened again for ever; the worker goes on serving meanwhile. Nothing is decided here: assignments go to
//! `holdings`, keys to `artifacts`, and both to disk for the next start.

mod usage;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use dunlin_process::shutdown::Shutdown;
use dunlin_proto::{
    ApiError,
    internal::v1::{
        Assignment, AssignmentDelta, SyncWorkerRequest, SyncWorkerResponse, WorkerHello, WorkerLoad, WorkerWelcome,
        sync_service_client::SyncServiceClient, sync_worker_request::Report, sync_worker_response::Update,
    },
    model::from_wire_duration,
    trust::Link,
};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use crate::{artifacts::Artifacts, holdings::Holdings, logs::Logs, remembered::Remembered};
use usage::Usage;

/// A client of the scheduler's sync service.
pub(crate) type SyncClient = SyncServiceClient<Link>;

/// How long the scheduler may take to answer a hello.
const WELCOME: Duration = Duration::from_secs(5);
/// Time before the stream is opened again; doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How often changes of the assignment are written to disk.
const REMEMBER: Duration = Duration::from_secs(2);
/// How often to report where the scheduler does not say.
const REPORT_INTERVAL: Duration = Duration::from_millis(500);

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("{}", words(.0))]
    Status(#[from] Status),
    #[error("the scheduler did not answer within {WELCOME:?}")]
    Silent,
    #[error("the scheduler closed the stream")]
    Closed,
    #[error("the scheduler did not begin with a welcome")]
    NoWelcome,
    #[error("the scheduler sent a change of another assignment than the one that is followed")]
    WrongBase,
}

/// What the scheduler says, and what it advises.
fn words(status: &Status) -> String {
    let ApiError { message, hint, .. } = status.clone().into();
    hint.map_or(message.clone(), |hint| format!("{message}; {hint}"))
}

/// What keeps a worker in step with the scheduler.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) hello: WorkerHello,
    pub(crate) client: SyncClient,
    pub(crate) holdings: Holdings,
    pub(crate) artifacts: Arc<Artifacts>,
    pub(crate) logs: Arc<Logs>,
    pub(crate) remembered: Remembered,
    /// The assignment has changed since it was remembered.
    pub(crate) forgettable: AtomicBool,
    /// Whether there is a stream to the scheduler.
    pub(crate) linked: Arc<AtomicBool>,
    pub(crate) shutdown: Shutdown,
}

impl Agent {
    /// Takes up where the last process on this data folder ended, so that it can serve before the scheduler answers.
    pub(crate) fn resume(&self) {
        if let Some(welcome) = self.remembered.welcome() {
            self.artifacts.set_keys(keys(&welcome));
        }
        if let Some(assignment) = self.remembered.assignment() {
            tracing::info!(versions = assignment.versions.len(), "resuming the last assignment");
            self.artifacts.set_peers(Some(&assignment.peers));
            self.logs.keep(&assignment.retentions);
            self.holdings.apply(&assignment);
        }
    }

    /// Stays connected until the worker has `finished`; from the beginning of the shutdown on it reports that it leaves.
    pub(crate) async fn run(self, finished: CancellationToken) {
        tokio::select! { () = self.stay_connected() => {}, () = finished.cancelled() => {} }
        self.remember().await;
    }

    async fn stay_connected(&self) {
        let mut usage = Usage::default();
        let (mut pause, mut said) = (FIRST_PAUSE, false);
        loop {
            let mut welcomed = false;
            let Err(ended) = self.connection(&mut usage, &mut welcomed).await;
            self.linked.store(false, Ordering::Relaxed);
            if welcomed {
                (pause, said) = (FIRST_PAUSE, false);
            }
            if !std::mem::replace(&mut said, true) {
                let reason = ended.to_string();
                tracing::warn!(reason, "not connected to the scheduler; serving what is held, and trying again");
            }
            sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// One stream, from its hello to its end.
    async fn connection(&self, usage: &mut Usage, welcomed: &mut bool) -> Result<std::convert::Infallible, Ended> {
        let (reports, outgoing) = mpsc::channel(8);
        send(&reports, Report::Hello(self.hello.clone()));
        let mut client = self.client.clone();
        let opening = client.sync_worker(ReceiverStream::new(outgoing));
        let mut updates = timeout(WELCOME, opening).await.map_err(|_| Ended::Silent)??.into_inner();
        let first = timeout(WELCOME, next(&mut updates)).await.map_err(|_| Ended::Silent)??;
        let Update::Welcome(welcome) = first else { return Err(Ended::NoWelcome) };
        *welcomed = true;
        self.linked.store(true, Ordering::Relaxed);
        tracing::info!("connected to the scheduler");
        self.welcome(&welcome).await;
        let mut ticks = interval(report_interval(&welcome));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut memories = interval(REMEMBER);
        memories.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut leaving = self.shutdown.has_begun();
        loop {
            tokio::select! {
                update = next(&mut updates) => self.update(update?).await?,
                _ = memories.tick() => self.remember().await,
                _ = ticks.tick() => self.report(&reports, usage),
                () = self.holdings.changed() => self.report(&reports, usage),
                () = self.shutdown.begun(), if !leaving => {
                    leaving = true;
                    self.report(&reports, usage);
                }
            }
        }
    }

    async fn update(&self, update: Update) -> Result<(), Ended> {
        match update {
            Update::Welcome(welcome) => self.welcome(&welcome).await,
            Update::Assignment(assignment) => self.assignment(&assignment).await,
            Update::AssignmentDelta(delta) => return self.delta(&delta),
        }
        Ok(())
    }

    /// Follows a change. Where it is not for what is held, the stream is opened again, which brings the whole.
    fn delta(&self, delta: &AssignmentDelta) -> Result<(), Ended> {
        if !self.holdings.change(delta) {
            return Err(Ended::WrongBase);
        }
        let AssignmentDelta { version, versions, removed, drain, .. } = delta;
        tracing::debug!(?version, changed = versions.len(), removed = removed.len(), drain, "assigned");
        self.artifacts.set_peers(delta.peers_changed.then_some(&delta.peers[..]));
        if delta.retentions_changed {
            self.logs.keep(&delta.retentions);
        }
        self.forgettable.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Remembers changes once in a while: with many functions an assignment is large, and changes come often.
    async fn remember(&self) {
        if self.forgettable.swap(false, Ordering::Relaxed) {
            let (peers, retentions) = (self.artifacts.peers(), self.logs.kept());
            let assignment = Assignment { peers, retentions, ..self.holdings.assignment() };
            self.remembered.keep_assignment(&assignment).await;
        }
    }

    async fn welcome(&self, welcome: &WorkerWelcome) {
        let before = self.remembered.welcome();
        if before.as_ref().is_some_and(|before| is_another_cluster(before, welcome)) {
            tracing::warn!(
                "the scheduler has none of the keys that it had before: it is another cluster's; starting anew"
            );
            self.holdings.forget();
        }
        self.artifacts.set_keys(keys(welcome));
        self.holdings.try_again();
        if before.as_ref() != Some(welcome) {
            self.remembered.keep_welcome(welcome).await;
        }
    }

    async fn assignment(&self, assignment: &Assignment) {
        if !self.holdings.apply(assignment) {
            tracing::debug!(version = ?assignment.version, "ignoring an assignment that is not newer");
            return;
        }
        tracing::debug!(version = ?assignment.version, versions = assignment.versions.len(), drain = assignment.drain, "assigned");
        self.artifacts.set_peers(Some(&assignment.peers));
        self.logs.keep(&assignment.retentions);
        self.forgettable.store(false, Ordering::Relaxed);
        self.remembered.keep_assignment(assignment).await;
    }

    fn report(&self, reports: &mpsc::Sender<SyncWorkerRequest>, usage: &mut Usage) {
        let held = self.holdings.report();
        let load = WorkerLoad {
            assignment: held.followed,
            versions: held.versions,
            stored: held.stored,
            memory_bytes: usage::memory_bytes(),
            cpu_millis: usage.cpu_millis(),
            leaving: self.shutdown.has_begun(),
        };
        send(reports, Report::Load(load));
    }
}

/// Sends a report; a scheduler too slow to take it gets the next one.
fn send(reports: &mpsc::Sender<SyncWorkerRequest>, report: Report) {
    let _ = reports.try_send(SyncWorkerRequest { report: Some(report) });
}

async fn next(updates: &mut Streaming<SyncWorkerResponse>) -> Result<Update, Ended> {
    loop {
        let message = updates.message().await?.ok_or(Ended::Closed)?;
        // What a newer scheduler may say beside is not for this worker.
        if let Some(update) = message.update {
            return Ok(update);
        }
    }
}

fn keys(welcome: &WorkerWelcome) -> Vec<Vec<u8>> {
    welcome.code_keys.iter().map(|key| key.to_vec()).collect()
}

/// A cluster changes its keys one at a time.
fn is_another_cluster(before: &WorkerWelcome, now: &WorkerWelcome) -> bool {
    !before.code_keys.is_empty() && !before.code_keys.iter().any(|key| now.code_keys.contains(key))
}

fn report_interval(welcome: &WorkerWelcome) -> Duration {
    let asked = from_wire_duration(welcome.report_interval);
    if asked.is_zero() { REPORT_INTERVAL } else { asked.clamp(Duration::from_millis(50), Duration::from_secs(10)) }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn welcome(keys: &[&'static str]) -> WorkerWelcome {
        WorkerWelcome {
            code_keys: keys.iter().map(|key| Bytes::from_static(key.as_bytes())).collect(),
            ..Default::default()
        }
    }

    #[test]
    fn a_cluster_is_known_by_any_key_that_it_had() {
        for (before, now, another) in [
            (&["a"][..], &["a"][..], false),
            (&["a"], &["b", "a"], false),
            (&["a", "b"], &["b"], false),
            (&["a"], &["b"], true),
            (&["a"], &[], true),
            (&[], &["a"], false),
        ] {
            assert_eq!(is_another_cluster(&welcome(before), &welcome(now)), another, "{before:?} {now:?}");
        }
    }

    #[test]
    fn a_worker_that_is_refused_says_why_and_what_to_do() {
        let taken = ApiError::new(dunlin_proto::ErrorCode::AlreadyExists, "another worker is connected as w1");
        let ended = Ended::from(Status::from(taken.hint("give each worker a name of its own with --name")));
        assert_eq!(
            ended.to_string(),
            "another worker is connected as w1; give each worker a name of its own with --name"
        );
        assert_eq!(Ended::from(Status::unavailable("away")).to_string(), "away");
    }

    #[test]
    fn reports_are_neither_a_flood_nor_a_silence() {
        let every = |millis| {
            report_interval(&WorkerWelcome {
                report_interval: Some(prost_types::Duration { seconds: 0, nanos: millis * 1_000_000 }),
                ..Default::default()
            })
        };
        assert_eq!(every(0), REPORT_INTERVAL);
        assert_eq!(every(1), Duration::from_millis(50));
        assert_eq!(every(250), Duration::from_millis(250));
    }
}
