//! What became of versions' calls, as gateways count it, put together for the whole cluster. Nothing is decided here, and nothing
//! is durable: gateways count up from their start, and after a restart of the scheduler counting begins with what they say first.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use dunlin_proto::{
    ids::{GatewayId, VersionKey},
    outcome::longest,
};

/// What became of a version's calls in some time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) calls: u64,
    /// With a status of 500 or above, traps among them.
    pub(crate) failures: u64,
    pub(crate) traps: u64,
    /// Calls that found a sandbox ready, by the buckets of their durations.
    pub(crate) durations: BTreeMap<usize, u64>,
}

impl Tally {
    /// What has come since an earlier tally.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let durations = self.durations.iter().map(|(bucket, count)| {
            let before = earlier.durations.get(bucket).copied().unwrap_or_default();
            (*bucket, count.saturating_sub(before))
        });
        Self {
            calls: self.calls.saturating_sub(earlier.calls),
            failures: self.failures.saturating_sub(earlier.failures),
            traps: self.traps.saturating_sub(earlier.traps),
            durations: durations.filter(|(_, count)| *count > 0).collect(),
        }
    }

    fn add(&mut self, other: &Self) {
        self.calls = self.calls.saturating_add(other.calls);
        self.failures = self.failures.saturating_add(other.failures);
        self.traps = self.traps.saturating_add(other.traps);
        for (bucket, count) in &other.durations {
            let sum = self.durations.entry(*bucket).or_default();
            *sum = sum.saturating_add(*count);
        }
    }

    /// Calls of which it is known how long they took.
    pub(crate) fn timed(&self) -> u64 {
        self.durations.values().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// The duration that so many calls, the shortest first, did not exceed; 1 is the shortest one's.
    pub(crate) fn duration_at(&self, rank: u64) -> Option<Duration> {
        let mut seen = 0_u64;
        let reached = self.durations.iter().find(|(_, count)| {
            seen = seen.saturating_add(**count);
            seen >= rank.max(1)
        });
        reached.map(|(bucket, _)| longest(*bucket))
    }

    /// The duration that 99 of 100 calls did not exceed.
    pub(crate) fn p99(&self) -> Option<Duration> {
        self.duration_at(self.timed().saturating_mul(99).div_ceil(100))
    }
}

/// Which process counts: a gateway, and what it chose at its start.
pub(crate) type Counter = (GatewayId, u64);

/// What gateways have counted. Clones are of no use: it is shared.
#[derive(Debug, Default)]
pub(crate) struct Counted(Mutex<BTreeMap<VersionKey, Sums>>);

/// The counts of one version.
#[derive(Debug, Default)]
struct Sums {
    /// What each process said first, and last.
    by: BTreeMap<Counter, (Tally, Tally)>,
    /// The callers whose calls trapped lately, by gateway.
    trapped: BTreeMap<GatewayId, BTreeSet<u64>>,
}

/// What one gateway says of one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) version: VersionKey,
    pub(crate) tally: Tally,
    pub(crate) trapped: BTreeSet<u64>,
}

/// Processes of which a version's counts are kept.
const MOST_COUNTERS: usize = 1_000;

impl Counted {
    fn sums(&self) -> MutexGuard<'_, BTreeMap<VersionKey, Sums>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Only these are judged from now on.
    pub(crate) fn watch(&self, versions: &BTreeSet<VersionKey>) {
        let mut sums = self.sums();
        sums.retain(|version, _| versions.contains(version));
        for version in versions {
            sums.entry(*version).or_default();
        }
    }

    /// A gateway says what it has counted.
    pub(crate) fn report(&self, counter: &Counter, counts: Vec<Counts>) {
        let mut sums = self.sums();
        for Counts { version, tally, trapped } in counts {
            let Some(sums) = sums.get_mut(&version) else { continue };
            sums.trapped.insert(counter.0.clone(), trapped);
            if sums.by.contains_key(counter) || sums.by.len() < MOST_COUNTERS {
                let (_, last) = sums.by.entry(counter.clone()).or_insert_with(|| (tally.clone(), Tally::default()));
                *last = tally;
            }
        }
    }

    /// A gateway is no longer heard: what it said of the last seconds is over.
    pub(crate) fn leave(&self, gateway: &GatewayId) {
        self.sums().values_mut().for_each(|sums| drop(sums.trapped.remove(gateway)));
    }

    /// Everything since it has been counted.
    pub(crate) fn of(&self, version: &VersionKey) -> Tally {
        let sums = self.sums();
        let mut sum = Tally::default();
        let all = sums.get(version).into_iter().flat_map(|sums| sums.by.values());
        all.for_each(|(first, last)| sum.add(&last.since(first)));
        sum
    }

    /// How many callers had calls that trapped in the last seconds.
    pub(crate) fn trapped_callers(&self, version: &VersionKey) -> usize {
        let sums = self.sums();
        let all = sums.get(version).into_iter().flat_map(|sums| sums.trapped.values().flatten());
        all.collect::<BTreeSet<_>>().len()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use dunlin_proto::{
        ids::{FunctionUid, VersionNumber},
        outcome::bucket,
    };

    use super::*;

    pub(in crate::rollout) fn tally(calls: u64, failures: u64, traps: u64, took: &[(u64, u64)]) -> Tally {
        let durations = took.iter().map(|(millis, count)| (bucket(Duration::from_millis(*millis)), *count)).collect();
        Tally { calls, failures, traps, durations }
    }

    #[test]
    fn counts_of_gateways_add_up_and_survive_them() {
        let counted = Counted::default();
        let version = VersionKey { function: FunctionUid::new(), number: VersionNumber::FIRST };
        let say = |gateway: &str, process, calls, trapped: &[u64]| {
            let (tally, trapped) = (tally(calls, 1, 1, &[(3, calls)]), trapped.iter().copied().collect());
            counted.report(&(gateway.parse().unwrap(), process), vec![Counts { version, tally, trapped }]);
        };
        say("a", 1, 5, &[]);
        assert_eq!(counted.of(&version), Tally::default(), "nobody judges it");
        counted.watch(&[version].into());
        say("a", 1, 100, &[7]);
        say("b", 2, 1_000, &[7, 8]);
        assert_eq!(
            (counted.of(&version).calls, counted.trapped_callers(&version)),
            (0, 2),
            "it begins with what is said first"
        );
        say("a", 1, 130, &[7]);
        say("b", 2, 1_010, &[8]);
        assert_eq!((counted.of(&version).calls, counted.of(&version).timed()), (40, 40));
        // Another process of the same name counts anew, and what the first had counted stays.
        counted.leave(&"a".parse().unwrap());
        assert_eq!(counted.trapped_callers(&version), 1);
        say("a", 3, 0, &[]);
        say("a", 3, 2, &[]);
        assert_eq!(counted.of(&version).calls, 42);
        counted.watch(&BTreeSet::new());
        assert_eq!(counted.of(&version).calls, 0);
    }

    #[test]
    fn durations_have_ranks() {
        let tally = tally(100, 0, 0, &[(10, 98), (50, 1), (400, 1)]);
        let about = |found: Option<Duration>, millis: u64| {
            let found = found.unwrap().as_secs_f64() * 1000.0;
            let millis = f64::from(u32::try_from(millis).unwrap());
            assert!((millis..millis * 1.1).contains(&found), "{found} is not about {millis}");
        };
        about(tally.p99(), 50);
        about(tally.duration_at(100), 400);
        about(tally.duration_at(0), 10);
        assert_eq!((tally.duration_at(101), Tally::default().p99()), (None, None));
    }
}
