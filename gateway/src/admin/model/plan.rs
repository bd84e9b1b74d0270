//! Usage plans, and what keys have used of them, as administration shows them and takes them.

use dunlin_proto::{model, v1};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Time, id_in, rate::Rate};
use crate::admin::json::large;

/// How many calls are admitted in a day or month of UTC. Refused calls do not count.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct QuotaLimit {
    /// So many in each period.
    #[serde(deserialize_with = "large::<_, 1, 1_000_000_000_000>")]
    #[schema(minimum = 1, maximum = 1_000_000_000_000_u64)]
    pub(crate) requests: u64,
    /// The period.
    pub(crate) period: QuotaPeriod,
    /// What is done about calls of which nobody knows whether there is room for them, since the scheduler does not answer.
    #[serde(default)]
    pub(crate) on_unknown: OnUnknown,
}

/// The period of a quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum QuotaPeriod {
    /// A day of UTC.
    Day,
    /// A month of the calendar, in UTC.
    Month,
}

/// What is done about calls of which nobody knows whether the quota has room for them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OnUnknown {
    /// They are admitted, and counted later.
    #[default]
    Allow,
    /// They are refused with 503.
    Refuse,
}

impl QuotaLimit {
    /// The quota of a message; nothing where it is none that is known here.
    pub(crate) fn from_wire(wire: v1::QuotaLimit) -> Option<Self> {
        let model::Quota { requests, period, refuse_unknown } = model::Quota::from_wire("quota", wire).ok()?;
        let period = match period {
            model::QuotaPeriod::Day => QuotaPeriod::Day,
            model::QuotaPeriod::Month => QuotaPeriod::Month,
        };
        let on_unknown = if refuse_unknown { OnUnknown::Refuse } else { OnUnknown::Allow };
        Some(Self { requests, period, on_unknown })
    }
}

impl From<QuotaLimit> for v1::QuotaLimit {
    fn from(quota: QuotaLimit) -> Self {
        let period = match quota.period {
            QuotaPeriod::Day => v1::QuotaPeriod::Day,
            QuotaPeriod::Month => v1::QuotaPeriod::Month,
        };
        let on_unknown = match quota.on_unknown {
            OnUnknown::Allow => v1::OnUnknown::Allow,
            OnUnknown::Refuse => v1::OnUnknown::Refuse,
        };
        Self { requests: quota.requests, period: period.into(), on_unknown: on_unknown.into() }
    }
}

/// What each key under it may use, in the whole cluster.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Plan {
    /// `namespaces/{namespace}/plans/{plan}`.
    pub(crate) name: String,
    /// The plan's bare name.
    pub(crate) plan: String,
    /// Calls in a time; null means no bound.
    pub(crate) rate: Option<Rate>,
    /// Calls in a day or month; null means no bound.
    pub(crate) quota: Option<QuotaLimit>,
    /// When it was made.
    pub(crate) create_time: Option<Time>,
    /// Invocations of each key that may run or wait at once; null means no bound.
    pub(crate) max_concurrency: Option<u32>,
    /// How many valid keys are under it.
    pub(crate) keys: u32,
}

impl From<v1::Plan> for Plan {
    fn from(wire: v1::Plan) -> Self {
        Self {
            plan: id_in(&wire.name, "plans").to_owned(),
            name: wire.name,
            rate: wire.rate.and_then(Rate::from_wire),
            quota: wire.quota.and_then(QuotaLimit::from_wire),
            create_time: wire.create_time.map(Time::from),
            max_concurrency: wire.max_concurrency,
            keys: wire.keys,
        }
    }
}

/// All plans of a namespace.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct PlanList {
    /// In the order of their names.
    pub(crate) plans: Vec<Plan>,
}

impl From<v1::ListPlansResponse> for PlanList {
    fn from(wire: v1::ListPlansResponse) -> Self {
        Self { plans: wire.plans.into_iter().map(Plan::from).collect() }
    }
}

/// What is used of a quota.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct QuotaUsage {
    /// When the period began.
    pub(crate) period_start: Option<Time>,
    /// When the next one begins.
    pub(crate) period_end: Option<Time>,
    /// Calls that were admitted in this period, as gateways said a second ago; what a gateway had been lent that is not heard
    /// counts.
    pub(crate) used: u64,
    /// Of the rest, what gateways have been lent.
    pub(crate) lent: u64,
    /// What there is in each period; null where this gateway does not know such a quota.
    pub(crate) quota: Option<QuotaLimit>,
}

impl From<v1::QuotaUsage> for QuotaUsage {
    fn from(wire: v1::QuotaUsage) -> Self {
        Self {
            period_start: wire.period_start.map(Time::from),
            period_end: wire.period_end.map(Time::from),
            used: wire.used,
            lent: wire.lent,
            quota: wire.quota.and_then(QuotaLimit::from_wire),
        }
    }
}

/// What a key may use, and has used of its quota.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct KeyUsage {
    /// The plan's bare name; null means that it is under none.
    pub(crate) plan: Option<String>,
    /// Its rate; null means no bound.
    pub(crate) rate: Option<Rate>,
    /// Its quota; null means no bound.
    pub(crate) quota: Option<QuotaLimit>,
    /// Its invocations that may run or wait at once; null means no bound.
    pub(crate) max_concurrency: Option<u32>,
    /// When the period began; null without a quota.
    pub(crate) period_start: Option<Time>,
    /// When the next one begins.
    pub(crate) period_end: Option<Time>,
    /// Calls that were admitted in this period, as gateways said a second ago; what a gateway had been lent that is not heard
    /// counts.
    pub(crate) used: u64,
    /// Of the rest, what gateways have been lent.
    pub(crate) lent: u64,
}

impl From<v1::GetKeyUsageResponse> for KeyUsage {
    fn from(wire: v1::GetKeyUsageResponse) -> Self {
        Self {
            plan: Some(wire.plan).filter(|plan| !plan.is_empty()),
            rate: wire.rate.and_then(Rate::from_wire),
            quota: wire.quota.and_then(QuotaLimit::from_wire),
            max_concurrency: wire.max_concurrency,
            period_start: wire.period_start.map(Time::from),
            period_end: wire.period_end.map(Time::from),
            used: wire.used,
            lent: wire.lent,
        }
    }
}
