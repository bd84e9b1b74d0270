//! `dunlin app`: the apps of a namespace, as they are. `dunlin deploy` makes and changes them.

use clap::Subcommand;
use dunlin_proto::{ids::AppId, names::AppName, v1};

use crate::{
    client::{Client, answer},
    exit::Failure,
    output::pairs,
    session::{Session, namespace_name},
    view::app::{APPS, AppView},
};

/// What to do with apps.
#[derive(Subcommand)]
pub(crate) enum AppCommand {
    /// List the namespace's apps
    #[command(visible_alias = "ls")]
    List,
    /// Show an app: its functions and routes, and the release with which they last changed
    #[command(visible_alias = "get")]
    Show {
        /// Its name, from `dunlin app list`
        name: AppId,
    },
}

/// Runs it.
pub(crate) async fn run(command: AppCommand, session: &Session) -> Result<(), Failure> {
    let client = session.connect().await?;
    match command {
        AppCommand::List => list(&client, session).await,
        AppCommand::Show { name } => show(&client, session, name).await,
    }
}

async fn list(client: &Client, session: &Session) -> Result<(), Failure> {
    let request = v1::ListAppsRequest { parent: namespace_name(client.target()) };
    let found = answer(client.releases().list_apps(request).await)?;
    let views: Vec<AppView> = found.apps.into_iter().map(Into::into).collect();
    session.output.list(&views, APPS, "no apps yet; name one in dunlin.toml (app = \"NAME\"), then: dunlin deploy")
}

async fn show(client: &Client, session: &Session, app: AppId) -> Result<(), Failure> {
    let name = AppName { namespace: client.target().namespace.clone(), app }.to_string();
    let found = answer(client.releases().get_app(v1::GetAppRequest { name }).await)?;
    let view = AppView::from(found.app.unwrap_or_default());
    if session.output.is_json() { session.output.json(&view) } else { session.output.text(&pairs(&view.facts())) }
}
