//! Which process has which name: the key that joined under it last. A join token is used up by the first key that shows it,
//! and a later process with the same name and another key is refused, unless a token says that it takes over.
//!
//! Kept in memory too, so that workers and gateways come back while the database is away.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use dunlin_proto::{
    ApiError, ErrorCode,
    ids::Digest,
    trust::{Caller, Identity},
};

use crate::{error::Error, model::Time, store::Store, tokens::JoinGrant};

/// The members.
#[derive(Debug)]
pub(crate) struct Members {
    store: Store,
    known: Mutex<BTreeMap<Identity, Digest>>,
}

impl Members {
    /// Reads what is remembered.
    pub(crate) async fn load(store: Store) -> Result<Self, Error> {
        let known = store.member_list().await?;
        Ok(Self { store, known: Mutex::new(known) })
    }

    /// Uses up a join token for a process with this key.
    ///
    /// # Errors
    /// The token has been used by another key, or the name belongs to another process.
    pub(crate) async fn admit(&self, grant: &JoinGrant, identity: &Identity, key: Digest) -> Result<(), Error> {
        self.store.member_join(grant, identity, key, Time::now()).await?;
        self.remember(identity, key);
        Ok(())
    }

    fn remember(&self, identity: &Identity, key: Digest) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(identity.clone(), key);
    }

    /// Checks that a caller is who joined last under its name. One that nobody remembers is taken at its certificate's
    /// word: an older copy of the database must not lock a cluster out.
    ///
    /// # Errors
    /// `PermissionDenied` where another key has taken the name over.
    pub(crate) fn check(&self, caller: &Caller) -> Result<(), ApiError> {
        let Some(peer) = caller.peer() else { return Ok(()) };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if *known.entry(peer.identity.clone()).or_insert(peer.key) == peer.key {
            return Ok(());
        }
        let Identity { role, id } = &peer.identity;
        let message = format!("another {role} has joined as {id} with another key");
        let hint = format!("join with a new token from: dunlin join-token create {role}");
        Err(ApiError::new(ErrorCode::PermissionDenied, message).hint(hint))
    }
}

/// The error for a token that another key has used.
pub(crate) fn used(grant: &JoinGrant) -> ApiError {
    ApiError::new(ErrorCode::Unauthenticated, "the join token has been used already").hint(grant.another())
}

/// The error for a name that another process has.
pub(crate) fn taken(identity: &Identity) -> ApiError {
    let Identity { role, id } = identity;
    let message = format!("another {role} has joined as {id}");
    let hint = format!(
        "choose another name with --name, or replace it with a token from: dunlin join-token create {role} --name {id}"
    );
    ApiError::new(ErrorCode::AlreadyExists, message).hint(hint)
}
