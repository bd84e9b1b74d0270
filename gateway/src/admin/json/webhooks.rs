//! Webhooks of namespaces as JSON.

use axum::{Json, extract::State};
use dunlin_proto::{
    names::{NamespaceRef, WebhookName},
    v1,
};
use http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    Answer,
    body::Body,
    doc::{Refused, Unchanged},
    fields::text,
};
use crate::admin::{
    app::App,
    fault::Fault,
    model::{ChangedWebhook, TestedWebhook, WebhookStatus},
    params::{Named, NamespaceIds},
    session::Caller,
};

fn name(NamespaceRef { namespace }: NamespaceRef) -> String {
    WebhookName { namespace }.to_string()
}

/// Where events go.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SetWebhook {
    /// `https://...`, without user, password and fragment, of a public address unless the operator allows others.
    #[serde(deserialize_with = "text::<_, 2_048>")]
    #[schema(max_length = 2_048, format = "uri", example = "https://example.com/dunlin")]
    url: String,
}

/// Nothing has to be said.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

/// Returns a namespace's webhook with the last events that it was told.
#[utoipa::path(
    get,
    path = "/namespaces/{namespace}/webhook",
    tag = "webhooks",
    params(NamespaceIds),
    responses((status = 200, body = WebhookStatus, description = "The webhook"), Refused),
)]
pub(super) async fn get_webhook(
    State(app): State<App>,
    Caller(who): Caller,
    Named(parent): Named<NamespaceRef>,
) -> Answer<WebhookStatus> {
    Ok(Json(app.webhook_get(&who, v1::GetWebhookRequest { name: name(parent) }).await?.into()))
}

/// Sets up a namespace's webhook, or changes its URL; what waits goes to the new one.
#[utoipa::path(
    put,
    path = "/namespaces/{namespace}/webhook",
    tag = "webhooks",
    params(NamespaceIds),
    request_body = SetWebhook,
    responses((status = 200, body = ChangedWebhook, description = "The webhook as it is now"), Refused, Unchanged),
)]
pub(super) async fn set_webhook(
    State(app): State<App>,
    Caller(who): Caller,
    Named(parent): Named<NamespaceRef>,
    Body(SetWebhook { url }): Body<SetWebhook>,
) -> Answer<ChangedWebhook> {
    let set = app.webhook_set(&who, v1::SetWebhookRequest { name: name(parent), url }).await?;
    Ok(Json(ChangedWebhook::new(set.webhook, set.secret)))
}

/// Gives the webhook another secret; the one that it has signs beside it for 24 hours.
#[utoipa::path(
    post,
    path = "/namespaces/{namespace}/webhook/rotate-secret",
    tag = "webhooks",
    params(NamespaceIds),
    request_body = Nothing,
    responses((status = 200, body = ChangedWebhook, description = "The webhook and its new secret"), Refused, Unchanged),
)]
pub(super) async fn rotate_webhook_secret(
    State(app): State<App>,
    Caller(who): Caller,
    Named(parent): Named<NamespaceRef>,
    Body(Nothing {}): Body<Nothing>,
) -> Answer<ChangedWebhook> {
    let rotated = app.webhook_rotate(&who, v1::RotateWebhookSecretRequest { name: name(parent) }).await?;
    Ok(Json(ChangedWebhook::new(rotated.webhook, rotated.secret)))
}

/// Has an event of type `dev.dunlin.test` sent.
#[utoipa::path(
    post,
    path = "/namespaces/{namespace}/webhook/test",
    tag = "webhooks",
    params(NamespaceIds),
    request_body = Nothing,
    responses((status = 200, body = TestedWebhook, description = "It is on its way"), Refused, Unchanged),
)]
pub(super) async fn test_webhook(
    State(app): State<App>,
    Caller(who): Caller,
    Named(parent): Named<NamespaceRef>,
    Body(Nothing {}): Body<Nothing>,
) -> Answer<TestedWebhook> {
    let v1::TestWebhookResponse { id } = app.webhook_test(&who, v1::TestWebhookRequest { name: name(parent) }).await?;
    Ok(Json(TestedWebhook { id }))
}

/// Deletes a namespace's webhook, with all events that wait.
#[utoipa::path(
    delete,
    path = "/namespaces/{namespace}/webhook",
    tag = "webhooks",
    params(NamespaceIds),
    responses((status = 204, description = "It is gone"), Refused, Unchanged),
)]
pub(super) async fn delete_webhook(
    State(app): State<App>,
    Caller(who): Caller,
    Named(parent): Named<NamespaceRef>,
) -> Result<StatusCode, Fault> {
    app.webhook_delete(&who, v1::DeleteWebhookRequest { name: name(parent) }).await?;
    Ok(StatusCode::NO_CONTENT)
}
