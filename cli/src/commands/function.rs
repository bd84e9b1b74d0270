//! `dunlin function`: takes a function out of service, and back into it.

use clap::Subcommand;
use dunlin_proto::v1;
use prost_types::FieldMask;

use super::traffic::warn_of;
use crate::{
    client::{Client, answer},
    exit::Failure,
    session::{FunctionArg, Session},
    view::function::FunctionView,
};

/// What to do with a function.
#[derive(Subcommand)]
pub(crate) enum FunctionCommand {
    /// Refuse all its calls with 503, at once and on every gateway; those that run finish
    Disable {
        /// Function, as NAME or NAMESPACE/NAME
        name: FunctionArg,
    },
    /// Let it be called again
    Enable {
        /// Function, as NAME or NAMESPACE/NAME
        name: FunctionArg,
    },
}

/// Runs it.
pub(crate) async fn run(command: FunctionCommand, session: &Session) -> Result<(), Failure> {
    let client = session.connect().await?;
    match command {
        FunctionCommand::Disable { name } => set(&client, session, &name, true).await,
        FunctionCommand::Enable { name } => set(&client, session, &name, false).await,
    }
}

async fn set(client: &Client, session: &Session, name: &FunctionArg, disabled: bool) -> Result<(), Failure> {
    let name = name.in_target(client.target());
    let function = Some(v1::Function { name: name.to_string(), disabled, ..v1::Function::default() });
    let update_mask = Some(FieldMask { paths: vec!["disabled".to_owned()] });
    let request = v1::UpdateFunctionRequest { function, update_mask };
    let changed = answer(client.functions().update_function(request).await)?;
    if session.output.is_json() {
        return session.output.json(&FunctionView::from(changed.function.unwrap_or_default()));
    }
    let state = if disabled { "disabled" } else { "enabled" };
    session.output.note(format!("{state} {}/{}", name.namespace, name.function));
    warn_of(&changed.lagging_gateways, session.output);
    Ok(())
}
