//! The scheduler's configuration: defaults, then a TOML file, then `DUNLIN_SCHEDULER_*`, then flags.

mod acme;
mod domains;
mod retention;
mod rollout;
mod webhooks;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, ensure};
use dunlin_process::{metrics::MetricsConfig, telemetry::LogFormat};
use serde::{Deserialize, Serialize};

pub use self::{
    acme::{AcmeConfig, ChallengeKind},
    domains::{DomainsConfig, ProofRule},
    retention::RetentionConfig,
    rollout::RolloutConfig,
    webhooks::WebhooksConfig,
};
use crate::{collection::Keeping, store::Database};

/// The scheduler's configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Address of the internal listener; loopback only with a cluster secret. Default `127.0.0.1:7070`; port 0 takes any free one.
    pub listen: SocketAddr,
    /// Folder for the database, artifacts and keys; private to this process. Default `dunlin-data/scheduler`.
    pub data_dir: PathBuf,
    /// File with the secret that the cluster's processes share, mode 0600. Default: none; they then have certificates.
    pub cluster_secret: Option<PathBuf>,
    /// Name of this scheduler in logs. Default `scheduler`.
    pub name: String,
    /// `sqlite:///path` or `postgres://user:password@host/database`. Default: a SQLite file in the data folder.
    pub database: Option<String>,
    /// Where artifacts and compiled code are: a folder, or `s3://bucket/prefix` with the usual `AWS_*` variables.
    /// Default: a folder in the data folder.
    pub artifacts: Option<String>,
    /// The program that compiles artifacts. Default: `dunlin-worker` beside this program, or `dunlin` itself.
    pub compiler: Option<PathBuf>,
    /// What stands between the compiler and its `compile` command, such as `worker` for `dunlin worker compile`. Default: nothing.
    pub compiler_args: Vec<String>,
    /// Compilers that run at once. Default: 2 with four processors or more, otherwise 1.
    pub compilers: usize,
    /// Address space of a compiler, in MiB. Default 2048.
    pub compiler_memory_mib: u64,
    /// Processor time of a compiler, in seconds. Default 60.
    pub compiler_cpu_seconds: u64,
    /// How long certificates of the cluster's processes live, in seconds; they are renewed at half of it. Default 86400.
    pub certificate_seconds: u64,
    /// File with the key that encrypts private keys in database and data folder. Default: `keys/storage.key` in the data folder,
    /// made at the first start.
    pub storage_key: Option<PathBuf>,
    /// How many of a function's newest versions are kept in any case. Default 50.
    pub keep_versions: usize,
    /// How many days every version is kept. Older ones go, unless they are among the newest, have calls, or are in one of the last ten
    /// releases of their namespace. Default 30.
    pub keep_version_days: u32,
    /// How many hours an artifact is kept, with the code compiled from it, that no version is made of (any more). Default 24.
    pub keep_artifact_hours: u32,
    /// How long entries of the audit log are kept, in days. Default 400.
    pub audit_days: u32,
    /// How many days it is known what invocations used, by the hour. Default 400.
    pub keep_usage_days: u32,
    /// How long a gateway that is not heard keeps its shares of limits, in seconds: one that is cut off goes on with them. Then they
    /// are lent to others, and where it is alive, calls may exceed a limit by as much. Default 60.
    pub keep_share_seconds: u64,
    /// How certificates for domains are got. Default: not at all.
    pub acme: AcmeConfig,
    /// How namespaces prove that domains are theirs.
    pub domains: DomainsConfig,
    /// How short steps of rollouts may be.
    pub rollout: RolloutConfig,
    /// How long and how much namespaces may have kept of records and logs.
    pub retention: RetentionConfig,
    /// Where namespaces may have events sent.
    pub webhooks: WebhooksConfig,
    /// `text` or `json`. Default `text`.
    pub log_format: LogFormat,
    /// What is logged, in the syntax of `RUST_LOG`. Default `info`.
    pub log_filter: String,
    /// Where Prometheus reads metrics.
    pub metrics: MetricsConfig,
}

impl Default for Config {
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7070)),
            data_dir: "dunlin-data/scheduler".into(),
            cluster_secret: None,
            name: "scheduler".into(),
            database: None,
            artifacts: None,
            compiler: None,
            compiler_args: Vec::new(),
            compilers: if processors >= 4 { 2 } else { 1 },
            compiler_memory_mib: 2048,
            compiler_cpu_seconds: 60,
            certificate_seconds: 24 * 3600,
            storage_key: None,
            keep_versions: 50,
            keep_version_days: 30,
            keep_artifact_hours: 24,
            audit_days: 400,
            keep_usage_days: 400,
            keep_share_seconds: 60,
            acme: AcmeConfig::default(),
            domains: DomainsConfig::default(),
            rollout: RolloutConfig::default(),
            retention: RetentionConfig::default(),
            webhooks: WebhooksConfig::default(),
            log_format: LogFormat::default(),
            log_filter: "info".into(),
            metrics: MetricsConfig::default(),
        }
    }
}

/// The scheduler's flags; what is not given is left to the layers below.
#[derive(Debug, Clone, Default, clap::Args, Serialize)]
pub struct SchedulerArgs {
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Print the configuration that results, and end
    #[arg(long)]
    #[serde(skip)]
    pub dump_config: bool,
    /// Address of the internal listener (loopback only with a cluster secret)
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// Folder for the database, artifacts and keys
    #[arg(long, value_name = "FOLDER")]
    pub data_dir: Option<PathBuf>,
    /// File with a secret that the cluster's processes share (mode 0600) instead of having certificates, on one machine
    #[arg(long, value_name = "FILE")]
    pub cluster_secret: Option<PathBuf>,
    /// Name of this scheduler in logs
    #[arg(long)]
    pub name: Option<String>,
    /// sqlite:///path or postgres://user:password@host/database
    #[arg(long, value_name = "URL")]
    pub database: Option<String>,
    /// Where artifacts are: a folder or s3://bucket/prefix
    #[arg(long, value_name = "PLACE")]
    pub artifacts: Option<String>,
    /// The program that compiles artifacts
    #[arg(long, value_name = "PROGRAM")]
    pub compiler: Option<PathBuf>,
    /// text or json
    #[arg(long, value_parser = log_format)]
    pub log_format: Option<LogFormat>,
    /// What is logged, such as info or dunlin_scheduler=debug,info
    #[arg(long)]
    pub log_filter: Option<String>,
}

fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("it must be text or json".to_owned()),
    }
}

impl SchedulerArgs {
    /// The configuration of all layers.
    ///
    /// # Errors
    /// The file can't be read, a field is unknown or has the wrong type.
    pub fn load(&self) -> anyhow::Result<Config> {
        dunlin_process::config::load(self.config.as_deref(), "DUNLIN_SCHEDULER_", self)
    }
}

impl Config {
    /// Checks what can be checked without touching anything.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        ensure!((1..=64).contains(&self.compilers), "compilers is {} but must lie between 1 and 64", self.compilers);
        ensure!(
            self.compiler_memory_mib >= 256,
            "compiler_memory_mib is {} but must be 256 at least",
            self.compiler_memory_mib
        );
        let seconds = self.compiler_cpu_seconds;
        ensure!((1..=3600).contains(&seconds), "compiler_cpu_seconds is {seconds} but must lie between 1 and 3600");
        let days = self.audit_days;
        ensure!((1..=36_500).contains(&days), "audit_days is {days} but must lie between 1 and 36500");
        let seconds = self.certificate_seconds;
        ensure!((10..=86_400).contains(&seconds), "certificate_seconds is {seconds} but must lie between 10 and 86400");
        let (count, days) = (self.keep_versions, self.keep_version_days);
        ensure!(count >= 1, "keep_versions is 0 but must be 1 at least: a function's newest version is kept");
        ensure!((1..=36_500).contains(&days), "keep_version_days is {days} but must lie between 1 and 36500");
        let hours = self.keep_artifact_hours;
        ensure!((1..=876_000).contains(&hours), "keep_artifact_hours is {hours} but must lie between 1 and 876000");
        let days = self.keep_usage_days;
        ensure!((32..=36_500).contains(&days), "keep_usage_days is {days} but must lie between 32 and 36500");
        let seconds = self.keep_share_seconds;
        ensure!((5..=86_400).contains(&seconds), "keep_share_seconds is {seconds} but must lie between 5 and 86400");
        self.acme.check()?;
        self.metrics.validate()?;
        self.database().map(drop)
    }

    /// What is kept whatever becomes of it.
    pub(crate) fn keeping(&self) -> Keeping {
        let age = Duration::from_secs(u64::from(self.keep_version_days) * 24 * 3600);
        let usage = Duration::from_secs(u64::from(self.keep_usage_days) * 24 * 3600);
        let artifacts = Duration::from_secs(u64::from(self.keep_artifact_hours) * 3600);
        let shares = Duration::from_secs(self.keep_share_seconds);
        Keeping { count: self.keep_versions, age, usage, artifacts, shares }
    }

    /// The database to use.
    pub(crate) fn database(&self) -> anyhow::Result<Database> {
        let Some(url) = &self.database else {
            let path = std::path::absolute(&self.data_dir).context("find the data folder")?;
            return Ok(Database::Sqlite(path.join("dunlin.db")));
        };
        // The URL may hold a password, so it is not repeated.
        Database::from_url(url)
            .context("--database must be sqlite:///absolute/path or postgres://user:password@host/database")
    }

    /// The compiler to run, with what stands before its `compile` command. Where nothing is configured and this program is
    /// `dunlin`, it is its own compiler.
    pub(crate) fn compiler(&self) -> anyhow::Result<(PathBuf, Vec<String>)> {
        if let Some(path) = &self.compiler {
            return Ok((path.clone(), self.compiler_args.clone()));
        }
        let own = std::env::current_exe().context("find this program")?;
        if own.file_stem().is_some_and(|name| name == "dunlin") {
            return Ok((own, vec!["worker".to_owned()]));
        }
        Ok((own.parent().unwrap_or(Path::new(".")).join("dunlin-worker"), self.compiler_args.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t47_no_certificate_lives_longer_than_a_day() {
        assert!(Config::default().check().is_ok());
        for certificate_seconds in [0, 9, 86_401] {
            let error = Config { certificate_seconds, ..Config::default() }.check().unwrap_err().to_string();
            assert!(error.contains("certificate_seconds"), "{error}");
        }
    }

    #[test]
    fn what_is_kept_of_versions_has_bounds() {
        for config in [
            Config { keep_versions: 0, ..Config::default() },
            Config { keep_version_days: 0, ..Config::default() },
            Config { keep_version_days: 36_501, ..Config::default() },
        ] {
            assert!(config.check().unwrap_err().to_string().contains("keep_version"));
        }
        assert_eq!(Config::default().keeping().age, Duration::from_secs(30 * 24 * 3600));
    }

    #[test]
    fn shares_of_gateways_that_are_not_heard_are_kept_for_a_while() {
        assert_eq!(Config::default().keeping().shares, Duration::from_secs(60));
        for (keep_share_seconds, is_fine) in [(4, false), (5, true), (86_400, true), (86_401, false)] {
            let checked = Config { keep_share_seconds, ..Config::default() }.check();
            assert_eq!(checked.is_ok(), is_fine, "{keep_share_seconds}");
            assert!(checked.err().is_none_or(|error| error.to_string().contains("between 5 and 86400")));
        }
    }

    #[test]
    fn a_database_is_a_path_or_a_server_and_no_password_is_repeated() {
        let of = |url: &str| Config { database: Some(url.to_owned()), ..Config::default() }.database();
        assert_eq!(of("sqlite:///var/lib/x.db").unwrap(), Database::Sqlite("/var/lib/x.db".into()));
        assert!(matches!(of("postgres://u:p@h/d").unwrap(), Database::Postgres(_)));
        for bad in ["mysql://u:secret@h/d", "sqlite://relative.db", "", "postgres"] {
            assert!(!of(bad).unwrap_err().to_string().contains("secret"), "{bad}");
        }
        assert!(matches!(Config::default().database().unwrap(), Database::Sqlite(path) if path.is_absolute()));
    }

    #[test]
    fn flags_win() {
        let flags = SchedulerArgs { listen: Some("127.0.0.1:9".parse().unwrap()), ..SchedulerArgs::default() };
        let config = flags.load().unwrap();
        assert_eq!(config.listen.port(), 9);
        assert_eq!(config.log_filter, "info");
    }
}
