//! What each method of the public API is called in the audit log. Whoever adds a method says here whether it changes anything;
//! a test holds the table against the schemas.

/// The action of an entry with which the scheduler says that it did not sign the log before it.
pub const DISTRUST: &str = "audit.distrust";

/// Every method, and its action; nothing for those that only read.
pub const ACTIONS: &[(&str, Option<&str>)] = &[
    ("FunctionService/ListFunctions", None),
    ("FunctionService/GetFunction", None),
    ("FunctionService/UpdateFunction", Some("function.update")),
    ("FunctionService/DeleteFunction", Some("function.delete")),
    ("FunctionService/RollbackFunction", Some("function.rollback")),
    ("FunctionService/UploadArtifact", Some("artifact.upload")),
    ("FunctionService/CreateVersion", Some("version.create")),
    ("FunctionService/GetVersion", None),
    ("FunctionService/ListVersions", None),
    ("AliasService/SetAlias", Some("alias.set")),
    ("AliasService/ListAliases", None),
    ("AliasService/PromoteAlias", Some("alias.promote")),
    ("AliasService/DeleteAlias", Some("alias.delete")),
    ("AliasService/StartRollout", Some("rollout.start")),
    ("AliasService/GetRollout", None),
    ("AliasService/StopRollout", Some("rollout.stop")),
    ("ReleaseService/ListReleases", None),
    ("ReleaseService/GetRelease", None),
    ("ReleaseService/DiffReleases", None),
    ("ReleaseService/RollbackRelease", Some("release.rollback")),
    ("ReleaseService/ActivateApp", Some("app.activate")),
    ("ReleaseService/ListApps", None),
    ("ReleaseService/GetApp", None),
    ("UsageService/ListUsage", None),
    ("UsageService/GetBudget", None),
    ("UsageService/SetBudget", Some("budget.set")),
    ("UsageService/DeleteBudget", Some("budget.delete")),
    ("AuditService/ListAuditEntries", None),
    ("AuditService/GetAuditHead", None),
    // Calls have records, and change nothing of the platform's.
    ("InvocationService/Invoke", None),
    ("InvocationService/ListInvocations", None),
    ("InvocationService/GetInvocation", None),
    ("InvocationService/ExplainInvocation", None),
    ("InvocationService/DescribeFunction", None),
    ("LogService/ReadLogs", None),
    ("NamespaceService/CreateNamespace", Some("namespace.create")),
    ("NamespaceService/GetNamespace", None),
    ("NamespaceService/ListNamespaces", None),
    ("NamespaceService/UpdateNamespace", Some("namespace.update")),
    ("NamespaceService/DeleteNamespace", Some("namespace.delete")),
    ("NamespaceService/SetWebhook", Some("webhook.set")),
    ("NamespaceService/GetWebhook", None),
    ("NamespaceService/RotateWebhookSecret", Some("webhook.rotate")),
    ("NamespaceService/TestWebhook", Some("webhook.test")),
    ("NamespaceService/DeleteWebhook", Some("webhook.delete")),
    ("TokenService/CreateToken", Some("token.create")),
    ("TokenService/GetIdentity", None),
    ("KeyService/CreateKey", Some("key.create")),
    ("KeyService/ListKeys", None),
    ("KeyService/RevokeKey", Some("key.revoke")),
    ("KeyService/UpdateKey", Some("key.update")),
    ("KeyService/RotateKey", Some("key.rotate")),
    ("KeyService/GetKeyUsage", None),
    ("PlanService/PutPlan", Some("plan.put")),
    ("PlanService/ListPlans", None),
    ("PlanService/DeletePlan", Some("plan.delete")),
    ("RouteService/PutRoute", Some("route.put")),
    ("RouteService/GetRoute", None),
    ("RouteService/ListRoutes", None),
    ("RouteService/DeleteRoute", Some("route.delete")),
    ("RouteService/ImportRoutes", Some("route.import")),
    ("RouteService/ExportRoutes", None),
    ("RouteService/PurgeCache", Some("cache.purge")),
    ("DomainService/CreateDomain", Some("domain.create")),
    ("DomainService/ListDomains", None),
    ("DomainService/DeleteDomain", Some("domain.delete")),
    ("ClusterService/GetCluster", None),
    ("ClusterService/ListWorkers", None),
    ("ClusterService/DrainWorker", Some("worker.drain")),
    ("ClusterService/CreateJoinToken", Some("join_token.create")),
];

/// Signing in at the pages.
const SIGN_IN: &str = "session.begin";

/// The action that gateways may note, which they do of those that they refuse, and of sign-ins.
#[must_use]
pub fn noted(action: &str) -> Option<&'static str> {
    let actions = ACTIONS.iter().filter_map(|(_, action)| *action);
    actions.chain([SIGN_IN]).find(|known| *known == action)
}

/// The action of a method, named as in `FunctionService/DeleteFunction`; nothing where it changes nothing.
#[must_use]
pub fn action_of(method: &str) -> Option<&'static str> {
    ACTIONS.iter().find(|(name, _)| *name == method).and_then(|(_, action)| *action)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message;

    use super::*;

    #[test]
    fn every_method_of_the_schemas_has_a_row() {
        let set = prost_types::FileDescriptorSet::decode(crate::v1::DESCRIPTORS).unwrap();
        let services = set.file.iter().flat_map(|file| &file.service);
        let methods: BTreeSet<_> = services
            .flat_map(|service| service.method.iter().map(|method| format!("{}/{}", service.name(), method.name())))
            .collect();
        let rows: BTreeSet<_> = ACTIONS.iter().map(|(method, _)| (*method).to_owned()).collect();
        assert_eq!(rows, methods);
        assert_eq!(rows.len(), ACTIONS.len(), "a method stands there twice");
    }

    #[test]
    fn what_is_named_like_a_change_has_an_action() {
        for (method, action) in ACTIONS {
            let name = method.rsplit('/').next().unwrap();
            let reads = ["Get", "List", "Read", "Export", "Explain", "Describe", "Diff", "Invoke"]
                .iter()
                .any(|verb| name.starts_with(verb));
            assert_eq!(action.is_none(), reads, "{method}");
        }
        assert_eq!(action_of("KeyService/RotateKey"), Some("key.rotate"));
        assert_eq!((noted("key.rotate"), noted("session.begin")), (Some("key.rotate"), Some("session.begin")));
        assert_eq!(noted(DISTRUST), None);
        assert_eq!((action_of("KeyService/ListKeys"), action_of("nonsense")), (None, None));
    }
}
