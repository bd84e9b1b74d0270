//! What the stream to the scheduler says of limits of calls: loans down, what callers want and have used up; and which parts an
//! earlier process was lent. What a part is, is told in `limits/part.rs` and `limits/slots.rs`.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::Context;
use dunlin_proto::{
    internal::v1::{
        HeldRate, HeldRates, RateDemand, RateLoan, RateLoans, RateReport, SyncGatewayRequest,
        sync_gateway_request::Report,
    },
    limit::LimitId,
};
use tokio::{sync::mpsc, time::Instant};

use crate::{
    limits::{Bounded, Limit, Loan, Share, Want},
    routes::Table,
};

/// How often the pace of callers is looked at.
pub(super) const MEASURE: Duration = Duration::from_millis(250);
/// Limits in one report, so that it is not too large a message; the others follow.
const MOST: usize = 10_000;

/// What there may be to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// It is time to look at what callers want.
    Measure,
    /// Parts have changed, or somebody waits for one.
    Loans,
    /// The same, of limits of calls at once alone.
    Slots,
}

/// What is held as a stream begins.
pub(super) fn held(table: &Table) -> Vec<HeldRate> {
    let rates = table.limits.values().filter_map(|limit| Some(wire(&limit.id, limit.part.seen()?.begin()?)));
    let slots = table.bounded().filter_map(|bounded| Some(wire(&bounded.id, bounded.slots.begin()?)));
    rates.chain(slots).collect()
}

fn wire(limit: &LimitId, (part, share): (u64, Share)) -> HeldRate {
    HeldRate { limit: limit.to_string(), per_second: share.per_second, burst: share.burst, part }
}

/// What is held now, for the disk.
pub(super) fn parts(table: &Table, now: SystemTime) -> HeldRates {
    // Another process numbers its parts anew.
    let rates = table.limits.values().filter_map(|limit| Some(wire(&limit.id, (0, limit.part.seen()?.held()?))));
    let slots = table.bounded().filter_map(|bounded| Some(wire(&bounded.id, (0, bounded.slots.held()?))));
    HeldRates { held: rates.chain(slots).collect(), time: seconds(now) }
}

fn seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Puts in force what was on disk and is not older than the configuration may be, with nothing saved up and no more of any limit than
/// it allows now; says of how many.
pub(super) fn restore(table: &Table, parts: &HeldRates, now: SystemTime, max_staleness: Duration) -> usize {
    let oldest = seconds(now.checked_sub(max_staleness).unwrap_or(SystemTime::UNIX_EPOCH));
    let held = parts.held.iter().filter(|_| parts.time >= oldest);
    held.filter(|held| restore_one(table, held).is_some()).count()
}

fn restore_one(table: &Table, held: &HeldRate) -> Option<()> {
    let id: LimitId = held.limit.parse().ok()?;
    if let Some(bounded) = table.bounded_by(&id) {
        let whole = f64::from(bounded.limit);
        return bounded.slots.restore(Share { per_second: 0.0, burst: held.burst.min(whole) });
    }
    let limit = table.limits.get(&id).filter(|limit| limit.rate.is_lent() && !limit.is_known())?;
    let burst = held.burst.min(limit.rate.burst.into());
    limit.part.get().take(Share { per_second: held.per_second.min(limit.rate.per_second()), burst }, Instant::now());
    Some(())
}

/// Keeps to loans. Those of limits that are not known (any more) lead to nothing, and are noted: the scheduler has to be told.
pub(super) fn apply(table: &Table, loans: RateLoans, unknown: &mut BTreeSet<LimitId>) {
    let now = Instant::now();
    for RateLoan { limit, sequence, per_second, burst, granted, part } in loans.loans {
        let Ok(id) = limit.parse::<LimitId>() else { continue };
        let loan = Loan { part, sequence, share: Share { per_second, burst }, granted };
        match (table.limits.get(&id), table.bounded_by(&id)) {
            (Some(limit), _) => limit.part.get().apply(loan, now),
            (None, Some(bounded)) => bounded.slots.apply(loan),
            (None, None) => drop(unknown.insert(id)),
        }
    }
}

/// What there is to tell of limits of calls in a time.
fn of_rates(table: &Table, measures: bool) -> Vec<(&Arc<Limit>, Want)> {
    let now = Instant::now();
    let news = table.limits.values().filter_map(|limit| {
        let part = limit.part.seen()?;
        if measures {
            part.note(limit.rate.period.length(), now);
        }
        let lent = if limit.rate.is_lent() { limit.rate.per_second() } else { f64::INFINITY };
        Some((limit, part.news(lent, now, measures)?))
    });
    news.take(MOST).collect()
}

/// The same of limits of calls at once.
fn of_slots(table: &Table, measures: bool) -> Vec<(&Bounded, Want)> {
    let news = |bounded| Some((bounded, Bounded::news(bounded, measures)?));
    table.bounded().filter_map(news).take(MOST).collect()
}

fn demand(limit: &LimitId, want: Want) -> RateDemand {
    let Want { calls, sequence, uses, part } = want;
    RateDemand { limit: limit.to_string(), wanted_per_second: calls, sequence, uses, part, gone: false }
}

/// Says that there is no such limit here.
fn gone(limit: &LimitId) -> RateDemand {
    RateDemand { limit: limit.to_string(), gone: true, ..RateDemand::default() }
}

/// Tells what there is to tell, of limits that are not known at first: what is known now was not known then. Where the scheduler is
/// slow, it is told with the next report. Returns whether something was told.
pub(super) fn report(
    table: &Table,
    reports: &mpsc::Sender<SyncGatewayRequest>,
    look: Look,
    unknown: &mut BTreeSet<LimitId>,
) -> anyhow::Result<bool> {
    let measures = look == Look::Measure;
    let rates = if look == Look::Slots { Vec::new() } else { of_rates(table, measures) };
    let slots = of_slots(table, measures);
    if rates.is_empty() && slots.is_empty() && unknown.is_empty() {
        return Ok(false);
    }
    let demands = unknown.iter().map(gone).chain(rates.iter().map(|(limit, want)| demand(&limit.id, *want)));
    let demands = demands.chain(slots.iter().map(|(bounded, want)| demand(&bounded.id, *want))).collect();
    match reports
        .try_send(SyncGatewayRequest { report: Some(Report::Rates(RateReport { demands, ..RateReport::default() })) })
    {
        Ok(()) => {
            unknown.clear();
            rates.iter().for_each(|(limit, want)| limit.part.get().sent(*want));
            slots.iter().for_each(|(bounded, want)| bounded.slots.sent(*want));
            Ok(true)
        }
        Err(mpsc::error::TrySendError::Full(_)) => Ok(false),
        Err(error @ mpsc::error::TrySendError::Closed(_)) => Err(error).context("send report"),
    }
}

#[cfg(test)]
mod tests {
    use dunlin_proto::model::Rate;

    use super::*;

    fn table(namespaces: &[&str]) -> Table {
        let limit = |name: &&str| {
            let id = LimitId::Namespace(name.parse().unwrap());
            let rate = Rate { burst: 50, ..Rate::from_wire("rate", per_second(100)).unwrap() };
            let (whose, part) = ((*name).to_owned(), Arc::default());
            (id.clone(), Arc::new(Limit { id, rate, whose, part }))
        };
        Table { limits: namespaces.iter().map(limit).collect(), ..Table::default() }
    }

    fn per_second(requests: u32) -> dunlin_proto::v1::RateLimit {
        let period = dunlin_proto::v1::RatePeriod::Second.into();
        dunlin_proto::v1::RateLimit { requests, period, burst: Some(50) }
    }

    fn loans(limit: &str, sequence: u64, part: u64) -> RateLoans {
        let loan = RateLoan { limit: limit.to_owned(), sequence, per_second: 60.0, burst: 30.0, granted: 1.0, part };
        RateLoans { loans: vec![loan] }
    }

    #[test]
    fn loans_of_what_is_not_known_are_answered_and_those_for_an_earlier_part_too() {
        let (reports, mut sent) = mpsc::channel(1);
        let (table, mut unknown) = (table(&["shop"]), BTreeSet::new());
        let mut said = |look, unknown: &mut BTreeSet<LimitId>| {
            report(&table, &reports, look, unknown).unwrap();
            let Some(Report::Rates(rates)) = sent.try_recv().ok()?.report else { panic!("it is a report of rates") };
            Some(rates.demands)
        };
        apply(&table, loans("namespace/bank", 3, 9), &mut unknown);
        apply(&table, loans("namespace/bank", 4, 9), &mut unknown);
        let demands = said(Look::Loans, &mut unknown).unwrap();
        assert_eq!(demands, [gone(&"namespace/bank".parse().unwrap())]);
        assert_eq!(said(Look::Loans, &mut unknown), None, "it is said once");
        apply(&table, loans("namespace/shop", 3, 9), &mut unknown);
        let demands = said(Look::Loans, &mut unknown).unwrap();
        let part = demands[0].part;
        assert!(!demands[0].gone && part > 0 && part != 9 && demands[0].sequence == 0, "{demands:?}");
        assert!(held(&table).is_empty());
        apply(&table, loans("namespace/shop", 1, part), &mut unknown);
        let held = held(&table);
        assert_eq!((held[0].part, held[0].burst), (part, 30.0));
        assert_eq!(parts(&table, SystemTime::now()).held[0].part, 0);
    }

    #[test]
    fn what_the_scheduler_is_too_slow_for_is_said_later() {
        let (reports, mut sent) = mpsc::channel(1);
        let (table, mut unknown) = (table(&[]), BTreeSet::new());
        reports.try_send(SyncGatewayRequest::default()).unwrap();
        apply(&table, loans("namespace/bank", 3, 9), &mut unknown);
        report(&table, &reports, Look::Loans, &mut unknown).unwrap();
        assert_eq!(unknown.len(), 1);
        sent.try_recv().unwrap();
        report(&table, &reports, Look::Measure, &mut unknown).unwrap();
        assert!(unknown.is_empty() && sent.try_recv().is_ok());
    }
}
