//! What invocations used: as gateways report it, and as it is summed up. How it is kept is the store's business.

use dunlin_proto::{
    ids::{GatewayId, VersionKey},
    names::{FunctionRef, KeyId},
};

/// Seconds of an hour.
pub(crate) const HOUR: i64 = 3_600;

/// Which report of which start of a gateway: each counts once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReportId {
    pub(crate) gateway: GatewayId,
    /// Chosen anew at each start.
    pub(crate) boot: u64,
    /// Counts up with each report.
    pub(crate) sequence: u64,
}

/// Amounts that add up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Amounts {
    pub(crate) invocations: u64,
    /// Microseconds.
    pub(crate) cpu_micros: u64,
    /// Peak bytes times run seconds.
    pub(crate) memory_byte_seconds: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
}

/// What invocations of a version with one key used within an hour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UsageDelta {
    pub(crate) function: FunctionRef,
    pub(crate) version: VersionKey,
    /// Nothing for calls without one.
    pub(crate) key: Option<KeyId>,
    /// When the hour began, in seconds since 1970.
    pub(crate) hour: i64,
    pub(crate) amounts: Amounts,
}

/// By what usage is told apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Grouping {
    pub(crate) function: bool,
    pub(crate) version: bool,
    pub(crate) key: bool,
    pub(crate) hour: bool,
}

/// A sum. What it is not told apart by is empty or 0.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct UsageSum {
    /// When the hour began, in seconds since 1970.
    pub(crate) hour: i64,
    pub(crate) function: String,
    pub(crate) function_uid: String,
    pub(crate) version: u32,
    pub(crate) key: String,
    pub(crate) amounts: Amounts,
}

/// When the hour of a moment began, both in seconds since 1970.
pub(crate) fn hour_of(moment: i64) -> i64 {
    moment.div_euclid(HOUR).saturating_mul(HOUR)
}
