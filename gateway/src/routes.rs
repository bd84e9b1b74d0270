//! What the gateway serves: an immutable table of functions, routes, keys and token keys, replaced whole by the snapshot.
//!
//! Neither a socket nor the scheduler is known here: `snapshot.rs` fills the table, `invoke.rs` and `auth.rs` read it.

pub(crate) mod heard;
pub(crate) mod host;
pub(crate) mod path;
pub(crate) mod router;
pub(crate) mod split;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use arc_swap::{ArcSwap, Guard};
use dunlin_proto::{
    ApiError, ErrorCode,
    ids::{AliasId, FunctionName, Namespace, VersionKey, VersionNumber},
    limit::LimitId,
    names::{FunctionRef, KeyId},
};
use imbl::OrdMap;
use tokio::time::Instant;

use crate::{
    dispatch::{outcome::Outcomes, throttle::Throttle},
    limits::{Bounded, CallerSlots, Limit, PeriodQuota, Plan},
    quota::Quota,
};
use heard::Heard;
use router::Router;
use split::Split;

/// When somebody may try again whose function is disabled: whoever disabled it will hardly enable it within a second.
const DISABLED: Duration = Duration::from_secs(60);

/// The newest table; clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct RouteTable(Arc<Newest>);

#[derive(Debug, Default)]
struct Newest {
    table: ArcSwap<Table>,
    /// When it came, in milliseconds since 1970.
    since: AtomicU64,
    heard: Heard,
}

impl RouteTable {
    /// The table as it is now; hold it only briefly.
    pub(crate) fn load(&self) -> Guard<Arc<Table>> {
        self.0.table.load()
    }

    /// Replaces the table.
    pub(crate) fn replace(&self, table: Table) {
        self.0.table.store(Arc::new(table));
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.0.since.store(u64::try_from(now.as_millis()).unwrap_or_default(), Ordering::Relaxed);
    }

    /// When the scheduler was last heard, and whether that is too long ago.
    pub(crate) fn heard(&self) -> &Heard {
        &self.0.heard
    }

    /// When the table came, since 1970; zero where none has.
    pub(crate) fn since(&self) -> Duration {
        Duration::from_millis(self.0.since.load(Ordering::Relaxed))
    }
}

/// Everything that a gateway needs to serve callers, at one version of the configuration.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    /// The configuration's version; 0 where there is none yet.
    pub(crate) version: u64,
    pub(crate) functions: Arc<Functions>,
    /// Callers' keys.
    pub(crate) keys: Keys,
    /// The Ed25519 public keys of the cluster's own tokens, by `kid`.
    pub(crate) token_keys: HashMap<String, Vec<u8>>,
    /// Every namespace, with functions or without.
    pub(crate) namespaces: Arc<HashSet<Namespace>>,
    /// The domains and routes of all of them.
    pub(crate) router: Arc<Router>,
    /// The limits of calls in a time, of functions, namespaces and keys.
    pub(crate) limits: OrdMap<LimitId, Arc<Limit>>,
    /// The quotas of functions and namespaces.
    pub(crate) quotas: Arc<BTreeMap<LimitId, Arc<PeriodQuota>>>,
    /// The limits of calls at once, of functions and namespaces.
    pub(crate) slots: Arc<BTreeMap<LimitId, Bounded>>,
}

/// By namespace, then by function.
pub(crate) type Functions = HashMap<String, HashMap<String, Arc<Function>>>;

/// Callers' keys: there can be very many, so that tables share those which did not change.
#[derive(Debug, Clone, Default)]
pub(crate) struct Keys {
    /// By their public part.
    pub(crate) by_id: OrdMap<String, Arc<Key>>,
    /// Their limits of calls in a time.
    pub(crate) limits: OrdMap<LimitId, Arc<Limit>>,
    /// Their quotas.
    pub(crate) quotas: OrdMap<KeyId, Arc<PeriodQuota>>,
    /// Their limits of calls at once, and those that are lifted for now under which something may run.
    pub(crate) at_once: OrdMap<KeyId, Arc<CallerSlots>>,
}

/// A function that can be called.
#[derive(Debug)]
pub(crate) struct Function {
    /// Namespace and name.
    pub(crate) name: FunctionRef,
    /// Whether anybody may call it.
    pub(crate) public: bool,
    /// Whether its automatic addresses are served: no route names it, or it is `direct`.
    pub(crate) automatic: bool,
    /// Whether nobody may call it for now.
    pub(crate) disabled: bool,
    /// How calls divide over versions.
    pub(crate) traffic: Arc<Split>,
    /// How they do by its other aliases.
    pub(crate) aliases: HashMap<String, Arc<Split>>,
    /// The versions that can be called, by their numbers.
    pub(crate) versions: BTreeMap<u32, Arc<Version>>,
    /// How many invocations it may have at once.
    pub(crate) quota: Quota,
}

/// A version that can be called.
#[derive(Debug)]
pub(crate) struct Version {
    /// Which.
    pub(crate) key: VersionKey,
    /// Wall time of an invocation.
    pub(crate) timeout: Duration,
    /// Body of a request in bytes.
    pub(crate) request_body_bytes: u64,
    /// Body of an answer in bytes.
    pub(crate) response_body_bytes: u64,
    /// Workers that hold it on standby; none where it has no traffic.
    pub(crate) standbys: usize,
    /// What is lost with its worker may run again.
    pub(crate) idempotent: bool,
    /// When it was made; nothing where an older scheduler does not say.
    pub(crate) made: Option<SystemTime>,
    /// What callers want of it now; survives changes of the configuration.
    pub(crate) demand: Arc<Demand>,
}

/// What callers want of a version.
#[derive(Debug, Default)]
pub(crate) struct Demand {
    /// Invocations that run.
    pub(crate) in_flight: AtomicU32,
    /// Invocations that wait for a placement.
    pub(crate) queued: AtomicU32,
    /// When a placement was last asked for on behalf of calls that run on standby workers.
    pub(crate) asked: Mutex<Option<Instant>>,
    throttle: Mutex<Throttle>,
    /// What its calls came to, where that is counted.
    pub(crate) outcomes: Outcomes,
}

impl Demand {
    /// What workers took and refused lately; hold it only briefly.
    pub(crate) fn throttle(&self) -> MutexGuard<'_, Throttle> {
        self.throttle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Invocations that run, and those that wait.
    pub(crate) fn now(&self) -> (u32, u32) {
        (self.in_flight.load(Ordering::Relaxed), self.queued.load(Ordering::Relaxed))
    }
}

/// A caller's key.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    /// The tenant that it belongs to.
    pub(crate) namespace: Namespace,
    /// SHA-256 of the whole secret.
    pub(crate) secret_sha256: [u8; 32],
    /// The functions that it may call; empty means all of the namespace.
    pub(crate) functions: Vec<FunctionName>,
    /// When it ends.
    pub(crate) expires: Option<SystemTime>,
    /// What it may use, where it is under a plan.
    pub(crate) plan: Option<Arc<Plan>>,
    /// SHA-256 of the secret that it had before, and when that one ends.
    pub(crate) old: Option<([u8; 32], SystemTime)>,
}

/// Puts functions where they are looked for.
pub(crate) fn by_name(functions: impl IntoIterator<Item = Function>) -> Functions {
    let mut named = Functions::new();
    for function in functions {
        let of_namespace = named.entry(function.name.namespace.to_string()).or_default();
        of_namespace.insert(function.name.function.to_string(), Arc::new(function));
    }
    named
}

impl Table {
    /// The function with this name.
    pub(crate) fn function(&self, namespace: &str, function: &str) -> Option<&Arc<Function>> {
        self.functions.get(namespace)?.get(function)
    }

    /// Every function, in no order.
    pub(crate) fn functions(&self) -> impl Iterator<Item = &Arc<Function>> {
        self.functions.values().flat_map(HashMap::values)
    }

    /// The caller's key with this public part.
    pub(crate) fn key(&self, id: &str) -> Option<&Key> {
        self.keys.by_id.get(id).map(|key| &**key)
    }

    /// Every quota.
    pub(crate) fn quotas(&self) -> impl Iterator<Item = &Arc<PeriodQuota>> {
        self.quotas.values().chain(self.keys.quotas.values())
    }

    /// Every limit of calls at once of which this gateway has a part or wants one.
    pub(crate) fn bounded(&self) -> impl Iterator<Item = &Bounded> {
        self.slots.values().chain(self.keys.at_once.values().filter_map(|own| own.seen()))
    }

    /// This gateway's part of a limit of calls at once; of a key's, from now on at the latest.
    pub(crate) fn bounded_by(&self, id: &LimitId) -> Option<&Bounded> {
        match id {
            LimitId::KeyConcurrency(key) => {
                self.keys.at_once.get(key).filter(|own| own.most().is_some()).map(|own| own.bounded())
            }
            _ => self.slots.get(id),
        }
    }

    /// Every version, in no order.
    pub(crate) fn versions(&self) -> impl Iterator<Item = &Arc<Version>> {
        self.functions().flat_map(|function| function.versions.values())
    }
}

impl Function {
    /// The version with this number.
    pub(crate) fn version(&self, number: VersionNumber) -> Option<&Arc<Version>> {
        self.versions.get(&number.get())
    }

    /// Refuses a call of a disabled function.
    ///
    /// # Errors
    /// `Unavailable`.
    pub(crate) fn check_enabled(&self) -> Result<(), ApiError> {
        if !self.disabled {
            return Ok(());
        }
        let FunctionRef { namespace, function } = &self.name;
        let error = ApiError::new(ErrorCode::Unavailable, format!("function {namespace}/{function} is disabled"));
        Err(error.hint("whoever owns it enables it with: dunlin function enable").retry_after(DISABLED))
    }

    /// How the calls of an alias divide; without one, those of the function itself.
    pub(crate) fn split(&self, alias: Option<&AliasId>) -> Option<&Arc<Split>> {
        match alias {
            Some(alias) if !alias.is_live() => self.aliases.get(alias.as_str()),
            _ => Some(&self.traffic),
        }
    }
}
