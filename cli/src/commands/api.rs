//! `dunlin api`: routes from an OpenAPI document, and a document from routes.
//!
//! What a document means is `dunlin-openapi`'s to know, and what can be there at once the cluster's.

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use dunlin_openapi::{Malformed, Mapping, Options};
use dunlin_proto::{ids::RouteId, v1};
use serde_json::{Value, json};

use super::traffic::warn_of;
use crate::{
    client::{Client, answer},
    exit::Failure,
    output::printable,
    session::{Session, namespace_name},
    view::route::RouteView,
};

/// What to do with OpenAPI documents.
#[derive(Subcommand)]
pub(crate) enum ApiCommand {
    /// Make the routes of an OpenAPI 3.0 or 3.1 document, all of them or none
    Import(ImportArgs),
    /// Print the namespace's routes as an OpenAPI 3.1 document, in YAML, or in JSON with -o json
    Export,
}

/// Arguments of `dunlin api import`.
#[derive(Args)]
pub(crate) struct ImportArgs {
    /// The document, in YAML or JSON; - for standard input
    file: PathBuf,
    /// Which function an operation calls: by its operationId, by "METHOD /path", or * for those that name none; may be repeated
    #[arg(long = "function-map", value_name = "OPERATION=NAME[:ALIAS]", value_parser = entry)]
    functions: Vec<(String, String)>,
    /// What to call the routes together; after the document's title when left out
    #[arg(long, value_name = "NAME")]
    api: Option<RouteId>,
    /// Host of all routes, on a domain of the namespace; all of them when left out
    #[arg(long)]
    host: Option<String>,
    /// Delete the routes of an earlier import of this API that are not in the document any more
    #[arg(long)]
    prune: bool,
    /// Check everything and change nothing
    #[arg(long)]
    dry_run: bool,
}

fn entry(text: &str) -> Result<(String, String), String> {
    let (operation, function) = text.rsplit_once('=').ok_or("it must have the form OPERATION=FUNCTION")?;
    Ok((operation.trim().to_owned(), function.trim().to_owned()))
}

/// Runs it.
pub(crate) async fn run(command: ApiCommand, session: &Session) -> Result<(), Failure> {
    match command {
        ApiCommand::Import(args) => import(&args, session).await,
        ApiCommand::Export => export(session).await,
    }
}

async fn import(args: &ImportArgs, session: &Session) -> Result<(), Failure> {
    let wrong = |malformed: Malformed| wrong(&args.file, &malformed);
    let document = dunlin_openapi::read(&text(&args.file)?).map_err(wrong)?;
    let client = session.connect().await?;
    let functions: Mapping = args.functions.iter().cloned().collect();
    let options = Options { functions, host: args.host.clone() };
    let routes = dunlin_openapi::routes(&document, &client.target().namespace, &options).map_err(wrong)?;
    let api = args.api.clone().or_else(|| dunlin_openapi::api(&document));
    let api = api.ok_or_else(|| {
        Failure::usage(format!("{}: the routes can't be called after the document's title", args.file.display()))
            .hint("name them with --api")
    })?;
    let request = v1::ImportRoutesRequest {
        parent: namespace_name(client.target()),
        api: api.to_string(),
        routes,
        prune: args.prune,
        validate_only: args.dry_run,
    };
    let done = answer(client.routes().import_routes(request).await)?;
    report(session, &client, &api, args.dry_run, done)
}

fn text(file: &Path) -> Result<String, Failure> {
    let read = if file.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().lock().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(file)
    };
    read.map_err(|error| Failure::usage(format!("{} can't be read", file.display())).because(error))
}

fn wrong(file: &Path, malformed: &Malformed) -> Failure {
    let failure = Failure::usage(format!("{}: {malformed}", file.display()));
    match &malformed.hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

fn report(
    session: &Session,
    client: &Client,
    api: &RouteId,
    dry_run: bool,
    done: v1::ImportRoutesResponse,
) -> Result<(), Failure> {
    warn_of(&done.lagging_gateways, session.output);
    let routes: Vec<RouteView> = done.routes.into_iter().map(Into::into).collect();
    if session.output.is_json() {
        let done = json!({ "api": api.as_str(), "routes": routes, "deleted": done.deleted, "dry_run": dry_run });
        return session.output.json(&done);
    }
    for route in &routes {
        session.output.note(format!("route {}: {}", route.name, printable(&route.summary())));
    }
    for name in &done.deleted {
        session.output.note(format!("route {} goes", printable(name)));
    }
    let (count, namespace) = (routes.len(), &client.target().namespace);
    let verb = if dry_run { "would be" } else { "are" };
    session.output.note(format!("{count} routes of the API {api} {verb} in namespace {namespace}"));
    Ok(())
}

async fn export(session: &Session) -> Result<(), Failure> {
    let client = session.connect().await?;
    let request = v1::ExportRoutesRequest { parent: namespace_name(client.target()) };
    let document = answer(client.routes().export_routes(request).await)?.document;
    let document: Value = serde_json::from_str(&document).map_err(anyhow::Error::from)?;
    if session.output.is_json() {
        return session.output.json(&document);
    }
    let yaml = dunlin_openapi::to_yaml(&document).map_err(anyhow::Error::msg)?;
    session.output.text(&yaml)
}
