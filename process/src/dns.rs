//! A client of the DNS, of the servers that a configuration names or else of the system's. What it is asked, and what answers mean,
//! is the business of whoever has it.

use std::{net::SocketAddr, time::Duration};

use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts},
    net::runtime::TokioRuntimeProvider,
};

/// A client that asks each server once and waits this long; `set` sets the rest. Nothing on a machine without DNS servers, which is said
/// in the log together with what is not possible then.
///
/// # Errors
/// There can be no client.
pub fn client(
    servers: &[SocketAddr],
    timeout: Duration,
    otherwise: &str,
    set: impl FnOnce(&mut ResolverOpts),
) -> anyhow::Result<Option<TokioResolver>> {
    let mut builder = if servers.is_empty() {
        match TokioResolver::builder_tokio() {
            Ok(builder) => builder,
            Err(error) => {
                tracing::warn!(%error, "no DNS configuration on this machine; {otherwise}");
                return Ok(None);
            }
        }
    } else {
        let servers = ResolverConfig::from_parts(None, vec![], servers.iter().map(name_server).collect());
        TokioResolver::builder_with_config(servers, TokioRuntimeProvider::default())
    };
    let options = builder.options_mut();
    (options.timeout, options.attempts) = (timeout, 1);
    set(options);
    Ok(Some(builder.build()?))
}

/// One that is asked by UDP, and by TCP where an answer does not fit.
fn name_server(address: &SocketAddr) -> NameServerConfig {
    let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
    for connection in &mut connections {
        connection.port = address.port();
    }
    NameServerConfig::new(address.ip(), true, connections)
}
