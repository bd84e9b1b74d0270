//! Connections to a cluster's administration by TLS. Whom to trust is the system's word: its own authorities, or those of
//! the file that `SSL_CERT_FILE` names.

use std::sync::Arc;

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs, pki_types::ServerName};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Channel, Endpoint, Error};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The port of `https://` where an address names none.
const HTTPS: u16 = 443;

/// Connects.
///
/// # Errors
/// Nobody answers, or somebody whose certificate is not trusted or has another name.
pub(super) async fn connect(endpoint: &Endpoint) -> Result<Channel, Error> {
    endpoint.connect_with_connector(tower::service_fn(open)).await
}

async fn open(uri: Uri) -> Result<TokioIo<TlsStream<TcpStream>>, BoxError> {
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
    let config = Arc::new(config()?);
    let stream = TcpStream::connect((host.as_str(), uri.port_u16().unwrap_or(HTTPS))).await?;
    stream.set_nodelay(true)?;
    Ok(TokioIo::new(TlsConnector::from(config).connect(ServerName::try_from(host)?, stream).await?))
}

fn config() -> Result<ClientConfig, BoxError> {
    let mut roots = RootCertStore::empty();
    let (trusted, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if trusted == 0 {
        return Err("this system trusts no authority of certificates; name a file of some with SSL_CERT_FILE".into());
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}
