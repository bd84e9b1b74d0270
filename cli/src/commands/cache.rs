//! `dunlin cache`: the answers that gateways have stored for routes with `--cache`.

use clap::{Args, Subcommand};
use dunlin_proto::{
    ids::RouteId,
    v1::{self, purge_cache_request::What},
};
use serde_json::json;

use super::traffic::warn_of;
use crate::{
    client::answer,
    exit::Failure,
    session::{Session, namespace_name},
};

/// What to do with stored answers.
#[derive(Subcommand)]
pub(crate) enum CacheCommand {
    /// Forget stored answers on every gateway
    Purge(PurgeArgs),
}

/// Which answers are forgotten.
#[derive(Args)]
#[group(required = true, multiple = false)]
pub(crate) struct PurgeArgs {
    /// Those of this path, with any host and query, such as /users/7
    #[arg(long)]
    path: Option<String>,
    /// Those of paths that begin with this, such as /users/
    #[arg(long)]
    prefix: Option<String>,
    /// Those of the addresses of this route
    #[arg(long)]
    route: Option<RouteId>,
    /// All of the namespace
    #[arg(long)]
    all: bool,
}

/// Runs it.
pub(crate) async fn run(command: CacheCommand, session: &Session) -> Result<(), Failure> {
    let CacheCommand::Purge(args) = command;
    let client = session.connect().await?;
    let parent = namespace_name(client.target());
    let request = v1::PurgeCacheRequest { parent, what: what(args) };
    let lagging = answer(client.routes().purge_cache(request).await)?.lagging_gateways;
    if session.output.is_json() {
        return session.output.json(&json!({ "lagging_gateways": lagging }));
    }
    session.output.note(format!("purged what was stored of namespace {}", client.target().namespace));
    warn_of(&lagging, session.output);
    Ok(())
}

fn what(args: PurgeArgs) -> Option<What> {
    let PurgeArgs { path, prefix, route, all } = args;
    let route = route.map(|route| What::Route(route.to_string()));
    path.map(What::Path).or(prefix.map(What::Prefix)).or(route).or(all.then_some(What::All(true)))
}
