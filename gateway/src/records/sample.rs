//! Which records are kept where there are very many: of each namespace a number a second whole, and of what comes beyond the
//! fewer the more there are, each standing for those that are left out beside it. Failures and successes are counted apart, so
//! that neither hides the other. The decision is a pure function; time is the records' own.

use std::{collections::HashMap, num::NonZeroU32, time::SystemTime};

use dunlin_proto::ids::Namespace;

use super::Record;

/// Failures of a namespace that are all kept in a second.
const FAILURES: u32 = 100;
/// Successes of a namespace that are all kept in a second.
const SUCCESSES: u32 = 100;
/// Namespaces whose counts are remembered; beyond that they begin anew, which keeps more and not less.
const NAMESPACES: usize = 10_000;

/// For how many the n-th of a second stands; nothing where it is left out. The first `all` are all kept, of as many more every
/// second one, of twice as many more every fourth, and so on: what is kept grows with the logarithm of what comes.
fn weight(nth: u32, all: u32) -> Option<NonZeroU32> {
    let every = nth.div_ceil(all.max(1)).max(1).checked_next_power_of_two()?;
    nth.is_multiple_of(every).then_some(every).and_then(NonZeroU32::new)
}

/// What a namespace's records of a second come to so far.
#[derive(Debug, Clone, Copy, Default)]
struct Second {
    number: u64,
    failures: u32,
    successes: u32,
}

impl Second {
    fn count(&mut self, number: u64, failed: bool) -> Option<NonZeroU32> {
        // Records come in the order in which calls end: one that took long belongs to the second that is now.
        if number > self.number {
            *self = Self { number, ..Self::default() };
        }
        let (count, all) = if failed { (&mut self.failures, FAILURES) } else { (&mut self.successes, SUCCESSES) };
        *count = count.saturating_add(1);
        weight(*count, all)
    }
}

/// Decides which records are kept.
#[derive(Debug, Default)]
pub(super) struct Sampler(HashMap<Namespace, Second>);

impl Sampler {
    /// For how many requests a record stands; nothing where it is not kept.
    pub(super) fn weight(&mut self, record: &Record) -> Option<NonZeroU32> {
        let ended = record.start_time + record.lasted();
        let second = ended.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        if self.0.len() >= NAMESPACES {
            self.0.clear();
        }
        self.0.entry(record.function.namespace.clone()).or_default().count(second, record.failed())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::records::file::tests::record;

    #[test]
    fn few_are_all_kept_and_of_many_each_stands_for_others() {
        for (nth, expected) in [
            (1, Some(1)),
            (100, Some(1)),
            (101, None),
            (102, Some(2)),
            (200, Some(2)),
            (201, None),
            (204, Some(4)),
            (9_999, None),
            (10_112, Some(128)),
        ] {
            assert_eq!(weight(nth, 100).map(NonZeroU32::get), expected, "{nth}");
        }
        assert_eq!(weight(1, 0).map(NonZeroU32::get), Some(1));
    }

    #[test]
    fn what_is_kept_is_bounded_and_stands_for_all() {
        for (count, most) in [(100, 100), (1_000, 270), (10_000, 450), (1_000_000, 800)] {
            let kept: Vec<_> = (1..=count).filter_map(|nth| weight(nth, 100)).collect();
            let sum: u32 = kept.iter().map(|weight| weight.get()).sum();
            assert!(kept.len() <= most, "{} of {count} are kept", kept.len());
            assert!(sum.abs_diff(count) <= count / 50, "they stand for {sum} of {count}");
        }
    }

    #[test]
    fn each_namespace_and_failures_beside_successes_have_their_own_share_of_a_second() {
        let mut sampler = Sampler::default();
        let mut kept = |namespace: &str, outcome: &'static str, second: u64, count: u32| {
            let mut record = record(namespace, "pay");
            record.outcome = outcome.into();
            record.start_time = SystemTime::UNIX_EPOCH + Duration::from_secs(second);
            (0..count).filter(|_| sampler.weight(&record).is_some()).count()
        };
        assert_eq!(kept("shop", "ok", 1, 100), 100);
        assert!(kept("shop", "ok", 1, 100) <= 50);
        assert_eq!(kept("shop", "internal", 1, 100), 100);
        assert!(kept("shop", "internal", 1, 100) <= 50);
        assert_eq!(kept("bank", "internal", 1, 100), 100);
        assert_eq!(kept("shop", "internal", 2, 100), 100);
        assert!(kept("shop", "internal", 1, 100) <= 50, "one that began before ended now");
    }

    #[test]
    fn what_functions_answer_themselves_is_kept_as_a_failure_from_500_on() {
        let mut sampler = Sampler::default();
        let mut kept = |status: u16, count: u32| {
            let mut record = record("shop", "pay");
            (record.status, record.start_time) = (status, SystemTime::UNIX_EPOCH + Duration::from_secs(1));
            (0..count).filter(|_| sampler.weight(&record).is_some()).count()
        };
        assert!(kept(200, 1_000) < 300);
        assert!(kept(404, 100) < 10, "they share what successes have");
        assert_eq!(kept(500, 50) + kept(503, 50), 100, "none gives way to successes");
        assert!(kept(500, 100) <= 50, "they are bounded, too");
    }
}
