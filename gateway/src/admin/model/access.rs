//! Who may do what, as administration shows it: identities, grants, keys, fresh tokens.

use dunlin_proto::v1;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Time, id_in};

/// What a token lets its bearer do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RoleName {
    /// Reads everything in a namespace.
    Viewer,
    /// Deploys, invokes, rolls back and deletes as well.
    Developer,
    /// Manages keys and tokens of the namespace as well.
    Admin,
    /// Everything in the cluster.
    Operator,
}

impl RoleName {
    /// The role of a message; nothing where it names none.
    pub(crate) fn from_wire(wire: v1::Role) -> Option<Self> {
        match wire {
            v1::Role::Unspecified => None,
            v1::Role::Viewer => Some(Self::Viewer),
            v1::Role::Developer => Some(Self::Developer),
            v1::Role::Admin => Some(Self::Admin),
            v1::Role::Operator => Some(Self::Operator),
        }
    }
}

impl From<RoleName> for v1::Role {
    fn from(role: RoleName) -> Self {
        match role {
            RoleName::Viewer => Self::Viewer,
            RoleName::Developer => Self::Developer,
            RoleName::Admin => Self::Admin,
            RoleName::Operator => Self::Operator,
        }
    }
}

/// A role in one namespace, or `operator` in the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Grant {
    /// The namespace's bare name; left out for `operator`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[a-z](-?[a-z0-9])*$", max_length = 22)]
    pub(crate) namespace: Option<String>,
    /// The role.
    pub(crate) role: RoleName,
}

impl Grant {
    /// The grant of a message; nothing where its role is none.
    pub(crate) fn from_wire(wire: &v1::RoleGrant) -> Option<Self> {
        let namespace = (!wire.namespace.is_empty()).then(|| wire.namespace.clone());
        RoleName::from_wire(wire.role()).map(|role| Self { namespace, role })
    }
}

impl From<Grant> for v1::RoleGrant {
    fn from(grant: Grant) -> Self {
        Self { namespace: grant.namespace.unwrap_or_default(), role: v1::Role::from(grant.role).into() }
    }
}

/// Who the caller's token names.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Identity {
    /// The token's subject.
    pub(crate) subject: String,
    /// The token's issuer.
    pub(crate) issuer: String,
    /// What it grants.
    pub(crate) grants: Vec<Grant>,
    /// When it ends.
    pub(crate) expire_time: Option<Time>,
    /// When it was issued; null where it does not say.
    pub(crate) issue_time: Option<Time>,
    /// Its id, by which the audit log names it; null where it has none.
    pub(crate) token_id: Option<String>,
    /// The address from which this request came, as far as the gateway sees it.
    pub(crate) address: String,
}

impl From<v1::GetIdentityResponse> for Identity {
    fn from(wire: v1::GetIdentityResponse) -> Self {
        Self {
            grants: wire.grants.iter().filter_map(Grant::from_wire).collect(),
            subject: wire.subject,
            issuer: wire.issuer,
            expire_time: wire.expire_time.map(Time::from),
            issue_time: wire.issue_time.map(Time::from),
            token_id: Some(wire.token_id).filter(|id| !id.is_empty()),
            address: wire.address,
        }
    }
}

/// A fresh token.
#[derive(Clone, Serialize, ToSchema)]
pub(crate) struct NewToken {
    /// The JWT.
    pub(crate) token: String,
    /// When it ends.
    pub(crate) expire_time: Option<Time>,
}

impl std::fmt::Debug for NewToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewToken").field("expire_time", &self.expire_time).finish_non_exhaustive()
    }
}

impl From<v1::CreateTokenResponse> for NewToken {
    fn from(wire: v1::CreateTokenResponse) -> Self {
        Self { token: wire.token, expire_time: wire.expire_time.map(Time::from) }
    }
}

impl From<v1::CreateJoinTokenResponse> for NewToken {
    fn from(wire: v1::CreateJoinTokenResponse) -> Self {
        Self { token: wire.token, expire_time: wire.expire_time.map(Time::from) }
    }
}

/// A key with which callers reach a namespace's private functions.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub(crate) struct Key {
    /// `namespaces/{namespace}/keys/{key}`.
    pub(crate) name: String,
    /// The key's bare id.
    pub(crate) key: String,
    /// For people.
    pub(crate) display_name: String,
    /// The functions it may call; empty means all of the namespace.
    pub(crate) functions: Vec<String>,
    /// When it was made.
    pub(crate) create_time: Option<Time>,
    /// When it ends; null means never.
    pub(crate) expire_time: Option<Time>,
    /// When it was revoked; null while it is valid.
    pub(crate) revoke_time: Option<Time>,
    /// Who made it.
    pub(crate) creator: String,
    /// The public beginning of the secret.
    pub(crate) prefix: String,
    /// The bare name of the plan that it is under; empty means none.
    pub(crate) plan: String,
    /// When the secret ends or ended that it had before its newest; null where there is none.
    pub(crate) old_secret_expire_time: Option<Time>,
}

impl From<v1::Key> for Key {
    fn from(wire: v1::Key) -> Self {
        Self {
            key: id_in(&wire.name, "keys").to_owned(),
            name: wire.name,
            display_name: wire.display_name,
            functions: wire.functions,
            create_time: wire.create_time.map(Time::from),
            expire_time: wire.expire_time.map(Time::from),
            revoke_time: wire.revoke_time.map(Time::from),
            creator: wire.creator,
            prefix: wire.prefix,
            plan: wire.plan,
            old_secret_expire_time: wire.old_secret_expire_time.map(Time::from),
        }
    }
}

/// A fresh key.
#[derive(Clone, Serialize, ToSchema)]
pub(crate) struct NewKey {
    /// The key.
    pub(crate) key: Key,
    /// What callers send. It is shown once.
    pub(crate) secret: String,
}

impl std::fmt::Debug for NewKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewKey").field("key", &self.key).finish_non_exhaustive()
    }
}

impl From<v1::CreateKeyResponse> for NewKey {
    fn from(wire: v1::CreateKeyResponse) -> Self {
        Self { key: wire.key.unwrap_or_default().into(), secret: wire.secret }
    }
}

impl From<v1::RotateKeyResponse> for NewKey {
    fn from(wire: v1::RotateKeyResponse) -> Self {
        Self { key: wire.key.unwrap_or_default().into(), secret: wire.secret }
    }
}

/// A page of keys, the newest first.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct KeyList {
    /// The page.
    pub(crate) keys: Vec<Key>,
    /// Empty on the last page.
    pub(crate) next_page_token: String,
}

impl From<v1::ListKeysResponse> for KeyList {
    fn from(wire: v1::ListKeysResponse) -> Self {
        Self { keys: wire.keys.into_iter().map(Key::from).collect(), next_page_token: wire.next_page_token }
    }
}
