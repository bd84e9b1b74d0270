//! `dunlin webhook`: where events of a namespace are posted, and what became of them.

use std::time::Duration;

use clap::Subcommand;
use dunlin_proto::{names::WebhookName, v1};
use serde_json::json;

use crate::{
    client::{Client, answer},
    exit::{Exit, Failure},
    output::{Format, printable},
    session::Session,
    view::webhook::{DeliveryView, WebhookStatusView, WebhookView},
};

/// How often it is looked what has become of a test.
const LOOK: Duration = Duration::from_millis(300);
/// How long a test is watched: as long as a receiver may take for its answer, and a little more.
const PATIENCE: Duration = Duration::from_secs(15);

/// What to do with the namespace's webhook.
#[derive(Subcommand)]
pub(crate) enum WebhookCommand {
    /// Have events of the namespace posted to a URL, and print the secret with which they are signed, which is shown this once;
    /// one that is there gets the URL and keeps its secret
    Set {
        /// Where events are posted, such as https://example.com/dunlin
        #[arg(value_name = "URL")]
        receiver: String,
    },
    /// Show the webhook and the last events that it was told
    Show,
    /// Send an event that means nothing, and say what has become of it
    Test,
    /// Print a new secret; the old one signs beside it for 24 hours
    RotateSecret,
    /// Delete the webhook, with all events that wait
    #[command(visible_alias = "rm")]
    Delete {
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
}

/// Runs it.
pub(crate) async fn run(command: WebhookCommand, session: &Session) -> Result<(), Failure> {
    let client = session.connect().await?;
    let name = WebhookName { namespace: client.target().namespace.clone() }.to_string();
    match command {
        WebhookCommand::Set { receiver: url } => {
            let set = answer(client.namespaces().set_webhook(v1::SetWebhookRequest { name, url }).await)?;
            changed(session, set.webhook, &set.secret)
        }
        WebhookCommand::Show => show(&client, session, name).await,
        WebhookCommand::Test => test(&client, session, name).await,
        WebhookCommand::RotateSecret => {
            let request = v1::RotateWebhookSecretRequest { name };
            let rotated = answer(client.namespaces().rotate_webhook_secret(request).await)?;
            changed(session, rotated.webhook, &rotated.secret)
        }
        WebhookCommand::Delete { yes } => {
            session.confirm(yes, &format!("delete {name}"))?;
            answer(client.namespaces().delete_webhook(v1::DeleteWebhookRequest { name: name.clone() }).await)?;
            session.output.deleted(&name, &format!("deleted {name}"))
        }
    }
}

/// Says what a webhook is like now, and its secret where that is new.
fn changed(session: &Session, webhook: Option<v1::Webhook>, secret: &str) -> Result<(), Failure> {
    let webhook = WebhookView::from(webhook.unwrap_or_default());
    let (output, is_new) = (session.output, !secret.is_empty());
    if output.is_json() {
        return output.json(&json!({ "webhook": webhook, "secret": is_new.then_some(secret) }));
    }
    output.note(format!("events of namespace {} go to {}", webhook.namespace, printable(&webhook.url)));
    if !is_new {
        return Ok(());
    }
    output.note("they are signed with this secret; keep it now, it is not shown again");
    output.text(&format!("{secret}\n"))
}

async fn fetch(client: &Client, name: &str) -> Result<WebhookStatusView, Failure> {
    let request = v1::GetWebhookRequest { name: name.to_owned() };
    Ok(answer(client.namespaces().get_webhook(request).await)?.into())
}

async fn show(client: &Client, session: &Session, name: String) -> Result<(), Failure> {
    let (status, output) = (fetch(client, &name).await?, session.output);
    if output.is_json() { output.json(&status) } else { output.text(&status.text(output.format == Format::Wide)) }
}

async fn test(client: &Client, session: &Session, name: String) -> Result<(), Failure> {
    let request = v1::TestWebhookRequest { name: name.clone() };
    let id = answer(client.namespaces().test_webhook(request).await)?.id;
    let Ok(delivery) = tokio::time::timeout(PATIENCE, tried(client, &name, &id)).await else {
        let failure =
            Failure::new(Exit::Failed, format!("event {id} has not been sent within {} s", PATIENCE.as_secs()));
        return Err(failure.hint("it will be; see: dunlin webhook show"));
    };
    let delivery = delivery?;
    if session.output.is_json() {
        session.output.json(&delivery)?;
    }
    match delivery.error {
        None => session.output.note(format!("the receiver has taken event {id}")),
        Some(error) => {
            let failure = Failure::new(Exit::Failed, format!("event {id} was not taken")).because(error);
            return Err(failure.hint(match delivery.state {
                "given_up" => {
                    "it is not tried again; set the webhook anew once its receiver is mended: dunlin webhook set"
                }
                _ => "it is tried again for 24 hours; see: dunlin webhook show",
            }));
        }
    }
    Ok(())
}

/// An event once it was sent.
async fn tried(client: &Client, name: &str, id: &str) -> Result<DeliveryView, Failure> {
    loop {
        let status = fetch(client, name).await?;
        if let Some(found) = status.deliveries.into_iter().find(|delivery| delivery.id == id && delivery.tries > 0) {
            return Ok(found);
        }
        tokio::time::sleep(LOOK).await;
    }
}
