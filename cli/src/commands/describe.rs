//! `dunlin describe`: whether a function is healthy, what to do where it is not, and everything else about it on one page.

use clap::Args;
use dunlin_proto::{
    names::{BudgetName, FunctionRef},
    v1,
};
use serde_json::{Value, json};

use super::{
    invocations::recent,
    versions::{function, versions},
};
use crate::{
    client::{Client, answer},
    exit::{Exit, Failure},
    output::{Output, Style, pairs, printable, table},
    session::{FunctionArg, Session},
    units,
    view::{
        Time,
        cluster::WorkerView,
        function::FunctionView,
        health::HealthView,
        invocation::{self, InvocationView},
        or_dash,
        usage::BudgetView,
        version::{self, VersionView},
    },
};

/// How many versions and invocations are shown.
const SHOWN: usize = 5;

/// Arguments of `dunlin describe`.
#[derive(Args)]
pub(crate) struct DescribeArgs {
    /// Function, as NAME or NAMESPACE/NAME
    name: FunctionArg,
}

/// What is known of a function.
struct Page {
    health: HealthView,
    invocations: Vec<InvocationView>,
    /// Nothing while the scheduler does not answer.
    known: Option<Known>,
}

/// What the scheduler knows of a function.
struct Known {
    function: FunctionView,
    versions: Vec<VersionView>,
    /// What the namespace's budget warns of.
    budget: Option<String>,
    /// The workers that hold one of its versions; unknown to all but operators.
    workers: Option<Vec<WorkerView>>,
}

/// Runs it.
pub(crate) async fn run(args: DescribeArgs, session: &Session) -> Result<(), Failure> {
    let client = session.connect().await?;
    let name = args.name.in_target(client.target());
    let known = match known(&client, &name).await {
        // Calls go on without it, and how they do is known to gateways and workers.
        Err(failure) if failure.exit == Exit::Unreachable => None,
        known => Some(known?),
    };
    let page = Page {
        health: health(&client, &name).await?,
        invocations: recent(&client, &name.to_string(), SHOWN, false).await?,
        known,
    };
    for process in &page.health.unreachable {
        session.output.warn(format!("warning: {} did not answer and may know more", printable(process)));
    }
    if session.output.is_json() {
        return session.output.json(&json(&page));
    }
    session.output.text(&text(&page, session.output))
}

/// What the scheduler knows of it.
async fn known(client: &Client, name: &FunctionRef) -> Result<Known, Failure> {
    let function = function(client, name).await?;
    Ok(Known {
        versions: versions(client, name, &function).await?,
        budget: budget(client, name).await?,
        workers: workers(client, name).await?,
        function,
    })
}

/// The page for programs: what is not known is null.
fn json(page: &Page) -> Value {
    let known = page.known.as_ref();
    let workers = known.and_then(|known| known.workers.as_ref());
    json!({
        "health": page.health,
        "function": known.map(|known| &known.function),
        "versions": known.map(|known| &known.versions),
        "invocations": page.invocations,
        "workers": workers.map(|workers| workers.iter().map(|worker| &worker.name).collect::<Vec<_>>()),
        "budget": known.and_then(|known| known.budget.as_ref()),
    })
}

/// Whether the function is healthy, as the cluster says.
async fn health(client: &Client, function: &FunctionRef) -> Result<HealthView, Failure> {
    let request = v1::DescribeFunctionRequest { name: function.to_string() };
    Ok(answer(client.invocations().describe_function(request).await)?.into())
}

/// What there is to warn of in the namespace's budget, where it has one.
async fn budget(client: &Client, function: &FunctionRef) -> Result<Option<String>, Failure> {
    let name = BudgetName { namespace: function.namespace.clone() }.to_string();
    match answer(client.usage().get_budget(v1::GetBudgetRequest { name }).await) {
        Err(failure) if failure.exit == Exit::NotFound => Ok(None),
        found => Ok(BudgetView::from(found?).warning()),
    }
}

/// The workers that hold the function, where this user may know.
async fn workers(client: &Client, name: &FunctionRef) -> Result<Option<Vec<WorkerView>>, Failure> {
    let listed = answer(client.cluster().list_workers(v1::ListWorkersRequest::default()).await);
    let workers = match listed {
        Err(failure) if failure.exit == Exit::NotAuthorised => return Ok(None),
        listed => listed?.workers.into_iter().map(WorkerView::from),
    };
    let holds = |worker: &WorkerView| {
        let same = |namespace: &str, function: &str| {
            name.namespace.as_str() == namespace && name.function.as_str() == function
        };
        worker.versions.iter().any(|held| same(&held.namespace, &held.function))
    };
    Ok(Some(workers.filter(holds).collect()))
}

/// The version that most calls go to, else the newest.
fn live(versions: &[VersionView]) -> Option<&VersionView> {
    let first = versions.first();
    versions.iter().rev().max_by_key(|version| version.traffic_percent).or(first)
}

fn text(page: &Page, output: Output) -> String {
    let style = Style::of_stdout();
    let wide = output.format == crate::output::Format::Wide;
    let mut text = page.health.verdict(style) + "\n" + &page.health.evidence();
    if !page.health.failures.is_empty() {
        text.push_str(&section(style, "Last failures", &page.health.last_failures()));
    }
    if let Some(known) = &page.known {
        text.push_str(&lasting(known, style, wide));
    }
    let calls = match page.invocations.as_slice() {
        [] => "none yet\n".to_owned(),
        calls => table(calls, invocation::COLUMNS, wide),
    };
    text + &section(style, "Recent calls", &calls)
}

/// What does not depend on how calls go: the function and its versions.
fn lasting(known: &Known, style: Style, wide: bool) -> String {
    let mut text = section(style, "Function", &pairs(&facts(known)));
    if let Some(version) = live(&known.versions) {
        text.push_str(&section(style, &format!("Version {}", version.version), &pairs(&grants(version))));
    }
    let newest = known.versions.get(..SHOWN).unwrap_or(&known.versions);
    text.push_str(&section(style, "Versions", &table(newest, version::COLUMNS, wide)));
    if known.versions.len() > SHOWN {
        text.push_str(&format!("and {} more: dunlin versions {}\n", known.versions.len() - SHOWN, known.function.name));
    }
    text
}

fn section(style: Style, title: &str, body: &str) -> String {
    format!("\n{}\n{body}", style.strong(title))
}

fn facts(known: &Known) -> Vec<(&'static str, String)> {
    let function = &known.function;
    let time = |time: Option<Time>| {
        time.map_or_else(|| "-".to_owned(), |time| format!("{} ({})", time.text(), units::ago(&time.age())))
    };
    let mut facts = vec![
        ("Function", format!("{}/{}", function.namespace, function.name)),
        ("Description", or_dash(&function.description)),
        ("URL", or_dash(&function.urls.join(" "))),
        ("Access", access(function)),
        ("Traffic", function.traffic_text()),
        ("Created", time(function.create_time)),
        ("Updated", time(function.update_time)),
        ("UID", function.uid.clone()),
    ];
    let pending = |version: &VersionView| Some(("Waits", version.pending_text(function)?));
    facts.extend(known.versions.iter().take(SHOWN).filter_map(pending));
    if let Some(warning) = &known.budget {
        facts.push(("Budget", warning.clone()));
    }
    if let Some(workers) = &known.workers {
        let names = workers.iter().map(|worker| worker.name.as_str()).collect::<Vec<_>>();
        let none = "none now; the next call starts it";
        facts.push(("Workers", if names.is_empty() { none.to_owned() } else { names.join(", ") }));
    }
    facts
}

fn access(function: &FunctionView) -> String {
    let who = match (function.disabled, function.public) {
        (true, _) => "every call is refused: dunlin function enable",
        (false, true) => "anybody may call it",
        (false, false) => "callers need a token or key of the namespace",
    };
    format!("{} ({who})", function.access_text())
}

fn grants(version: &VersionView) -> Vec<(&'static str, String)> {
    let environment = version.spec.environment.iter().map(|(name, value)| format!("{name}={value}"));
    let artifact = format!("{} ({})", version.artifact_digest, units::size(version.artifact_size_bytes));
    vec![
        ("Kind", version.kind.to_owned()),
        ("Artifact", artifact),
        ("Note", or_dash(&version.note)),
        ("Limits", version.spec.limits_text()),
        ("Scaling", version.spec.scaling_text()),
        ("Concurrency", version.spec.concurrency_text()),
        ("Idempotent", if version.spec.idempotent { "yes: a lost call runs again" } else { "no" }.to_owned()),
        ("Reuse", version.reuse_text()),
        ("Environment", or_dash(&environment.collect::<Vec<_>>().join(" "))),
        ("Outbound", or_dash(&version.spec.allowed_outbound_hosts.join(" "))),
    ]
}
