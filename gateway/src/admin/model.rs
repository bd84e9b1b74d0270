//! What administration shows, as the JSON endpoints write it and the pages print it: plain types made from the messages.
//!
//! Field names are snake_case everywhere. Times are RFC 3339 texts in UTC, durations whole numbers whose name ends in
//! their unit. The same types make the OpenAPI document, so that it can't say anything else than the server does.

mod access;
mod alias;
mod audit;
mod cluster;
mod domain;
mod explanation;
mod function;
mod health;
mod invocation;
mod plan;
mod purge;
mod rate;
mod release;
mod rollout;
mod route;
mod time;
mod token_rule;
mod usage;
mod validation;
mod webhook;

pub(crate) use access::{Grant, Identity, Key, KeyList, NewKey, NewToken};
pub(crate) use alias::{Alias, AliasList, ChangedAlias, DeletedAlias, Sticky};
pub(crate) use audit::{AuditEntry, AuditHead, AuditList, AuditOutcome};
pub(crate) use cluster::{Cluster, HeldVersion, Namespace, NamespaceList, Worker, WorkerList, WorkerState};
pub(crate) use domain::{
    Domain, DomainCertificate, DomainList, DomainProof, DomainProofKind, DomainProofState, DomainTls, FileCertificate,
};
pub(crate) use explanation::{Explanation, OutcomeCount, Step as ExplanationStep};
pub(crate) use function::{Function, FunctionList, Limits, Rollback, Scaling, TrafficTarget, Version, VersionList};
pub(crate) use health::{Health, HealthProblem, HealthState};
pub(crate) use invocation::{Invocation, InvocationList, LogGap, LogLine, LogList, LogStream};
pub(crate) use plan::{KeyUsage, Plan, PlanList, QuotaLimit, QuotaPeriod, QuotaUsage};
pub(crate) use purge::{PurgeCache, PurgedCache};
pub(crate) use rate::Rate;
pub(crate) use release::{
    ActivatedApp, App, AppList, Release, ReleaseDiff, ReleaseDifference, ReleaseHead, ReleaseList, RestoredRelease,
};
pub(crate) use rollout::{ChangedRollout, Rollout, RolloutState, VersionTally};
pub(crate) use route::{Route, RouteAuth, RouteList, RouteSpec, RouteTarget};
pub(crate) use time::Time;
pub(crate) use usage::{Budget, BudgetLimit, BudgetState, Usage, UsageList, csv};
pub(crate) use webhook::{ChangedWebhook, DeliveryState, TestedWebhook, WebhookDelivery, WebhookHealth, WebhookStatus};

/// The id that follows a collection in a resource name: `checkout` of `functions` in `namespaces/shop/functions/checkout`.
pub(crate) fn id_in<'a>(name: &'a str, collection: &str) -> &'a str {
    let mut parts = name.split('/');
    while let (Some(found), Some(id)) = (parts.next(), parts.next()) {
        if found == collection {
            return id;
        }
    }
    ""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_found_by_their_collection() {
        let name = "namespaces/functions/functions/checkout/versions/3";
        assert_eq!(id_in(name, "namespaces"), "functions");
        assert_eq!(id_in(name, "functions"), "checkout");
        assert_eq!(id_in(name, "versions"), "3");
        assert_eq!(id_in(name, "keys"), "");
        assert_eq!(id_in("", "keys"), "");
    }
}
