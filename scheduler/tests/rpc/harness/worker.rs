//! A worker that runs nothing: it joins, holds what it shall hold, and reports.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use dunlin_proto::internal::v1::{
    AssignedVersion, Assignment, AssignmentDelta, Endpoint, NamespaceRetention, ReuseTrial, SyncWorkerRequest,
    SyncWorkerResponse, VersionLoad, VersionRef, WorkerHello, WorkerLoad, sync_worker_request::Report,
    sync_worker_response::Update,
};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::Cluster;

/// What it does and has seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) silent: bool,
    /// Says that it can't load what it shall hold.
    pub(crate) failing: bool,
    /// Says that it still loads.
    pub(crate) loading: bool,
    /// What it says of using sandboxes again, of versions that ask for it and were not tried before.
    pub(crate) reuse_refusal: Option<String>,
    /// Calls that wait for a sandbox of each version.
    pub(crate) queued: u32,
    pub(crate) assignments: Vec<Assignment>,
    pub(crate) code_keys: Vec<Vec<u8>>,
    /// What it says beside what it holds.
    pub(crate) extra: Vec<VersionLoad>,
}

/// A joined worker. It leaves when it is dropped.
pub(crate) struct SimWorker {
    pub(crate) seen: Arc<Mutex<Seen>>,
    _tasks: JoinSet<()>,
}

/// The hello of a worker.
pub(crate) fn hello(name: &str, incarnation: &str, engine: &str) -> WorkerHello {
    let endpoint = Endpoint {
        id: format!("{name}/0"),
        address: "127.0.0.1:7999".into(),
        engine_class: "default".into(),
        fingerprint: engine.into(),
        capacity: 100,
    };
    WorkerHello {
        worker: name.into(),
        protocol_version: 1,
        software_version: "0.1.0".into(),
        endpoints: vec![endpoint],
        zone: String::new(),
        incarnation: incarnation.into(),
    }
}

fn say(report: Report) -> SyncWorkerRequest {
    SyncWorkerRequest { report: Some(report) }
}

impl SimWorker {
    /// Joins with engine 1, and reconnects by itself like the real one.
    pub(crate) async fn join(cluster: &Cluster, name: &str) -> Self {
        Self::join_with(cluster, hello(name, "1", "engine-1")).await.unwrap()
    }

    pub(crate) async fn join_with(cluster: &Cluster, hello: WorkerHello) -> Result<Self, Status> {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (reports, updates) = open(cluster, &hello).await?;
        let mut client = cluster.sync();
        let (shared, mut tasks) = (seen.clone(), JoinSet::new());
        tasks.spawn(async move {
            let (mut reports, mut updates) = (reports, updates);
            loop {
                work(&shared, &reports, &mut updates).await;
                // The scheduler is away: what is held stays held.
                loop {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    let (sender, receiver) = mpsc::channel(8);
                    sender.send(say(Report::Hello(hello.clone()))).await.unwrap();
                    if let Ok(opened) = client.sync_worker(ReceiverStream::new(receiver)).await {
                        (reports, updates) = (sender, opened.into_inner());
                        break;
                    }
                }
            }
        });
        Ok(Self { seen, _tasks: tasks })
    }

    pub(crate) fn set(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.seen.lock().unwrap());
    }

    /// The versions that it shall hold loaded.
    pub(crate) fn held(&self) -> Vec<AssignedVersion> {
        self.assigned().into_iter().filter(|assigned| !assigned.standby).collect()
    }

    /// What it shall keep of the logs of namespaces that have that of their own.
    pub(crate) fn retentions(&self) -> Vec<NamespaceRetention> {
        self.seen.lock().unwrap().assignments.last().map(|last| last.retentions.clone()).unwrap_or_default()
    }

    /// The versions that it shall hold, loaded or on standby.
    pub(crate) fn assigned(&self) -> Vec<AssignedVersion> {
        self.seen.lock().unwrap().assignments.last().map(|last| last.versions.clone()).unwrap_or_default()
    }
}

type Opened = (mpsc::Sender<SyncWorkerRequest>, Streaming<SyncWorkerResponse>);

async fn open(cluster: &Cluster, hello: &WorkerHello) -> Result<Opened, Status> {
    let (reports, receiver) = mpsc::channel(8);
    reports.send(say(Report::Hello(hello.clone()))).await.unwrap();
    let updates = cluster.sync().sync_worker(ReceiverStream::new(receiver)).await?.into_inner();
    Ok((reports, updates))
}

/// Takes updates and reports every 100 ms, until the stream ends.
async fn work(
    seen: &Mutex<Seen>,
    reports: &mpsc::Sender<SyncWorkerRequest>,
    updates: &mut Streaming<SyncWorkerResponse>,
) {
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    loop {
        tokio::select! {
            update = updates.message() => match update {
                Ok(Some(update)) => note(seen, update),
                _ => return,
            },
            _ = ticks.tick() => {}
        }
        let load = load(&seen.lock().unwrap());
        if let Some(load) = load
            && reports.send(say(Report::Load(load))).await.is_err()
        {
            return;
        }
    }
}

fn note(seen: &Mutex<Seen>, update: SyncWorkerResponse) {
    let mut seen = seen.lock().unwrap();
    match update.update.unwrap() {
        Update::Welcome(welcome) => seen.code_keys = welcome.code_keys.iter().map(|key| key.to_vec()).collect(),
        Update::Assignment(assignment) => seen.assignments.push(assignment),
        Update::AssignmentDelta(delta) => {
            let changed = change(seen.assignments.last().cloned().unwrap(), delta);
            seen.assignments.push(changed);
        }
    }
}

/// The assignment after a change, which must be for exactly this one.
fn change(mut assignment: Assignment, delta: AssignmentDelta) -> Assignment {
    assert_eq!(assignment.version, delta.base);
    let named = |version: &Option<VersionRef>| {
        let changed = delta.versions.iter().any(|changed| changed.version == *version);
        changed || version.as_ref().is_some_and(|version| delta.removed.contains(version))
    };
    assignment.versions.retain(|assigned| !named(&assigned.version));
    assignment.versions.extend(delta.versions.clone());
    if delta.peers_changed {
        assignment.peers = delta.peers;
    }
    if delta.retentions_changed {
        assignment.retentions = delta.retentions;
    }
    Assignment { version: delta.version, drain: delta.drain, ..assignment }
}

fn load(seen: &Seen) -> Option<WorkerLoad> {
    if seen.silent {
        return None;
    }
    let state = if seen.failing {
        3
    } else if seen.loading {
        1
    } else {
        2
    };
    let held = seen.assignments.last().map(|last| last.versions.clone()).unwrap_or_default();
    let mut versions = BTreeMap::new();
    for assigned in held.into_iter().filter(|assigned| !assigned.standby) {
        let version = assigned.version.unwrap();
        let load = VersionLoad {
            version: Some(version.clone()),
            state,
            error: if seen.failing { "no room".into() } else { String::new() },
            queued: seen.queued,
            reuse_trial: assigned.reuse.filter(|reuse| !reuse.tried).and(seen.reuse_refusal.clone()).map(trial),
            ..Default::default()
        };
        versions.insert((version.function_uid, version.number), load);
    }
    let versions = versions.into_values().chain(seen.extra.clone()).collect();
    Some(WorkerLoad { versions, memory_bytes: 1 << 20, cpu_millis: 5, ..Default::default() })
}

fn trial(refusal: String) -> ReuseTrial {
    ReuseTrial { refusal }
}
