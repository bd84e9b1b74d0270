//! Takes in what invocations used, as gateways report it. A line that can't be read is left out: it would be sent again for ever.

use dunlin_proto::{
    ApiError,
    ids::{GatewayId, VersionKey},
    internal::v1 as wire,
    names::FunctionRef,
    trust::Caller,
};

use super::super::{name, seconds_now};
use crate::{
    app::App,
    error::Error,
    model::{Amounts, HOUR, ReportId, UsageDelta, hour_of},
};

/// More than any amount can be that is used within a second or so: sums of it are far from what can be counted.
const MOST: u64 = 1 << 48;

/// Counts a report, once.
pub(super) async fn report(app: &App, caller: &Caller, request: wire::ReportUsageRequest) -> Result<(), Error> {
    let gateway: GatewayId = name("gateway", &request.gateway)?;
    caller.check_name(gateway.as_str())?;
    if request.sequence == 0 {
        return Err(ApiError::invalid("sequence", "sequence is 0 but begins with 1").into());
    }
    let id = ReportId { gateway, boot: request.boot, sequence: request.sequence };
    let now = seconds_now();
    let deltas: Vec<_> = request.deltas.iter().filter_map(|wire| delta(wire, now)).collect();
    if deltas.len() < request.deltas.len() {
        let left_out = request.deltas.len() - deltas.len();
        tracing::warn!(gateway = %id.gateway, left_out, "a gateway reports usage that can't be read");
    }
    app.budgets.report(&id, &deltas).await
}

fn delta(wire: &wire::UsageDelta, now: i64) -> Option<UsageDelta> {
    let function = FunctionRef { namespace: wire.namespace.parse().ok()?, function: wire.function.parse().ok()? };
    let key = if wire.key.is_empty() { None } else { Some(wire.key.parse().ok()?) };
    let amounts = Amounts {
        invocations: wire.invocations.min(MOST),
        cpu_micros: wire.cpu_micros.min(MOST),
        memory_byte_seconds: wire.memory_byte_seconds.min(MOST),
        bytes_in: wire.bytes_in.min(MOST),
        bytes_out: wire.bytes_out.min(MOST),
    };
    // A gateway whose clock is far ahead uses nothing of the future.
    let hour = if wire.hour > now + HOUR { now } else { wire.hour.max(0) };
    let version = VersionKey::try_from(wire.version.as_ref()?).ok()?;
    Some(UsageDelta { function, version, key, hour: hour_of(hour), amounts })
}

#[cfg(test)]
mod tests {
    use dunlin_proto::ids::FunctionUid;

    use super::*;

    #[test]
    fn what_can_not_be_read_is_left_out_and_the_rest_is_bounded() {
        let good = wire::UsageDelta {
            version: Some(wire::VersionRef { function_uid: FunctionUid::new().to_string(), number: 1 }),
            namespace: "shop".into(),
            function: "pay".into(),
            hour: 7_201,
            invocations: u64::MAX,
            ..Default::default()
        };
        let read = delta(&good, 8_000).unwrap();
        assert_eq!((read.hour, read.amounts.invocations, read.key.as_ref()), (7_200, MOST, None));
        let ahead = wire::UsageDelta { hour: 900_000, ..good.clone() };
        assert_eq!(delta(&ahead, 8_000).unwrap().hour, 7_200);
        for bad in [
            wire::UsageDelta { version: None, ..good.clone() },
            wire::UsageDelta { namespace: "../x".into(), ..good.clone() },
            wire::UsageDelta { function: String::new(), ..good.clone() },
            wire::UsageDelta { key: "short".into(), ..good },
        ] {
            assert_eq!(delta(&bad, 8_000), None);
        }
    }
}
