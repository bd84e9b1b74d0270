//! Lends gateways parts of keys' quotas: the messages. How much is decided in `lending/quota.rs`, and what has been lent is in
//! the store before a gateway hears of it.

use std::time::Duration;

use dunlin_proto::{
    ApiError,
    ids::GatewayId,
    internal::v1 as wire,
    model::{Quota, to_wire_duration},
    names::KeyId,
    trust::Caller,
};

use super::super::{name, plans::seconds_now};
use crate::{app::App, error::Error, lending, store::Settlement};

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
    let (key, quota) = quota_of(app, &request.key)?;
    let (now, gateways) = (seconds_now(), app.lending.gateways());
    let (begins, ends) = quota.period.around(now).ok_or_else(ApiError::internal)?;
    let of = if request.period_start == 0 { begins } else { request.period_start };
    let settled = Settlement { period_start: of, left: request.left, owed: request.owed };
    let grant = |gone| lending::loan(quota.requests, gone, request.wanted, gateways);
    let (gone, granted) = app.store.quota_lend(&key, begins, settled, grant).await?;
    app.lending.lent(&gateway, &key, begins, granted);
    let rest = Duration::from_secs(u64::try_from(ends.saturating_sub(now)).unwrap_or_default());
    let others = app.lending.left(&key, begins) > 0;
    Ok(wire::BorrowQuotaResponse {
        granted,
        period_start: begins,
        valid_for: Some(to_wire_duration(rest)),
        retry_after: (granted == 0).then(|| to_wire_duration(if others { AGAIN } else { rest })),
        gone,
    })
}

fn quota_of(app: &App, key: &str) -> Result<(KeyId, Quota), ApiError> {
    let (key, catalog): (KeyId, _) = (name("key", key)?, app.catalog.current());
    let quota = catalog.keys.get(&key).and_then(|known| known.plan.as_ref()?.quota);
    let quota = quota.ok_or_else(|| ApiError::not_found(format!("a quota of the key {key}")))?;
    Ok((key, quota))
}
