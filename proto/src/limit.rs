//! The name of a limit that holds in the whole cluster, as gateways and the scheduler say it to each other: whose it is.
//! How much it allows is not known here.

use std::{fmt, str::FromStr};

use crate::{
    ids::{FunctionUid, Namespace},
    names::KeyId,
};

/// Whose limit it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LimitId {
    /// A function's.
    Function(FunctionUid),
    /// A namespace's.
    Namespace(Namespace),
    /// A caller's key's.
    Key(KeyId),
    /// How many calls by a key run at once.
    KeyConcurrency(KeyId),
    /// How many calls of a function run at once.
    Concurrency(FunctionUid),
    /// Of what runs of a namespace at once, what a function has reserved.
    Reserved(FunctionUid),
    /// Of what runs of a namespace at once, what no function has reserved.
    Shared(Namespace),
}

/// A text that names no limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} names no limit: it must be function/, concurrency/ or reserved/ with a uid, namespace/ or shared/ with a name, or key/ or key-concurrency/ with an id"
)]
pub struct LimitIdError(String);

impl fmt::Display for LimitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Function(uid) => write!(f, "function/{uid}"),
            Self::Namespace(name) => write!(f, "namespace/{name}"),
            Self::Key(id) => write!(f, "key/{id}"),
            Self::KeyConcurrency(id) => write!(f, "key-concurrency/{id}"),
            Self::Concurrency(uid) => write!(f, "concurrency/{uid}"),
            Self::Reserved(uid) => write!(f, "reserved/{uid}"),
            Self::Shared(name) => write!(f, "shared/{name}"),
        }
    }
}

impl FromStr for LimitId {
    type Err = LimitIdError;

    fn from_str(text: &str) -> Result<Self, LimitIdError> {
        let id = match text.split_once('/') {
            Some(("function", uid)) => uid.parse().ok().map(Self::Function),
            Some(("namespace", name)) => name.parse().ok().map(Self::Namespace),
            Some(("key", id)) => id.parse().ok().map(Self::Key),
            Some(("key-concurrency", id)) => id.parse().ok().map(Self::KeyConcurrency),
            Some(("concurrency", uid)) => uid.parse().ok().map(Self::Concurrency),
            Some(("reserved", uid)) => uid.parse().ok().map(Self::Reserved),
            Some(("shared", name)) => name.parse().ok().map(Self::Shared),
            _ => None,
        };
        id.ok_or_else(|| LimitIdError(text.chars().take(80).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_has_one_spelling() {
        let uid = FunctionUid::new();
        let of_functions = ["function", "concurrency", "reserved"].map(|kind| format!("{kind}/{uid}"));
        let others = ["namespace/shop", "shared/shop", "key/abcdefghijkl", "key-concurrency/abcdefghijkl"]
            .map(ToOwned::to_owned);
        for text in of_functions.into_iter().chain(others) {
            assert_eq!(text.parse::<LimitId>().unwrap().to_string(), text);
        }
        for text in ["", "function/", "namespace/A", "key/abc", "shop", "plan/x"] {
            assert!(text.parse::<LimitId>().is_err(), "{text}");
        }
    }
}
