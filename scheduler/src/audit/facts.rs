//! What the log says of each kind of resource: what people decide on, in the words of the API. Hashes of secrets are not even
//! named here; what else may be secret is taken out afterwards (`redaction.rs`).

use std::time::Duration;

use dunlin_proto::v1;
use serde_json::{Value, json};

use crate::{
    capabilities::Changes,
    model::{
        AliasRecord, ClaimRecord, DomainRecord, FunctionRecord, KeyRecord, NamespaceRecord, PlanRecord, RolloutPart,
        RolloutRecord, RouteRecord, Share, Time, VersionRecord,
    },
    tokens::Purpose,
};

/// What has a state that the log can tell.
pub(crate) trait Facts {
    /// The state.
    fn facts(&self) -> Value;
}

impl Facts for Value {
    fn facts(&self) -> Value {
        self.clone()
    }
}

impl Facts for NamespaceRecord {
    fn facts(&self) -> Value {
        let seconds = self.retention.age.map(|age| age.as_secs());
        json!({
            "description": self.description, "max_concurrency": self.max_concurrency, "rate": self.rate, "quota": self.quota,
            "log_retention_seconds": seconds, "log_bytes": self.retention.log_bytes,
        })
    }
}

fn shares(shares: &[Share]) -> Value {
    shares.iter().map(|Share(version, percent)| json!({ "version": version.get(), "percent": percent })).collect()
}

impl Facts for [Share] {
    fn facts(&self) -> Value {
        json!({ "traffic": shares(self) })
    }
}

impl Facts for FunctionRecord {
    fn facts(&self) -> Value {
        json!({
            "description": self.description,
            "public": self.public,
            "direct": self.direct,
            "disabled": self.disabled,
            "traffic": shares(&self.traffic),
            "sticky": self.sticky,
            "latest_version": self.latest_version,
        })
    }
}

/// A function with why it went back.
impl Facts for (&FunctionRecord, &str) {
    fn facts(&self) -> Value {
        let (function, reason) = self;
        let mut facts = function.facts();
        if !reason.is_empty()
            && let Some(fields) = facts.as_object_mut()
        {
            fields.insert("reason".to_owned(), json!(reason));
        }
        facts
    }
}

/// A rollout, as far as it concerns one of its functions.
impl Facts for (&RolloutRecord, &RolloutPart) {
    fn facts(&self) -> Value {
        let (rollout, part) = self;
        json!({
            "rollout": rollout.id.to_string(),
            "old_version": part.old.get(),
            "new_version": part.new.get(),
            "steps": rollout.steps,
            "step": rollout.step,
            "traffic": shares(&rollout.shares(part)),
            "state": rollout.state.as_str(),
            "reason": rollout.reason,
        })
    }
}

impl Facts for AliasRecord {
    fn facts(&self) -> Value {
        json!({ "traffic": shares(&self.shares), "sticky": self.sticky })
    }
}

/// A version with how it differs from those that have the traffic.
impl Facts for (&VersionRecord, &Changes) {
    fn facts(&self) -> Value {
        let (version, changes) = self;
        let v1::CapabilityChanges { added_outbound_hosts, removed_outbound_hosts, added_imports, removed_imports } =
            changes.to_wire();
        json!({
            "artifact": version.artifact.to_string(),
            "kind": version.kind,
            "spec": version.spec,
            "note": version.note,
            "takes_traffic": version.activation,
            "canary_percent": version.canary,
            "public": version.policy.public,
            "direct": version.policy.direct,
            "capabilities": {
                "added_outbound_hosts": added_outbound_hosts,
                "removed_outbound_hosts": removed_outbound_hosts,
                "added_imports": added_imports,
                "removed_imports": removed_imports,
            },
        })
    }
}

impl Facts for RouteRecord {
    fn facts(&self) -> Value {
        json!({ "requests": self.spec.to_string(), "spec": self.spec })
    }
}

impl Facts for DomainRecord {
    fn facts(&self) -> Value {
        json!({ "tls": self.tls.as_str(), "proof": self.proof.as_str() })
    }
}

impl Facts for ClaimRecord {
    fn facts(&self) -> Value {
        json!({ "tls": self.tls.as_str(), "proof": "pending" })
    }
}

fn moment(time: Option<Time>) -> Value {
    time.map_or(Value::Null, |time| time.to_string().into())
}

impl Facts for KeyRecord {
    fn facts(&self) -> Value {
        json!({
            "display_name": self.display_name,
            "functions": self.functions,
            "plan": self.plan,
            "expire_time": moment(self.expire_time),
            "revoke_time": moment(self.revoke_time),
            "old_secret_expire_time": moment(self.old.map(|old| old.expire_time)),
        })
    }
}

impl Facts for PlanRecord {
    fn facts(&self) -> Value {
        json!({ "rate": self.rate, "quota": self.quota, "max_concurrency": self.max_concurrency })
    }
}

/// A token that is about to be issued: for whom, for what and how long.
impl Facts for (&str, &Purpose, Duration) {
    fn facts(&self) -> Value {
        let (subject, purpose, lifetime) = self;
        let what = match purpose {
            Purpose::Administration(grants) => json!({ "purpose": "administration", "grants": grants }),
            Purpose::Call(_, scopes) => json!({ "purpose": "call", "scopes": scopes }),
            Purpose::Preview(version) => json!({ "purpose": "preview", "version": version.to_string() }),
            Purpose::Join(role, name, _) => json!({ "purpose": "join", "role": role.as_str(), "name": name }),
        };
        json!({ "subject": subject, "lifetime_seconds": lifetime.as_secs(), "grants": what })
    }
}

#[cfg(test)]
mod tests {
    use dunlin_proto::ids::Digest;

    use super::*;
    use crate::{audit::Change, model::OldSecret};

    #[test]
    fn a_key_shows_neither_its_secret_nor_its_hash() {
        let (secret, old) = (Digest::of(b"canary"), Digest::of(b"old canary"));
        let key = KeyRecord {
            id: "abcDEF123456".parse().unwrap(),
            namespace: "shop".parse().unwrap(),
            secret,
            display_name: "till".into(),
            functions: Vec::new(),
            creator: "zoe".into(),
            create_time: Time(0),
            expire_time: Some(Time(1_000_000)),
            revoke_time: None,
            plan: None,
            old: Some(OldSecret { secret: old, expire_time: Time(2_000_000) }),
        };
        let text = Change::new("key.rotate", &key.namespace, &key.id).after(&key).after;
        assert!(!text.contains(&secret.hex()) && !text.contains(&old.hex()), "{text}");
        assert!(text.contains("1970-01-01T00:00:01Z") && text.contains("1970-01-01T00:00:02Z"), "{text}");
    }

    #[test]
    fn a_token_is_told_by_what_it_grants() {
        let purpose = Purpose::Call("shop".parse().unwrap(), vec!["read".into()]);
        let facts = ("ci", &purpose, Duration::from_secs(60)).facts();
        assert_eq!(facts["grants"]["scopes"][0], "read");
        assert_eq!((&facts["subject"], &facts["lifetime_seconds"]), (&json!("ci"), &json!(60)));
    }
}
