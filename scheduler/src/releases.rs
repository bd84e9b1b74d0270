//! What a release is: everything of a namespace that decides what its callers get, and how two of them differ.
//!
//! Pure. Secrets, keys, plans, limits that operators set, domains and data are no part of it: going back to a release leaves them.

mod diff;

use std::collections::BTreeMap;

use dunlin_proto::{
    ids::{AliasId, FunctionName, FunctionUid, Namespace, RouteId},
    model::Sticky,
    route::RouteSpec,
};
use serde::{Deserialize, Serialize};

use crate::model::{AliasRecord, FunctionRecord, Share, Time};

pub(crate) use diff::{Described, Difference, between, of_version};

/// A release without what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReleaseRecord {
    /// Whose it is.
    pub(crate) namespace: Namespace,
    /// Counted from 1 within the namespace.
    pub(crate) number: u32,
    /// What was done, in words.
    pub(crate) cause: String,
    /// Who did it; empty where nobody asked for it.
    pub(crate) actor: String,
    /// When.
    pub(crate) create_time: Time,
}

/// What a release holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Contents {
    /// The functions that somebody may call.
    pub(crate) functions: BTreeMap<FunctionName, FunctionState>,
    /// The routes.
    pub(crate) routes: BTreeMap<RouteId, RouteSpec>,
}

/// What of a function callers notice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FunctionState {
    /// Tells it from a later function of the same name.
    pub(crate) uid: FunctionUid,
    /// Whether anybody may call it.
    pub(crate) public: bool,
    /// Whether its automatic addresses are served although routes name it.
    pub(crate) direct: bool,
    /// Whether nobody may call it.
    pub(crate) disabled: bool,
    /// How its own calls divide, and how callers are told apart.
    #[serde(flatten)]
    pub(crate) live: Division,
    /// The same for its other aliases.
    pub(crate) aliases: BTreeMap<AliasId, Division>,
}

/// How calls divide over versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Division {
    /// How many of them each version gets.
    pub(crate) shares: Vec<Share>,
    /// How callers are told apart.
    pub(crate) sticky: Sticky,
}

impl FunctionState {
    /// What callers notice of a function with these aliases; nothing before one of them has calls.
    pub(crate) fn of(function: &FunctionRecord, aliases: &[AliasRecord]) -> Option<Self> {
        if function.traffic.is_empty() && aliases.is_empty() {
            return None;
        }
        let division = |alias: &AliasRecord| Division { shares: alias.shares.clone(), sticky: alias.sticky.clone() };
        Some(Self {
            uid: function.uid,
            public: function.public,
            direct: function.direct,
            disabled: function.disabled,
            live: Division { shares: function.traffic.clone(), sticky: function.sticky.clone() },
            aliases: aliases.iter().map(|alias| (alias.name.clone(), division(alias))).collect(),
        })
    }

    /// All divisions, its own first.
    pub(crate) fn divisions(&self) -> impl Iterator<Item = &Division> {
        std::iter::once(&self.live).chain(self.aliases.values())
    }
}

/// What has another value after a change than before it; nothing for what is gone.
pub(crate) fn changed<'a, K: Ord, V: PartialEq>(
    before: &'a BTreeMap<K, V>,
    after: &'a BTreeMap<K, V>,
) -> Vec<(&'a K, Option<&'a V>)> {
    let gone = before.keys().filter(|name| !after.contains_key(*name)).map(|name| (name, None));
    let other = after.iter().filter(|(name, value)| before.get(*name) != Some(*value));
    gone.chain(other.map(|(name, value)| (name, Some(value)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_is_new_gone_or_another() {
        let map = |pairs: &[(&'static str, u32)]| pairs.iter().copied().collect::<BTreeMap<_, _>>();
        let (before, after) = (map(&[("a", 1), ("b", 2), ("c", 3)]), map(&[("a", 1), ("b", 9), ("d", 4)]));
        assert_eq!(changed(&before, &after), [(&"c", None), (&"b", Some(&9)), (&"d", Some(&4))]);
        assert!(changed(&before, &before).is_empty());
    }

    #[test]
    fn what_is_kept_reads_as_it_was_written() {
        let text = r#"{"uid":"0198c5b2-7a43-7000-8000-3f1f6d1c1a2b","public":true,"direct":false,"disabled":false,
            "shares":[[7,90],[8,10]],"sticky":{"cookie":true},"aliases":{"beta":{"shares":[[8,100]],"sticky":{}}}}"#;
        let state: FunctionState = serde_json::from_str(text).unwrap();
        assert_eq!((state.live.shares.len(), state.divisions().count()), (2, 2));
        let again = serde_json::to_string(&state).unwrap();
        assert_eq!(serde_json::from_str::<FunctionState>(&again).unwrap(), state);
    }
}
