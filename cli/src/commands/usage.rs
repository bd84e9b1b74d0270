//! `dunlin usage`: what the invocations of a namespace used, by the hour.

use std::time::SystemTime;

use clap::{Args, ValueEnum};
use dunlin_proto::v1;

use crate::{
    client::{Client, all_pages, answer},
    exit::Failure,
    output::Format,
    session::{Session, namespace_name},
    units,
    view::usage::{UsageView, columns, csv, sum},
};

/// The largest page of the API.
const PAGE: i32 = 1_000;

/// Arguments of `dunlin usage`.
#[derive(Args)]
pub(crate) struct UsageArgs {
    /// From the hour on that was so long ago, such as 24h or 30d
    #[arg(long, default_value = "24h", value_parser = moment, value_name = "TIME")]
    since: SystemTime,
    /// From the hour of this moment on, such as 2026-01-31T12:00:00Z
    #[arg(long, conflicts_with = "since", value_parser = moment, value_name = "TIME")]
    from: Option<SystemTime>,
    /// Up to the end of the hour of this moment; now when left out
    #[arg(long, value_parser = moment, value_name = "TIME")]
    to: Option<SystemTime>,
    /// What lines are told apart by; several with commas between
    #[arg(long, value_enum, value_delimiter = ',', default_value = "function")]
    by: Vec<By>,
}

/// What lines are told apart by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum By {
    /// Function
    Function,
    /// Function and version
    Version,
    /// Caller's key
    Key,
    /// Hour of UTC
    Hour,
}

impl From<By> for v1::UsageGroup {
    fn from(by: By) -> Self {
        match by {
            By::Function => Self::Function,
            By::Version => Self::Version,
            By::Key => Self::Key,
            By::Hour => Self::Hour,
        }
    }
}

fn moment(text: &str) -> Result<SystemTime, String> {
    units::parse_since(text, SystemTime::now())
}

/// Runs it.
pub(crate) async fn run(args: UsageArgs, session: &Session) -> Result<(), Failure> {
    let client = session.connect().await?;
    let request = v1::ListUsageRequest {
        parent: namespace_name(client.target()),
        from: Some(args.from.unwrap_or(args.since).into()),
        to: args.to.map(Into::into),
        group_by: args.by.iter().map(|by| v1::UsageGroup::from(*by).into()).collect(),
        page_size: PAGE,
        page_token: String::new(),
    };
    let lines = all_pages(|page_token| page(&client, v1::ListUsageRequest { page_token, ..request.clone() })).await?;
    let lines: Vec<UsageView> = lines.into_iter().map(Into::into).collect();
    if session.output.format == Format::Csv {
        return session.output.text(&csv(&lines));
    }
    session.output.list(&lines, &columns(&args.by), "nothing was called in this time")?;
    if lines.len() > 1 && !session.output.is_json() {
        session.output.note(sum(&lines));
    }
    Ok(())
}

async fn page(client: &Client, request: v1::ListUsageRequest) -> Result<(Vec<v1::Usage>, String), Failure> {
    let page = answer(client.usage().list_usage(request).await)?;
    Ok((page.usage, page.next_page_token))
}
