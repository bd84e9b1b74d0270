//! Which invocations are traced: decided at their beginning, by one comparison, and for failures and slow ones at their end.
//! Pure; how many there may be in a second is `traces`' business.

use std::time::Duration;

use crate::records::Record;

/// Of a trace's id, as many bits at the end are random (W3C Trace Context, level 2, 3.2.2.3.1).
const RANDOM_BITS: u32 = 56;

/// By what it is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rule {
    /// Traces with a smaller random part are taken.
    threshold: u64,
    slow: Duration,
}

/// Who wants a trace to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// Nobody.
    Nobodys,
    /// The operator, by the ratio.
    Ours,
    /// The caller, by its flag.
    Callers,
}

/// That part of all ids.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the ratio is from 0 to 1")]
#[expect(clippy::cast_precision_loss, reason = "a power of two has none to lose")]
fn threshold(ratio: f64) -> u64 {
    (ratio.clamp(0.0, 1.0) * (1_u64 << RANDOM_BITS) as f64) as u64
}

impl Rule {
    /// Takes this part of traces, and those of invocations that take so long.
    pub(super) fn new(ratio: f64, slow: Duration) -> Self {
        Self { threshold: threshold(ratio), slow }
    }

    /// What takes this long is worth a trace.
    pub(super) fn slow(&self) -> Duration {
        self.slow
    }

    /// Who wants the trace with this id; with the caller's `flag`, it is the caller's, who decides for its whole trace.
    pub(super) fn wish(&self, id: u128, flag: Option<bool>) -> Wish {
        match flag {
            Some(true) => Wish::Callers,
            // The id is the caller's choice: with it, anybody could get by the ratio.
            Some(false) => Wish::Nobodys,
            None if random_part(id) < self.threshold => Wish::Ours,
            None => Wish::Nobodys,
        }
    }

    /// Whether an invocation is worth a trace by what became of it: it failed by no fault of the caller's, or was slow.
    pub(super) fn is_notable(&self, record: &Record) -> bool {
        failed(record) || record.lasted() >= self.slow
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the last bits are meant")]
fn random_part(id: u128) -> u64 {
    id as u64 & ((1 << RANDOM_BITS) - 1)
}

/// Whether it failed by no fault of the caller's.
pub(super) fn failed(record: &Record) -> bool {
    let callers = record.outcome == "cancelled" || (400..500).contains(&record.status);
    record.status >= 500 || (record.failed() && !callers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traces::spans::tests::record;

    #[test]
    fn the_ratio_counts_for_new_traces_and_the_flag_for_those_of_callers() {
        let half = 1_u128 << (RANDOM_BITS - 1);
        for (ratio, id, flag, expected) in [
            (0.0, 0, None, Wish::Nobodys),
            (1.0, u128::MAX, None, Wish::Ours),
            (0.5, half - 1, None, Wish::Ours),
            (0.5, half, None, Wish::Nobodys),
            (0.5, u128::MAX << RANDOM_BITS, None, Wish::Ours),
            (0.0, 0, Some(true), Wish::Callers),
            (1.0, 0, Some(false), Wish::Nobodys),
        ] {
            assert_eq!(Rule::new(ratio, Duration::MAX).wish(id, flag), expected, "{ratio} {id:x} {flag:?}");
        }
    }

    #[test]
    fn failures_that_are_not_the_callers_and_slow_ones_are_notable() {
        let rule = Rule::new(0.0, Duration::from_secs(1));
        for (status, outcome, run_ms, expected) in [
            (200, "ok", 10, false),
            (200, "ok", 1_000, true),
            (404, "ok", 10, false),
            (500, "ok", 10, true),
            (502, "function_failed", 10, true),
            (200, "function_failed", 10, true),
            (0, "cancelled", 10, false),
            (413, "payload_too_large", 10, false),
        ] {
            let mut record = record();
            (record.status, record.outcome) = (status, outcome.into());
            record.receipt.run = Duration::from_millis(run_ms);
            assert_eq!(rule.is_notable(&record), expected, "{status} {outcome} {run_ms}");
        }
    }
}
