//! What the stream to the scheduler says of limits and quotas: loans down, what callers want and have used up; and which parts an
//! earlier process was lent. What a part is, is told in `limits/part.rs` and `limits/slots.rs`.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::Context;
use dunlin_proto::{
    internal::v1::{
        HeldRate, HeldRates, QuotaLeft, RateDemand, RateLoan, RateLoans, RateReport, SyncGatewayRequest,
        sync_gateway_request::Report,
    },
    limit::LimitId,
};
use tokio::{sync::mpsc, time::Instant};

use crate::{
    limits::{Bounded, KeyQuota, Limit, Loan, QuotaLoan, Share, Want},
    routes::Table,
};

/// How often the pace of callers is looked at.
pub(super) const MEASURE: Duration = Duration::from_millis(250);
/// Limits in one report, so that it is not too large a message; the others follow.
const MOST: usize = 10_000;

/// Parts on disk that are older than this are no longer in force: the configuration is not served for longer without the
/// scheduler, either.
const OLDEST: Duration = Duration::from_secs(24 * 3600);

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
    table.keys.quotas.values().filter_map(|quota| quota.loan.seen()).for_each(QuotaLoan::begin);
    let rates = table.limits.values().filter_map(|limit| Some(wire(&limit.id, limit.part.seen()?.begin()?)));
    let slots = table.slots.values().filter_map(|bounded| Some(wire(&bounded.id, bounded.slots.begin()?)));
    rates.chain(slots).collect()
}

fn wire(limit: &LimitId, share: Share) -> HeldRate {
    HeldRate { limit: limit.to_string(), per_second: share.per_second, burst: share.burst }
}

/// What is held now, for the disk.
pub(super) fn parts(table: &Table, now: SystemTime) -> HeldRates {
    let rates = table.limits.values().filter_map(|limit| Some(wire(&limit.id, limit.part.seen()?.held()?)));
    let slots = table.slots.values().filter_map(|bounded| Some(wire(&bounded.id, bounded.slots.held()?)));
    HeldRates { held: rates.chain(slots).collect(), time: seconds(now) }
}

fn seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Puts in force what was on disk, with nothing saved up and no more of any limit than it allows now; says of how many.
pub(super) fn restore(table: &Table, parts: &HeldRates, now: SystemTime) -> usize {
    let oldest = seconds(now.checked_sub(OLDEST).unwrap_or(SystemTime::UNIX_EPOCH));
    let held = parts.held.iter().filter(|_| parts.time >= oldest);
    held.filter(|held| restore_one(table, held).is_some()).count()
}

fn restore_one(table: &Table, held: &HeldRate) -> Option<()> {
    let id: LimitId = held.limit.parse().ok()?;
    if let Some(bounded) = table.slots.get(&id) {
        let whole = f64::from(bounded.limit);
        return bounded.slots.restore(Share { per_second: 0.0, burst: held.burst.min(whole) });
    }
    let limit = table.limits.get(&id).filter(|limit| limit.rate.is_lent() && !limit.is_known())?;
    let burst = held.burst.min(limit.rate.burst.into());
    limit.part.get().take(Share { per_second: held.per_second.min(limit.rate.per_second()), burst }, Instant::now());
    Some(())
}

/// Keeps to loans; those of limits that are no longer known lead to nothing.
pub(super) fn apply(table: &Table, loans: RateLoans) {
    let now = Instant::now();
    for RateLoan { limit, sequence, per_second, burst, granted } in loans.loans {
        let Ok(id) = limit.parse::<LimitId>() else { continue };
        let loan = Loan { sequence, share: Share { per_second, burst }, granted };
        match (table.limits.get(&id), table.slots.get(&id)) {
            (Some(limit), _) => limit.part.get().apply(loan, now),
            (None, Some(bounded)) => bounded.slots.apply(loan),
            (None, None) => {}
        }
    }
}

/// What has changed of what is left of quotas. Where it does not arrive, a later one does: people look at it, nothing else.
fn lefts(table: &Table) -> Vec<QuotaLeft> {
    let left = |quota: &Arc<KeyQuota>| {
        let (period_start, left) = quota.loan.seen()?.news()?;
        Some(QuotaLeft { key: quota.key.to_string(), period_start, left })
    };
    table.keys.quotas.values().filter_map(left).take(MOST).collect()
}

/// What there is to tell of limits of calls in a time.
fn of_rates(table: &Table, measures: bool) -> Vec<(&Arc<Limit>, Want)> {
    let now = Instant::now();
    let news = table.limits.values().filter_map(|limit| {
        let part = limit.part.seen()?;
        let lent = if limit.rate.is_lent() { limit.rate.per_second() } else { f64::INFINITY };
        Some((limit, part.news(lent, now, measures)?))
    });
    news.take(MOST).collect()
}

/// The same of limits of calls at once.
fn of_slots(table: &Table, measures: bool) -> Vec<(&Bounded, Want)> {
    let news = |bounded| Some((bounded, Bounded::news(bounded, measures)?));
    table.slots.values().filter_map(news).take(MOST).collect()
}

fn demand(limit: &LimitId, want: Want) -> RateDemand {
    let Want { calls, sequence, uses } = want;
    RateDemand { limit: limit.to_string(), wanted_per_second: calls, sequence, uses }
}

/// Tells what there is to tell. Where the scheduler is slow, it is told with the next report.
pub(super) fn report(table: &Table, reports: &mpsc::Sender<SyncGatewayRequest>, look: Look) -> anyhow::Result<()> {
    let measures = look == Look::Measure;
    let rates = if look == Look::Slots { Vec::new() } else { of_rates(table, measures) };
    let (slots, lefts) = (of_slots(table, measures), if measures { lefts(table) } else { Vec::new() });
    if rates.is_empty() && slots.is_empty() && lefts.is_empty() {
        return Ok(());
    }
    let demands = rates.iter().map(|(limit, want)| demand(&limit.id, *want));
    let demands = demands.chain(slots.iter().map(|(bounded, want)| demand(&bounded.id, *want))).collect();
    match reports.try_send(SyncGatewayRequest { report: Some(Report::Rates(RateReport { demands, lefts })) }) {
        Ok(()) => {
            rates.iter().for_each(|(limit, want)| limit.part.get().sent(*want));
            slots.iter().for_each(|(bounded, want)| bounded.slots.sent(*want));
        }
        Err(mpsc::error::TrySendError::Full(_)) => {}
        Err(error @ mpsc::error::TrySendError::Closed(_)) => return Err(error).context("send report"),
    }
    Ok(())
}
