//! `dunlin budget`: how much a namespace may use in a day or month, and what it has used.

use clap::{Args, Subcommand};
use dunlin_proto::{model::BudgetLimit, names::BudgetName, v1};

use crate::{
    client::{Client, answer},
    exit::Failure,
    session::Session,
    view::usage::BudgetView,
};

/// What to do with the namespace's budget.
#[derive(Subcommand)]
pub(crate) enum BudgetCommand {
    /// Set the namespace's budget, or replace it; it is in force a second later
    Set(SetArgs),
    /// Show the budget and what is used of it
    Show,
    /// Delete the budget: nothing bounds what the namespace uses any more
    #[command(visible_alias = "rm")]
    Delete {
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
}

/// Arguments of `dunlin budget set`.
#[derive(Args)]
pub(crate) struct SetArgs {
    /// CPU time of functions in a day or month of UTC, in seconds, such as 3600s/month
    #[arg(long, required_unless_present = "calls")]
    cpu: Option<BudgetLimit>,
    /// Invocations in a day or month of UTC, such as 1000000/month
    #[arg(long, value_parser = calls)]
    calls: Option<BudgetLimit>,
    /// Warn when so many percent are used
    #[arg(long, default_value_t = 80, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(1..=100))]
    warn: u32,
    /// Refuse calls with 429 once all is used, until the period ends; without it, there are only warnings
    #[arg(long)]
    enforce: bool,
}

/// Calls have no seconds.
fn calls(text: &str) -> Result<BudgetLimit, String> {
    match text.contains("s/") {
        true => Err(format!("{text:?} are seconds; write calls as 1000000/month")),
        false => text.parse(),
    }
}

/// Runs it.
pub(crate) async fn run(command: BudgetCommand, session: &Session) -> Result<(), Failure> {
    let client = session.connect().await?;
    let name = BudgetName { namespace: client.target().namespace.clone() }.to_string();
    match command {
        BudgetCommand::Set(args) => {
            let budget = v1::Budget {
                name: name.clone(),
                cpu_seconds: args.cpu.map(Into::into),
                calls: args.calls.map(Into::into),
                warn_percent: args.warn,
                enforce: args.enforce,
            };
            answer(client.usage().set_budget(v1::SetBudgetRequest { budget: Some(budget) }).await)?;
            show(&client, session, name).await
        }
        BudgetCommand::Show => show(&client, session, name).await,
        BudgetCommand::Delete { yes } => {
            session.confirm(yes, &format!("delete {name}"))?;
            answer(client.usage().delete_budget(v1::DeleteBudgetRequest { name: name.clone() }).await)?;
            session.output.deleted(&name, &format!("deleted {name}"))
        }
    }
}

async fn show(client: &Client, session: &Session, name: String) -> Result<(), Failure> {
    let found = answer(client.usage().get_budget(v1::GetBudgetRequest { name }).await)?;
    let view = BudgetView::from(found);
    if session.output.is_json() { session.output.json(&view) } else { session.output.text(&view.text()) }
}
