//! `dunlin worker`: the machines that run functions. Without an action it is one itself (`role.rs`).

use clap::{Args, Subcommand};
use dunlin_proto::{ids::WorkerId, names::WorkerName, v1};
use dunlin_worker::{WorkerArgs, join::JoinArgs};
use serde_json::json;

use crate::{
    client::{Client, all_pages, answer},
    exit::Failure,
    output::printable,
    session::Session,
    view::cluster::{WORKERS, WorkerView},
};

/// Arguments of `dunlin worker`.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct WorkerCommand {
    #[command(subcommand)]
    pub(crate) action: Option<Action>,
    /// Without an action it is a worker.
    #[command(flatten)]
    pub(crate) role: WorkerArgs,
}

/// What to do with workers.
#[derive(Subcommand)]
pub(crate) enum Action {
    /// List the workers
    #[command(visible_alias = "ls")]
    List,
    /// Take a worker out of placement; what runs on it finishes
    Drain {
        /// Its name
        name: WorkerId,
    },
    /// Take a drained worker back in
    Resume {
        /// Its name
        name: WorkerId,
    },
    /// Make this machine one of a cluster's workers with a join token
    Join(JoinArgs),
}

/// Runs it.
pub(crate) async fn run(command: WorkerCommand, session: &Session) -> Result<(), Failure> {
    let Some(action) = command.action else { return Err(Failure::usage("this is a role")) };
    match action {
        Action::List => list(&session.connect().await?, session).await,
        Action::Drain { name } => steer(&session.connect().await?, session, name, false).await,
        Action::Resume { name } => steer(&session.connect().await?, session, name, true).await,
        Action::Join(args) => join(args, session).await,
    }
}

/// Speaks with the scheduler itself, since a machine that has not joined has no token for anything else.
async fn join(args: JoinArgs, session: &Session) -> Result<(), Failure> {
    let joined = args.join().await?;
    if session.output.is_json() {
        let folder = joined.data_dir.display().to_string();
        return session.output.json(&json!({ "name": joined.name, "data_dir": folder, "scheduler": joined.scheduler }));
    }
    session.output.text(&format!("{joined}\n"))
}

async fn list(client: &Client, session: &Session) -> Result<(), Failure> {
    let workers = all_pages(|token| page(client, token)).await?;
    let views: Vec<WorkerView> = workers.into_iter().map(Into::into).collect();
    session.output.list(&views, WORKERS, "no workers have joined")
}

async fn page(client: &Client, page_token: String) -> Result<(Vec<v1::Worker>, String), Failure> {
    let page = answer(client.cluster().list_workers(v1::ListWorkersRequest { page_size: 0, page_token }).await)?;
    Ok((page.workers, page.next_page_token))
}

async fn steer(client: &Client, session: &Session, worker: WorkerId, resume: bool) -> Result<(), Failure> {
    let request = v1::DrainWorkerRequest { name: WorkerName { worker }.to_string(), resume };
    let done = answer(client.cluster().drain_worker(request).await)?;
    let worker = WorkerView::from(done.worker.unwrap_or_default());
    if session.output.is_json() {
        return session.output.json(&worker);
    }
    session.output.note(format!(
        "worker {} is {}, with {} calls running",
        printable(&worker.name),
        worker.state,
        worker.in_flight
    ));
    Ok(())
}
