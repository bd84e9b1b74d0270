//! One function: whether it is healthy, its address, versions and traffic, how it goes, what it wrote.

use std::{sync::Arc, time::SystemTime};

use askama::Template;
use axum::{Extension, extract::State};
use dunlin_proto::{
    ids::{AliasId, RequestId},
    model::{Quota, Rate},
    names::FunctionRef,
    v1,
};
use serde::Deserialize;

use super::{
    Page, apps,
    chart::Chart,
    early,
    format::{self, When},
    health::HealthNote,
    over_time::{OverTime, newest_of_more},
    rollout::RolloutNote,
    shell::{Section, Shell, may},
    stats::Stats,
    testing, text_of,
    traffic::{Side, Slider, percent, sides, slider},
    view::{Badge, InvocationRow, LineRow, visible},
};
use crate::{
    admin::{
        app::{App, sees_values},
        fault::{Fault, RequestName},
        json::collect_logs,
        model::{Function, InvocationList, Limits, LogList, Rollout, Version, VersionList, id_in},
        params::{Named, Query},
        session::{Caller, Visitor},
    },
    auth::{Principal, Role},
    records::MOST_SUMMARY,
};

/// Records that the numbers are made of, and invocations and lines that the page shows.
const RECORDS: i32 = 500;
const SHOWN: usize = 10;
const LINES: u32 = 20;
const VERSIONS: i32 = 20;

#[derive(Debug, Template)]
#[template(path = "function.html")]
struct FunctionPage {
    shell: Shell,
    namespace: String,
    name: String,
    description: String,
    /// Those whose routes name it.
    apps: Vec<String>,
    access: Badge,
    access_note: &'static str,
    done: Option<String>,
    etag: String,
    may_deploy: bool,
    request_id: String,
    urls: Vec<Address>,
    health: Option<HealthNote>,
    stats: Stats,
    over: OverTime,
    /// What the pictures are of.
    pictured: String,
    chart: Chart,
    traffic: Vec<Share>,
    sides: Vec<Side>,
    slider: Option<Slider>,
    rollout: Option<RolloutNote>,
    aliases: Vec<AliasRow>,
    versions: Vec<VersionRow>,
    more_versions: bool,
    current: Option<Current>,
    unreachable: Vec<String>,
    invocations: Vec<InvocationRow>,
    lines: Vec<LineRow>,
}

#[derive(Debug)]
struct Address {
    id: String,
    curl: String,
    /// The address, where its parameters are to be filled in first.
    fill_in: String,
}

#[derive(Debug)]
struct Share {
    class: &'static str,
    version: u32,
    percent: u32,
    x: u32,
}

#[derive(Debug)]
struct VersionRow {
    number: u32,
    note: String,
    created: Option<When>,
    creator: String,
    kind: &'static str,
    size: String,
    percent: u32,
    action: &'static str,
}

/// Another name under which it is called.
#[derive(Debug)]
struct AliasRow {
    name: String,
    shares: String,
}

/// The version that most calls go to.
#[derive(Debug)]
struct Current {
    number: u32,
    facts: Vec<(&'static str, String)>,
    environment: Vec<(String, Option<String>)>,
    hosts: Vec<String>,
    digest: String,
}

/// What was done just before.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Done {
    rolled_back: Option<u32>,
    divided: Option<u32>,
    percent: Option<u32>,
    /// Gateways that have not said that they serve it.
    lagging: Option<String>,
}

impl Done {
    fn sentence(&self) -> Option<String> {
        let lagging = self.lagging.as_deref().filter(|names| !names.is_empty());
        let not_yet = lagging.map(|names| format!(" Not yet on {}.", visible(names))).unwrap_or_default();
        let (version, percent) = match (self.rolled_back, self.divided, self.percent) {
            (Some(version), ..) => (version, 100),
            (None, Some(version), Some(percent)) => (version, percent.min(100)),
            _ => return None,
        };
        let how = if percent == 100 { "All".to_owned() } else { format!("{percent} %") };
        let verb = if percent == 100 { "traffic goes" } else { "of the traffic goes" };
        Some(format!("{how} {verb} to version {version} now.{not_yet}"))
    }
}

/// Shows a function.
pub(super) async fn page(
    State(app): State<App>,
    Visitor(who): Visitor,
    Named(name): Named<FunctionRef>,
    Query(done): Query<Done>,
    Extension(RequestName(request_id)): Extension<RequestName>,
) -> Page {
    let found = app.function_get(&who, v1::GetFunctionRequest { name: name.to_string() }).await?;
    let title = format!("{} · {}", name.function, name.namespace);
    early::begun(&title, request_id, shown(app, who, name, found.function.unwrap_or_default().into(), done))
}

/// The whole page of a function that there is.
async fn shown(
    app: App,
    who: Arc<Principal>,
    name: FunctionRef,
    function: Function,
    done: Done,
) -> Result<String, Fault> {
    let parent = name.to_string();
    let versions = v1::ListVersionsRequest { parent: parent.clone(), page_size: VERSIONS, ..Default::default() };
    let calls = v1::ListInvocationsRequest { parent: parent.clone(), page_size: RECORDS, ..Default::default() };
    let lines = v1::ReadLogsRequest { parent: parent.clone(), lines: LINES, ..Default::default() };
    let caller = Caller(who.clone());
    let in_namespace = v1::ListAppsRequest { parent: format!("namespaces/{}", name.namespace) };
    let (health, aliases, apps, versions, calls, lines, shell) = tokio::join!(
        // The page shows the verdict alone, which is about no more than this.
        app.function_health(&who, name.clone(), SystemTime::now().checked_sub(MOST_SUMMARY)),
        app.alias_list(&who, v1::ListAliasesRequest { parent }),
        app.app_list(&who, in_namespace),
        app.version_list(&who, versions),
        app.invocation_list(&who, calls),
        collect_logs(&app, &caller, lines),
        Shell::new(&app, &who, Some(&name.namespace), Section::Overview),
    );
    let versions = VersionList::new(versions?, sees_values(&who, &name.namespace));
    let (calls, now) = (InvocationList::from(calls?), SystemTime::now());
    // These are parts of the page only, as logs are. Most functions have had no rollout.
    let health = health.ok();
    let rollout = health.as_ref().and_then(|found| found.health.as_ref()?.rollout.clone()).map(Rollout::from);
    // Logs are a part of the page only: workers that are away leave it short.
    let lines: LogList = lines.unwrap_or_default();
    let may_deploy = may(&who, &name.namespace, Role::Developer);
    let are_all = calls.invocations.len() < RECORDS.unsigned_abs() as usize;
    let chart = Chart::new(&calls.invocations, |call| format!("/{}", call.name));
    text_of(&FunctionPage {
        shell,
        namespace: name.namespace.to_string(),
        name: name.function.to_string(),
        apps: apps.map(|found| apps::of_function(found, name.function.as_str())).unwrap_or_default(),
        access: Badge::access(&function),
        access_note: access_note(&function),
        done: done.sentence(),
        may_deploy,
        request_id: RequestId::new().to_string(),
        urls: addresses(&function),
        health: health.map(|found| HealthNote::new(&found.into())),
        stats: Stats::of(calls.invocations.iter()),
        over: OverTime::of_function(&calls.invocations, are_all, now),
        pictured: if are_all { "recent calls".to_owned() } else { newest_of_more(&calls.invocations, now) },
        chart,
        traffic: shares(&function),
        sides: sides(&function, &calls.invocations),
        slider: slider(&function, &versions.versions).filter(|_| may_deploy),
        rollout: rollout.as_ref().map(|rollout| RolloutNote::new(rollout, now)),
        aliases: alias_rows(aliases?),
        current: current(&function, &versions.versions),
        more_versions: !versions.next_page_token.is_empty(),
        versions: versions.versions.into_iter().map(|version| VersionRow::new(version, &function, now)).collect(),
        unreachable: calls.unreachable,
        invocations: InvocationRow::all(calls.invocations.get(..SHOWN).unwrap_or(&calls.invocations), now),
        lines: LineRow::of(name.namespace.as_str(), lines),
        description: function.description,
        etag: function.etag,
    })
}

fn access_note(function: &Function) -> &'static str {
    match (function.disabled, function.public) {
        (true, _) => "every call is refused",
        (false, true) => "anybody may call it",
        (false, false) => "callers need a key or token",
    }
}

/// Commands that call the function, ready to paste.
fn addresses(function: &Function) -> Vec<Address> {
    let key = if function.public { "" } else { "-H \"X-Api-Key: $DUNLIN_KEY\" " };
    let command = |(place, url): (usize, &String)| Address {
        id: format!("url-{place}"),
        curl: format!("curl {key}{url}"),
        fill_in: if testing::has_parameters(url) { url.clone() } else { String::new() },
    };
    function.urls.iter().enumerate().map(command).collect()
}

fn shares(function: &Function) -> Vec<Share> {
    let classes = ["s0", "s1", "s2", "s3"].into_iter().cycle();
    let mut x = 0;
    let share = |(target, class): (&crate::admin::model::TrafficTarget, &'static str)| {
        let share = Share { class, version: target.version, percent: target.percent, x };
        x += target.percent;
        share
    };
    function.traffic.iter().zip(classes).map(share).collect()
}

/// Those that it does not have anyway.
fn alias_rows(list: v1::ListAliasesResponse) -> Vec<AliasRow> {
    let row = |alias: v1::Alias| {
        let shares: Vec<_> = alias.traffic.iter().map(|it| format!("v{} {} %", it.version, it.percent)).collect();
        AliasRow { name: id_in(&alias.name, "aliases").to_owned(), shares: shares.join(", ") }
    };
    list.aliases.into_iter().map(row).filter(|row| row.name != AliasId::LIVE).collect()
}

impl VersionRow {
    fn new(version: Version, function: &Function, now: SystemTime) -> Self {
        let highest = function.traffic.iter().map(|target| target.version).max().unwrap_or_default();
        Self {
            number: version.number,
            created: version.create_time.map(|time| When::new(time, now)),
            creator: version.creator,
            kind: version.kind.title(),
            size: format::bytes(version.artifact_size_bytes),
            percent: percent(function, version.number),
            action: if version.number < highest { "Roll back" } else { "Send all traffic" },
            note: version.note,
        }
    }
}

fn concurrency(scaling: &crate::admin::model::Scaling) -> String {
    let most = scaling.max_concurrency.map_or_else(|| "as many as the namespace".to_owned(), |most| most.to_string());
    match scaling.reserved_concurrency {
        0 => most,
        reserved => format!("{most}, {reserved} reserved"),
    }
}

fn reuse(version: &Version) -> String {
    match &version.reuse {
        None => "no".to_owned(),
        Some(_) if !version.reuse_refusal.is_empty() => format!("off: {}", version.reuse_refusal),
        Some(reuse) => {
            let idle = format::micros(reuse.max_idle_ms.saturating_mul(1_000));
            format!("for {} calls, idle {idle}", reuse.max_calls)
        }
    }
}

/// A bound, where the function has one of its own.
fn or_namespace(bound: Option<impl std::fmt::Display>) -> String {
    bound.map_or_else(|| "as many as the namespace".to_owned(), |bound| bound.to_string())
}

/// The function's quota, with what is used of it.
fn quota(function: &Function, limits: &Limits) -> String {
    let quota = limits.quota.clone().and_then(|quota| Quota::from_wire("quota", quota.into()).ok());
    match (&quota, &function.quota_usage) {
        (Some(quota), Some(usage)) => format!("{quota}, {} used", usage.used),
        _ => or_namespace(quota),
    }
}

fn current(function: &Function, versions: &[Version]) -> Option<Current> {
    let version = versions.iter().max_by_key(|version| (percent(function, version.number), version.number))?;
    let (limits, scaling) = (&version.limits, &version.scaling);
    let most = scaling.max_workers.map_or_else(|| "as many as there are".to_owned(), |most| most.to_string());
    Some(Current {
        number: version.number,
        facts: vec![
            ("Memory", format::bytes(limits.memory_bytes)),
            ("CPU time", format::micros(limits.cpu_time_us)),
            ("Timeout", format::micros(limits.timeout_ms.saturating_mul(1_000))),
            ("Request body", format::bytes(limits.request_body_bytes)),
            ("Answer body", format::bytes(limits.response_body_bytes)),
            ("Log a call", format::bytes(limits.log_bytes)),
            ("Sandboxes a worker", format!("{} to {}", scaling.min_sandboxes, scaling.max_sandboxes)),
            ("Workers", format!("{} to {most}", scaling.min_workers)),
            ("Calls at once", concurrency(scaling)),
            (
                "Calls in a time",
                or_namespace(limits.rate.clone().and_then(|rate| Rate::from_wire("rate", rate.into()).ok())),
            ),
            ("Calls in a day or month", quota(function, limits)),
            ("Kept idle for", format::micros(scaling.idle_timeout_ms.saturating_mul(1_000))),
            ("Sandboxes used again", reuse(version)),
        ],
        environment: version.environment.clone().into_iter().collect(),
        hosts: version.allowed_outbound_hosts.clone(),
        digest: version.artifact_digest.clone(),
    })
}
