//! From a host name to addresses that may be connected to. All addresses of a name are looked up and each must be reachable:
//! a name with one private address is refused as a whole, and what was checked here is what gets connected to.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use dunlin_process::dns;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, ResolveHosts};
use ipnet::IpNet;
use wasmtime_wasi_http::Error;

use super::super::limits::EgressConfig;
use super::address::{is_disguised_v4, is_reachable};

/// Names of the clouds' metadata services, refused whatever they resolve to.
const METADATA_NAMES: [&str; 4] = ["metadata", "metadata.google.internal", "metadata.goog", "instance-data"];
/// Answers that are kept.
const CACHED_ANSWERS: u64 = 1024;

/// Resolves and checks.
pub(super) struct Resolver {
    /// None on a machine that has no DNS server; addresses still work there.
    dns: Option<TokioResolver>,
    allow_private: Vec<IpNet>,
    timeout: Duration,
}

impl Resolver {
    pub(super) fn new(config: &EgressConfig) -> anyhow::Result<Self> {
        let (allow_private, timeout) = (config.allow_private.clone(), config.dns_timeout);
        Ok(Self { dns: client(config)?, allow_private, timeout })
    }

    /// All addresses of `host` (lower case, without brackets), or why none may be used.
    pub(super) async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, Error> {
        if is_disguised_v4(host) || METADATA_NAMES.contains(&host) {
            return Err(Error::DestinationIpProhibited);
        }
        let addresses = match host.parse::<IpAddr>() {
            Ok(address) => vec![address],
            Err(_) => self.look_up(host).await?,
        };
        if addresses.iter().all(|address| is_reachable(*address, &self.allow_private)) {
            Ok(addresses.into_iter().map(|address| SocketAddr::new(address, port)).collect())
        } else {
            Err(Error::DestinationIpProhibited)
        }
    }

    async fn look_up(&self, host: &str) -> Result<Vec<IpAddr>, Error> {
        // The final dot keeps the system's search domains out.
        let dns = self.dns.as_ref().ok_or_else(|| dns_error(&"no DNS server on this machine"))?;
        let found = tokio::time::timeout(self.timeout, dns.lookup_ip(format!("{host}."))).await;
        let answer = found.map_err(|_| Error::DnsTimeout)?.map_err(|error| dns_error(&error))?;
        let addresses: Vec<IpAddr> = answer.iter().collect();
        if addresses.is_empty() { Err(dns_error(&"no address")) } else { Ok(addresses) }
    }
}

fn dns_error(error: &dyn std::fmt::Display) -> Error {
    tracing::debug!(%error, "name resolution for a guest failed");
    Error::DnsError { rcode: Some("no address for this name".to_owned()), info_code: None }
}

/// The client of the configured servers, else of the system's.
fn client(config: &EgressConfig) -> anyhow::Result<Option<TokioResolver>> {
    let otherwise = "guests can only reach addresses";
    dns::client(&config.dns_servers, config.dns_timeout, otherwise, |options| {
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.cache_size = CACHED_ANSWERS;
        if !config.dns_servers.is_empty() {
            options.use_hosts_file = ResolveHosts::Never;
        }
    })
}
