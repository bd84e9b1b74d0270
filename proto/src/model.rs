//! What a version is granted and limited to, validated: required where required, with every default filled in.
//!
//! The wire types of `v1` and `internal` mirror these and are checked here, on the receiving side only.

mod budget;
mod quota;
mod rate;
mod retention;
mod reuse;
mod sticky;

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{error::ApiError, ids::VersionKey, internal::v1 as wire, outbound::AllowedHosts, v1};

pub use budget::{Budget, BudgetLimit, Spent};
pub use quota::{Quota, QuotaPeriod};
pub use rate::{Period, Rate};
pub use retention::{Retention, Retentions, retention_age, retention_bytes};
pub use reuse::Reuse;
pub use sticky::Sticky;

/// Limits of one invocation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Linear memory in bytes.
    pub memory_bytes: u64,
    /// CPU time of the guest.
    pub cpu_time: Duration,
    /// From the gateway's acceptance to the end of the answer.
    pub timeout: Duration,
    /// Body of a request in bytes.
    pub request_body_bytes: u64,
    /// Body of an answer in bytes.
    pub response_body_bytes: u64,
    /// Log output in bytes.
    pub log_bytes: u64,
    /// Calls of the function in a time, in the whole cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// Calls of the function in a day or month, in the whole cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<Quota>,
}

impl Limits {
    /// The largest linear memory, in bytes.
    pub const MAX_MEMORY_BYTES: u64 = 1 << 30;
    /// The longest timeout.
    pub const MAX_TIMEOUT: Duration = Duration::from_secs(900);
    /// The largest body, in bytes; it streams, so the limit guards bandwidth and not memory.
    pub const MAX_BODY_BYTES: u64 = 1 << 30;
    /// The most log output, in bytes.
    pub const MAX_LOG_BYTES: u64 = 16 << 20;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 128 << 20,
            cpu_time: Duration::from_secs(10),
            timeout: Duration::from_secs(30),
            request_body_bytes: 6 << 20,
            response_body_bytes: 6 << 20,
            log_bytes: 64 << 10,
            rate: None,
            quota: None,
        }
    }
}

/// How many sandboxes and workers a version may have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scaling {
    /// Sandboxes kept prepared on each worker that holds the version.
    pub min_sandboxes: u32,
    /// Invocations that run at once on each worker.
    pub max_sandboxes: u32,
    /// How long a prepared sandbox, and with no call the placement, is kept.
    pub idle_timeout: Duration,
    /// Workers that always hold the version.
    pub min_workers: u32,
    /// Workers that hold it at the most.
    pub max_workers: Option<u32>,
    /// Invocations of the function at once in the whole cluster.
    #[serde(default)]
    pub max_concurrency: Option<u32>,
    /// Of the namespace's bound of them, what no other function takes.
    #[serde(default)]
    pub reserved_concurrency: u32,
}

impl Scaling {
    /// The largest bound of invocations at once, of a function or a namespace.
    pub const MAX_CONCURRENCY: u32 = 1_000_000;

    /// The most sandboxes of a version on a worker.
    pub const MAX_SANDBOXES: u32 = 10_000;
}

impl Default for Scaling {
    fn default() -> Self {
        Self {
            min_sandboxes: 0,
            max_sandboxes: 100,
            idle_timeout: Duration::from_secs(60),
            min_workers: 0,
            max_workers: None,
            max_concurrency: None,
            reserved_concurrency: 0,
        }
    }
}

/// What a version is granted and limited to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionSpec {
    /// Limits of each invocation.
    pub limits: Limits,
    /// How many sandboxes and workers it may have.
    pub scaling: Scaling,
    /// Environment variables that the guest sees.
    pub environment: BTreeMap<String, String>,
    /// Hosts that the guest may call, in the syntax of [`AllowedHosts`].
    pub allowed_outbound_hosts: Vec<String>,
    /// Running a call twice does no harm: what is lost with its worker may run again.
    #[serde(default)]
    pub idempotent: bool,
    /// How sandboxes are used again; nothing means a fresh one for every call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reuse: Option<Reuse>,
}

/// The most environment variables, and the most bytes of all names and values.
const MAX_VARIABLES: usize = 256;
const MAX_ENVIRONMENT_BYTES: usize = 64 << 10;
const MAX_OUTBOUND_HOSTS: usize = 100;

/// Checks that a value lies in a range, and names the field where it does not.
fn within<T: Copy + PartialOrd + std::fmt::Debug>(field: &str, value: T, min: T, max: T) -> Result<T, ApiError> {
    if value < min || value > max {
        return Err(ApiError::invalid(field, format!("{field} is {value:?} but must lie between {min:?} and {max:?}")));
    }
    Ok(value)
}

/// Checks a bound of invocations at once, where there is one.
///
/// # Errors
/// It is larger than [`Scaling::MAX_CONCURRENCY`]; the error names the field.
pub fn concurrency(field: &str, value: Option<u32>) -> Result<Option<u32>, ApiError> {
    value.map(|value| within(field, value, 0, Scaling::MAX_CONCURRENCY)).transpose()
}

/// The duration of a message, or the default where there is none.
fn duration(field: &str, value: Option<prost_types::Duration>, default: Duration) -> Result<Duration, ApiError> {
    let Some(value) = value else { return Ok(default) };
    value.try_into().map_err(|_| ApiError::invalid(field, format!("{field} must not be negative")))
}

impl TryFrom<v1::Limits> for Limits {
    type Error = ApiError;

    fn try_from(wire: v1::Limits) -> Result<Self, ApiError> {
        let default = Self::default();
        let timeout = duration("spec.limits.timeout", wire.timeout, default.timeout)?;
        let cpu = duration("spec.limits.cpu_time", wire.cpu_time, default.cpu_time)?;
        let millisecond = Duration::from_millis(1);
        let body =
            |field, value: Option<u64>, default| within(field, value.unwrap_or(default), 0, Self::MAX_BODY_BYTES);
        Ok(Self {
            memory_bytes: within(
                "spec.limits.memory_bytes",
                wire.memory_bytes.unwrap_or(default.memory_bytes),
                1 << 16,
                Self::MAX_MEMORY_BYTES,
            )?,
            cpu_time: within("spec.limits.cpu_time", cpu, millisecond, Self::MAX_TIMEOUT)?,
            timeout: within("spec.limits.timeout", timeout, millisecond, Self::MAX_TIMEOUT)?,
            request_body_bytes: body(
                "spec.limits.request_body_bytes",
                wire.request_body_bytes,
                default.request_body_bytes,
            )?,
            response_body_bytes: body(
                "spec.limits.response_body_bytes",
                wire.response_body_bytes,
                default.response_body_bytes,
            )?,
            log_bytes: within(
                "spec.limits.log_bytes",
                wire.log_bytes.unwrap_or(default.log_bytes),
                0,
                Self::MAX_LOG_BYTES,
            )?,
            rate: wire.rate.map(|rate| Rate::from_wire("spec.limits.rate", rate)).transpose()?,
            quota: wire.quota.map(|quota| Quota::from_wire("spec.limits.quota", quota)).transpose()?,
        })
    }
}

impl TryFrom<v1::Scaling> for Scaling {
    type Error = ApiError;

    fn try_from(wire: v1::Scaling) -> Result<Self, ApiError> {
        let default = Self::default();
        let max = within(
            "spec.scaling.max_sandboxes",
            wire.max_sandboxes.unwrap_or(default.max_sandboxes),
            1,
            Self::MAX_SANDBOXES,
        )?;
        let min_workers = within("spec.scaling.min_workers", wire.min_workers.unwrap_or(0), 0, 1_000)?;
        let idle = duration("spec.scaling.idle_timeout", wire.idle_timeout, default.idle_timeout)?;
        let max_concurrency = concurrency("spec.scaling.max_concurrency", wire.max_concurrency)?;
        let reservable = max_concurrency.unwrap_or(Self::MAX_CONCURRENCY);
        let reserved = wire.reserved_concurrency.unwrap_or(0);
        Ok(Self {
            min_sandboxes: within("spec.scaling.min_sandboxes", wire.min_sandboxes.unwrap_or(0), 0, max)?,
            max_sandboxes: max,
            idle_timeout: within(
                "spec.scaling.idle_timeout",
                idle,
                Duration::from_secs(1),
                Duration::from_secs(86_400),
            )?,
            min_workers,
            max_workers: wire
                .max_workers
                .map(|most| within("spec.scaling.max_workers", most, min_workers.max(1), 1_000))
                .transpose()?,
            max_concurrency,
            reserved_concurrency: within("spec.scaling.reserved_concurrency", reserved, 0, reservable)?,
        })
    }
}

/// Checks a name and value of the environment (POSIX.1-2017 8.1: no `=`, no NUL).
fn variable(name: &str, value: &str) -> Result<(), ApiError> {
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    if !first || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        let message = format!(
            "environment variable {name:?} must have letters, digits and underscores, and not begin with a digit"
        );
        return Err(ApiError::invalid("spec.environment", message));
    }
    if value.contains('\0') {
        return Err(ApiError::invalid(
            "spec.environment",
            format!("the value of environment variable {name} has a NUL"),
        ));
    }
    Ok(())
}

/// Checks the environment as a whole.
fn environment(variables: BTreeMap<String, String>) -> Result<BTreeMap<String, String>, ApiError> {
    let bytes: usize = variables.iter().map(|(name, value)| name.len() + value.len()).sum();
    if variables.len() > MAX_VARIABLES || bytes > MAX_ENVIRONMENT_BYTES {
        let message =
            format!("the environment may have {MAX_VARIABLES} variables and {MAX_ENVIRONMENT_BYTES} bytes at most");
        return Err(ApiError::invalid("spec.environment", message));
    }
    variables.iter().try_for_each(|(name, value)| variable(name, value))?;
    Ok(variables)
}

impl TryFrom<v1::VersionSpec> for VersionSpec {
    type Error = ApiError;

    fn try_from(wire: v1::VersionSpec) -> Result<Self, ApiError> {
        if wire.allowed_outbound_hosts.len() > MAX_OUTBOUND_HOSTS {
            let message = format!("allowed_outbound_hosts may have {MAX_OUTBOUND_HOSTS} entries at most");
            return Err(ApiError::invalid("spec.allowed_outbound_hosts", message));
        }
        AllowedHosts::parse(&wire.allowed_outbound_hosts)?;
        Ok(Self {
            limits: wire.limits.unwrap_or_default().try_into()?,
            scaling: wire.scaling.unwrap_or_default().try_into()?,
            environment: environment(wire.environment.into_iter().collect())?,
            allowed_outbound_hosts: wire.allowed_outbound_hosts,
            idempotent: wire.idempotent,
            reuse: wire.reuse.map(Reuse::try_from).transpose()?,
        })
    }
}

/// A duration as a message; one too long for the message is cut to its longest.
#[must_use]
pub fn to_wire_duration(value: Duration) -> prost_types::Duration {
    value.try_into().unwrap_or(prost_types::Duration { seconds: i64::MAX, nanos: 0 })
}

/// A duration from a message; a negative or missing one is zero.
#[must_use]
pub fn from_wire_duration(value: Option<prost_types::Duration>) -> Duration {
    value.and_then(|value| value.try_into().ok()).unwrap_or_default()
}

impl From<VersionSpec> for v1::VersionSpec {
    fn from(spec: VersionSpec) -> Self {
        let VersionSpec { limits, scaling, environment, allowed_outbound_hosts, idempotent, reuse } = spec;
        Self {
            limits: Some(v1::Limits {
                memory_bytes: Some(limits.memory_bytes),
                cpu_time: Some(to_wire_duration(limits.cpu_time)),
                timeout: Some(to_wire_duration(limits.timeout)),
                request_body_bytes: Some(limits.request_body_bytes),
                response_body_bytes: Some(limits.response_body_bytes),
                log_bytes: Some(limits.log_bytes),
                rate: limits.rate.map(Into::into),
                quota: limits.quota.map(Into::into),
            }),
            scaling: Some(v1::Scaling {
                min_sandboxes: Some(scaling.min_sandboxes),
                max_sandboxes: Some(scaling.max_sandboxes),
                idle_timeout: Some(to_wire_duration(scaling.idle_timeout)),
                min_workers: Some(scaling.min_workers),
                max_workers: scaling.max_workers,
                max_concurrency: scaling.max_concurrency,
                reserved_concurrency: Some(scaling.reserved_concurrency),
            }),
            environment: environment.into_iter().collect(),
            allowed_outbound_hosts,
            idempotent,
            reuse: reuse.map(Into::into),
        }
    }
}

impl From<&VersionSpec> for wire::InvocationPolicy {
    fn from(spec: &VersionSpec) -> Self {
        Self {
            memory_bytes: spec.limits.memory_bytes,
            cpu_time: Some(to_wire_duration(spec.limits.cpu_time)),
            timeout: Some(to_wire_duration(spec.limits.timeout)),
            request_body_bytes: spec.limits.request_body_bytes,
            response_body_bytes: spec.limits.response_body_bytes,
            log_bytes: spec.limits.log_bytes,
            environment: spec.environment.clone().into_iter().collect(),
            allowed_outbound_hosts: spec.allowed_outbound_hosts.clone(),
        }
    }
}

impl From<&wire::InvocationPolicy> for Limits {
    fn from(policy: &wire::InvocationPolicy) -> Self {
        Self {
            memory_bytes: policy.memory_bytes,
            cpu_time: from_wire_duration(policy.cpu_time),
            timeout: from_wire_duration(policy.timeout),
            request_body_bytes: policy.request_body_bytes,
            response_body_bytes: policy.response_body_bytes,
            log_bytes: policy.log_bytes,
            // Gateways keep to these; no worker is told.
            rate: None,
            quota: None,
        }
    }
}

impl From<VersionKey> for wire::VersionRef {
    fn from(key: VersionKey) -> Self {
        Self { function_uid: key.function.to_string(), number: key.number.get() }
    }
}

impl TryFrom<&wire::VersionRef> for VersionKey {
    type Error = ApiError;

    fn try_from(wire: &wire::VersionRef) -> Result<Self, ApiError> {
        Ok(Self {
            function: wire.function_uid.parse().map_err(|error| ApiError::invalid("version.function_uid", error))?,
            number: wire.number.try_into().map_err(|error| ApiError::invalid("version.number", error))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(change: impl FnOnce(&mut v1::Limits)) -> Result<Limits, ApiError> {
        let mut wire = v1::Limits::default();
        change(&mut wire);
        wire.try_into()
    }

    #[test]
    fn what_is_left_out_is_the_default() {
        assert_eq!(VersionSpec::try_from(v1::VersionSpec::default()).unwrap(), VersionSpec::default());
    }

    #[test]
    fn a_spec_survives_the_wire() {
        let mut spec = VersionSpec::default();
        spec.environment.insert("GREETING".into(), "hello".into());
        spec.scaling.max_workers = Some(4);
        (spec.scaling.max_concurrency, spec.scaling.reserved_concurrency) = (Some(9), 3);
        spec.reuse = Some(Reuse { max_calls: 7, max_idle: Duration::from_millis(1) });
        spec.limits.rate = Some(Rate { requests: 90, period: Period::Minute, burst: 7 });
        spec.limits.quota = Some(Quota { requests: 900, period: QuotaPeriod::Month, refuse_unknown: true });
        assert_eq!(VersionSpec::try_from(v1::VersionSpec::from(spec.clone())).unwrap(), spec);
        (spec.limits.rate, spec.limits.quota) = (None, None);
        assert_eq!(Limits::from(&wire::InvocationPolicy::from(&spec)), spec.limits);
    }

    #[test]
    fn a_value_out_of_range_is_named() {
        let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
        for (result, field) in [
            (limits(|l| l.memory_bytes = Some(2 << 30)), "spec.limits.memory_bytes"),
            (limits(|l| l.memory_bytes = Some(0)), "spec.limits.memory_bytes"),
            (limits(|l| l.timeout = seconds(0)), "spec.limits.timeout"),
            (limits(|l| l.timeout = seconds(901)), "spec.limits.timeout"),
            (limits(|l| l.cpu_time = seconds(-1)), "spec.limits.cpu_time"),
            (limits(|l| l.log_bytes = Some(u64::MAX)), "spec.limits.log_bytes"),
        ] {
            assert_eq!(result.unwrap_err().field.as_deref(), Some(field));
        }
    }

    #[test]
    fn a_function_reserves_no_more_than_it_may_use() {
        let scaling = |max_concurrency, reserved_concurrency| {
            Scaling::try_from(v1::Scaling { max_concurrency, reserved_concurrency, ..v1::Scaling::default() })
        };
        let good = scaling(Some(5), Some(5)).unwrap();
        assert_eq!((good.max_concurrency, good.reserved_concurrency), (Some(5), 5));
        assert_eq!(scaling(Some(0), None).unwrap().max_concurrency, Some(0));
        let field = |max, reserved| scaling(max, reserved).unwrap_err().field.unwrap();
        assert_eq!(field(Some(5), Some(6)), "spec.scaling.reserved_concurrency");
        assert_eq!(field(Some(2_000_000), None), "spec.scaling.max_concurrency");
        assert_eq!(field(None, Some(2_000_000)), "spec.scaling.reserved_concurrency");
    }

    #[test]
    fn a_host_that_is_none_is_refused_at_deploy() {
        let wire = v1::VersionSpec { allowed_outbound_hosts: vec!["example.com".into()], ..Default::default() };
        let error = VersionSpec::try_from(wire).unwrap_err();
        assert_eq!(error.field.as_deref(), Some("spec.allowed_outbound_hosts"));
        assert!(error.hint.is_some() && error.message.contains("example.com"));
    }

    #[test]
    fn a_strange_environment_is_refused() {
        for (name, value) in
            [("", "x"), ("1A", "x"), ("A=B", "x"), ("A B", "x"), ("A", "\0"), ("A", &*"x".repeat(70_000))]
        {
            let wire =
                v1::VersionSpec { environment: [(name.to_owned(), value.to_owned())].into(), ..Default::default() };
            assert_eq!(VersionSpec::try_from(wire).unwrap_err().field.as_deref(), Some("spec.environment"), "{name:?}");
        }
    }
}
