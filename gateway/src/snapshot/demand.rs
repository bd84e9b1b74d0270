//! What the report of load says of callers: whose calls run or wait. What it says of quotas is in `snapshot/lefts.rs`.

use dunlin_proto::internal::v1::{CertificatesPosition, GatewayLoad, PurgePosition, VersionDemand};

use crate::{dispatch::wire, routes::RouteTable};

/// What callers want now.
pub(super) fn load(
    routes: &RouteTable,
    purged: PurgePosition,
    certified: CertificatesPosition,
    counts: GatewayLoad,
) -> GatewayLoad {
    let table = routes.load();
    let demand = table.versions().filter_map(|version| {
        let (in_flight, queued) = version.demand.now();
        let wanted = in_flight > 0 || queued > 0;
        wanted.then(|| VersionDemand { version: Some(wire::version_ref(version.key)), in_flight, queued })
    });
    let mut demand: Vec<_> = demand.collect();
    demand.sort_by(|a, b| demand_order(a).cmp(&demand_order(b)));
    let (purged, certificates) = (Some(purged), Some(certified));
    GatewayLoad { config_version: table.version, demand, purged, certificates, ..counts }
}

/// Tables have no order, and equal reports must look equal.
fn demand_order(demand: &VersionDemand) -> Option<(&str, u32)> {
    demand.version.as_ref().map(|version| (version.function_uid.as_str(), version.number))
}
