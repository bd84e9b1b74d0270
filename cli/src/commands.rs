//! The commands, one file each, and how one is run to its exit code.

pub(crate) mod alias;
pub(crate) mod api;
pub(crate) mod app;
pub(crate) mod audit;
pub(crate) mod budget;
pub(crate) mod build;
pub(crate) mod cache;
pub(crate) mod completion;
pub(crate) mod context;
pub(crate) mod delete;
pub(crate) mod deploy;
pub(crate) mod describe;
pub(crate) mod doctor;
pub(crate) mod domain;
pub(crate) mod function;
pub(crate) mod invocations;
pub(crate) mod invoke;
pub(crate) mod join_token;
pub(crate) mod key;
pub(crate) mod list;
pub(crate) mod login;
pub(crate) mod logs;
pub(crate) mod namespace;
pub(crate) mod new;
pub(crate) mod plan;
pub(crate) mod preview;
pub(crate) mod promote;
pub(crate) mod release;
pub(crate) mod role;
pub(crate) mod rollback;
pub(crate) mod rollout;
pub(crate) mod route;
pub(crate) mod token;
pub(crate) mod traffic;
pub(crate) mod up;
pub(crate) mod usage;
pub(crate) mod versions;
pub(crate) mod webhook;
pub(crate) mod whoami;
pub(crate) mod why;
pub(crate) mod worker;

use std::process::ExitCode;

use crate::{
    args::{Cli, Command},
    exit::{Exit, Failure},
    output::{Format, Output},
    session::Session,
};

/// Runs a command and says by its exit code how it went.
pub(crate) fn run(args: Cli) -> ExitCode {
    let output = Output { format: args.output, quiet: args.quiet };
    let session = Session { cluster: args.cluster, output };
    if output.format == Format::Csv && !matches!(args.command, Command::Usage(_)) {
        let failure = Failure::usage("-o csv is for dunlin usage; this command has table, wide and json");
        output.failure(&failure);
        return failure.exit.into();
    }
    // Roles have a runtime with many threads; what talks to a cluster needs one.
    match args.command {
        Command::Up(args) => dunlin_process::run(|end| up::run(*args, session, end)),
        Command::Gateway(args) => dunlin_process::run(|end| role::gateway(*args, output, end)),
        Command::Scheduler(command) => dunlin_process::run(|end| role::scheduler(*command, output, end)),
        Command::Worker(command) if command.action.is_none() => {
            dunlin_process::run(|end| role::worker(command.role, output, end))
        }
        command => run_client(command, &session),
    }
}

/// Runs a command that talks to a cluster, or to this machine only.
fn run_client(command: Command, session: &Session) -> ExitCode {
    let output = session.output;
    let ended = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::from)
        .and_then(|runtime| runtime.block_on(dispatch(command, session)));
    ended
        .unwrap_or_else(|failure| {
            output.failure(&failure);
            failure.exit
        })
        .into()
}

async fn dispatch(command: Command, session: &Session) -> Result<Exit, Failure> {
    match command {
        Command::Invoke(args) => return invoke::run(*args, session).await,
        Command::Doctor(args) => return doctor::run(args, session).await,
        Command::Why(args) => return why::run(args, session).await,
        Command::New(args) => new::run(&args, session.output),
        Command::Build(args) => build::run(args, session.output).await,
        Command::Deploy(args) => deploy::run(*args, session).await,
        Command::List(args) => list::run(args, session).await,
        Command::Describe(args) => describe::run(args, session).await,
        Command::Versions(args) => versions::run(args, session).await,
        Command::Rollback(args) => rollback::run(args, session).await,
        Command::Preview(args) => preview::run(args, session).await,
        Command::Promote(args) => promote::run(args, session).await,
        Command::Traffic(command) => traffic::run(command, session).await,
        Command::Rollout(command) => rollout::run(command, session).await,
        Command::Alias(command) => alias::run(command, session).await,
        Command::Release(command) => release::run(command, session).await,
        Command::Delete(args) => delete::run(args, session).await,
        Command::Logs(args) => logs::run(args, session).await,
        Command::Invocations(args) => invocations::run(args, session).await,
        Command::Usage(args) => usage::run(args, session).await,
        Command::Budget(command) => budget::run(command, session).await,
        Command::Webhook(command) => webhook::run(command, session).await,
        Command::Plan(command) => plan::run(command, session).await,
        Command::Namespace(command) => namespace::run(command, session).await,
        Command::Token(command) => token::run(command, session).await,
        Command::JoinToken(command) => join_token::run(command, session).await,
        Command::Key(command) => key::run(command, session).await,
        Command::Function(command) => function::run(command, session).await,
        Command::Route(command) => route::run(command, session).await,
        Command::App(command) => app::run(command, session).await,
        Command::Api(command) => api::run(command, session).await,
        Command::Audit(command) => audit::run(command, session).await,
        Command::Cache(command) => cache::run(command, session).await,
        Command::Domain(command) => domain::run(command, session).await,
        Command::Worker(command) => worker::run(*command, session).await,
        Command::Up(_) | Command::Gateway(_) | Command::Scheduler(_) => Err(Failure::usage("this is a role")),
        Command::Whoami => whoami::run(session).await,
        Command::Login(args) => login::run(args, session).await,
        Command::Context(command) => context::run(command, session.output),
        Command::Completion(args) => completion::run(&args, session.output),
    }
    .map(|()| Exit::Ok)
}
