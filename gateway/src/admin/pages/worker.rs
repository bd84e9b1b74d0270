//! One worker: its load and the versions that it holds. For operators.

use std::time::SystemTime;

use askama::Template;
use axum::extract::State;
use dunlin_proto::names::WorkerName;

use super::{
    Page,
    format::{self, When},
    render,
    shell::{Section, Shell},
    view::{Badge, visible},
};
use crate::admin::{
    app::App,
    model::{HeldVersion, Worker, WorkerState, id_in},
    params::Named,
    session::Visitor,
};

#[derive(Debug, Template)]
#[template(path = "worker.html")]
struct WorkerPage {
    shell: Shell,
    name: String,
    state: Badge,
    draining: bool,
    in_flight: u32,
    capacity: u32,
    prepared: u32,
    cpu: String,
    memory: String,
    heard: Option<When>,
    joined: Option<When>,
    address: String,
    software_version: String,
    engine: String,
    versions: Vec<HeldRow>,
}

#[derive(Debug)]
struct HeldRow {
    namespace: String,
    function: String,
    number: String,
    href: String,
    state: Badge,
    error: String,
    in_flight: u32,
    prepared: u32,
}

impl HeldRow {
    fn new(held: &HeldVersion) -> Self {
        Self {
            namespace: id_in(&held.version, "namespaces").to_owned(),
            function: id_in(&held.version, "functions").to_owned(),
            number: id_in(&held.version, "versions").to_owned(),
            href: held.version.split_once("/versions/").map(|(f, _)| format!("/{f}")).unwrap_or_default(),
            state: Badge::held(&held.state),
            error: visible(&held.error),
            in_flight: held.in_flight,
            prepared: held.prepared,
        }
    }
}

/// Shows a worker.
pub(super) async fn page(State(app): State<App>, Visitor(who): Visitor, Named(name): Named<WorkerName>) -> Page {
    let worker: Worker = app.worker_get(&who, &name.to_string()).await?.into();
    let now = SystemTime::now();
    render(&WorkerPage {
        shell: Shell::new(&app, &who, None, Section::Overview).await,
        state: Badge::worker(worker.state),
        draining: worker.state == WorkerState::Draining,
        in_flight: worker.in_flight,
        capacity: worker.capacity,
        prepared: worker.prepared,
        cpu: format::cores(worker.cpu_millis),
        memory: format::bytes(worker.memory_bytes),
        heard: worker.heard_time.map(|time| When::new(time, now)),
        joined: worker.join_time.map(|time| When::new(time, now)),
        versions: worker.versions.iter().map(HeldRow::new).collect(),
        address: worker.address,
        software_version: worker.software_version,
        engine: worker.engine,
        name: worker.worker,
    })
}
