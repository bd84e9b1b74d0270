//! `dunlin plan`: what each key under a plan may use.

use clap::{Args, Subcommand};
use dunlin_proto::{
    ids::PlanId,
    model::{Quota, Rate},
    names::PlanName,
    v1,
};

use crate::{
    client::{Client, answer},
    exit::Failure,
    output::printable,
    session::{Session, namespace_name},
    view::plan::{PLANS, PlanView},
};

/// What to do with plans.
#[derive(Subcommand)]
pub(crate) enum PlanCommand {
    /// Make a plan, or change it for all keys that are under it
    Set(SetArgs),
    /// List the namespace's plans
    #[command(visible_alias = "ls")]
    List,
    /// Delete a plan that no valid key is under
    #[command(visible_alias = "rm")]
    Delete {
        /// Which
        name: PlanId,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
}

/// Arguments of `dunlin plan set`.
#[derive(Args)]
pub(crate) struct SetArgs {
    /// What to call it
    name: PlanId,
    /// Calls of each key in a time, such as 100/s or 60/m
    #[arg(long)]
    rate: Option<Rate>,
    /// Calls at once after a pause; what the rate allows in half a second when left out
    #[arg(long, requires = "rate", value_name = "CALLS")]
    burst: Option<u32>,
    /// Calls of each key in a day or month of UTC, such as 10000/day or 1000000/month
    #[arg(long)]
    quota: Option<Quota>,
    /// What gateways do that have used up what they were lent and do not reach the scheduler
    #[arg(long, requires = "quota", value_enum, default_value_t = OnUnknown::Allow)]
    on_unknown: OnUnknown,
    /// Calls of each key that may run or wait at once
    #[arg(long, value_name = "COUNT")]
    max_concurrency: Option<u32>,
}

/// What is done about calls of which nobody knows whether the quota has room for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum OnUnknown {
    /// Admit them, and count them later
    Allow,
    /// Refuse them with 503
    Refuse,
}

impl OnUnknown {
    /// The quota with this, as a message.
    pub(crate) fn of(self, quota: Quota) -> v1::QuotaLimit {
        Quota { refuse_unknown: self == Self::Refuse, ..quota }.into()
    }
}

/// Runs it.
pub(crate) async fn run(command: PlanCommand, session: &Session) -> Result<(), Failure> {
    let client = session.connect().await?;
    match command {
        PlanCommand::Set(args) => set(&client, session, args).await,
        PlanCommand::List => list(&client, session).await,
        PlanCommand::Delete { name, yes } => delete(&client, session, name, yes).await,
    }
}

async fn set(client: &Client, session: &Session, args: SetArgs) -> Result<(), Failure> {
    let name = PlanName { namespace: client.target().namespace.clone(), plan: args.name };
    let rate = args.rate.map(|rate| v1::RateLimit { burst: args.burst, ..rate.into() });
    let quota = args.quota.map(|quota| args.on_unknown.of(quota));
    let max_concurrency = args.max_concurrency;
    let plan = v1::Plan { name: name.to_string(), rate, quota, max_concurrency, ..v1::Plan::default() };
    let put = answer(client.plans().put_plan(v1::PutPlanRequest { plan: Some(plan) }).await)?;
    let plan = PlanView::from(put.plan.unwrap_or_default());
    if session.output.is_json() {
        return session.output.json(&plan);
    }
    session.output.note(format!("plan {}: {}", printable(&plan.plan), plan.terms()));
    Ok(())
}

async fn list(client: &Client, session: &Session) -> Result<(), Failure> {
    let request = v1::ListPlansRequest { parent: namespace_name(client.target()) };
    let found = answer(client.plans().list_plans(request).await)?;
    let views: Vec<PlanView> = found.plans.into_iter().map(Into::into).collect();
    session.output.list(
        &views,
        PLANS,
        "no plans yet; make one with: dunlin plan set NAME --rate 10/s --quota 10000/day",
    )
}

async fn delete(client: &Client, session: &Session, plan: PlanId, yes: bool) -> Result<(), Failure> {
    session.confirm(yes, &format!("delete plan {plan}"))?;
    let name = PlanName { namespace: client.target().namespace.clone(), plan }.to_string();
    answer(client.plans().delete_plan(v1::DeletePlanRequest { name: name.clone() }).await)?;
    session.output.deleted(&name, &format!("deleted {name}"))
}
