//! `dunlin context`: the clusters that this user knows.

use clap::Subcommand;
use serde::Serialize;

use crate::{
    context::Contexts,
    exit::Failure,
    output::{Column, Output},
    view::or_dash,
};

/// What to do with contexts.
#[derive(Subcommand)]
pub(crate) enum ContextCommand {
    /// List the contexts; the one in use has a star
    #[command(visible_alias = "ls")]
    List,
    /// Use a context from now on
    Use {
        /// Its name
        name: String,
    },
    /// Forget a context and its token
    Delete {
        /// Its name
        name: String,
    },
}

/// A context without its token.
#[derive(Serialize)]
struct ContextView {
    name: String,
    current: bool,
    url: String,
    namespace: Option<String>,
    has_token: bool,
}

const COLUMNS: &[Column<ContextView>] = &[
    Column::new("", |context| if context.current { "*" } else { " " }.to_owned()),
    Column::new("NAME", |context| context.name.clone()),
    Column::new("URL", |context| context.url.clone()),
    Column::new("NAMESPACE", |context| or_dash(context.namespace.as_deref().unwrap_or_default())),
    Column::new("TOKEN", |context| if context.has_token { "yes" } else { "no" }.to_owned()),
];

/// Runs it.
pub(crate) fn run(command: ContextCommand, output: Output) -> Result<(), Failure> {
    let mut contexts = Contexts::load()?;
    match command {
        ContextCommand::List => list(&contexts, output),
        ContextCommand::Use { name } => {
            let url = contexts.named(&name)?.url.clone();
            contexts.current = Some(name.clone());
            contexts.save()?;
            output.note(format!("using context {name} at {url}"));
            Ok(())
        }
        ContextCommand::Delete { name } => {
            contexts.named(&name)?;
            contexts.contexts.remove(&name);
            contexts.current = contexts.current.filter(|current| *current != name);
            contexts.save()?;
            output.note(format!("forgot context {name}"));
            Ok(())
        }
    }
}

fn list(contexts: &Contexts, output: Output) -> Result<(), Failure> {
    let view = contexts.contexts.iter().map(|(name, context)| ContextView {
        name: name.clone(),
        current: contexts.current.as_ref() == Some(name),
        url: context.url.clone(),
        namespace: context.namespace.as_ref().map(ToString::to_string),
        has_token: context.token.is_some(),
    });
    output.list(&view.collect::<Vec<_>>(), COLUMNS, "no contexts yet; start a cluster with: dunlin up")
}
