//! Who calls: JWTs of the cluster and of configured issuers, and callers' keys, each for administration or for calls,
//! never both. Credentials are known in this module and `edge`-ward only; nothing here knows gRPC or pages.
//!
//! Decided once: a valid credential of another namespace gets 403 where a function is called, since the 401 of a private
//! function says already that it is there, and 404 where resources are administered, since names there are secrets.

mod cache;
mod caller;
mod claims;
pub(crate) mod introduction;
mod jwks;
mod key;
mod metrics;
mod origin;
mod requirements;
mod sign_in;
mod takes;
mod token;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use dunlin_proto::{
    ApiError, ErrorCode,
    ids::{FunctionName, Namespace},
    names::{KeyId, NamespaceRef, VersionName},
};
use http::HeaderMap;
use serde::{Deserialize, Serialize};

pub(crate) use cache::Verified;
pub(crate) use introduction::Introduction;
pub(crate) use origin::Origin;
pub(crate) use sign_in::{Answer, Begun, Finished, Offer, PENDING_LIFETIME, SignIns, SignedIn};
pub(crate) use takes::Takes;

use crate::{
    config::OidcConfig,
    limits::{CallerSlots, Plan},
    routes::RouteTable,
};

/// What a token lets its bearer do; a later one includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    /// Reads everything in a namespace.
    Viewer,
    /// Deploys, invokes, rolls back and deletes as well.
    Developer,
    /// Manages keys and tokens of the namespace as well.
    Admin,
    /// Everything in the cluster.
    Operator,
}

/// A role in one namespace, or `operator` in the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Grant {
    /// Where; nowhere in particular for `operator`.
    pub(crate) namespace: Option<Namespace>,
    /// What.
    pub(crate) role: Role,
}

/// A person or tool that administers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Principal {
    /// Whom the token names.
    pub(crate) subject: String,
    /// Who issued it: `dunlin`, or an issuer's URL.
    pub(crate) issuer: String,
    /// When it ends.
    pub(crate) expires: SystemTime,
    /// When it was issued, where it says so.
    pub(crate) issued: Option<SystemTime>,
    /// What it grants.
    pub(crate) grants: Vec<Grant>,
    /// Its id; empty where it has none.
    pub(crate) token_id: String,
    /// Where the request comes from that it came with.
    pub(crate) origin: Origin,
}

impl Principal {
    /// The role in a namespace, if there is one.
    pub(crate) fn role_in(&self, namespace: &Namespace) -> Option<Role> {
        let here = |grant: &&Grant| grant.role == Role::Operator || grant.namespace.as_ref() == Some(namespace);
        self.grants.iter().filter(here).map(|grant| grant.role).max()
    }

    /// Whether everything in the cluster is allowed.
    pub(crate) fn is_operator(&self) -> bool {
        self.grants.iter().any(|grant| grant.role == Role::Operator)
    }

    /// Requires a role in a namespace.
    ///
    /// # Errors
    /// `NotFound` where there is no role at all, as if the namespace were not there; `PermissionDenied` for too small a one.
    pub(crate) fn require(&self, namespace: &Namespace, role: Role) -> Result<(), ApiError> {
        let name = NamespaceRef { namespace: namespace.clone() };
        match self.role_in(namespace) {
            None => Err(ApiError::not_found(name).hint("check the name, or ask for a token with a role in it")),
            Some(has) if has < role => {
                let message = format!("the role {role} in {name} is needed; the token has {has}");
                Err(ApiError::new(ErrorCode::PermissionDenied, message))
            }
            Some(_) => Ok(()),
        }
    }

    /// Requires the role `operator`.
    ///
    /// # Errors
    /// `PermissionDenied`.
    pub(crate) fn require_operator(&self) -> Result<(), ApiError> {
        let denied = || ApiError::new(ErrorCode::PermissionDenied, "the role operator is needed");
        self.is_operator().then_some(()).ok_or_else(denied)
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Viewer => "viewer",
            Self::Developer => "developer",
            Self::Admin => "admin",
            Self::Operator => "operator",
        })
    }
}

/// Who calls a private function, what it may use, and what the function gets to know.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// How it proved itself.
    pub(crate) identity: CallerIdentity,
    /// The plan that it is under.
    pub(crate) plan: Option<Arc<Plan>>,
    /// What the function gets to know.
    pub(crate) introduction: Introduction,
}

impl Caller {
    /// Who it is, what the function gets to know of it, and what its key may have at once.
    pub(crate) fn apart(self) -> (CallerIdentity, Introduction, Option<Arc<CallerSlots>>) {
        (self.identity, self.introduction, self.plan.and_then(|plan| plan.at_once.clone()))
    }
}

/// How a caller proved itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CallerIdentity {
    /// By a key of the namespace.
    Key(KeyId),
    /// By a token for the namespace.
    Token(Arc<Verified>),
    /// By the word of a route's authorizer.
    Authorized {
        /// The function.
        by: FunctionName,
        /// Whom it took the caller for; nothing where it does not say.
        subject: Option<String>,
    },
}

/// The longest a verified token is remembered without being verified again.
pub(crate) const REMEMBERED: Duration = Duration::from_secs(60);

/// Checks credentials. Clones share what has been verified and fetched.
#[derive(Debug, Clone)]
pub(crate) struct Verifier(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    table: RouteTable,
    issuers: Vec<jwks::Issuer>,
    cache: cache::TokenCache,
}

impl Verifier {
    /// A verifier that trusts the cluster's own keys, as the table has them, and these issuers.
    pub(crate) fn new(table: RouteTable, issuers: &[OidcConfig]) -> anyhow::Result<Self> {
        let issuers = issuers.iter().map(jwks::Issuer::new).collect::<anyhow::Result<_>>()?;
        Ok(Self(Arc::new(Inner { table, issuers, cache: cache::TokenCache::default() })))
    }

    /// Checks a token for the administration listener.
    ///
    /// # Errors
    /// `Unauthenticated`, with what is wrong with the token; `Unavailable` where its issuer can't be asked for its keys.
    pub(crate) async fn administration(&self, token: &str) -> Result<Arc<Principal>, ApiError> {
        self.0.administration(token, SystemTime::now()).await
    }

    /// Checks an ID token that was asked for.
    ///
    /// # Errors
    /// `Unauthenticated`, with what is wrong with the token; `Unavailable` where its issuer can't be asked for its keys.
    async fn id_token(&self, token: &str, asked: &sign_in::Asked<'_>) -> Result<Arc<Principal>, ApiError> {
        let verified = self.0.by_administration(token, SystemTime::now()).await?;
        asked.check(&verified.principal.issuer, &verified.claims)?;
        Ok(verified.principal.clone())
    }

    /// Checks the credential of a call of a private function.
    ///
    /// # Errors
    /// `Unauthenticated` where there is none that is valid, `PermissionDenied` where it is for something else, `Unavailable`
    /// where its issuer can't be asked for its keys.
    pub(crate) async fn caller(
        &self,
        headers: &HeaderMap,
        called: (&Namespace, &FunctionName),
        takes: &Takes,
    ) -> Result<Caller, ApiError> {
        self.0.caller(headers, called, takes, SystemTime::now()).await
    }

    /// Checks the token of a developer who calls a version by its own address.
    ///
    /// # Errors
    /// `Unauthenticated` where there is none that is valid, `NotFound`, `PermissionDenied` and `Unavailable` as administration
    /// has them.
    pub(crate) async fn developer(&self, headers: &HeaderMap, namespace: &Namespace) -> Result<Caller, ApiError> {
        self.0.developer(headers, namespace, SystemTime::now()).await
    }

    /// Checks the token of a link to a version.
    ///
    /// # Errors
    /// `Unauthenticated`, with what is wrong with it; `PermissionDenied` where it is for another version.
    pub(crate) fn link(&self, token: &str, version: &VersionName) -> Result<Caller, ApiError> {
        self.0.link(token, version, SystemTime::now())
    }

    /// Forgets verified tokens: the keys that verified them have changed.
    pub(crate) fn forget(&self) {
        self.0.cache.forget();
    }
}
