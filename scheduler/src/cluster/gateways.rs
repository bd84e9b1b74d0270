//! One gateway: who it is and what its callers ask for.

use std::collections::BTreeMap;

use dunlin_proto::ids::{GatewayId, VersionKey};

use super::Session;
use crate::{model::Time, purges::Position};

/// Who a gateway is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GatewayHello {
    pub(crate) gateway: GatewayId,
    pub(crate) software_version: String,
    /// Where other gateways reach it.
    pub(crate) peer_address: String,
    pub(crate) config_version: u64,
}

/// What callers of one gateway want of a version.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Demand {
    /// Invocations that run.
    pub(crate) in_flight: u32,
    /// Invocations that wait for a placement or a worker.
    pub(crate) queued: u32,
}

/// A gateway that is connected.
#[derive(Debug)]
pub(crate) struct GatewayView {
    pub(crate) hello: GatewayHello,
    pub(super) session: Session,
    pub(crate) join_time: Time,
    /// The configuration that it serves.
    pub(crate) config_version: u64,
    /// The purges of stored answers that it has followed; nothing where it stores none.
    pub(crate) purged: Option<Position>,
    /// The certificates and challenges that it serves; nothing where its software knows of none.
    pub(crate) certificates: Option<Position>,
    pub(crate) demand: BTreeMap<VersionKey, Demand>,
}

impl GatewayView {
    pub(super) fn new(hello: GatewayHello, session: Session, wall: Time) -> Self {
        let config_version = hello.config_version;
        Self {
            hello,
            session,
            join_time: wall,
            config_version,
            purged: None,
            certificates: None,
            demand: BTreeMap::new(),
        }
    }
}
