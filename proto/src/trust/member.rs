//! What makes a process one of the cluster's: its key, its certificate, and the certificate of the authority.
//!
//! The key stays for as long as the process is a member; the certificate is replaced long before it ends, for new
//! connections, while those that are open go on.

use std::{
    fs,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use arc_swap::ArcSwap;
use dunlin_process::data::write_private;
use pem::Pem;
use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig, SignatureScheme,
    client::{ResolvesClientCert, Resumption},
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier},
    sign::CertifiedKey,
    version::TLS13,
};

use super::{
    TrustError,
    guard::Refusals,
    identity::{Identity, Peer},
    verify::{Anchor, Expected, Verifier, roots},
};
use crate::vault::Vault;

/// The PEM label of an encrypted key, and for what it is encrypted.
const SEALED: &str = "DUNLIN ENCRYPTED PRIVATE KEY";
const PURPOSE: &str = "member";

/// HTTP/2, which gRPC is, so that no other protocol's server or client is taken for ours.
const ALPN: &[u8] = b"h2";

/// A process of the cluster, by its certificate. Clones share everything.
#[derive(Debug, Clone)]
pub struct Member(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    identity: Identity,
    key: KeyPair,
    authority: CertificateDer<'static>,
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
    current: Arc<Current>,
    refusals: Refusals,
}

/// The certificate that new connections get.
#[derive(Debug)]
struct Current(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl ResolvesClientCert for Current {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// TLS 1.3 alone, with the cipher that this machine does fastest before the others.
pub(super) fn provider() -> Arc<CryptoProvider> {
    use aws_lc_rs::cipher_suite::{TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256};
    let cipher_suites = vec![TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256];
    Arc::new(CryptoProvider { cipher_suites, ..aws_lc_rs::default_provider() })
}

/// A new key.
pub(super) fn new_key() -> Result<KeyPair, TrustError> {
    Ok(KeyPair::generate_for(&PKCS_ED25519)?)
}

/// A request for a certificate of this key. It says nothing else: role and name are the authority's to write.
pub(super) fn signing_request(key: &KeyPair) -> Result<Vec<u8>, TrustError> {
    Ok(CertificateParams::default().serialize_request(key)?.der().to_vec())
}

/// How connections are made: with which trust, to whom, and with which certificate of one's own.
pub(super) fn client_config(
    anchor: Anchor,
    expected: Expected,
    own: Option<Arc<dyn ResolvesClientCert>>,
    provider: Arc<CryptoProvider>,
) -> Result<ClientConfig, TrustError> {
    let verifier = Arc::new(Verifier::new(anchor, expected, &provider));
    let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13])?;
    let config = config.dangerous().with_custom_certificate_verifier(verifier);
    let mut config = match own {
        Some(own) => config.with_client_cert_resolver(own),
        None => config.with_no_client_auth(),
    };
    config.alpn_protocols = vec![ALPN.to_vec()];
    // Connections are few and long; and a resumed one would outlive the certificate that it began with.
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    Ok(config)
}

impl Member {
    /// A member by its private key (PKCS #8), certificate, and authority's certificate.
    ///
    /// # Errors
    /// They don't belong together, or name no process.
    pub fn new(
        key: &PrivatePkcs8KeyDer<'_>,
        certificate: CertificateDer<'static>,
        authority: CertificateDer<'static>,
    ) -> Result<Self, TrustError> {
        let provider = provider();
        let identity = Peer::read(&certificate)?.identity;
        let first = certified(key, certificate, &authority, &provider)?;
        Ok(Self(Arc::new(Inner {
            identity,
            key: KeyPair::from_pkcs8_der_and_sign_algo(key, &PKCS_ED25519)?,
            roots: Arc::new(roots(&authority)?),
            authority,
            provider,
            current: Arc::new(Current(ArcSwap::from_pointee(first))),
            refusals: Refusals::default(),
        })))
    }

    /// Who it is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.0.identity
    }

    /// What its certificate says at the moment.
    ///
    /// # Errors
    /// Never for one that was accepted by [`Member::new`] or [`Member::replace`].
    pub fn peer(&self) -> Result<Peer, TrustError> {
        let current = self.0.current.0.load_full();
        let missing = || TrustError::Certificate("there is none".to_owned());
        Peer::read(current.cert.first().ok_or_else(missing)?)
    }

    /// Uses another certificate of the same key and identity for new connections.
    ///
    /// # Errors
    /// It is another's.
    pub fn replace(&self, certificate: CertificateDer<'static>) -> Result<(), TrustError> {
        let identity = Peer::read(&certificate)?.identity;
        if identity != self.0.identity {
            return Err(TrustError::Certificate(format!("it is for {identity}, not {}", self.0.identity)));
        }
        let key = PrivatePkcs8KeyDer::from(self.0.key.serialized_der());
        let next = certified(&key, certificate, &self.0.authority, &self.0.provider)?;
        self.0.current.0.store(Arc::new(next));
        Ok(())
    }

    /// What it asks for when it wants a fresh certificate (PKCS #10, DER).
    ///
    /// # Errors
    /// The key can't sign.
    pub fn signing_request(&self) -> Result<Vec<u8>, TrustError> {
        signing_request(&self.0.key)
    }

    pub(super) fn refusals(&self) -> &Refusals {
        &self.0.refusals
    }

    pub(super) fn client(&self, expected: Expected) -> Result<ClientConfig, TrustError> {
        let anchor = Anchor::Authority(self.0.roots.clone());
        client_config(anchor, expected, Some(self.0.current.clone()), self.0.provider.clone())
    }

    /// How connections are taken; with `strangers`, also those of clients that have no certificate yet.
    pub(super) fn server(&self, strangers: bool) -> Result<ServerConfig, TrustError> {
        let provider = self.0.provider.clone();
        let verifier = WebPkiClientVerifier::builder_with_provider(self.0.roots.clone(), provider.clone());
        let verifier = if strangers { verifier.allow_unauthenticated() } else { verifier };
        let verifier = verifier.build().map_err(|error| TrustError::Certificate(error.to_string()))?;
        let config = ServerConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13])?;
        let mut config = config.with_client_cert_verifier(verifier).with_cert_resolver(self.0.current.clone());
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.send_tls13_tickets = 0;
        Ok(config)
    }

    /// Reads a member from its file; nothing where there is none. A key in the clear, as older software kept it, is encrypted.
    ///
    /// # Errors
    /// The file can't be read, is open to others, or is damaged.
    pub fn load(home: &Home) -> Result<Option<Self>, TrustError> {
        let path = home.file();
        let mode = match fs::metadata(&path) {
            Ok(metadata) => metadata.permissions().mode() & 0o777,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(TrustError::file(&path)(error)),
        };
        if mode & 0o077 != 0 {
            return Err(TrustError::Mode { path: path.display().to_string(), mode });
        }
        let text = fs::read(&path).map_err(TrustError::file(&path))?;
        let (member, is_clear) = Self::from_pem(&text, &home.vault)?;
        if is_clear {
            member.save(home)?;
        }
        Ok(Some(member))
    }

    /// Keeps a member in its file: folder 0700, file 0600, its key encrypted, whole or not at all.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn save(&self, home: &Home) -> Result<PathBuf, TrustError> {
        let path = home.file();
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path.parent().unwrap_or(&home.folder));
        made.map_err(TrustError::file(&path))?;
        write_private(&path, self.to_pem(&home.vault)?.as_bytes()).map_err(TrustError::file(&path))?;
        Ok(path)
    }

    fn to_pem(&self, vault: &Vault) -> Result<String, TrustError> {
        let mut parts = vec![Pem::new(SEALED, vault.seal(PURPOSE, self.0.key.serialized_der())?)];
        // The certificate, and behind it the authority's.
        parts.extend(
            self.0.current.0.load().cert.iter().map(|certificate| Pem::new("CERTIFICATE", certificate.to_vec())),
        );
        Ok(pem::encode_many(&parts))
    }

    /// Reads what was kept, and says whether its key was in the clear.
    fn from_pem(text: &[u8], vault: &Vault) -> Result<(Self, bool), TrustError> {
        let damaged =
            |what: &str| TrustError::Certificate(format!("the file holds no {what}; remove it and join again"));
        let parts = pem::parse_many(text).map_err(|_| damaged("private key"))?;
        let sealed = parts.iter().find(|part| part.tag() == SEALED);
        let key = match sealed {
            Some(sealed) => PrivatePkcs8KeyDer::from(vault.open_sealed(PURPOSE, sealed.contents())?),
            None => PrivatePkcs8KeyDer::from_pem_slice(text).map_err(|_| damaged("private key"))?,
        };
        let mut certificates = CertificateDer::pem_slice_iter(text).flatten();
        let mut next = || certificates.next().ok_or_else(|| damaged("two certificates"));
        let (certificate, authority) = (next()?, next()?);
        Ok((Self::new(&key, certificate, authority)?, sealed.is_none()))
    }
}

/// Where a process keeps what makes it a member, and how its key is encrypted there.
#[derive(Debug, Clone)]
pub struct Home {
    folder: PathBuf,
    vault: Arc<Vault>,
}

impl Home {
    /// The data folder of a process, and its vault.
    #[must_use]
    pub fn new(folder: &Path, vault: Arc<Vault>) -> Self {
        Self { folder: folder.to_owned(), vault }
    }

    /// The data folder.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The member's file.
    pub(super) fn file(&self) -> PathBuf {
        self.folder.join("trust").join("member.pem")
    }
}

fn certified(
    key: &PrivatePkcs8KeyDer<'_>,
    certificate: CertificateDer<'static>,
    authority: &CertificateDer<'static>,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, TrustError> {
    // The authority goes along, so that a process that joins can check it against its token.
    let chain = vec![certificate, authority.clone()];
    Ok(CertifiedKey::from_der(chain, PrivateKeyDer::Pkcs8(key.clone_key()), provider)?)
}
