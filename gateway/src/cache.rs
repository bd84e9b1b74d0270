//! Stored answers of functions, used again for requests that they fit (RFC 9111, RFC 5861): in memory, bounded, each
//! gateway's own.
//!
//! What may be stored and used is decided in `cache/rules.rs`, what an answer is for in `stored.rs`, who waits for whom in
//! `flight.rs`. HTTP callers, credentials and workers are not known here: `invoke/cached.rs` asks on their behalf.

mod change;
mod conditional;
mod directives;
pub(crate) mod flight;
mod journey;
mod recorder;
pub(crate) mod rules;
mod status;
mod stored;

#[cfg(test)]
mod tests;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use dunlin_proto::{ids::Namespace, route::Purge};
use http::{HeaderMap, StatusCode};
use moka::{ops::compute::Op, policy::EvictionPolicy};
use tokio::time::Instant;

pub(crate) use change::Change;
pub(crate) use conditional::{ask, names};
pub(crate) use recorder::Recorder;
pub(crate) use status::{CacheStatus, Fwd};
pub(crate) use stored::{Owner, Stored, Unsaid, is_known, not_modified};

use journey::{Journey, Journeys};
use rules::{Terms, Wishes};
use stored::Selecting;

/// Answers that are kept of one address.
const MOST_VARIANTS: usize = 16;

/// An address of a namespace as callers name it: scheme, host and port, the path that routes match, the query.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Address(Arc<str>);

impl Address {
    /// The address of a request.
    pub(crate) fn new(namespace: &Namespace, scheme: &str, authority: &str, path: &str, query: Option<&str>) -> Self {
        let (mark, query) = if query.is_some() { ("?", query.unwrap_or_default()) } else { ("", "") };
        // None of these has a space in it.
        let mut text = [namespace.as_str(), " ", scheme, "://", authority, " ", path, mark, query].concat();
        let begins = namespace.as_str().len() + scheme.len() + " ://".len();
        if let Some(authority) = text.get_mut(begins..begins + authority.len()) {
            authority.make_ascii_lowercase();
        }
        Self(text.into())
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
    journeys: Journeys,
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
    journey: Arc<Journey>,
    owner: Owner,
    selecting: Selecting,
    status: StatusCode,
    headers: HeaderMap,
    terms: Terms,
}

/// Where an answer belongs, and since when it has been on its way.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) owner: Owner,
    journey: Arc<Journey>,
}

impl Place {
    /// Its address.
    pub(crate) fn address(&self) -> &Address {
        &self.journey.address
    }
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
        let Place { owner, journey } = place.clone();
        Some(Self { journey, owner, selecting, status, headers, terms })
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
        Self(Arc::new(Inner { answers, flights: flight::Flights::default(), journeys: Journeys::default() }))
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

    /// The place of an answer that the function will be asked for.
    pub(crate) fn place(&self, address: Address, owner: Owner) -> Place {
        Place { owner, journey: Arc::new(self.0.journeys.begin(address)) }
    }

    /// Joins those that want the same.
    pub(crate) fn join(&self, wanted: flight::Wanted) -> flight::Part {
        self.0.flights.join(wanted)
    }

    /// Stores an answer, unless its address has been forgotten while it was on its way.
    pub(crate) fn store(&self, draft: Draft, body: Bytes) -> Arc<Stored> {
        let Draft { journey, owner, selecting, status, headers, terms } = draft;
        let stored = Arc::new(Stored { owner, selecting, status, headers, body, terms, at: Instant::now() });
        self.0.answers.entry(journey.address.clone()).and_compute_with(|old| {
            if !journey.is_current() {
                return Op::Nop;
            }
            Op::Put(with(old.as_ref().map(moka::Entry::value), &stored))
        });
        // It may have been forgotten between the look and the deed.
        if !journey.is_current() {
            self.0.answers.invalidate(&journey.address);
        }
        stored
    }

    /// Forgets what is stored for an address: it has been changed.
    pub(crate) fn forget(&self, address: &Address) {
        self.0.journeys.forget(address);
        self.0.answers.invalidate(address);
    }

    /// Forgets what a purge is about, at once and for whatever is on its way.
    pub(crate) fn purge(&self, purge: Purge) {
        self.0.journeys.forget_all();
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
        self.0.journeys.forget_all();
        self.0.answers.invalidate_all();
    }
}

/// The answers of an address with a new one, which replaces the one for the same requests.
fn with(old: Option<&Variants>, newest: &Arc<Stored>) -> Variants {
    let other = |stored: &&Arc<Stored>| stored.owner != newest.owner || stored.selecting != newest.selecting;
    let kept = old.into_iter().flat_map(|variants| variants.iter()).filter(other).take(MOST_VARIANTS - 1).cloned();
    std::iter::once(newest.clone()).chain(kept).collect()
}
