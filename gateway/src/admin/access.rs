//! Who may do what: one table of every operation of the public API with what it needs.
//!
//! gRPC methods, JSON routes and pages all pass through `app/`, which asks this table and nothing else. A test holds it
//! against the schemas' descriptors and the JSON routes, so that nothing can be added without a row here.

use dunlin_proto::{ApiError, ids::Namespace};

use crate::auth::{Principal, Role};

/// What an operation needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// A valid administration token.
    Token,
    /// This role in the namespace that the request names. In a namespace without any role nothing is there.
    In(Role),
    /// The role `operator`, for what belongs to no namespace.
    Operator,
}

macro_rules! operations {
    ($($operation:ident $service:literal $need:expr),+ $(,)?) => {
        /// An operation of the public API, named like its method.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Operation {
            $(
                #[doc = concat!("`dunlin.v1.", $service, "/", stringify!($operation), "`.")]
                $operation,
            )+
        }

        impl Operation {
            /// All of them.
            #[cfg(test)]
            pub(crate) const ALL: &[Self] = &[$(Self::$operation),+];

            /// What it needs.
            pub(crate) fn need(self) -> Need {
                match self { $(Self::$operation => $need),+ }
            }

            /// Its gRPC method, as `dunlin.v1.FunctionService/ListFunctions`.
            pub(crate) fn method(self) -> &'static str {
                match self { $(Self::$operation => concat!("dunlin.v1.", $service, "/", stringify!($operation))),+ }
            }
        }
    };
}

operations! {
    ListFunctions "FunctionService" Need::In(Role::Viewer),
    GetFunction "FunctionService" Need::In(Role::Viewer),
    UpdateFunction "FunctionService" Need::In(Role::Developer),
    DeleteFunction "FunctionService" Need::In(Role::Developer),
    RollbackFunction "FunctionService" Need::In(Role::Developer),
    UploadArtifact "FunctionService" Need::In(Role::Developer),
    CreateVersion "FunctionService" Need::In(Role::Developer),
    GetVersion "FunctionService" Need::In(Role::Viewer),
    ListVersions "FunctionService" Need::In(Role::Viewer),
    SetAlias "AliasService" Need::In(Role::Developer),
    ListAliases "AliasService" Need::In(Role::Viewer),
    PromoteAlias "AliasService" Need::In(Role::Developer),
    DeleteAlias "AliasService" Need::In(Role::Developer),
    StartRollout "AliasService" Need::In(Role::Developer),
    GetRollout "AliasService" Need::In(Role::Viewer),
    StopRollout "AliasService" Need::In(Role::Developer),
    Invoke "InvocationService" Need::In(Role::Developer),
    ListInvocations "InvocationService" Need::In(Role::Viewer),
    GetInvocation "InvocationService" Need::In(Role::Viewer),
    ExplainInvocation "InvocationService" Need::In(Role::Viewer),
    DescribeFunction "InvocationService" Need::In(Role::Viewer),
    ReadLogs "LogService" Need::In(Role::Viewer),
    CreateNamespace "NamespaceService" Need::Operator,
    GetNamespace "NamespaceService" Need::In(Role::Viewer),
    // Shows those namespaces alone in which the token has a role.
    ListNamespaces "NamespaceService" Need::Token,
    UpdateNamespace "NamespaceService" Need::In(Role::Operator),
    DeleteNamespace "NamespaceService" Need::In(Role::Operator),
    SetWebhook "NamespaceService" Need::In(Role::Admin),
    // Its URL may have something secret in it.
    GetWebhook "NamespaceService" Need::In(Role::Developer),
    RotateWebhookSecret "NamespaceService" Need::In(Role::Admin),
    TestWebhook "NamespaceService" Need::In(Role::Admin),
    DeleteWebhook "NamespaceService" Need::In(Role::Admin),
    // In every namespace that the new token is for.
    CreateToken "TokenService" Need::In(Role::Admin),
    GetIdentity "TokenService" Need::Token,
    CreateKey "KeyService" Need::In(Role::Admin),
    ListKeys "KeyService" Need::In(Role::Viewer),
    RevokeKey "KeyService" Need::In(Role::Admin),
    UpdateKey "KeyService" Need::In(Role::Admin),
    RotateKey "KeyService" Need::In(Role::Admin),
    GetKeyUsage "KeyService" Need::In(Role::Viewer),
    PutPlan "PlanService" Need::In(Role::Admin),
    ListAuditEntries "AuditService" Need::In(Role::Admin),
    GetAuditHead "AuditService" Need::Operator,
    ListPlans "PlanService" Need::In(Role::Viewer),
    DeletePlan "PlanService" Need::In(Role::Admin),
    ListUsage "UsageService" Need::In(Role::Viewer),
    SetBudget "UsageService" Need::In(Role::Admin),
    GetBudget "UsageService" Need::In(Role::Viewer),
    DeleteBudget "UsageService" Need::In(Role::Admin),
    ListReleases "ReleaseService" Need::In(Role::Viewer),
    GetRelease "ReleaseService" Need::In(Role::Viewer),
    DiffReleases "ReleaseService" Need::In(Role::Viewer),
    RollbackRelease "ReleaseService" Need::In(Role::Developer),
    ActivateApp "ReleaseService" Need::In(Role::Developer),
    ListApps "ReleaseService" Need::In(Role::Viewer),
    GetApp "ReleaseService" Need::In(Role::Viewer),
    PutRoute "RouteService" Need::In(Role::Developer),
    GetRoute "RouteService" Need::In(Role::Viewer),
    ListRoutes "RouteService" Need::In(Role::Viewer),
    DeleteRoute "RouteService" Need::In(Role::Developer),
    ImportRoutes "RouteService" Need::In(Role::Developer),
    ExportRoutes "RouteService" Need::In(Role::Viewer),
    PurgeCache "RouteService" Need::In(Role::Developer),
    // Of operators alone where a domain could be the host that everybody uses.
    CreateDomain "DomainService" Need::In(Role::Admin),
    ListDomains "DomainService" Need::In(Role::Viewer),
    DeleteDomain "DomainService" Need::In(Role::Admin),
    GetCluster "ClusterService" Need::Operator,
    ListWorkers "ClusterService" Need::Operator,
    DrainWorker "ClusterService" Need::Operator,
    CreateJoinToken "ClusterService" Need::Operator,
}

impl Operation {
    /// Lets the operation pass in a namespace.
    ///
    /// # Errors
    /// `NotFound` in a namespace without any role, `PermissionDenied` with too small a one.
    pub(crate) fn allow_in(self, who: &Principal, namespace: &Namespace) -> Result<(), ApiError> {
        let allowed = match self.need() {
            Need::Token => Ok(()),
            Need::In(role) => who.require(namespace, role),
            Need::Operator => who.require_operator(),
        };
        self.noted(allowed, who, Some(namespace))
    }

    /// Lets an operation pass that belongs to no namespace.
    ///
    /// # Errors
    /// `PermissionDenied`, also for an operation that does belong to one.
    pub(crate) fn allow(self, who: &Principal) -> Result<(), ApiError> {
        let allowed = match self.need() {
            Need::Token => Ok(()),
            Need::In(_) | Need::Operator => who.require_operator(),
        };
        self.noted(allowed, who, None)
    }

    /// Notes refused changes for the audit log.
    fn noted(
        self,
        allowed: Result<(), ApiError>,
        who: &Principal,
        namespace: Option<&Namespace>,
    ) -> Result<(), ApiError> {
        let method = self.method().strip_prefix("dunlin.v1.").unwrap_or_default();
        if let (Err(_), Some(action)) = (&allowed, dunlin_proto::audit::action_of(method)) {
            who.note(action, namespace, true);
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message;

    use super::*;

    #[test]
    fn t46_every_method_of_the_schemas_has_a_row() {
        let set = prost_types::FileDescriptorSet::decode(dunlin_proto::v1::DESCRIPTORS).unwrap();
        let mut methods = BTreeSet::new();
        for file in &set.file {
            for service in &file.service {
                let of = |method: &prost_types::MethodDescriptorProto| {
                    format!("{}.{}/{}", file.package(), service.name(), method.name())
                };
                methods.extend(service.method.iter().map(of));
            }
        }
        let rows: BTreeSet<_> = Operation::ALL.iter().map(|operation| operation.method().to_owned()).collect();
        assert!(!methods.is_empty());
        assert_eq!(rows, methods);
    }
}
