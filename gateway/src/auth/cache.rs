//! Verified tokens, remembered for a bounded time and number, so that a warm call does not pay for a signature. Tokens
//! that failed are remembered for a moment, so that repeating one costs little.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use dunlin_proto::{ApiError, ids::Digest};
use http::{HeaderName, HeaderValue};
use moka::{Expiry, sync::Cache};
use serde_json::{Map, Value};

use super::{Principal, REMEMBERED};
use crate::config::OidcPurpose;

/// The memory for verified tokens, in bytes, by an estimate.
const TOKEN_BYTES: u64 = 64 << 20;
/// What a verified token takes beside its claims, in bytes.
const OVERHEAD: usize = 512;
/// What a byte of claims as text takes once it is read.
const READ: usize = 4;
const MAX_FAILURES: u64 = 1_024;
/// Short, since a token may become valid, or its key known.
const FAILURE_REMEMBERED: Duration = Duration::from_secs(1);

/// A verified token: whom it names, and where it may call functions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verified {
    /// Who, until when, with which grants.
    pub(crate) principal: Arc<Principal>,
    /// The namespaces whose functions it may call.
    pub(super) callable: Vec<dunlin_proto::ids::Namespace>,
    /// What functions are told of whom it names.
    pub(super) handed_on: Arc<[(HeaderName, HeaderValue)]>,
    /// All that it says.
    pub(super) claims: Map<String, Value>,
}

/// What a token is remembered by: never the token itself.
pub(super) type TokenKey = (OidcPurpose, [u8; 32]);

pub(super) fn key(purpose: OidcPurpose, token: &str) -> TokenKey {
    (purpose, *Digest::of(token.as_bytes()).as_bytes())
}

#[derive(Debug, Clone)]
struct Entry {
    verified: Arc<Verified>,
    generation: u64,
    /// What it takes, in bytes.
    weight: u32,
}

#[derive(Debug)]
pub(super) struct TokenCache {
    tokens: Cache<TokenKey, Entry>,
    failures: Cache<TokenKey, ApiError>,
    /// Counts up when keys change: what an older one verified is worth nothing.
    generation: AtomicU64,
}

/// An entry lives until its token ends, a minute at the most.
struct UntilExpiry;

impl Expiry<TokenKey, Entry> for UntilExpiry {
    #[allow(clippy::disallowed_types, reason = "the trait's signature; the value is not looked at")]
    fn expire_after_create(&self, _: &TokenKey, entry: &Entry, _: std::time::Instant) -> Option<Duration> {
        let left = entry.verified.principal.expires.duration_since(SystemTime::now()).unwrap_or_default();
        Some(left.min(REMEMBERED))
    }
}

impl Default for TokenCache {
    fn default() -> Self {
        let failures = Cache::builder().max_capacity(MAX_FAILURES).time_to_live(FAILURE_REMEMBERED).build();
        let tokens = Cache::builder()
            .max_capacity(TOKEN_BYTES)
            .weigher(|_, entry: &Entry| entry.weight)
            .expire_after(UntilExpiry)
            .build();
        Self { tokens, failures, generation: AtomicU64::new(0) }
    }
}

impl TokenCache {
    /// What is remembered of a token; one that has ended since is not remembered.
    pub(super) fn get(&self, key: &TokenKey, now: SystemTime) -> Option<Result<Arc<Verified>, ApiError>> {
        if let Some(entry) = self.tokens.get(key) {
            let current = entry.generation == self.generation() && now < entry.verified.principal.expires;
            return current.then_some(Ok(entry.verified));
        }
        self.failures.get(key).map(Err)
    }

    /// To be read before a token is verified, and handed to [`TokenCache::put`] after.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// `length` is that of the token.
    pub(super) fn put(&self, key: TokenKey, verified: Arc<Verified>, generation: u64, length: usize) {
        let weight = u32::try_from(OVERHEAD + READ * length).unwrap_or(u32::MAX);
        self.tokens.insert(key, Entry { verified, generation, weight });
    }

    pub(super) fn put_failure(&self, key: TokenKey, error: ApiError) {
        self.failures.insert(key, error);
    }

    /// Forgets everything.
    pub(super) fn forget(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.tokens.invalidate_all();
        self.failures.invalidate_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verified(expires: SystemTime) -> Arc<Verified> {
        let principal = Principal {
            subject: "zoe".into(),
            issuer: "dunlin".into(),
            expires,
            issued: None,
            grants: Vec::new(),
            token_id: String::new(),
            origin: crate::auth::Origin::default(),
        };
        let (callable, handed_on, claims) = (Vec::new(), Arc::default(), Map::new());
        Arc::new(Verified { principal: Arc::new(principal), callable, handed_on, claims })
    }

    #[test]
    fn a_token_is_remembered_until_it_ends_or_keys_change() {
        let cache = TokenCache::default();
        let (now, end) = (SystemTime::now(), SystemTime::now() + Duration::from_secs(30));
        let key = key(OidcPurpose::Call, "token");
        let before = cache.generation();
        cache.put(key, verified(end), before, 5);
        assert_eq!(cache.get(&key, now), Some(Ok(verified(end))));
        assert_eq!(cache.get(&key, end), None);
        assert_eq!(cache.get(&super::key(OidcPurpose::Administration, "token"), now), None);
        cache.forget();
        assert_eq!(cache.get(&key, now), None);
        // It was being verified with the old keys when they changed.
        cache.put(key, verified(end), before, 5);
        assert_eq!(cache.get(&key, now), None);
    }
}
