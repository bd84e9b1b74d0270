//! Reads what workers and gateways report. They belong to the cluster, but a broken one must not harm the others: numbers
//! and texts are bounded, and what names nothing that exists is left out.

use std::{collections::BTreeMap, time::Duration};

use dunlin_proto::{
    ApiError,
    ids::VersionKey,
    internal::v1::{self as wire, LoadState},
    limit::LimitId,
    model::from_wire_duration,
    outcome::BUCKETS,
};

use super::{super::name, check_protocol};
use crate::{
    catalog::Catalog,
    cluster::{Demand, EndpointSpec, GatewayHello, Held, HeldState, WorkerHello, WorkerReport},
    lending::{Left, Part, Share, Want},
    rollout::{Counts, Tally},
};

/// Endpoints of a worker, and sandboxes of an endpoint.
const MOST_ENDPOINTS: usize = 64;
const MOST_CAPACITY: u32 = 100_000;

/// Versions in a report.
const MOST_VERSIONS: usize = 20_000;

/// Callers of a version whose calls trapped.
const MOST_MARKS: usize = 64;

/// Invocations of a version on one worker or gateway.
const MOST_CALLS: u32 = 1_000_000;

fn short(field: &str, text: &str, most: usize) -> Result<String, ApiError> {
    if text.is_empty() || text.len() > most || !text.chars().all(|c| c.is_ascii_graphic()) {
        return Err(ApiError::invalid(field, format!("{field} must have 1 to {most} printable characters")));
    }
    Ok(text.to_owned())
}

/// `host:port`, as an address or a name.
fn address(field: &str, text: &str) -> Result<String, ApiError> {
    let text = short(field, text, 300)?;
    let port =
        text.rsplit_once(':').filter(|(host, _)| !host.is_empty()).and_then(|(_, port)| port.parse::<u16>().ok());
    match port {
        Some(1..) => Ok(text),
        _ => Err(ApiError::invalid(field, format!("{field} is {text:?} but must be host:port"))),
    }
}

pub(super) fn worker_hello(wire: wire::WorkerHello) -> Result<WorkerHello, ApiError> {
    check_protocol(wire.protocol_version)?;
    let worker = name("hello.worker", &wire.worker)?;
    if wire.endpoints.is_empty() || wire.endpoints.len() > MOST_ENDPOINTS {
        let message = format!("a worker must have 1 to {MOST_ENDPOINTS} endpoints");
        return Err(ApiError::invalid("hello.endpoints", message));
    }
    let endpoint = |endpoint: wire::Endpoint| {
        let id = short("hello.endpoints.id", &endpoint.id, 80)?;
        if !id.strip_prefix(&wire.worker).is_some_and(|rest| rest.starts_with('/')) {
            return Err(ApiError::invalid(
                "hello.endpoints.id",
                format!("endpoint {id} is not one of {}", wire.worker),
            ));
        }
        Ok(EndpointSpec {
            id,
            address: address("hello.endpoints.address", &endpoint.address)?,
            fingerprint: short("hello.endpoints.fingerprint", &endpoint.fingerprint, 200)?,
            capacity: endpoint.capacity.clamp(1, MOST_CAPACITY),
        })
    };
    Ok(WorkerHello {
        worker,
        incarnation: short("hello.incarnation", &wire.incarnation, 64)?,
        software_version: short("hello.software_version", &wire.software_version, 64)?,
        endpoints: wire.endpoints.into_iter().map(endpoint).collect::<Result<_, _>>()?,
        zone: zone(&wire.zone)?,
    })
}

/// A zone's name, or nothing.
fn zone(text: &str) -> Result<String, ApiError> {
    if text.is_empty() { Ok(String::new()) } else { short("hello.zone", text, 63) }
}

pub(super) fn gateway_hello(wire: &wire::GatewayHello) -> Result<GatewayHello, ApiError> {
    check_protocol(wire.protocol_version)?;
    Ok(GatewayHello {
        gateway: name("hello.gateway", &wire.gateway)?,
        software_version: short("hello.software_version", &wire.software_version, 64)?,
        peer_address: address("hello.peer_address", &wire.peer_address)?,
        config_version: wire.config_version,
    })
}

/// A load, without versions that do not exist.
pub(super) fn worker_load(wire: wire::WorkerLoad, catalog: &Catalog) -> WorkerReport {
    let known = wire.versions.into_iter().take(MOST_VERSIONS).filter_map(|load| {
        let key = VersionKey::try_from(load.version.as_ref()?).ok()?;
        catalog.version(&key)?;
        Some((key, held(&load)?))
    });
    WorkerReport {
        versions: known.collect(),
        memory_bytes: wire.memory_bytes,
        cpu_millis: wire.cpu_millis,
        leaving: wire.leaving,
        stored: wire.stored,
    }
}

fn held(load: &wire::VersionLoad) -> Option<Held> {
    let state = match load.state() {
        LoadState::Loading => HeldState::Loading,
        LoadState::Ready => HeldState::Ready,
        LoadState::Failed => HeldState::Failed(shortened(&load.error)),
        LoadState::Unspecified => return None,
    };
    Some(Held {
        state,
        in_flight: load.in_flight.min(MOST_CALLS),
        queued: load.queued.min(MOST_CALLS),
        prepared: load.prepared.min(MOST_CALLS),
        queue_delay: from_wire_duration(load.queue_delay).min(Duration::from_secs(3600)),
        reuse_refusal: load.reuse_trial.as_ref().map(|trial| shortened(&trial.refusal)),
    })
}

fn shortened(text: &str) -> String {
    text.chars().take(500).collect()
}

/// What callers ask for, without versions that do not exist.
pub(super) fn gateway_demand(wire: Vec<wire::VersionDemand>, catalog: &Catalog) -> BTreeMap<VersionKey, Demand> {
    let known = wire.into_iter().take(MOST_VERSIONS).filter_map(|demand| {
        let key = VersionKey::try_from(demand.version.as_ref()?).ok()?;
        catalog.version(&key)?;
        let (in_flight, queued) = (demand.in_flight.min(MOST_CALLS), demand.queued.min(MOST_CALLS));
        Some((key, Demand { in_flight, queued }))
    });
    known.collect()
}

/// What has become of the calls of versions that exist.
pub(super) fn outcomes(wire: Vec<wire::VersionOutcomes>, catalog: &Catalog) -> Vec<Counts> {
    let known = wire.into_iter().take(MOST_VERSIONS).filter_map(|outcomes| {
        let version = VersionKey::try_from(outcomes.version.as_ref()?).ok()?;
        catalog.version(&version)?;
        let bucket = |wire::DurationCount { bucket, count }| Some((usize::try_from(bucket).ok()?, count));
        let durations = outcomes.durations.into_iter().take(BUCKETS).filter_map(bucket).collect();
        let wire::VersionOutcomes { calls, failures, traps, .. } = outcomes;
        let trapped = outcomes.trap_callers.into_iter().take(MOST_MARKS).collect();
        Some(Counts { version, tally: Tally { calls, failures, traps, durations }, trapped })
    });
    known.collect()
}

/// The parts of limits that a gateway has. Numbers are bounded where they are counted.
pub(super) fn held_rates(wire: &[wire::HeldRate]) -> Vec<(LimitId, Part)> {
    let held = |held: &wire::HeldRate| {
        let share = Share { per_second: held.per_second, burst: held.burst };
        Some((held.limit.parse().ok()?, Part { number: held.part, share }))
    };
    wire.iter().filter_map(held).collect()
}

/// What a gateway has left of quotas.
pub(super) fn quota_lefts(wire: Vec<wire::QuotaLeft>) -> Vec<(LimitId, Left)> {
    let left = |wire: wire::QuotaLeft| {
        let wire::QuotaLeft { loan, period_start, left, floor, .. } = wire;
        Some((quota_owner(&wire.key, &wire.limit).ok()?, Left { loan, period_start, left, floor }))
    };
    wire.into_iter().filter_map(left).collect()
}

/// Whose a quota is: a key's by its id, any other by its limit's name.
pub(super) fn quota_owner(key: &str, limit: &str) -> Result<LimitId, ApiError> {
    if limit.is_empty() { name("key", key).map(LimitId::Key) } else { name("limit", limit) }
}

/// What callers want of limits; nothing of those that the gateway knows no more.
pub(super) fn rate_wants(wire: Vec<wire::RateDemand>) -> Vec<(LimitId, Option<Want>)> {
    let want = |demand: wire::RateDemand| {
        let wire::RateDemand { wanted_per_second, sequence, uses, limit, part, gone } = demand;
        let want = Want { calls: wanted_per_second, sequence, uses, part };
        Some((limit.parse().ok()?, (!gone).then_some(want)))
    };
    wire.into_iter().filter_map(want).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(change: impl FnOnce(&mut wire::WorkerHello)) -> Result<WorkerHello, ApiError> {
        let endpoint = wire::Endpoint {
            id: "w/0".into(),
            address: "127.0.0.1:7071".into(),
            engine_class: "default".into(),
            fingerprint: "e".into(),
            capacity: u32::MAX,
        };
        let mut hello = wire::WorkerHello {
            worker: "w".into(),
            protocol_version: 1,
            software_version: "0.1.0".into(),
            endpoints: vec![endpoint],
            incarnation: "1".into(),
            zone: String::new(),
        };
        change(&mut hello);
        worker_hello(hello)
    }

    type Lie = (fn(&mut wire::WorkerHello), &'static str);

    #[test]
    fn t47_a_workers_claims_are_bounded() {
        assert_eq!(hello(|_| ()).unwrap().endpoints[0].capacity, MOST_CAPACITY);
        let wrong: [Lie; 9] = [
            (|h| h.worker = "../w".into(), "hello.worker"),
            (|h| h.endpoints.clear(), "hello.endpoints"),
            (|h| h.endpoints[0].id = "other/0".into(), "hello.endpoints.id"),
            (|h| h.endpoints[0].address = "nowhere".into(), "hello.endpoints.address"),
            (|h| h.endpoints[0].address = "a:0".into(), "hello.endpoints.address"),
            (|h| h.endpoints[0].fingerprint = "x".repeat(201), "hello.endpoints.fingerprint"),
            (|h| h.incarnation.clear(), "hello.incarnation"),
            (|h| h.software_version = "a\nb".into(), "hello.software_version"),
            (|h| h.zone = "rack\n1".into(), "hello.zone"),
        ];
        for (change, field) in wrong {
            assert_eq!(hello(change).unwrap_err().field.as_deref(), Some(field));
        }
        let error = hello(|h| h.protocol_version = 2).unwrap_err();
        assert!(error.message.contains("protocol version 2"), "{error}");
    }

    #[test]
    fn versions_that_do_not_exist_are_left_out() {
        let unknown = dunlin_proto::ids::FunctionUid::new().to_string();
        let version = Some(wire::VersionRef { function_uid: unknown, number: 1 });
        let load = wire::VersionLoad { version: version.clone(), state: 2, ..wire::VersionLoad::default() };
        let report = worker_load(wire::WorkerLoad { versions: vec![load], ..Default::default() }, &Catalog::default());
        assert!(report.versions.is_empty());
        let demand = wire::VersionDemand { version, in_flight: 1, queued: 1 };
        assert!(gateway_demand(vec![demand], &Catalog::default()).is_empty());
    }
}
