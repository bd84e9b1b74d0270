//! Usage plans, and what keys have used of them, as shown.

use dunlin_proto::{model, v1};
use serde::Serialize;

use super::{Time, age, part, version::RateView};
use crate::output::Column;

/// Calls in a day or month.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct QuotaView {
    /// As people write it.
    pub(crate) quota: String,
    pub(crate) requests: u64,
    pub(crate) on_unknown: &'static str,
}

impl QuotaView {
    /// A cluster of another version may know what this one does not; then nothing is shown.
    pub(crate) fn from_wire(wire: v1::QuotaLimit) -> Option<Self> {
        model::Quota::from_wire("quota", wire).ok().map(Self::from)
    }

    /// What is used of it, in one line.
    pub(crate) fn used(&self, used: u64, lent: u64, end: Option<Time>) -> String {
        let end = end.map(Time::text).unwrap_or_default();
        let lent = if lent > 0 { format!("; {lent} lent to gateways") } else { String::new() };
        format!("{used} of {} used until {end}{lent}", self.quota)
    }
}

impl From<model::Quota> for QuotaView {
    fn from(quota: model::Quota) -> Self {
        let on_unknown = if quota.refuse_unknown { "refuse" } else { "allow" };
        Self { quota: quota.to_string(), requests: quota.requests, on_unknown }
    }
}

/// What is used of a quota.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct QuotaUsageView {
    pub(crate) used: u64,
    pub(crate) lent: u64,
    pub(crate) period_start: Option<Time>,
    pub(crate) period_end: Option<Time>,
    pub(crate) quota: Option<QuotaView>,
}

impl QuotaUsageView {
    /// In one line.
    pub(crate) fn text(&self) -> String {
        let quota = self.quota.as_ref();
        quota.map_or_else(|| self.used.to_string(), |quota| quota.used(self.used, self.lent, self.period_end))
    }
}

impl From<v1::QuotaUsage> for QuotaUsageView {
    fn from(usage: v1::QuotaUsage) -> Self {
        Self {
            quota: usage.quota.and_then(QuotaView::from_wire),
            used: usage.used,
            lent: usage.lent,
            period_start: Time::from_wire(usage.period_start),
            period_end: Time::from_wire(usage.period_end),
        }
    }
}

/// A plan.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct PlanView {
    pub(crate) resource: String,
    pub(crate) namespace: String,
    pub(crate) plan: String,
    pub(crate) rate: Option<RateView>,
    pub(crate) quota: Option<QuotaView>,
    pub(crate) max_concurrency: Option<u32>,
    pub(crate) keys: u32,
    pub(crate) create_time: Option<Time>,
}

impl From<v1::Plan> for PlanView {
    fn from(plan: v1::Plan) -> Self {
        Self {
            namespace: part(&plan.name, "namespaces"),
            plan: part(&plan.name, "plans"),
            resource: plan.name,
            rate: plan.rate.and_then(RateView::from_wire),
            quota: plan.quota.and_then(QuotaView::from_wire),
            max_concurrency: plan.max_concurrency,
            keys: plan.keys,
            create_time: Time::from_wire(plan.create_time),
        }
    }
}

impl PlanView {
    /// What it allows, in one line.
    pub(crate) fn terms(&self) -> String {
        let rate = self.rate.as_ref().map(|rate| format!("{} with a burst of {}", rate.rate, rate.burst));
        let quota = self.quota.as_ref().map(|quota| quota.quota.clone());
        let at_once = self.max_concurrency.map(|most| format!("{most} at once"));
        [rate, quota, at_once].into_iter().flatten().collect::<Vec<_>>().join(", ") + " for each key"
    }
}

/// The columns of a list of plans.
pub(crate) const PLANS: &[Column<PlanView>] = &[
    Column::new("PLAN", |plan| plan.plan.clone()),
    Column::new("RATE", |plan| plan.rate.as_ref().map_or_else(|| "-".to_owned(), |rate| rate.rate.clone())),
    Column::new("BURST", |plan| plan.rate.as_ref().map_or_else(|| "-".to_owned(), |rate| rate.burst.to_string())),
    Column::new("QUOTA", |plan| plan.quota.as_ref().map_or_else(|| "-".to_owned(), |quota| quota.quota.clone())),
    Column::new("AT ONCE", |plan| plan.max_concurrency.map_or_else(|| "-".to_owned(), |most| most.to_string())),
    Column::new("KEYS", |plan| plan.keys.to_string()),
    Column::new("CREATED", |plan| age(plan.create_time)),
    Column::wide("ON UNKNOWN", |plan| plan.quota.as_ref().map_or("-", |quota| quota.on_unknown).to_owned()),
];

/// What a key may use, and has used of its quota.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct UsageView {
    pub(crate) key: String,
    pub(crate) plan: Option<String>,
    pub(crate) rate: Option<RateView>,
    pub(crate) quota: Option<QuotaView>,
    pub(crate) max_concurrency: Option<u32>,
    pub(crate) used: u64,
    pub(crate) lent: u64,
    pub(crate) period_start: Option<Time>,
    pub(crate) period_end: Option<Time>,
}

impl UsageView {
    /// The usage of a key.
    pub(crate) fn new(key: String, usage: v1::GetKeyUsageResponse) -> Self {
        Self {
            key,
            plan: Some(usage.plan).filter(|plan| !plan.is_empty()),
            rate: usage.rate.and_then(RateView::from_wire),
            quota: usage.quota.and_then(QuotaView::from_wire),
            max_concurrency: usage.max_concurrency,
            used: usage.used,
            lent: usage.lent,
            period_start: Time::from_wire(usage.period_start),
            period_end: Time::from_wire(usage.period_end),
        }
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let Some(plan) = &self.plan else { return format!("key {} is under no plan: nothing bounds it\n", self.key) };
        let mut text = format!("key {} is under plan {plan}\n", self.key);
        if let Some(rate) = &self.rate {
            text += &format!("rate:   {} with a burst of {}\n", rate.rate, rate.burst);
        }
        if let Some(quota) = &self.quota {
            text += &format!("quota:  {}\n", quota.used(self.used, self.lent, self.period_end));
        }
        if let Some(most) = self.max_concurrency {
            text += &format!("at once: {most}\n");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_told_in_words() {
        let none = UsageView::new("abc".into(), v1::GetKeyUsageResponse::default());
        assert_eq!(none.text(), "key abc is under no plan: nothing bounds it\n");
        let usage = v1::GetKeyUsageResponse {
            plan: "basic".into(),
            quota: Some("100/day".parse::<model::Quota>().unwrap().into()),
            period_end: Some(prost_types::Timestamp { seconds: 86_400, nanos: 0 }),
            used: 7,
            lent: 3,
            ..Default::default()
        };
        let text = UsageView::new("abc".into(), usage).text();
        assert!(text.contains("7 of 100/day used until 1970-01-02T00:00:00") && text.contains("; 3 lent"), "{text}");
    }
}
