//! A rate with some slack: a token bucket in bytes. Time is an argument.

use tokio::time::Instant;

/// A bucket that is full at the beginning and holds what two seconds bring.
#[derive(Debug)]
pub(super) struct Bucket {
    rate: u64,
    left: u64,
    filled: Option<Instant>,
}

impl Bucket {
    /// A bucket that so many bytes flow into in a second.
    pub(super) fn new(rate: u64) -> Self {
        Self { rate, left: rate.saturating_mul(2), filled: None }
    }

    /// Takes so many bytes, all of them or none.
    pub(super) fn take(&mut self, bytes: u64, now: Instant) -> bool {
        let filled = *self.filled.get_or_insert(now);
        let micros = u64::try_from(now.saturating_duration_since(filled).as_micros()).unwrap_or(u64::MAX);
        let earned = self.rate.saturating_mul(micros) / 1_000_000;
        // Less than a byte would be lost if the clock moved on.
        if earned > 0 {
            self.left = self.left.saturating_add(earned).min(self.rate.saturating_mul(2));
            self.filled = Some(now);
        }
        let enough = self.left >= bytes;
        if enough {
            self.left -= bytes;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_gives_two_seconds_at_once_and_then_its_rate() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut bucket = Bucket::new(1000);
        assert!(bucket.take(2000, at(0)) && !bucket.take(1, at(0)));
        assert!(bucket.take(100, at(100)) && !bucket.take(1, at(100)));
        assert!(!bucket.take(501, at(600)) && bucket.take(500, at(600)));
        assert!(bucket.take(2000, at(60_000)) && !bucket.take(1, at(60_000)), "it does not save up more");
    }
}
