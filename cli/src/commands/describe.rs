//! `dunlin describe`: whether a function is healthy, what to do where it is not, and everything else about it on one page.

use clap::Args;
use dunlin_proto::{
    names::{BudgetName, FunctionRef},
    v1,
};
use serde_json::json;

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
    function: FunctionView,
    health: HealthView,
    versions: Vec<VersionView>,
    invocations: Vec<InvocationView>,
    /// What the namespace's budget warns of.
    budget: Option<String>,
    /// The workers that hold one of its versions; unknown to all but operators.
    workers: Option<Vec<WorkerView>>,
}

/// Runs it.
pub(crate) async fn run(args: DescribeArgs, session: &Session) -> Result<(), Failure> {
    let client = session.connect().await?;
    let name = args.name.in_target(client.target());
    let function = function(&client, &name).await?;
    let page = Page {
        health: health(&client, &name).await?,
        versions: versions(&client, &name, &function).await?,
        invocations: recent(&client, &name.to_string(), SHOWN, false).await?,
        budget: budget(&client, &name).await?,
        workers: workers(&client, &name).await?,
        function,
    };
    for process in &page.health.unreachable {
        session.output.warn(format!("warning: {} did not answer and may know more", printable(process)));
    }
    if session.output.is_json() {
        let workers = page.workers.as_ref().map(|workers| workers.iter().map(|w| &w.name).collect::<Vec<_>>());
        return session.output.json(&json!({
            "health": page.health, "function": page.function, "versions": page.versions, "invocations": page.invocations, "workers": workers,
            "budget": page.budget,
        }));
    }
    session.output.text(&text(&page, session.output))
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
fn live(page: &Page) -> Option<&VersionView> {
    let first = page.versions.first();
    page.versions.iter().rev().max_by_key(|version| version.traffic_percent).or(first)
}

fn text(page: &Page, output: Output) -> String {
    let style = Style::of_stdout();
    let wide = output.format == crate::output::Format::Wide;
    let mut text = page.health.verdict(style) + "\n" + &page.health.evidence();
    if !page.health.failures.is_empty() {
        text.push_str(&section(style, "Last failures", &page.health.last_failures()));
    }
    text.push_str(&section(style, "Function", &pairs(&facts(page))));
    if let Some(version) = live(page) {
        text.push_str(&section(style, &format!("Version {}", version.version), &pairs(&grants(version))));
    }
    let newest = page.versions.get(..SHOWN).unwrap_or(&page.versions);
    text.push_str(&section(style, "Versions", &table(newest, version::COLUMNS, wide)));
    if page.versions.len() > SHOWN {
        text.push_str(&format!("and {} more: dunlin versions {}\n", page.versions.len() - SHOWN, page.function.name));
    }
    let calls = match page.invocations.as_slice() {
        [] => "none yet\n".to_owned(),
        calls => table(calls, invocation::COLUMNS, wide),
    };
    text + &section(style, "Recent calls", &calls)
}

fn section(style: Style, title: &str, body: &str) -> String {
    format!("\n{}\n{body}", style.strong(title))
}

fn facts(page: &Page) -> Vec<(&'static str, String)> {
    let function = &page.function;
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
    facts.extend(page.versions.iter().take(SHOWN).filter_map(pending));
    if let Some(warning) = &page.budget {
        facts.push(("Budget", warning.clone()));
    }
    if let Some(workers) = &page.workers {
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
