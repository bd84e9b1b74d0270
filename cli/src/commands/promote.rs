//! `dunlin promote`: sends all calls of a function, or of one of its aliases, to one version.

use clap::Args;
use dunlin_proto::{
    ids::{AliasId, IdError, RequestId, VersionNumber},
    v1,
};
use serde_json::json;

use super::traffic::warn_of;
use crate::{
    client::{answer, retrying},
    exit::Failure,
    output::printable,
    session::{AliasArg, Session},
    view::alias::AliasView,
};

/// Arguments of `dunlin promote`.
#[derive(Args)]
pub(crate) struct PromoteArgs {
    /// Function, as NAME or NAMESPACE/NAME, or one of its aliases, as NAME:ALIAS
    name: AliasArg,
    /// Version to promote; by default the newest of those that share the calls, or the function's newest
    version: Option<VersionNumber>,
}

/// Runs it.
pub(crate) async fn run(args: PromoteArgs, session: &Session) -> Result<(), Failure> {
    let client = session.connect().await?;
    let alias = args
        .name
        .alias
        .map_or_else(|| AliasId::LIVE.parse().map_err(|error: IdError| Failure::usage(error.to_string())), Ok)?;
    let request = v1::PromoteAliasRequest {
        name: args.name.function.in_target(client.target()).alias(alias).to_string(),
        version: args.version.map_or(0, VersionNumber::get),
        request_id: RequestId::new().to_string(),
    };
    let again = |why: &str| session.output.note(why);
    let done = retrying(again, || async { answer(client.aliases().promote_alias(request.clone()).await) }).await?;
    let view = AliasView::from(done.alias.unwrap_or_default());
    if session.output.is_json() {
        let alias = view.with_lagging(done.lagging_gateways);
        return session.output.json(&json!({ "version": done.version, "alias": alias }));
    }
    session.output.note(format!("all calls of {} go to version {}", printable(&view.title()), done.version));
    warn_of(&done.lagging_gateways, session.output);
    Ok(())
}
