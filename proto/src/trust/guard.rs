//! Who may call an internal method: before each service stands a [`Require`], and where the methods of a service differ,
//! each of them asks [`permit`] once more. Whoever is refused is logged once with the cause.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use tonic::{Request, Status, service::Interceptor};

use super::{
    Trust,
    accept::ConnectionInfo,
    identity::{Peer, Role},
};
use crate::{ApiError, ErrorCode};

/// Who calls, once a [`Require`] has let it pass.
#[derive(Debug, Clone)]
pub enum Caller {
    /// Somebody on this machine who has the cluster secret, in whatever role.
    Secret,
    /// The process that its certificate names.
    Member(Arc<Peer>),
}

impl Caller {
    /// Whom the certificate names; nothing where a secret is shared.
    #[must_use]
    pub fn peer(&self) -> Option<&Peer> {
        match self {
            Self::Secret => None,
            Self::Member(peer) => Some(peer),
        }
    }

    /// Checks that it is called as it says.
    ///
    /// # Errors
    /// `PermissionDenied` where its certificate has another name.
    pub fn check_name(&self, said: &str) -> Result<(), ApiError> {
        match self.peer().filter(|peer| peer.identity.id != said) {
            None => Ok(()),
            Some(peer) => {
                let (role, id) = (peer.identity.role, &peer.identity.id);
                let message = format!("the {role} says that it is {said}, but its certificate is that of {id}");
                Err(ApiError::new(ErrorCode::PermissionDenied, message))
            }
        }
    }
}

/// Lets only processes of some roles call a service.
#[derive(Debug, Clone)]
pub struct Require {
    trust: Trust,
    roles: &'static [Role],
}

impl Trust {
    /// What a server puts before an internal service.
    #[must_use]
    pub fn require(&self, roles: &'static [Role]) -> Require {
        Require { trust: self.clone(), roles }
    }
}

/// Says who calls a service that strangers may call, too; its other methods ask [`permit`].
#[derive(Debug, Clone)]
pub struct Identify;

impl Interceptor for Identify {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let peer = request.extensions().get::<ConnectionInfo>().and_then(|info| info.peer.clone());
        if let Some(peer) = peer {
            request.extensions_mut().insert(Caller::Member(peer));
        }
        Ok(request)
    }
}

impl Interceptor for Require {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let caller = match &self.trust {
            Trust::Secret(secret) => secret.check(&request).map(|()| Caller::Secret),
            Trust::Certificate(member) => {
                let info = request.extensions().get::<ConnectionInfo>();
                let passed = admit(info.and_then(|info| info.peer.as_ref()), self.roles);
                if let Err(error) = &passed {
                    let from = info.map(|info| info.from.ip().to_string()).unwrap_or_default();
                    member.refusals().note(&from, &error.message);
                }
                passed.map(Caller::Member)
            }
        };
        request.extensions_mut().insert(caller?);
        Ok(request)
    }
}

fn admit(peer: Option<&Arc<Peer>>, roles: &[Role]) -> Result<Arc<Peer>, ApiError> {
    let Some(peer) = peer else {
        let error = ApiError::new(ErrorCode::Unauthenticated, "the caller has no certificate of this cluster");
        return Err(error.hint("join the cluster with a join token"));
    };
    if roles.contains(&peer.identity.role) {
        return Ok(peer.clone());
    }
    let (role, id) = (peer.identity.role, &peer.identity.id);
    Err(ApiError::new(ErrorCode::PermissionDenied, format!("the {role} {id} may not call this")))
}

/// Lets only processes of some roles call a method, for services whose methods differ; says who calls.
///
/// # Errors
/// `Unauthenticated` where nobody has proved anything, `PermissionDenied` for another role.
pub fn permit<T>(request: &Request<T>, roles: &[Role]) -> Result<Caller, ApiError> {
    let caller = request.extensions().get::<Caller>();
    let peer = match caller {
        Some(Caller::Secret) => return Ok(Caller::Secret),
        Some(Caller::Member(peer)) => Some(peer),
        None => None,
    };
    let admitted = admit(peer, roles).map(Caller::Member);
    admitted.inspect_err(|error| tracing::warn!(cause = error.message, "an internal call is refused"))
}

/// Refusals that have been logged already: somebody who tries again every second fills no log.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<HashSet<(String, String)>>);

/// Refusals that are remembered; beyond that, all are forgotten and logged again.
const REMEMBERED: usize = 1024;

impl Refusals {
    /// Logs a refusal, unless it has been logged.
    pub(super) fn note(&self, from: &str, cause: &str) {
        if self.is_new(from, cause) {
            tracing::warn!(from, cause, "an internal call is refused; further ones like it are not logged");
        }
    }

    fn is_new(&self, from: &str, cause: &str) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert((from.to_owned(), cause.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::{ids::Digest, trust::Identity};

    fn peer(role: Role) -> Arc<Peer> {
        let identity = Identity::new(role, "one").unwrap();
        let now = SystemTime::now();
        Arc::new(Peer { identity, key: Digest::of(b"key"), not_before: now, not_after: now })
    }

    #[test]
    fn t47_only_the_named_roles_pass() {
        let allowed: &[Role] = &[Role::Gateway, Role::Worker];
        for role in [Role::Scheduler, Role::Gateway, Role::Worker] {
            assert_eq!(admit(Some(&peer(role)), allowed).is_ok(), allowed.contains(&role), "{role}");
        }
        assert_eq!(admit(None, allowed).unwrap_err().code, ErrorCode::Unauthenticated);
        assert_eq!(admit(Some(&peer(Role::Scheduler)), allowed).unwrap_err().code, ErrorCode::PermissionDenied);
    }

    #[test]
    fn t47_a_method_permits_one_role_and_nobody_unknown() {
        let mut request = Request::new(());
        assert_eq!(permit(&request, &[Role::Worker]).unwrap_err().code, ErrorCode::Unauthenticated);
        request.extensions_mut().insert(Caller::Member(peer(Role::Gateway)));
        assert_eq!(permit(&request, &[Role::Worker]).unwrap_err().code, ErrorCode::PermissionDenied);
        let caller = permit(&request, &[Role::Gateway]).unwrap();
        assert!(caller.check_name("one").is_ok());
        assert_eq!(caller.check_name("two").unwrap_err().code, ErrorCode::PermissionDenied);
        assert!(Caller::Secret.check_name("two").is_ok());
    }

    #[test]
    fn t47_a_refusal_is_logged_once() {
        let refusals = Refusals::default();
        assert!(refusals.is_new("a", "x") && !refusals.is_new("a", "x") && refusals.is_new("b", "x"));
        for number in 0..REMEMBERED {
            refusals.is_new("a", &number.to_string());
        }
        assert!(refusals.0.lock().unwrap().len() <= REMEMBERED);
    }
}
