//! `dunlin invocations`: recent calls and what they cost.

use clap::Args;
use dunlin_proto::v1;

use crate::{
    client::{Client, answer},
    exit::Failure,
    output::printable,
    session::{FunctionArg, Session, scope_name},
    view::invocation::{COLUMNS, InvocationView},
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
    /// Only those that failed
    #[arg(long)]
    failed: bool,
}

/// Runs it.
pub(crate) async fn run(args: InvocationsArgs, session: &Session) -> Result<(), Failure> {
    let client = session.connect().await?;
    let parent = scope_name(args.name.as_ref(), client.target());
    let (calls, unreachable) = newest(&client, &parent, args.lines as usize, args.failed).await?;
    for process in unreachable {
        session.output.warn(format!("warning: {} did not answer; its calls are missing here", printable(&process)));
    }
    session.output.list(&calls, COLUMNS, "no calls yet")
}

/// The newest calls of a function or namespace.
pub(crate) async fn recent(
    client: &Client,
    parent: &str,
    count: usize,
    failed_only: bool,
) -> Result<Vec<InvocationView>, Failure> {
    Ok(newest(client, parent, count, failed_only).await?.0)
}

/// The newest calls, and the processes that did not answer.
async fn newest(
    client: &Client,
    parent: &str,
    count: usize,
    failed_only: bool,
) -> Result<(Vec<InvocationView>, Vec<String>), Failure> {
    let (mut calls, mut unreachable) = (Vec::new(), Vec::new());
    let mut page_token = String::new();
    loop {
        let page_size = i32::try_from((count - calls.len()).min(MAX_PAGE)).unwrap_or(i32::MAX);
        let request = v1::ListInvocationsRequest { parent: parent.to_owned(), page_size, page_token, failed_only };
        let page = answer(client.invocations().list_invocations(request).await)?;
        calls.extend(page.invocations.into_iter().map(InvocationView::from));
        unreachable.extend(page.unreachable);
        if page.next_page_token.is_empty() || calls.len() >= count {
            break;
        }
        page_token = page.next_page_token;
    }
    calls.truncate(count);
    unreachable.sort();
    unreachable.dedup();
    Ok((calls, unreachable))
}
