//! When the scheduler was last heard, and whether what it said then is too old to be served: a key or a token that was revoked since
//! must not open anything for ever at a gateway that is cut off. Who listens to the scheduler is `snapshot.rs`; time is told.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

use dunlin_proto::{ApiError, ErrorCode};

/// When somebody may try again.
const PAUSE: Duration = Duration::from_secs(1);

/// The last time, which all who serve look at.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// In milliseconds since 1970; 0 where the scheduler was never heard.
    at: AtomicU64,
    stale: AtomicBool,
}

impl Heard {
    /// The scheduler was heard at this time.
    pub(crate) fn set(&self, time: SystemTime) {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.at.store(u64::try_from(since.as_millis()).unwrap_or_default(), Ordering::Relaxed);
    }

    /// When that was, since 1970.
    pub(crate) fn at(&self) -> Duration {
        Duration::from_millis(self.at.load(Ordering::Relaxed))
    }

    /// Decides whether what was said then may be served now, for so long at the most; says whether that has changed. A clock that was
    /// set back makes nothing old, and where nothing was ever said there is nothing to serve.
    pub(crate) fn judge(&self, now: SystemTime, most: Duration) -> bool {
        let passed = now.duration_since(SystemTime::UNIX_EPOCH + self.at()).unwrap_or_default();
        let is_stale = !self.at().is_zero() && passed > most;
        self.stale.swap(is_stale, Ordering::Relaxed) != is_stale
    }

    /// Whether it is too old.
    pub(crate) fn is_stale(&self) -> bool {
        self.stale.load(Ordering::Relaxed)
    }

    /// Refuses where it is too old.
    ///
    /// # Errors
    /// `Unavailable`.
    pub(crate) fn check(&self) -> Result<(), ApiError> {
        let error = || {
            let message = "what this gateway knows of functions and keys is too old to be served";
            ApiError::new(ErrorCode::Unavailable, message)
                .hint("the gateway must reach the scheduler again (max_staleness)")
                .retry_after(PAUSE)
        };
        if self.is_stale() { Err(error()) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_heard_too_long_ago_is_not_served_until_the_scheduler_is_heard_again() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let (heard, most) = (Heard::default(), Duration::from_secs(60));
        assert!(!heard.judge(at(1_000), most) && !heard.is_stale(), "a gateway that has never heard anything");
        heard.set(at(1_000));
        for (now, changes, stale) in [
            (1_000, false, false),
            (1_060, false, false),
            (1_061, true, true),
            (2_000, false, true),
            (900, true, false),
        ] {
            assert_eq!((heard.judge(at(now), most), heard.is_stale()), (changes, stale), "{now}");
            assert_eq!(heard.check().is_err(), stale);
        }
        heard.judge(at(5_000), most);
        heard.set(at(5_000));
        assert!(heard.judge(at(5_001), most) && heard.check().is_ok());
    }
}
