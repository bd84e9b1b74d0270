//! How `dunlin up` runs: a table for each role, with defaults for one machine, and the flags that matter there.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::Args;
use dunlin_gateway::CertificateConfig;
use dunlin_process::telemetry::LogFormat;
use serde::{Deserialize, Serialize};

use crate::{context::home_folder, exit::Failure, units};

/// Invocations that run at once, unless told otherwise: enough for one machine, and little memory to reserve.
const CAPACITY: u32 = 100;

/// The configuration of a whole cluster. Addresses between the roles, folders and the secret are not a matter of choice.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct UpConfig {
    /// The folder of everything. Default `$XDG_DATA_HOME/dunlin`, or `~/.local/share/dunlin`.
    pub(crate) data_dir: PathBuf,
    /// The scheduler's configuration.
    pub(crate) scheduler: dunlin_scheduler::Config,
    /// The worker's configuration.
    pub(crate) worker: dunlin_worker::Config,
    /// The gateway's configuration.
    pub(crate) gateway: dunlin_gateway::Config,
}

impl Default for UpConfig {
    fn default() -> Self {
        let worker = dunlin_worker::Config {
            name: "local".to_owned(),
            capacity: CAPACITY,
            grace: Duration::from_secs(10),
            log_bytes: 256 << 20,
            ..dunlin_worker::Config::default()
        };
        let gateway = dunlin_gateway::Config { grace: Duration::from_secs(10), ..dunlin_gateway::Config::default() };
        Self { data_dir: PathBuf::new(), scheduler: dunlin_scheduler::Config::default(), worker, gateway }
    }
}

/// Arguments of `dunlin up`.
#[derive(Debug, Clone, Default, Args)]
#[command(
    after_help = "Variables DUNLIN_UP_* and the file of --config say what flags do not, with a table for each role: \
                        [gateway], [scheduler], [worker]; DUNLIN_UP_WORKER__CAPACITY=50."
)]
pub(crate) struct UpArgs {
    /// Folder for everything [default: ~/.local/share/dunlin]
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// Where functions are served [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS")]
    functions: Option<SocketAddr>,
    /// Where the API and the dashboard are, loopback only without TLS [default: 127.0.0.1:8081]
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<SocketAddr>,
    /// Serve functions as {function}--{namespace}.DOMAIN
    #[arg(long)]
    domain: Option<String>,
    /// Serve functions by TLS with the certificate of this file (PEM), and the API beyond loopback
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// File of the certificate's private key (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Invocations that run at once [default: 100]
    #[arg(long, value_name = "COUNT")]
    capacity: Option<u32>,
    /// Time for running calls once told to stop [default: 10s]
    #[arg(long, value_name = "DURATION", value_parser = units::parse_duration)]
    grace: Option<Duration>,
    /// Do not deploy the sample function
    #[arg(long)]
    pub(crate) no_sample: bool,
    /// Print where the time of each invocation went, as a tree; with -o json, one object a line
    #[arg(long)]
    trace: bool,
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// What is logged, such as info or dunlin_gateway=debug,warn
    #[arg(long, value_name = "FILTER", default_value = "warn")]
    pub(crate) log_filter: String,
    /// Format of the log
    #[arg(long, value_name = "FORMAT", value_parser = log_format, default_value = "text")]
    pub(crate) log_format: LogFormat,
}

fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("it must be text or json".to_owned()),
    }
}

impl UpArgs {
    /// The configuration of file, environment and flags.
    ///
    /// # Errors
    /// The file can't be read, a value or field is wrong, or there is no home for the data.
    pub(crate) fn load(&self) -> anyhow::Result<UpConfig> {
        let none = std::collections::BTreeMap::<String, ()>::new();
        let mut config: UpConfig = dunlin_process::config::load(self.config.as_deref(), "DUNLIN_UP_", none)?;
        if let Some(folder) = &self.data_dir {
            config.data_dir.clone_from(folder);
        }
        if config.data_dir.as_os_str().is_empty() {
            let home = home_folder("XDG_DATA_HOME", ".local/share");
            config.data_dir = home.map_err(|failure: Failure| anyhow::anyhow!(failure.parts().0))?.join("dunlin");
        }
        config.gateway.functions = self.functions.unwrap_or(config.gateway.functions);
        config.gateway.admin = self.admin.unwrap_or(config.gateway.admin);
        config.gateway.domain = self.domain.clone().or(config.gateway.domain);
        if let (Some(certificate), Some(key)) = (&self.tls_cert, &self.tls_key) {
            let pair = CertificateConfig { certificate: certificate.clone(), key: key.clone(), passphrase: None };
            config.gateway.tls.certificates.insert(0, pair);
        }
        config.gateway.tracing.watched = self.trace;
        config.worker.capacity = self.capacity.unwrap_or(config.worker.capacity);
        if let Some(grace) = self.grace {
            (config.gateway.grace, config.worker.grace) = (grace, grace);
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_win_over_the_file_and_unknown_fields_are_errors() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "data_dir = '/d'\n[worker]\ncapacity = 7\n[gateway]\ndomain = 'x.example'\n")
            .unwrap();
        let args = UpArgs { config: Some(file.path().into()), capacity: Some(9), ..UpArgs::default() };
        let config = args.load().unwrap();
        assert_eq!((config.worker.capacity, config.gateway.domain.as_deref()), (9, Some("x.example")));
        assert_eq!((config.data_dir.to_str(), config.worker.name.as_str()), (Some("/d"), "local"));
        std::fs::write(file.path(), "[worker]\ncapasity = 7\n").unwrap();
        let error = format!("{:#}", args.load().unwrap_err());
        assert!(error.contains("capasity") && error.contains("line 2"), "{error}");
    }
}
