//! Lends gateways parts of quotas: the messages. How much is decided in `lending/quota.rs`, and what has been lent is in
//! the store before a gateway hears of it.

use std::time::Duration;

use dunlin_proto::{
    ApiError,
    ids::GatewayId,
    internal::v1 as wire,
    limit::LimitId,
    model::{Quota, to_wire_duration},
    trust::Caller,
};

use super::{
    super::{name, plans::seconds_now},
    report,
};
use crate::{
    app::App,
    error::Error,
    lending::{self, Left},
    store::Settlement,
};

/// When a gateway may ask again where others have something left that they may give back.
const AGAIN: Duration = Duration::from_secs(1);

/// Lends, or takes back.
pub(super) async fn borrow(
    app: &App,
    caller: &Caller,
    request: wire::BorrowQuotaRequest,
) -> Result<wire::BorrowQuotaResponse, Error> {
    let gateway: GatewayId = name("gateway", &request.gateway)?;
    caller.check_name(gateway.as_str())?;
    let (owner, quota) = quota_of(app, &request)?;
    let (now, gateways) = (seconds_now(), app.lending.gateways());
    let (begins, ends) = quota.period.around(now).ok_or_else(ApiError::internal)?;
    let of = if request.period_start == 0 { begins } else { request.period_start };
    let process = (gateway, request.boot);
    let question = app.lending.asked(&process, &owner, request.loan);
    let left = if question.is_buried { 0 } else { request.left };
    let settled = Settlement { period_start: of, left, owed: request.owed };
    let wanted = if question.is_late { 0 } else { request.wanted };
    let grant = |gone| lending::loan(quota.requests, gone, wanted, gateways);
    // Looked at before and after: what another one has left may be on its way back meanwhile.
    let others = app.lending.is_left_elsewhere(&owner, begins, &process);
    let (gone, granted) = app.store.quota_lend(&owner, begins, settled, grant).await?;
    let lent = Left { loan: request.loan, period_start: begins, left: granted, floor: 0 };
    let floor = app.lending.lent(&process, &owner, lent, request.window);
    let rest = Duration::from_secs(u64::try_from(ends.saturating_sub(now)).unwrap_or_default());
    let others = others || app.lending.is_left_elsewhere(&owner, begins, &process);
    Ok(wire::BorrowQuotaResponse {
        granted,
        period_start: begins,
        valid_for: Some(to_wire_duration(rest)),
        retry_after: (granted == 0).then(|| to_wire_duration(if others { AGAIN } else { rest })),
        gone,
        floor,
    })
}

fn quota_of(app: &App, request: &wire::BorrowQuotaRequest) -> Result<(LimitId, Quota), ApiError> {
    let owner = report::quota_owner(&request.key, &request.limit)?;
    let quota = app.catalog.current().quota(&owner);
    let quota = quota.ok_or_else(|| ApiError::not_found(format!("a quota of {owner}")))?;
    Ok((owner, quota))
}
