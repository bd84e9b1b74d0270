//! How long calls took, in buckets by which gateway and scheduler mean the same. Each is about 9 % wider than the one before.

use std::time::Duration;

/// So many buckets there are; the last one takes whatever is longer.
pub const BUCKETS: usize = 192;

/// Buckets within which a duration doubles.
const OF_A_DOUBLING: f64 = 8.0;
/// What the first bucket takes, in seconds.
const FIRST: f64 = 100e-6;

/// The bucket of a duration.
#[must_use]
pub fn bucket(duration: Duration) -> usize {
    let doublings = (duration.as_secs_f64() / FIRST).log2();
    let bucket = (doublings * OF_A_DOUBLING).ceil().clamp(0.0, 1e6);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is bounded just above")]
    let bucket = bucket as usize;
    bucket.min(BUCKETS - 1)
}

/// The longest duration of a bucket.
#[must_use]
pub fn longest(bucket: usize) -> Duration {
    let bucket = u32::try_from(bucket.min(BUCKETS - 1)).unwrap_or_default();
    Duration::from_secs_f64(FIRST * (f64::from(bucket) / OF_A_DOUBLING).exp2())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_within_its_bucket() {
        assert_eq!((bucket(Duration::ZERO), bucket(Duration::from_micros(100))), (0, 0));
        assert_eq!(bucket(Duration::from_secs(1_000_000)), BUCKETS - 1);
        for micros in [101, 150, 999, 20_000, 1_234_567, 800_000_000] {
            let duration = Duration::from_micros(micros);
            let at = bucket(duration);
            assert!(longest(at) >= duration && longest(at - 1) < duration, "{duration:?} is in {at}");
        }
        for at in 0..BUCKETS {
            assert_eq!(bucket(longest(at).saturating_sub(Duration::from_nanos(1))), at);
        }
    }
}
