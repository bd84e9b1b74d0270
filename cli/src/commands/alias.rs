//! `dunlin alias`: names of a function's for its versions.

use clap::Subcommand;
use dunlin_proto::{ids::AliasId, v1};

use super::traffic::{self, DivisionArgs, warn_of};
use crate::{
    client::{Client, answer},
    exit::Failure,
    session::{FunctionArg, Session},
    view::alias::{ALIASES, AliasView},
};

/// What to do with aliases.
#[derive(Subcommand)]
pub(crate) enum AliasCommand {
    /// Make an alias, or divide its calls anew
    Set {
        /// Function, as NAME or NAMESPACE/NAME
        name: FunctionArg,
        /// What to call it; live is the function's own traffic
        alias: AliasId,
        #[command(flatten)]
        division: DivisionArgs,
    },
    /// List a function's aliases
    #[command(visible_alias = "ls")]
    List {
        /// Function, as NAME or NAMESPACE/NAME
        name: FunctionArg,
    },
    /// Delete an alias; its versions stay
    #[command(visible_alias = "rm")]
    Delete {
        /// Function, as NAME or NAMESPACE/NAME
        name: FunctionArg,
        /// Which
        alias: AliasId,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
}

/// Runs it.
pub(crate) async fn run(command: AliasCommand, session: &Session) -> Result<(), Failure> {
    let client = session.connect().await?;
    match command {
        AliasCommand::Set { name, alias, division } => {
            let alias = name.in_target(client.target()).alias(alias);
            traffic::set(&client, session, &alias, division).await
        }
        AliasCommand::List { name } => list(&client, session, &name).await,
        AliasCommand::Delete { name, alias, yes } => delete(&client, session, &name, alias, yes).await,
    }
}

async fn list(client: &Client, session: &Session, name: &FunctionArg) -> Result<(), Failure> {
    let request = v1::ListAliasesRequest { parent: name.in_target(client.target()).to_string() };
    let found = answer(client.aliases().list_aliases(request).await)?;
    let views: Vec<AliasView> = found.aliases.into_iter().map(Into::into).collect();
    session.output.list(&views, ALIASES, "no aliases")
}

async fn delete(
    client: &Client,
    session: &Session,
    name: &FunctionArg,
    alias: AliasId,
    yes: bool,
) -> Result<(), Failure> {
    let function = name.in_target(client.target());
    session.confirm(yes, &format!("delete the alias {alias} of {}/{}", function.namespace, function.function))?;
    let name = function.alias(alias).to_string();
    let deleted = answer(client.aliases().delete_alias(v1::DeleteAliasRequest { name: name.clone() }).await)?;
    session.output.deleted(&name, &format!("deleted {name}"))?;
    warn_of(&deleted.lagging_gateways, session.output);
    Ok(())
}
