//! `dunlin rollback`: sends all traffic back to an earlier version. Nothing is compiled, so it takes effect at once.

use clap::Args;
use dunlin_proto::{
    ids::{RequestId, VersionNumber},
    v1,
};
use serde_json::json;

use super::traffic::warn_of;
use crate::{
    client::{answer, retrying},
    exit::Failure,
    session::{FunctionArg, Session},
    view::function::FunctionView,
};

/// Arguments of `dunlin rollback`.
#[derive(Args)]
pub(crate) struct RollbackArgs {
    /// Function, as NAME or NAMESPACE/NAME
    name: FunctionArg,
    /// Version to go back to; by default the last one before that had all the traffic
    version: Option<VersionNumber>,
    /// Why, for the record
    #[arg(short, long, default_value = "", hide_default_value = true, value_name = "WHY")]
    message: String,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

/// Runs it.
pub(crate) async fn run(args: RollbackArgs, session: &Session) -> Result<(), Failure> {
    let client = session.connect().await?;
    let function = args.name.in_target(client.target());
    let to = args.version.map_or_else(|| "the version before".to_owned(), |version| format!("version {version}"));
    session.confirm(args.yes, &format!("send all calls of {}/{} to {to}", function.namespace, function.function))?;
    let request = v1::RollbackFunctionRequest {
        name: function.to_string(),
        version: args.version.map_or(0, VersionNumber::get),
        reason: args.message,
        request_id: RequestId::new().to_string(),
    };
    let again = |why: &str| session.output.note(why);
    let done =
        retrying(again, || async { answer(client.functions().rollback_function(request.clone()).await) }).await?;
    if session.output.is_json() {
        let function = FunctionView::from(done.function.unwrap_or_default());
        let lagging = done.lagging_gateways;
        return session
            .output
            .json(&json!({ "version": done.version, "function": function, "lagging_gateways": lagging }));
    }
    session
        .output
        .note(format!("all calls of {}/{} go to version {}", function.namespace, function.function, done.version));
    warn_of(&done.lagging_gateways, session.output);
    Ok(())
}
