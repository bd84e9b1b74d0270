//! Verified tokens, remembered for a bounded time and number, so that a warm call does not pay for a signature. Tokens
//! that failed are remembered for a moment, so that repeating one costs little.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use dunlin_proto::ApiError;
use http::{HeaderName, HeaderValue};
use quick_cache::{Weighter, sync::Cache};
use serde_json::{Map, Value};
use siphasher::sip128::SipHasher13;

use super::{Principal, REMEMBERED};
use crate::config::OidcPurpose;

/// The memory for verified tokens, in bytes, by an estimate.
const TOKEN_BYTES: u64 = 64 << 20;
/// What a verified token takes beside its claims, in bytes.
const OVERHEAD: usize = 512;
/// What a byte of claims as text takes once it is read.
const READ: usize = 4;
/// How many verified tokens there is room for from the beginning.
const TOKENS: usize = 1_024;
const MAX_FAILURES: usize = 1_024;
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

/// What a token is remembered by: never the token itself, but a hash of 128 bits under a secret of this process. Nobody who does
/// not know that can look for two tokens that have the same, and it takes a quarter of what SHA-256 does.
pub(super) type TokenKey = (OidcPurpose, u128);

#[derive(Debug, Clone)]
struct Entry {
    verified: Arc<Verified>,
    generation: u64,
    /// When it is worth nothing any more: a minute later, or with its token.
    until: SystemTime,
    /// What it takes, in bytes.
    weight: u32,
}

/// It is asked for each call, so that what a look into it costs counts: `moka`, which remembers authorizers' verdicts, keeps books of
/// each look. What has ended is there until something else needs the room.
#[derive(Debug)]
pub(super) struct TokenCache {
    hasher: SipHasher13,
    tokens: Cache<TokenKey, Entry, Bytes>,
    /// Until when each is remembered, and what is wrong.
    failures: Cache<TokenKey, (SystemTime, ApiError)>,
    /// Counts up when keys change: what an older one verified is worth nothing.
    generation: AtomicU64,
}

/// Entries count by what they take.
#[derive(Debug, Clone)]
struct Bytes;

impl Weighter<TokenKey, Entry> for Bytes {
    fn weight(&self, _: &TokenKey, entry: &Entry) -> u64 {
        entry.weight.into()
    }
}

impl Default for TokenCache {
    fn default() -> Self {
        let tokens = Cache::with_weighter(TOKENS, TOKEN_BYTES, Bytes);
        let hasher = SipHasher13::new_with_key(&rand::random());
        Self { hasher, tokens, failures: Cache::new(MAX_FAILURES), generation: AtomicU64::new(0) }
    }
}

impl TokenCache {
    /// What a token is remembered by.
    pub(super) fn key(&self, purpose: OidcPurpose, token: &str) -> TokenKey {
        (purpose, self.hasher.hash(token.as_bytes()).as_u128())
    }

    /// What is remembered of a token; one that has ended since is not remembered.
    pub(super) fn get(&self, key: &TokenKey, now: SystemTime) -> Option<Result<Arc<Verified>, ApiError>> {
        if let Some(entry) = self.tokens.get(key) {
            let current = entry.generation == self.generation() && now < entry.until;
            return current.then_some(Ok(entry.verified));
        }
        self.failures.get(key).filter(|(until, _)| now < *until).map(|(_, failure)| Err(failure))
    }

    /// To be read before a token is verified, and handed to [`TokenCache::put`] after.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// `length` is that of the token.
    pub(super) fn put(
        &self,
        key: TokenKey,
        verified: Arc<Verified>,
        (generation, length): (u64, usize),
        now: SystemTime,
    ) {
        let until = verified.principal.expires.min(now + REMEMBERED);
        let weight = u32::try_from(OVERHEAD + READ * length).unwrap_or(u32::MAX);
        self.tokens.insert(key, Entry { verified, generation, until, weight });
    }

    pub(super) fn put_failure(&self, key: TokenKey, error: ApiError, now: SystemTime) {
        self.failures.insert(key, (now + FAILURE_REMEMBERED, error));
    }

    /// Forgets everything.
    pub(super) fn forget(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.tokens.clear();
        self.failures.clear();
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
        let key = cache.key(OidcPurpose::Call, "token");
        let before = cache.generation();
        cache.put(key, verified(end), (before, 5), now);
        assert_eq!(cache.get(&key, now), Some(Ok(verified(end))));
        assert_eq!(cache.get(&key, end), None);
        assert_eq!(cache.get(&cache.key(OidcPurpose::Administration, "token"), now), None);
        cache.forget();
        assert_eq!(cache.get(&key, now), None);
        // It was being verified with the old keys when they changed.
        cache.put(key, verified(end), (before, 5), now);
        assert_eq!(cache.get(&key, now), None);
    }

    #[test]
    fn a_token_is_verified_anew_each_minute_and_a_failure_is_forgotten_after_a_second() {
        let (cache, now) = (TokenCache::default(), SystemTime::now());
        let key = cache.key(OidcPurpose::Call, "token");
        let failure = ApiError::new(dunlin_proto::ErrorCode::Unauthenticated, "no");
        cache.put_failure(key, failure.clone(), now);
        assert_eq!(cache.get(&key, now), Some(Err(failure)));
        assert_eq!(cache.get(&key, now + FAILURE_REMEMBERED), None);
        let day = verified(now + Duration::from_secs(86_400));
        cache.put(key, day.clone(), (0, 5), now);
        assert_eq!(cache.get(&key, now + REMEMBERED - Duration::from_secs(1)), Some(Ok(day)));
        assert_eq!(cache.get(&key, now + REMEMBERED), None);
    }

    #[test]
    fn no_more_is_remembered_than_there_is_room_for() {
        let (cache, now) = (TokenCache::default(), SystemTime::now());
        let one = verified(now + REMEMBERED);
        let large = 1 << 20;
        for number in 0..100 {
            cache.put(cache.key(OidcPurpose::Call, &number.to_string()), one.clone(), (0, large), now);
        }
        assert!(cache.tokens.weight() <= TOKEN_BYTES, "{}", cache.tokens.weight());
        assert!(!cache.tokens.is_empty());
        for number in 0..10 * MAX_FAILURES {
            let failure = ApiError::new(dunlin_proto::ErrorCode::Unauthenticated, "no");
            cache.put_failure(cache.key(OidcPurpose::Call, &number.to_string()), failure, now);
        }
        assert!(cache.failures.len() <= MAX_FAILURES, "{}", cache.failures.len());
    }
}
