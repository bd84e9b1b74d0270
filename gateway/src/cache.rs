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
    hash::RandomState,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use dunlin_proto::{ids::Namespace, route::Purge};
use http::{HeaderMap, StatusCode};
use quick_cache::{OptionsBuilder, Weighter, sync::DefaultLifecycle};
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
/// What a part of the cache has room for at the least, where there are several: all answers of an address, if they are as large as
/// they may be.
const PART_BYTES: u64 = 2 * (MOST_VARIANTS * stored::MOST_BYTES) as u64;
/// Parts at the most: as many threads look without waiting for each other's changes.
const MOST_PARTS: u64 = 16;
/// What an address with its answers takes, roughly, in bytes.
const USUAL_BYTES: u64 = 8 << 10;

/// An address of a namespace as callers name it: scheme, host and port, the path that routes match, the query.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Address(String);

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
        Self(text)
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

/// Each hit looks into it, so that what a look costs counts: this library, other than `moka`, keeps no books of looks. Callers choose
/// the addresses, so that their hashes can't be fast ones.
type Answers = quick_cache::sync::Cache<Address, Variants, Weighed, RandomState>;

#[derive(Debug)]
struct Inner {
    answers: Answers,
    /// Held while one is added to those of its address, so that none is lost.
    storing: Mutex<()>,
    flights: flight::Flights,
    journeys: Journeys,
}

/// Answers count by what they take, in bytes.
#[derive(Debug, Clone)]
struct Weighed;

impl Weighter<Address, Variants> for Weighed {
    fn weight(&self, address: &Address, variants: &Variants) -> u64 {
        let answers: usize = variants.iter().map(|stored| stored.weight()).sum();
        (answers + address.0.len()) as u64
    }
}

/// A store of so many bytes at the most. What is used stays longest.
fn answers(max_bytes: u64) -> Answers {
    let parts = (max_bytes / PART_BYTES).clamp(1, MOST_PARTS);
    let number = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
    let mut options = OptionsBuilder::new();
    options.weight_capacity(max_bytes).shards(number(parts)).estimated_items_capacity(number(max_bytes / USUAL_BYTES));
    match options.build() {
        Ok(options) => Answers::with_options(options, Weighed, RandomState::new(), DefaultLifecycle::default()),
        // Nothing is missing that it asks for.
        Err(_) => Answers::with(0, 0, Weighed, RandomState::new(), DefaultLifecycle::default()),
    }
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
        let (answers, storing) = (answers(max_bytes), Mutex::default());
        Self(Arc::new(Inner { answers, storing, flights: flight::Flights::default(), journeys: Journeys::default() }))
    }

    /// Addresses that something is stored for, and its weight in bytes.
    pub(crate) fn size(&self) -> (u64, u64) {
        (self.0.answers.len() as u64, self.0.answers.weight())
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
        let (answer, at) = (stored::answers(&headers), Instant::now());
        let stored = Arc::new(Stored { owner, selecting, status, headers, body, terms, at, answer });
        let _turn = self.0.storing.lock().unwrap_or_else(PoisonError::into_inner);
        if journey.is_current() {
            let old = self.0.answers.peek(&journey.address);
            self.0.answers.insert(journey.address.clone(), with(old.as_ref(), &stored));
        }
        // It may have been forgotten between the look and the deed.
        if !journey.is_current() {
            self.0.answers.remove(&journey.address);
        }
        stored
    }

    /// Forgets what is stored for an address: it has been changed.
    pub(crate) fn forget(&self, address: &Address) {
        self.0.journeys.forget(address);
        self.0.answers.remove(address);
    }

    /// Forgets what a purge is about, at once and for whatever is on its way.
    pub(crate) fn purge(&self, purge: &Purge) {
        self.0.journeys.forget_all();
        self.0.answers.retain(|address, variants| {
            let (namespace, path) = address.parts();
            !purge.is_about(namespace, path, variants.iter().map(|stored| &stored.owner.rule.name.route))
        });
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) {
        self.0.journeys.forget_all();
        self.0.answers.clear();
    }
}

/// The answers of an address with a new one, which replaces the one for the same requests.
fn with(old: Option<&Variants>, newest: &Arc<Stored>) -> Variants {
    let other = |stored: &&Arc<Stored>| stored.owner != newest.owner || stored.selecting != newest.selecting;
    let kept = old.into_iter().flat_map(|variants| variants.iter()).filter(other).take(MOST_VARIANTS - 1).cloned();
    std::iter::once(newest.clone()).chain(kept).collect()
}
