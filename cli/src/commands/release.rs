//! `dunlin release`: what callers of a namespace got, numbered: to look at, to compare, to go back to.

use clap::Subcommand;
use dunlin_proto::{
    ids::{ReleaseNumber, RequestId},
    names::ReleaseName,
    v1,
};
use serde_json::json;

use super::traffic::warn_of;
use crate::{
    client::{Client, all_pages, answer, retrying},
    exit::Failure,
    output::printable,
    session::{Session, namespace_name},
    view::{
        release::{CALLS, DIFFERENCES, DifferenceView, RELEASES, ReleaseView, WholeReleaseView},
        route::ROUTES,
    },
};

/// What to do with releases.
#[derive(Subcommand)]
pub(crate) enum ReleaseCommand {
    /// List the namespace's releases, the newest first
    #[command(visible_alias = "ls")]
    List,
    /// Show what callers got in a release
    Show {
        /// Its number, from `dunlin release list`
        number: ReleaseNumber,
    },
    /// Show how a release differs from the one before it, or from another one
    Diff {
        /// Its number, from `dunlin release list`
        number: ReleaseNumber,
        /// Number of the release to compare it with
        #[arg(long, value_name = "NUMBER")]
        from: Option<ReleaseNumber>,
    },
    /// Give callers again what they got in a release; nothing is built
    Rollback {
        /// Its number, from `dunlin release list`
        number: ReleaseNumber,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
}

/// Runs it.
pub(crate) async fn run(command: ReleaseCommand, session: &Session) -> Result<(), Failure> {
    let client = session.connect().await?;
    match command {
        ReleaseCommand::List => list(&client, session).await,
        ReleaseCommand::Show { number } => show(&client, session, number).await,
        ReleaseCommand::Diff { number, from } => diff(&client, session, number, from).await,
        ReleaseCommand::Rollback { number, yes } => rollback(&client, session, number, yes).await,
    }
}

/// A release's name in the namespace to work in.
fn release_name(client: &Client, number: ReleaseNumber) -> String {
    ReleaseName { namespace: client.target().namespace.clone(), number }.to_string()
}

async fn list(client: &Client, session: &Session) -> Result<(), Failure> {
    let parent = namespace_name(client.target());
    let releases = all_pages(|token| page(client, &parent, token)).await?;
    let views: Vec<ReleaseView> = releases.iter().map(Into::into).collect();
    session.output.list(
        &views,
        RELEASES,
        "no releases yet; the first change of what callers get makes one: dunlin deploy",
    )
}

async fn page(client: &Client, parent: &str, page_token: String) -> Result<(Vec<v1::Release>, String), Failure> {
    let request = v1::ListReleasesRequest { parent: parent.to_owned(), page_size: 0, page_token };
    let page = answer(client.releases().list_releases(request).await)?;
    Ok((page.releases, page.next_page_token))
}

async fn show(client: &Client, session: &Session, number: ReleaseNumber) -> Result<(), Failure> {
    let request = v1::GetReleaseRequest { name: release_name(client, number) };
    let found = answer(client.releases().get_release(request).await)?;
    let view = WholeReleaseView::from(found.release.unwrap_or_default());
    if session.output.is_json() {
        return session.output.json(&view);
    }
    session.output.note(view.release.title());
    session.output.list(&view.calls(), CALLS, "no function could be called")?;
    session.output.list(&view.routes, ROUTES, "no routes")
}

async fn diff(
    client: &Client,
    session: &Session,
    number: ReleaseNumber,
    from: Option<ReleaseNumber>,
) -> Result<(), Failure> {
    let request =
        v1::DiffReleasesRequest { name: release_name(client, number), from: from.map_or(0, ReleaseNumber::get) };
    let found = answer(client.releases().diff_releases(request).await)?;
    let views: Vec<DifferenceView> = found.differences.into_iter().map(Into::into).collect();
    if session.output.is_json() {
        return session.output.json(&json!({ "number": number, "from": found.from, "differences": views }));
    }
    session.output.list(&views, DIFFERENCES, &format!("the releases {} and {number} hold the same", found.from))
}

async fn rollback(client: &Client, session: &Session, number: ReleaseNumber, yes: bool) -> Result<(), Failure> {
    let namespace = &client.target().namespace;
    session.confirm(yes, &format!("give the callers of {namespace} what they got in release {number}"))?;
    let request =
        v1::RollbackReleaseRequest { name: release_name(client, number), request_id: RequestId::new().to_string() };
    let again = |why: &str| session.output.note(why);
    let done = retrying(again, || async { answer(client.releases().rollback_release(request.clone()).await) }).await?;
    let view = ReleaseView::from(&done.release.unwrap_or_default());
    if session.output.is_json() {
        let lagging = done.lagging_gateways;
        return session.output.json(&json!({ "release": view, "lagging_gateways": lagging }));
    }
    let said = format!("callers of {namespace} get again what they got in release {number}: release {}", view.number);
    session.output.note(printable(&said));
    warn_of(&done.lagging_gateways, session.output);
    Ok(())
}
