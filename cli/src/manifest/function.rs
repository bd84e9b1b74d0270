//! What a manifest says of one function: how to build it, what it is granted, what it is limited to.

use std::{collections::BTreeMap, path::PathBuf};

use dunlin_proto::{ids::FunctionName, model, v1};

use super::reader::Section;
use crate::{exit::Failure, units};

/// The fields of a function, beside its name.
pub(super) const FIELDS: [&str; 11] = [
    "description",
    "source",
    "public",
    "direct",
    "allowed_outbound_hosts",
    "idempotent",
    "environment",
    "build",
    "limits",
    "scaling",
    "reuse",
];

/// What a manifest says of a function.
#[derive(Debug)]
pub(crate) struct Function {
    /// The function's name in its namespace.
    pub(crate) name: FunctionName,
    /// What it is for.
    pub(crate) description: Option<String>,
    /// The WebAssembly file, relative to the manifest's folder.
    pub(crate) source: PathBuf,
    /// Whether anybody may call it; absent leaves it as it is.
    pub(crate) public: Option<bool>,
    /// Whether its automatic addresses are served although routes name it; absent leaves it as it is.
    pub(crate) direct: Option<bool>,
    /// How to build it.
    pub(crate) build: Option<Build>,
    /// Grants and limits; what is left out is the cluster's default.
    pub(crate) spec: v1::VersionSpec,
}

/// How to build a function.
#[derive(Debug)]
pub(crate) struct Build {
    /// A command for `sh -c`.
    pub(crate) command: String,
    /// Where to run it, relative to the manifest's folder.
    pub(crate) workdir: Option<PathBuf>,
    /// Patterns of the files that it depends on.
    #[expect(dead_code, reason = "read and checked now; rebuilding on a change comes with a later command")]
    pub(crate) watch: Vec<String>,
}

impl Function {
    /// Reads a table that has the fields of a function.
    ///
    /// # Errors
    /// One is missing or wrong.
    pub(super) fn read(table: &Section<'_>, name: FunctionName) -> Result<Self, Failure> {
        let spec = v1::VersionSpec {
            limits: table.section("limits")?.map(limits).transpose()?,
            scaling: table.section("scaling")?.map(scaling).transpose()?,
            environment: environment(table)?.into_iter().collect(),
            allowed_outbound_hosts: table.strings("allowed_outbound_hosts")?,
            idempotent: table.boolean("idempotent")?.unwrap_or_default(),
            reuse: table.section("reuse")?.map(reuse).transpose()?,
        };
        check_ranges(table, &spec)?;
        Ok(Self {
            name,
            description: table.text("description")?,
            source: table.required("source", path)?,
            public: table.boolean("public")?,
            direct: table.boolean("direct")?,
            build: table.section("build")?.map(build).transpose()?,
            spec,
        })
    }
}

fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("must not be empty".to_owned()) } else { Ok(PathBuf::from(text)) }
}

fn build(section: Section<'_>) -> Result<Build, Failure> {
    let section = section.with_fields(&["command", "workdir", "watch"])?;
    Ok(Build {
        command: section.required("command", |text| Ok(text.to_owned()))?,
        workdir: section.parsed("workdir", path)?,
        watch: section.strings("watch")?,
    })
}

fn limits(section: Section<'_>) -> Result<v1::Limits, Failure> {
    let section = section.with_fields(&[
        "memory",
        "cpu",
        "timeout",
        "request_body",
        "response_body",
        "logs",
        "rate",
        "burst",
        "quota",
        "on_unknown",
    ])?;
    let (rate, burst) = (section.parsed("rate", str::parse::<model::Rate>)?, section.count("burst")?);
    if rate.is_none() && burst.is_some() {
        return Err(section.wrong("burst", "limits.burst belongs to a rate: add rate = \"100/s\" or its like"));
    }
    Ok(v1::Limits {
        quota: quota(&section)?,
        rate: rate.map(|rate| model::Rate { burst: burst.unwrap_or(rate.burst), ..rate }.into()),
        memory_bytes: section.parsed("memory", units::parse_size)?,
        cpu_time: section.parsed("cpu", units::parse_duration)?.map(model::to_wire_duration),
        timeout: section.parsed("timeout", units::parse_duration)?.map(model::to_wire_duration),
        request_body_bytes: section.parsed("request_body", units::parse_size)?,
        response_body_bytes: section.parsed("response_body", units::parse_size)?,
        log_bytes: section.parsed("logs", units::parse_size)?,
    })
}

fn quota(section: &Section<'_>) -> Result<Option<v1::QuotaLimit>, Failure> {
    let unknown = |text: &str| match text {
        "allow" => Ok(false),
        "refuse" => Ok(true),
        _ => Err("must be \"allow\" or \"refuse\"".to_owned()),
    };
    let (quota, refuse) =
        (section.parsed("quota", str::parse::<model::Quota>)?, section.parsed("on_unknown", unknown)?);
    if quota.is_none() && refuse.is_some() {
        let message = "limits.on_unknown belongs to a quota: add quota = \"100000/day\" or its like";
        return Err(section.wrong("on_unknown", message));
    }
    Ok(quota.map(|quota| model::Quota { refuse_unknown: refuse.unwrap_or_default(), ..quota }.into()))
}

fn scaling(section: Section<'_>) -> Result<v1::Scaling, Failure> {
    let section = section.with_fields(&[
        "min",
        "max",
        "idle_timeout",
        "min_workers",
        "max_workers",
        "max_concurrency",
        "reserved_concurrency",
    ])?;
    Ok(v1::Scaling {
        min_sandboxes: section.count("min")?,
        max_sandboxes: section.count("max")?,
        idle_timeout: section.parsed("idle_timeout", units::parse_duration)?.map(model::to_wire_duration),
        min_workers: section.count("min_workers")?,
        max_workers: section.count("max_workers")?,
        max_concurrency: section.count("max_concurrency")?,
        reserved_concurrency: section.count("reserved_concurrency")?,
    })
}

fn reuse(section: Section<'_>) -> Result<v1::Reuse, Failure> {
    let section = section.with_fields(&["max_calls", "max_concurrent", "max_idle"])?;
    Ok(v1::Reuse {
        max_calls: section.count("max_calls")?,
        max_concurrent: section.count("max_concurrent")?,
        max_idle: section.parsed("max_idle", units::parse_duration)?.map(model::to_wire_duration),
    })
}

fn environment(root: &Section<'_>) -> Result<BTreeMap<String, String>, Failure> {
    let Some(section) = root.section("environment")? else { return Ok(BTreeMap::new()) };
    let variable = |name: String| {
        let value = section.text(&name)?.unwrap_or_default();
        let alone = v1::VersionSpec { environment: [(name.clone(), value.clone())].into(), ..Default::default() };
        model::VersionSpec::try_from(alone).map_err(|error| section.wrong(&name, &error.message))?;
        Ok((name, value))
    };
    section.names().map(variable).collect()
}

/// Where the fields of the API that may be out of range are in the manifest.
const RANGES: [(&str, &str, &str); 19] = [
    ("spec.limits.memory_bytes", "limits", "memory"),
    ("spec.limits.cpu_time", "limits", "cpu"),
    ("spec.limits.timeout", "limits", "timeout"),
    ("spec.limits.request_body_bytes", "limits", "request_body"),
    ("spec.limits.response_body_bytes", "limits", "response_body"),
    ("spec.limits.log_bytes", "limits", "logs"),
    ("spec.limits.rate", "limits", "burst"),
    ("spec.limits.quota", "limits", "quota"),
    ("spec.scaling.min_sandboxes", "scaling", "min"),
    ("spec.scaling.max_sandboxes", "scaling", "max"),
    ("spec.scaling.idle_timeout", "scaling", "idle_timeout"),
    ("spec.scaling.min_workers", "scaling", "min_workers"),
    ("spec.scaling.max_workers", "scaling", "max_workers"),
    ("spec.scaling.max_concurrency", "scaling", "max_concurrency"),
    ("spec.scaling.reserved_concurrency", "scaling", "reserved_concurrency"),
    ("spec.reuse.max_calls", "reuse", "max_calls"),
    ("spec.reuse.max_concurrent", "reuse", "max_concurrent"),
    ("spec.reuse.max_idle", "reuse", "max_idle"),
    ("spec.environment", "", "environment"),
];

/// Checks what the cluster will check, so that the error can name the line.
fn check_ranges(root: &Section<'_>, spec: &v1::VersionSpec) -> Result<(), Failure> {
    let Err(error) = model::VersionSpec::try_from(spec.clone()) else { return Ok(()) };
    let field = error.field.as_deref().unwrap_or_default();
    let place = RANGES.iter().find(|(api, ..)| *api == field);
    let (section, name) = place.map_or(("", "allowed_outbound_hosts"), |(_, section, name)| (*section, *name));
    let shown = if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") };
    let message = error.message.replace(field, &shown);
    match root.section(section)? {
        Some(section) => Err(section.wrong(name, &message)),
        None => Err(root.wrong(name, &message)),
    }
}
