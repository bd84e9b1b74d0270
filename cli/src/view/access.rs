//! Keys, and who one is, as shown.

use std::time::SystemTime;

use dunlin_proto::v1;
use serde::Serialize;

use super::{Time, age, or_dash, part};
use crate::output::Column;

/// A key with which callers reach private functions.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct KeyView {
    pub(crate) resource: String,
    pub(crate) namespace: String,
    pub(crate) id: String,
    pub(crate) display_name: String,
    pub(crate) functions: Vec<String>,
    pub(crate) prefix: String,
    pub(crate) plan: String,
    pub(crate) state: &'static str,
    pub(crate) creator: String,
    pub(crate) create_time: Option<Time>,
    pub(crate) expire_time: Option<Time>,
    pub(crate) revoke_time: Option<Time>,
    pub(crate) old_secret_expire_time: Option<Time>,
}

impl From<v1::Key> for KeyView {
    fn from(key: v1::Key) -> Self {
        let (expire, revoke) = (Time::from_wire(key.expire_time), Time::from_wire(key.revoke_time));
        let state = match (revoke, expire) {
            (Some(_), _) => "revoked",
            (None, Some(Time(end))) if end <= SystemTime::now() => "expired",
            _ => "valid",
        };
        Self {
            namespace: part(&key.name, "namespaces"),
            id: part(&key.name, "keys"),
            resource: key.name,
            display_name: key.display_name,
            functions: key.functions,
            prefix: key.prefix,
            plan: key.plan,
            state,
            creator: key.creator,
            create_time: Time::from_wire(key.create_time),
            expire_time: expire,
            revoke_time: revoke,
            old_secret_expire_time: Time::from_wire(key.old_secret_expire_time),
        }
    }
}

impl KeyView {
    /// Until when the secret before its newest is valid, if it still is.
    pub(crate) fn old_until(&self) -> Option<Time> {
        self.old_secret_expire_time.filter(|Time(end)| self.state == "valid" && *end > SystemTime::now())
    }
}

/// The columns of a list of keys.
pub(crate) const KEYS: &[Column<KeyView>] = &[
    Column::new("ID", |key| key.id.clone()),
    Column::new("NAME", |key| or_dash(&key.display_name)),
    Column::new("STATE", |key| match key.old_until() {
        Some(end) => format!("{}, old secret until {}", key.state, end.text()),
        None => key.state.to_owned(),
    }),
    Column::new("FUNCTIONS", |key| match key.functions.as_slice() {
        [] => "all".to_owned(),
        functions => functions.join(", "),
    }),
    Column::new("PLAN", |key| or_dash(&key.plan)),
    Column::new("CREATED", |key| age(key.create_time)),
    Column::new("EXPIRES", |key| key.expire_time.map_or_else(|| "never".to_owned(), Time::text)),
    Column::wide("PREFIX", |key| key.prefix.clone()),
    Column::wide("BY", |key| or_dash(&key.creator)),
];

/// Who a token names and what it grants.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct IdentityView {
    pub(crate) subject: String,
    pub(crate) issuer: String,
    pub(crate) grants: Vec<GrantView>,
    pub(crate) expire_time: Option<Time>,
    pub(crate) issue_time: Option<Time>,
    pub(crate) token_id: Option<String>,
    pub(crate) address: String,
}

/// A role in a namespace; the operator's has none.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct GrantView {
    pub(crate) namespace: Option<String>,
    pub(crate) role: &'static str,
    /// What that lets somebody do, for people.
    #[serde(skip)]
    pub(crate) allows: &'static str,
}

impl From<v1::GetIdentityResponse> for IdentityView {
    fn from(identity: v1::GetIdentityResponse) -> Self {
        let grant = |grant: v1::RoleGrant| GrantView {
            role: grant.role().name(),
            allows: grant.role().allows(),
            namespace: Some(grant.namespace).filter(|namespace| !namespace.is_empty()),
        };
        Self {
            subject: identity.subject,
            issuer: identity.issuer,
            grants: identity.grants.into_iter().map(grant).collect(),
            expire_time: Time::from_wire(identity.expire_time),
            issue_time: Time::from_wire(identity.issue_time),
            token_id: Some(identity.token_id).filter(|id| !id.is_empty()),
            address: identity.address,
        }
    }
}

impl IdentityView {
    /// What it grants, in one line.
    pub(crate) fn grants_text(&self) -> String {
        let grants = self.grants.iter().map(|grant| match &grant.namespace {
            Some(namespace) => format!("{} in {namespace}", grant.role),
            None => grant.role.to_owned(),
        });
        grants.collect::<Vec<_>>().join(", ")
    }

    /// What it lets its bearer do, role by role.
    pub(crate) fn allows(&self) -> Vec<String> {
        let one = |grant: &GrantView| match &grant.namespace {
            Some(namespace) => format!("in {namespace}: {}", grant.allows),
            None => grant.allows.to_owned(),
        };
        self.grants.iter().map(one).collect()
    }
}
