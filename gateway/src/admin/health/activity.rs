//! What several gateways counted of a function's calls, added up. Pure.

use std::{cmp::Reverse, collections::BTreeMap};

use dunlin_proto::{
    ErrorCode,
    internal::v1::SummarizeRecordsResponse,
    model::to_wire_duration,
    outcome::{BUCKETS, longest},
    v1,
};

/// What gateways counted.
#[derive(Debug, Default)]
pub(in crate::admin) struct Sum {
    outcomes: BTreeMap<String, u64>,
    refusals: BTreeMap<String, u64>,
    durations: Vec<u64>,
    cold_starts: u64,
    /// Calls of the function that run or wait.
    pub(in crate::admin) running: u64,
    /// Calls of its namespace that do.
    pub(in crate::admin) namespace_running: u64,
    /// Records that were lost.
    pub(in crate::admin) lost_records: u64,
}

impl Sum {
    /// Adds what a gateway counted. What another one says is bounded by what this one knows of: buckets that it has not are left.
    pub(in crate::admin) fn add(&mut self, counted: SummarizeRecordsResponse) {
        add(&mut self.outcomes, counted.outcomes);
        add(&mut self.refusals, counted.refusals);
        self.durations.resize(BUCKETS, 0);
        self.durations.iter_mut().zip(counted.durations).for_each(|(sum, more)| *sum = sum.saturating_add(more));
        self.cold_starts = self.cold_starts.saturating_add(counted.cold_starts);
        self.running += u64::from(counted.running);
        self.namespace_running += u64::from(counted.namespace_running);
        self.lost_records = self.lost_records.saturating_add(counted.lost_records);
    }

    /// What calls came to.
    pub(in crate::admin) fn activity(&self) -> v1::FunctionActivity {
        let failed = self.outcomes.iter().filter(|(outcome, _)| is_failure(outcome));
        let errors = ordered(failed);
        v1::FunctionActivity {
            calls: self.outcomes.values().sum(),
            failures: errors.iter().map(|error| error.count).sum(),
            errors,
            cold_starts: self.cold_starts,
            refusals: ordered(self.refusals.iter()),
            p50: quantile(&self.durations, 50),
            p99: quantile(&self.durations, 99),
        }
    }
}

fn add(sums: &mut BTreeMap<String, u64>, counts: Vec<v1::OutcomeCount>) {
    for v1::OutcomeCount { outcome, count, .. } in counts {
        let sum = sums.entry(outcome).or_default();
        *sum = sum.saturating_add(count);
    }
}

/// A caller who leaves is nobody's failure.
fn is_failure(outcome: &str) -> bool {
    outcome != "ok" && outcome != ErrorCode::Cancelled.as_str()
}

/// The most frequent first.
fn ordered<'c>(counts: impl Iterator<Item = (&'c String, &'c u64)>) -> Vec<v1::OutcomeCount> {
    let count = |(outcome, count): (&String, &u64)| v1::OutcomeCount {
        outcome: outcome.clone(),
        count: *count,
        ..Default::default()
    };
    let mut counts: Vec<_> = counts.map(count).collect();
    counts.sort_by_key(|count| Reverse(count.count));
    counts
}

/// The longest duration of the bucket up to which so many percent lie; nothing where there is none.
fn quantile(durations: &[u64], percent: u64) -> Option<prost_types::Duration> {
    let all: u64 = durations.iter().sum();
    let rank = u128::from(all) * u128::from(percent);
    let mut below = 0_u128;
    let reached = |count: &u64| {
        below += u128::from(*count);
        below > 0 && below * 100 >= rank
    };
    durations.iter().position(reached).map(|bucket| to_wire_duration(longest(bucket)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use dunlin_proto::outcome::bucket;

    use super::*;

    fn counted(outcomes: &[(&str, u64)], millis: &[u64]) -> SummarizeRecordsResponse {
        let count = |(outcome, count): &(&str, u64)| v1::OutcomeCount {
            outcome: (*outcome).into(),
            count: *count,
            ..Default::default()
        };
        let mut durations = vec![0; BUCKETS];
        millis.iter().for_each(|millis| durations[bucket(Duration::from_millis(*millis))] += 1);
        let outcomes = outcomes.iter().map(count).collect();
        SummarizeRecordsResponse { outcomes, durations, cold_starts: 1, running: 2, ..Default::default() }
    }

    #[test]
    fn what_gateways_counted_makes_one_picture() {
        let mut sum = Sum::default();
        sum.add(counted(&[("ok", 95), ("cancelled", 1), ("function_failed", 1)], &[1; 98]));
        sum.add(counted(&[("ok", 1), ("deadline_exceeded", 2), ("function_failed", 3)], &[900, 900]));
        let activity = sum.activity();
        assert_eq!((activity.calls, activity.failures, activity.cold_starts, sum.running), (103, 6, 2, 4));
        let errors: Vec<_> = activity.errors.iter().map(|error| (error.outcome.as_str(), error.count)).collect();
        assert_eq!(errors, [("function_failed", 4), ("deadline_exceeded", 2)]);
        let at = |millis| Some(to_wire_duration(longest(bucket(Duration::from_millis(millis)))));
        assert_eq!((activity.p50, activity.p99), (at(1), at(900)));
        assert_eq!(Sum::default().activity(), v1::FunctionActivity::default());
    }
}
