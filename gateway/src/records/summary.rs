//! What a function's calls came to lately, by the records and refusals of this gateway. Nothing is decided here: what the
//! numbers mean says `admin/health.rs`.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use dunlin_proto::{
    internal::v1::SummarizeRecordsResponse,
    names::{FunctionRef, Scope},
    outcome::{BUCKETS, bucket},
    v1,
};

use super::{Record, Records, Wanted};

/// The longest time that is summed up: refusals are counted by minutes for as long.
pub(crate) const MOST: Duration = Duration::from_secs(300);

impl Records {
    /// What a function's calls came to that were accepted within this time.
    pub(crate) async fn summary(
        &self,
        function: &FunctionRef,
        window: Duration,
        now: SystemTime,
    ) -> SummarizeRecordsResponse {
        let since = now.checked_sub(window.min(MOST)).unwrap_or(SystemTime::UNIX_EPOCH);
        let scope = Scope { namespace: function.namespace.clone(), function: Some(function.function.clone()) };
        let wanted = Wanted { since: Some(since), ..Wanted::default() };
        let records = self.list(&scope, &wanted, None, usize::MAX).await;
        SummarizeRecordsResponse {
            refusals: self.refused.since(&scope, since),
            lost_records: self.lost_since(since),
            ..summed(records.iter().map(AsRef::as_ref))
        }
    }
}

fn summed<'r>(records: impl Iterator<Item = &'r Record>) -> SummarizeRecordsResponse {
    let (mut outcomes, mut durations) = (BTreeMap::<&str, u64>::new(), vec![0; BUCKETS]);
    let mut cold_starts = 0;
    for record in records {
        let weight = u64::from(record.weight.max(1));
        *outcomes.entry(record.kind()).or_default() += weight;
        if let Some(count) = durations.get_mut(bucket(record.lasted())) {
            *count += weight;
        }
        cold_starts += if record.receipt.start.is_zero() { 0 } else { weight };
    }
    let outcomes = outcomes.into_iter().map(|(outcome, count)| counted(outcome, count)).collect();
    SummarizeRecordsResponse { outcomes, durations, cold_starts, ..Default::default() }
}

/// How often something became of requests of the function that is asked for.
pub(super) fn counted(outcome: &str, count: u64) -> v1::OutcomeCount {
    v1::OutcomeCount { outcome: outcome.to_owned(), count, ..Default::default() }
}

#[cfg(test)]
mod tests {
    use dunlin_proto::outcome::ANSWERED_5XX;

    use super::*;
    use crate::records::file::tests::record;

    #[test]
    fn records_are_summed_up_by_what_became_of_them_and_for_as_many_as_they_stand() {
        let of = |outcome: &'static str, status, weight, start: u64| {
            let mut record = record("shop", "pay");
            (record.outcome, record.status, record.weight) = (outcome.into(), status, weight);
            record.receipt.start = Duration::from_micros(start);
            record
        };
        let records =
            [of("ok", 200, 4, 0), of("ok", 404, 1, 900), of("ok", 503, 1, 0), of("function_failed", 502, 2, 50)];
        let sum = summed(records.iter());
        let outcomes: Vec<_> = sum.outcomes.iter().map(|of| (of.outcome.as_str(), of.count)).collect();
        assert_eq!(outcomes, [(ANSWERED_5XX, 1), ("function_failed", 2), ("ok", 5)]);
        assert_eq!((sum.durations.iter().sum::<u64>(), sum.cold_starts), (8, 3));
    }
}
