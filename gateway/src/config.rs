//! The gateway's configuration: one struct, filled in layers by `dunlin_process::config`. Reading it opens nothing.

mod duration;
mod oidc;
mod proxies;
mod sign_in;
mod tls;
mod tracing;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::ensure;
use clap::Args;
use dunlin_process::{cores::Cores, metrics::MetricsConfig, telemetry::LogFormat};
use dunlin_proto::ids::{DomainName, GatewayId};
use serde::{Deserialize, Serialize};

pub use oidc::{OidcAlgorithm, OidcConfig, OidcPurpose};
pub use proxies::{ForwardedHeader, ProxiesConfig};
pub use sign_in::SignInConfig;
pub use tls::{CertificateConfig, TlsConfig};
pub use tracing::{TracingConfig, TracingProtocol};

/// How a gateway runs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where functions are served. Default 127.0.0.1:8080.
    pub functions: SocketAddr,
    /// Where administration (gRPC, JSON, pages) is served; loopback only without TLS. Default 127.0.0.1:8081.
    pub admin: SocketAddr,
    /// Where other gateways ask for invocation records; loopback only without a certificate. Default 127.0.0.1:7072.
    pub peer: SocketAddr,
    /// Where the scheduler is. Default http://127.0.0.1:7070.
    pub scheduler: String,
    /// Where configuration and records are kept. Default `dunlin-gateway`.
    pub data_dir: PathBuf,
    /// The file with the cluster secret, for a gateway without certificate. Default `cluster-secret`.
    pub cluster_secret: PathBuf,
    /// The file of a join token, with which a gateway without certificate gets one. Default none.
    pub join_token_file: Option<PathBuf>,
    /// The file of the key that encrypts private keys in the data folder. Default: `storage.key` there, made at the first start.
    pub storage_key: Option<PathBuf>,
    /// This gateway's name in the cluster. Default: what its certificate or join token says, otherwise `gateway`.
    pub name: GatewayId,
    /// Functions are served as `{function}--{namespace}.{domain}`. Default none.
    pub domain: Option<String>,
    /// Whether `/{namespace}/{function}/...` is served. Default: only where there is no `domain`.
    pub path_addressing: Option<bool>,
    /// Names by which everybody reaches this gateway, for paths of all namespaces. No namespace can have them as a domain of
    /// its own; without any, only operators give domains where paths are served. Default none.
    pub shared_hosts: Vec<DomainName>,
    /// How long after it was made a version's own address works while the version has no calls; with `0s`, for ever. Default 7d.
    #[serde(with = "duration")]
    pub preview_age: Duration,
    /// How long what the scheduler said is served while it can't be reached; then all requests get 503, until it is heard again. It is
    /// also how long a revoked key works at a gateway that is cut off. Default 24h.
    #[serde(with = "duration")]
    pub max_staleness: Duration,
    /// Threads that serve functions; as many as there are processors where nothing else is on the machine. Default: half the
    /// processors.
    pub threads: usize,
    /// How long running requests may go on once the gateway is told to stop. Default 30s.
    #[serde(with = "duration")]
    pub grace: Duration,
    /// How the gateway logs. Default `text`.
    pub log_format: LogFormat,
    /// What the gateway logs, in the syntax of `RUST_LOG`. Default `info`.
    pub log_filter: String,
    /// TLS towards callers and administration.
    pub tls: TlsConfig,
    /// Proxies in front of it.
    pub proxies: ProxiesConfig,
    /// Limits of connections and requests.
    pub limits: LimitsConfig,
    /// How invocations reach workers.
    pub dispatch: DispatchConfig,
    /// Stored answers of functions.
    pub cache: CacheConfig,
    /// How many records of invocations are kept.
    pub records: RecordsConfig,
    /// Where Prometheus reads metrics besides `/metrics` of administration.
    pub metrics: MetricsConfig,
    /// Traces of invocations.
    pub tracing: TracingConfig,
    /// Issuers of tokens beside the cluster itself.
    pub oidc: Vec<OidcConfig>,
}

/// Limits of connections and requests.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// Connections of each listener; more are closed at once. Default 10000.
    pub connections: usize,
    /// Connections of one address to each listener, or of one /64 network with IPv6, unless it is a trusted proxy's; more are
    /// closed at once. Default 5000.
    pub connections_per_address: usize,
    /// From the connection to its first bytes, a TLS handshake included, and for each request's head. Default 10s.
    #[serde(with = "duration")]
    pub header_timeout: Duration,
    /// How long an HTTP/2 connection may be idle; one of HTTP/1.1 waits `header_timeout` for the next head. Default 75s.
    #[serde(with = "duration")]
    pub idle_timeout: Duration,
    /// Names and values of a request's headers, in bytes. Default 32768.
    pub header_bytes: usize,
    /// Headers of a request. Default 100.
    pub header_count: usize,
    /// A request's target, in bytes. Default 16384.
    pub uri_bytes: usize,
    /// How long a request's body may be slower than `body_bytes_per_second`. Default 10s.
    #[serde(with = "duration")]
    pub body_patience: Duration,
    /// The slowest acceptable body. Default 1024.
    pub body_bytes_per_second: u64,
    /// How long a caller may take nothing of an answer before it loses its connection, twice that at the most. Default 60s.
    #[serde(with = "duration")]
    pub answer_patience: Duration,
}

/// How invocations reach workers.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DispatchConfig {
    /// Sessions to each endpoint. Default 2.
    pub sessions: usize,
    /// Invocations that run or wait at once in this gateway. One namespace has four times what is left at the most, so that
    /// a flood of its calls leaves a fifth to others. Default 10000.
    pub in_flight: usize,
    /// Invocations of one version that wait for a placement. Default 2000.
    pub queue: usize,
    /// How long an invocation waits for a placement at the most. Default 10s.
    #[serde(with = "duration")]
    pub queue_timeout: Duration,
}

/// Stored answers of functions, for routes that ask for it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CacheConfig {
    /// Bytes of memory that they take at the most; with 0, nothing is stored. One answer is stored up to 1 MiB. Default 67108864.
    pub max_bytes: u64,
}

/// How many records of invocations are kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RecordsConfig {
    /// Whether any are kept: without them, nobody sees what became of a call. Default true.
    pub enabled: bool,
    /// Records of each namespace in memory. Default 1000.
    pub per_namespace: usize,
    /// Size at which a namespace's file of records is closed and the next begun, in bytes. Default 2097152.
    pub file_bytes: u64,
    /// Files kept of each namespace. Default 8.
    pub files: usize,
    /// Records kept of all namespaces together, in bytes; beyond that, whoever has most loses the oldest. Default 536870912.
    pub total_bytes: u64,
    /// How long records are kept, where their namespace says nothing else. Default `7d`.
    #[serde(with = "duration")]
    pub max_age: Duration,
}

impl Default for Config {
    fn default() -> Self {
        let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Self {
            functions: local(8080),
            admin: local(8081),
            peer: local(7072),
            scheduler: "http://127.0.0.1:7070".to_owned(),
            data_dir: "dunlin-gateway".into(),
            cluster_secret: "cluster-secret".into(),
            join_token_file: None,
            storage_key: None,
            name: "gateway".parse().expect("this is a name"),
            domain: None,
            path_addressing: None,
            shared_hosts: Vec::new(),
            preview_age: Duration::from_secs(7 * 24 * 3600),
            max_staleness: Duration::from_secs(24 * 3600),
            threads: Cores::half(),
            grace: Duration::from_secs(30),
            log_format: LogFormat::Text,
            log_filter: "info".to_owned(),
            tls: TlsConfig::default(),
            proxies: ProxiesConfig::default(),
            limits: LimitsConfig::default(),
            dispatch: DispatchConfig::default(),
            cache: CacheConfig::default(),
            records: RecordsConfig::default(),
            metrics: MetricsConfig::default(),
            tracing: TracingConfig::default(),
            oidc: Vec::new(),
        }
    }
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            connections: 10_000,
            connections_per_address: 5_000,
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            header_bytes: 32 << 10,
            header_count: 100,
            uri_bytes: 16 << 10,
            body_patience: Duration::from_secs(10),
            body_bytes_per_second: 1024,
            answer_patience: Duration::from_secs(60),
        }
    }
}

impl Default for DispatchConfig {
    fn default() -> Self {
        Self { sessions: 2, in_flight: 10_000, queue: 2_000, queue_timeout: Duration::from_secs(10) }
    }
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self { max_bytes: 64 << 20 }
    }
}

impl Default for RecordsConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            per_namespace: 1_000,
            file_bytes: 2 << 20,
            files: 8,
            total_bytes: 512 << 20,
            max_age: Duration::from_secs(7 * 24 * 3600),
        }
    }
}

impl Config {
    /// Whether `/{namespace}/{function}/...` is served.
    #[must_use]
    pub fn paths(&self) -> bool {
        self.path_addressing.unwrap_or(self.domain.is_none())
    }

    /// Whether a host belongs to no namespace: it is the cluster's domain, lies below it, or is shared.
    #[must_use]
    pub fn is_shared(&self, host: &str) -> bool {
        let rest = self.domain.as_deref().and_then(|domain| host.strip_suffix(domain));
        let below = rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        below || self.shared_hosts.iter().any(|shared| shared.as_str() == host)
    }

    /// The port by which callers reach functions.
    #[must_use]
    pub fn public_port(&self) -> u16 {
        self.tls.port.unwrap_or(self.functions.port())
    }

    /// Whether administration speaks TLS.
    #[must_use]
    pub fn admin_tls(&self) -> bool {
        self.tls.is_on_for_admin(self.admin)
    }

    /// The whole configuration as a file would have it.
    ///
    /// # Errors
    /// A path that is not text.
    pub fn to_toml(&self) -> anyhow::Result<String> {
        Ok(toml::to_string_pretty(self)?)
    }

    /// Checks what types can't say.
    ///
    /// # Errors
    /// An administration address beyond loopback without TLS, an internal one that is none, a domain that is none, a limit of
    /// zero, a bad issuer.
    pub fn validate(&self) -> anyhow::Result<()> {
        self.tls.validate(self.admin)?;
        self.proxies.validate()?;
        self.metrics.validate()?;
        self.tracing.validate()?;
        ensure!(!self.peer.ip().is_unspecified(), "--peer {} must be the address by which others reach it", self.peer);
        if let Some(domain) = &self.domain {
            ensure!(is_domain(domain), "--domain {domain:?} must be a DNS name in lower case, such as fn.example.com");
        }
        let Self { limits, dispatch, .. } = self;
        for (field, value) in [
            ("limits.connections", limits.connections),
            ("limits.connections_per_address", limits.connections_per_address),
            ("limits.header_bytes", limits.header_bytes),
            ("limits.header_count", limits.header_count),
            ("limits.uri_bytes", limits.uri_bytes),
            ("threads", self.threads),
            ("dispatch.sessions", dispatch.sessions),
            ("dispatch.in_flight", dispatch.in_flight),
            ("dispatch.queue", dispatch.queue),
            ("records.per_namespace", self.records.per_namespace),
            ("records.files", self.records.files),
        ] {
            ensure!(value > 0, "{field} must be 1 at least");
        }
        ensure!(!self.max_staleness.is_zero(), "max_staleness must be more than 0s");
        ensure!(!limits.answer_patience.is_zero(), "limits.answer_patience must be more than 0s");
        oidc::validate(&self.oidc, self.admin)
    }
}

/// Lower-case labels with dots between (RFC 1035 2.3.1), short enough to leave room for the function's label.
fn is_domain(text: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    text.len() <= 189 && text.split('.').all(label)
}

/// Flags of the gateway; those that are given win over everything else.
#[derive(Debug, Clone, Default, Args, Serialize)]
pub struct GatewayArgs {
    /// Reads a TOML file
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Prints the configuration that results, and exits
    #[arg(long)]
    #[serde(skip)]
    pub dump_config: bool,
    /// Where functions are served [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS")]
    pub functions: Option<SocketAddr>,
    /// Where administration is served, loopback only without TLS [default: 127.0.0.1:8081]
    #[arg(long, value_name = "ADDRESS")]
    pub admin: Option<SocketAddr>,
    /// Where other gateways ask for records, loopback only without a certificate [default: 127.0.0.1:7072]
    #[arg(long, value_name = "ADDRESS")]
    pub peer: Option<SocketAddr>,
    /// Where the scheduler is [default: http://127.0.0.1:7070]
    #[arg(long, value_name = "URL")]
    pub scheduler: Option<String>,
    /// Folder for configuration and records [default: dunlin-gateway]
    #[arg(long, value_name = "FOLDER")]
    pub data_dir: Option<PathBuf>,
    /// File with the cluster secret, mode 0600 [default: cluster-secret]
    #[arg(long, value_name = "FILE")]
    pub cluster_secret: Option<PathBuf>,
    /// File of a join token, to get a certificate at the first start
    #[arg(long, value_name = "FILE")]
    pub join_token_file: Option<PathBuf>,
    /// Name in the cluster [default: gateway]
    #[arg(long)]
    pub name: Option<GatewayId>,
    /// Serves functions as {function}--{namespace}.DOMAIN
    #[arg(long)]
    pub domain: Option<String>,
    /// Whether /{namespace}/{function}/... is served [default: only without a domain]
    #[arg(long)]
    pub path_addressing: Option<bool>,
    /// A name by which everybody reaches it, which no namespace can have as a domain; may be repeated
    #[arg(long = "shared-host", value_name = "NAME")]
    pub shared_hosts: Option<Vec<DomainName>>,
    /// Serves functions by TLS with the certificate of this file (PEM), and administration beyond loopback
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    #[serde(skip)]
    pub tls_cert: Option<PathBuf>,
    /// File of the certificate's private key (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    #[serde(skip)]
    pub tls_key: Option<PathBuf>,
    /// Threads that serve functions [default: half the processors]
    #[arg(long, value_name = "COUNT")]
    pub threads: Option<usize>,
    /// Time for running requests once told to stop [default: 30s]
    #[arg(long, value_name = "DURATION")]
    pub grace: Option<String>,
    /// `text` or `json` [default: text]
    #[arg(long, value_parser = ["text", "json"])]
    pub log_format: Option<String>,
    /// What is logged, in the syntax of RUST_LOG [default: info]
    #[arg(long, value_name = "FILTER")]
    pub log_filter: Option<String>,
    /// Trusts administration tokens of this issuer, found by its discovery document
    #[arg(long, value_name = "URL", requires = "oidc_audience")]
    #[serde(skip)]
    pub oidc_issuer: Option<String>,
    /// The audience that tokens of the issuer must have
    #[arg(long, value_name = "TEXT", requires = "oidc_issuer")]
    #[serde(skip)]
    pub oidc_audience: Option<String>,
}

impl GatewayArgs {
    /// The configuration of flags, environment (`DUNLIN_GATEWAY_*`), file and defaults.
    ///
    /// # Errors
    /// The file can't be read, or a value is not valid.
    pub fn load(&self) -> anyhow::Result<Config> {
        let mut config: Config = dunlin_process::config::load(self.config.as_deref(), "DUNLIN_GATEWAY_", self)?;
        if let (Some(issuer), Some(audience)) = (&self.oidc_issuer, &self.oidc_audience) {
            config.oidc.push(OidcConfig {
                issuer: issuer.clone(),
                audience: audience.clone(),
                ..OidcConfig::default()
            });
        }
        if let (Some(certificate), Some(key)) = (&self.tls_cert, &self.tls_key) {
            let pair = CertificateConfig { certificate: certificate.clone(), key: key.clone(), passphrase: None };
            config.tls.certificates.insert(0, pair);
        }
        config.validate()?;
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_survive_their_own_text() {
        let config = Config::default();
        config.validate().unwrap();
        let text = serde_json::to_string(&config).unwrap();
        let again: Config = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&again).unwrap(), text);
    }

    #[test]
    fn administration_stays_on_loopback_and_peers_have_an_address() {
        for (admin, peer, words) in [
            ("0.0.0.0:1", "127.0.0.1:1", "loopback"),
            ("10.0.0.1:1", "127.0.0.1:1", "loopback"),
            ("[::1]:1", "[::]:1", "reach"),
        ] {
            let mut config = Config::default();
            (config.admin, config.peer) = (admin.parse().unwrap(), peer.parse().unwrap());
            assert!(config.validate().unwrap_err().to_string().contains(words));
        }
    }

    #[test]
    fn a_domain_turns_paths_off_unless_asked_for() {
        let mut config = Config::default();
        assert!(config.paths());
        config.domain = Some("fn.example.com".to_owned());
        assert!(config.validate().is_ok() && !config.paths());
        config.path_addressing = Some(true);
        assert!(config.paths());
        for bad in ["", "Example.com", "a..b", "-a.b", "a b", "a.b."] {
            config.domain = Some(bad.to_owned());
            assert!(config.validate().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn tls_is_read_from_a_file_and_survives_its_own_text() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = "[tls]\nhsts = '365days'\nredirect = '127.0.0.1:80'\n[[tls.certificates]]\ncertificate = 'a.pem'\nkey = 'a.key'\n";
        std::fs::write(file.path(), text).unwrap();
        let args = GatewayArgs {
            config: Some(file.path().into()),
            tls_cert: Some("b.pem".into()),
            tls_key: Some("b.key".into()),
            ..GatewayArgs::default()
        };
        let config = args.load().unwrap();
        let named: Vec<_> = config.tls.certificates.iter().map(|pair| pair.key.to_str().unwrap()).collect();
        assert_eq!((named, config.tls.hsts), (vec!["b.key", "a.key"], Some(Duration::from_secs(365 * 86_400))));
        assert_eq!(config.tls.hsts_header().unwrap(), "max-age=31536000");
        std::fs::write(file.path(), config.to_toml().unwrap()).unwrap();
        let again = GatewayArgs { config: Some(file.path().into()), ..GatewayArgs::default() }.load().unwrap();
        assert_eq!(again.to_toml().unwrap(), config.to_toml().unwrap());
        std::fs::write(file.path(), "[tls]\nhsts = 'soon'\n").unwrap();
        let error = format!("{:#}", GatewayArgs { tls_cert: None, tls_key: None, ..args }.load().unwrap_err());
        assert!(error.contains("soon"), "{error}");
    }

    #[test]
    fn flags_reach_the_configuration() {
        let args = GatewayArgs {
            grace: Some("5s".to_owned()),
            functions: Some("127.0.0.1:1".parse().unwrap()),
            oidc_issuer: Some("https://id.example.com".to_owned()),
            oidc_audience: Some("dunlin".to_owned()),
            ..GatewayArgs::default()
        };
        let config = args.load().unwrap();
        assert_eq!((config.grace, config.functions.port()), (Duration::from_secs(5), 1));
        assert_eq!(config.oidc[0].audience, "dunlin");
        let args = GatewayArgs { grace: Some("soon".to_owned()), ..GatewayArgs::default() };
        assert!(format!("{:#}", args.load().unwrap_err()).contains("soon"));
    }
}
