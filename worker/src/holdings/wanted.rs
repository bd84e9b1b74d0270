//! A version as the scheduler wants it held: the message, checked.

use dunlin_proto::{
    ApiError,
    ids::{FunctionName, Namespace, VersionKey},
    internal::v1::{AssignedVersion, CompiledCode, InvocationPolicy, SandboxReuse, VersionRef},
    model::{self, from_wire_duration},
    outbound::AllowedHosts,
};

use crate::{
    pool::Scaling,
    sandbox::{GuestKind, Limits, Policy},
};

/// A version to hold.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) key: VersionKey,
    pub(crate) namespace: Namespace,
    pub(crate) function: FunctionName,
    pub(crate) kind: GuestKind,
    pub(crate) code: CompiledCode,
    pub(crate) scaling: Scaling,
    /// How sandboxes are used again; what is known of that may change while the version is held.
    pub(crate) reuse: Option<SandboxReuse>,
    /// The message without what is above, and what may change while the version is held. What its policy says is read when
    /// the version is loaded, since most are not.
    message: AssignedVersion,
}

impl Wanted {
    /// The message that asked for it; `tried` where reuse is known to work.
    pub(crate) fn assigned(&self, standby: bool, tried: bool) -> AssignedVersion {
        let reuse = self.reuse.map(|reuse| SandboxReuse { tried: reuse.tried || tried, ..reuse });
        AssignedVersion {
            version: Some(self.key.into()),
            namespace: self.namespace.to_string(),
            function: self.function.to_string(),
            code: Some(self.code.clone()),
            standby,
            reuse,
            ..self.message.clone()
        }
    }

    /// Whether both are the same but for being on standby and what is known of reuse.
    pub(crate) fn is(&self, other: &Self) -> bool {
        let name = |wanted: &Self| (wanted.key, wanted.namespace.clone(), wanted.function.clone());
        self.message == other.message && self.code == other.code && name(self) == name(other)
    }

    /// Grants and limits of its invocations.
    ///
    /// # Errors
    /// None: it was read before.
    pub(crate) fn policy(&self) -> Result<Policy, ApiError> {
        policy(self.message.policy.as_ref().ok_or_else(|| missing("policy"))?)
    }
}

impl TryFrom<&AssignedVersion> for Wanted {
    type Error = ApiError;

    fn try_from(wire: &AssignedVersion) -> Result<Self, ApiError> {
        let version: &VersionRef = wire.version.as_ref().ok_or_else(|| missing("version"))?;
        self::policy(wire.policy.as_ref().ok_or_else(|| missing("policy"))?)?;
        let scaling = Scaling {
            min: wire.min_sandboxes.min(wire.max_sandboxes),
            max: wire.max_sandboxes.max(1),
            idle_timeout: from_wire_duration(wire.idle_timeout),
        };
        Ok(Self {
            key: version.try_into()?,
            namespace: wire.namespace.parse().map_err(|error| ApiError::invalid("namespace", error))?,
            function: wire.function.parse().map_err(|error| ApiError::invalid("function", error))?,
            kind: wire.kind.parse().map_err(|error| ApiError::invalid("kind", error))?,
            code: wire.code.clone().ok_or_else(|| missing("code"))?,
            scaling,
            reuse: wire.reuse,
            message: AssignedVersion {
                kind: wire.kind.clone(),
                policy: wire.policy.clone(),
                min_sandboxes: wire.min_sandboxes,
                max_sandboxes: wire.max_sandboxes,
                idle_timeout: wire.idle_timeout,
                ..AssignedVersion::default()
            },
        })
    }
}

fn missing(field: &str) -> ApiError {
    ApiError::invalid(field, format!("{field} is missing"))
}

fn policy(wire: &InvocationPolicy) -> Result<Policy, ApiError> {
    let limits = model::Limits::from(wire);
    let hosts = AllowedHosts::parse(&wire.allowed_outbound_hosts);
    // Sorted, so that a guest sees the same order on every worker.
    let mut environment: Vec<_> = wire.environment.clone().into_iter().collect();
    environment.sort();
    Ok(Policy {
        limits: Limits {
            memory_bytes: limits.memory_bytes,
            cpu: limits.cpu_time,
            wall: limits.timeout,
            request_body_bytes: limits.request_body_bytes,
            response_body_bytes: limits.response_body_bytes,
            log_bytes: limits.log_bytes,
            ..Limits::default()
        },
        environment,
        allowed_outbound_hosts: hosts.map_err(|error| ApiError::invalid("allowed_outbound_hosts", error))?,
    })
}
