//! The first page: what there is in a namespace, how it goes, and for operators how the cluster is.

use std::time::SystemTime;

use askama::Template;
use axum::{
    extract::State,
    response::{IntoResponse, Redirect},
};
use dunlin_proto::{ApiError, names::NamespaceRef, v1};

use super::{
    Page,
    format::{self, When},
    render, sentence,
    shell::{Section, Shell, namespaces},
    stats::Stats,
    usage,
    view::{Badge, InvocationRow},
    webhooks::{WebhookView, webhook},
};
use crate::{
    admin::{
        app::App,
        model::{Cluster, Function, Invocation, InvocationList, Worker, WorkerState},
        params::Named,
        session::Visitor,
    },
    auth::Principal,
};

/// Records that the numbers are made of.
const RECORDS: i32 = 1_000;
/// Invocations that the page shows.
const SHOWN: usize = 10;

#[derive(Debug, Template)]
#[template(path = "no_namespace.html")]
struct NoNamespace {
    shell: Shell,
}

/// Leads to the first namespace.
pub(super) async fn root(State(app): State<App>, Visitor(who): Visitor) -> Page {
    match namespaces(&app, &who).await.first() {
        Some(first) => Ok(Redirect::to(&format!("/namespaces/{first}")).into_response()),
        None => render(&NoNamespace { shell: Shell::new(&app, &who, None, Section::Overview).await }),
    }
}

#[derive(Debug, Template)]
#[template(path = "overview.html")]
struct Overview {
    shell: Shell,
    namespace: String,
    description: String,
    unreachable: Vec<String>,
    cluster_problem: Option<String>,
    /// What there is to warn of.
    budget: Vec<usage::Bound>,
    cluster: Option<ClusterView>,
    window: String,
    functions: Vec<FunctionRow>,
    invocations: Vec<InvocationRow>,
    webhook: Option<WebhookView>,
}

#[derive(Debug)]
struct FunctionRow {
    name: String,
    href: String,
    description: String,
    access: Badge,
    calls: usize,
    failed: usize,
    failed_share: String,
    median: String,
    p95: String,
    traffic: String,
    changed: Option<When>,
}

#[derive(Debug)]
struct ClusterView {
    ready: usize,
    is_short: bool,
    in_flight: u32,
    capacity: u32,
    prepared: u32,
    gateways: usize,
    config_version: u64,
    store: String,
    wanted: String,
    workers: Vec<WorkerRow>,
}

#[derive(Debug)]
struct WorkerRow {
    name: String,
    href: String,
    state: Badge,
    in_flight: u32,
    capacity: u32,
    prepared: u32,
    versions: usize,
    cpu: String,
    memory: String,
    heard: Option<When>,
}

/// Shows a namespace.
pub(super) async fn page(
    State(app): State<App>,
    Visitor(who): Visitor,
    Named(NamespaceRef { namespace }): Named<NamespaceRef>,
) -> Page {
    let name = NamespaceRef { namespace: namespace.clone() }.to_string();
    let of_namespace = v1::GetNamespaceRequest { name: name.clone() };
    let functions = v1::ListFunctionsRequest { parent: name.clone(), page_size: 1_000, ..Default::default() };
    let calls = v1::ListInvocationsRequest { parent: name, page_size: RECORDS, ..Default::default() };
    let (found, functions, calls, budget, webhook, cluster, shell) = tokio::join!(
        app.namespace_get(&who, of_namespace),
        app.function_list(&who, functions),
        app.invocation_list(&who, calls),
        usage::budget(&app, &who, &namespace),
        webhook(&app, &who, &namespace),
        cluster(&app, &who),
        Shell::new(&app, &who, Some(&namespace), Section::Overview),
    );
    let (now, calls) = (SystemTime::now(), InvocationList::from(calls?));
    let (cluster, cluster_problem) = match cluster {
        Ok(cluster) => (cluster.map(|cluster| ClusterView::new(cluster, now)), None),
        Err(error) => (None, Some(sentence(&error.message))),
    };
    render(&Overview {
        shell,
        namespace: namespace.to_string(),
        description: found?.namespace.unwrap_or_default().description,
        unreachable: calls.unreachable,
        cluster_problem,
        // A scheduler that is away has been said to be.
        budget: budget.unwrap_or_default().into_iter().filter(usage::Bound::worries).collect(),
        cluster,
        window: window(calls.invocations.len()),
        functions: functions?
            .functions
            .into_iter()
            .map(|f| FunctionRow::new(f.into(), &calls.invocations, now))
            .collect(),
        webhook,
        invocations: InvocationRow::all(calls.invocations.get(..SHOWN).unwrap_or(&calls.invocations), now),
    })
}

/// The cluster's state, for an operator.
async fn cluster(app: &App, who: &Principal) -> Result<Option<Cluster>, ApiError> {
    if !who.is_operator() {
        return Ok(None);
    }
    Ok(Some(app.cluster_get(who, v1::GetClusterRequest {}).await?.into()))
}

/// What the numbers are made of, in words.
fn window(calls: usize) -> String {
    match calls {
        0 => "no call is on record".to_owned(),
        1 => "of the last call".to_owned(),
        calls => format!("of the last {calls} calls"),
    }
}

impl FunctionRow {
    fn new(function: Function, calls: &[Invocation], now: SystemTime) -> Self {
        let stats = Stats::of(calls.iter().filter(|call| call.function == function.function));
        let share = |target: &crate::admin::model::TrafficTarget| match target.percent {
            100 => format!("v{}", target.version),
            percent => format!("v{} {percent} %", target.version),
        };
        let traffic: Vec<_> = function.traffic.iter().map(share).collect();
        Self {
            href: format!("/{}", function.name),
            access: Badge::access(&function),
            calls: stats.calls,
            failed: stats.failed,
            failed_share: stats.failed_share,
            median: stats.median,
            p95: stats.p95,
            traffic: if traffic.is_empty() { "none".to_owned() } else { traffic.join(", ") },
            changed: function.update_time.map(|time| When::new(time, now)),
            description: function.description,
            name: function.function,
        }
    }
}

impl ClusterView {
    fn new(cluster: Cluster, now: SystemTime) -> Self {
        let ready = cluster.workers.iter().filter(|worker| worker.state == WorkerState::Ready).count();
        let sum = |of: fn(&Worker) -> u32| cluster.workers.iter().map(of).fold(0, u32::saturating_add);
        Self {
            ready,
            is_short: ready < cluster.workers.len() || ready == 0,
            in_flight: sum(|worker| worker.in_flight),
            capacity: sum(|worker| worker.capacity),
            prepared: sum(|worker| worker.prepared),
            gateways: cluster.gateways.len(),
            config_version: cluster.config_version,
            wanted: format!("the load asks for {}", cluster.wanted_workers),
            store: cluster.store,
            workers: cluster.workers.into_iter().map(|worker| WorkerRow::new(worker, now)).collect(),
        }
    }
}

impl WorkerRow {
    fn new(worker: Worker, now: SystemTime) -> Self {
        Self {
            href: format!("/{}", worker.name),
            state: Badge::worker(worker.state),
            in_flight: worker.in_flight,
            capacity: worker.capacity,
            prepared: worker.prepared,
            versions: worker.versions.len(),
            cpu: format::cores(worker.cpu_millis),
            memory: format::bytes(worker.memory_bytes),
            heard: worker.heard_time.map(|time| When::new(time, now)),
            name: worker.worker,
        }
    }
}
