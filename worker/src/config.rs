//! What a worker is told before it starts: one struct with defaults, and the flags that lie over it.
//!
//! Nothing here opens a file or a port; `lib.rs` does. The variables are `DUNLIN_WORKER_*`.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::ensure;
use dunlin_process::{cores::Cores, metrics::MetricsConfig, telemetry::LogFormat};
use serde::{Deserialize, Serialize};

use crate::sandbox::{CpuBaseline, EgressConfig, SandboxConfig};

/// The prefix of the variables that configure a worker.
pub const ENVIRONMENT_PREFIX: &str = "DUNLIN_WORKER_";

/// Configuration of a worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The worker's name in the cluster: lower-case letters, digits and single hyphens. Default: one made from the
    /// machine's name at the first start and kept in the data folder.
    pub name: String,
    /// Where gateways reach it; loopback only without a certificate. Port 0 takes any free one. Default 127.0.0.1:7071.
    pub listen: SocketAddr,
    /// The scheduler's internal address. Default <http://127.0.0.1:7070>.
    pub scheduler: String,
    /// Folder for compiled code, logs and the last assignment. Default `dunlin-worker`.
    pub data_dir: PathBuf,
    /// File of mode 0600 with the cluster's secret, for a worker without certificate. Default `cluster-secret`.
    pub cluster_secret: PathBuf,
    /// File of a join token, with which a worker without certificate gets one. Default none.
    pub join_token_file: Option<PathBuf>,
    /// File of the key that encrypts private keys in the data folder. Default: `storage.key` there, made at the first start.
    pub storage_key: Option<PathBuf>,
    /// Invocations that run at once on this worker, of all versions together. Default 1000.
    pub capacity: u32,
    /// Threads that run guests and serve gateways; as many as there are processors where nothing else is on the machine.
    /// Default: half the processors.
    pub threads: usize,
    /// Offers WASI 0.3; all workers and the compiler must agree. Default true.
    pub wasi03: bool,
    /// CPU that code is compiled for; all workers and the compiler must agree. Default `x86-64-v3` on x86-64.
    pub cpu: String,
    /// What fails together with this worker, such as a rack or a building: versions are spread over zones. Default none.
    pub zone: String,
    /// How long running invocations may go on after SIGTERM. Default 30s.
    #[serde(with = "duration")]
    pub grace: Duration,
    /// Private networks that guests may reach where their version allows the host, such as `10.1.0.0/16`. Default none.
    pub outbound_allow_private: Vec<ipnet::IpNet>,
    /// DNS servers for guests' requests, such as `10.0.0.2:53`. Default: those of the system.
    pub dns_server: Vec<SocketAddr>,
    /// PEM files of authorities that guests' HTTPS requests trust besides those of the system. Default none.
    pub outbound_ca: Vec<PathBuf>,
    /// Compiled code that is kept on disk, in bytes; what is assigned stays even beyond. Default 8 GiB.
    pub code_cache_bytes: u64,
    /// Guests' logs that are kept, in bytes, of all namespaces together. Default 1 GiB.
    pub log_bytes: u64,
    /// Guests' logs that are kept of one namespace that says nothing else, in bytes. Default 16 MiB.
    pub log_bytes_per_namespace: u64,
    /// Guests' logs that one namespace may write, in bytes a second; 0 where none are kept. Default 256 KiB.
    pub log_rate_bytes: u64,
    /// How long guests' logs are kept, where their namespace says nothing else. Default 7d.
    #[serde(with = "duration")]
    pub log_max_age: Duration,
    /// Format of the worker's own log: `text` or `json`. Default `text`.
    pub log_format: LogFormat,
    /// What the worker itself logs, in the syntax of `RUST_LOG`. Default `info`.
    pub log_filter: String,
    /// Where Prometheus reads metrics.
    pub metrics: MetricsConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: String::new(),
            listen: SocketAddr::from(([127, 0, 0, 1], 7071)),
            scheduler: "http://127.0.0.1:7070".to_owned(),
            data_dir: PathBuf::from("dunlin-worker"),
            cluster_secret: PathBuf::from("cluster-secret"),
            join_token_file: None,
            storage_key: None,
            capacity: 1000,
            threads: Cores::half(),
            wasi03: true,
            cpu: CpuBaseline::default().to_string(),
            zone: String::new(),
            grace: Duration::from_secs(30),
            outbound_allow_private: Vec::new(),
            dns_server: Vec::new(),
            outbound_ca: Vec::new(),
            code_cache_bytes: 8 << 30,
            log_bytes: 1 << 30,
            log_bytes_per_namespace: 16 << 20,
            log_rate_bytes: 256 << 10,
            log_max_age: Duration::from_secs(7 * 24 * 3600),
            log_format: LogFormat::Text,
            log_filter: "info".to_owned(),
            metrics: MetricsConfig::default(),
        }
    }
}

impl Config {
    /// Checks what can be checked without touching the machine.
    ///
    /// # Errors
    /// A value makes no sense; the message names the field and what would.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        let listen = self.listen;
        ensure!(
            !listen.ip().is_unspecified(),
            "listen is {listen}, but must be the address by which gateways reach this worker, such as 10.0.0.2:7071"
        );
        ensure!((1..=10_000).contains(&self.capacity), "capacity is {} but must be 1 to 10000", self.capacity);
        ensure!((1..=1024).contains(&self.threads), "threads is {} but must be 1 to 1024", self.threads);
        let fits = self.zone.len() <= 63 && self.zone.chars().all(|c| c.is_ascii_graphic());
        ensure!(fits, "zone is {:?} but must have 63 printable characters at most, without spaces", self.zone);
        ensure!(self.log_bytes_per_namespace >= 64 << 10, "log_bytes_per_namespace must be 65536 at least");
        ensure!(self.log_bytes >= self.log_bytes_per_namespace, "log_bytes must not be below log_bytes_per_namespace");
        let holds_lines = self.log_rate_bytes == 0 || self.log_rate_bytes >= 32 << 10;
        ensure!(holds_lines, "log_rate_bytes must be 32768 at least, twice the longest line, or 0 to keep no logs");
        self.metrics.validate()
    }

    /// Sandboxes that may stand ready, of all versions together; they come on top of those that run.
    pub(crate) fn prepared_capacity(&self) -> u32 {
        (self.capacity / 4).max(8)
    }

    /// The part of it that is about sandboxes; `outbound_ca` is what those files hold.
    ///
    /// # Errors
    /// The CPU baseline is not known.
    pub(crate) fn sandbox(&self, outbound_ca: Vec<u8>) -> anyhow::Result<SandboxConfig> {
        Ok(SandboxConfig {
            max_sandboxes: self.capacity + self.prepared_capacity(),
            threads: self.threads,
            wasi03: self.wasi03,
            cpu: self.cpu.parse()?,
            egress: EgressConfig {
                allow_private: self.outbound_allow_private.clone(),
                dns_servers: self.dns_server.clone(),
                extra_roots_pem: outbound_ca,
                ..EgressConfig::default()
            },
            ..SandboxConfig::default()
        })
    }
}

/// The flags of a worker; what is not given leaves the layers below as they are.
#[derive(Debug, Clone, Default, clap::Args, Serialize)]
pub struct WorkerArgs {
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Print the configuration that results, and end
    #[arg(long)]
    #[serde(skip)]
    pub dump_config: bool,
    /// Name in the cluster
    #[arg(long)]
    pub name: Option<String>,
    /// Where gateways reach it
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// The scheduler's internal address
    #[arg(long, value_name = "URL")]
    pub scheduler: Option<String>,
    /// Folder for compiled code and logs
    #[arg(long, value_name = "FOLDER")]
    pub data_dir: Option<PathBuf>,
    /// File of mode 0600 with the cluster's secret
    #[arg(long, value_name = "FILE")]
    pub cluster_secret: Option<PathBuf>,
    /// File of a join token, to get a certificate at the first start
    #[arg(long, value_name = "FILE")]
    pub join_token_file: Option<PathBuf>,
    /// Invocations that run at once
    #[arg(long, value_name = "COUNT")]
    pub capacity: Option<u32>,
    /// Threads that run guests
    #[arg(long, value_name = "COUNT")]
    pub threads: Option<usize>,
    /// Whether to offer WASI 0.3
    #[arg(long, value_name = "BOOL")]
    pub wasi03: Option<bool>,
    /// What fails together with this worker, such as a rack; versions are spread over zones
    #[arg(long, value_name = "NAME")]
    pub zone: Option<String>,
    /// How long running invocations may go on after SIGTERM, such as 30s
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    #[serde(serialize_with = "duration::serialize_option")]
    pub grace: Option<Duration>,
    /// Private network that guests may reach, such as 10.1.0.0/16; may be repeated
    #[arg(long, value_name = "CIDR")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub outbound_allow_private: Vec<ipnet::IpNet>,
    /// DNS server for guests' requests, such as 10.0.0.2:53; may be repeated
    #[arg(long, value_name = "ADDRESS")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dns_server: Vec<SocketAddr>,
    /// PEM file of authorities that guests' HTTPS requests trust, too; may be repeated
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub outbound_ca: Vec<PathBuf>,
    /// text or json
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,
    /// What to log, such as info or dunlin_worker=debug,info
    #[arg(long, value_name = "FILTER")]
    pub log_filter: Option<String>,
}

impl WorkerArgs {
    /// The configuration under these flags.
    ///
    /// # Errors
    /// The file can't be read, or a value or field is wrong.
    pub fn load(&self) -> anyhow::Result<Config> {
        dunlin_process::config::load(self.config.as_deref(), ENVIRONMENT_PREFIX, self)
    }
}

/// Durations as people write them: `30s`, `1m 30s`.
mod duration {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        humantime::format_duration(*value).to_string().serialize(to)
    }

    pub(super) fn serialize_option<S: Serializer>(value: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        value.map(|value| humantime::format_duration(value).to_string()).serialize(to)
    }

    pub(super) fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(from)?;
        humantime::parse_duration(&text).map_err(|error| D::Error::custom(format!("{text:?} is no duration: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_survives_being_dumped_and_read() {
        let config = Config { grace: Duration::from_millis(1500), ..Config::default() };
        assert_eq!(toml::from_str::<Config>(&toml::to_string(&config).unwrap()).unwrap(), config);
    }

    #[test]
    fn flags_lie_over_the_defaults() {
        let args = WorkerArgs {
            grace: Some(Duration::from_secs(5)),
            outbound_allow_private: vec!["10.0.0.0/8".parse().unwrap()],
            ..WorkerArgs::default()
        };
        let config = args.load().unwrap();
        assert_eq!((config.grace, config.capacity), (Duration::from_secs(5), 1000));
        assert_eq!(config.outbound_allow_private.len(), 1);
    }

    #[test]
    fn an_address_that_nobody_can_reach_is_refused() {
        let config = Config { listen: "0.0.0.0:7071".parse().unwrap(), ..Config::default() };
        assert!(config.check().unwrap_err().to_string().contains("10.0.0.2:7071"));
        assert!(Config::default().check().is_ok());
        assert!(Config { capacity: 0, ..Config::default() }.check().is_err());
    }
}
