//! What the stream to the scheduler says of quotas: what is left of loans, and how far calls may go before the next word
//! (`limits/quota/loan.rs`). It rides in the report of load; what the scheduler knows, it says with the report's number.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use dunlin_proto::internal::v1::QuotaLeft;
use tokio::time::Instant;

use crate::{
    limits::{Begun, PeriodQuota, QuotaLoan, Report},
    routes::Table,
};

/// So often it is looked whether there is something to say, where nothing else is to be said. What may be used without a word is
/// what is admitted in a second, so that there is time for the answer.
const OFTEN: Duration = Duration::from_millis(700);
/// Within this time of the last look, not even then.
const SELDOM: Duration = Duration::from_millis(250);
/// Quotas in one report, so that it is not too large a message; the others follow.
const MOST: usize = 10_000;
/// Reports that are not known to be known. With more, the scheduler is too slow to be told.
const OPEN: usize = 16;

/// What waits to be known.
#[derive(Debug)]
struct Open {
    sequence: u64,
    /// Loans, by number, with the floors that they have then.
    floors: Vec<(Arc<Begun<QuotaLoan>>, u64, u64)>,
}

/// What has been said on a stream.
#[derive(Debug)]
pub(super) struct Lefts {
    sequence: u64,
    looked: Instant,
    open: VecDeque<Open>,
    /// The scheduler has said that something is known.
    confirms: bool,
}

impl Lefts {
    /// Nothing has been said.
    pub(super) fn new(now: Instant) -> Self {
        Self { sequence: 0, looked: now, open: VecDeque::new(), confirms: false }
    }

    /// Another stream begins. What was said on the last one is not confirmed any more.
    pub(super) fn begin(&mut self, table: &Table) {
        *self = Self::new(self.looked);
        table.quotas().filter_map(|quota| quota.loan.seen()).for_each(QuotaLoan::begin);
    }

    /// Whether it is time to look, although there is nothing else to say.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.looked) >= OFTEN && self.open.len() < OPEN
    }

    /// What there is to say in the next report, which will be sent, with its number; 0 and nothing where there is nothing.
    pub(super) fn look(&mut self, table: &Table, now: Instant) -> (Vec<QuotaLeft>, u64) {
        let since = now.saturating_duration_since(self.looked);
        if since < SELDOM || self.open.len() >= OPEN {
            return (Vec::new(), 0);
        }
        self.looked = now;
        let report = Report { sequence: self.sequence + 1, since, confirms: self.confirms };
        let mut floors = Vec::new();
        let said = |quota: &Arc<PeriodQuota>| {
            let news = quota.loan.seen()?.news(report, now)?;
            if news.lowers {
                floors.push((quota.loan.clone(), news.loan, news.floor));
            }
            let (key, limit) = quota.named();
            let (loan, period_start) = (news.loan, news.period_start);
            Some(QuotaLeft { key, limit, loan, period_start, left: news.left, floor: news.floor })
        };
        let lefts: Vec<_> = table.quotas().filter_map(said).take(MOST).collect();
        if lefts.is_empty() {
            return (lefts, 0);
        }
        self.sequence = report.sequence;
        if !floors.is_empty() {
            self.open.push_back(Open { sequence: self.sequence, floors });
        }
        (lefts, self.sequence)
    }

    /// The scheduler knows what was said up to here.
    pub(super) fn noted(&mut self, sequence: u64) {
        self.confirms = true;
        while self.open.front().is_some_and(|open| open.sequence <= sequence) {
            let Some(Open { sequence, floors }) = self.open.pop_front() else { break };
            for (loan, number, floor) in floors {
                loan.get().lower(number, floor, sequence);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::quota_tests::{admits, borrowed};

    fn table(quota: &Arc<PeriodQuota>) -> Table {
        Table { quotas: Arc::new([(quota.owner.clone(), quota.clone())].into()), ..Table::default() }
    }

    #[test]
    fn what_a_lower_floor_lets_go_is_used_once_the_scheduler_knows_of_it() {
        let now = Instant::now();
        let quota = Arc::new(borrowed(20, 10, now));
        let (table, mut lefts) = (table(&quota), Lefts::new(now));
        assert_eq!(admits(&quota, 20, now), 9);
        assert_eq!(lefts.look(&table, now), (Vec::new(), 0), "it has just been looked");
        let (said, sequence) = lefts.look(&table, now + SELDOM);
        assert_eq!((said.len(), said[0].left, said[0].floor, sequence), (1, 10, 0, 1));
        assert_eq!((said[0].key.as_str(), said[0].limit.as_str()), ("abcdefghijkl", ""));
        assert_eq!(admits(&quota, 20, now), 0);
        lefts.noted(sequence);
        assert_eq!(admits(&quota, 20, now), 10);
    }

    #[test]
    fn what_was_said_on_an_earlier_stream_is_not_known_on_the_next() {
        let now = Instant::now();
        let quota = Arc::new(borrowed(20, 10, now));
        let (table, mut lefts) = (table(&quota), Lefts::new(now));
        assert_eq!(admits(&quota, 20, now), 9);
        let (_, sequence) = lefts.look(&table, now + SELDOM);
        lefts.begin(&table);
        lefts.noted(sequence);
        assert_eq!(admits(&quota, 20, now), 0);
        let (said, sequence) = lefts.look(&table, now + 2 * SELDOM);
        assert_eq!((said[0].left, said[0].floor), (10, 0), "it is said anew");
        lefts.noted(sequence);
        assert_eq!(admits(&quota, 20, now), 10);
    }

    #[test]
    fn with_many_reports_open_nothing_more_is_said() {
        let now = Instant::now();
        let mut lefts = Lefts::new(now);
        assert!(!lefts.is_due(now) && lefts.is_due(now + OFTEN));
        let open = |sequence| Open { sequence, floors: Vec::new() };
        lefts.open = (1..=OPEN as u64).map(open).collect();
        assert!(!lefts.is_due(now + OFTEN));
        let quota = Arc::new(borrowed(20, 10, now));
        assert_eq!(lefts.look(&table(&quota), now + OFTEN).1, 0);
        lefts.noted(1);
        assert!(lefts.is_due(now + OFTEN));
        assert_eq!(lefts.look(&table(&quota), now + OFTEN).1, 1);
    }
}
