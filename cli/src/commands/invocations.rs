//! `dunlin invocations`: recent calls and what they cost.

use std::time::{Duration, SystemTime};

use clap::Args;
use dunlin_proto::{model::to_wire_duration, v1};

use crate::{
    client::{Client, answer},
    exit::Failure,
    output::printable,
    session::{FunctionArg, Session, scope_name},
    units,
    view::{
        Time,
        invocation::{COLUMNS, InvocationView},
    },
};

/// The largest page of the API.
const MAX_PAGE: usize = 1_000;

/// Arguments of `dunlin invocations`.
#[derive(Args)]
pub(crate) struct InvocationsArgs {
    /// Function, as NAME or NAMESPACE/NAME; all of the namespace when left out
    name: Option<FunctionArg>,
    /// How many, the newest first
    #[arg(short, long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    lines: u32,
    /// Only those that failed, by themselves or with an answer of 500 or above
    #[arg(long)]
    failed: bool,
    /// Only the one with this id, or those with this X-Request-Id of the caller's
    #[arg(long, default_value = "", hide_default_value = true, value_name = "ID")]
    request_id: String,
    /// Only those of this version
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    version: Option<u32>,
    /// Only those with this status, such as 404, or of this class, such as 5xx
    #[arg(long, default_value = "", hide_default_value = true)]
    status: String,
    /// Only those from this time on: a duration such as 10m, or a time such as 2026-01-31T12:00:00Z
    #[arg(long, value_parser = moment)]
    since: Option<SystemTime>,
    /// Only those before this time, in the same form
    #[arg(long, value_parser = moment)]
    until: Option<SystemTime>,
    /// Only those that took as long or longer, such as 500ms
    #[arg(long, value_name = "DURATION", value_parser = units::parse_duration)]
    slower: Option<Duration>,
    /// Only those of callers with the key of this id
    #[arg(long, default_value = "", hide_default_value = true, value_name = "ID")]
    key: String,
    /// Only requests that were refused before any function ran: a gateway's last 10,000, and a few a second of each kind
    /// for longer
    #[arg(long)]
    refused: bool,
    /// Only those that wrote a line with this text, among all that workers keep; upper and lower case are told apart
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
    search: String,
}

fn moment(text: &str) -> Result<SystemTime, String> {
    units::parse_since(text, SystemTime::now())
}

/// Runs it.
pub(crate) async fn run(args: InvocationsArgs, session: &Session) -> Result<(), Failure> {
    let client = session.connect().await?;
    let wanted = v1::ListInvocationsRequest {
        parent: scope_name(args.name.as_ref(), client.target()),
        failed_only: args.failed,
        request_id: args.request_id,
        version: args.version.unwrap_or_default(),
        status: args.status,
        since: args.since.map(Into::into),
        until: args.until.map(Into::into),
        min_duration: args.slower.map(to_wire_duration),
        key: args.key,
        refused: args.refused,
        search: args.search,
        ..v1::ListInvocationsRequest::default()
    };
    let Found { calls, unreachable, searched_from } = newest(&client, wanted, args.lines as usize).await?;
    for process in unreachable {
        session.output.warn(format!("warning: {} did not answer; its calls are missing here", printable(&process)));
    }
    if let Some(from) = searched_from {
        let from = from.text();
        session
            .output
            .warn(format!("warning: calls that began before {from} were not looked for; ask with --until {from}"));
    }
    if calls.is_empty() {
        must_exist(&client, args.name.as_ref()).await?;
    }
    session.output.list(&calls, COLUMNS, "no calls yet")
}

/// Where nothing is there to show, what was named must at least exist.
pub(super) async fn must_exist(client: &Client, function: Option<&FunctionArg>) -> Result<(), Failure> {
    let name = scope_name(function, client.target());
    if function.is_some() {
        return answer(client.functions().get_function(v1::GetFunctionRequest { name }).await).map(drop);
    }
    answer(client.namespaces().get_namespace(v1::GetNamespaceRequest { name }).await).map(drop)
}

/// The newest calls of a function or namespace.
pub(crate) async fn recent(
    client: &Client,
    parent: &str,
    count: usize,
    failed_only: bool,
) -> Result<Vec<InvocationView>, Failure> {
    let parent = parent.to_owned();
    Ok(newest(client, v1::ListInvocationsRequest { parent, failed_only, ..Default::default() }, count).await?.calls)
}

/// What was found.
#[derive(Debug, Default)]
struct Found {
    calls: Vec<InvocationView>,
    /// Processes that did not answer.
    unreachable: Vec<String>,
    /// Calls that began earlier were not looked for.
    searched_from: Option<Time>,
}

/// The newest calls, page by page: where there was no time to search all lines for one page, the next one goes on there.
async fn newest(client: &Client, mut wanted: v1::ListInvocationsRequest, count: usize) -> Result<Found, Failure> {
    let mut found = Found::default();
    loop {
        wanted.page_size = i32::try_from((count - found.calls.len()).min(MAX_PAGE)).unwrap_or(i32::MAX);
        let page = answer(client.invocations().list_invocations(wanted.clone()).await)?;
        found.calls.extend(page.invocations.into_iter().map(InvocationView::from));
        found.unreachable.extend(page.unreachable);
        if page.next_page_token.is_empty() || found.calls.len() >= count {
            found.searched_from = Time::from_wire(page.searched_from);
            break;
        }
        wanted.page_token = page.next_page_token;
    }
    found.calls.truncate(count);
    found.unreachable.sort();
    found.unreachable.dedup();
    Ok(found)
}
