//! `dunlin delete`: deletes a function with all its versions.

use clap::Args;
use dunlin_proto::v1;

use super::traffic::warn_of;
use crate::{
    client::answer,
    exit::Failure,
    session::{FunctionArg, Session},
};

/// Arguments of `dunlin delete`.
#[derive(Args)]
pub(crate) struct DeleteArgs {
    /// Function to delete, as NAME or NAMESPACE/NAME
    name: FunctionArg,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

/// Runs it.
pub(crate) async fn run(args: DeleteArgs, session: &Session) -> Result<(), Failure> {
    let client = session.connect().await?;
    let function = args.name.in_target(client.target());
    session.confirm(args.yes, &format!("delete {}/{} with all its versions", function.namespace, function.function))?;
    let request = v1::DeleteFunctionRequest { name: function.to_string(), etag: String::new() };
    let done = answer(client.functions().delete_function(request).await)?;
    warn_of(&done.lagging_gateways, session.output);
    let said = format!("deleted {}/{}", function.namespace, function.function);
    session.output.deleted(&function.to_string(), &said)
}
