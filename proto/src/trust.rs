//! How the cluster's processes know each other: by certificates of the cluster's own authority, or, where all of them are
//! on one machine, by a secret that they share.
//!
//! [`Trust`] is the one value that call sites have: it opens connections to processes of a role, takes connections, and
//! says before each internal method who may call it. Who issues certificates is not known here (the scheduler does), nor
//! are users and callers of functions.

mod accept;
mod connect;
mod enrol;
mod guard;
mod identity;
mod join;
mod member;
mod renew;
mod verify;

use std::{io, net::SocketAddr};

use crate::{
    ApiError,
    metadata::{ClusterSecret, SecretError},
    vault::VaultError,
};

pub use self::{
    accept::{Connection, ConnectionInfo},
    connect::Link,
    enrol::Enrolment,
    guard::{Caller, Identify, Require, permit},
    identity::{Identity, Peer, Role},
    join::{JOIN_AUDIENCE, JoinToken, join},
    member::{Home, Member},
    verify::Expected,
};

/// How a process proves itself to the others, and how it knows them. Clones share everything.
#[derive(Debug, Clone)]
pub enum Trust {
    /// Everybody on this machine who has the secret; for loopback only. What role a caller has is not known.
    Secret(ClusterSecret),
    /// Everybody who has a certificate of the cluster's authority, in the role and by the name that it says.
    Certificate(Member),
}

impl Trust {
    /// Whom the certificate names; nothing where a secret is shared.
    #[must_use]
    pub fn identity(&self) -> Option<&Identity> {
        match self {
            Self::Secret(_) => None,
            Self::Certificate(member) => Some(member.identity()),
        }
    }

    /// Checks that an internal listener may have this address, which `flag` has set.
    ///
    /// # Errors
    /// It is beyond loopback, and there is no certificate.
    pub fn check_listener(&self, flag: &'static str, address: SocketAddr) -> Result<(), TrustError> {
        match self {
            Self::Secret(_) if !address.ip().is_loopback() => Err(TrustError::Beyond { flag, address }),
            Self::Secret(_) | Self::Certificate(_) => Ok(()),
        }
    }
}

/// Why a process can't become, or be, one of the cluster's.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The cluster secret can't be used.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// Neither certificate nor secret.
    #[error("this process has no certificate in {folder}, and no cluster secret: {secret}")]
    Nothing {
        /// Where a certificate would be.
        folder: String,
        /// What is wrong with the secret, and what to do.
        secret: SecretError,
    },
    /// A listener that needs certificates.
    #[error(
        "{flag} {address} is beyond loopback, where internal listeners need mutual TLS; join the cluster with a join token, \
         or use a loopback address such as 127.0.0.1:{}",
        address.port()
    )]
    Beyond {
        /// The flag that set it.
        flag: &'static str,
        /// The address.
        address: SocketAddr,
    },
    /// An address of the scheduler that can't be used.
    #[error("scheduler {url:?} {cause}")]
    Address {
        /// What was configured.
        url: String,
        /// What is wrong with it, and what would be right.
        cause: &'static str,
    },
    /// A certificate that is not one of a cluster's process.
    #[error("the certificate is not that of a process of a cluster: {0}")]
    Certificate(String),
    /// Certificate or key can't be used.
    #[error("certificate and key can't be used")]
    Tls(#[from] rustls::Error),
    /// A key can't be made.
    #[error("a key or signing request can't be made")]
    Key(#[from] rcgen::Error),
    /// A key can't be encrypted or read back.
    #[error(
        "the process's private key can't be used; put back its storage key, or remove the certificate and join again"
    )]
    Vault(#[from] VaultError),
    /// A file can't be read or written.
    #[error("cannot use {path}")]
    File {
        /// Which.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// A file that others could read.
    #[error("{path} must have mode 0600 but has {mode:04o}; run: chmod 600 {path}")]
    Mode {
        /// Which.
        path: String,
        /// Its mode.
        mode: u32,
    },
    /// A certificate that nobody accepts any more.
    #[error(
        "the certificate in {path} expired {ago} ago; make a new join token with: dunlin join-token create {role}, and join with it again"
    )]
    Expired {
        /// Where it is.
        path: String,
        /// How long ago.
        ago: humantime::FormattedDuration,
        /// The role to join in.
        role: Role,
    },
    /// The certificate is somebody else's.
    #[error(
        "the certificate in {path} is for {found}, but this is {wanted}; give it a data folder of its own with --data-dir, or remove {path} and join again"
    )]
    Other {
        /// Where it is.
        path: String,
        /// Whom it names.
        found: String,
        /// Who this is.
        wanted: String,
    },
    /// A text that is no join token for this process.
    #[error("{0}; make a new join token with: dunlin join-token create")]
    Token(String),
    /// The scheduler refuses.
    #[error("{}{}", .0.message, .0.hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default())]
    Refused(ApiError),
    /// Somebody else answers at the scheduler's address.
    #[error("at {url} is not the scheduler of the join token's cluster: {cause}")]
    Stranger {
        /// Where it should be.
        url: String,
        /// Who it is, as far as is known.
        cause: String,
    },
    /// The scheduler can't be reached.
    #[error("the scheduler at {url} can't be reached by TLS: {cause}")]
    Away {
        /// Where it should be.
        url: String,
        /// Why, as far as is known.
        cause: String,
    },
}

impl TrustError {
    /// Whether trying again may help.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Away { .. } => true,
            Self::Refused(error) => error.is_unavailable(),
            _ => false,
        }
    }

    fn file(path: &std::path::Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.display().to_string();
        move |source| Self::File { path, source }
    }
}

#[cfg(test)]
mod tests;
