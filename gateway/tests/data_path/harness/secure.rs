//! Certificates for a gateway, and callers that speak TLS.

use std::{
    fs, io,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use dunlin_gateway::CertificateConfig;
use http::Request;
use http_body_util::Empty;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{
    ClientConfig, RootCertStore, SupportedProtocolVersion,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
    version::{TLS12, TLS13},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::client::{Answer, connect, h1_on};

/// An authority that lies in a folder.
pub(crate) struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

/// How a caller speaks TLS. It trusts one authority.
#[derive(Clone)]
pub(crate) struct Caller(Arc<ClientConfig>);

impl Authority {
    /// The one of a folder, which is made where there is none.
    pub(crate) fn of(folder: &Path) -> Self {
        let (key, certificate) = (folder.join("authority.key"), folder.join("authority.pem"));
        if !key.exists() {
            let pair = KeyPair::generate().unwrap();
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
            fs::write(&certificate, params.self_signed(&pair).unwrap().pem()).unwrap();
            fs::write(&key, pair.serialize_pem()).unwrap();
        }
        let pair = KeyPair::from_pem(&fs::read_to_string(key).unwrap()).unwrap();
        let certificate = fs::read_to_string(certificate).unwrap();
        Self { folder: folder.to_owned(), issuer: Issuer::from_ca_cert_pem(&certificate, pair).unwrap(), certificate }
    }

    /// Writes a new certificate for these names, over what is there.
    pub(crate) fn issue(&self, file: &str, names: &[&str]) -> CertificateConfig {
        let key = KeyPair::generate().unwrap();
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &self.issuer).unwrap();
        let files = self.files(file);
        self.replace(&files.certificate, &format!("{}{}", certificate.pem(), self.certificate));
        self.replace(&files.key, &key.serialize_pem());
        files
    }

    /// Where a certificate and its key are.
    pub(crate) fn files(&self, file: &str) -> CertificateConfig {
        let path = |end| self.folder.join(format!("{file}.{end}"));
        CertificateConfig { certificate: path("pem"), key: path("key"), passphrase: None }
    }

    /// Writes a file as whole.
    fn replace(&self, path: &Path, text: &str) {
        let unfinished = path.with_extension("new");
        fs::write(&unfinished, text).unwrap();
        fs::set_permissions(&unfinished, fs::Permissions::from_mode(0o600)).unwrap();
        fs::rename(unfinished, path).unwrap();
    }

    /// Somebody who takes any version and speaks HTTP/1.1.
    pub(crate) fn caller(&self) -> Caller {
        self.caller_with(&[&TLS13, &TLS12], &[b"http/1.1"])
    }

    pub(crate) fn caller_with(&self, versions: &[&'static SupportedProtocolVersion], protocols: &[&[u8]]) -> Caller {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Caller(Arc::new(config))
    }
}

impl Caller {
    /// Connects to whoever has a certificate of this name, which is asked for.
    pub(crate) async fn connect(&self, address: SocketAddr, name: &str) -> io::Result<TlsStream<TcpStream>> {
        self.secure(connect(address).await, name).await
    }

    async fn secure(&self, stream: TcpStream, name: &str) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        TlsConnector::from(self.0.clone()).connect(name, stream).await
    }

    /// Asks over HTTP/1.1 on a connection of its own.
    pub(crate) async fn get(&self, address: SocketAddr, host: &str, path: &str) -> Answer {
        self.get_on(connect(address).await, host, path).await
    }

    /// The same on a connection that is not secured yet.
    pub(crate) async fn get_on(&self, stream: TcpStream, host: &str, path: &str) -> Answer {
        let stream = self.secure(stream, host).await.unwrap();
        let request = Request::get(path).header("host", host).body(Empty::<Bytes>::new()).unwrap();
        h1_on(stream, request).await.unwrap()
    }
}
