//! Which answers may be stored, and when a stored one may be used (RFC 9111, RFC 5861). Pure: time is an argument.
//!
//! A function says how long its answers are good for; nothing is guessed where it says nothing. What is stored is in
//! `stored.rs`.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_cache_semantics::{CacheOptions, CachePolicy};

use super::directives::{Directives, seconds};

/// The directives of an answer by which a library decides whether it may be stored, and for how long it is fresh.
const FLAGS: [&str; 5] = ["no-store", "no-cache", "private", "public", "must-revalidate"];
const NUMBERS: [&str; 2] = ["max-age", "s-maxage"];

/// What a request says about stored answers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Wishes {
    /// Its answer is not to be stored.
    pub(crate) no_store: bool,
    /// It is answered only with what the function has confirmed.
    pub(crate) no_cache: bool,
    /// It is answered only with what is stored.
    pub(crate) only_if_cached: bool,
    max_age: Option<Duration>,
    min_fresh: Option<Duration>,
    max_stale: Option<Duration>,
    stale_if_error: Option<Duration>,
}

impl Wishes {
    /// Those of a request with these headers.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        if !headers.contains_key(header::CACHE_CONTROL) {
            let pragma = headers.get_all(header::PRAGMA).iter();
            let no_cache = pragma.into_iter().any(|value| value.as_bytes().eq_ignore_ascii_case(b"no-cache"));
            return Self { no_cache, ..Self::default() };
        }
        let said = Directives::of(headers);
        // Without a value, any stale answer will do.
        let any_stale = said.is_bare("max-stale");
        Self {
            no_store: said.has("no-store"),
            no_cache: said.has("no-cache"),
            only_if_cached: said.has("only-if-cached"),
            max_age: said.seconds("max-age"),
            min_fresh: said.seconds("min-fresh"),
            max_stale: if any_stale { Some(Duration::MAX) } else { said.seconds("max-stale") },
            stale_if_error: said.seconds("stale-if-error"),
        }
    }
}

/// On which terms an answer is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Terms {
    /// How long it is fresh, counted from when the function made it.
    fresh_for: Duration,
    /// How old it was when it came.
    age: Duration,
    /// It is never used stale: the function forbids it.
    strict: bool,
    /// It is not used stale because its caller does not mind.
    shared: bool,
    stale_while_revalidate: Option<Duration>,
    stale_if_error: Option<Duration>,
}

/// What becomes of a request that a stored answer fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is answered with it.
    Use,
    /// It is answered with it, and the function is asked for a new one beside.
    UseAndRefresh,
    /// The function is asked first: the answer is stale.
    AskStale,
    /// The function is asked first: the request wants it.
    AskWanted,
}

/// The terms on which an answer to GET may be stored, if it may; `credentialed` where its caller has proved who it is.
pub(crate) fn terms(
    wishes: &Wishes,
    credentialed: bool,
    status: StatusCode,
    headers: &HeaderMap,
    now: SystemTime,
) -> Option<Terms> {
    let has = |name| headers.contains_key(name);
    if wishes.no_store || has(header::SET_COOKIE) || announces_trailers(headers) {
        return None;
    }
    let said = Directives::of(headers);
    let fresh_for = fresh_for(&said, credentialed, status, headers, now)?;
    let terms = Terms {
        fresh_for,
        age: age(headers, now),
        strict: ["no-cache", "must-revalidate", "proxy-revalidate"].into_iter().any(|name| said.has(name)),
        shared: said.has("s-maxage"),
        stale_while_revalidate: said.seconds("stale-while-revalidate"),
        stale_if_error: said.seconds("stale-if-error"),
    };
    let later = terms.stale_while_revalidate.max(terms.stale_if_error).is_some_and(|time| time > Duration::ZERO);
    let confirmable = has(header::ETAG) || has(header::LAST_MODIFIED);
    (terms.is_fresh() || confirmable || (later && !terms.strict)).then_some(terms)
}

/// How long an answer is fresh; nothing where it may not be stored. The library gets what it reads in the form that it reads.
fn fresh_for(
    said: &Directives,
    credentialed: bool,
    status: StatusCode,
    headers: &HeaderMap,
    now: SystemTime,
) -> Option<Duration> {
    let (mut request, mut response) = (Request::new(()), Response::new(()));
    if credentialed {
        request.headers_mut().insert(header::AUTHORIZATION, HeaderValue::from_static("-"));
    }
    *response.status_mut() = understood(said, status)?;
    let known = response.headers_mut();
    if headers.contains_key(header::CACHE_CONTROL) {
        known.insert(header::CACHE_CONTROL, HeaderValue::from_str(&said.plain(&FLAGS, &NUMBERS)).ok()?);
    } else if let Some(pragma) = headers.get(header::PRAGMA) {
        known.insert(header::PRAGMA, pragma.clone());
    }
    for name in [header::EXPIRES, header::DATE] {
        if let Some(value) = headers.get(&name) {
            // Whatever is no date lies in the past.
            let text = date(value).map_or_else(|| "0".to_owned(), httpdate::fmt_http_date);
            known.insert(name, HeaderValue::from_str(&text).ok()?);
        }
    }
    let options = CacheOptions {
        shared: true,
        cache_heuristic: 0.0,
        immutable_min_time_to_live: Duration::ZERO,
        ignore_cargo_cult: false,
    };
    let policy = CachePolicy::new_options(&request, &response, now, options);
    policy.is_storable().then(|| policy.time_to_live(now))
}

/// The status by which the library decides. It stores only what it knows; an answer that says itself how long it is fresh may
/// be stored whatever its status is, if that is final and the function does not want it understood (RFC 9111 3, 5.2.2.3).
/// A failure is not: what sets such headers on all answers of a function does not mean that one.
fn understood(said: &Directives, status: StatusCode) -> Option<StatusCode> {
    if matches!(status, StatusCode::PARTIAL_CONTENT | StatusCode::NOT_MODIFIED) || status.is_informational() {
        return None;
    }
    let explicit = !status.is_server_error() && NUMBERS.iter().any(|name| said.has(name));
    Some(if explicit && !said.has("must-understand") { StatusCode::OK } else { status })
}

/// A date of HTTP.
pub(super) fn date(value: &HeaderValue) -> Option<SystemTime> {
    httpdate::parse_http_date(value.to_str().ok()?).ok()
}

/// How old an answer is when it comes (RFC 9111 4.2.3).
fn age(headers: &HeaderMap, now: SystemTime) -> Duration {
    // Of a list the first counts, and what is no number not at all (RFC 9111 5.1).
    let first = headers.get(header::AGE).and_then(|value| value.to_str().ok()?.split(',').next());
    let said = first.map_or(Duration::ZERO, |text| seconds(text.trim()));
    let made = headers.get(header::DATE).and_then(date);
    let apparent = made.and_then(|made| now.duration_since(made).ok()).unwrap_or_default();
    said.max(Duration::from_secs(apparent.as_secs()))
}

/// What comes after a body is not stored. The receipt is the gateway's own, and not a part of the answer.
fn announces_trailers(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::TRAILER).iter();
    let mut names = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    names.any(|name| !name.trim_ascii().eq_ignore_ascii_case(b"server-timing"))
}

impl Terms {
    /// Whether it was fresh when it came.
    pub(crate) fn is_fresh(&self) -> bool {
        self.age < self.fresh_for
    }

    /// How old an answer is that has been here for so long.
    pub(crate) fn age(&self, here: Duration) -> Duration {
        self.age.saturating_add(here)
    }

    /// Seconds for which it is still fresh; fewer than none once it is stale.
    pub(crate) fn ttl(&self, here: Duration) -> i64 {
        let whole = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        whole(self.fresh_for).saturating_sub(whole(self.age(here)))
    }

    /// What becomes of a request, where the answer has been here for so long.
    pub(crate) fn verdict(&self, here: Duration, wishes: &Wishes) -> Verdict {
        let age = self.age(here);
        let left = self.fresh_for.checked_sub(age).filter(|left| !left.is_zero());
        let too_old = wishes.max_age.is_some_and(|most| age > most);
        let too_short = wishes.min_fresh.is_some_and(|least| left.unwrap_or_default() < least);
        if wishes.no_cache || too_old || too_short {
            return if left.is_some() { Verdict::AskWanted } else { Verdict::AskStale };
        }
        if left.is_some() {
            return Verdict::Use;
        }
        let overdue = age.saturating_sub(self.fresh_for);
        let within = |limit: Option<Duration>| !self.strict && limit.is_some_and(|limit| overdue <= limit);
        if within(self.stale_while_revalidate) {
            return Verdict::UseAndRefresh;
        }
        if within(wishes.max_stale) && !self.shared { Verdict::Use } else { Verdict::AskStale }
    }

    /// Whether it stands in for an answer that went wrong.
    pub(crate) fn stands_in(&self, here: Duration, wishes: &Wishes) -> bool {
        let overdue = self.age(here).saturating_sub(self.fresh_for);
        let most = self.stale_if_error.max(wishes.stale_if_error);
        !self.strict && !wishes.no_cache && most.is_some_and(|most| overdue <= most)
    }
}

#[cfg(test)]
mod tests;
