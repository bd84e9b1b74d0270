//! What the scheduler remembers, as values that have been checked: the store reads and writes them, the rpc modules turn
//! them into messages. No generated type and no SQL is in here.

mod certificate;
mod claim;
mod division;
mod rollout;
mod usage;
mod webhook;

use std::time::{Duration, SystemTime};

use dunlin_proto::{
    ids::{Digest, FunctionName, FunctionUid, Namespace, PlanId, RolloutId, VersionKey, VersionNumber},
    model::{Quota, Rate, Retention, Sticky, VersionSpec},
    names::{DomainRef, FunctionRef, KeyId, PlanName, RouteName, VersionName},
    route::RouteSpec,
};
use serde::{Deserialize, Serialize};

pub(crate) use certificate::{CertificateRecord, DomainTls, Issued};
pub(crate) use claim::{ClaimRecord, Held, ProofKind};
pub(crate) use division::{AliasRecord, Share, full, newest, text, with_canary};
pub(crate) use rollout::{RolloutPart, RolloutRecord, RolloutState};
pub(crate) use usage::{Amounts, Grouping, HOUR, ReportId, UsageDelta, UsageSum, hour_of};
pub(crate) use webhook::{Attempt, DeliveryRecord, DeliveryState, DueDelivery, WebhookRecord, WebhookStatus};

/// A moment as the database keeps it: microseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Time(pub(crate) i64);

impl Time {
    /// The wall clock. Only callers at the edge of a decision read it.
    pub(crate) fn now() -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }

    /// The moment so much later.
    pub(crate) fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }

    /// The same moment as the system's clock has it.
    pub(crate) fn wall(self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_micros(u64::try_from(self.0).unwrap_or_default())
    }
}

impl std::fmt::Display for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        humantime::format_rfc3339_seconds(self.wall()).fmt(f)
    }
}

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamespaceRecord {
    /// Unique in the cluster.
    pub(crate) name: Namespace,
    /// For people; 1,024 bytes at most.
    pub(crate) description: String,
    /// When it was made.
    pub(crate) create_time: Time,
    /// Invocations of all its functions at once in the whole cluster.
    pub(crate) max_concurrency: Option<u32>,
    /// Calls of all its functions in a time in the whole cluster.
    pub(crate) rate: Option<Rate>,
    /// Calls of all its functions in a day or month in the whole cluster.
    pub(crate) quota: Option<Quota>,
    /// What is kept of its records and logs, where that is its own.
    pub(crate) retention: Retention,
}

/// A function without its versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FunctionRecord {
    /// Another one after deletion and making again.
    pub(crate) uid: FunctionUid,
    /// Whose it is.
    pub(crate) namespace: Namespace,
    /// Unique in its namespace.
    pub(crate) name: FunctionName,
    /// For people; 1,024 bytes at most.
    pub(crate) description: String,
    /// Whether anybody may call it.
    pub(crate) public: bool,
    /// Whether its automatic addresses are served although routes name it.
    pub(crate) direct: bool,
    /// Whether nobody may call it for now.
    pub(crate) disabled: bool,
    /// How its calls divide; empty before the first version is ready.
    pub(crate) traffic: Vec<Share>,
    /// How callers are told apart where they divide.
    pub(crate) sticky: Sticky,
    /// Which division it is.
    pub(crate) division: i64,
    /// The rollout that began it, where one did: callers have the same places in all its divisions.
    pub(crate) seed: Option<RolloutId>,
    /// The versions that had all the traffic, the current one last.
    pub(crate) history: Vec<VersionNumber>,
    /// The highest version number, 0 before the first.
    pub(crate) latest_version: u32,
    /// Counts the changes.
    pub(crate) revision: i64,
    /// When it was made.
    pub(crate) create_time: Time,
    /// When it was last changed.
    pub(crate) update_time: Time,
}

/// How many versions a function's history remembers for rollbacks.
const HISTORY: usize = 100;

impl FunctionRecord {
    /// Its resource name.
    pub(crate) fn reference(&self) -> FunctionRef {
        FunctionRef { namespace: self.namespace.clone(), function: self.name.clone() }
    }

    /// What guards an update against a lost one; differs after deletion and making again.
    pub(crate) fn etag(&self) -> String {
        let uid = self.uid.uuid().simple().to_string();
        format!("{}-{}", self.revision, uid.get(24..).unwrap_or_default())
    }

    /// The version that has all the traffic.
    pub(crate) fn full(&self) -> Option<VersionNumber> {
        full(&self.traffic)
    }

    /// Divides the traffic anew, and remembers who has all of it.
    pub(crate) fn set_traffic(&mut self, traffic: Vec<Share>) {
        let begins = self.traffic.len() <= 1;
        self.division = division::division(&self.traffic, self.division, self.revision);
        self.seed = self.seed.filter(|_| !begins);
        self.traffic = traffic;
        if let Some(version) = self.full().filter(|version| self.history.last() != Some(version)) {
            self.history.push(version);
            let excess = self.history.len().saturating_sub(HISTORY);
            self.history.drain(..excess);
        }
    }

    /// The version to roll back to: the last one before the current that had all the traffic.
    pub(crate) fn previous(&self) -> Option<VersionNumber> {
        let current = self.full();
        self.history.iter().rev().find(|version| current != Some(**version)).copied()
    }

    /// Sends all traffic back to `version`. History ends with it then, so that repeated rollbacks go further back.
    pub(crate) fn roll_back(&mut self, version: VersionNumber) {
        if let Some(at) = self.history.iter().rposition(|earlier| *earlier == version) {
            self.history.truncate(at + 1);
        }
        self.set_traffic(vec![Share(version, 100)]);
    }
}

/// What kind of artifact a version runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Kind {
    /// Exports `wasi:http/incoming-handler@0.2`.
    #[serde(rename = "http-0.2")]
    Http02,
    /// Exports `wasi:http/handler@0.3`.
    #[serde(rename = "http-0.3")]
    Http03,
    /// A WASI command.
    #[serde(rename = "command")]
    Command,
}

impl Kind {
    /// All of them.
    const ALL: [Self; 3] = [Self::Http02, Self::Http03, Self::Command];

    /// As the internal API and the database spell it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Http02 => "http-0.2",
            Self::Http03 => "http-0.3",
            Self::Command => "command",
        }
    }

    /// The kind with this spelling.
    pub(crate) fn from_text(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// A version.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct VersionRecord {
    /// Whose it is, by name.
    pub(crate) function: FunctionRef,
    /// Whose it is, for ever.
    pub(crate) uid: FunctionUid,
    /// Counted from 1 within the function.
    pub(crate) number: VersionNumber,
    /// What it was made from.
    pub(crate) artifact: Digest,
    /// Size of that in bytes.
    pub(crate) artifact_size: u64,
    /// What the compiler found it to be.
    pub(crate) kind: Kind,
    /// Grants and limits.
    pub(crate) spec: VersionSpec,
    /// The interfaces that it imports, sorted.
    pub(crate) imports: Vec<String>,
    /// The subject of the token that made it.
    pub(crate) creator: String,
    /// Why it was made, in the developer's words.
    pub(crate) note: String,
    /// When it was made.
    pub(crate) create_time: Time,
    /// Size in bytes of the code that it was made with.
    pub(crate) compiled_size: u64,
    /// Whether all traffic moves to it once a worker has it.
    pub(crate) activation: bool,
    /// How many percent of it move; absent, all.
    pub(crate) canary: Option<u32>,
    /// Why its sandboxes can't be used again: nothing before that was tried, empty where they can.
    pub(crate) reuse_refusal: Option<String>,
    /// What it changes of its function once it has all calls; nothing any more afterwards.
    pub(crate) policy: Policy,
}

/// What a deploy says of its function beside the code. What is absent stays as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Policy {
    /// Whether anybody may call it.
    pub(crate) public: Option<bool>,
    /// Whether its automatic addresses are served although routes name it.
    pub(crate) direct: Option<bool>,
}

impl Policy {
    /// Changes a function.
    pub(crate) fn apply(self, function: &mut FunctionRecord) {
        function.public = self.public.unwrap_or(function.public);
        function.direct = self.direct.unwrap_or(function.direct);
    }
}

impl VersionRecord {
    /// Whether it asks for sandboxes to be used again, and nobody knows yet that they can't be.
    pub(crate) fn reuses(&self) -> bool {
        self.spec.reuse.is_some() && self.reuse_refusal.as_ref().is_none_or(String::is_empty)
    }

    /// Which version it is.
    pub(crate) fn key(&self) -> VersionKey {
        VersionKey { function: self.uid, number: self.number }
    }

    /// Its resource name.
    pub(crate) fn name(&self) -> VersionName {
        self.function.version(self.number)
    }
}

/// Code compiled from an artifact, as its seal describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Code {
    /// Its name everywhere.
    pub(crate) key: String,
    /// What it was compiled from.
    pub(crate) artifact: Digest,
    /// The engine that can map it.
    pub(crate) fingerprint: String,
    /// The digest of its bytes.
    pub(crate) body: Digest,
    /// The number of its bytes.
    pub(crate) size: u64,
    /// Ed25519 over the other fields.
    pub(crate) signature: Vec<u8>,
}

/// What the compiler found in an artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Compiled {
    /// The sealed description of the code.
    pub(crate) code: Code,
    /// What the artifact exports.
    pub(crate) kind: Kind,
    /// What it imports, sorted.
    pub(crate) imports: Vec<String>,
}

/// A caller's key without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyRecord {
    /// Its public part.
    pub(crate) id: KeyId,
    /// Whose functions it calls.
    pub(crate) namespace: Namespace,
    /// The digest of the whole key.
    pub(crate) secret: Digest,
    /// For people; 128 bytes at most.
    pub(crate) display_name: String,
    /// The functions that it may call; all of the namespace where empty.
    pub(crate) functions: Vec<FunctionName>,
    /// The subject of the token that made it.
    pub(crate) creator: String,
    /// When it was made.
    pub(crate) create_time: Time,
    /// When it ends by itself.
    pub(crate) expire_time: Option<Time>,
    /// When somebody ended it.
    pub(crate) revoke_time: Option<Time>,
    /// The plan of its namespace that it is under.
    pub(crate) plan: Option<PlanId>,
    /// The secret that it had before.
    pub(crate) old: Option<OldSecret>,
}

/// A secret that a newer one has replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OldSecret {
    /// The digest of the whole key.
    pub(crate) secret: Digest,
    /// Until when it is valid.
    pub(crate) expire_time: Time,
}

impl KeyRecord {
    /// Whether it is neither revoked nor expired.
    pub(crate) fn is_valid(&self, now: Time) -> bool {
        self.revoke_time.is_none() && self.expire_time.is_none_or(|end| end > now)
    }
}

/// What each key under it may use in the whole cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PlanRecord {
    /// Unique in its namespace.
    pub(crate) name: PlanName,
    /// Calls in a time.
    pub(crate) rate: Option<Rate>,
    /// Calls in a day or month.
    pub(crate) quota: Option<Quota>,
    /// Invocations at once.
    pub(crate) max_concurrency: Option<u32>,
    /// When it was made.
    pub(crate) create_time: Time,
}

/// Which requests become what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RouteRecord {
    /// Unique in its namespace.
    pub(crate) name: RouteName,
    /// For which requests it is, and what becomes of them.
    pub(crate) spec: RouteSpec,
    /// The subject of the token that put it.
    pub(crate) creator: String,
    /// When it was made.
    pub(crate) create_time: Time,
    /// When it was last put.
    pub(crate) update_time: Time,
}

/// A domain of a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DomainRecord {
    /// Whose it is, and which.
    pub(crate) name: DomainRef,
    /// The subject of the token that asked for it.
    pub(crate) creator: String,
    /// When it was given.
    pub(crate) create_time: Time,
    /// Whether the cluster gets a certificate for it.
    pub(crate) tls: DomainTls,
    /// How it was proved.
    pub(crate) proof: ProofKind,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(number: u32) -> VersionNumber {
        number.try_into().unwrap()
    }

    pub(crate) fn function() -> FunctionRecord {
        FunctionRecord {
            uid: FunctionUid::new(),
            namespace: "shop".parse().unwrap(),
            name: "checkout".parse().unwrap(),
            description: String::new(),
            public: false,
            direct: false,
            disabled: false,
            traffic: vec![],
            sticky: Sticky::default(),
            division: 0,
            seed: None,
            history: vec![],
            latest_version: 3,
            revision: 1,
            create_time: Time(1),
            update_time: Time(1),
        }
    }

    #[test]
    fn a_rollback_goes_to_the_last_version_before_that_had_everything() {
        let mut function = function();
        assert_eq!(function.previous(), None);
        for version in [1, 2, 3] {
            function.set_traffic(vec![Share(number(version), 100)]);
        }
        assert_eq!(function.previous(), Some(number(2)));
        function.roll_back(number(2));
        assert_eq!((function.full(), function.previous()), (Some(number(2)), Some(number(1))));
        function.roll_back(number(1));
        assert_eq!((function.full(), function.previous()), (Some(number(1)), None));
    }

    #[test]
    fn a_rollback_from_divided_traffic_goes_to_what_had_all_of_it() {
        let mut function = function();
        function.set_traffic(vec![Share(number(1), 100)]);
        function.set_traffic(vec![Share(number(1), 90), Share(number(2), 10)]);
        assert_eq!((function.full(), function.previous()), (None, Some(number(1))));
    }

    #[test]
    fn history_is_bounded() {
        let mut function = function();
        (1..500).for_each(|version| function.set_traffic(vec![Share(number(version), 100)]));
        assert_eq!((function.history.len(), function.previous()), (HISTORY, Some(number(498))));
    }

    #[test]
    fn an_etag_changes_with_revision_and_uid() {
        let (one, mut two) = (function(), function());
        assert_ne!(one.etag(), two.etag());
        let before = two.etag();
        two.revision += 1;
        assert_ne!(before, two.etag());
    }
}
