//! `TokenService` and `KeyService`. Whether the caller may grant what it asks for is the gateway's to check; what is asked
//! for must make sense here.

use std::time::Duration;

use dunlin_proto::{
    ApiError, ErrorCode,
    ids::{FunctionName, Namespace},
    metadata,
    names::{KeyName, NamespaceRef, VersionName},
    v1::{self, Role, TokenPurpose, key_service_server::KeyService, token_service_server::TokenService},
};
use tonic::{Request, Response, Status};

use super::{
    Desk, convert,
    functions::beyond,
    name, page,
    plans::{plan_id, usage},
    text,
};
use crate::{
    app::App,
    audit::Change,
    error::Error,
    keys::{NewKey, Rotation},
    model::{KeyRecord, Time},
    store::KeyCursor,
    tokens::{Grant, MAX_LIFETIME, Purpose},
};

pub(super) const DEFAULT_LIFETIME: Duration = Duration::from_secs(3600);
const MAX_KEY_LIFETIME: Duration = Duration::from_secs(10 * 366 * 24 * 3600);
const DEFAULT_OVERLAP: Duration = Duration::from_secs(24 * 3600);
const MAX_OVERLAP: Duration = Duration::from_secs(30 * 24 * 3600);
const MOST_GRANTS: usize = 100;
const MOST_SCOPES: usize = 32;
const MOST_FUNCTIONS: usize = 100;

#[tonic::async_trait]
impl TokenService for Desk {
    async fn create_token(
        &self,
        request: Request<v1::CreateTokenRequest>,
    ) -> Result<Response<v1::CreateTokenResponse>, Status> {
        let store = self.store(&request)?;
        let request = request.into_inner();
        let subject = subject(&request.subject)?;
        let lifetime = lifetime(request.lifetime, MAX_LIFETIME)?.unwrap_or(DEFAULT_LIFETIME);
        let purpose = purpose(self.app()?.as_ref(), request)?;
        let minted = self.tokens.mint(&subject, &purpose, lifetime, Time::now());
        let (token, exp) = minted.map_err(|error| {
            tracing::error!(cause = format!("{error:#}"), "a token can't be signed");
            ApiError::internal()
        })?;
        // Noted before anybody has it.
        store.audit_append(issue(&subject, &purpose, lifetime)).await?;
        let expire_time = Some(prost_types::Timestamp { seconds: exp, nanos: 0 });
        Ok(Response::new(v1::CreateTokenResponse { token, expire_time }))
    }

    async fn get_identity(
        &self,
        _: Request<v1::GetIdentityRequest>,
    ) -> Result<Response<v1::GetIdentityResponse>, Status> {
        // Users' tokens end at the gateway, so only it can say whom they name.
        Err(ApiError::new(ErrorCode::MethodNotAllowed, "identities are known to gateways only").into())
    }
}

/// What the audit log says of a token: in a namespace where it is for one alone, and never the token.
fn issue(subject: &str, purpose: &Purpose, lifetime: Duration) -> Change {
    let namespace = match purpose {
        Purpose::Call(namespace, _) | Purpose::Preview(VersionName { namespace, .. }) => Some(namespace),
        Purpose::Administration(grants) => {
            let first = grants.first().and_then(|grant| grant.namespace.as_ref());
            first.filter(|first| grants.iter().all(|grant| grant.namespace.as_ref() == Some(*first)))
        }
        Purpose::Join(..) => None,
    };
    let change = match namespace {
        Some(namespace) => Change::new("token.create", namespace, &NamespaceRef { namespace: namespace.clone() }),
        None => Change::of_cluster("token.create", &"tokens"),
    };
    change.after(&(subject, purpose, lifetime))
}

fn subject(subject: &str) -> Result<String, ApiError> {
    if subject.trim().is_empty() || subject.chars().any(char::is_control) {
        return Err(ApiError::invalid("subject", "subject must name somebody, without control characters"));
    }
    text("subject", subject.to_owned(), 128)
}

/// A lifetime of a second at least; nothing where it is left out.
pub(super) fn lifetime(wire: Option<prost_types::Duration>, most: Duration) -> Result<Option<Duration>, ApiError> {
    let Some(wire) = wire else { return Ok(None) };
    let lifetime = Duration::try_from(wire).unwrap_or_default();
    if lifetime < Duration::from_secs(1) || lifetime > most {
        let message = format!("lifetime must lie between 1 s and {} s", most.as_secs());
        return Err(ApiError::invalid("lifetime", message));
    }
    Ok(Some(lifetime))
}

fn purpose(app: &App, request: v1::CreateTokenRequest) -> Result<Purpose, ApiError> {
    match request.purpose() {
        TokenPurpose::Administration => {
            unwanted("parent", request.parent.is_empty())?;
            unwanted("scopes", request.scopes.is_empty())?;
            grants(app, &request.grants).map(Purpose::Administration)
        }
        TokenPurpose::Call => {
            unwanted("grants", request.grants.is_empty())?;
            let namespace = name::<NamespaceRef>("parent", &request.parent)?.namespace;
            exists(app, &namespace)?;
            Ok(Purpose::Call(namespace, scopes(request.scopes)?))
        }
        TokenPurpose::Preview => {
            unwanted("grants", request.grants.is_empty())?;
            unwanted("scopes", request.scopes.is_empty())?;
            let version: VersionName = name("parent", &request.parent)?;
            version_exists(app, &version)?;
            Ok(Purpose::Preview(version))
        }
        TokenPurpose::Unspecified => Err(ApiError::invalid(
            "purpose",
            "purpose must be administration, call or preview: no token is good for two",
        )),
    }
}

fn unwanted(field: &str, empty: bool) -> Result<(), ApiError> {
    if empty { Ok(()) } else { Err(ApiError::invalid(field, format!("{field} is not for tokens of this purpose"))) }
}

fn exists(app: &App, namespace: &Namespace) -> Result<(), ApiError> {
    let known = app.catalog.current().namespaces.contains(namespace);
    if known { Ok(()) } else { Err(ApiError::not_found(format!("namespace {namespace}"))) }
}

fn version_exists(app: &App, version: &VersionName) -> Result<(), ApiError> {
    let (catalog, function) = (app.catalog.current(), version.parent());
    let found = catalog.functions.values().find(|found| found.record.reference() == function);
    let known = found.is_some_and(|found| found.versions.contains_key(&version.number));
    if known { Ok(()) } else { Err(ApiError::not_found(version)) }
}

fn grants(app: &App, grants: &[v1::RoleGrant]) -> Result<Vec<Grant>, ApiError> {
    if grants.is_empty() || grants.len() > MOST_GRANTS {
        let message = format!("an administration token needs 1 to {MOST_GRANTS} grants");
        return Err(ApiError::invalid("grants", message));
    }
    grants.iter().map(|wire| grant(app, wire)).collect()
}

fn grant(app: &App, wire: &v1::RoleGrant) -> Result<Grant, ApiError> {
    let role = match wire.role() {
        Role::Viewer => "viewer",
        Role::Developer => "developer",
        Role::Admin => "admin",
        Role::Operator if wire.namespace.is_empty() => return Ok(Grant::OPERATOR),
        Role::Operator => {
            return Err(ApiError::invalid(
                "grants.namespace",
                "the role operator is for the cluster: leave namespace empty",
            ));
        }
        Role::Unspecified => {
            return Err(ApiError::invalid("grants.role", "role must be viewer, developer, admin or operator"));
        }
    };
    let namespace: Namespace = name("grants.namespace", &wire.namespace)?;
    exists(app, &namespace)?;
    Ok(Grant { namespace: Some(namespace), role })
}

fn scopes(scopes: Vec<String>) -> Result<Vec<String>, ApiError> {
    // RFC 6749 3.3 allows more; what no header or log can misread is enough.
    let fine = |scope: &String| {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._:/*".contains(&b);
        (1..=64).contains(&scope.len()) && scope.bytes().all(allowed)
    };
    if scopes.len() > MOST_SCOPES || !scopes.iter().all(fine) {
        let message = format!("scopes may be {MOST_SCOPES} of 1 to 64 letters, digits and -._:/* each");
        return Err(ApiError::invalid("scopes", message));
    }
    Ok(scopes)
}

#[tonic::async_trait]
impl KeyService for Desk {
    async fn create_key(
        &self,
        request: Request<v1::CreateKeyRequest>,
    ) -> Result<Response<v1::CreateKeyResponse>, Status> {
        let (creator, store) = (metadata::actor(&request), self.store(&request)?);
        let request = request.into_inner();
        let namespace = name::<NamespaceRef>("parent", &request.parent)?.namespace;
        let lifetime = lifetime(request.lifetime, MAX_KEY_LIFETIME)?;
        let functions = functions(&request.functions)?;
        let NewKey { id, text: secret, hash } = NewKey::generate().ok_or_else(ApiError::internal)?;
        let now = Time::now();
        let key = KeyRecord {
            id,
            namespace,
            secret: hash,
            display_name: text("display_name", request.display_name, 128)?,
            functions,
            creator,
            create_time: now,
            expire_time: lifetime.map(|lifetime| now.after(lifetime)),
            revoke_time: None,
            plan: plan_id(&request.plan)?,
            old: None,
        };
        let app = self.app()?;
        store.key_create(&key).await?;
        app.config_changed().await;
        Ok(Response::new(v1::CreateKeyResponse { key: Some(convert::key(&key)), secret }))
    }

    async fn list_keys(&self, request: Request<v1::ListKeysRequest>) -> Result<Response<v1::ListKeysResponse>, Status> {
        let request = request.into_inner();
        let namespace = name::<NamespaceRef>("parent", &request.parent)?.namespace;
        let (size, list) = (page::size(request.page_size)?, format!("keys/{namespace}"));
        let after: Option<KeyCursor> = page::read(&list, &request.page_token)?;
        let found = self.app()?.store.key_list(&namespace, after.as_ref(), beyond(size)).await?;
        let place = |key: &KeyRecord| KeyCursor { create_time: key.create_time.0, id: key.id.to_string() };
        let (found, next_page_token) = page::cut(&list, found, size, place);
        let keys = found.iter().map(convert::key).collect();
        Ok(Response::new(v1::ListKeysResponse { keys, next_page_token }))
    }

    async fn revoke_key(
        &self,
        request: Request<v1::RevokeKeyRequest>,
    ) -> Result<Response<v1::RevokeKeyResponse>, Status> {
        let key: KeyName = name("name", &request.get_ref().name)?;
        let app = self.app()?;
        let revoked = self.store(&request)?.key_revoke(&key).await?;
        app.config_changed().await;
        Ok(Response::new(v1::RevokeKeyResponse { key: Some(convert::key(&revoked)) }))
    }

    async fn update_key(
        &self,
        request: Request<v1::UpdateKeyRequest>,
    ) -> Result<Response<v1::UpdateKeyResponse>, Status> {
        let store = self.store(&request)?;
        let v1::UpdateKeyRequest { name: key, plan } = request.into_inner();
        let (key, plan): (KeyName, _) = (name("name", &key)?, plan_id(&plan)?);
        let app = self.app()?;
        let changed = store.key_set_plan(&key, plan.as_ref()).await?;
        app.config_changed().await;
        Ok(Response::new(v1::UpdateKeyResponse { key: Some(convert::key(&changed)) }))
    }

    async fn rotate_key(
        &self,
        request: Request<v1::RotateKeyRequest>,
    ) -> Result<Response<v1::RotateKeyResponse>, Status> {
        let (actor, store) = (metadata::actor(&request), self.store(&request)?);
        let v1::RotateKeyRequest { name: key, overlap, finish } = request.into_inner();
        let key: KeyName = name("name", &key)?;
        let (rotation, secret) = rotation(&key, overlap, finish)?;
        let app = self.app()?;
        let rotated = store.key_rotate(&key, rotation, Time::now()).await?;
        app.config_changed().await;
        tracing::info!(namespace = %key.namespace, key = %key.key, finish, actor, "a key's secrets have changed");
        Ok(Response::new(v1::RotateKeyResponse { key: Some(convert::key(&rotated)), secret }))
    }

    async fn get_key_usage(
        &self,
        request: Request<v1::GetKeyUsageRequest>,
    ) -> Result<Response<v1::GetKeyUsageResponse>, Status> {
        let key: KeyName = name("name", &request.get_ref().name)?;
        Ok(Response::new(usage(self.app()?.as_ref(), &key).await?))
    }
}

/// What becomes of a key's secrets, with the new one as callers send it.
fn rotation(
    key: &KeyName,
    overlap: Option<prost_types::Duration>,
    finish: bool,
) -> Result<(Rotation, String), ApiError> {
    if finish && overlap.is_some() {
        return Err(ApiError::invalid("overlap", "overlap is for a new secret, and finish makes none"));
    }
    if finish {
        return Ok((Rotation::Finish, String::new()));
    }
    let overlap = overlap.map_or(Ok(DEFAULT_OVERLAP), Duration::try_from).ok().filter(|time| *time <= MAX_OVERLAP);
    let overlap = overlap.ok_or_else(|| {
        ApiError::invalid("overlap", format!("overlap must lie between 0 s and {} s", MAX_OVERLAP.as_secs()))
    })?;
    let NewKey { text, hash, .. } = NewKey::of(key.key.clone()).ok_or_else(ApiError::internal)?;
    Ok((Rotation::New { secret: hash, overlap }, text))
}

/// Functions need not exist yet: a key may be made before the first deploy.
fn functions(names: &[String]) -> Result<Vec<FunctionName>, Error> {
    if names.len() > MOST_FUNCTIONS {
        let message = format!("a key may name {MOST_FUNCTIONS} functions at most");
        return Err(ApiError::invalid("functions", message).into());
    }
    Ok(names.iter().map(|text| name("functions", text)).collect::<Result<_, ApiError>>()?)
}
