//! A worker's stream: hello and load up, welcome and assignments down.

use std::{sync::Arc, time::Duration};

use dunlin_proto::{
    ApiError,
    internal::v1::{self as wire, sync_worker_request::Report, sync_worker_response::Update},
    model::to_wire_duration,
    trust::Caller,
};
use futures::Stream;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::{Desk, Ends, first, over, read, report};
use crate::{
    app::App,
    cluster::{Assigned, Assignment, Session},
    model::Time,
    signing,
};

/// How often workers report: silence is noticed after three of these.
const REPORT_INTERVAL: Duration = Duration::from_millis(500);

pub(super) async fn open(
    desk: &Desk,
    caller: &Caller,
    mut reports: Streaming<wire::SyncWorkerRequest>,
) -> Result<impl Stream<Item = Result<wire::SyncWorkerResponse, Status>> + Send + use<>, ApiError> {
    let app = desk.app()?;
    let Some(Report::Hello(hello)) = first(&mut reports).await?.report else {
        return Err(ApiError::invalid("report", "the first message of a worker must be its hello"));
    };
    let hello = report::worker_hello(hello)?;
    let worker = hello.worker.clone();
    caller.check_name(worker.as_str())?;
    app.members.check(caller)?;
    let (session, assignment) = app.board.cluster().worker_join(hello.clone(), Instant::now(), Time::now())?;
    tracing::info!(%worker, address = hello.endpoints.first().map(|e| &*e.address), software = hello.software_version, "a worker has joined");
    app.remember_worker(&worker, true);
    let ended = CancellationToken::new();
    let (reader, leaver) = (app.clone(), app.clone());
    let left = move || {
        leaver.board.cluster().worker_leave(&hello.worker, session);
        tracing::info!(worker = %hello.worker, "a worker's stream has ended");
        leaver.board.hint();
    };
    let reading = follow(reader, worker, session, reports);
    read(desk, &ended, reading, left);
    Ok(updates(desk.clone(), app, assignment, ended))
}

/// Takes reports until the stream ends or another one has replaced it.
async fn follow(
    app: Arc<App>,
    worker: dunlin_proto::ids::WorkerId,
    session: Session,
    mut reports: Streaming<wire::SyncWorkerRequest>,
) {
    let mut was_leaving = false;
    while let Ok(Some(message)) = reports.message().await {
        let Some(Report::Load(load)) = message.report else { continue };
        let report = report::worker_load(load, &app.catalog.current());
        if report.leaving && !was_leaving {
            was_leaving = true;
            tracing::info!(%worker, "a worker is leaving");
            app.remember_worker(&worker, false);
        }
        if let Err(error) = changed(&app, &worker, session, report) {
            tracing::info!(%worker, cause = error.message, "a worker's stream is replaced");
            return;
        }
    }
}

/// Notes a report; what changed the state of a version or the worker is decided on at once.
fn changed(
    app: &App,
    worker: &dunlin_proto::ids::WorkerId,
    session: Session,
    report: crate::cluster::WorkerReport,
) -> Result<(), ApiError> {
    let now = Instant::now();
    let mut cluster = app.board.cluster();
    let before = cluster.workers().get(worker);
    let states = |report: &crate::cluster::WorkerReport| {
        let versions = report.versions.iter().map(|(key, held)| (*key, held.state.clone(), held.queued > 0));
        (report.leaving, versions.collect::<Vec<_>>())
    };
    let was = before.filter(|view| !view.is_silent(now)).and_then(|view| view.report.as_ref()).map(states);
    let news = was != Some(states(&report));
    cluster.worker_report(worker, session, report, now, Time::now())?;
    drop(cluster);
    if news {
        app.board.hint();
    }
    Ok(())
}

fn updates(
    desk: Desk,
    app: Arc<App>,
    mut assignment: watch::Receiver<Arc<Assignment>>,
    ended: CancellationToken,
) -> impl Stream<Item = Result<wire::SyncWorkerResponse, Status>> + Send {
    let ends = Ends { ended: ended.clone() };
    let say = |update| Ok(wire::SyncWorkerResponse { update: Some(update) });
    async_stream::stream! {
        let _ends = ends;
        let over = over(desk, ended);
        tokio::pin!(over);
        yield say(Update::Welcome(wire::WorkerWelcome {
            report_interval: Some(to_wire_duration(REPORT_INTERVAL)),
            code_keys: vec![app.codes.workshop.signer.public_key()],
        }));
        let mut sent: Option<Arc<Assignment>> = None;
        loop {
            let now = assignment.borrow_and_update().clone();
            // Nothing has been decided yet in the first moments of a scheduler.
            if now.version.1 > 0 {
                yield say(update(sent.as_deref(), &now));
                sent = Some(now);
            }
            tokio::select! {
                changed = assignment.changed() => if changed.is_err() { return },
                () = &mut over => return,
            }
        }
    }
}

/// What the worker must learn: everything at first, then the change from what this stream sent last.
fn update(sent: Option<&Assignment>, now: &Assignment) -> Update {
    match sent {
        Some(sent) => Update::AssignmentDelta(difference(sent, now)),
        None => Update::Assignment(to_wire(now)),
    }
}

fn to_wire(assignment: &Assignment) -> wire::Assignment {
    wire::Assignment {
        version: Some(number(assignment)),
        versions: assignment.versions.values().map(assigned).collect(),
        drain: assignment.drain,
        peers: peers(assignment),
        retentions: retentions(assignment),
    }
}

fn number(assignment: &Assignment) -> wire::AssignmentVersion {
    let (epoch, sequence) = assignment.version;
    wire::AssignmentVersion { epoch, sequence }
}

fn peers(assignment: &Assignment) -> Vec<wire::WorkerPeer> {
    let peer = |seated: &crate::cluster::Seated| wire::WorkerPeer {
        worker: seated.worker.to_string(),
        zone: seated.zone.clone(),
        address: seated.address.clone(),
    };
    assignment.peers.iter().map(peer).collect()
}

fn retentions(assignment: &Assignment) -> Vec<wire::NamespaceRetention> {
    assignment.retentions.iter().map(|(namespace, retention)| retention.of(namespace)).collect()
}

/// What turns one assignment into another.
fn difference(before: &Assignment, after: &Assignment) -> wire::AssignmentDelta {
    let news = after.versions.iter().filter(|(key, now)| before.versions.get(key) != Some(now));
    let gone = before.versions.keys().filter(|key| !after.versions.contains_key(key));
    let peers_changed = before.peers != after.peers;
    let retentions_changed = before.retentions != after.retentions;
    wire::AssignmentDelta {
        base: Some(number(before)),
        version: Some(number(after)),
        versions: news.map(|(_, now)| assigned(now)).collect(),
        removed: gone.map(|key| (*key).into()).collect(),
        drain: after.drain,
        peers_changed,
        peers: if peers_changed { peers(after) } else { Vec::new() },
        retentions_changed,
        retentions: if retentions_changed { retentions(after) } else { Vec::new() },
    }
}

fn assigned(assigned: &Assigned) -> wire::AssignedVersion {
    let Assigned { version, code, standby } = assigned;
    let scaling = &version.spec.scaling;
    wire::AssignedVersion {
        version: Some(version.key().into()),
        namespace: version.function.namespace.to_string(),
        function: version.function.function.to_string(),
        kind: version.kind.as_str().to_owned(),
        code: Some(signing::to_wire(code)),
        policy: Some((&version.spec).into()),
        min_sandboxes: scaling.min_sandboxes,
        max_sandboxes: scaling.max_sandboxes,
        idle_timeout: Some(to_wire_duration(scaling.idle_timeout)),
        standby: *standby,
        reuse: version.spec.reuse.as_ref().filter(|_| version.reuses()).map(|reuse| wire::SandboxReuse {
            max_calls: reuse.max_calls,
            max_idle: Some(to_wire_duration(reuse.max_idle)),
            tried: version.reuse_refusal.is_some(),
        }),
    }
}
