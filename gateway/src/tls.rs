//! TLS towards callers and administration: certificates from files and those that the cluster got for domains, for each
//! connection the one that fits the name that its client asks for, replaced while connections go on.
//!
//! How the cluster's processes know each other is not decided here (`dunlin_proto::trust`), nor what a request means.

mod accept;
mod certificates;
mod encrypted;
mod issued;
mod names;
mod pair;
mod told;
mod watch;

use std::{io, sync::Arc};

use arc_swap::ArcSwap;
use dunlin_proto::ids::Digest;
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs::{self, Ticketer},
    version::{TLS12, TLS13},
};
use tokio::{io::AsyncWriteExt, net::TcpStream};
use tokio_rustls::server::TlsStream;

use crate::config::{CertificateConfig, TlsConfig};
use certificates::Certificates;
pub(crate) use issued::Issued;
use names::Names;
use pair::Pair;
pub(crate) use pair::TlsError;
pub(crate) use told::FileCertificate;

/// How an authority asks whether a domain is served here (RFC 8737 6.2).
const ACME: &[u8] = b"acme-tls/1";
/// What a client may choose from (RFC 7301), the better one first.
const PROTOCOLS: [&[u8]; 3] = [b"h2", b"http/1.1", ACME];

/// What listeners need to speak TLS. Clones share the certificates.
#[derive(Debug, Clone)]
pub(crate) struct Tls(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    files: Vec<CertificateConfig>,
    issued: Issued,
    /// What they held at first.
    opened: Digest,
    current: ArcSwap<Current>,
}

/// What new connections get. It is replaced as a whole, so that no connection sees half of a change.
#[derive(Debug)]
struct Current {
    server: Arc<ServerConfig>,
    certificates: Arc<Certificates>,
}

/// What a connection was secured for.
#[derive(Debug)]
pub(crate) struct Session {
    /// The name that the client asked for; nothing where it named none, as with an address (RFC 6066 3).
    asked: Option<String>,
    /// The names of the certificate that it was shown.
    names: Arc<Names>,
}

impl Tls {
    /// Reads the certificates, and shows what the cluster got beside them; nothing where there are to be none.
    ///
    /// # Errors
    /// A file can't be read or used, or a key is not that of its certificate.
    pub(crate) fn open(config: &TlsConfig, issued: Issued) -> Result<Option<Self>, TlsError> {
        let files = &config.certificates;
        if !config.is_on() {
            return Ok(None);
        }
        let pairs = Pair::read_all(files)?;
        let current = ArcSwap::from_pointee(Current::new(&pairs, issued.clone())?);
        Ok(Some(Self(Arc::new(Inner { files: files.clone(), issued, opened: Pair::digest(&pairs), current }))))
    }

    /// The first name of the first certificate; nothing where it has only wildcards and addresses, or there is
    /// none.
    pub(crate) fn name(&self) -> Option<String> {
        self.0.current.load().certificates.choose(None)?.names().first().map(str::to_owned)
    }

    /// Takes a connection. The caller limits the time.
    ///
    /// # Errors
    /// The client and this side find no common way, it asks for a name that has no certificate, or it speaks something else.
    pub(crate) async fn accept(&self, stream: TcpStream) -> io::Result<(TlsStream<TcpStream>, Session)> {
        let current = self.0.current.load_full();
        let mut stream = accept::accept(&current, stream).await?;
        if stream.get_ref().1.alpn_protocol() == Some(ACME) {
            stream.shutdown().await?;
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "an authority has been answered"));
        }
        let asked = stream.get_ref().1.server_name().map(str::to_owned);
        let unnamed = || io::Error::other("the certificate has gone");
        let names = current.certificates.choose(asked.as_deref()).ok_or_else(unnamed)?.names();
        Ok((stream, Session { asked, names }))
    }
}

impl Current {
    fn new(pairs: &[Pair], issued: Issued) -> Result<Self, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let certificates = Arc::new(Certificates::new(pairs, issued, &provider)?);
        let server = ServerConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13, &TLS12])?;
        let mut server = server.with_no_client_auth().with_cert_resolver(certificates.clone());
        server.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
        // Sessions are the clients' to keep, sealed, which costs no memory here. They end with the certificates.
        server.ticketer = Ticketer::new()?;
        // What arrives before a handshake has ended could be somebody's repetition of it.
        server.max_early_data_size = 0;
        // Each side's list has nothing weak in it; what auditors look for is that the server's counts.
        server.ignore_client_order = true;
        Ok(Self { server: Arc::new(server), certificates })
    }
}

impl Session {
    /// Whether a request on this connection may be for a host, which is canonical: for the one that the client asked for,
    /// and for others only where the certificate that it was shown names them (RFC 9110 7.4). Who asked for none has taken
    /// the certificate for what it is.
    pub(crate) fn is_for(&self, host: &str) -> bool {
        self.asked.as_ref().is_none_or(|asked| asked == host || self.names.covers(host))
    }
}

#[cfg(test)]
mod tests;
