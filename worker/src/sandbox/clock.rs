//! Clocks for guests, coarse enough that they time no cache: steps of one millisecond.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;
use wasmtime_wasi::{HostMonotonicClock, HostWallClock};

/// The step of every clock that a guest can read.
const STEP: Duration = Duration::from_millis(1);

/// Time since the sandbox was made.
pub(super) struct CoarseMonotonic(Instant);

impl CoarseMonotonic {
    pub(super) fn starting_now() -> Self {
        Self(Instant::now())
    }
}

impl HostMonotonicClock for CoarseMonotonic {
    fn resolution(&self) -> u64 {
        STEP.as_nanos() as u64
    }

    fn now(&self) -> u64 {
        coarse(self.0.elapsed()).as_nanos() as u64
    }
}

/// Time of day.
pub(super) struct CoarseWall;

impl HostWallClock for CoarseWall {
    fn resolution(&self) -> Duration {
        STEP
    }

    fn now(&self) -> Duration {
        coarse(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
    }
}

/// Rounds down to the step.
fn coarse(time: Duration) -> Duration {
    Duration::from_millis(time.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn t13_clocks_only_show_whole_milliseconds() {
        let clock = CoarseMonotonic::starting_now();
        tokio::time::advance(Duration::from_nanos(2_999_999)).await;
        assert_eq!(clock.now(), 2_000_000);
        assert_eq!(clock.resolution(), 1_000_000);
        assert_eq!(CoarseWall.now().subsec_nanos() % 1_000_000, 0);
    }
}
