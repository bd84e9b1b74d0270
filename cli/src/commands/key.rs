//! `dunlin key`: keys with which callers reach a namespace's private functions.

use std::time::Duration;

use clap::{Args, Subcommand};
use dunlin_proto::{
    ids::{FunctionName, PlanId},
    model::to_wire_duration,
    names::{KeyId, KeyName},
    v1,
};
use serde_json::json;

use crate::{
    client::{Client, all_pages, answer},
    exit::Failure,
    output::printable,
    session::{Session, namespace_name},
    units,
    view::{
        access::{KEYS, KeyView},
        plan::UsageView,
    },
};

/// What to do with keys.
#[derive(Subcommand)]
pub(crate) enum KeyCommand {
    /// Make a key and print its secret, which is shown this once
    Create(CreateArgs),
    /// List the namespace's keys
    #[command(visible_alias = "ls")]
    List,
    /// Put a key under a plan, or under none
    Update {
        /// Its id, from `dunlin key list`
        id: KeyId,
        /// The plan
        #[arg(long, required_unless_present = "no_plan")]
        plan: Option<PlanId>,
        /// Under no plan: nothing bounds it
        #[arg(long, conflicts_with = "plan")]
        no_plan: bool,
    },
    /// Give a key a new secret and print it; the old one stays valid for a while
    Rotate(RotateArgs),
    /// Show what a key may use, and has used of its quota
    Usage {
        /// Its id, from `dunlin key list`
        id: KeyId,
    },
    /// Revoke a key for ever
    Revoke {
        /// Its id, from `dunlin key list`
        id: KeyId,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
}

/// Arguments of `dunlin key create`.
#[derive(Args)]
pub(crate) struct CreateArgs {
    /// What to call it
    #[arg(default_value = "", hide_default_value = true)]
    name: String,
    /// A function that it may call; may be repeated, all of the namespace when left out
    #[arg(long = "function", value_name = "NAME")]
    functions: Vec<FunctionName>,
    /// How long it is valid, such as 30d; for ever when left out
    #[arg(long, value_parser = units::parse_duration)]
    lifetime: Option<Duration>,
    /// The plan that says how much it may use; any amount when left out
    #[arg(long)]
    plan: Option<PlanId>,
}

/// Arguments of `dunlin key rotate`.
#[derive(Args)]
pub(crate) struct RotateArgs {
    /// Its id, from `dunlin key list`
    id: KeyId,
    /// How long the old secret stays valid, such as 7d; 24h when left out, 0s ends all old ones at once
    #[arg(long, value_parser = units::parse_duration)]
    overlap: Option<Duration>,
    /// Make no new secret: end the old one, now that every caller has the new one
    #[arg(long, conflicts_with = "overlap")]
    finish: bool,
}

/// Runs it.
pub(crate) async fn run(command: KeyCommand, session: &Session) -> Result<(), Failure> {
    let client = session.connect().await?;
    match command {
        KeyCommand::Create(args) => create(&client, session, args).await,
        KeyCommand::List => list(&client, session).await,
        KeyCommand::Update { id, plan, .. } => update(&client, session, id, plan).await,
        KeyCommand::Rotate(args) => rotate(&client, session, args).await,
        KeyCommand::Usage { id } => usage(&client, session, id).await,
        KeyCommand::Revoke { id, yes } => revoke(&client, session, id, yes).await,
    }
}

async fn create(client: &Client, session: &Session, args: CreateArgs) -> Result<(), Failure> {
    let request = v1::CreateKeyRequest {
        parent: namespace_name(client.target()),
        display_name: args.name,
        functions: args.functions.iter().map(ToString::to_string).collect(),
        lifetime: args.lifetime.map(to_wire_duration),
        plan: args.plan.map(|plan| plan.to_string()).unwrap_or_default(),
    };
    let made = answer(client.keys().create_key(request).await)?;
    let key = KeyView::from(made.key.unwrap_or_default());
    if session.output.is_json() {
        return session.output.json(&json!({ "key": key, "secret": made.secret }));
    }
    session.output.note(format!("made key {}; keep its secret now, it is not shown again", printable(&key.id)));
    session.output.text(&format!("{}\n", made.secret))
}

async fn list(client: &Client, session: &Session) -> Result<(), Failure> {
    let parent = namespace_name(client.target());
    let keys = all_pages(|token| page(client, &parent, token)).await?;
    let views: Vec<KeyView> = keys.into_iter().map(Into::into).collect();
    session.output.list(&views, KEYS, "no keys yet; make one with: dunlin key create NAME")
}

async fn page(client: &Client, parent: &str, page_token: String) -> Result<(Vec<v1::Key>, String), Failure> {
    let request = v1::ListKeysRequest { parent: parent.to_owned(), page_size: 0, page_token };
    let page = answer(client.keys().list_keys(request).await)?;
    Ok((page.keys, page.next_page_token))
}

async fn update(client: &Client, session: &Session, key: KeyId, plan: Option<PlanId>) -> Result<(), Failure> {
    let name = KeyName { namespace: client.target().namespace.clone(), key }.to_string();
    let request = v1::UpdateKeyRequest { name, plan: plan.map(|plan| plan.to_string()).unwrap_or_default() };
    let done = answer(client.keys().update_key(request).await)?;
    let key = KeyView::from(done.key.unwrap_or_default());
    if session.output.is_json() {
        return session.output.json(&key);
    }
    let plan = if key.plan.is_empty() { "no plan".to_owned() } else { format!("plan {}", printable(&key.plan)) };
    session.output.note(format!("key {} is under {plan}", printable(&key.id)));
    Ok(())
}

async fn rotate(client: &Client, session: &Session, args: RotateArgs) -> Result<(), Failure> {
    let name = KeyName { namespace: client.target().namespace.clone(), key: args.id }.to_string();
    let request = v1::RotateKeyRequest { name, overlap: args.overlap.map(to_wire_duration), finish: args.finish };
    let made = answer(client.keys().rotate_key(request).await)?;
    let key = KeyView::from(made.key.unwrap_or_default());
    if session.output.is_json() {
        return session.output.json(&json!({ "key": key, "secret": made.secret }));
    }
    let id = printable(&key.id);
    if args.finish {
        session.output.note(format!("the old secret of key {id} has ended"));
        return Ok(());
    }
    let old = key.old_until().map_or_else(|| "ended".to_owned(), |end| format!("valid until {}", end.text()));
    session.output.note(format!("key {id} has a new secret, not shown again; the old one is {old}"));
    session.output.text(&format!("{}\n", made.secret))
}

async fn usage(client: &Client, session: &Session, key: KeyId) -> Result<(), Failure> {
    let name = KeyName { namespace: client.target().namespace.clone(), key: key.clone() }.to_string();
    let used = answer(client.keys().get_key_usage(v1::GetKeyUsageRequest { name }).await)?;
    let usage = UsageView::new(key.to_string(), used);
    if session.output.is_json() { session.output.json(&usage) } else { session.output.text(&usage.text()) }
}

async fn revoke(client: &Client, session: &Session, key: KeyId, yes: bool) -> Result<(), Failure> {
    session.confirm(yes, &format!("revoke key {key} for ever"))?;
    let name = KeyName { namespace: client.target().namespace.clone(), key }.to_string();
    let done = answer(client.keys().revoke_key(v1::RevokeKeyRequest { name }).await)?;
    let key = KeyView::from(done.key.unwrap_or_default());
    if session.output.is_json() {
        return session.output.json(&key);
    }
    session.output.note(format!("revoked key {}", printable(&key.id)));
    Ok(())
}
