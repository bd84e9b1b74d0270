//! Connections to processes of the cluster, with the proof that the trust asks for.

use std::sync::Arc;

use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::{
    codegen::http::Uri,
    service::interceptor::InterceptedService,
    transport::{Channel, Endpoint, Error},
};

use super::{Expected, Trust, TrustError};
use crate::metadata::AttachSecret;

/// A connection to a process of the cluster.
pub type Link = InterceptedService<Channel, AttachSecret>;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl Trust {
    /// The scheduler at a URL. With a certificate the connection is always mutual TLS, whether it says `http` or `https`.
    ///
    /// # Errors
    /// It is no URL, or what it asks for needs a certificate: `https`, or an address beyond loopback.
    pub fn scheduler(&self, url: &str) -> Result<Endpoint, TrustError> {
        let wrong = |cause| TrustError::Address { url: url.to_owned(), cause };
        let endpoint = Endpoint::from_shared(url.to_owned());
        let endpoint = endpoint.map_err(|_| wrong("is no address; one is http://127.0.0.1:7070"))?;
        let uri = endpoint.uri();
        if uri.host().is_none() || !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(wrong("is no address; one is http://127.0.0.1:7070"));
        }
        if let Self::Secret(_) = self {
            if uri.scheme_str() == Some("https") {
                return Err(wrong("needs a certificate; join the cluster with a join token first"));
            }
            if !is_loopback(uri) {
                return Err(wrong("is beyond loopback, where the cluster secret must not go; join with a join token"));
            }
        }
        Ok(endpoint)
    }

    /// A connection, made when it is first used and again whenever it is lost.
    ///
    /// # Errors
    /// The certificate can't be used.
    pub fn link(&self, endpoint: &Endpoint, expected: Expected) -> Result<Link, TrustError> {
        let channel = match self {
            Self::Secret(_) => endpoint.connect_lazy(),
            Self::Certificate(member) => lazy(endpoint, Arc::new(member.client(expected)?)),
        };
        Ok(InterceptedService::new(channel, self.attach()))
    }

    /// A connection, made now.
    ///
    /// # Errors
    /// Nobody answers, or not who is expected.
    pub async fn connect(&self, endpoint: &Endpoint, expected: Expected) -> Result<Link, BoxError> {
        let channel = match self {
            Self::Secret(_) => endpoint.connect().await?,
            Self::Certificate(member) => eager(endpoint, Arc::new(member.client(expected)?)).await?,
        };
        Ok(InterceptedService::new(channel, self.attach()))
    }

    fn attach(&self) -> AttachSecret {
        match self {
            Self::Secret(secret) => secret.attach(),
            Self::Certificate(_) => AttachSecret::none(),
        }
    }
}

/// Whether an address certainly does not leave the machine.
fn is_loopback(uri: &Uri) -> bool {
    let host = host(uri);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn host(uri: &Uri) -> &str {
    uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']')
}

fn lazy(endpoint: &Endpoint, config: Arc<ClientConfig>) -> Channel {
    endpoint.connect_with_connector_lazy(tower::service_fn(move |uri| open(uri, config.clone())))
}

pub(super) async fn eager(endpoint: &Endpoint, config: Arc<ClientConfig>) -> Result<Channel, Error> {
    endpoint.connect_with_connector(tower::service_fn(move |uri| open(uri, config.clone()))).await
}

async fn open(uri: Uri, config: Arc<ClientConfig>) -> Result<TokioIo<TlsStream<TcpStream>>, BoxError> {
    let stream = TcpStream::connect((host(&uri), uri.port_u16().unwrap_or(443))).await?;
    stream.set_nodelay(true)?;
    // Not looked at: certificates name processes, not hosts.
    let name = ServerName::try_from("dunlin")?;
    Ok(TokioIo::new(TlsConnector::from(config).connect(name, stream).await?))
}
