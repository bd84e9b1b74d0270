//! The first page: what there is in a namespace, how it goes, and for operators how the cluster is.

use std::{
    cmp::Reverse,
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use askama::Template;
use axum::{Extension, extract::State};
use dunlin_proto::{ApiError, ids, names::NamespaceRef, v1};
use serde::Deserialize;

use super::{
    Page, early,
    format::{self, When},
    over_time::{OverTime, newest_of_more},
    render, sentence,
    shell::{Section, Shell, namespaces},
    stats::Stats,
    text_of, usage,
    view::{Badge, InvocationRow},
    webhooks::{WebhookView, webhook},
};
use crate::{
    admin::{
        app::App,
        fault::{Fault, RequestName},
        model::{Cluster, Function, Invocation, InvocationList, Namespace, Worker, WorkerState},
        params::{Named, Query},
        session::Visitor,
    },
    auth::Principal,
};

/// Records that the numbers are made of.
const RECORDS: i32 = 500;
/// For how long the pictures go back, where the records do.
const PICTURED: Duration = Duration::from_secs(3_600);
/// Functions that the page shows, unless all are asked for: those that are called most.
const FUNCTIONS: usize = 20;
/// Invocations that the page shows.
const SHOWN: usize = 10;

#[derive(Debug, Template)]
#[template(path = "no_namespace.html")]
struct NoNamespace {
    shell: Shell,
}

/// Shows the first namespace. Leading there would make whoever opens the dashboard wait for one answer more.
pub(super) async fn root(
    State(app): State<App>,
    Visitor(who): Visitor,
    Extension(RequestName(request_id)): Extension<RequestName>,
) -> Page {
    match namespaces(&app, &who).await.iter().find_map(|name| name.parse().ok()) {
        Some(first) => begun(app, who, first, Which::default(), request_id).await,
        None => render(&NoNamespace { shell: Shell::new(&app, &who, None, Section::Overview).await }),
    }
}

#[derive(Debug, Template)]
#[template(path = "overview.html")]
struct Overview {
    shell: Shell,
    namespace: String,
    description: String,
    /// What is kept of its records and logs, where that is its own.
    kept: Option<String>,
    live: Live,
    webhook: Option<WebhookView>,
    /// What is asked for of the part that changes.
    stream: String,
}

/// How much is shown.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub(super) struct Which {
    /// Every function.
    all: bool,
}

/// The part of the page that changes while it is looked at (`live.rs`).
#[derive(Debug, Template)]
#[template(path = "live.html")]
pub(super) struct Live {
    namespace: String,
    unreachable: Vec<String>,
    cluster_problem: Option<String>,
    /// What there is to warn of.
    budget: Vec<usage::Bound>,
    cluster: Option<ClusterView>,
    window: String,
    /// What the pictures are of, where that is less than the last hour.
    pictured: Option<String>,
    over: OverTime,
    functions: Vec<FunctionRow>,
    /// Functions that are not shown.
    more: usize,
    invocations: Vec<InvocationRow>,
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
    Query(which): Query<Which>,
    Extension(RequestName(request_id)): Extension<RequestName>,
) -> Page {
    begun(app, who, namespace, which, request_id).await
}

async fn begun(app: App, who: Arc<Principal>, namespace: ids::Namespace, which: Which, request_id: String) -> Page {
    let of_namespace = v1::GetNamespaceRequest { name: NamespaceRef { namespace: namespace.clone() }.to_string() };
    let found = app.namespace_get(&who, of_namespace).await?.namespace.unwrap_or_default();
    early::begun(namespace.clone().as_str(), request_id, shown(app, who, namespace, found.into(), which))
}

/// The whole page of a namespace that there is.
async fn shown(
    app: App,
    who: Arc<Principal>,
    namespace: ids::Namespace,
    found: Namespace,
    which: Which,
) -> Result<String, Fault> {
    let (live, webhook, shell) = tokio::join!(
        live(&app, &who, &namespace, which),
        webhook(&app, &who, &namespace),
        Shell::new(&app, &who, Some(&namespace), Section::Overview),
    );
    let (namespace, kept) = (namespace.to_string(), kept(&found));
    let stream = format!("/namespaces/{namespace}/live{}", if which.all { "?all=true" } else { "" });
    text_of(&Overview { shell, namespace, description: found.description, kept, live: live?, webhook, stream })
}

/// What there is in a namespace now.
pub(super) async fn live(
    app: &App,
    who: &Principal,
    namespace: &ids::Namespace,
    which: Which,
) -> Result<Live, ApiError> {
    let name = NamespaceRef { namespace: namespace.clone() }.to_string();
    let functions = v1::ListFunctionsRequest { parent: name.clone(), page_size: 1_000, ..Default::default() };
    let calls = v1::ListInvocationsRequest { parent: name, page_size: RECORDS, ..Default::default() };
    let (functions, calls, budget, cluster) = tokio::join!(
        app.function_list_bare(who, functions),
        app.invocation_list(who, calls),
        usage::budget(app, who, namespace),
        cluster(app, who),
    );
    let (now, calls) = (SystemTime::now(), InvocationList::from(calls?));
    let (cluster, cluster_problem) = match cluster {
        Ok(cluster) => (cluster.map(|cluster| ClusterView::new(cluster, now)), None),
        Err(error) => (None, Some(sentence(&error.message))),
    };
    let of_function = by_function(&calls.invocations);
    let calls_of = |function: &str| of_function.get(function).map(Vec::as_slice).unwrap_or_default();
    let mut shown = functions?.functions;
    let more = if which.all { 0 } else { shorten(&mut shown, |function| calls_of(function).len()) };
    let row = |function: v1::Function| {
        let function = Function::from(function);
        let calls = calls_of(&function.function);
        FunctionRow::new(function, calls, now)
    };
    let since = pictured(&calls.invocations, now);
    let is_short = now.checked_sub(PICTURED).is_some_and(|hour| since > hour);
    Ok(Live {
        namespace: namespace.to_string(),
        cluster_problem,
        // A scheduler that is away has been said to be.
        budget: budget.unwrap_or_default().into_iter().filter(usage::Bound::worries).collect(),
        cluster,
        window: window(calls.invocations.len()),
        over: OverTime::of_namespace(&calls.invocations, since, now),
        pictured: is_short.then(|| newest_of_more(&calls.invocations, now)),
        more,
        functions: shown.into_iter().map(row).collect(),
        invocations: InvocationRow::all(calls.invocations.get(..SHOWN).unwrap_or(&calls.invocations), now),
        unreachable: calls.unreachable,
    })
}

/// Of very many functions, leaves those that are called most; returns how many it left out.
fn shorten(functions: &mut Vec<v1::Function>, calls_of: impl Fn(&str) -> usize) -> usize {
    let more = functions.len().saturating_sub(FUNCTIONS);
    if more > 0 {
        functions
            .sort_by_cached_key(|function| Reverse(calls_of(function.name.rsplit('/').next().unwrap_or_default())));
        functions.truncate(FUNCTIONS);
    }
    more
}

/// Calls by the function that they are of.
fn by_function(calls: &[Invocation]) -> HashMap<&str, Vec<&Invocation>> {
    let mut found: HashMap<_, Vec<_>> = HashMap::new();
    for call in calls {
        found.entry(call.function.as_str()).or_default().push(call);
    }
    found
}

/// The cluster's state, for an operator.
async fn cluster(app: &App, who: &Principal) -> Result<Option<Cluster>, ApiError> {
    if !who.is_operator() {
        return Ok(None);
    }
    Ok(Some(app.cluster_get(who, v1::GetClusterRequest {}).await?.into()))
}

/// What is kept of a namespace's records and logs, in words; nothing where that is not its own.
fn kept(namespace: &Namespace) -> Option<String> {
    let age = namespace.log_retention_seconds.map(|seconds| {
        let age = humantime::format_duration(Duration::from_secs(seconds));
        format!("records and logs for {age}")
    });
    let size = namespace.log_bytes.map(|most| format!("{} of logs on each worker", format::bytes(most)));
    let both: Vec<_> = age.into_iter().chain(size).collect();
    (!both.is_empty()).then(|| format!("Keeps {}", both.join(", and ")))
}

/// From when on the records that were read say all: an hour ago, or later where there are more than were read.
fn pictured(calls: &[Invocation], now: SystemTime) -> SystemTime {
    let since = now.checked_sub(PICTURED).unwrap_or(now);
    let oldest = calls.last().filter(|_| calls.len() >= RECORDS.unsigned_abs() as usize);
    oldest.and_then(|call| call.start_time).map_or(since, |oldest| oldest.at().max(since))
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
    fn new(function: Function, calls: &[&Invocation], now: SystemTime) -> Self {
        let stats = Stats::of(calls.iter().copied());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_very_many_functions_those_that_are_called_most_are_shown() {
        let function =
            |number: usize| v1::Function { name: format!("namespaces/shop/functions/f{number}"), ..Default::default() };
        let calls = |function: &str| function.strip_prefix('f').and_then(|number| number.parse().ok()).unwrap();
        let mut functions: Vec<_> = (0..FUNCTIONS + 2).map(function).collect();
        assert_eq!((shorten(&mut functions, calls), functions.len()), (2, FUNCTIONS));
        let most = format!("namespaces/shop/functions/f{}", FUNCTIONS + 1);
        assert!(functions[0].name == most && functions.iter().all(|function| !function.name.ends_with("/f1")));
        assert_eq!((shorten(&mut functions, |_| 0), functions[0].name == most), (0, true));
    }

    #[test]
    fn what_is_kept_of_a_namespace_is_said_where_it_is_its_own() {
        let said = |seconds: Option<i64>, log_bytes| {
            let log_retention = seconds.map(|seconds| prost_types::Duration { seconds, nanos: 0 });
            kept(&v1::Namespace { log_retention, log_bytes, ..v1::Namespace::default() }.into())
        };
        assert_eq!(said(None, None), None);
        assert_eq!(said(Some(7 * 86_400), None).unwrap(), "Keeps records and logs for 7days");
        let both = said(Some(90), Some(200 << 20)).unwrap();
        assert_eq!(both, "Keeps records and logs for 1m 30s, and 200 MiB of logs on each worker");
    }
}
