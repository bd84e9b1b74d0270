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
    fields::{functions, items, maybe_whole, printable, scopes, text},
};
use crate::admin::{
    app::App,
    fault::Fault,
    model::{Grant, Identity, Key, KeyList, NewKey, NewToken},
    params::{KeyIds, Named, NamespaceIds, Page, Query, listed},
    session::Caller,
};

/// Says who the token names and what it grants.
#[utoipa::path(get, path = "/identity", tag = "identity", responses((status = 200, body = Identity, description = "Who it is"), Refused))]
pub(super) async fn get_identity(State(app): State<App>, Caller(who): Caller) -> Answer<Identity> {
    Ok(Json(app.identity_get(&who)?.into()))
}

/// Asks for a token.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(tag = "purpose", rename_all = "lowercase", deny_unknown_fields)]
pub(super) enum CreateToken {
    /// For administration.
    Administration {
        /// Whom it names.
        #[serde(deserialize_with = "printable::<_, 128>")]
        #[schema(min_length = 1, max_length = 128, pattern = "^[!-~]([ -~]*[!-~])?$")]
        subject: String,
        /// What it lets its bearer do; no more than the caller's own.
        #[serde(deserialize_with = "items::<_, _, 1, 100>")]
        #[schema(value_type = Vec<NewGrant>, min_items = 1, max_items = 100)]
        grants: Vec<Grant>,
        /// How long it is valid, in seconds; default 3,600.
        #[serde(default, deserialize_with = "maybe_whole::<_, 1, 86_400>")]
        #[schema(value_type = u32, minimum = 1, maximum = 86_400, required = false)]
        lifetime_seconds: Option<u32>,
    },
    /// For calling the private functions of one namespace.
    Call {
        /// Whom it names.
        #[serde(deserialize_with = "printable::<_, 128>")]
        #[schema(min_length = 1, max_length = 128, pattern = "^[!-~]([ -~]*[!-~])?$")]
        subject: String,
        /// The namespace's bare name.
        #[schema(pattern = "^[a-z](-?[a-z0-9])*$", min_length = 1, max_length = 22, example = "shop")]
        namespace: String,
        /// How long it is valid, in seconds; default 3,600.
        #[serde(default, deserialize_with = "maybe_whole::<_, 1, 86_400>")]
        #[schema(value_type = u32, minimum = 1, maximum = 86_400, required = false)]
        lifetime_seconds: Option<u32>,
        /// What the functions may learn of it.
        #[serde(default, deserialize_with = "items::<_, _, 0, 32>")]
        #[schema(schema_with = scopes, required = false)]
        scopes: Vec<String>,
    },
    /// For looking at one version by its own address: the parameter `dunlin-preview` of a link.
    Preview {
        /// Whom it names.
        #[serde(deserialize_with = "printable::<_, 128>")]
        #[schema(min_length = 1, max_length = 128, pattern = "^[!-~]([ -~]*[!-~])?$")]
        subject: String,
        /// The namespace's bare name.
        #[schema(pattern = "^[a-z](-?[a-z0-9])*$", min_length = 1, max_length = 22, example = "shop")]
        namespace: String,
        /// The function's bare name.
        #[schema(pattern = "^[a-z](-?[a-z0-9])*$", min_length = 1, max_length = 32, example = "checkout")]
        function: String,
        /// The version's number.
        #[schema(minimum = 1, example = 7)]
        version: u32,
        /// How long it is valid, in seconds; default 3,600.
        #[serde(default, deserialize_with = "maybe_whole::<_, 1, 86_400>")]
        #[schema(value_type = u32, minimum = 1, maximum = 86_400, required = false)]
        lifetime_seconds: Option<u32>,
    },
}

/// A role in one namespace, or `operator` in the cluster.
#[derive(Debug, Deserialize, ToSchema)]
#[expect(dead_code, reason = "it describes what a grant may be")]
#[serde(untagged, deny_unknown_fields)]
enum NewGrant {
    /// A role in one namespace.
    Namespace {
        /// The namespace's bare name.
        #[schema(pattern = "^[a-z](-?[a-z0-9])*$", min_length = 1, max_length = 22, example = "shop")]
        namespace: String,
        /// The role.
        role: NamespaceRole,
    },
    /// Everything.
    Cluster {
        /// The role.
        role: ClusterRole,
    },
}

/// A role in a namespace.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum NamespaceRole {
    Viewer,
    Developer,
    Admin,
}

/// The role in the cluster.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum ClusterRole {
    Operator,
}

impl From<CreateToken> for v1::CreateTokenRequest {
    fn from(body: CreateToken) -> Self {
        match body {
            CreateToken::Administration { subject, grants, lifetime_seconds } => Self {
                subject,
                purpose: v1::TokenPurpose::Administration.into(),
                grants: grants.into_iter().map(v1::RoleGrant::from).collect(),
                lifetime: lifetime_seconds.map(seconds),
                ..Self::default()
            },
            CreateToken::Call { subject, namespace, lifetime_seconds, scopes } => Self {
                subject,
                purpose: v1::TokenPurpose::Call.into(),
                parent: format!("namespaces/{namespace}"),
                lifetime: lifetime_seconds.map(seconds),
                scopes,
                ..Self::default()
            },
            CreateToken::Preview { subject, namespace, function, version, lifetime_seconds } => Self {
                subject,
                purpose: v1::TokenPurpose::Preview.into(),
                parent: format!("namespaces/{namespace}/functions/{function}/versions/{version}"),
                lifetime: lifetime_seconds.map(seconds),
                ..Self::default()
            },
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
    let (page_size, page_token) = page.checked()?;
    let request = v1::ListKeysRequest { parent: parent.to_string(), page_size, page_token };
    Ok(Json(listed(app.key_list(&who, request).await)?.into()))
}

/// Asks for a key.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateKey {
    /// For people.
    #[serde(default, deserialize_with = "text::<_, 128>")]
    #[schema(max_length = 128)]
    display_name: String,
    /// The functions it may call, by their bare names; empty means all of the namespace.
    #[serde(default, deserialize_with = "items::<_, _, 0, 100>")]
    #[schema(schema_with = functions, required = false)]
    functions: Vec<String>,
    /// How long it is valid, in seconds; left out means for ever.
    #[serde(default, deserialize_with = "maybe_whole::<_, 1, 315_360_000>")]
    #[schema(value_type = u32, minimum = 1, maximum = 315_360_000, required = false)]
    lifetime_seconds: Option<u32>,
    /// The bare name of the plan that it is under; empty means none.
    #[serde(default, deserialize_with = "text::<_, 63>")]
    #[schema(max_length = 63)]
    plan: String,
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
        plan: body.plan,
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

/// How a key gets a new secret.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RotateKey {
    /// How long the secret that it has now stays valid, in seconds; default 86,400, 0 ends all old ones at once.
    #[serde(default, deserialize_with = "maybe_whole::<_, 0, 2_592_000>")]
    #[schema(value_type = u32, minimum = 0, maximum = 2_592_000, required = false)]
    overlap_seconds: Option<u32>,
}

/// Gives a key a new secret, which is in this answer and nowhere else; the one that it has now stays valid for a while.
#[utoipa::path(
    post,
    path = "/namespaces/{namespace}/keys/{key}/rotate",
    tag = "keys",
    params(KeyIds),
    request_body = RotateKey,
    responses((status = 200, body = NewKey, description = "The key and its new secret"), Refused, Unchanged),
)]
pub(super) async fn rotate_key(
    State(app): State<App>,
    Caller(who): Caller,
    Named(name): Named<KeyName>,
    Body(body): Body<RotateKey>,
) -> Answer<NewKey> {
    let overlap = body.overlap_seconds.map(seconds);
    let request = v1::RotateKeyRequest { name: name.to_string(), overlap, finish: false };
    Ok(Json(app.key_rotate(&who, request).await?.into()))
}

/// Ends the secret that a key had before its newest.
#[utoipa::path(
    delete,
    path = "/namespaces/{namespace}/keys/{key}/old-secret",
    tag = "keys",
    params(KeyIds),
    responses((status = 200, body = Key, description = "The key"), Refused, Unchanged),
)]
pub(super) async fn end_old_secret(
    State(app): State<App>,
    Caller(who): Caller,
    Named(name): Named<KeyName>,
) -> Answer<Key> {
    let request = v1::RotateKeyRequest { name: name.to_string(), overlap: None, finish: true };
    Ok(Json(app.key_rotate(&who, request).await?.key.unwrap_or_default().into()))
}
