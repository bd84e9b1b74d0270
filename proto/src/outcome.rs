//! What became of calls, in words and numbers by which all processes mean the same: whether one failed, and how long it took, in
//! buckets each of which is about 9 % wider than the one before.

use std::time::Duration;

/// The outcome of a call that went well.
const OK: &str = "ok";

/// The kind of calls that were answered with a status of 500 or above, by the function itself.
pub const ANSWERED_5XX: &str = "answered_5xx";

/// What became of a call, in a word: its outcome, or [`ANSWERED_5XX`].
#[must_use]
pub fn kind(outcome: &str, status: impl Into<u32>) -> &str {
    if outcome == OK && status.into() >= 500 { ANSWERED_5XX } else { outcome }
}

/// Whether a call failed: something went wrong with it, or the function itself said so by a status of 500 or above.
#[must_use]
pub fn is_failure(outcome: &str, status: impl Into<u32>) -> bool {
    kind(outcome, status) != OK
}

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
    fn a_functions_own_5xx_is_a_failure_and_its_4xx_is_none() {
        for (outcome, status, expected, failed) in [
            ("ok", 200_u16, "ok", false),
            ("ok", 0, "ok", false),
            ("ok", 404, "ok", false),
            ("ok", 499, "ok", false),
            ("ok", 500, ANSWERED_5XX, true),
            ("ok", 503, ANSWERED_5XX, true),
            ("function_failed", 502, "function_failed", true),
            ("function_failed", 200, "function_failed", true),
            ("cancelled", 0, "cancelled", true),
            ("", 0, "", true),
        ] {
            assert_eq!((kind(outcome, status), is_failure(outcome, status)), (expected, failed), "{outcome} {status}");
        }
    }

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
