//! Stored answers of functions, used again for requests that they fit (RFC 9111, RFC 5861): in memory, bounded, each
//! gateway's own.
//!
//! What may be stored and used is decided in `cache/rules.rs`, what an answer is for in `stored.rs`, who waits for whom in
//! `flight.rs`. HTTP callers, credentials and workers are not known here: `invoke/cached.rs` asks on their behalf.

mod conditional;
mod directives;
pub(crate) mod flight;
mod recorder;
pub(crate) mod rules;
mod status;
mod stored;

#[cfg(test)]
mod tests;

use std::{
    hash::{BuildHasher, RandomState},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use dunlin_proto::{ids::Namespace, route::Purge};
use http::{HeaderMap, StatusCode};
use moka::{ops::compute::Op, policy::EvictionPolicy};
use tokio::time::Instant;

pub(crate) use conditional::ask;
pub(crate) use recorder::Recorder;
pub(crate) use status::{CacheStatus, Fwd};
pub(crate) use stored::{Owner, Stored, is_known, not_modified};

use rules::{Terms, Wishes};
use stored::Selecting;

/// Answers that are kept of one address.
const MOST_VARIANTS: usize = 16;
/// Counters of what was forgotten; addresses share them.
const COUNTERS: usize = 256;

/// An address of a namespace as callers name it: scheme, host and port, the path that routes match, the query.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Address(Arc<str>);

impl Address {
    /// The address of a request.
    pub(crate) fn new(namespace: &Namespace, scheme: &str, authority: &str, path: &str, query: Option<&str>) -> Self {
        let authority = authority.to_ascii_lowercase();
        let (mark, query) = if query.is_some() { ("?", query.unwrap_or_default()) } else { ("", "") };
        // None of these has a space in it.
        Self(format!("{namespace} {scheme}://{authority} {path}{mark}{query}").into())
    }
}

impl Address {
    /// Its namespace, and its path.
    fn parts(&self) -> (&str, &str) {
        let mut parts = self.0.splitn(3, ' ');
        let (namespace, rest) = (parts.next().unwrap_or_default(), parts.nth(1).unwrap_or_default());
        (namespace, rest.split('?').next().unwrap_or_default())
    }
}

/// The answers of an address, the newest first.
type Variants = Arc<[Arc<Stored>]>;

/// What is stored. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Cache(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    answers: moka::sync::Cache<Address, Variants>,
    flights: flight::Flights,
    /// How often something was forgotten, by address: what was on its way then is not stored.
    forgotten: Vec<AtomicU64>,
    hasher: RandomState,
}

/// What is found for a request.
#[derive(Debug)]
pub(crate) enum Found {
    /// An answer that fits.
    Answer(Arc<Stored>),
    /// Answers for other headers alone.
    Others,
    /// Nothing.
    Nothing,
}

/// Everything about an answer that will be stored, but for its body.
#[derive(Debug)]
pub(crate) struct Draft {
    address: Address,
    began: u64,
    owner: Owner,
    selecting: Selecting,
    status: StatusCode,
    headers: HeaderMap,
    terms: Terms,
}

/// Where an answer belongs, and since when it has been on its way.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) address: Address,
    pub(crate) owner: Owner,
    began: u64,
}

impl Draft {
    /// A draft of an answer with these headers, where it may be stored.
    pub(crate) fn new(
        place: &Place,
        (request, wishes, credentialed): (&HeaderMap, &Wishes, bool),
        status: StatusCode,
        headers: &HeaderMap,
    ) -> Option<Self> {
        let now = SystemTime::now();
        let terms = rules::terms(wishes, credentialed, status, headers, now)?;
        let selecting = Selecting::of(request, headers)?;
        let headers = stored::lasting(headers.clone(), now);
        let Place { address, owner, began } = place.clone();
        Some(Self { address, began, owner, selecting, status, headers, terms })
    }

    /// Whether others will be answered with it.
    pub(crate) fn is_fresh(&self) -> bool {
        self.terms.is_fresh()
    }

    /// Seconds for which it is fresh.
    pub(crate) fn ttl(&self) -> i64 {
        self.terms.ttl(Duration::ZERO)
    }
}

impl Cache {
    /// A cache of so many bytes at the most.
    pub(crate) fn new(max_bytes: u64) -> Self {
        let weigh = |address: &Address, variants: &Variants| {
            let answers: usize = variants.iter().map(|stored| stored.weight()).sum();
            u32::try_from(answers + address.0.len()).unwrap_or(u32::MAX)
        };
        let answers = moka::sync::Cache::builder()
            .max_capacity(max_bytes)
            .weigher(weigh)
            .eviction_policy(EvictionPolicy::lru())
            .support_invalidation_closures()
            .build();
        let forgotten = (0..COUNTERS).map(|_| AtomicU64::new(0)).collect();
        Self(Arc::new(Inner { answers, flights: flight::Flights::default(), forgotten, hasher: RandomState::new() }))
    }

    /// Addresses that something is stored for, and its weight in bytes; roughly, as the library counts at leisure.
    pub(crate) fn size(&self) -> (u64, u64) {
        (self.0.answers.entry_count(), self.0.answers.weighted_size())
    }

    /// What is stored for a request.
    pub(crate) fn find(&self, address: &Address, owner: &Owner, request: &HeaderMap) -> Found {
        let Some(variants) = self.0.answers.get(address) else { return Found::Nothing };
        let own = || variants.iter().filter(|stored| stored.owner == *owner);
        match own().find(|stored| stored.fits(request)) {
            Some(stored) => Found::Answer(stored.clone()),
            None if own().next().is_some() => Found::Others,
            None => Found::Nothing,
        }
    }

    /// The place of an answer that is asked for now.
    pub(crate) fn place(&self, address: Address, owner: Owner) -> Place {
        let began = self.forgotten(&address);
        Place { address, owner, began }
    }

    /// Joins those that want the same.
    pub(crate) fn join(&self, wanted: flight::Wanted) -> flight::Part {
        self.0.flights.join(wanted)
    }

    /// Stores an answer, unless its address has been forgotten while it was on its way.
    pub(crate) fn store(&self, draft: Draft, body: Bytes) -> Arc<Stored> {
        let Draft { address, began, owner, selecting, status, headers, terms } = draft;
        let stored = Arc::new(Stored { owner, selecting, status, headers, body, terms, at: Instant::now() });
        self.0.answers.entry(address.clone()).and_compute_with(|old| {
            if self.forgotten(&address) != began {
                return Op::Nop;
            }
            Op::Put(with(old.as_ref().map(moka::Entry::value), &stored))
        });
        // It may have been forgotten between the look and the deed.
        if self.forgotten(&address) != began {
            self.0.answers.invalidate(&address);
        }
        stored
    }

    /// Forgets what is stored for an address: it has been changed.
    pub(crate) fn forget(&self, address: &Address) {
        if let Some(counter) = self.counter(address) {
            counter.fetch_add(1, Ordering::SeqCst);
        }
        self.0.answers.invalidate(address);
    }

    /// Forgets what a purge is about, at once and for whatever is on its way.
    pub(crate) fn purge(&self, purge: Purge) {
        self.forget_what_comes();
        let about = move |address: &Address, variants: &Variants| {
            let (namespace, path) = address.parts();
            purge.is_about(namespace, path, variants.iter().map(|stored| &stored.owner.rule.name.route))
        };
        // It takes such predicates: it has been made so.
        if self.0.answers.invalidate_entries_if(about).is_err() {
            self.0.answers.invalidate_all();
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) {
        self.forget_what_comes();
        self.0.answers.invalidate_all();
    }

    fn forget_what_comes(&self) {
        for counter in &self.0.forgotten {
            counter.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn counter(&self, address: &Address) -> Option<&AtomicU64> {
        let hash = usize::try_from(self.0.hasher.hash_one(address) % COUNTERS as u64).unwrap_or_default();
        self.0.forgotten.get(hash)
    }

    fn forgotten(&self, address: &Address) -> u64 {
        self.counter(address).map_or(0, |counter| counter.load(Ordering::SeqCst))
    }
}

/// The answers of an address with a new one, which replaces the one for the same requests.
fn with(old: Option<&Variants>, newest: &Arc<Stored>) -> Variants {
    let other = |stored: &&Arc<Stored>| stored.owner != newest.owner || stored.selecting != newest.selecting;
    let kept = old.into_iter().flat_map(|variants| variants.iter()).filter(other).take(MOST_VARIANTS - 1).cloned();
    std::iter::once(newest.clone()).chain(kept).collect()
}
