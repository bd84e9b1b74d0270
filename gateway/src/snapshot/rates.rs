//! What the stream to the scheduler says of limited rates and quotas: loans down, what callers want and have used up. What a part is, is told in
//! `limits/part.rs`.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use dunlin_proto::{
    internal::v1::{
        HeldRate, QuotaLeft, RateDemand, RateLoan, RateLoans, RateReport, SyncGatewayRequest,
        sync_gateway_request::Report,
    },
    limit::LimitId,
};
use tokio::{sync::mpsc, time::Instant};

use crate::{
    limits::{KeyQuota, Limit, Loan, Share, Want},
    routes::Table,
};

/// How often the pace of callers is looked at.
pub(super) const MEASURE: Duration = Duration::from_millis(250);
/// Limits in one report, so that it is not too large a message; the others follow.
const MOST: usize = 10_000;

/// What is held as a stream begins.
pub(super) fn held(table: &Table) -> Vec<HeldRate> {
    table.keys.quotas.values().for_each(|quota| quota.loan.begin());
    let held = table.limits.values().filter_map(|limit| Some((limit, limit.part.begin()?)));
    let held = held.map(|(limit, share)| HeldRate {
        limit: limit.id.to_string(),
        per_second: share.per_second,
        burst: share.burst,
    });
    held.collect()
}

/// Keeps to loans; those of limits that are no longer known lead to nothing.
pub(super) fn apply(table: &Table, loans: RateLoans) {
    let now = Instant::now();
    for RateLoan { limit, sequence, per_second, burst, granted } in loans.loans {
        let known = limit.parse::<LimitId>().ok().and_then(|id| table.limits.get(&id));
        if let Some(known) = known {
            known.part.apply(Loan { sequence, share: Share { per_second, burst }, granted }, now);
        }
    }
}

/// What has changed of what is left of quotas. Where it does not arrive, a later one does: people look at it, nothing else.
fn lefts(table: &Table) -> Vec<QuotaLeft> {
    let left = |quota: &Arc<KeyQuota>| {
        let (period_start, left) = quota.loan.news()?;
        Some(QuotaLeft { key: quota.key.to_string(), period_start, left })
    };
    table.keys.quotas.values().filter_map(left).take(MOST).collect()
}

/// Tells what there is to tell. Where the scheduler is slow, it is told with the next report.
pub(super) fn report(table: &Table, reports: &mpsc::Sender<SyncGatewayRequest>, measures: bool) -> anyhow::Result<()> {
    let now = Instant::now();
    let news = table.limits.values().filter_map(|limit| {
        let lent = if limit.rate.is_lent() { limit.rate.per_second() } else { f64::INFINITY };
        Some((limit, limit.part.news(lent, now, measures)?))
    });
    let news: Vec<_> = news.take(MOST).collect();
    let lefts: Vec<_> = if measures { lefts(table) } else { Vec::new() };
    if news.is_empty() && lefts.is_empty() {
        return Ok(());
    }
    let demand = |(limit, want): &(&Arc<Limit>, Want)| RateDemand {
        limit: limit.id.to_string(),
        wanted_per_second: want.per_second,
        sequence: want.sequence,
    };
    let report = RateReport { demands: news.iter().map(demand).collect(), lefts };
    match reports.try_send(SyncGatewayRequest { report: Some(Report::Rates(report)) }) {
        Ok(()) => news.iter().for_each(|(limit, want)| limit.part.sent(*want)),
        Err(mpsc::error::TrySendError::Full(_)) => {}
        Err(error @ mpsc::error::TrySendError::Closed(_)) => return Err(error).context("send report"),
    }
    Ok(())
}
