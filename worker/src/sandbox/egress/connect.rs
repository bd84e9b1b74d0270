//! Connections to addresses that were checked, with TLS where the scheme asks for it.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::Context as _;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use wasmtime_wasi_http::Error;

use super::super::limits::EgressConfig;
use super::resolve::Resolver;
use super::send::Target;

/// What all outbound requests of a process share.
pub(crate) struct Egress {
    resolver: Resolver,
    tls: TlsConnector,
    pub(super) config: EgressConfig,
}

impl Egress {
    pub(crate) fn new(config: &EgressConfig) -> anyhow::Result<Self> {
        let resolver = Resolver::new(config).context("set up name resolution for guests")?;
        let tls = tls_connector(config).context("set up TLS for guests")?;
        Ok(Self { resolver, tls, config: config.clone() })
    }

    /// Resolves, checks, connects and shakes hands, all within `timeout`.
    pub(super) async fn connect(&self, target: &Target, timeout: Duration) -> Result<Connection, Error> {
        let addresses = self.resolver.resolve(&target.host, target.port).await?;
        let connected = tokio::time::timeout(timeout, self.connect_checked(target, &addresses)).await;
        connected.unwrap_or(Err(Error::ConnectionTimeout))
    }

    async fn connect_checked(&self, target: &Target, addresses: &[SocketAddr]) -> Result<Connection, Error> {
        let stream = connect_any(addresses).await?;
        stream.set_nodelay(true).map_err(Error::Connect)?;
        if !target.https {
            return Ok(Connection::Plain(stream));
        }
        let name = ServerName::try_from(target.host.clone()).map_err(|_| Error::TlsCertificateError)?;
        let stream = self.tls.connect(name, stream).await.map_err(|error| tls_error(&error))?;
        Ok(Connection::Tls(Box::new(stream)))
    }
}

/// Tries addresses in their order.
async fn connect_any(addresses: &[SocketAddr]) -> Result<TcpStream, Error> {
    let mut last = Error::DestinationNotFound;
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => last = Error::ConnectionRefused,
            Err(error) => last = Error::Connect(error),
        }
    }
    Err(last)
}

/// A certificate that does not hold is worth its own word; everything else is the protocol's.
fn tls_error(error: &io::Error) -> Error {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(_)) => Error::TlsCertificateError,
        _ => Error::TlsProtocolError,
    }
}

fn tls_connector(config: &EgressConfig) -> anyhow::Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    let (added, _) = roots.add_parsable_certificates(system.certs);
    if added == 0 {
        tracing::warn!("no trusted root certificates on this machine; guests cannot use https");
    }
    for certificate in CertificateDer::pem_slice_iter(&config.extra_roots_pem) {
        roots.add(certificate.context("read extra_roots_pem")?).context("trust extra_roots_pem")?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(tls)))
}

/// A connection of either kind.
pub(super) enum Connection {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
