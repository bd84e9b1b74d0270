//! What webhooks are told: one CloudEvents 1.0 object in JSON (structured mode) for each event. When something happens is known
//! where it happens; who is told, `store/webhooks.rs`. Pure.

use dunlin_proto::{
    ids::{DomainName, Namespace, VersionNumber},
    model::{BudgetLimit, QuotaPeriod},
    names::{BudgetName, DomainRef, NamespaceRef, ReleaseName, WebhookName},
};
use serde_json::{Value, json};

use crate::model::{FunctionRecord, RolloutPart, RolloutRecord, RolloutState, Time};

/// The media type of bodies (CloudEvents 1.0, JSON event format).
pub(crate) const MEDIA_TYPE: &str = "application/cloudevents+json; charset=utf-8";

/// What has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EventKind {
    Rollback,
    Quarantine,
    BudgetWarning,
    BudgetUsedUp,
    CertificateFailed,
    CertificateExpiring,
    Test,
}

impl EventKind {
    /// The `type` of its events.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Rollback => "dev.dunlin.rollback",
            Self::Quarantine => "dev.dunlin.quarantine",
            Self::BudgetWarning => "dev.dunlin.budget.warning",
            Self::BudgetUsedUp => "dev.dunlin.budget.used_up",
            Self::CertificateFailed => "dev.dunlin.certificate.failed",
            Self::CertificateExpiring => "dev.dunlin.certificate.expiring",
            Self::Test => "dev.dunlin.test",
        }
    }
}

/// Something that a namespace's webhook is told.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Event {
    pub(crate) kind: EventKind,
    pub(crate) namespace: Namespace,
    /// The resource that it is about.
    pub(crate) subject: String,
    /// What tells it from others, where the same may be found out several times and is told once.
    pub(crate) once: Option<String>,
    pub(crate) data: Value,
}

/// A bound of a budget that is used so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BudgetUse {
    /// It is of CPU seconds; otherwise, of calls.
    pub(crate) cpu: bool,
    pub(crate) limit: BudgetLimit,
    pub(crate) used: u64,
    /// When it began and when it ends, in seconds since 1970.
    pub(crate) period: (i64, i64),
    /// All of it is used, not only as much as is warned of.
    pub(crate) all: bool,
    /// Calls are refused once all is used.
    pub(crate) enforce: bool,
}

impl Event {
    /// That somebody wants to see whether events come.
    pub(crate) fn test(namespace: &Namespace, by: &str) -> Self {
        Self {
            kind: EventKind::Test,
            namespace: namespace.clone(),
            subject: WebhookName { namespace: namespace.clone() }.to_string(),
            once: None,
            data: json!({ "by": by }),
        }
    }

    /// What a rollout's move means for callers: that they get older versions again. Nothing where they do not.
    pub(crate) fn moved(rollout: &RolloutRecord, parts: &[RolloutPart], by: &str) -> Option<Self> {
        let ended_early = rollout.step < rollout.steps.len();
        let (kind, automatic) = match rollout.state {
            RolloutState::Quarantined => (EventKind::Quarantine, true),
            RolloutState::Back | RolloutState::Superseded => (EventKind::Rollback, true),
            RolloutState::Stopped if ended_early => (EventKind::Rollback, false),
            RolloutState::Stopped | RolloutState::Running | RolloutState::Promoted => return None,
        };
        let namespace = &rollout.namespace;
        let subject = match parts {
            [only] => only.function.to_string(),
            _ => NamespaceRef { namespace: namespace.clone() }.to_string(),
        };
        let functions: Vec<_> = parts
            .iter()
            .map(|part| json!({ "function": part.function.function.as_str(), "from": part.new.get(), "to": part.old.get() }))
            .collect();
        let data = json!({
            "automatic": automatic,
            "by": by,
            "reason": rollout.reason,
            "rollout": rollout.id.to_string(),
            "functions": functions,
        });
        Some(Self { kind, namespace: namespace.clone(), subject, once: None, data })
    }

    /// That somebody has given all calls of a function to an older version.
    pub(crate) fn rolled_back(before: &FunctionRecord, to: VersionNumber, (by, reason): (&str, &str)) -> Self {
        let from = before.full().map(VersionNumber::get);
        let functions = json!([{ "function": before.name.as_str(), "from": from, "to": to.get() }]);
        Self {
            kind: EventKind::Rollback,
            namespace: before.namespace.clone(),
            subject: before.reference().to_string(),
            once: None,
            data: json!({ "automatic": false, "by": by, "reason": reason, "functions": functions }),
        }
    }

    /// That somebody has gone back to what callers got in a release.
    pub(crate) fn restored(release: &ReleaseName, by: &str) -> Self {
        Self {
            kind: EventKind::Rollback,
            namespace: release.namespace.clone(),
            subject: release.to_string(),
            once: None,
            data: json!({ "automatic": false, "by": by, "reason": "", "release": release.number.get() }),
        }
    }

    /// That much of a budget is used, or all; once in a period.
    pub(crate) fn budget(namespace: &Namespace, spent: &BudgetUse) -> Self {
        let kind = if spent.all { EventKind::BudgetUsedUp } else { EventKind::BudgetWarning };
        let limit = if spent.cpu { "cpu_seconds" } else { "calls" };
        let period = if spent.limit.period == QuotaPeriod::Day { "day" } else { "month" };
        let (start, end) = (seconds(spent.period.0), seconds(spent.period.1));
        Self {
            kind,
            namespace: namespace.clone(),
            subject: BudgetName { namespace: namespace.clone() }.to_string(),
            once: Some(format!("{}/{limit}/{}/{}", kind.as_str(), spent.limit, spent.period.0)),
            data: json!({
                "limit": limit,
                "used": spent.used,
                "allowed": spent.limit.amount,
                "period": period,
                "period_start": rfc3339(start),
                "period_end": rfc3339(end),
                "enforce": spent.enforce,
            }),
        }
    }

    /// That a domain has no new certificate; once for each certificate that it has, and once while it has none.
    pub(crate) fn certificate_failed(
        namespace: &Namespace,
        domain: &DomainName,
        (error, hint): (&str, &str),
        expire: Option<Time>,
    ) -> Self {
        let data =
            json!({ "domain": domain.as_str(), "error": error, "hint": hint, "expire_time": expire.map(rfc3339) });
        Self::certificate(EventKind::CertificateFailed, namespace, domain, expire, data)
    }

    /// That the certificate of a domain ends soon, and no new one has come; once for each certificate.
    pub(crate) fn certificate_expiring(namespace: &Namespace, domain: &DomainName, expire: Time) -> Self {
        let data = json!({ "domain": domain.as_str(), "expire_time": rfc3339(expire) });
        Self::certificate(EventKind::CertificateExpiring, namespace, domain, Some(expire), data)
    }

    fn certificate(
        kind: EventKind,
        namespace: &Namespace,
        domain: &DomainName,
        expire: Option<Time>,
        data: Value,
    ) -> Self {
        let subject = DomainRef { namespace: namespace.clone(), domain: domain.clone() }.to_string();
        let once = format!("{}/{domain}/{}", kind.as_str(), expire.map_or(0, |expire| expire.0));
        Self { kind, namespace: namespace.clone(), subject, once: Some(once), data }
    }

    /// The body that is posted.
    pub(crate) fn body(&self, id: &str, time: Time) -> String {
        let event = json!({
            "specversion": "1.0",
            "id": id,
            "source": format!("/dunlin/namespaces/{}", self.namespace),
            "type": self.kind.as_str(),
            "subject": self.subject,
            "time": rfc3339(time),
            "datacontenttype": "application/json",
            "data": self.data,
        });
        event.to_string()
    }
}

fn seconds(seconds: i64) -> Time {
    Time(seconds.saturating_mul(1_000_000))
}

fn rfc3339(time: Time) -> String {
    humantime::format_rfc3339_millis(time.wall()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_a_cloud_event() {
        let shop: Namespace = "shop".parse().unwrap();
        let body: Value = serde_json::from_str(&Event::test(&shop, "ada").body("id-1", Time(1_500_000))).unwrap();
        assert_eq!(
            body,
            json!({
                "specversion": "1.0",
                "id": "id-1",
                "source": "/dunlin/namespaces/shop",
                "type": "dev.dunlin.test",
                "subject": "namespaces/shop/webhook",
                "time": "1970-01-01T00:00:01.500Z",
                "datacontenttype": "application/json",
                "data": { "by": "ada" },
            })
        );
    }

    #[test]
    fn the_same_has_the_same_key_and_something_else_another() {
        let (shop, domain) = ("shop".parse().unwrap(), "shop.example".parse().unwrap());
        let limit = BudgetLimit { amount: 20, period: QuotaPeriod::Day };
        let spent = BudgetUse { cpu: false, limit, used: 17, period: (86_400, 172_800), all: false, enforce: true };
        let (warned, later) = (Event::budget(&shop, &spent), Event::budget(&shop, &BudgetUse { used: 18, ..spent }));
        assert_eq!(warned.once, later.once);
        assert_eq!(
            (&warned.data["period_end"], &warned.data["limit"]),
            (&json!("1970-01-03T00:00:00.000Z"), &json!("calls"))
        );
        let failed = |expire| Event::certificate_failed(&shop, &domain, ("no", ""), expire).once;
        let others = [
            warned.once,
            Event::budget(&shop, &BudgetUse { all: true, ..spent }).once,
            Event::budget(&shop, &BudgetUse { cpu: true, ..spent }).once,
            Event::budget(&shop, &BudgetUse { period: (0, 86_400), ..spent }).once,
            failed(None),
            failed(Some(Time(5))),
            Event::certificate_expiring(&shop, &domain, Time(5)).once,
        ];
        let different: std::collections::BTreeSet<_> = others.iter().collect();
        assert_eq!(different.len(), others.len());
    }

    #[test]
    fn a_rollout_is_told_where_callers_get_older_versions_again() {
        let part = |name: &str| RolloutPart {
            function: format!("namespaces/shop/functions/{name}").parse().unwrap(),
            uid: dunlin_proto::ids::FunctionUid::new(),
            old: 3.try_into().unwrap(),
            new: 4.try_into().unwrap(),
        };
        let rollout = |state, step| RolloutRecord {
            id: dunlin_proto::ids::RolloutId::new(),
            namespace: "shop".parse().unwrap(),
            parts: vec![part("pay"), part("till")],
            steps: vec![10, 50],
            step,
            step_time: std::time::Duration::ZERO,
            step_calls: 0,
            state,
            reason: "it fails".to_owned(),
            app: None,
            creator: "zoe".to_owned(),
            create_time: Time(0),
            update_time: Time(0),
        };
        for (state, step, expected) in [
            (RolloutState::Running, 0, None),
            (RolloutState::Promoted, 2, None),
            (RolloutState::Stopped, 2, None),
            (RolloutState::Stopped, 1, Some((EventKind::Rollback, false))),
            (RolloutState::Back, 1, Some((EventKind::Rollback, true))),
            (RolloutState::Superseded, 1, Some((EventKind::Rollback, true))),
            (RolloutState::Quarantined, 0, Some((EventKind::Quarantine, true))),
        ] {
            let rollout = rollout(state, step);
            let told = Event::moved(&rollout, &rollout.parts, "dunlin");
            let found = told.as_ref().map(|event| (event.kind, event.data["automatic"].as_bool().unwrap()));
            assert_eq!(found, expected, "{state:?}");
            let Some(event) = told else { continue };
            assert_eq!((event.subject.as_str(), &event.data["reason"]), ("namespaces/shop", &json!("it fails")));
            assert_eq!(event.data["functions"][1], json!({ "function": "till", "from": 4, "to": 3 }));
            let one = Event::moved(&rollout, &rollout.parts[..1], "dunlin").unwrap();
            assert_eq!(one.subject, "namespaces/shop/functions/pay");
        }
    }
}
