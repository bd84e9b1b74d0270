//! What recent records say about a function: how many calls, how many failed, how long they took. Pure.

use super::format;
use crate::admin::model::Invocation;

/// Recent calls in numbers, as the pages print them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Stats {
    pub(super) calls: usize,
    pub(super) failed: usize,
    /// How many of the calls failed; empty where none did.
    pub(super) failed_share: String,
    /// How many of the calls had to wait for a sandbox to be made.
    pub(super) cold: usize,
    /// Of all calls, the time that half of them were under.
    pub(super) median: String,
    /// The time that 95 of 100 were under.
    pub(super) p95: String,
    /// The time that 99 of 100 were under.
    pub(super) p99: String,
    /// CPU time of the guest, in the mean.
    pub(super) cpu: String,
}

/// What a number that nobody knows looks like.
const UNKNOWN: &str = "–";

impl Stats {
    /// The numbers of these calls.
    pub(super) fn of<'a>(calls: impl Iterator<Item = &'a Invocation>) -> Self {
        let calls: Vec<_> = calls.collect();
        let failed = calls.iter().filter(|call| !call.is_ok()).count();
        let mut times: Vec<_> = calls.iter().map(|call| call.total_us()).collect();
        times.sort_unstable();
        let cpu: u64 = calls.iter().map(|call| call.receipt.cpu_us).sum();
        let known = |value: Option<u64>| value.map_or_else(|| UNKNOWN.to_owned(), format::micros);
        Self {
            calls: calls.len(),
            failed,
            failed_share: format::share(failed, calls.len()),
            cold: calls.iter().filter(|call| call.receipt.start_us > 0).count(),
            median: known(percentile(&times, 50)),
            p95: known(percentile(&times, 95)),
            p99: known(percentile(&times, 99)),
            cpu: known(cpu.checked_div(calls.len() as u64)),
        }
    }
}

/// The smallest of the sorted values that is not under `percent` percent of them.
fn percentile(sorted: &[u64], percent: usize) -> Option<u64> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use dunlin_proto::v1;

    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let values: Vec<u64> = (1..=100).collect();
        assert_eq!((percentile(&values, 50), percentile(&values, 95)), (Some(50), Some(95)));
        assert_eq!((percentile(&[7], 50), percentile(&[7], 95)), (Some(7), Some(7)));
        assert_eq!(percentile(&[], 50), None);
    }

    #[test]
    fn calls_are_counted_and_no_call_is_no_number() {
        let call = |outcome: &str, micros: i32| {
            let run = Some(prost_types::Duration { seconds: 0, nanos: micros * 1_000 });
            let start = run.filter(|_| micros == 300);
            let receipt = Some(v1::Receipt { run, cpu: run, start, ..Default::default() });
            Invocation::from(v1::Invocation { outcome: outcome.into(), receipt, ..Default::default() })
        };
        let calls = [call("ok", 100), call("ok", 300), call("internal", 200), call("ok", 400)];
        let stats = Stats::of(calls.iter());
        assert_eq!((stats.calls, stats.failed, stats.failed_share.as_str(), stats.cold), (4, 1, "25 %", 1));
        assert_eq!((stats.median.as_str(), stats.p95.as_str(), stats.cpu.as_str()), ("200 µs", "600 µs", "250 µs"));
        assert_eq!(Stats::of([].iter()).median, UNKNOWN);
    }
}
