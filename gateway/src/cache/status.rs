//! `Cache-Status` (RFC 9211): what became of a request at this cache.

use std::fmt::{self, Write};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
/// Bytes that most take.
const LONG: usize = 48;

/// What became of a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct CacheStatus {
    /// Why the function was asked; nothing where it was not.
    pub(crate) fwd: Option<Fwd>,
    /// What the function answered, where the caller got something else.
    pub(crate) fwd_status: Option<u16>,
    /// For how long the answer is fresh, in seconds.
    pub(crate) ttl: Option<i64>,
    /// The answer is stored.
    pub(crate) stored: bool,
    /// Another request brought the answer.
    pub(crate) collapsed: bool,
    /// What else is to be said.
    pub(crate) detail: Option<&'static str>,
}

/// Why a function was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fwd {
    /// The request is of a kind that has nothing to do with stored answers.
    Bypass,
    /// Its method has not.
    Method,
    /// Nothing is stored for the address.
    UriMiss,
    /// What is stored is for other headers.
    VaryMiss,
    /// The request wants it.
    Request,
    /// What is stored is stale.
    Stale,
}

impl Fwd {
    fn as_str(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Method => "method",
            Self::UriMiss => "uri-miss",
            Self::VaryMiss => "vary-miss",
            Self::Request => "request",
            Self::Stale => "stale",
        }
    }
}

impl CacheStatus {
    /// The function was asked.
    pub(crate) fn forwarded(fwd: Fwd) -> Self {
        Self { fwd: Some(fwd), ..Self::default() }
    }

    /// Adds it behind what caches nearer to the function have said.
    pub(crate) fn append(&self, headers: &mut HeaderMap) {
        let mut text = String::with_capacity(LONG);
        // A string takes everything.
        let _ = write!(text, "{self}");
        if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(text)) {
            headers.append(CACHE_STATUS, value);
        }
    }
}

impl fmt::Display for CacheStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.fwd {
            Some(why) => write!(f, "dunlin; fwd={}", why.as_str())?,
            None => f.write_str("dunlin; hit")?,
        }
        if let Some(status) = self.fwd_status {
            write!(f, "; fwd-status={status}")?;
        }
        if self.stored {
            f.write_str("; stored")?;
        }
        if self.collapsed {
            f.write_str("; collapsed")?;
        }
        if let Some(ttl) = self.ttl {
            write!(f, "; ttl={ttl}")?;
        }
        self.detail.map_or(Ok(()), |detail| write!(f, "; detail={detail}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_as_the_standard_has_it() {
        let stale = CacheStatus::forwarded(Fwd::Stale);
        for (status, text) in [
            (CacheStatus { ttl: Some(7), ..CacheStatus::default() }, "dunlin; hit; ttl=7"),
            (CacheStatus { ttl: Some(-7), ..CacheStatus::default() }, "dunlin; hit; ttl=-7"),
            (CacheStatus::forwarded(Fwd::Bypass), "dunlin; fwd=bypass"),
            (CacheStatus { stored: true, ..CacheStatus::forwarded(Fwd::UriMiss) }, "dunlin; fwd=uri-miss; stored"),
            (CacheStatus { fwd_status: Some(304), stored: true, ..stale }, "dunlin; fwd=stale; fwd-status=304; stored"),
            (
                CacheStatus { collapsed: true, ttl: Some(9), ..CacheStatus::forwarded(Fwd::VaryMiss) },
                "dunlin; fwd=vary-miss; collapsed; ttl=9",
            ),
            (
                CacheStatus { detail: Some("stale-if-error"), ..CacheStatus::forwarded(Fwd::Request) },
                "dunlin; fwd=request; detail=stale-if-error",
            ),
            (CacheStatus::forwarded(Fwd::Method), "dunlin; fwd=method"),
        ] {
            assert_eq!(status.to_string(), text);
        }
    }

    #[test]
    fn caches_nearer_to_the_function_come_first() {
        let mut headers: HeaderMap = [(CACHE_STATUS, HeaderValue::from_static("inner; hit"))].into_iter().collect();
        CacheStatus::default().append(&mut headers);
        assert_eq!(headers.get_all(CACHE_STATUS).iter().collect::<Vec<_>>(), ["inner; hit", "dunlin; hit"]);
    }
}
