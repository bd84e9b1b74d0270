//! `dunlin route`: which requests go to which function, and what is answered without one.

mod add;

use clap::Subcommand;
use dunlin_proto::{ids::RouteId, names::RouteName, v1};

use super::traffic::warn_of;
use crate::{
    client::{Client, all_pages, answer},
    exit::Failure,
    session::{Session, namespace_name},
    view::route::{ROUTES, RouteView},
};

/// What to do with routes.
#[derive(Subcommand)]
pub(crate) enum RouteCommand {
    /// Make a route: to a function, to a fixed answer, or to somewhere else
    Add(Box<add::AddArgs>),
    /// List the namespace's routes
    #[command(visible_alias = "ls")]
    List,
    /// Remove a route
    #[command(visible_alias = "rm")]
    Remove {
        /// Its name, from `dunlin route list`
        name: RouteId,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
}

/// Runs it.
pub(crate) async fn run(command: RouteCommand, session: &Session) -> Result<(), Failure> {
    let client = session.connect().await?;
    match command {
        RouteCommand::Add(args) => add::run(&client, session, *args).await,
        RouteCommand::List => list(&client, session).await,
        RouteCommand::Remove { name, yes } => remove(&client, session, name, yes).await,
    }
}

/// A route's name in the namespace to work in.
fn route_name(client: &Client, route: RouteId) -> RouteName {
    RouteName { namespace: client.target().namespace.clone(), route }
}

async fn list(client: &Client, session: &Session) -> Result<(), Failure> {
    let parent = namespace_name(client.target());
    let routes = all_pages(|token| page(client, &parent, token)).await?;
    let views: Vec<RouteView> = routes.into_iter().map(Into::into).collect();
    let nothing = "no routes yet; make one with: dunlin route add NAME PATH --function FUNCTION";
    session.output.list(&views, ROUTES, nothing)
}

async fn page(client: &Client, parent: &str, page_token: String) -> Result<(Vec<v1::Route>, String), Failure> {
    let request = v1::ListRoutesRequest { parent: parent.to_owned(), page_size: 0, page_token };
    let page = answer(client.routes().list_routes(request).await)?;
    Ok((page.routes, page.next_page_token))
}

async fn remove(client: &Client, session: &Session, route: RouteId, yes: bool) -> Result<(), Failure> {
    session.confirm(yes, &format!("remove route {route}"))?;
    let name = route_name(client, route).to_string();
    let done = answer(client.routes().delete_route(v1::DeleteRouteRequest { name: name.clone() }).await)?;
    warn_of(&done.lagging_gateways, session.output);
    session.output.deleted(&name, &format!("removed {name}"))
}
