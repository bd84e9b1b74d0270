//! `dunlin join-token`: tokens with which gateways and workers join the cluster.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use dunlin_proto::{ids::WorkerId, model::to_wire_duration, v1};
use serde_json::json;

use crate::{client::answer, exit::Failure, session::Session, units, view::Time};

/// What to do with join tokens.
#[derive(Subcommand)]
pub(crate) enum JoinTokenCommand {
    /// Make a token with which one gateway or worker can join, once, and print it
    Create(CreateArgs),
}

/// Arguments of `dunlin join-token create`.
#[derive(Args)]
pub(crate) struct CreateArgs {
    /// What joins
    role: Role,
    /// The only name that it is good for; it then may take the place of the process that has the name
    #[arg(long)]
    name: Option<WorkerId>,
    /// How long it can be used, 24h at most
    #[arg(long, default_value = "1h", value_parser = units::parse_duration)]
    lifetime: Duration,
}

/// What a process becomes by joining.
#[derive(Clone, Copy, ValueEnum)]
enum Role {
    /// It serves callers
    Gateway,
    /// It runs functions
    Worker,
}

/// Runs it.
pub(crate) async fn run(command: JoinTokenCommand, session: &Session) -> Result<(), Failure> {
    let JoinTokenCommand::Create(args) = command;
    let client = session.connect().await?;
    let made = answer(client.cluster().create_join_token(request(&args)).await)?;
    let expire_time = Time::from_wire(made.expire_time);
    if session.output.is_json() {
        return session.output.json(&json!({ "token": made.token, "expire_time": expire_time }));
    }
    if let Some(time) = expire_time {
        session.output.note(format!("good for one process until {}; on its machine: {}", time.text(), next(args.role)));
    }
    session.output.text(&format!("{}\n", made.token))
}

fn next(role: Role) -> &'static str {
    match role {
        Role::Gateway => "dunlin-gateway --scheduler URL --join-token-file FILE",
        Role::Worker => "dunlin worker join TOKEN --scheduler URL",
    }
}

fn request(args: &CreateArgs) -> v1::CreateJoinTokenRequest {
    let role = match args.role {
        Role::Gateway => v1::JoinRole::Gateway,
        Role::Worker => v1::JoinRole::Worker,
    };
    v1::CreateJoinTokenRequest {
        role: role.into(),
        process_id: args.name.as_ref().map(ToString::to_string).unwrap_or_default(),
        lifetime: Some(to_wire_duration(args.lifetime)),
    }
}
