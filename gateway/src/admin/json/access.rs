//! Identity, tokens and keys as JSON.

use axum::{Json, extract::State};
use dunlin_proto::{
    names::{KeyName, NamespaceRef},
    v1,
};
use http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    Answer,
    body::Body,
    doc::{Refused, Unchanged},
};
use crate::admin::{
    params::{KeyIds, Named, NamespaceIds, Page, Query, page_size},
    app::App,
    fault::Fault,
    model::{Grant, Identity, Key, KeyList, NewKey, NewToken},
    session::Caller,
};

/// Says who the token names and what it grants.
#[utoipa::path(get, path = "/identity", tag = "identity", responses((status = 200, body = Identity, description = "Who it is"), Refused))]
pub(super) async fn get_identity(State(app): State<App>, Caller(who): Caller) -> Answer<Identity> {
    Ok(Json(app.identity_get(&who)?.into()))
}

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Purpose {
    /// For administration.
    Administration,
    /// For calling the private functions of one namespace.
    Call,
}

/// Asks for a token.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateToken {
    /// Whom it names.
    #[schema(min_length = 1, max_length = 128)]
    subject: String,
    /// What it is for.
    purpose: Purpose,
    /// The roles of an administration token; each but `operator` needs its namespace.
    #[serde(default)]
    #[schema(max_items = 100)]
    grants: Vec<Grant>,
    /// The namespace of a call token.
    #[serde(default)]
    #[schema(pattern = "^[a-z](-?[a-z0-9])*$", max_length = 22, nullable = false)]
    namespace: Option<String>,
    /// How long it is valid, in seconds; default 3,600, 86,400 at most.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 86_400, nullable = false)]
    lifetime_seconds: Option<u32>,
    /// The scopes of a call token.
    #[serde(default)]
    #[schema(max_items = 100)]
    scopes: Vec<String>,
}

impl From<CreateToken> for v1::CreateTokenRequest {
    fn from(body: CreateToken) -> Self {
        let purpose = match body.purpose {
            Purpose::Administration => v1::TokenPurpose::Administration,
            Purpose::Call => v1::TokenPurpose::Call,
        };
        Self {
            subject: body.subject,
            purpose: purpose.into(),
            grants: body.grants.into_iter().map(v1::RoleGrant::from).collect(),
            parent: body.namespace.map(|namespace| format!("namespaces/{namespace}")).unwrap_or_default(),
            lifetime: body.lifetime_seconds.map(seconds),
            scopes: body.scopes,
        }
    }
}

fn seconds(seconds: u32) -> prost_types::Duration {
    prost_types::Duration { seconds: seconds.into(), nanos: 0 }
}

/// Issues a token that grants no more than the caller's own.
#[utoipa::path(
    post,
    path = "/tokens",
    tag = "identity",
    request_body = CreateToken,
    responses((status = 201, body = NewToken, description = "The token"), Refused, Unchanged),
)]
pub(super) async fn create_token(
    State(app): State<App>,
    Caller(who): Caller,
    Body(body): Body<CreateToken>,
) -> Result<(StatusCode, Json<NewToken>), Fault> {
    Ok((StatusCode::CREATED, Json(app.token_create(&who, body.into()).await?.into())))
}

/// Lists the keys of a namespace, the newest first.
#[utoipa::path(
    get,
    path = "/namespaces/{namespace}/keys",
    tag = "keys",
    params(NamespaceIds, Page),
    responses((status = 200, body = KeyList, description = "A page of keys"), Refused),
)]
pub(super) async fn list_keys(
    State(app): State<App>,
    Caller(who): Caller,
    Named(parent): Named<NamespaceRef>,
    Query(page): Query<Page>,
) -> Answer<KeyList> {
    let request = v1::ListKeysRequest {
        parent: parent.to_string(),
        page_size: page_size(page.page_size)?,
        page_token: page.page_token.unwrap_or_default(),
    };
    Ok(Json(app.key_list(&who, request).await?.into()))
}

/// Asks for a key.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateKey {
    /// For people.
    #[serde(default)]
    #[schema(max_length = 128)]
    display_name: String,
    /// The functions it may call, by their bare names; empty means all of the namespace.
    #[serde(default)]
    #[schema(max_items = 100)]
    functions: Vec<String>,
    /// How long it is valid, in seconds; left out means for ever.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 315_360_000, nullable = false)]
    lifetime_seconds: Option<u32>,
}

/// Makes a key. Its secret is in this answer and nowhere else.
#[utoipa::path(
    post,
    path = "/namespaces/{namespace}/keys",
    tag = "keys",
    params(NamespaceIds),
    request_body = CreateKey,
    responses((status = 201, body = NewKey, description = "The key and its secret"), Refused, Unchanged),
)]
pub(super) async fn create_key(
    State(app): State<App>,
    Caller(who): Caller,
    Named(parent): Named<NamespaceRef>,
    Body(body): Body<CreateKey>,
) -> Result<(StatusCode, Json<NewKey>), Fault> {
    let request = v1::CreateKeyRequest {
        parent: parent.to_string(),
        display_name: body.display_name,
        functions: body.functions,
        lifetime: body.lifetime_seconds.map(seconds),
    };
    Ok((StatusCode::CREATED, Json(app.key_create(&who, request).await?.into())))
}

/// Revokes a key for ever.
#[utoipa::path(
    delete,
    path = "/namespaces/{namespace}/keys/{key}",
    tag = "keys",
    params(KeyIds),
    responses((status = 200, body = Key, description = "The revoked key"), Refused, Unchanged),
)]
pub(super) async fn revoke_key(
    State(app): State<App>,
    Caller(who): Caller,
    Named(name): Named<KeyName>,
) -> Answer<Key> {
    let response = app.key_revoke(&who, v1::RevokeKeyRequest { name: name.to_string() }).await?;
    Ok(Json(response.key.unwrap_or_default().into()))
}
