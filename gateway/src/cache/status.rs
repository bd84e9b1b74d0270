//! `Cache-Status` (RFC 9211): what became of a request at this cache.

use std::{
    fmt,
    io::{Cursor, Write},
};

use http::{HeaderMap, HeaderName, HeaderValue, header::Entry};

pub(super) const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
/// Bytes that it can have, and some more.
const MOST: usize = 128;

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
        let mut text = Cursor::new([0; MOST]);
        let written = write!(text, "{self}").ok().and_then(|()| usize::try_from(text.position()).ok());
        let text = written.and_then(|length| text.get_ref().get(..length)).unwrap_or_default();
        let Ok(value) = HeaderValue::from_bytes(text) else { return };
        // Mostly there is nothing, and a place for it (`stored::answers`).
        match headers.entry(CACHE_STATUS) {
            Entry::Occupied(mut said) if said.get().is_empty() => drop(said.insert(value)),
            Entry::Occupied(mut said) => said.append(value),
            Entry::Vacant(place) => drop(place.insert(value)),
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
    fn the_longest_has_room() {
        let status = CacheStatus {
            fwd: Some(Fwd::VaryMiss),
            fwd_status: Some(u16::MAX),
            ttl: Some(i64::MIN),
            stored: true,
            collapsed: true,
            detail: Some("stale-if-error"),
        };
        let mut headers = HeaderMap::new();
        status.append(&mut headers);
        assert_eq!(headers[CACHE_STATUS], *status.to_string());
    }

    #[test]
    fn caches_nearer_to_the_function_come_first() {
        let mut headers: HeaderMap = [(CACHE_STATUS, HeaderValue::from_static("inner; hit"))].into_iter().collect();
        CacheStatus::default().append(&mut headers);
        assert_eq!(headers.get_all(CACHE_STATUS).iter().collect::<Vec<_>>(), ["inner; hit", "dunlin; hit"]);
    }
}
